# SPDX-License-Identifier: MIT
"""The images that are measured, made once from this machine's own files and kept.

disk.raw is a GPT disk with an ext4 file system of files from /usr; ntfs.raw has an NTFS one. All
other images but `empty` hold exactly the bytes of one of these; those with snapshots, in their
first snapshot.
"""
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from lib.encrypted import clock_environment
from lib.project import run_line

MIB = 1 << 20
START_SECTOR = 2048  # of the partition
FILE_BYTES_MAX = 16 * MIB
NTFS_FILES = 48000
SNAPSHOTS = 8
BLOCK = 65536
PASSPHRASE = "correct horse"
CONVERSIONS = {
    "plain": ("", False),
    "zlib": ("", True),
    "zstd": ("compression_type=zstd", True),
    "extended-l2": ("extended_l2=on", False),
    "plain-4k": ("cluster_size=4k", False),
    "zlib-4k": ("cluster_size=4k", True),
    "zlib-2m": ("cluster_size=2M", True),
    "zstd-2m": ("cluster_size=2M,compression_type=zstd", True),
}
RAW_DISKS = ("disk", "ntfs")
FILL_NTFS = """
ntfs-3g -o no_detach "$1" "$2" & server=$!
for i in $(seq 100); do mountpoint -q "$2" && break; sleep 0.1; done
mountpoint -q "$2" && cp -r "$3/." "$2"
status=$?
umount "$2" && wait $server && exit $status
"""


def run(line, *words, **more):
    """What a command prints that may take as long as it likes."""
    return run_line(line, *words, timeout=None, **more).stdout


class Images:
    """The images below a directory. `path(name)` makes the image if it is not there yet."""

    def __init__(self, directory, disk_mib):
        self.directory = Path(directory, f"disk-{disk_mib}")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.disk_bytes = disk_mib * MIB

    def path_of(self, name):
        """Where it is, or will be."""
        return self.directory / f"{name}.{'raw' if name in RAW_DISKS else 'qcow2'}"

    def path(self, name):
        path = self.path_of(name)
        if not path.exists():
            print(f"making {path.name} ...", flush=True)
            self.make(name, path)
        return path

    def make(self, name, path):
        unfinished = path.with_name("unfinished-" + path.name)
        unfinished.unlink(missing_ok=True)
        if name == "disk":
            self.make_disk(unfinished)
        elif name == "ntfs":
            self.make_ntfs(unfinished)
        elif name == "empty":
            run("qemu-img create -q -f qcow2 -o cluster_size=64k", unfinished, "64T")
        elif name == "snapshot":
            self.make_snapshot(unfinished)
        elif name.startswith("snapshots"):
            self.make_snapshots(unfinished, ["-c"] if name == "snapshots-zlib" else [])
        elif name == "files":
            self.make_files(unfinished)
        elif name == "luks":
            self.make_luks(unfinished)
        elif name.startswith("chain-"):
            self.make_chain(unfinished, int(name.removeprefix("chain-")))
        else:
            options, is_compressed = CONVERSIONS[name.removeprefix("ntfs-")]
            self.convert(
                unfinished,
                *(["-o", options] if options else []),
                *(["-c"] if is_compressed else []),
                disk="ntfs" if name.startswith("ntfs-") else "disk",
            )
        unfinished.rename(path)

    def convert(self, path, *options, disk="disk"):
        run(
            "qemu-img convert -q -W -m 4 -f raw -O qcow2",
            *options,
            self.path(disk),
            path,
            env=clock_environment(),
        )

    # ---- The disk ------------------------------------------------------------

    def make_disk(self, path):
        tree = self.directory / "files"
        shutil.rmtree(tree, ignore_errors=True)
        pick_files(Path("/usr"), tree, self.disk_bytes * 3 // 7)
        self.make_table(path)
        kib = self.partition_bytes() // 1024
        offset = f"offset={START_SECTOR * 512}"
        run("mke2fs -q -F -t ext4 -d", tree, "-E", offset, path, f"{kib}k")
        shutil.rmtree(tree)

    def make_table(self, path):
        with open(path, "wb") as disk:
            disk.truncate(self.disk_bytes)
        table = f"label: gpt\nstart={START_SECTOR}, type=L\n"
        subprocess.run(["sfdisk", "-q", path], input=table, text=True, check=True)

    def partition_bytes(self):
        return self.disk_bytes - 2 * START_SECTOR * 512

    def make_ntfs(self, path):
        """Filled through FUSE, in a namespace of its own."""
        tree, mounted = self.directory / "files", self.directory / "mounted"
        partition = path.with_name("partition")
        shutil.rmtree(tree, ignore_errors=True)
        pick_files(Path("/usr"), tree, self.disk_bytes * 3 // 7, NTFS_FILES)
        with open(partition, "wb") as file:
            file.truncate(self.partition_bytes())
        run("mkntfs -q -Q -F", partition)
        mounted.mkdir(exist_ok=True)
        options = "-m" if os.geteuid() == 0 else "-rm"
        run("unshare", options, "sh", "-c", FILL_NTFS, "sh", partition, mounted, tree)
        mounted.rmdir()
        shutil.rmtree(tree)
        self.make_table(path)
        words = [f"of={path}", "bs=1M", f"seek={START_SECTOR * 512 // MIB}", "status=none"]
        run("dd", f"if={partition}", *words, "conv=notrunc,sparse")
        partition.unlink()

    # ---- Variants ------------------------------------------------------------

    def make_snapshot(self, path):
        """A snapshot of the disk, a sixteenth of which was overwritten since."""
        self.convert(path)
        run("qemu-img snapshot -c before", path)
        overwrite(path, (b for b in range(self.disk_bytes // BLOCK) if hash_of(b) % 16 == 0), 85)

    def changed_blocks(self, number):
        """The blocks, a hundredth of all, that were overwritten after snapshot `number`."""
        blocks = range(self.disk_bytes // BLOCK)
        return [block for block in blocks if hash_of((number, block)) % 100 == 0]

    def make_snapshots(self, path, options):
        self.convert(path, *options)
        for number in range(1, SNAPSHOTS + 1):
            run(f"qemu-img snapshot -c s{number}", path)
            overwrite(path, self.changed_blocks(number), number)

    def make_files(self, path):
        """A snapshot of the disk, of whose files a hundredth was deleted, made or changed since."""
        self.convert(path)
        run("qemu-img snapshot -c before", path)
        changed = path.with_name("changed.raw")
        run("cp --sparse=always", self.path("disk"), changed)
        listed = run(f"fls -r -p -F -o {START_SECTOR}", changed).splitlines()
        names = [line.split("\t", 1)[1] for line in listed if line.startswith("r/r")]
        commands = []
        for number, name in enumerate(sorted(names)[::100]):
            folder, last = f'cd "/{Path(name).parent}"', Path(name).name
            commands += [
                [f'rm "{name}"'],
                [f'sif "{name}" mtime @1700000000'],
                [f'rm "{name}"', folder, f'write /etc/passwd "{last}"', "cd /"],
                [folder, f"write /etc/passwd new-{number}", "cd /"],
            ][number % 4]
        subprocess.run(
            ["debugfs", "-w", "-f", "-", f"{changed}?offset={START_SECTOR * 512}"],
            input="\n".join(commands) + "\n",
            text=True,
            check=True,
            capture_output=True,
        )
        self.write_changes(path, changed)
        changed.unlink()

    def write_changes(self, path, changed):
        """Write the blocks in which a raw disk is not disk.raw into an image."""
        piece = path.with_name("piece")
        with open(self.path("disk"), "rb") as old, open(changed, "rb") as new:
            for at in range(0, self.disk_bytes, BLOCK):
                content = new.read(BLOCK)
                if content != old.read(BLOCK):
                    piece.write_bytes(content)
                    write = f"write -q -s {piece} {at} {len(content)}"
                    run("qemu-io -f qcow2 -c", write, path)
        piece.unlink(missing_ok=True)

    def make_luks(self, path):
        self.convert(
            path,
            "--object",
            f"secret,id=key,data={PASSPHRASE}",
            "-o",
            "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10",
        )

    def make_chain(self, path, depth):
        """Overlays over `plain`, each of which holds 1 / (2 * depth) of the clusters."""
        below = self.path("plain")
        for layer in range(1, depth):
            overlay = path if layer == depth - 1 else path.with_name(f"layer-{depth}-{layer}.qcow2")
            overlay.unlink(missing_ok=True)
            share = self.directory / "share.raw"
            self.copy_share(share, layer, 2 * depth)
            run("qemu-img convert -q -S 64k -f raw -O qcow2", share, overlay)
            run("qemu-img rebase -u -f qcow2 -F qcow2 -b", below.name, overlay)
            share.unlink()
            below = overlay

    def copy_share(self, path, number, shares):
        """Of the disk's blocks those that fall to `number`, at random but always the same; the rest
        stays a hole."""
        with open(self.path("disk"), "rb") as disk, open(path, "wb") as share:
            share.truncate(self.disk_bytes)
            for block in range(self.disk_bytes // BLOCK):
                if hash_of(block) % shares == number:
                    share.seek(block * BLOCK)
                    share.write(os.pread(disk.fileno(), BLOCK, block * BLOCK))


def overwrite(path, blocks, byte):
    commands = "".join(f"write -q -P {byte} {block * BLOCK} {BLOCK}\n" for block in blocks)
    subprocess.run(
        ["qemu-io", "-f", "qcow2", path],
        input=commands,
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )


# ---- Files -----------------------------------------------------------------------


def hash_of(value):
    return int.from_bytes(hashlib.sha256(str(value).encode()).digest()[:8], "big")


def pick_files(source, tree, bytes_max, files_max=10**9):
    """Link (or copy, to another file system) directories from everywhere below `source`, each with
    all its files, into `tree`, until they take this many bytes or are this many files."""
    total = count = 0
    for directory in sorted((directory for directory, _, _ in os.walk(source)), key=hash_of):
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
            size = (entry.stat(follow_symlinks=False).st_size + 4095) // 4096 * 4096
            if not entry.is_file(follow_symlinks=False) or size > FILE_BYTES_MAX:
                continue
            total += size
            count += 1
            if total > bytes_max or count > files_max:
                return
            link(Path(entry.path), tree / os.path.relpath(entry.path, source))


def link(path, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copy2(path, target)
