# SPDX-License-Identifier: MIT
"""Raw test disks with real file systems full of real files, made without mounting and without root.

Each file system holds, beside files copied from this machine, at its root: big.bin (300,001 random
bytes, copied last), small.txt (fits into a directory or MFT entry), and a few deleted files. ext4
also has holes.bin (sparse), a symbolic link, and a journal with transactions in it.
"""
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .builder import pattern
from .project import run_line

SECTOR = 512
MIB = 1 << 20
BIG_BYTES = 300_001
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,60}")  # legal in FAT and NTFS alike
MBR_TYPES = {"ext4": "83", "fat": "c", "ntfs": "7"}
GPT_TYPES = {
    "ext4": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    "fat": "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
    "ntfs": "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
}


@dataclass(frozen=True)
class Partition:
    filesystem: str  # ext4, ntfs or fat
    start: int  # sectors
    sectors: int
    files: int  # how many to copy from this machine
    source: str  # from where
    block: int = 4096  # ext4's block size, bytes


@dataclass(frozen=True)
class Disk:
    name: str
    path: Path
    partitions: tuple

    def partition(self, filesystem):
        return next(p for p in self.partitions if p.filesystem == filesystem)


def run(*command, **options):
    """Run a program that must succeed; its output is shown only if it does not."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, timeout=300, **options
    )
    assert done.returncode == 0, f"{command}: {done.stdout.decode()}{done.stderr.decode()}"
    return done.stdout


# ---- Files -----------------------------------------------------------------------


def pick_files(source, count, max_bytes=128 * 1024):
    """The first `count` plain files of a sorted walk, with lower-case-unique names."""
    picked, seen = [], set()
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if PLAIN_NAME.fullmatch(name))
        for name in sorted(names):
            path = Path(folder, name)
            relative = path.relative_to(source)
            if not PLAIN_NAME.fullmatch(name) or path.is_symlink() or str(relative).lower() in seen:
                continue
            if path.stat().st_size <= max_bytes:
                seen.add(str(relative).lower())
                picked.append(relative)
            if len(picked) == count:
                return picked
    return picked


def stage_files(partition, folder):
    """Fill `folder` with what the partition shall hold; return the relative paths to delete
    again."""
    picked = pick_files(partition.source, partition.files)
    flat = partition.filesystem == "ntfs"  # nothing at hand makes directories in NTFS
    placed = []
    for index, relative in enumerate(picked):
        target = Path(f"{index:04}-{relative.name}") if flat else relative
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(Path(partition.source, relative), folder / target)
        placed.append(target)
    (folder / "small.txt").write_bytes(b"a short file\n")
    if not flat:
        (folder / "Größe und Maß").mkdir()
        (folder / "Größe und Maß" / "naïve name.txt").write_text("a name beyond ASCII\n")
    if partition.filesystem == "ext4":
        (folder / "link").symlink_to("small.txt")
        with open(folder / "holes.bin", "wb") as holes:
            holes.seek(MIB)
            holes.write(pattern("holes", 50_000))
            holes.truncate(3 * MIB + 7)
    return placed[5::40]


# ---- File systems ----------------------------------------------------------------


def make_ext4(disk, partition, folder, deleted):
    (folder / "big.bin").write_bytes(pattern("ext4", BIG_BYTES))
    offset = partition.start * SECTOR
    seeds = (
        "-U 11111111-2222-3333-4444-555555555555 -E"
        f" offset={offset},hash_seed=66666666-7777-8888-9999-000000000000,root_owner=0:0"
    )
    run_line(
        f"mke2fs -q -F -t ext4 -b {partition.block} -i 16384 -J size=4 {seeds} -d",
        folder,
        disk,
        f"{partition.sectors // 2}k",
    )
    debugfs(disk, partition, [f'rm "/{path}"' for path in deleted])
    block = folder.parent / "journal-block"
    block.write_bytes(pattern("journal", 4096))
    debugfs(
        disk,
        partition,
        [
            "journal_open",
            f"journal_write -b 2000 {block}",
            f"journal_write -r 2000 -b 2001 {block}",
            "journal_close",
        ],
    )


def debugfs(disk, partition, commands):
    """Run debugfs commands; it exits with 0 even when they fail, so its complaints are looked
    at."""
    run_as = ["debugfs", "-w", "-f", "-", f"{disk}?offset={partition.start * SECTOR}"]
    done = subprocess.run(
        run_as, input="\n".join(commands) + "\n", text=True, capture_output=True, timeout=300
    )
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("debugfs 1.")]
    assert done.returncode == 0 and not complaints, complaints


def make_ntfs(disk, partition, folder, deleted):
    image = folder.parent / "ntfs.raw"
    with open(image, "wb") as file:
        file.truncate(partition.sectors * SECTOR)
    run(
        "mkntfs",
        "-F",
        "-Q",
        "-q",
        "-T",
        "-c",
        "4096",
        "-L",
        "NTFS",
        "-s",
        SECTOR,
        "-p",
        partition.start,
        "-H",
        255,
        "-S",
        63,
        image,
    )
    (folder / "big.bin").write_bytes(pattern("ntfs", BIG_BYTES))
    for path in sorted(folder.iterdir(), key=lambda path: (path.name == "big.bin", path.name)):
        run("ntfscp", "-q", image, path, path.name)
    # An alternate data stream.
    run("ntfscp", "-q", "-N", "stream", image, folder / "big.bin", "small.txt")
    run(
        "dd",
        f"if={image}",
        f"of={disk}",
        "bs=1M",
        "conv=notrunc,sparse",
        "oflag=seek_bytes",
        f"seek={partition.start * SECTOR}",
    )
    image.unlink()


def make_fat(disk, partition, folder, deleted):
    run(
        "mkfs.fat",
        "-F",
        32 if partition.sectors > 65_525 else 16,
        "-s",
        1,
        "-n",
        "FAT32",
        "-i",
        "c0ffee00",
        f"--offset={partition.start}",
        disk,
        partition.sectors // 2,
    )
    volume = ["-i", f"{disk}@@{partition.start * SECTOR}"]
    utf8 = {**os.environ, "LC_ALL": "C.UTF-8", "MTOOLS_SKIP_CHECK": "1"}
    run("mcopy", *volume, "-s", "-m", "-Q", *sorted(folder.iterdir()), "::/", env=utf8)
    run("mdel", *volume, *[f"::/{path}" for path in deleted], env=utf8)
    (folder / "big.bin").write_bytes(pattern("fat", BIG_BYTES))
    run("mcopy", *volume, folder / "big.bin", "::/big.bin", env=utf8)


MAKERS = {"ext4": make_ext4, "ntfs": make_ntfs, "fat": make_fat}


# ---- Disks -----------------------------------------------------------------------


def make_disk(directory, name, size, table, partitions):
    """Write the partition table, then each file system, into the new file NAME.raw."""
    path = Path(directory, f"{name}.raw")
    with open(path, "wb") as file:
        file.truncate(size)
    run("sfdisk", "-q", path, input=table.encode())
    for partition in partitions:
        work = Path(directory, "work")
        (work / "files").mkdir(parents=True)
        deleted = stage_files(partition, work / "files")
        MAKERS[partition.filesystem](path, partition, work / "files", deleted)
        shutil.rmtree(work)
    return Disk(name, path, tuple(partitions))


def make_gpt(directory):
    """A GPT disk of 150 MiB: ext4, NTFS, FAT32."""
    partitions = [
        Partition("ext4", 2048, 72 * MIB // SECTOR, 1500, "/usr/share/doc"),
        Partition("ntfs", 73 * 2048, 24 * MIB // SECTOR, 200, "/usr/share/man"),
        Partition("fat", 97 * 2048, 40 * MIB // SECTOR, 500, "/usr/include"),
    ]
    table = "label: gpt\nlabel-id: 01234567-89AB-CDEF-0123-456789ABCDEF\n" + "".join(
        f"start={p.start}, size={p.sectors}, type={GPT_TYPES[p.filesystem]},"
        f' name="{p.filesystem} data", uuid=01234567-89AB-CDEF-0123-{p.start:012}\n'
        for p in partitions
    )
    return make_disk(directory, "gpt", 150 * MIB, table, partitions)


def make_mbr(directory):
    """An MBR disk of 96 MiB: FAT32, and in an extended partition ext4 and NTFS."""
    partitions = [
        Partition("fat", 63, 36 * MIB // SECTOR, 300, "/usr/lib/python3"),
        Partition("ext4", 38 * 2048, 36 * MIB // SECTOR, 500, "/usr/include", 1024),
        Partition("ntfs", 75 * 2048, 12 * MIB // SECTOR, 80, "/usr/share/doc"),
    ]
    extended = 37 * 2048
    lines = [
        f"start={p.start}, size={p.sectors}, type={MBR_TYPES[p.filesystem]}" for p in partitions
    ]
    lines.insert(1, f"start={extended}, size={96 * 2048 - extended}, type=5")
    lines[2:2] = ["start=0, size=0", "start=0, size=0"]  # logical partitions are numbered from 5
    table = "label: dos\nlabel-id: 0xc0ffee00\n" + "\n".join(lines) + "\n"
    return make_disk(directory, "mbr", 96 * MIB, table, partitions)


def make_small(directory):
    """An MBR disk of 20 MiB for what is slow: FAT16, ext4, NTFS."""
    partitions = [
        Partition("fat", 2048, 5 * MIB // SECTOR, 40, "/usr/lib/python3"),
        Partition("ext4", 6 * 2048, 10 * MIB // SECTOR, 60, "/usr/include", 1024),
        Partition("ntfs", 16 * 2048, 4 * MIB // SECTOR, 20, "/usr/share/doc"),
    ]
    table = "label: dos\n" + "".join(
        f"start={p.start}, size={p.sectors}, type={MBR_TYPES[p.filesystem]}\n" for p in partitions
    )
    return make_disk(directory, "small", 20 * MIB, table, partitions)


MAKE = {"gpt": make_gpt, "mbr": make_mbr}


def change_disk(disk, path):
    """Copy the disk to `path` and change the copy as a later day would: files deleted, rewritten,
    added."""
    run("cp", "--sparse=always", disk.path, path)
    ext4, fat = disk.partition("ext4"), disk.partition("fat")
    work = Path(path).parent / "change"
    work.mkdir()
    (work / "added.txt").write_bytes(pattern("added", 100_000))
    debugfs(path, ext4, ["rm /big.bin", "rm /small.txt", f"write {work}/added.txt added.txt"])
    volume = ["-i", f"{path}@@{fat.start * SECTOR}"]
    run("mdel", *volume, "::/big.bin")
    run("mcopy", *volume, work / "added.txt", "::/added.txt")
    shutil.rmtree(work)
    return Path(path)


def make_with_snapshot(directory):
    """An ext4 file system of 8 MiB without a partition table in disk.qcow2: early.txt was there
    when the snapshot "first" was taken, late.txt was not. Returns the paths of the image, and of
    raw disks as now and as then."""
    now, then, image = (directory / name for name in ("now.raw", "then.raw", "disk.qcow2"))
    files = directory / "files"
    files.mkdir()
    (files / "early.txt").write_text("early\n")
    (directory / "late.txt").write_text("late\n")
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", files, now, "8M")
    shutil.copyfile(now, then)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", now, image)
    run("qemu-img", "snapshot", "-c", "first", image)
    run("debugfs", "-w", "-R", f"write {directory}/late.txt late.txt", now)
    run("qemu-io", "-f", "qcow2", "-c", f"write -s {now} 0 8M", image)
    return image, now, then
