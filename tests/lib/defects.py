# SPDX-License-Identifier: MIT
"""Images with one defect each, and what a check must find."""
import struct

from . import core
from .builder import COMPRESSED, COPIED, OFFSET_MASK, Image, divide_up, pattern, poke, squeezable
from .project import run, run_line

C = 4096  # cluster size


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


# ---- Bitmaps ---------------------------------------------------------------------


def make_marked(path):
    """An image with two bitmaps, of which one has bits."""
    run_line(f"qemu-img create -q -f qcow2 -o cluster_size={C}", path, "64M")
    run_line("qemu-img bitmap --add -g 512", path, "bits")
    run("qemu-io", "-c", "write -q 0 20k", "-c", "write -q 40M 70k", path)
    run_line("qemu-img bitmap --add", path, "none")
    return path


def bitmap_places(path):
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
