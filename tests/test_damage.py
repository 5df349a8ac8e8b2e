# SPDX-License-Identifier: MIT
"""Damaged images are read as far as they go: only the guest ranges that the damage concerns fail,
each with its range, the table entry, the host offset and the reason; and salvage reads zeros in
their place."""
import errno
import random

import pytest
from lib.builder import COMPRESSED, OFFSET_MASK, Image, pattern, poke, squeezable
from lib.core import PythonStorage

C = 4096  # cluster size
REACH = C * C // 8  # guest bytes of an L2 table


class Bad:
    """A damaged guest range that should be found."""

    def __init__(self, start, end, code, table=None, words=""):
        self.start, self.end, self.code, self.table, self.words = start, end, code, table, words


def merged(found):
    """Reports as [start, end, code], touching ones of one code together. They must come in
    ascending order."""
    out = []
    for damage in found:
        start, end = damage.guest_offset, damage.guest_offset + damage.guest_length
        if out and out[-1][2] == damage.code and start <= out[-1][1]:
            assert start >= out[-1][0]
            out[-1][1] = max(end, out[-1][1])
        else:
            assert not out or start >= out[-1][1], "out of order"
            out.append([start, end, damage.code])
    return out


def expected_bytes(model, bad, start, length):
    out = bytearray(model.read(start, length))
    for one in bad:
        for at in range(max(one.start, start), min(one.end, start + length), 512):
            out[at - start : min(at + 512, one.end, start + length) - start] = bytes(
                min(512, one.end - at, start + length - at)
            )
    return bytes(out)


def check_damaged(core, view, model, bad, rng):
    """All reads, whole and in parts, give the right bytes or the right error."""
    size = view.size
    data, found = view.salvage(0, size)
    assert data == expected_bytes(model, bad, 0, size)
    assert merged(found) == [[one.start, one.end, one.code] for one in bad]
    for one in bad:
        first = next(damage for damage in found if damage.guest_offset == one.start)
        assert (
            one.words in first.message and f"guest bytes {one.start} to " in first.message
        ), first.message
        if one.table is not None:
            assert (
                first.table_offset == one.table
                and f"table entry at host offset {one.table}" in first.message
            )
    for _ in range(60):
        start = rng.randrange(size)
        length = min(size - start, rng.choice([1, 512, 1000, C, 3 * C, size]))
        check_read(core, view, model, bad, start, length)


def check_read(core, view, model, bad, start, length):
    hit = next((one for one in bad if one.start < start + length and one.end > start), None)
    want = expected_bytes(model, bad, start, length)
    data, found = view.salvage(start, length)
    assert data == want and bool(found) == (hit is not None)
    for damage in found:  # each report holds some of the bytes asked for
        assert (
            damage.guest_offset < start + length
            and damage.guest_offset + damage.guest_length > start
        )
    if hit is None:
        assert view.read(start, length) == want
        return
    with pytest.raises(core.QcowError) as failure:
        view.read(start, length)
    assert failure.value.code == hit.code
    assert failure.value.guest_offset == max(start, hit.start)
    assert hit.start < failure.value.guest_offset + failure.value.guest_length <= hit.end


def filled(**options):
    """An image whose disk reaches over three L2 tables, with clusters of every kind at the start of
    each."""
    image = Image(2 * REACH + 9 * C + 700, cluster_bits=12, **options)
    for table in range(3):
        first = table * REACH // C
        for i in (0, 1, 2, 6):
            image.disk.normal(first + i, pattern(first + i, C))
        image.disk.compressed(first + 3, squeezable(first + 3, C))
        image.disk.compressed(first + 4, squeezable(first + 4, C))
        if image.version > 2:
            image.disk.zero(first + 5)
    return image


def damage_l2_entry(image, data):
    poke(data, image.disk.entry_offset(1), "Q", (image.disk.entries[1][0] & OFFSET_MASK) + 512)
    return [
        Bad(C, 2 * C, "CORRUPT", image.disk.entry_offset(1), "not a multiple of the cluster size")
    ]


def damage_l1_entry(image, data):
    poke(data, image.disk.l1_offset + 8, "Q", image.disk.l2_offsets[1] + 1536)
    return [
        Bad(
            REACH,
            2 * REACH,
            "CORRUPT",
            image.disk.l1_offset + 8,
            "not a multiple of the cluster size",
        )
    ]


def damage_stream(image, data):
    at = image.disk.entries[3][0] & (1 << image.compressed_shift) - 1
    data[at : at + 40] = b"\xff" * 40
    return [
        Bad(
            3 * C,
            4 * C,
            "CORRUPT",
            image.disk.entry_offset(3),
            f"compressed cluster at host offset {at}",
        )
    ]


def lose_l2_table(image, data):
    """An L2 table after the end of the file."""
    place = len(data) + 8 * C
    poke(data, image.disk.l1_offset + 8, "Q", place)
    return [Bad(REACH, 2 * REACH, "TRUNCATED", place, "L2 table")]


def lose_cluster(image, data):
    """Two clusters in sequence after the end of the file: one damaged range."""
    for i in (1, 2):
        poke(data, image.disk.entry_offset(i), "Q", len(data) + (4 + i) * C)
    return [Bad(C, 3 * C, "TRUNCATED", image.disk.entry_offset(1), "truncated")]


def lose_stream(image, data):
    poke(data, image.disk.entry_offset(4), "Q", COMPRESSED | len(data) + 5000)
    return [Bad(4 * C, 5 * C, "TRUNCATED", image.disk.entry_offset(4), "truncated")]


DAMAGES = [
    damage_l2_entry,
    damage_l1_entry,
    damage_stream,
    lose_l2_table,
    lose_cluster,
    lose_stream,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize(
    "options", [{}, {"compression": 1}, {"version": 2}], ids=["v3", "zstd", "v2"]
)
def test_only_the_damaged_range_fails(core, damage, options, rng):
    image = filled(**options)
    data = image.build()
    bad = damage(image, data)
    with core.Image.from_storage(data) as opened, opened.view() as view:
        check_damaged(core, view, image.disk.model, bad, rng)


def test_several_damages_in_one_image(core, rng):
    image = filled()
    data = image.build()
    bad = (
        damage_l2_entry(image, data)
        + damage_stream(image, data)
        + lose_stream(image, data)
        + lose_l2_table(image, data)
    )
    with core.Image.from_storage(data) as opened, opened.view() as view:
        check_damaged(core, view, image.disk.model, bad, rng)


def test_lost_l1_table(core, rng):
    """All that the L1 table's lost entries map is one damaged range, however many they are."""
    image = filled()
    data = image.build()
    place = len(data)  # the first entry becomes the file's last bytes
    data += data[image.disk.l1_offset : image.disk.l1_offset + 8]
    poke(data, 40, "Q", place)
    with core.Image.from_storage(data) as opened, opened.view() as view:
        check_damaged(
            core,
            view,
            image.disk.model,
            [Bad(REACH, view.size, "TRUNCATED", place + 8, "L1 table")],
            rng,
        )
        assert len(view.salvage(0, view.size)[1]) == 1


def test_subclusters_fail_by_themselves(core, rng):
    """QEMU fails a whole contiguous request over one bad entry."""
    image = Image(4 * 16384, cluster_bits=14, extended_l2=True)
    image.disk.subclusters(0, "D" * 32, pattern(1, 16384))
    image.disk.subclusters(1, "D" * 32, pattern(2, 16384))
    data = image.build()
    entry = image.disk.entry_offset(1)
    poke(data, entry + 8, "Q", 0xFFFFFFFF | 3 << 34)  # subclusters 2 and 3 both allocated and zero
    bad = [Bad(16384 + 1024, 16384 + 2048, "CORRUPT", entry, "both allocated and zero")]
    with core.Image.from_storage(data) as opened, opened.view() as view:
        check_damaged(core, view, image.disk.model, bad, rng)


def test_damage_in_a_backing_file(core, tmp_path, rng):
    """The overlay's own clusters over a damaged range of the backing file are read."""
    base = filled()
    data = base.build()
    lose_l2_table(base, data)
    base.write(tmp_path / "base.qcow2", data)
    top = Image(
        base.disk.size,
        cluster_bits=12,
        backing=b"base.qcow2",
        backing_format=b"qcow2",
        backing_model=base.disk.model,
    )
    covered = REACH // C + 2
    top.disk.normal(covered, pattern("top", C))
    top.write(tmp_path / "top.qcow2")
    place = len(data) + 8 * C
    bad = [
        Bad(REACH, covered * C, "TRUNCATED", place, "base.qcow2"),
        Bad(covered * C + C, 2 * REACH, "TRUNCATED", None, "base.qcow2"),
    ]
    with core.Image(tmp_path / "top.qcow2") as opened, opened.view() as view:
        check_damaged(core, view, top.disk.model, bad, rng)


def test_damage_ends_where_a_shorter_backing_file_does(core, tmp_path, rng):
    """What its lost table says is lost; after its end the overlay reads as zeros."""
    base = filled()
    data = base.build()
    place = len(data) + 8 * C
    poke(data, base.disk.l1_offset + 16, "Q", place)
    base.write(tmp_path / "base.qcow2", data)
    top = Image(
        3 * REACH,
        cluster_bits=12,
        backing=b"base.qcow2",
        backing_format=b"qcow2",
        backing_model=base.disk.model,
    )
    top.write(tmp_path / "top.qcow2")
    with core.Image(tmp_path / "top.qcow2") as opened, opened.view() as view:
        check_damaged(
            core,
            view,
            top.disk.model,
            [Bad(2 * REACH, base.disk.size, "TRUNCATED", place, "base.qcow2")],
            rng,
        )


def test_damage_in_a_data_file(core, tmp_path, rng):
    image = Image(9 * C, cluster_bits=12, data_file=b"disk.data")
    for i in range(9):
        image.disk.normal(i, pattern(i, C))
    image.write(tmp_path / "disk.qcow2")
    with open(tmp_path / "disk.data", "r+b") as file:
        file.truncate(5 * C + 100)
    with core.Image(tmp_path / "disk.qcow2") as opened, opened.view() as view:
        # Not the image's name.
        bad = Bad(5 * C + 100, 9 * C, "TRUNCATED", image.disk.entry_offset(5), "disk.data")
        check_damaged(core, view, image.disk.model, [bad], rng)
        assert "disk.data" in opened.warnings[0]


def test_encrypted_file_that_ends_inside_a_sector(core, tmp_path, rng):
    """Only the sector that is cut is lost with what follows it, not the whole run before it. Found
    by fuzzing."""
    image = Image(9 * C, cluster_bits=12, crypt_method=1, metadata_clusters=6)
    for i in range(9):
        image.disk.normal(i, pattern(i, C))
    data = image.build()
    end = (image.disk.entries[5][0] & OFFSET_MASK) + 1024 + 100
    with core.Image.from_storage(data, passphrases=[b"key"]) as opened, opened.view() as view:
        whole = view.read(0, view.size)
    with core.Image.from_storage(data[:end], passphrases=[b"key"]) as opened, opened.view() as view:
        assert view.read(0, 5 * C + 1024) == whole[: 5 * C + 1024]
        salvaged, found = view.salvage(0, view.size)
    assert salvaged == whole[: 5 * C + 1024] + bytes(4 * C - 1024)
    assert merged(found) == [[5 * C + 1024, 9 * C, "TRUNCATED"]]


def test_damage_in_a_snapshot(core, rng):
    image = filled()
    snapshot = image.snapshot(b"1", b"before")
    image.disk.normal(1, pattern("later", C))
    data = image.build()
    entry = snapshot.entry_offset(1)
    poke(data, entry, "Q", 512 * 3)
    with core.Image.from_storage(data) as opened, opened.view() as active, opened.view(0) as before:
        check_damaged(core, active, image.disk.model, [], rng)
        check_damaged(core, before, snapshot.model, [Bad(C, 2 * C, "CORRUPT", entry)], rng)


def test_damage_in_a_vm_state_counts_from_its_start(core):
    image = Image(3 * C, cluster_bits=12)
    disk = image.disk.copy()
    disk.l1_entries = 2
    disk.normal(REACH // C, pattern(1, C))
    disk.normal(REACH // C + 1, pattern(2, C))
    image.snapshot(b"1", b"running", disk=disk, vm_state_size=2 * C - 10)
    data = image.build()
    poke(data, disk.entry_offset(REACH // C + 1), "Q", 1536)
    with core.Image.from_storage(data) as opened, opened.vm_state(0) as view:
        found, damage = view.salvage(0, view.size)
        assert found == pattern(1, C) + bytes(C - 10)
        assert [(one.guest_offset, one.guest_length) for one in damage] == [(C, C - 10)]


# ---- A dying disk ----------------------------------------------------------------


class DyingDisk(PythonStorage):
    """Reads that touch a bad sector fail."""

    def __init__(self, data, bad_sectors, block=512):
        self.bad_sectors, self.block = set(bad_sectors), block
        self.reads = 0
        super().__init__(data)

    def read(self, context, offset, buffer, length):
        self.reads += 1
        first, last = offset // self.block, (offset + length - 1) // self.block
        if any(first <= sector * 512 // self.block <= last for sector in self.bad_sectors):
            return errno.EIO
        return super().read(context, offset, buffer, length)


def test_bad_sectors_of_a_long_run(core, rng):
    """Contiguous clusters are read at once; bad blocks of 4 KiB among them are found, in few
    reads."""
    image = Image(2 << 20, cluster_bits=16)
    for i in range(32):
        image.disk.normal(i, pattern(i, 65536))
    data = image.build()
    base = image.disk.entries[0][0] & OFFSET_MASK
    sectors = [(base + at) // 512 for at in (0, 70000, 1000000, 1004000, (2 << 20) - 1)]
    bad = [
        Bad(at, at + 4096, "IO", None, "Input/output error")
        for at in (0, 69632, 999424, 1003520, (2 << 20) - 4096)
    ]
    bad[2:4] = [Bad(999424, 1003520 + 4096, "IO")]
    disk = DyingDisk(data, sectors, block=4096)  # as the page cache reads
    with core.Image.from_storage(disk) as opened, opened.view() as view:
        disk.reads = 0
        view.salvage(0, view.size)
        assert disk.reads < 150
        check_damaged(core, view, image.disk.model, bad, rng)
    assert disk.outside == []


def test_bad_sector_in_an_l2_table(core, rng):
    """Of a table's slice, only the entries in the bad sector are lost."""
    image = Image(4096 * 16384 * 2, cluster_bits=14)
    for i in (0, 63, 64, 127, 128, 2047):
        image.disk.normal(i, pattern(i, 16384))
    data = image.build()
    sector = image.disk.entry_offset(64) // 512
    disk = DyingDisk(data, [sector])
    with core.Image.from_storage(disk) as opened, opened.view() as view:
        for i in (0, 63, 128, 2047):
            assert view.read(i * 16384, 16384) == pattern(i, 16384)
        check_read(
            core,
            view,
            image.disk.model,
            [Bad(64 * 16384, 128 * 16384, "IO")],
            60 * 16384,
            80 * 16384,
        )
        with pytest.raises(core.QcowError) as failure:
            view.read(100 * 16384 + 5, 10)
        assert failure.value.table_offset == image.disk.entry_offset(64) + 36 * 8
        assert failure.value.guest_offset == 100 * 16384 + 5 and failure.value.os_errno == errno.EIO


def test_bad_sector_in_an_l1_table(core):
    image = Image(REACH * 100, cluster_bits=12)
    for table in (0, 63, 64, 99):
        image.disk.normal(table * REACH // C, pattern(table, C))
    data = image.build()
    disk = DyingDisk(data, [image.disk.l1_offset // 512])
    with core.Image.from_storage(disk) as opened, opened.view() as view:
        assert view.read(64 * REACH, C) == pattern(64, C) and view.read(99 * REACH, C) == pattern(
            99, C
        )
        _, found = view.salvage(64 * REACH - 10, 20)
        assert [(one.guest_offset, one.guest_length, one.code) for one in found] == [
            (64 * REACH - 10, 10, "IO")
        ]


def test_bad_sector_under_a_compressed_cluster(core, rng):
    image = filled()
    data = image.build()
    at = image.disk.entries[3][0] & (1 << image.compressed_shift) - 1
    other = image.disk.entries[4][0] & (1 << image.compressed_shift) - 1
    bad = [Bad(3 * C, 4 * C, "IO", image.disk.entry_offset(3))]
    assert at // 512 < other // 512
    with core.Image.from_storage(DyingDisk(data, [at // 512])) as opened, opened.view() as view:
        check_damaged(core, view, image.disk.model, bad, rng)


def test_a_disk_that_recovers_is_read(core):
    """A failure is not remembered."""
    image = filled()
    disk = DyingDisk(image.build(), range(1 << 20))
    disk.bad_sectors, everything = set(), disk.bad_sectors
    with core.Image.from_storage(disk) as opened, opened.view() as view:
        disk.bad_sectors = everything
        _, found = view.salvage(0, view.size)
        assert sum(one.guest_length for one in found) >= view.size - 3 * C
        disk.bad_sectors = set()
        assert view.read(0, view.size) == image.disk.model.read(0, view.size)


def test_salvage_reports_the_callers_mistakes(core):
    image = filled()
    with core.Image.from_storage(image.build()) as opened, opened.view() as view:
        with pytest.raises(core.QcowError) as failure:
            view.salvage(view.size - 1, 2)
        assert failure.value.code == "ARGUMENT"


def test_random_damage(core, rng):
    """Random bytes in random places of all tables: salvage and strict reads agree, and what neither
    complains of is right."""
    image = filled()
    pristine = image.build()
    for _ in range(40):
        data = bytearray(pristine)
        for _ in range(rng.randint(1, 4)):
            cluster = rng.choice([0, 1, 2, 3, 4, 5, 6])
            at = rng.choice(
                [
                    image.disk.l1_offset + rng.randrange(24),
                    image.disk.entry_offset(cluster) + rng.randrange(8),
                ]
            )
            data[at] ^= 1 << rng.randrange(8)
        agree(core, data)


def agree(core, data):
    with core.Image.from_storage(data) as opened, opened.view() as view:
        whole, found = view.salvage(0, view.size)
        bad = [(one.guest_offset, one.guest_offset + one.guest_length) for one in found]
        for at in random.Random(1).sample(range(0, view.size, 512), 50):
            length = min(512, view.size - at)
            if any(start < at + length and end > at for start, end in bad):
                with pytest.raises(core.QcowError):
                    view.read(at, length)
            else:
                assert view.read(at, length) == whole[at : at + length]
