# SPDX-License-Identifier: MIT
"""The seeds of the fuzzers: small inputs, one feature or oddity each, from which libFuzzer starts.

seeds(TARGET) yields (name, bytes). What the fuzzers found since is in corpus/; corpus.py packs
both.
"""
import struct
import sys
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.luks_header import LUKS_VARIANTS, luks_header  # noqa: E402
from lib.builder import (  # noqa: E402
    Image,
    deflate,
    pattern,
    poke,
    squeezable,
    zstd,
    zstd_huge_window,
    zstd_skippable,
)
from lib.landmarks import (  # noqa: E402
    ext,
    ext_group,
    gpt,
    gpt_entry,
    mbr,
    mft_record,
    ntfs,
    xfs,
)
from lib.version_1 import Built  # noqa: E402

BITMAPS, ENCRYPTION, FEATURES = 0x23852875, 0x0537BE77, 0x6803F857
SIZE = 40 * 512 + 100


# ---- Whole images ----------------------------------------------------------------


def fill(image, clusters=(0, 1, 2, 3, 5, 6, 70)):
    """Every kind of cluster."""
    disk, size = image.disk, image.cluster_size
    last = (disk.size - 1) // size
    for cluster, kind in zip(
        clusters,
        ("normal", "normal", "zero", "compressed", "zero_allocated", "compressed", "normal"),
    ):
        data = squeezable(cluster, size)
        if cluster <= last and not (kind.startswith("zero") and image.version == 2):
            getattr(disk, kind)(cluster, *([] if kind == "zero" else [data]))
    return image


def bitmap_entry(name, table, entries, flags=0, kind=1, bits=9, extra=b""):
    entry = (
        struct.pack(">QIIBBHI", table, entries, flags, kind, bits, len(name), len(extra))
        + extra
        + name
    )
    return entry.ljust(-(-len(entry) // 8) * 8, b"\0")


def with_bitmaps(image):
    bits = image.allocate(bytes([0, 255, 1, 128, 85] * 20))
    table = image.allocate(struct.pack(">QQ", bits | 1, 0))
    ones = image.allocate(struct.pack(">QQ", 1, 1))
    directory = bitmap_entry(b"first", table, 2, 2) + bitmap_entry(
        b"all\x1b", ones, 2, 1, bits=16, extra=b"extra..."
    )
    place = image.allocate(directory)
    image.extensions.append((BITMAPS, struct.pack(">IIQQ", 2, 0, len(directory), place)))
    image.autoclear |= 1
    return image


def with_luks(image, **variant):
    """The key material, zeros, needs no place in a seed but the file's length."""
    header = luks_header(**variant)
    place = image.allocate(header.ljust(68 << 10, b"\0"))
    image.crypt_method = 2
    image.extensions.append((ENCRYPTION, struct.pack(">QQ", place, 8 << 20)))
    return image


def with_snapshots(image):
    image.snapshot(b"1", b"first")
    image.disk.normal(1, pattern(9, image.cluster_size))
    bigger = image.disk.copy(80 * image.cluster_size)
    bigger.l1_entries = bigger.needed_l1() + 1
    image.snapshot(b"2", b"second", disk=bigger, vm_state_size=3000, seconds=1700000000)
    image.snapshot(b"3", b"", extra=b"", vm_state_size_32=5)
    image.snapshot(b"1", b"2\xff\n", extra=struct.pack(">QQQ", 0, SIZE, 77) + b"more")
    return image


def overlay(**more):
    """Over itself, as the fuzzer's options say."""
    image = Image(SIZE, 9, backing=b"base.qcow2", **more)
    image.disk.normal(1, pattern(1, 512))
    image.disk.zero(3)
    return image.build()


def extended(compression=0):
    image = Image(5 << 14, 14, extended_l2=True, compression=compression)
    image.disk.subclusters(0, "D" * 8 + "Z" * 8 + "." * 8 + "DZ.." * 2, pattern(1, 1 << 14))
    image.disk.subclusters(1, "Z." * 16, bytes(1 << 14), host=False)
    image.disk.compressed(2, squeezable(2, 1 << 14))
    return image.build()


def left_behind(middle):
    """A snapshot, and what was written after it in a row, by three L2 tables to which nothing
    leads. Where the table in the middle was, there is `middle`."""
    image = Image(192 * 512, 9)
    for cluster in (0, 70, 130):
        image.disk.normal(cluster, pattern(cluster, 512))
    image.snapshot(b"1", b"then")
    shared = {cluster: word for cluster, (word, _) in image.disk.entries.items()}
    hosts = {cluster: image.junk(pattern(cluster + 1, 512)) for cluster in (62, 63)}
    start = image.junk(b"".ljust(512, b"-")) + 512
    hosts |= {cluster: start + (cluster - 64) * 512 for cluster in range(64, 128)}
    tables = [
        {0: shared[0], 62: hosts[62], 63: hosts[63]},
        {},
        {0: start + 65 * 512, 2: shared[130]},
    ]
    tables[1] = {cluster - 64: host for cluster, host in hosts.items() if cluster >= 64}
    first, second, third = (
        struct.pack(">64Q", *(table.get(index, 0) for index in range(64))) for table in tables
    )
    for cluster in range(64, 128):
        assert image.junk(pattern(cluster + 1, 512)) == hosts[cluster]
    for content in (third, pattern(129, 512), first):
        image.junk(content)
    data = image.build()
    data[start - 512 : start] = {"table": second, "zeros": bytes(512)}.get(middle, pattern(3, 512))
    return data


# A disk of 512 KiB, as {offset: bytes}. A partition begins at 4 KiB.
LANDMARK_DISK, PARTITION = 512 << 10, 4096


def ext_landmarks(start, **more):
    """128 blocks of 1 KiB a group. A superblock in each second group."""
    groups = (LANDMARK_DISK - start >> 10) // 128
    blocks = groups * 128
    marks = {
        start + (1 + 128 * group << 10): ext(group, blocks, 128, **more)
        for group in range(0, groups, 2)
    }
    bitmaps = {group: bytes([group, 255]) * 8 for group in range(groups)}
    places = {group: 128 * group + 20 for group in bitmaps}
    described = b"".join(ext_group(places[group], bitmaps[group]) for group in bitmaps)
    marks[start + 2048] = described
    return marks | {start + (places[group] << 10): bitmaps[group] for group in bitmaps}


def landmark_disks():
    sectors, first = LANDMARK_DISK // 512, PARTITION // 512
    table = {0: mbr((first, sectors - first))}
    xfs_groups = {
        PARTITION
        + group * (128 << 10): xfs(group, blocks=(LANDMARK_DISK - PARTITION) >> 12, group_blocks=32)
        for group in range(4)
    }
    boot = ntfs(first, sectors - first, (40, 100))
    ntfs_marks = {PARTITION: boot, LANDMARK_DISK - 512: boot}
    ntfs_marks |= {PARTITION + cluster * 4096: mft_record() for cluster in (40, 100)}
    entries = gpt_entry(first, sectors - 34) + bytes(384)
    gpt_table = {512: gpt(1, sectors - 1, sectors, 4), 1024: entries}
    gpt_table[LANDMARK_DISK - 512] = gpt(sectors - 1, 1, sectors, 4)
    yield "xfs", table | xfs_groups
    yield "ntfs", table | ntfs_marks
    yield "ext-checksums", table | ext_landmarks(PARTITION)
    yield "ext-whole-disk", ext_landmarks(0, checksums=False, sparse=False)
    yield "gpt-ext", gpt_table | ext_landmarks(PARTITION, sparse=False)


def landmark_image(marks):
    """Clusters are stored where there is something, and one more for each L2 table."""
    disk = bytearray(LANDMARK_DISK)
    for at, mark in marks.items():
        disk[at : at + len(mark)] = mark
    image = Image(LANDMARK_DISK, 9)
    for cluster in range(LANDMARK_DISK // 512):
        data = disk[cluster * 512 :][:512]
        if any(data) or cluster % 64 == 50:
            image.disk.normal(cluster, data if any(data) else pattern(cluster, 512))
    return image.build()


def in_order(tables=6):
    """As qemu-img convert writes: each L2 table right before its clusters."""
    size = tables * 64 * 512
    image = Image(size, 9)
    first = image.junk(b"".ljust(512, b"-")) + 512
    for index in range(tables):
        at = first + index * 9 * 512
        hosts = {entry: at + 512 * (1 + entry) for entry in range(8)}
        image.junk(struct.pack(">64Q", *(hosts.get(entry, 0) for entry in range(64))))
        for entry in range(8):
            start = mbr((8, size // 512 - 8)) if index == entry == 0 else None
            assert image.junk(start or pattern(index * 8 + entry, 512)) == hosts[entry]
    return image.build()


def abandoned_seeds():
    yield from image_seeds()
    for name, marks in landmark_disks():
        yield f"landmarks-{name}", landmark_image(marks)
    yield "in-order", in_order()
    for middle in ("table", "zeros", "noise"):
        yield f"left-behind-{middle}", left_behind(middle)


def image_seeds():
    for version in (2, 3):
        yield f"plain-v{version}", fill(Image(SIZE, 9, version=version)).build()
        yield f"snapshots-v{version}", with_snapshots(fill(Image(SIZE, 9, version=version))).build()
    yield "zstd", fill(Image(SIZE, 9, compression=1)).build()
    yield "clusters-of-4k", fill(Image(10 << 12, 12)).build()
    yield "two-l1-entries", fill(Image(100 * 512, 9), (0, 1, 2, 3, 64, 65, 99)).build()
    yield "far-end", fill(Image(1 << 32, 12), (0, 1, 2, 3, 5, 6, (1 << 20) - 1)).build()
    yield "bitmaps", with_bitmaps(fill(Image(SIZE, 9))).build()
    yield "feature-names", Image(
        SIZE,
        9,
        extensions=[
            (
                FEATURES,
                b"".join(
                    bytes([kind, bit]) + name.ljust(46, b"\0")
                    for kind, bit, name in (
                        (0, 0, b"dirty bit"),
                        (1, 0, b"lazy\x1b"),
                        (2, 63, b"x" * 46),
                    )
                ),
            ),
            (0x12345678, b"unknown"),
        ],
    ).build()
    yield "unknown-feature", Image(
        SIZE,
        9,
        incompatible=1 << 40,
        extensions=[(FEATURES, bytes([0, 40]) + b"strange\xe2\x80\xae".ljust(46, b"\0"))],
    ).build()
    yield "dirty-corrupt", fill(Image(SIZE, 9, incompatible=3, compatible=1)).build()
    for order in (0, 3, 6):
        yield f"refcount-order-{order}", fill(
            Image(SIZE, 9, refcount_order=order), (0, 1, 2)
        ).build()
    yield "overlay", overlay()
    yield "overlay-on-qcow2", overlay(backing_format=b"qcow2")
    yield "overlay-on-raw", overlay(backing_format=b"raw")
    yield "overlay-on-vmdk", overlay(backing_format=b"vmdk")
    yield "backing-name-hostile", Image(SIZE, 9, backing=b"../\x1b]0;x\x07" * 20).build()
    yield "backing-name-json", Image(
        SIZE, 9, backing=b'json:{"driver":"nbd"}', backing_format=b"nbd"
    ).build()
    yield "data-file", data_file().build()
    yield "legacy-aes", fill(Image(SIZE, 9, crypt_method=1)).build()
    yield "luks", with_luks(
        fill(Image(SIZE, 9)), cipher="aes", mode="cbc-essiv:sha256", digest="sha256"
    ).build()
    yield "extended-l2", extended()
    yield "extended-l2-zstd", extended(1)
    plain = fill(Image(SIZE, 9)).build()
    yield "truncated-in-cluster", plain[: len(plain) - 300]
    yield "truncated-in-tables", plain[: len(plain) // 2]
    yield "truncated-in-header", plain[:100]
    yield "long-compressed", long_disk("compressed").build()
    yield "long-zstd", long_disk("compressed", compression=1).build()
    yield "long-aes", long_disk("normal", crypt_method=1).build()
    yield "bad-entries", bad_entries().build()
    yield "long-header", Image(SIZE, 9, header_length=200).build()
    yield from version_1_seeds()


def version_1_seeds():
    image = Built(20 * 512 + 100, 9)
    for cluster in range(3):
        image.normal(cluster, pattern(cluster, 512))
        image.compressed(cluster + 5, squeezable(cluster, 512))
    yield "version-1", image.build()
    yield "version-1-truncated", image.build()[:-700]
    image.header = {"name_offset": 56, "name_length": 8}
    yield "version-1-overlay", image.build()
    image.header = {"crypt_method": 1}
    image.l1 |= 1
    yield "version-1-aes", image.build()


def data_file():
    image = Image(SIZE, 9, data_file=b"image.data")
    for cluster in (0, 3, 8):
        image.disk.normal(cluster, pattern(cluster, 512))
    return image


def long_disk(kind, **more):
    """Two MiB from three host clusters."""
    image = Image(2 << 20, 12, **more)
    for cluster in range(3):
        getattr(image.disk, kind)(cluster, squeezable(cluster, 4096))
    for cluster in range(3, 512):
        image.disk.force(cluster, *image.disk.entries[cluster * cluster % 3])
    return image


def bad_entries():
    image = Image(200 * 512, 9)
    image.disk.force(0, 1 << 40)  # after the end
    image.disk.force(1, 0x300 | 1 << 62 | 1 << 61)  # a stream of other bytes
    image.disk.compressed(2, squeezable(1, 512), sectors=0)
    image.disk.normal(70, pattern(2, 512))
    image.disk.force_l1(2, 1 << 50)
    image.disk.force_l1(3, 0x4321 << 8)
    return image


# ---- Tables ----------------------------------------------------------------------


def mapping_seeds():
    def ask(flags, bits, words, l1=3, guest=0, length=1 << 30, size=1 << 20, shift=4):
        head = bytes([flags, bits, l1, 0]) + struct.pack("<IBQI", size, shift, guest, length)
        return head + b"".join(struct.pack(">Q", word) for word in words)

    copied, compressed = 1 << 63, 1 << 62
    kinds = [
        copied | 0x200000,
        copied | 0x400000,
        1,
        0,
        compressed | 0x1234,
        0x600001,
        copied | 0x800000,
        copied | 0xA00000,
    ]
    for flags in range(8):
        for bits in (0, 3, 7, 12):
            yield f"kinds-{flags}-{bits}", ask(flags, bits, kinds)
            yield f"run-{flags}-{bits}", ask(
                flags, bits, [copied | i << (9 + bits) for i in range(1, 33)], guest=700
            )
    for bits in (0, 3, 56):  # version 1
        words = [0x200000, 0x400000, 0, 1 << 63 | 5 << 50 | 0x1234, 0x600001, 1 << 60, 1 << 62]
        yield f"version-1-{bits}", ask(8, bits, words)
        yield f"version-1-run-{bits}", ask(8, bits, [i << (9 + bits % 8) for i in range(1, 33)])
    bitmaps = [0xFFFFFFFF, 0xFFFFFFFF << 32, 0x5555AAAA0000FFFF, 0xFF, 1, 1 << 63]
    yield "subclusters", ask(
        1, 0, [word for bitmap in bitmaps for word in (copied | 0x4000, bitmap)], guest=5000
    )
    yield "subclusters-data-file", ask(
        3, 0, [word for bitmap in bitmaps for word in (copied, bitmap)]
    )
    yield "zero-at-the-start-of-a-data-file", ask(
        2, 0, [copied | 0x200000, 0, 0, 0, copied | 1, copied]
    )
    yield "truncated", ask(0, 0, kinds, size=300, shift=0, guest=40 << 9)
    yield "past-the-tables", ask(0, 0, kinds, l1=0, guest=70 << 9)


def snapshot_entry(
    id=b"1", name=b"name", extra=struct.pack(">QQ", 0, 1 << 20), l1=512, l1_size=32, state=0
):
    entry = (
        struct.pack(">QIHHIIQII", l1, l1_size, len(id), len(name), 1, 2, 3, state, len(extra))
        + extra
        + id
        + name
    )
    return entry.ljust(-(-len(entry) // 8) * 8, b"\0")


def tables_seeds():
    def image(snapshots, bitmaps, tail=b"", autoclear=1):
        table, directory = b"".join(snapshots), b"".join(bitmaps)
        return (
            bytes([len(snapshots), len(bitmaps)])
            + struct.pack("<HB", len(table), autoclear)
            + table
            + directory
            + tail
        )

    three = [
        snapshot_entry(),
        snapshot_entry(b"2", b"name", b""),
        snapshot_entry(b"1", b"\xff\x1b", bytes(30), state=9),
    ]
    yield "nothing", image([], [])
    yield "snapshots", image(three, [])
    yield "vm-state", image([snapshot_entry(extra=struct.pack(">QQQ", 1000, 1 << 19, 5))], [])
    yield "no-name", image(
        [snapshot_entry(b"", b""), snapshot_entry(b"long" * 40, b"name\0" * 9)], []
    )
    yield "cut", image(three, [])[:-20]
    yield "many", image([snapshot_entry(b"%d" % number, b"") for number in range(60)], [])
    yield "bitmaps", image(
        [], [bitmap_entry(b"one", 512, 1), bitmap_entry(b"two", 0, 1, 3, bits=10)]
    )
    yield "no-padding", image(
        [snapshot_entry(b"1", b"seven77")] * 2,
        [bitmap_entry(b"eight888", 512, 0), bitmap_entry(b"next", 512, 0)],
    )
    yield "bits", image(
        [snapshot_entry()],
        [bitmap_entry(b"bits", 2048, 1)],
        b"".join([bytes(456), struct.pack(">Q", 2560), bytes(504), bytes([0, 255, 3] * 170)]),
    )
    yield "ones", image([], [bitmap_entry(b"ones", 1536, 1)], bytes(480) + struct.pack(">Q", 1))
    yield "other-type", image(
        [], [bitmap_entry(b"x", 512, 1, kind=2, extra=b"12345678"), bitmap_entry(b"x", 512, 0)]
    )


# ---- The starts of disks and file systems ------------------------------------------


def volumes_seeds():
    def ask(head, start=PARTITION, rest=b"", repair=0):
        room = LANDMARK_DISK - start
        return struct.pack("<BQQ", repair, start, room) + head[:2048].ljust(2048, b"\0") + rest

    for name, marks in landmark_disks():
        for repair in (0, 1):
            disk = bytearray(LANDMARK_DISK)
            for at, mark in marks.items():
                disk[at : at + len(mark)] = mark
            start = 0 if "whole" in name else PARTITION
            sector = disk[start : start + 1024]
            bitmap = struct.pack("<I", 0) + disk[start + 2048 :][:64] + bytes([0, 255]) * 8
            yield f"{name}-{repair}", ask(disk[start:], start, sector + bitmap, repair)
            yield f"disk-{name}-{repair}", ask(disk, 0, disk[1024:1536], repair)


# ---- Streams ---------------------------------------------------------------------


def decompress_seeds():
    def choice(kind, bits, stream):
        return bytes([kind | (bits - 9) << 1]) + stream

    for bits in (9, 12, 16):
        data = squeezable(bits, 1 << bits)
        yield f"deflate-{bits}", choice(0, bits, deflate(data))
        yield f"stored-{bits}", choice(0, bits, deflate(pattern(1, 1 << bits), level=0)[:3000])
        yield f"fixed-{bits}", choice(0, bits, deflate(bytes(1 << bits), strategy=zlib.Z_FIXED))
        yield f"window-15-{bits}", choice(0, bits, deflate(data, window_bits=15) + b"behind")
        yield f"too-long-{bits}", choice(0, bits, deflate(data + data[:100]))
        yield f"too-short-{bits}", choice(0, bits, deflate(data[:-1]))
        yield f"zstd-{bits}", choice(1, bits, zstd(data))
        yield f"zstd-checksum-{bits}", choice(
            1, bits, zstd(data, checksum=1, content_size=0, level=19)
        )
    half = squeezable(3, 512)
    yield "two-frames", choice(
        1, 10, zstd(half) + zstd_skippable(b"skipped") + zstd(half) + b"behind"
    )
    yield "huge-window", choice(1, 9, zstd_huge_window(half))
    yield "frame-too-long", choice(1, 9, zstd(half + half))
    yield "run", choice(1, 16, zstd(bytes(65536)))


def luks_seeds():
    for name, variant in LUKS_VARIANTS.items():
        yield name, luks_header(**variant).ljust(592 + 1024, b"\x77")
    header = luks_header(**LUKS_VARIANTS["aes-128-ecb"])
    yield "wrong-digest", bytes(poke(bytearray(header), 112, "I", 1))
    yield "many-iterations", bytes(poke(bytearray(header), 208 + 4, "I", 1 << 31))
    yield "material-in-the-header", bytes(poke(bytearray(header), 208 + 40, "I", 1))
    yield "version-2", bytes(poke(bytearray(header), 6, "H", 2))


def reference_seeds():
    names = (
        "base",
        "sub/base",
        "./base",
        "sub//base",
        "sub/../base",
        "../secret",
        "/etc/hostname",
        "link",
        "here/base",
        "sub/up/secret",
        "fifo",
        "sub",
        "sub/",
        "",
        "found",
        "dir/found",
        "C:\\vm\\found",
        "D:/vm/link",
        "nbd://host/found",
        "json:{}",
        "file:base",
        "image.qcow2",
        "base/",
        "base/x",
        "x" * 300,
        "none\x1b\u202e",
        ".",
        "..",
        "/",
        "//",
    )
    for number, name in enumerate(names):
        for flags in (0, 5):
            yield f"name-{number:02}-{flags}", bytes([flags]) + name.encode()
    yield "distrusted", b"\2base"


def selector_seeds():
    start, mac = "TSK-QCOW2-SELECTOR 1\n", "MAC " + "0123456789abcdef" * 4
    for number, text in enumerate(
        (
            start + "/mnt/a.qcow2,backing=/mnt/b,,c\n" + mac + "\n",
            start + "d\n" + mac,
            start + "d\r\n\r\n \t",
            start,
            start + "\nd",
            start + "d\nd\n",
            start + "d\n\n" + mac,
            start + "d\n" + mac + "0",
            start + "d\0\n",
            start + "d\re\n",
            start.replace("1", "2\x1b") + "d\n",
            start[:-1],
            "",
            "QFI\xfb",
            start.replace("\n", "\r\n") + "d\r\n" + mac + "\r\n",
        )
    ):
        yield f"text-{number:02}", text.encode("latin-1")
    for number, name in enumerate(
        (
            "./image.qcow2",
            "image.qcow2@1",
            "image.qcow2@id=1,errors=zero",
            "image.qcow2,backing=none",
            "image.qcow2,backing=base",
            "image.qcow2,backing=../secret",
            "image.qcow2,backing=sub/up/secret",
            "image.qcow2,search=sub",
            "image.qcow2,search=../search",
            "../secret",
            "link",
            "here/image.qcow2",
            "selector",
            "fifo",
            "/etc/hostname",
            "image.qcow2,data-file=base",
            "image.qcow2,key-file=base",
            "image.qcow2@1,vmstate",
            "image.qcow2@2",
            "base",
            "nothing",
            "image.qcow2,backing=link",
        )
    ):
        yield f"name-{number:02}", f"{start}{name}\n".encode()


def name_seeds():
    for number, text in enumerate(
        (
            "",
            "@before-update",
            "@2",
            "@id=2",
            "@name=2",
            "@index=0",
            "@before,,after,vmstate",
            "@",
            "@id=",
            ",backing=/mnt/base.qcow2",
            ",backing=a,backing=b,backing=none",
            ",search=/mnt/bases,search=x",
            ",data-file=/mnt/disk.data",
            ",errors=zero",
            ",key-file=/root/passphrase,key-file=y",
            "@s,vmstate,errors=zero",
            ",backing=a,,b",
            ",unknown",
            ",unknown=\x1b\xff",
            ",vmstate",
            ",errors=one",
            ",vmstate=1",
            ",backing=",
            ",",
            ",,,",
        )
    ):
        yield f"name-{number:02}", text.encode("latin-1")


SEEDS = {
    "image": image_seeds,
    "check": image_seeds,
    "residue": image_seeds,
    "labels": image_seeds,
    "abandoned": abandoned_seeds,
    "volumes": volumes_seeds,
    "order": image_seeds,
    "mapping": mapping_seeds,
    "decompress": decompress_seeds,
    "luks": luks_seeds,
    "tables": tables_seeds,
    "reference": reference_seeds,
    "selector": selector_seeds,
    "name": name_seeds,
}


def seeds(target):
    for name, data in SEEDS[target]():
        yield name, bytes(data)
