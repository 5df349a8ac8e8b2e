# SPDX-License-Identifier: MIT
"""tsk-qcow2 check: each defect one by one, compared with qemu-img check; random damage; bounds; the
command."""
import errno
import json
import os
import random
import struct
from collections import Counter

import pytest
from lib import encrypted
from lib.builder import (
    COPIED,
    OFFSET_MASK,
    Image,
    deflate,
    divide_up,
    pattern,
    poke,
    squeezable,
    zstd,
)
from lib.core import FINDING_KINDS, NO_OFFSET, PythonStorage
from lib.defects import (
    BITMAP_DEFECTS,
    C,
    DEFECTS,
    KEEP,
    bitmap_places,
    change,
    damage_bitmaps,
    entry,
    exchange_l2,
    filled,
    leaky,
    make_marked,
    past,
    snapshot_disk,
    snapshot_entry,
    word,
)
from lib.project import COMMAND, SOURCE, run, run_line


def qemu_totals(path):
    """(corruptions, leaks) by qemu-img check; None if it gives up."""
    done = run_line(
        "qemu-img check --output=json",
        path.name,
        cwd=path.parent,
        check=False,
        timeout=60,
        env=encrypted.environment(),
    )
    if not done.stdout:
        return None
    answer = json.loads(done.stdout)
    return answer.get("corruptions", 0), answer.get("leaks", 0)


def check(core, path, **options):
    """A check with the usual memory, and one that walks the tables for every few clusters: they
    find the same."""
    with core.Image(path, no_chain=True) as image:
        result, found = image.check(**options)
        again, found_again = image.check(memory_bytes=28, **options)
    assert bytes(again) == bytes(result)
    assert sorted(map(repr, found_again)) == sorted(map(repr, found))
    assert Counter(one.kind for one in found) == result.counts
    check_cluster_runs(core, path, result)
    return result, found


def check_cluster_runs(core, path, result):
    """The runs of clusters cover the file, and have what the check counts, in however many parts
    the tables are walked."""
    with core.Image(path, no_chain=True) as image:
        (_, runs), (_, again) = image.cluster_runs(), image.cluster_runs(memory_bytes=28)
        cluster_size = 1 << image.header.cluster_bits
    assert list(map(bytes, again)) == list(map(bytes, runs))
    size = path.stat().st_size
    ends = [0, *(run.host_offset + run.length for run in runs)]
    assert ends == [*(run.host_offset for run in runs), size]

    def clusters(which):
        return sum(divide_up(run.length, cluster_size) for run in runs if which(run))

    if size % cluster_size == 0 and not {"cut", "past-end"} & set(result.counts):
        assert clusters(lambda run: run.uses) == result.used_clusters
        assert clusters(lambda run: run.is_leaked) == result.unreferenced_clusters


# ---- One defect each -------------------------------------------------------------


@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_is_found_and_counts_as_in_qemu(core, tmp_path, name):
    make, damage, expected = DEFECTS[name]
    image = make()
    data = image.build()
    damage(image, data)
    path = image.write(tmp_path / "image.qcow2", data)
    result, found = check(core, path)
    about = [*map(repr, found)]
    assert result.is_complete and result.unreadable == 0, about
    if expected is not None:
        assert {
            kind: count for kind, count in result.counts.items() if kind != "leak"
        } == expected, about
    assert (result.corruptions, result.leaks) == qemu_totals(path), about
    assert bool(found) == (
        name
        not in (
            "nothing",
            "subclusters cut where nothing is",
            "COPIED of a snapshot, which nobody looks at",
        )
    )


def test_what_clusters_are_used_as(core, tmp_path):
    """Each use, and whose disks refer to it; what nothing refers to, and holes."""
    image = Image(size=16 * C, cluster_bits=12)
    for cluster in (0, 1):
        image.disk.normal(cluster, pattern(cluster, C))
    image.snapshot(b"1", b"before", image.disk.copy())
    image.disk.normal(1, pattern(11, C))
    image.disk.normal(2, pattern(12, C))
    leaked, left = image.junk(pattern(20, C), leak=True), image.junk(pattern(21, C))
    path = image.write(tmp_path / "image")
    end = path.stat().st_size
    with open(path, "r+b") as file:
        file.truncate(end + (1 << 20))
        file.seek(end + (1 << 20))
        file.write(bytes(C))
    with core.Image(path, no_chain=True) as opened:
        result, runs = opened.cluster_runs()
        header = opened.header
    stored = path.read_bytes()

    def at(offset):
        (found,) = (run for run in runs if 0 <= offset - run.host_offset < run.length)
        return found

    assert at(0).uses == 1 and at(header.l1_offset).uses == 4
    assert at(header.refcount_table_offset).uses == 2 and at(header.snapshots_offset).uses == 16
    for data, of_active, of_snapshot in ((0, 1, 1), (1, 0, 1), (11, 1, 0), (12, 1, 0)):
        run = at(stored.index(pattern(data, C)))
        assert (run.uses, run.of_active, run.of_snapshot) == (128, of_active, of_snapshot), data
    for offset, is_leaked, is_stored in ((leaked, 1, 1), (left, 0, 1), (end + C, 0, 0)):
        run = at(offset)
        assert (run.uses, run.is_leaked, run.is_stored) == (0, is_leaked, is_stored), offset
    assert at(end + (1 << 20)).is_stored and result.is_complete


# ---- Bitmaps, LUKS ---------------------------------------------------------------


@pytest.fixture()
def marked(tmp_path):
    return make_marked(tmp_path / "marked.qcow2")


@pytest.mark.parametrize("name", BITMAP_DEFECTS)
def test_bitmap_defects(core, marked, name):
    *_, expected, gives_up = BITMAP_DEFECTS[name]
    damage_bitmaps(marked, bitmap_places(marked), BITMAP_DEFECTS[name])
    result, found = check(core, marked)
    if expected is not None:
        assert {
            kind: count for kind, count in result.counts.items() if kind != "leak"
        } == expected, found
    assert result.corruptions > 0 or name == "nothing"
    totals = qemu_totals(marked)
    assert totals is None if gives_up else totals == (result.corruptions, result.leaks), found


def test_bitmaps_that_a_program_did_not_know_of_are_leaks(core, marked):
    marked.write_bytes(poke(bytearray(marked.read_bytes()), 88, "Q", 0))  # the autoclear features
    result, _ = check(core, marked)
    assert result.leaks > 3 and result.counts == {"leak": result.leaks}
    assert (0, result.leaks) == qemu_totals(marked)


def test_encrypted_images_need_no_passphrase(core, tmp_path):
    path = encrypted.create(tmp_path / "luks.qcow2", "8M", options=[f"cluster_size={C}"])
    encrypted.write(encrypted.node(path), [(0, pattern(1, 50000))])
    result, found = check(core, path)
    assert found == [] and result.used_clusters > 100  # the LUKS header's among them
    data = bytearray(path.read_bytes())
    l2 = word(data, word(data, 40)) & OFFSET_MASK
    with core.Image(path, no_chain=True) as image:
        luks = image.encryption().header_offset
    path.write_bytes(poke(data, l2, "Q", luks | COPIED))
    result, found = check(core, path)
    assert result.counts == {"leak": 1, "refcount-low": 1, "overlap": 1}
    (overlap,) = [one for one in found if one.kind == "overlap"]
    assert (
        "the LUKS header" in overlap.sentence
        and overlap.guest_offset == 0
        and overlap.table_offset == l2
    )


# ---- Random damage ---------------------------------------------------------------


def random_image(rng):
    """An image with some clusters of every kind, and up to two snapshots."""
    kind = rng.choice(["v2", "v3", "v3", "extended", "data", "order"])
    bits = 14 if kind == "extended" else rng.choice([9, 12])
    options = {
        "v2": {"version": 2},
        "extended": {"extended_l2": True},
        "data": {"data_file": b"data"},
        "order": {"refcount_order": rng.choice([0, 1, 2, 3, 5, 6])},
    }.get(kind, {})
    image = Image(200 << bits, cluster_bits=bits, **options)
    disk, size = image.disk, image.cluster_size
    for cluster in rng.sample(range(190), 12):
        draw = rng.choice("ncza" if kind in ("v3", "extended") else "nc" if kind == "v2" else "n")
        if draw == "n":
            disk.normal(cluster, pattern(cluster, size))
        elif draw == "c":
            disk.compressed(cluster, squeezable(cluster, size))
        elif draw == "z":
            disk.zero(cluster)
        else:
            disk.zero_allocated(cluster, bytes(size))
        if kind == "extended" and rng.random() < 0.5:
            disk.subclusters(
                cluster, "".join(rng.choice("DZ.") for _ in range(32)), pattern(cluster, size)
            )
    if kind not in ("data", "order"):
        image.snapshot()
        disk.normal(3, pattern(3, size))
    if kind not in ("data", "order") and rng.random() < 0.5:
        image.snapshot(b"2", b"again")
        disk.normal(5, pattern(5, size))
    return image


def random_place(rng, image, data):
    """Where an entry is that damage is done to, and whether it is an L1 entry."""
    disk = rng.choice([image.disk] + [disk for disk, _, _ in image.snapshots])
    kind = rng.choice(["l1", "l2", "l2", "l2", "refcount table", "refcounts", "snapshot"])
    if kind == "l1":
        return disk.l1_offset + 8 * rng.randrange(disk.l1_count), True
    if kind == "l2":
        return (
            disk.entry_offset(rng.choice([*disk.entries]))
            + 8 * (image.extended_l2 and rng.random() < 0.3),
            False,
        )
    if kind == "snapshot" and image.snapshots:
        return image.snapshots_offset + rng.choice(image.snapshot_offsets), True
    if kind == "refcount table":
        return image.refcount_table + 8 * rng.randrange(len(image.refcount_blocks) + 1), False
    return (
        image.refcount_blocks[0]
        + 8 * rng.randrange(divide_up(len(data) // image.cluster_size << image.refcount_order, 64)),
        False,
    )


def random_damage(rng, image, data):
    size, clusters = image.cluster_size, len(data) // image.cluster_size
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at, needs_offset = random_place(rng, image, data)
        old = word(data, at)
        offset = (
            rng.choice(
                [
                    rng.randrange(clusters),
                    clusters - 1,
                    clusters,
                    clusters + 5,
                    clusters + (1 << 20),
                ]
            )
            * size
        )
        new = rng.choice(
            [
                old ^ 1 << rng.randrange(64),
                old & KEEP | offset,
                old & KEEP | offset,
                (old + 512 * rng.choice([1, 3, size // 512])) % (1 << 64),
                0,
            ]
        )
        # An L1 entry with flags but without an offset, and a header as an L1 table: see
        # test_where_qemu_counts_otherwise().
        if not needs_offset or new & OFFSET_MASK:
            poke(data, at, "Q", new)


@pytest.mark.parametrize("number", range(6))
def test_random_damage_counts_as_in_qemu(core, tmp_path, number):
    rng = random.Random(f"damage {os.environ['TSK_QCOW2_SEED']} {number}")
    corrupt = 0
    for attempt in range(25):
        image = random_image(rng)
        data = image.build()
        random_damage(rng, image, data)
        path = image.write(tmp_path / "image.qcow2", data)
        result, found = check(core, path)
        totals = qemu_totals(path)
        assert totals in (None, (result.corruptions, result.leaks)), (attempt, [*map(repr, found)])
        corrupt += result.corruptions > 0 and totals is not None
        check_reads(core, path, found)
    assert corrupt > 10


def check_reads(core, path, found):
    """What reading refuses for what a table entry says, or for the end of the file, is among the
    findings."""
    tables = {(one.table_offset, one.snapshot_index) for one in found if one.weight != "leak"}
    ends = {
        (one.guest_offset, one.snapshot_index) for one in found if one.kind in ("past-end", "cut")
    }
    with core.Image(path) as image:
        for index in [core.ACTIVE, *range(len(image.snapshots))]:
            for damage in damages(core, image, index):
                known = (damage.table_offset, index) in tables
                if damage.code == "TRUNCATED":  # a table that is not there as a whole
                    known = (
                        known or (damage.guest_offset, index) in ends or (NO_OFFSET, index) in ends
                    )
                assert known, (damage, found)


def damages(core, image, index):
    """The damaged ranges of a disk, without compressed data that cannot be decoded: only reading
    finds those."""
    try:
        with image.view(index) as view:
            _, found = view.salvage(0, view.size)
    except core.QcowError:  # its L1 table is not where one can be
        return []
    return [damage for damage in found if "compressed" not in damage.message]


def test_where_qemu_counts_otherwise(core, tmp_path):
    """The differences that check-json.md lists."""
    image = filled()  # QEMU reads the header as an L2 table
    data = image.build()
    path = image.write(tmp_path / "flags.qcow2", poke(data, image.disk.l1_offset + 8, "Q", COPIED))
    result, found = check(core, path)
    assert (result.corruptions, result.defects) == (0, 1) and found[0].kind == "copied"
    assert qemu_totals(path)[0] > 5

    image = filled()  # QEMU reads the rest of an entry as zeros, and goes on with that
    data = image.build()
    path = image.write(tmp_path / "cut.qcow2", data[: snapshot_entry(image) + 30])
    result, _ = check(core, path)
    assert result.counts["table"] == 1 and qemu_totals(path)[0] >= result.corruptions

    image = filled()  # QEMU compares no bit 63 where some refcounts are unknown
    data = image.build()
    change(data, image.refcount_table, add=512)
    exchange_l2(image, data, 0, 1 << 50, COPIED)
    path = image.write(tmp_path / "unknown.qcow2", data)
    result, _ = check(core, path)
    assert result.counts == {"past-end": 1, "unaligned": 1, "copied": 1} and qemu_totals(path) == (
        2,
        0,
    )

    image = filled()  # QEMU does not go on at all
    data = image.build()
    path = image.write(tmp_path / "extra.qcow2", poke(data, snapshot_entry(image) + 36, "I", 1025))
    result, _ = check(core, path)
    assert result.counts == {"table": 1} and qemu_totals(path) is None


# ---- Bounds ----------------------------------------------------------------------


class Sparse(PythonStorage):
    """A file of zeros but for a few parts; counts what is read."""

    def __init__(self, size, parts):
        self.parts, self.bytes_read = parts, 0
        super().__init__(self.get, size)

    def get(self, offset, length):
        self.bytes_read += length
        out = bytearray(length)
        for at, data in self.parts.items():
            if at < offset + length and at + len(data) > offset:
                start = max(at, offset)
                piece = data[start - at : offset + length - at]
                out[start - offset : start - offset + len(piece)] = piece
        return bytes(out)


def header(
    bits, l1_offset, l1_size, refcount_table, refcount_clusters, snapshots=0, snapshots_offset=0
):
    return struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        b"QFI\xfb",
        3,
        0,
        0,
        bits,
        1 << 20,
        0,
        l1_size,
        l1_offset,
        refcount_table,
        refcount_clusters,
        snapshots,
        snapshots_offset,
        0,
        0,
        0,
        4,
        104,
    )


def words(*values):
    return struct.pack(f">{len(values)}Q", *values)


def test_references_far_apart_in_a_file_of_8_eib(core):
    """Only the parts of the file are looked at that something leads to."""
    far = [1 << shift for shift in range(20, 56)]
    l2 = words(*far).ljust(512, b"\0")
    storage = Sparse(
        (1 << 63) - 4096, {0: header(9, 1024, 64, 512, 1), 1024: words(2048), 2048: l2}
    )
    with core.Image.from_storage(storage, no_chain=True) as image:
        result, _ = image.check(memory_bytes=4096)
    assert result.is_complete and result.checked_to == (1 << 63) - 4096
    assert result.counts == {"refcount-low": len(far) + 4} and result.used_clusters == len(far) + 4
    assert storage.bytes_read < 1 << 20


ONE_L2 = {
    0: header(21, 2 << 21, 1 << 22, 1 << 21, 1),
    2 << 21: words(18 << 21) * (1 << 22),
    18 << 21: words(30 << 21) * (1 << 18),
}
SNAPSHOT = struct.pack(">QIHHIIQIIQQ", 4 << 20, 1 << 17, 0, 0, 0, 0, 0, 0, 16, 0, 0)
HOSTILE = {
    "four million L1 entries to one L2 table": ONE_L2,
    "65,536 snapshots with one L1 table": {
        0: header(16, 4 << 20, 64, 1 << 16, 1, 65536, 8 << 20),
        4 << 20: words(1 << 17) * (1 << 17),
        8 << 20: SNAPSHOT * 65536,
    },
    "a million refcount blocks that are one": {
        0: header(21, 1 << 21, 64, 2 << 21, 4),
        2 << 21: words(6 << 21) * (1 << 20),
        6 << 21: b"\1" * (1 << 21),
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_work_is_bounded(core, name):
    storage = Sparse(1 << 60, HOSTILE[name])
    with core.Image.from_storage(storage, no_chain=True) as image:
        storage.bytes_read = 0
        result, found = image.check(report_max=10, work_bytes=96 << 20)
    assert not result.is_complete and result.checked_to < 1 << 60
    assert storage.bytes_read <= 96 << 20 and len(found) <= 10 * len(FINDING_KINDS)


def test_unreadable_tables_are_told_and_the_rest_is_checked(core):
    image = filled()
    data = bytes(image.build())
    bad = image.disk.l2_offsets[0]
    storage = PythonStorage(
        lambda offset, length: (
            errno.EIO if offset <= bad < offset + length else data[offset : offset + length]
        ),
        len(data),
    )
    with core.Image.from_storage(storage, no_chain=True) as opened:
        result, found = opened.check()
    (told,) = [one for one in found if one.kind == "unreadable"]
    assert told.host_offset == bad and "Input/output error" in told.sentence
    assert (
        not result.is_complete
        and result.unreadable == 1
        and result.leaks > 0
        and result.corruptions == 0
    )


# ---- The command -----------------------------------------------------------------


def command(*arguments, **options):
    return run(COMMAND, "check", *arguments, check=False, **options)


@pytest.mark.parametrize(
    "name, status, words_there",
    [
        ("nothing", 0, "CLEAN"),
        ("a leaked cluster", 5, "LEAKS"),
        ("COPIED missing", 4, "Reading does not use"),
        ("entry past the end", 4, "may fail, or give"),
        ("zero flag in version 2", 4, "may fail, or give"),
    ],
)
def test_exit_status_and_verdict(tmp_path, name, status, words_there):
    make, damage, _ = DEFECTS[name]
    image = make()
    data = image.build()
    damage(image, data)
    path = image.write(tmp_path / "image.qcow2", data)
    plain, as_json = command(path), command("--json", path)
    assert plain.returncode == as_json.returncode == status
    answer = json.loads(as_json.stdout)
    assert words_there in plain.stdout and words_there in answer["verdict"]
    assert (
        f"Corruptions: {answer['corruptions']}, leaks: {answer['leaks']}, other defects:"
        f" {answer['defects']};" in plain.stdout
    )
    for finding in answer["findings"]:
        assert f"{finding['weight']}: {finding['text']}" in plain.stdout
    assert sum(answer["counts"].values()) == len(answer["findings"])


def test_a_hundred_findings_of_a_kind_are_shown(tmp_path):
    image = Image(600 * C, cluster_bits=12)
    for cluster in range(300):
        image.disk.normal(cluster, b"x")
    data = image.build()
    poke(data, image.refcount_table, "Q", 0)
    path = image.write(tmp_path / "image.qcow2", data)
    answer = json.loads(command("--json", path).stdout)
    shown = Counter(one["kind"] for one in answer["findings"])
    assert shown == {"copied": 100, "refcount-low": 100} and answer["counts"]["copied"] == 301
    assert '... and 201 more of the kind "copied"' in command(path).stdout


def test_findings_of_a_snapshot_name_it(tmp_path):
    image = filled()
    data = image.build()
    at = entry(image, 3, snapshot_disk(image))
    path = image.write(tmp_path / "image.qcow2", poke(data, at, "Q", past(data)))
    finding = next(
        one
        for one in json.loads(command("--json", path).stdout)["findings"]
        if one["kind"] == "past-end"
    )
    assert (finding["snapshot_index"], finding["guest_offset"], finding["table_offset"]) == (
        0,
        3 * C,
        at,
    )
    assert "(snapshot @index=0)" in command(path).stdout


def test_no_other_file_is_needed(tmp_path):
    image = Image(20 * C, cluster_bits=12, backing=b"gone.qcow2", backing_format=b"qcow2")
    image.disk.normal(0, pattern(1, C))
    assert command(image.write(tmp_path / "overlay.qcow2")).returncode == 0


def test_each_file_of_a_chain_is_checked_as_if_alone(core, tmp_path):
    """With its own snapshots and bitmaps, of which only the topmost image's are kept."""
    image = leaky()
    base = image.write(tmp_path / "base.qcow2")
    run_line("qemu-img bitmap --add", base, "bits")
    overlay = Image(700 * C, cluster_bits=12, backing=b"base.qcow2", backing_format=b"qcow2")
    overlay.junk(pattern(1, C), leak=True)
    path = overlay.write(tmp_path / "overlay.qcow2")
    with core.Image(base, no_chain=True) as alone, core.Image(path) as chain:
        assert bytes(alone.check()[0]) == bytes(chain.check(layer=1)[0])
        assert bytes(chain.check()[0]) == bytes(chain.check(layer=0)[0])
        assert (
            chain.check(layer=0)[0].unreferenced_clusters,
            chain.check(layer=1)[0].unreferenced_clusters,
        ) == (1, 3)
        with pytest.raises(core.QcowError, match="the chain has 2"):
            chain.check(layer=2)
    over_raw = Image(20 * C, cluster_bits=12, backing=b"raw", backing_format=b"raw").write(
        tmp_path / "over-raw.qcow2"
    )
    (tmp_path / "raw").write_bytes(bytes(C))
    with core.Image(over_raw) as chain, pytest.raises(core.QcowError, match="no qcow2 image"):
        chain.check(layer=1)


def test_usage_and_what_cannot_be_checked(tmp_path):
    image = filled()
    path = image.write(tmp_path / "image.qcow2")
    assert (
        command().returncode
        == command("--chain", path).returncode
        == command(path, path).returncode
        == 2
    )
    named = command(f"{path}@before")
    assert named.returncode == 2 and "whole file" in named.stderr
    (tmp_path / "not").write_bytes(bytes(4096))
    assert command(tmp_path / "not").returncode == 1


def test_the_documentation_knows_every_kind_and_key(core, tmp_path):
    with open(os.path.join(SOURCE, "docs", "check-json.md")) as file:
        text = file.read()
    names = [
        core.library().qcow2_finding_kind_name(kind).decode()
        for kind in range(len(FINDING_KINDS) + 1)
    ]
    assert names == [*FINDING_KINDS, "unknown"]
    image = filled()
    data = image.build()
    path = image.write(tmp_path / "image.qcow2", poke(data, image.disk.l1_offset, "Q", 0))
    answer = json.loads(command("--json", path).stdout)
    for name in [*FINDING_KINDS, *answer, *answer["findings"][0]]:
        assert f"`{name}`" in text, name


# ---- Streams -----------------------------------------------------------------------


def streams_image(path, compression=0):
    """A good stream, two that do not end with their clusters, one that is damaged; the snapshot
    shares all but one."""
    image = Image(8 * 4096, cluster_bits=12, compression=compression)
    for cluster in range(4):
        data = squeezable(cluster, 4096)
        image.disk.compressed(
            cluster, data, deflate(data[: 4096 - (cluster == 3)] + b"x" * cluster)
        )
        if cluster == 3:
            image.disk.compressed(cluster, None, deflate(data[:4000]))
    image.snapshot(b"1", b"first")
    image.disk.compressed(2, squeezable(2, 4096))
    return image.write(path)


def test_streams(core, tmp_path):
    path = streams_image(tmp_path / "disk.qcow2")
    result, found = check(core, path)
    assert (found, result.doubts, result.defects) == ([], 0, 0)
    result, found = check(core, path, decode=1)
    assert (result.doubts, result.defects, result.corruptions, result.is_complete) == (3, 2, 0, 1)
    assert {one.kind for one in found} == {"stream"} and result.counts == {"stream": 5}
    assert sorted(
        (one.weight, one.guest_offset // 4096, one.snapshot_index == 0) for one in found
    ) == [
        ("defect", 3, False),
        ("defect", 3, True),
        ("doubt", 1, False),
        ("doubt", 1, True),
        ("doubt", 2, True),
    ]
    with core.Image(path, no_chain=True) as opened:
        for one in found:
            if one.snapshot_index != 0:
                entry_bytes = path.read_bytes()[one.table_offset :][:8]
                mask = (1 << (62 - (12 - 8))) - 1
                assert int.from_bytes(entry_bytes, "big") & mask == one.host_offset
        assert opened.check(decode=1, report_max=1)[0].doubts == 3
    by_weight = {one.weight: one.sentence for one in found}
    assert by_weight["doubt"].endswith(
        "may be damaged: the compressed stream does not end with its cluster"
    )
    assert by_weight["defect"].endswith("cannot be decoded: its stream is damaged")


def test_streams_that_the_operating_system_cannot_read(core, tmp_path):
    path = streams_image(tmp_path / "disk.qcow2")
    data = path.read_bytes()
    with core.Image(path) as opened:
        host_offset = opened.view().map(0, 1).host_offset

    def read(offset, length):
        if offset <= host_offset < offset + length:
            return errno.EIO
        return data[offset : offset + length]

    with core.Image.from_storage(read, len(data)) as opened:
        result, found = opened.check(decode=1)
    assert (result.unreadable, result.is_complete, result.doubts) == (2, 0, 3)
    assert any("cannot be read by the operating system" in one.sentence for one in found)


def test_streams_that_qemu_writes(tmp_path):
    """Each of them ends with its cluster."""
    raw = tmp_path / "disk.raw"
    raw.write_bytes(squeezable(1, 5 << 20) + pattern(2, 1 << 20) + bytes(1 << 20))
    for options in ("cluster_size=4k", "cluster_size=64k", "cluster_size=2M"):
        for compression in ("zlib", "zstd"):
            path = tmp_path / f"{options}-{compression}.qcow2"
            run_line(
                f"qemu-img convert -c -O qcow2 -o {options},compression_type={compression}",
                raw,
                path,
            )
            done = run(COMMAND, "check", "--decode", path, check=False)
            assert (done.returncode, done.stderr) == (0, "")
            assert "all compressed clusters can be decoded" in done.stdout


def test_streams_by_the_command(tmp_path):
    path = streams_image(tmp_path / "disk.qcow2")
    assert run(COMMAND, "check", path, check=False).returncode == 0
    done = run(COMMAND, "check", "--decode", path, check=False)
    lines = done.stdout.splitlines()
    assert done.returncode == 4 and "May be damaged: 3 compressed clusters" in lines
    assert sum(line.startswith("doubt: the compressed cluster at host") for line in lines) == 3
    assert sum(line.startswith("defect: the compressed cluster at host") for line in lines) == 2
    report = json.loads(run(COMMAND, "check", "--decode", "--json", path, check=False).stdout)
    assert (report["doubts"], report["defects"], report["decoded"]) == (3, 2, True)
    assert report["counts"]["stream"] == len(report["findings"]) == 5
    assert json.loads(run(COMMAND, "check", "--json", path).stdout)["decoded"] is False
    image = Image(4096, cluster_bits=12)
    image.disk.compressed(0, squeezable(1, 4096), deflate(squeezable(1, 4096) + b"x"))
    image.write(path)
    done = run(COMMAND, "check", "--decode", path, check=False)
    assert done.returncode == 5 and done.stdout.splitlines()[-1].startswith("DOUBTFUL: ")
    image = Image(4096, cluster_bits=12, compression=1)
    image.disk.compressed(0, squeezable(1, 4096), zstd(squeezable(1, 4096)))
    image.write(path)
    done = run(COMMAND, "check", "--decode", path)
    assert done.stdout.splitlines()[-1].startswith(
        "CLEAN: tables and refcounts agree, and all compressed clusters can be decoded. "
    )
