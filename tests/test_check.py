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
from lib.builder import COMPRESSED, COPIED, OFFSET_MASK, Image, divide_up, pattern, poke, squeezable
from lib.core import FINDING_KINDS, NO_OFFSET, PythonStorage
from lib.project import BUILD, SOURCE, run, run_line

C = 4096  # cluster size of the images below
COMMAND = os.path.join(BUILD, "tsk_qcow2", "tsk-qcow2")


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
    return result, found


# ---- One defect each -------------------------------------------------------------


def filled(snapshot=True, **options):
    """Clusters of every kind, some shared with a snapshot. Guest clusters 0 and 1 are the active
    disk's own, 3 is shared, 4 is a compressed one; 600 is after those of the first L2 table."""
    image = Image(700 * C, cluster_bits=12, **options)
    disk = image.disk
    disk.normal(3, pattern(3, C))
    if image.data_file is None:
        disk.compressed(4, squeezable(4, C))
        disk.compressed(5, squeezable(5, C))
    if snapshot and image.data_file is None:
        image.snapshot(b"1", b"before")
    disk.normal(0, pattern(0, C))
    disk.normal(1, pattern(1, C))
    disk.normal(600, pattern(6, C))
    if image.version > 2:
        disk.zero(7)
        disk.zero_allocated(8, pattern(8, C))
    return image


def extended(**options):
    image = Image(100 << 14, cluster_bits=14, extended_l2=True, **options)
    image.disk.subclusters(0, "D" * 8 + "Z" * 8 + "." * 16, pattern(1, 1 << 14))
    image.disk.normal(1, pattern(2, 1 << 14))
    image.disk.zero(2)
    image.disk.compressed(3, squeezable(3, 1 << 14))
    return image


def leaky():
    image = filled()
    image.junk(pattern(9, 3 * C), leak=True)
    return image


def packed_last():
    """Compressed data of several sectors at the end of the file."""
    image = Image(20 * C, cluster_bits=12, metadata_clusters=8)
    image.disk.compressed(9, squeezable(9, C))
    return image


def data_last():
    image = Image(20 * C, cluster_bits=12, metadata_clusters=8)
    image.disk.normal(9, pattern(9, C))
    return image


def subclusters_last():
    """Data in the first eight of the last cluster's subclusters."""
    image = Image(20 << 14, cluster_bits=14, extended_l2=True, metadata_clusters=8)
    image.disk.subclusters(9, "D" * 8 + "." * 24, pattern(9, 1 << 14))
    return image


def narrow(refcount_order):
    """Five clusters, none shared."""
    image = Image(20 * C, cluster_bits=12, refcount_order=refcount_order)
    for cluster in range(5):
        image.disk.normal(cluster, pattern(cluster, C))
    return image


def word(data, at):
    return struct.unpack_from(">Q", data, at)[0]


def change(data, at, keep=-1, add=0):
    poke(data, at, "Q", (word(data, at) & keep) + add)


def set_refcount(image, data, offset, value):
    """Of the cluster at a host offset, in 16 bits."""
    poke(data, image.refcount_blocks[0] + offset // image.cluster_size * 2, "H", value)


def entry(image, cluster, disk=None):
    return (disk or image.disk).entry_offset(cluster)


def host(image, data, cluster):
    return word(data, entry(image, cluster)) & OFFSET_MASK


def snapshot_disk(image):
    return image.snapshots[0][0]


def snapshot_entry(image):
    return image.snapshots_offset + image.snapshot_offsets[0]


def past(data, clusters=0):
    return divide_up(len(data), C) * C + clusters * C


def cut(data, length):
    del data[length:]


def no_disk_size(data, image):
    """The extra data end after the VM state size; ID and name stay readable."""
    at = snapshot_entry(image)
    poke(data, at + 36, "I", 8)


def wipe_snapshots(image, data):
    at, length = image.snapshots_offset, image.snapshots_length
    data[at : at + length] = bytes(length)


def exchange_l2(image, data, cluster, offset, flags=0):
    poke(data, entry(image, cluster), "Q", offset | flags)


KEEP = COPIED | ~OFFSET_MASK & (1 << 64) - 1  # all of an entry but its offset

# name: (image, what is done to its bytes, findings by kind besides leaks; None: only QEMU's totals
# count)
DEFECTS = {
    "nothing": (filled, lambda i, d: None, {}),
    "refcount 0": (
        filled,
        lambda i, d: set_refcount(i, d, host(i, d, 0), 0),
        {"refcount-low": 1, "copied": 1},
    ),
    "refcount of a shared cluster 1": (
        filled,
        lambda i, d: set_refcount(i, d, host(i, d, 3), 1),
        {"refcount-low": 1, "copied": 1},
    ),
    "refcount too high": (filled, lambda i, d: set_refcount(i, d, host(i, d, 0), 5), {"copied": 1}),
    "refcount of the header 0": (
        filled,
        lambda i, d: set_refcount(i, d, 0, 0),
        {"refcount-low": 1},
    ),
    "refcount of an L2 table 2": (
        filled,
        lambda i, d: set_refcount(i, d, i.disk.l2_offsets[0], 2),
        {"copied": 1},
    ),
    "refcount of a compressed cluster": (
        filled,
        lambda i, d: set_refcount(i, d, word(d, entry(i, 4)) & (1 << 58) - 1, 1),
        {"refcount-low": 1},
    ),
    "compressed data on top of guest data": (
        filled,
        lambda i, d: change(d, entry(i, 4), ~((1 << 58) - 1), host(i, d, 0)),
        {"overlap": 1, "refcount-low": 1},
    ),
    "a leaked cluster": (leaky, lambda i, d: None, {}),
    "two entries to one cluster": (
        filled,
        lambda i, d: exchange_l2(i, d, 1, host(i, d, 0), COPIED),
        {"refcount-low": 1},
    ),
    "entry to the active L1 table": (
        filled,
        lambda i, d: exchange_l2(i, d, 0, i.disk.l1_offset, COPIED),
        {"refcount-low": 1, "overlap": 1},
    ),
    "entry to its own L2 table": (
        filled,
        lambda i, d: exchange_l2(i, d, 0, i.disk.l2_offsets[0], COPIED),
        {"refcount-low": 1, "overlap": 1},
    ),
    "entry to the refcount table": (
        filled,
        lambda i, d: exchange_l2(i, d, 0, i.refcount_table, COPIED),
        {"refcount-low": 1, "overlap": 1},
    ),
    "entry to a refcount block": (
        filled,
        lambda i, d: exchange_l2(i, d, 0, i.refcount_blocks[0], COPIED),
        {"refcount-low": 1, "overlap": 1, "refcount-block": 1},
    ),
    "entry to the snapshot table": (
        filled,
        lambda i, d: exchange_l2(i, d, 0, i.snapshots_offset, COPIED),
        {"refcount-low": 1, "overlap": 1},
    ),
    "entry to the snapshot's L1 table": (
        filled,
        lambda i, d: exchange_l2(i, d, 0, snapshot_disk(i).l1_offset, COPIED),
        {"refcount-low": 1, "overlap": 1},
    ),
    "compressed data in guest data": (
        filled,
        lambda i, d: change(d, entry(i, 4), ~((1 << 58) - 1) & (1 << 64) - 1, host(i, d, 0)),
        {"refcount-low": 1, "overlap": 1},
    ),
    "entry past the end": (
        filled,
        lambda i, d: exchange_l2(i, d, 0, past(d), COPIED),
        {"past-end": 1, "copied": 1},
    ),
    "entry far past the end": (
        filled,
        lambda i, d: exchange_l2(i, d, 0, 1 << 50, COPIED),
        {"past-end": 1, "copied": 1},
    ),
    "entry not aligned": (filled, lambda i, d: change(d, entry(i, 0), add=512), None),
    "zero entry not aligned": (filled, lambda i, d: change(d, entry(i, 8), add=512), None),
    "entry with reserved bits": (
        filled,
        lambda i, d: change(d, entry(i, 0), add=1 << 57 | 2),
        {"reserved-bits": 1},
    ),
    "zero flag in version 2": (
        lambda: filled(version=2, snapshot=False),
        lambda i, d: change(d, entry(i, 0), add=1),
        {"entry": 1},
    ),
    "COPIED missing": (filled, lambda i, d: change(d, entry(i, 0), ~COPIED), {"copied": 1}),
    "COPIED of a shared cluster": (
        filled,
        lambda i, d: change(d, entry(i, 3), add=COPIED),
        {"copied": 1},
    ),
    "COPIED of a zero cluster missing": (
        filled,
        lambda i, d: change(d, entry(i, 8), ~COPIED),
        {"copied": 1},
    ),
    "COPIED missing in the L1 table": (
        filled,
        lambda i, d: change(d, i.disk.l1_offset, ~COPIED),
        {"copied": 1},
    ),
    "COPIED of a compressed cluster": (
        filled,
        lambda i, d: change(d, entry(i, 4), add=COPIED),
        {"copied": 1},
    ),
    "COPIED of a snapshot, which nobody looks at": (
        filled,
        lambda i, d: change(d, entry(i, 3, snapshot_disk(i)), add=COPIED),
        {},
    ),
    "compressed data past the end": (
        filled,
        lambda i, d: change(d, entry(i, 4), ~((1 << 58) - 1) & (1 << 64) - 1, past(d, 3)),
        {"past-end": 1},
    ),
    "compressed data cut away": (packed_last, lambda i, d: cut(d, len(d) - C), {"cut": 1}),
    "compressed data beginning at the end": (
        packed_last,
        lambda i, d: change(d, entry(i, 9), add=C),
        {"cut": 1, "refcount-low": 1},
    ),
    "L1 entry past the end": (
        filled,
        lambda i, d: change(d, i.disk.l1_offset, KEEP, past(d)),
        {"past-end": 1, "copied": 1},
    ),
    "L1 entry not aligned": (filled, lambda i, d: change(d, i.disk.l1_offset + 8, add=1024), None),
    "L1 entry with reserved bits": (
        filled,
        lambda i, d: change(d, i.disk.l1_offset, add=1 << 60 | 4),
        {"reserved-bits": 1},
    ),
    "two L1 entries to one L2 table": (
        filled,
        lambda i, d: poke(d, i.disk.l1_offset + 8, "Q", word(d, i.disk.l1_offset)),
        None,
    ),
    "L1 entry to the active L1 table": (
        filled,
        lambda i, d: change(d, i.disk.l1_offset + 8, KEEP, i.disk.l1_offset),
        None,
    ),
    "L1 entry to the refcount table": (
        filled,
        lambda i, d: change(d, i.disk.l1_offset + 8, KEEP, i.refcount_table),
        None,
    ),
    "L1 table past the end": (filled, lambda i, d: poke(d, 40, "Q", past(d, 2)), {"past-end": 1}),
    "snapshot's L1 table past the end": (
        filled,
        lambda i, d: poke(d, snapshot_entry(i), "Q", past(d, 2)),
        {"past-end": 1},
    ),
    "snapshot's L1 table not aligned": (
        filled,
        lambda i, d: poke(d, snapshot_entry(i), "Q", 513),
        {"table": 1},
    ),
    "snapshot's L1 table too large": (
        filled,
        lambda i, d: poke(d, snapshot_entry(i) + 8, "I", (32 << 20 >> 3) + 1),
        {"table": 1},
    ),
    "snapshot's L1 table is the active one": (
        filled,
        lambda i, d: poke(d, snapshot_entry(i), "Q", i.disk.l1_offset),
        None,
    ),
    "snapshot's L1 entry past the end": (
        filled,
        lambda i, d: change(d, snapshot_disk(i).l1_offset, KEEP, past(d)),
        {"past-end": 1},
    ),
    "snapshot's entry past the end": (
        filled,
        lambda i, d: change(d, entry(i, 3, snapshot_disk(i)), KEEP, past(d)),
        {"past-end": 1},
    ),
    "snapshot without a disk size": (filled, lambda i, d: no_disk_size(d, i), {"table": 1}),
    "snapshot's l1_size 0": (
        filled,
        lambda i, d: poke(d, snapshot_entry(i) + 8, "I", 0),
        {"table": 1},
    ),
    "snapshot's disk larger than its L1 table": (
        filled,
        lambda i, d: poke(d, snapshot_entry(i) + 48, "Q", 1 << 40),
        {"table": 1},
    ),
    "snapshot's VM state larger than its L1 table": (
        filled,
        lambda i, d: poke(d, snapshot_entry(i) + 40, "Q", 5000),
        {"table": 1},
    ),
    "snapshot's L1 table in the header": (
        filled,
        lambda i, d: poke(d, snapshot_entry(i), "Q", 0),
        None,
    ),
    "snapshot table wiped": (filled, wipe_snapshots, {"table": 1}),
    "snapshot count raised": (filled, lambda i, d: poke(d, 60, "I", 60), {"table": 59}),
    "snapshot table past the end": (
        filled,
        lambda i, d: poke(d, 64, "Q", past(d, 2)),
        {"past-end": 1, "table": 1},
    ),
    "refcount block past the end": (
        filled,
        lambda i, d: change(d, i.refcount_table, add=1 << 40),
        None,
    ),
    "refcount block not aligned": (
        filled,
        lambda i, d: change(d, i.refcount_table, add=512),
        {"unaligned": 1},
    ),
    "refcount block with reserved bits": (
        filled,
        lambda i, d: change(d, i.refcount_table, add=8),
        {"reserved-bits": 1},
    ),
    "refcount block twice": (
        filled,
        lambda i, d: poke(d, i.refcount_table + 8, "Q", i.refcount_blocks[0]),
        {"refcount-block": 1, "refcount-low": 1},
    ),
    "refcount block and an L1 table just past the end": (
        filled,
        lambda i, d: [
            poke(d, i.refcount_table + 8, "Q", past(d)),
            poke(d, snapshot_entry(i), "Q", past(d)),
        ],
        None,
    ),
    "no refcount block": (filled, lambda i, d: poke(d, i.refcount_table, "Q", 0), None),
    "no refcount table": (filled, lambda i, d: poke(d, 56, "I", 0), None),
    "refcount table past the end": (filled, lambda i, d: poke(d, 48, "Q", past(d, 1)), None),
    "refcount table is the L1 table": (
        filled,
        lambda i, d: poke(d, 48, "Q", i.disk.l1_offset),
        None,
    ),
    "the end is missing": (
        lambda: filled(snapshot=False),
        lambda i, d: cut(d, len(d) - 3 * C),
        None,
    ),
    "the middle of the last cluster is missing": (
        data_last,
        lambda i, d: cut(d, len(d) - C // 2),
        {"cut": 1},
    ),
    "overflow of 1 bit": (
        lambda: narrow(0),
        lambda i, d: exchange_l2(i, d, 1, host(i, d, 0), COPIED),
        {"overflow": 1},
    ),
    "overflow of 2 bits": (
        lambda: narrow(1),
        lambda i, d: [exchange_l2(i, d, c, host(i, d, 0), COPIED) for c in (1, 2, 3, 4)],
        {"overflow": 2, "refcount-low": 1},
    ),
    "no overflow of 64 bits": (
        lambda: narrow(6),
        lambda i, d: [exchange_l2(i, d, c, host(i, d, 0), COPIED) for c in (1, 2, 3, 4)],
        {"refcount-low": 1},
    ),
    "subcluster data and zero": (
        extended,
        lambda i, d: poke(d, entry(i, 0) + 8, "Q", 1 << 32 | 1),
        {"entry": 1},
    ),
    "subcluster data without a cluster": (
        extended,
        lambda i, d: poke(d, entry(i, 2) + 8, "Q", 3),
        {"entry": 1},
    ),
    "subcluster bitmap of a compressed cluster": (
        extended,
        lambda i, d: poke(d, entry(i, 3) + 8, "Q", 3),
        {"entry": 1},
    ),
    "extended entry not aligned": (extended, lambda i, d: change(d, entry(i, 1), add=512), None),
    "subclusters cut": (
        subclusters_last,
        lambda i, d: cut(d, len(d) - (1 << 14) + 512 * 7),
        {"cut": 1},
    ),
    "subclusters cut where nothing is": (
        subclusters_last,
        lambda i, d: cut(d, len(d) - (1 << 14) + 512 * 8),
        {},
    ),
    "data file: compressed": (
        lambda: filled(data_file=b"data"),
        lambda i, d: poke(d, entry(i, 1), "Q", COMPRESSED),
        {"entry": 1},
    ),
    "data file: COPIED missing": (
        lambda: filled(data_file=b"data"),
        lambda i, d: change(d, entry(i, 1), ~COPIED),
        {"copied": 1},
    ),
    "data file: another place": (
        lambda: filled(data_file=b"data"),
        lambda i, d: change(d, entry(i, 1), add=C),
        {"entry": 1},
    ),
    "data file: not aligned": (
        lambda: filled(data_file=b"data"),
        lambda i, d: change(d, entry(i, 1), add=512),
        {"unaligned": 1},
    ),
}


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


# ---- Bitmaps, LUKS ---------------------------------------------------------------


@pytest.fixture()
def marked(tmp_path):
    """An image with two bitmaps, of which one has bits."""
    image = tmp_path / "marked.qcow2"
    run_line(f"qemu-img create -q -f qcow2 -o cluster_size={C}", image, "64M")
    run_line("qemu-img bitmap --add -g 512", image, "bits")
    run("qemu-io", "-c", "write -q 0 20k", "-c", "write -q 40M 70k", image)
    run_line("qemu-img bitmap --add", image, "none")
    return image


def bitmap_places(core, path):
    """Host offsets: of the extension's data, the directory, the first bitmap's table, and an entry
    of it that has a cluster."""
    with core.Image(path, no_chain=True) as image:
        table = image.bitmaps[0].table_offset
        extension = next(one for one in image.extensions() if one.type == 0x23852875)
    data = path.read_bytes()
    used = next(at for at in range(table, table + C, 8) if word(data, at))
    return extension.host_offset, word(data, extension.host_offset + 16), table, used


# name: (which region, offset from there, value of 64 bits or what is added to it, findings;
# QEMU gives up)
BITMAP_DEFECTS = {
    "directory past the end": (0, 16, 1 << 40, None, True),
    "table past the end": (1, 0, 1 << 40, {"past-end": 1}, False),
    "table not aligned": (1, 0, "+512", {"table": 1}, True),
    "entry past the end": (3, 0, 1 << 40, {"past-end": 1}, False),
    "entry not aligned": (3, 0, "+512", {"unaligned": 1}, True),
    "entry with reserved bits": (3, 0, "+2", {"reserved-bits": 1}, True),
    "entry with an offset that says all ones": (3, 0, "+1", {"reserved-bits": 1}, True),
    "entry to the directory": (
        3,
        0,
        "directory",
        {"refcount-low": 1, "overlap": 1, "cut": 1},
        False,
    ),
    "a bitmap more than there are": (0, 0, f"+{1 << 32}", {"table": 1}, True),
    "a bitmap less than there are": (0, 0, f"{-1 << 32}", None, True),
    "an extension of 8 bytes": (0, -8, 0x23852875 << 32 | 8, None, True),
    "directory wiped": (1, 0, None, None, True),
    "type 9": (1, 16, f"+{8 << 56}", {"table": 1}, True),
    "table size 0": (1, 8, 2, None, True),
    "table in the header": (1, 0, 0, None, True),
    "nothing": (0, 0, "+0", {}, False),
}


def damage_bitmaps(path, places, defect):
    which, offset, value = defect[:3]
    data = bytearray(path.read_bytes())
    at = places[which] + offset
    if value is None:
        data[at : at + C] = bytes(C)
    else:
        new = (
            places[1]
            if value == "directory"
            else word(data, at) + int(value)
            if isinstance(value, str)
            else value
        )
        poke(data, at, "Q", new)
    path.write_bytes(data)


@pytest.mark.parametrize("name", BITMAP_DEFECTS)
def test_bitmap_defects(core, marked, name):
    *_, expected, gives_up = BITMAP_DEFECTS[name]
    damage_bitmaps(marked, bitmap_places(core, marked), BITMAP_DEFECTS[name])
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
    assert result.counts["table"] == 1 and result.leaks > 0 and qemu_totals(path) is None


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
