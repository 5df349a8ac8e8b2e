# SPDX-License-Identifier: MIT
"""Internal snapshots, and what is wrong with their table."""
import struct

import pytest

from lib.builder import Image, pattern, poke, squeezable
from lib.core import QcowError
from lib.core import Image as Opened
from lib.expect import assert_bytes, check_image, check_view, expect_error, qemu_content
from lib.images import SOME_CLUSTER_BITS, extended_over_raw, mixed_image, over_raw
from lib.project import run_line

pytestmark = pytest.mark.usefixtures("core")


@pytest.mark.parametrize("version", (2, 3))
@pytest.mark.parametrize("cluster_bits", SOME_CLUSTER_BITS)
def test_snapshots(cluster_bits, version, tmp_path, rng):
    image = Image(size=6 << cluster_bits, cluster_bits=cluster_bits, version=version)
    disk = image.disk
    for cluster in range(3):
        disk.normal(cluster, pattern(cluster, image.cluster_size))
    disk.compressed(3, squeezable(3, image.cluster_size))
    image.snapshot(
        b"1", b"first", seconds=1_700_000_000, nanoseconds=123_456_789, clock=987_654_321_000
    )
    disk.normal(1, pattern(11, image.cluster_size))
    disk.clear(2)
    image.snapshot(b"2", b"second", vm_state_size_32=0)
    disk.compressed(0, squeezable(20, image.cluster_size))
    assert check_image(image, tmp_path, rng) == []
    with Opened(tmp_path / "image.qcow2") as opened:
        first, second = opened.snapshots
        assert (first.id, first.name, second.id, second.name) == (b"1", b"first", b"2", b"second")
        assert (first.date_seconds, first.date_nanoseconds, first.vm_clock_nanoseconds) == (
            1_700_000_000,
            123_456_789,
            987_654_321_000,
        )
        assert (first.vm_state_size, first.disk_size, first.has_disk_size, first.icount) == (
            0,
            disk.size,
            1,
            -1,
        )
        assert (first.l1_offset, first.l1_size) == (
            image.snapshots[0][0].l1_offset,
            image.snapshots[0][0].l1_count,
        )


def test_snapshot_equals_qemu_img_snapshot_apply(tmp_path):
    """QEMU confirms the builder's model of snapshots."""
    image = mixed_image(12)
    disk = image.snapshot(b"7", b"seven")
    image.disk.normal(0, pattern(30, 4096))
    image.disk.resize(8 * 4096)
    path = image.write(tmp_path / "image.qcow2")
    run_line("qemu-img snapshot -a seven", path)
    assert_bytes(qemu_content(path), disk.model.read(0, disk.size), "the model against QEMU")


@pytest.mark.parametrize("new_clusters", (1, 16, 2000))
def test_snapshot_keeps_its_own_size(new_clusters, tmp_path, rng):
    """`qemu-img convert -l` gives the active disk's size here."""
    image = Image(size=8 * 512, cluster_bits=9)
    for cluster in range(8):
        image.disk.normal(cluster, pattern(cluster, 512))
    image.snapshot()
    image.disk.resize(new_clusters * 512)
    image.disk.normal(0, pattern(50, 512))
    check_image(image, tmp_path, rng)


def test_snapshot_extra_data_of_every_length(rng):
    """Short extra data gives fewer fields, longer is kept; ID and name follow it."""
    extra = struct.pack(">QQq", 1 << 40, 5 * 512, 77) + pattern(1, 1000)
    lengths = (0, 1, 7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 32, 500, 1024)
    image = Image(size=5 * 512, cluster_bits=9)
    image.disk.normal(4, pattern(2, 512))
    for length in lengths:
        image.snapshot(
            b"id%d" % length, b"name%d" % length, extra=extra[:length], vm_state_size_32=99
        )
    image.disk.resize(9 * 512)
    with Opened.from_storage(image.build()) as opened:
        for length, snapshot in zip(lengths, opened.snapshots, strict=True):
            assert (snapshot.id, snapshot.name) == (b"id%d" % length, b"name%d" % length)
            assert snapshot.vm_state_size == (1 << 40 if length >= 8 else 99)
            assert snapshot.has_disk_size == (length >= 16)
            assert snapshot.disk_size == (5 * 512 if length >= 16 else 9 * 512)
            assert snapshot.icount == (77 if length >= 24 else -1)
            assert snapshot.unknown_extra == (extra[24:length] if length > 24 else None)
        for index, length in enumerate(lengths):
            if length >= 16:
                check_view(opened.view(index), image.snapshots[index][0].model, rng)


def test_snapshot_without_a_size_has_the_active_disks(rng):
    """Its L1 table may then be too short for the disk as it has grown since: the rest is
    unallocated."""
    image = Image(size=64 * 512, cluster_bits=9)
    image.disk.normal(63, pattern(1, 512))
    snapshot = image.snapshot(extra=b"")
    snapshot.l1_entries = 1
    snapshot.resize(300 * 512)
    image.disk.resize(300 * 512)
    image.disk.normal(100, pattern(2, 512))
    data = image.build()
    # After the table: not looked at.
    poke(data, snapshot.l1_offset + 8, "Q", snapshot.l2_offsets[0])
    with Opened.from_storage(data) as opened:
        assert opened.snapshots[0].l1_size == 1
        check_view(opened.view(0), snapshot.model, rng)


def test_snapshot_names_of_any_bytes():
    names = (
        b"",
        b"\xff\xfe",
        b"caf\xe9",
        "naïve ☃".encode(),
        b"n" * 65535,
        b"a,b@c=d",
        b"\x1b[31m",
    )
    image = Image(size=4096, cluster_bits=12)
    for name in names:
        image.snapshot(name[::-1], name)
    with Opened.from_storage(image.build()) as opened:
        assert [(s.id, s.name) for s in opened.snapshots] == [(name[::-1], name) for name in names]


def test_snapshot_falls_through_to_the_current_backing_file(tmp_path, rng):
    image = over_raw(tmp_path, pattern(1, 8 * 4096), size=8 * 4096, cluster_bits=12)
    image.disk.normal(1, pattern(2, 4096))
    image.snapshot()
    image.disk.normal(3, pattern(3, 4096))
    image.disk.zero(1)
    check_image(image, tmp_path, rng)


def test_snapshot_with_extended_l2(tmp_path, rng):
    image = extended_over_raw(tmp_path, 14)
    image.disk.subclusters(0, "DZ.D" * 8, pattern(1, 16384))
    image.snapshot()
    image.disk.subclusters(0, "ZD.." * 8, pattern(2, 16384))
    check_image(image, tmp_path, rng)


def snapshot_image():
    """Two snapshots and an active disk that differ."""
    image = Image(size=4 * 4096, cluster_bits=12)
    image.disk.normal(0, pattern(1, 4096))
    image.snapshot(b"1", b"first")
    image.disk.normal(0, pattern(2, 4096))
    image.snapshot(b"2", b"second")
    image.disk.normal(0, pattern(3, 4096))
    return image, image.build()


@pytest.mark.parametrize(
    "offset, layout, value",
    (
        (0, "Q", 512),
        (0, "Q", 1 << 63),
        (0, "Q", 0xFFFFFFFFFFFFF000),
        (8, "I", 0),
        (8, "I", 4194305),
        (8, "I", 0xFFFFFFFF),
    ),
)
def test_snapshot_l1_table_out_of_its_bounds(offset, layout, value):
    """That snapshot is lost; the other and the active disk are not."""
    image, data = snapshot_image()
    poke(data, image.snapshots_offset + image.snapshot_offsets[0] + offset, layout, value)
    with Opened.from_storage(data) as opened:
        with pytest.raises(QcowError) as caught:
            view = opened.view(0)
            view.read(0, 512)
        expect_error(caught.value, "CORRUPT", "L1")
        assert_bytes(opened.view().read(0, 4096), pattern(3, 4096), "the active disk")
        assert_bytes(opened.view(1).read(0, 4096), pattern(2, 4096), "the other snapshot")


def test_snapshot_l1_table_past_the_end_of_the_file():
    image, data = snapshot_image()
    poke(data, image.snapshots_offset, "Q", 1 << 40)
    with Opened.from_storage(data) as opened:
        with pytest.raises(QcowError) as caught:
            opened.view(0).read(0, 512)
        expect_error(caught.value, "TRUNCATED", "L1")
        assert_bytes(opened.view().read(0, 4096), pattern(3, 4096), "the active disk")


@pytest.mark.parametrize("offset", (512, 1 << 40, 1 << 63, 0xFFFFFFFFFFFFF000))
def test_snapshot_table_out_of_its_bounds(offset):
    _, data = snapshot_image()
    with Opened.from_storage(poke(data, 64, "Q", offset)) as opened:
        assert opened.snapshots == []
        assert any("snapshot" in warning for warning in opened.warnings)
        assert_bytes(opened.view().read(0, 4096), pattern(3, 4096), "the active disk")


def test_snapshot_table_cut_by_the_end_of_the_file():
    image = Image(size=4 * 4096, cluster_bits=12, metadata_clusters=2)
    image.snapshot(b"1", b"first")
    image.disk.normal(0, pattern(1, 4096))
    image.snapshot(b"2", b"second")
    data = image.build()
    table = data[image.snapshots_offset : image.snapshots_offset + image.snapshots_length]
    for cut in (
        0,
        10,
        image.snapshot_offsets[1],
        image.snapshot_offsets[1] + 41,
        image.snapshots_length - 3,
    ):
        short = poke(data[:], 64, "Q", len(data)) + table[:cut]
        with Opened.from_storage(short) as opened:
            assert [s.id for s in opened.snapshots] == (
                [b"1"] if cut >= image.snapshot_offsets[1] else []
            )
            assert any("snapshot" in warning for warning in opened.warnings)
            assert_bytes(opened.view().read(0, 4096), pattern(1, 4096), "the active disk")


def many_snapshots(count):
    """An image whose table holds `count` entries of 40 bytes, of one L1 table."""
    image = Image(size=4096, cluster_bits=12)
    image.disk.normal(0, pattern(1, 4096))
    data = image.build()
    entry = struct.pack(
        ">QIHHIIQII", image.disk.l1_offset, image.disk.l1_count, 0, 0, 0, 0, 0, 0, 0
    )
    poke(poke(data, 60, "I", count), 64, "Q", len(data))
    return data + entry * count


def test_most_snapshots():
    with Opened.from_storage(many_snapshots(65536)) as opened:
        assert len(opened.snapshots) == 65536
        assert opened.warnings == []
        assert_bytes(opened.view(65535).read(0, 4096), pattern(1, 4096), "the last snapshot")


@pytest.mark.parametrize("count", (65537, 0xFFFFFFFF))
def test_too_many_snapshots(count):
    """Never more than the limit; what is wrong is said, and the active disk can be read."""
    data = poke(many_snapshots(65537), 60, "I", count)
    with Opened.from_storage(data) as opened:
        assert len(opened.snapshots) <= 65536
        assert any("snapshot" in warning for warning in opened.warnings)
        assert_bytes(opened.view().read(0, 4096), pattern(1, 4096), "the active disk")


@pytest.mark.parametrize("entries, within", ((507, True), (508, False)))
def test_snapshot_table_of_64_mib(entries, within):
    """Entries of 40 + 1024 + 2 * 65535 bytes: 508 of them are more than the table may hold."""
    image = Image(size=4096, cluster_bits=12)
    image.disk.normal(0, pattern(1, 4096))
    data = image.build()
    fixed = struct.pack(">QIHHIIQII", image.disk.l1_offset, 1, 65535, 65535, 0, 0, 0, 0, 1024)
    entry = (fixed + struct.pack(">QQq", 0, 4096, -1)).ljust(40 + 1024 + 2 * 65535, b"n") + bytes(2)
    assert len(entry) % 8 == 0 and (507 * len(entry) <= 64 << 20 < 508 * len(entry))
    poke(poke(data, 60, "I", entries), 64, "Q", len(data))
    with Opened.from_storage(bytes(data) + entry * entries) as opened:
        assert len(opened.snapshots) == entries or not within
        assert any("snapshot" in warning for warning in opened.warnings) != within
        assert_bytes(opened.view().read(0, 4096), pattern(1, 4096), "the active disk")
