# SPDX-License-Identifier: MIT
"""Disks with file systems in which images lie as files: made without being root, by mke2fs,
mkntfs and mkfs.fat."""
import re
import struct
from pathlib import Path
from types import SimpleNamespace

from . import tools
from .disks import debugfs, run

SECTOR, MIB = 512, 1 << 20


def partition_table(path, mib, starts):
    """A new disk with partitions at these sectors: {start: type}. Each ends where the next one
    starts."""
    ends = [*sorted(starts)[1:], mib * 2048]
    with open(path, "wb") as file:
        file.truncate(mib * MIB)
    lines = [
        f"start={start}, size={end - start}, type={starts[start]}\n"
        for start, end in zip(sorted(starts), ends)
    ]
    run("sfdisk", "-q", path, input=("label: dos\n" + "".join(lines)).encode())


def space(path, start, mib):
    """Let the file have at least these MiB from a sector on."""
    Path(path).touch()
    with open(path, "r+b") as file:
        file.truncate(max(Path(path).stat().st_size, start * SECTOR + mib * MIB))


def ext4(path, folder, start=0, mib=16, features="", block=4096):
    """An ext4 file system with what is in a folder."""
    space(path, start, mib)
    options = ["-O", features] if features else []
    source = ["-d", folder] if folder else []
    run(
        *f"mke2fs -q -F -t ext4 -b {block} -E nodiscard,offset={start * SECTOR}".split(),
        *options,
        *source,
        path,
        f"{mib * 1024 * 1024 // block}",
    )


def ext4_fragmented(path, files, start=0, mib=16, blocks=8):
    """An ext4 file system in which files {name: path} lie in fragments of at most this many
    blocks."""
    ext4(path, None, start, mib, features="^has_journal,^resize_inode,^uninit_bg,^metadata_csum")
    last = mib * 256 - 1
    marks = "".join(f"setb {block}\n" for block in range(600, last, blocks + 1))
    # It warns of blocks that the file system itself has.
    run("debugfs", "-w", "-f", "-", f"{path}?offset={start * SECTOR}", input=marks.encode())
    change_ext4(path, start, [f"write {source} {name}" for name, source in files.items()])


def change_ext4(path, start, commands):
    """Commands of debugfs."""
    debugfs(path, SimpleNamespace(start=start), commands)


def ntfs(path, files, start=0, mib=16, options=()):
    """An NTFS file system with files {name: path} in its root directory."""
    alone = Path(f"{path}.ntfs")
    space(alone, 0, mib)
    run(
        *("mkntfs", "-F", "-Q", "-q", "-T", "-c", 4096, "-s", SECTOR, "-p", start, "-H", 255),
        *("-S", 63),
        *options,
        alone,
    )
    for name, source in files.items():
        run("ntfscp", "-q", alone, source, name)
    insert(path, alone, start)


def fat(path, folder, start=0, mib=40):
    """A FAT32 file system with what is in a folder."""
    alone = Path(f"{path}.fat")
    space(alone, 0, mib)
    run("mkfs.fat", "-F", 32, "-s", 1, "-h", start, alone)
    run("mcopy", "-i", alone, "-s", "-Q", *sorted(Path(folder).iterdir()), "::/")
    insert(path, alone, start)


def insert(path, alone, start):
    """Move a file system to its place in a disk."""
    space(path, start, 0)
    run(
        *("dd", f"if={alone}", f"of={path}", "bs=1M", "conv=notrunc,sparse"),
        *("oflag=seek_bytes", f"seek={start * SECTOR}"),
    )
    alone.unlink()


def numbers(path, start):
    """{name: number as fls prints it} of all files, also deleted ones."""
    listed = tools.run("fls", "-r", "-p", "-o", start, path, dropin=False).stdout.decode()
    lines = re.findall(r"^\S+ (?:\* )?([\d-]+)(?:\(realloc\))?:\t(.*)$", listed, re.M)
    return {name: number for number, name in lines}


# ---- NTFS, record by record ---------------------------------------------------------


class Record:
    """A record of the master file table, to be changed in its place on the disk."""

    def __init__(self, path, start, number):
        self.path = path
        with open(path, "rb") as file:
            file.seek(start * SECTOR)
            boot = file.read(SECTOR)
            (cluster,) = struct.unpack_from("<Q", boot, 48)
            self.at = start * SECTOR + cluster * 4096 + number * 1024
            file.seek(self.at)
            self.data = bytearray(file.read(1024))
        assert self.data[:4] == b"FILE"

    def attribute(self, wanted):
        """The offset of the first attribute of this type in the record."""
        (at,) = struct.unpack_from("<H", self.data, 20)
        while True:
            kind, length = struct.unpack_from("<II", self.data, at)
            assert kind != 0xFFFFFFFF, f"there is no attribute {wanted}"
            if kind == wanted:
                return at
            at += length

    def change(self, offset, form, value):
        assert (offset % 512) < 510 - struct.calcsize(form), "a fixup is there"
        struct.pack_into(form, self.data, offset, value)
        with open(self.path, "r+b") as file:
            file.seek(self.at)
            file.write(self.data)

    def delete(self):
        """As Windows does: it is no longer in use."""
        self.change(22, "<H", struct.unpack_from("<H", self.data, 22)[0] & ~1)
