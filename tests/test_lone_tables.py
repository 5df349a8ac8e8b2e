# SPDX-License-Identifier: MIT
"""Images whose header and L1 table are both lost: L2 tables are placed by what they contain, or by
their order in the file. What has no place is an error, and nothing else than the disk is shown."""
import random
import struct
import subprocess
from collections import Counter

import pytest
from lib import core
from lib.builder import Image, pattern
from lib.landmarks import ext, gpt, mbr, mft_record, ntfs, xfs
from lib.project import BUILD, run
from test_abandoned import compare, written_since_a_snapshot
from test_rebuild import rebuild

MIB = 1 << 20
PIECE = 4096


def wipe(path, bits, header=True):
    """Overwrite the L1 table with zeros, and the first cluster with a log."""
    with core.Image(path) as image:
        offset, size = image.header.l1_offset, image.header.l1_size
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(bytes(size * 8))
        if header:
            file.seek(0)
            file.write(b"log\n" * (1 << bits - 2))
    return path


def look(name, truth):
    """(counts of pieces as in test_abandoned; warnings)."""
    pieces = []
    with core.Named(name) as disk:
        for at in range(0, disk.size, PIECE):
            try:
                pieces.append(disk.read(at, min(PIECE, disk.size - at)))
            except core.QcowError as error:
                assert error.code == "CORRUPT", error
                pieces.append(None)
        return compare(pieces, truth), " ".join(disk.warnings)


@pytest.fixture(scope="module", name="ext4")
def ext4_disk(tmp_path_factory):
    """A file system of 64 MiB with block groups of 8 MiB."""
    folder = tmp_path_factory.mktemp("ext4")
    rng = random.Random(1)
    for number in range(60):
        (folder / f"f{number}").write_bytes(rng.randbytes(rng.randrange(1000, 200000)))
    raw = folder.parent / "ext4.raw"
    run("truncate", "-s", str(64 * MIB), raw)
    run("mkfs.ext4", "-q", "-b", "1024", "-d", folder, raw)
    return raw


def converted(raw, path, bits, *options):
    size = f"cluster_size={1 << bits}"
    run("qemu-img", "convert", *options, "-O", "qcow2", "-o", size, raw, path)
    return wipe(path, bits)


@pytest.mark.parametrize("options", ([], ["-c"]))
def test_each_table_has_a_landmark(ext4, options, tmp_path):
    """With tables of 32 MiB all of the disk comes out, with its zeros, and --rebuild names it."""
    path = converted(ext4, tmp_path / "disk.qcow2", 14, *options)
    found = [one for one in rebuild(path)["layouts"] if one["cluster_bits"] == 14]
    assert found[0]["l1_offset"] is None and "@abandoned,l1=none," in found[0]["image"]
    name = f"{path}@abandoned,l1=none,cluster-bits=14,size={64 * MIB}"
    counts, warnings = look(name, ext4.read_bytes())
    assert counts["wrong"] == counts["lost"] == 0 and counts["right"] > 1000
    assert "2 by what they contain" in warnings and "0 tables have no place" in warnings


def test_tables_without_a_landmark_are_errors(ext4, tmp_path):
    """With tables of 2 MiB, only some have a copy of the superblock or a bitmap."""
    path = converted(ext4, tmp_path / "disk.qcow2", 12)
    for more in ("", ",only=kept"):
        name = f"{path}@abandoned{more},l1=none,cluster-bits=12,size={64 * MIB}"
        counts, warnings = look(name, ext4.read_bytes())
        assert counts["wrong"] == 0 and counts["right"] > 500 and counts["lost"] > 500
        assert "5 by what they contain" in warnings and "nothing can be read" in warnings


def written(path, data, starts, size):
    """A disk, of which pieces of this size were written one after the other."""
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", path, str(len(data)))
    steps = []
    for at in starts:
        piece = path.parent / f"{at}.piece"
        piece.write_bytes(data[at : at + size])
        steps += ["-c", f"write -q -s {piece} {at} {size}"]
    run("qemu-io", *steps, path)
    return wipe(path, 12)


@pytest.mark.parametrize("order", ("none", "by-order"))
def test_written_in_random_order(ext4, order, tmp_path):
    truth, path = ext4.read_bytes(), tmp_path / "disk.qcow2"
    starts = [at for at in range(0, len(truth), MIB) if any(truth[at : at + MIB])]
    random.Random(3).shuffle(starts)
    written(path, truth, starts, MIB)
    name = f"{path}@abandoned,l1={order},cluster-bits=12,size={64 * MIB}"
    counts, warnings = look(name, truth)
    assert counts["wrong"] == 0 and counts["right"] > 500 and counts["lost"] > 500
    assert "0 by their order" in warnings


def filled_disk(start):
    """8 MiB without zeros."""
    data = bytearray(pattern(5, 8 * MIB))
    data[: len(start)] = start
    return data


def test_by_order(tmp_path):
    """All tables are there, in order: only by order do those have a place that have no landmark."""
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    raw.write_bytes(filled_disk(mbr((2048, 4096))))
    converted(raw, path, 12)
    truth, name = raw.read_bytes(), f"{path}@abandoned,l1=%s,cluster-bits=12,size={8 * MIB}"
    assert look(name % "none", truth)[0] == Counter(right=512, lost=3 * 512)
    counts, warnings = look(name % "by-order", truth)
    assert counts == Counter(right=4 * 512) and "3 by their order" in warnings
    larger = name.replace(str(8 * MIB), str(10 * MIB)) % "by-order"
    with core.Named(larger) as disk:
        assert any("0 by their order" in sentence for sentence in disk.warnings)


def test_by_order_wants_ascending_data(tmp_path):
    """The second table was written backwards: then the file's order says nothing."""
    data, path = filled_disk(mbr((2048, 4096))), tmp_path / "disk.qcow2"
    written(path, data, [number * MIB for number in (0, 1, 3, 2, 4, 5, 6, 7)], MIB)
    name = f"{path}@abandoned,l1=by-order,cluster-bits=12,size={8 * MIB}"
    counts, warnings = look(name, bytes(data))
    assert counts == Counter(right=512, lost=3 * 512) and "0 by their order" in warnings


def test_by_order_wants_ascending_tables(tmp_path):
    """The last table was written second, the others have landmarks. Between the first and the third
    one there is as much room for it on the disk as in the file, but the second one belongs there.
    """
    data, path = filled_disk(mbr((2048, 14336))), tmp_path / "disk.qcow2"
    for group in range(3):
        at = MIB + 2 * MIB * group
        data[at : at + 1024] = xfs(group, blocks=1280)
    written(path, data, [number * 2 * MIB for number in (0, 3, 2, 1)], 2 * MIB)
    name = f"{path}@abandoned,l1=by-order,cluster-bits=12,size={8 * MIB}"
    counts, warnings = look(name, bytes(data))
    assert counts == Counter(right=3 * 512, lost=512) and "0 by their order" in warnings


def test_the_copy_of_a_gpt(tmp_path):
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    data = filled_disk(bytes(512) + gpt(1, 16383, 16384))
    data[-512:] = gpt(16383, 1, 16384)
    raw.write_bytes(data)
    converted(raw, path, 12)
    found = rebuild(path)["layouts"][0]
    assert (found["size"], found["size_source"]) == (8 * MIB, "partitions")
    counts, warnings = look(found["image"], data)
    assert counts == Counter(right=2 * 512, lost=2 * 512) and "2 by what they contain" in warnings


@pytest.mark.parametrize("kind", ("xfs", "ntfs"))
def test_other_file_systems(kind, tmp_path):
    """A partition from 1 MiB to the end, in tables of 2 MiB. Other data look like a landmark, but
    are elsewhere."""
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    data = filled_disk(mbr((2048, 14336)))
    marks = {MIB + 2 * MIB * group: xfs(group) for group in range(4)}
    if kind == "ntfs":
        marks = {MIB: ntfs(2048, 14336), 8 * MIB - 512: ntfs(2048, 14336)}
        marks |= {MIB + 600 * 4096: mft_record(), MIB + 1200 * 4096: mft_record()}
    for at, mark in marks.items():
        data[at : at + len(mark)] = mark
    data[5 * MIB + 12288 : 5 * MIB + 12800] = ntfs(2048, 14336)
    raw.write_bytes(data)
    converted(raw, path, 12)
    counts, _ = look(f"{path}@abandoned,l1=none,cluster-bits=12,size={8 * MIB}", data)
    assert counts == Counter(right=4 * 512)


REACH = 64 * 512  # of an L2 table with clusters of 512 bytes


def lone(path, size, *tables):
    """An image whose L1 table leads nowhere. `tables`: {offset in what it maps: bytes} of each L2
    table, in the order of the file."""
    image = Image(size=size, cluster_bits=9)
    for number, marks in enumerate(tables):
        part = bytearray(REACH)
        for at, mark in {REACH - 600: pattern(number, 88), **marks}.items():
            part[at : at + len(mark)] = mark
        clusters = [part[at : at + 512] for at in range(0, REACH, 512)]
        hosts = [image.junk(cluster) if any(cluster) else 0 for cluster in clusters]
        image.junk(struct.pack(">64Q", *hosts))
    return image.write(path)


FIRST = {0: mbr((8, 1016))}  # a partition from 4 KiB on
XFS = {4096: xfs(0, 119, 32)}  # groups of 128 KiB
OTHER = {4096: xfs(0, 119, 32).replace(b"u" * 16, b"v" * 16)}
FAR = {0: mbr((72, 952))}  # a partition from 4 KiB of the second table on
EXT = ext(0, 400, 128, checksums=False)


@pytest.mark.parametrize(
    "size, placed, lost, tables",
    [
        (512, 2, 0, [FIRST | XFS, {4096: xfs(1, 127, 32)}]),
        (512, 1, 1, [{4096: xfs(0, 127, 33)} | FIRST, {8192: xfs(1), 12288: xfs(2)}]),
        (512, 1, 1, [{12288: xfs(1)}, FIRST | {4096: xfs(0, 127, 2)}]),
        (256, 1, 1, [FIRST | XFS, {4096: xfs(3)}]),
        (512, 1, 3, [FAR, XFS, OTHER, {4096: xfs(1).replace(b"u" * 16, b"v" * 16)}]),
        (512, 1, 1, [FIRST, {1024: EXT}]),
        (512, 1, 1, [{1024: EXT}, FIRST]),
        (32768, 0, 1, [{1024: EXT}]),
        (512, 1, 1, [{0: mbr((63, 961)), 512: EXT}, {512: ext(1, 400, 128, checksums=False)}]),
    ],
    ids=(
        "two tables",
        "two groups in one",
        "a place that is taken",
        "after the disk's end",
        "two file systems at one place",
        "a partition table, and a file system without one",
        "the same, the other way round",
        "a file system that is far smaller than the disk",
        "a file system that begins in two tables",
    ),
)
def test_what_is_believed(size, placed, lost, tables, tmp_path):
    path = lone(tmp_path / "disk.qcow2", size << 10, *tables)
    try:
        with core.Named(f"{path}@abandoned,l1=none") as disk:
            warnings = " ".join(disk.warnings)
            assert disk.read(0, 512) in (FIRST[0], FAR[0], tables[0].get(0))
    except core.QcowError as error:
        warnings = f"{error.message} 0 by what they contain {lost} tables have no place"
        assert error.code == "NOT_FOUND" and f"{lost} L2 tables" in error.message
    assert f" {placed} by what they contain" in warnings, warnings
    assert f" {lost} tables have no place" in warnings, warnings


def test_two_tables_for_one_place(tmp_path):
    """Which of the two is the disk's cannot be said: neither is shown."""
    image = Image(size=4 * MIB, cluster_bits=12)
    for cluster in range(1024):
        image.disk.normal(cluster, pattern(cluster, 4096))
    image.disk.normal(0, mbr((2048, 4096)).ljust(4096, b"1"))
    image.disk.normal(512, mbr((2048, 4096)).ljust(4096, b"2"))
    path = wipe(image.write(tmp_path / "disk.qcow2"), 12)
    with pytest.raises(core.QcowError) as caught:
        core.Named(f"{path}@abandoned,l1=none,cluster-bits=12,size={4 * MIB}")
    assert "L2 tables are left that nothing leads to" in caught.value.message


def test_a_table_that_was_overwritten_is_no_zeros(tmp_path):
    """Its clusters are left over, so what has no table is not taken to be unallocated."""
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    data = filled_disk(mbr((2048, 4096)))
    data[4 * MIB :] = bytes(4 * MIB)
    raw.write_bytes(data)
    run("qemu-img", "convert", "-O", "qcow2", "-o", "cluster_size=4k", raw, path)
    with core.Image(path) as image, open(path, "rb") as file:
        file.seek(image.header.l1_offset + 8)
        second = int.from_bytes(file.read(8), "big") & (1 << 56) - 1
    wipe(path, 12)
    with open(path, "r+b") as file:
        file.seek(second)
        file.write(bytes(4096))
    counts, warnings = look(f"{path}@abandoned,l1=none,cluster-bits=12,size={8 * MIB}", data)
    assert counts == Counter(right=512, lost=3 * 512)
    assert "0 tables have no place" in warnings and "nothing can be read" in warnings


def test_with_a_snapshot(tmp_path):
    """Header and active L1 table are lost. The snapshot's tables vote. The table that was
    written anew as a whole has no place, and where it may belong is lost."""
    machine, truth = written_since_a_snapshot(tmp_path / "disk.qcow2")
    with core.Image(machine.path) as image:
        then = image.snapshots[0].l1_offset
    wipe(machine.path, 12)
    name = f"{machine.path}@abandoned,l1={then},cluster-bits=12,size={8 * MIB}"
    counts, _ = look(name, truth)
    assert counts == Counter(right=2 * 512, lost=2 * 512)
    none = name.replace(f"l1={then}", "l1=none")
    try:
        assert look(none, truth)[0]["wrong"] == 0
    except core.QcowError as error:
        assert error.code == "NOT_FOUND"


def test_only_the_l1_table_is_lost(ext4, tmp_path):
    """The rest is taken from the header."""
    path = tmp_path / "disk.qcow2"
    run("qemu-img", "convert", "-O", "qcow2", "-o", "cluster_size=16k", ext4, path)
    wipe(path, 14, header=False)
    for name in (f"{path}@abandoned,l1=none", f"{path}@abandoned"):
        counts, _ = look(name, ext4.read_bytes())
        assert counts["wrong"] == counts["lost"] == 0


def test_the_disk_itself_cannot_be_opened(tmp_path):
    path = Image(size=MIB, cluster_bits=12).write(tmp_path / "disk.qcow2")
    with pytest.raises(core.QcowError) as caught:
        core.Named(f"{path},l1=none")
    assert "no L1 table" in caught.value.message and "@abandoned" in caught.value.message
    with pytest.raises(core.QcowError) as caught:
        core.Named(f"{path}@abandoned,l1=4096,l1=none")
    assert "and that there is none" in caught.value.message


@pytest.mark.parametrize("bits", (1, 2, 4, 8, 16, 32, 64))
def test_refcounts_of_any_width(bits, tmp_path):
    """Those of the disk's tables say that they are in use, whatever their width."""
    path = tmp_path / "disk.qcow2"
    options = f"cluster_size=4k,refcount_bits={bits}"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "16M")
    run("qemu-io", "-c", "write -P 65 0 9M", path)
    with open(path, "r+b") as file:
        file.write(b"log\n" * 1024)
    found = rebuild(path)["layouts"][0]
    assert found["tables_in_use"] == found["tables_counted"] == 6


def test_hostile_landmarks(tmp_path):
    """A file system with millions of groups, and thousands of tables: bounded."""
    image = Image(size=64 << 9, cluster_bits=9)
    for cluster in range(64):
        image.disk.normal(cluster, pattern(cluster, 512))
    superblock = bytearray(1024)
    struct.pack_into("<II", superblock, 0, 1, 0xFFFFFFFF)
    struct.pack_into("<III", superblock, 20, 1, 0, 1)
    struct.pack_into("<H", superblock, 56, 0xEF53)
    image.disk.normal(2, bytes(superblock[:512]))
    image.disk.normal(3, bytes(superblock[512:]))
    data = bytes(image.build())
    table = struct.pack(">64Q", *(word for word, _ in image.disk.entries.values()))
    data = data.replace(b"QFI\xfb", b"none", 1) + table * 20000
    path = tmp_path / "image"
    path.write_bytes(data)
    size = 1 << 40
    for name in (f"{path}@abandoned,l1=by-order,cluster-bits=9,size={size}",):
        done = subprocess.run(
            [f"{BUILD}/tsk_qcow2/tsk-qcow2", "verify", "--no-hash", name],
            capture_output=True,
            check=False,
            timeout=100,
        )
        assert done.returncode in (0, 1, 4, 6), done
