# SPDX-License-Identifier: MIT
"""Random histories of file operations on ext4, NTFS and FAT, made by debugfs, ntfscp or ntfs-3g,
and mtools; and the disk's states as snapshots of a qcow2 image.

    history = FileHistory(seed, folder)
    history.run()                      # history.image, and history.raws: {state's name: raw disk}
"""
import os
import random
import shutil
import subprocess
from pathlib import Path

from .project import run, run_line

MIB, SECTOR = 1 << 20, 512
START = 2048  # the partition's first sector, where there is one
KINDS = ("ext4", "ext4", "ext2", "ntfs", "fat12", "fat16", "fat32")
SIZES = {"fat12": 2, "fat16": 12, "fat32": 40}  # MiB; 8 for others
CLUSTERS = (512, 4096, 16384, 65536, 65536)


class FileHistory:
    def __init__(self, seed, folder, kind=None):
        self.seed, self.folder = seed, Path(folder)
        self.rng = random.Random(f"files {seed}")
        self.kind = kind or self.rng.choice(KINDS)
        self.has_table = self.rng.random() < 0.5
        self.offset = START * SECTOR if self.has_table else 0
        self.size = SIZES.get(self.kind, 8) * MIB
        self.raw, self.image = self.folder / "disk.raw", self.folder / "disk.qcow2"
        self.raws = {}  # {what follows the image's name: path of the raw disk}
        self.clock = 1_700_000_000 + self.rng.randrange(10**7)
        self.files, self.folders, self.number = [], [], 0
        self.links = set()  # symbolic links
        self.full = set()  # files of ext4 that have a first block: debugfs zaps block 0 otherwise
        self.log = []

    def run(self):
        """Two or three states: snapshots, and the active disk."""
        self.make_disk()
        states = self.rng.randint(1, 2)
        for index in range(states + 1):
            self.apply_some()
            name = f"@s{index}" if index < states else ""
            self.store(index == 0)
            if name:
                run_line("qemu-img snapshot -c", name[1:], self.image)
            self.raws[name] = self.folder / f"state{index}.raw"
            run("cp", "--sparse=always", self.raw, self.raws[name])

    # ---- The disk --------------------------------------------------------------------

    def make_disk(self):
        with open(self.raw, "wb") as file:
            file.truncate(self.offset + self.size)
        if self.has_table:
            kind = {"ntfs": "7", "ext4": "83", "ext2": "83"}.get(self.kind, "c")
            run("sfdisk", "-q", self.raw, input=f"label: dos\nstart={START}, type={kind}\n")
        self.volume = {"ntfs": Ntfs, "ext4": Ext, "ext2": Ext}.get(self.kind, Fat)(self)
        self.volume.make()

    def apply_some(self):
        for _ in range(self.rng.randint(0, 12)):
            self.clock += self.rng.choice((0, 0, 1, 3, 100, 5000))
            self.volume.apply(self.rng.choice(self.volume.OPERATIONS))
        self.volume.finish()

    def store(self, is_first):
        """Bring the raw disk into the image: all of it, or only the blocks that changed."""
        if is_first:
            options = f"cluster_size={self.rng.choice(CLUSTERS)}"
            if self.rng.random() < 0.3:
                options += ",compat=0.10"
            size = self.offset + self.size
            run_line("qemu-img create -q -f qcow2 -o", options, self.image, size)
        if is_first or self.rng.random() < 0.2:
            compressed = ["-c"] if is_first and self.rng.random() < 0.3 else []
            run_line("qemu-img convert -n -f raw -O qcow2", *compressed, self.raw, self.image)
            return
        self.store_changes(self.raws[list(self.raws)[-1]])

    def store_changes(self, before):
        block, commands = 4096, []
        with open(before, "rb") as old, open(self.raw, "rb") as new:
            for at in range(0, self.offset + self.size, block):
                piece = new.read(block)
                if old.read(block) != piece:
                    path = self.folder / f"piece{at}"
                    path.write_bytes(piece)
                    commands += ["-c", f"write -q -s {path} {at} {len(piece)}"]
        for start in range(0, len(commands), 400):
            run_line("qemu-io -f qcow2", *commands[start : start + 400], self.image)
        for path in self.folder.glob("piece*"):
            path.unlink()

    # ---- What operations need ---------------------------------------------------------

    def new_name(self):
        self.number += 1
        return self.rng.choice(
            ("File {}.txt", "x{}", "a longer name, number {}.bin", "Größe{}")
        ).format(self.number)

    def content(self):
        size = self.rng.choice((0, 1, 100, 600, 1000, 5000, 40_000, 130_000))
        if self.rng.random() < 0.3:
            return bytes(size)
        return self.rng.randbytes(size)

    def host_file(self):
        path = self.folder / "content"
        path.write_bytes(self.content())
        return path

    def some(self, of):
        return self.rng.choice(of) if of else None

    def place(self):
        """A directory, as a path that ends with "/"."""
        return self.rng.choice(["/", *(folder + "/" for folder in self.folders)])

    def forget(self, folder):
        """All below a directory is gone."""
        self.files = [path for path in self.files if not path.startswith(folder + "/")]
        self.folders = [
            path for path in self.folders if path != folder and not path.startswith(folder + "/")
        ]

    def rename(self, old, new):
        def renamed(path):
            return new + path[len(old) :] if path == old or path.startswith(old + "/") else path

        self.files = [renamed(path) for path in self.files]
        self.full = {renamed(path) for path in self.full}
        self.links = {renamed(path) for path in self.links}
        self.folders = [renamed(path) for path in self.folders]

    def new_place_for(self, path):
        """A new path for a file or directory, which is not below itself."""
        parent = self.place()
        if parent.startswith(path + "/"):
            parent = "/"
        name = path.rsplit("/", 1)[1] if self.rng.random() < 0.3 else self.new_name()
        new = parent + name
        return new if new not in (*self.files, *self.folders) else parent + self.new_name()


class Ext:
    """debugfs, whose commands are collected and run at once."""

    OPERATIONS = (
        "write",
        "write",
        "write",
        "remove",
        "rewrite",
        "replace",
        "mkdir",
        "rename",
        "rename",
        "link",
        "symlink",
        "touch",
        "mode",
        "owner",
        "zap",
        "rmtree",
    )

    def __init__(self, history):
        self.history, self.commands = history, []

    def make(self):
        history = self.history
        options = ["-I", history.rng.choice(("128", "256"))]
        if history.kind == "ext4":
            options += ["-O", "^has_journal"] if history.rng.random() < 0.5 else []
        block = history.rng.choice(("1024", "4096"))
        run(
            "mke2fs",
            "-q",
            "-F",
            "-t",
            history.kind,
            "-b",
            block,
            *options,
            "-E",
            f"offset={history.offset}",
            history.raw,
            f"{history.size // 1024}k",
        )

    def say(self, *commands):
        self.commands += commands

    def write(self, path):
        copy = self.history.folder / f"content{len(self.commands)}"
        copy.write_bytes(content := self.history.content())
        if content.strip(b"\0"):
            self.history.full.add(path)
        folder, name = path.rsplit("/", 1)
        self.say(f'cd "{folder or "/"}"', f'write {copy} "{name}"', "cd /")

    def apply(self, operation):
        history = self.history
        self.say(f"set_current_time @{history.clock}")
        if operation == "write":
            history.files.append(history.place() + history.new_name())
            self.write(history.files[-1])
        elif operation == "mkdir":
            history.folders.append(history.place() + history.new_name())
            self.say(f'mkdir "{history.folders[-1]}"')
        elif operation == "symlink":
            history.files.append(history.place() + history.new_name())
            self.say(f'symlink "{history.files[-1]}" target{history.number}')
            history.links.add(history.files[-1])
        elif operation == "rmtree" and history.folders and history.rng.random() < 0.3:
            self.remove_tree(history.some(history.folders))
        elif history.files:
            self.change(operation, history.some(history.files))

    def change(self, operation, path):
        history = self.history
        if operation in ("remove", "replace"):
            self.say(f'rm "{path}"')
            history.files.remove(path)
            history.full.discard(path)
            history.links.discard(path)
        if operation == "replace":
            self.write(path)
            history.files.append(path)
        elif operation in ("rewrite", "zap") and path not in history.full:
            pass
        elif operation in ("mode", "link") and path in history.links:
            pass
        elif operation == "rewrite":
            self.say(f'zap_block -f "{path}" -p {history.rng.randrange(1, 256)} 0')
        elif operation == "zap":
            self.say(f'zap_block -f "{path}" 0')
        elif operation == "rename":
            new = history.new_place_for(path)
            self.say(f'link "{path}" "{new}"', f'unlink "{path}"')
            history.rename(path, new)
        elif operation == "link":
            new = history.new_place_for(path)
            self.say(f'link "{path}" "{new}"', f'sif "{new}" links_count 2')
            history.files.append(new)
            if path in history.full:
                history.full.add(new)
        elif operation == "touch":
            field = history.rng.choice(("mtime", "atime", "ctime"))
            self.say(f'sif "{path}" {field} @{history.clock}')
        elif operation == "mode":
            self.say(f'sif "{path}" mode 0100{history.rng.choice((600, 644, 755, 4711))}')
        elif operation == "owner":
            self.say(f'sif "{path}" uid {history.rng.randrange(2000)}')

    def remove_tree(self, folder):
        history = self.history
        below = [path for path in history.files if path.startswith(folder + "/")]
        inner = [
            path for path in history.folders if path == folder or path.startswith(folder + "/")
        ]
        self.say(*(f'rm "{path}"' for path in below))
        self.say(*(f'rmdir "{path}"' for path in sorted(inner, key=len, reverse=True)))
        history.forget(folder)

    def finish(self):
        script = "\n".join(self.commands) + "\n"
        address = f"{self.history.raw}?offset={self.history.offset}"
        subprocess.run(
            ["debugfs", "-w", "-f", "-", address],
            input=script,
            text=True,
            capture_output=True,
            timeout=120,
            check=True,
        )
        self.history.log += self.commands
        self.commands = []
        for path in self.history.folder.glob("content*"):
            path.unlink()


class Fat:
    """mtools."""

    OPERATIONS = (
        "write",
        "write",
        "write",
        "remove",
        "replace",
        "mkdir",
        "rename",
        "move",
        "attribute",
        "rmtree",
        "rename folder",
    )

    def __init__(self, history):
        self.history = history

    def make(self):
        history = self.history
        extra = ["-n", "LABEL"] if history.rng.random() < 0.5 else []
        run(
            "mkfs.fat",
            "-F",
            history.kind[3:],
            "-s",
            "2" if history.kind == "fat12" else "1",
            *extra,
            "-i",
            "12345678",
            *(["--offset", str(START)] if history.has_table else []),
            history.raw,
            history.size // 1024,
        )

    def tool(self, name, *words):
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1"}
        image = f"{self.history.raw}@@{self.history.offset}"
        self.history.log.append((name, *words))
        run(name, "-i", image, *words, env=environment, check=False)

    def apply(self, operation):
        history = self.history
        if operation == "write":
            history.files.append(history.place() + history.new_name())
            self.tool("mcopy", "-o", history.host_file(), "::" + history.files[-1])
        elif operation == "mkdir":
            history.folders.append(history.place() + history.new_name())
            self.tool("mmd", "::" + history.folders[-1])
        elif operation in ("rmtree", "rename folder"):
            folder = history.some(history.folders)
            if folder and operation == "rmtree" and history.rng.random() < 0.4:
                self.tool("mdeltree", "::" + folder)
                history.forget(folder)
            elif folder and operation == "rename folder":
                self.rename("mren", folder, folder.rsplit("/", 1)[0] + "/" + history.new_name())
        elif history.files:
            self.change(operation, history.some(history.files))

    def rename(self, tool, old, new):
        self.tool(tool, "::" + old, "::" + new)
        self.history.rename(old, new)

    def change(self, operation, path):
        history = self.history
        if operation == "remove":
            self.tool("mdel", "::" + path)
            history.files.remove(path)
        elif operation == "replace":
            self.tool("mcopy", "-o", history.host_file(), "::" + path)
        elif operation == "rename":
            self.rename("mren", path, path.rsplit("/", 1)[0] + "/" + history.new_name())
        elif operation == "move":
            self.rename("mmove", path, history.new_place_for(path))
        elif operation == "attribute":
            self.tool("mattrib", history.rng.choice(("+r", "-r", "+h", "+s")), "::" + path)

    def finish(self):
        pass


class Ntfs:
    """A file system mounted by ntfs-3g where that is allowed, else ntfscp alone."""

    OPERATIONS = (
        "write",
        "write",
        "write",
        "remove",
        "replace",
        "append",
        "overwrite",
        "mkdir",
        "rename",
        "rename",
        "link",
        "stream",
        "stream",
        "touch",
        "truncate",
        "rmtree",
    )

    def __init__(self, history):
        self.history = history
        self.inner = history.folder / "ntfs.raw"
        self.mounted = history.folder / "mounted"
        self.can_mount = can_mount_ntfs() and history.rng.random() < 0.8

    def make(self):
        with open(self.inner, "wb") as file:
            file.truncate(self.history.size)
        size = self.history.rng.choice(("512", "4096"))
        run("mkntfs", "-F", "-Q", "-q", "-T", "-c", size, self.inner)

    def apply(self, operation):
        if not self.can_mount:
            self.copy(operation)
            return
        if not self.mounted.exists():
            self.mounted.mkdir()
            run("ntfs-3g", "-o", "streams_interface=windows", self.inner, self.mounted)
        self.history.log.append(operation)
        try:
            self.change(operation)
        except OSError as error:  # a name that is there already, no room: nothing happens
            self.history.log.append(error)

    def copy(self, operation):
        history = self.history
        stream = ["-N", history.rng.choice(("s1", "s2"))] if operation == "stream" else []
        if operation in ("replace", "stream") and history.files:
            path = history.some(history.files)
        else:
            path = "/" + history.new_name()
            history.files.append(path)
            stream = []
        history.log.append(("ntfscp", *stream, path))
        run("ntfscp", "-q", *stream, self.inner, history.host_file(), path, check=False)

    def change(self, operation):
        history = self.history
        if operation == "write":
            path = history.place() + history.new_name()
            self.real(path).write_bytes(history.content())
            history.files.append(path)
        elif operation == "mkdir":
            path = history.place() + history.new_name()
            self.real(path).mkdir()
            history.folders.append(path)
        elif operation == "rmtree" and history.folders and history.rng.random() < 0.4:
            folder = history.some(history.folders)
            shutil.rmtree(self.real(folder))
            history.forget(folder)
        elif operation == "rename" and history.folders and history.rng.random() < 0.3:
            self.rename(history.some(history.folders))
        elif history.files:
            self.change_file(operation, history.some(history.files))

    def real(self, path):
        return self.mounted / path[1:]

    def rename(self, path):
        new = self.history.new_place_for(path)
        os.rename(self.real(path), self.real(new))
        self.history.rename(path, new)

    def change_file(self, operation, path):
        history, real = self.history, self.real(path)
        if operation == "remove":
            real.unlink()
            history.files.remove(path)
        elif operation == "replace":
            real.unlink()
            real.write_bytes(history.content())
        elif operation == "rename":
            self.rename(path)
        elif operation == "link":
            new = history.new_place_for(path)
            os.link(real, self.real(new))
            history.files.append(new)
        elif operation == "stream":
            name = history.rng.choice(("s1", "s2"))
            with open(f"{real}:{name}", "wb") as file:
                file.write(history.content())
        elif operation == "touch":
            os.utime(real, (history.clock, history.clock + 7))
        else:
            self.edit(operation, real)

    def edit(self, operation, real):
        size = real.stat().st_size
        with open(real, "r+b") as file:
            if operation == "append":
                file.seek(0, os.SEEK_END)
                file.write(self.history.content())
            elif operation == "truncate":
                file.truncate(self.history.rng.randrange(2 * size + 100))
            elif operation == "overwrite" and size:
                file.seek(self.history.rng.randrange(size))
                file.write(b"!")

    def finish(self):
        if self.mounted.exists():
            run("umount", self.mounted)
            self.mounted.rmdir()
        run(
            "dd",
            f"if={self.inner}",
            f"of={self.history.raw}",
            "bs=1M",
            "conv=notrunc",
            "oflag=seek_bytes",
            f"seek={self.history.offset}",
        )


def can_mount_ntfs():
    return os.geteuid() == 0 and shutil.which("ntfs-3g") and os.access("/dev/fuse", os.W_OK)
