# SPDX-License-Identifier: MIT
"""The format: images built byte by byte, one feature or oddity each, read in every way and compared
with the builder's model, and with QEMU where QEMU is an oracle (ordinary images of whole sectors
that are not truncated).
"""
import os
import struct
import subprocess
import zlib

import pytest

from lib import builder
from lib.builder import (
    COMPRESSED,
    COPIED,
    ZERO,
    Image,
    RawModel,
    Unreadable,
    deflate,
    pattern,
    poke,
    squeezable,
    zstd,
    zstd_huge_window,
    zstd_skippable,
)
from lib.core import AUTOCLEAR, COMPATIBLE, INCOMPATIBLE, QcowError
from lib.core import Image as Opened

ALL_CLUSTER_BITS = range(9, 22)
SOME_CLUSTER_BITS = (9, 12, 16, 21)
EXTENDED_CLUSTER_BITS = (14, 16, 21)
WHOLE_READ_MAX = 48 << 20

pytestmark = pytest.mark.usefixtures("core")


# ---- Comparing -------------------------------------------------------------------


def assert_same(got, want, what):
    """As `assert got == want`, without printing megabytes."""
    if got != want:
        at = next(
            (i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want))
        )
        pytest.fail(
            f"{what}: {len(got)} bytes, {len(want)} expected, byte {at} differs: "
            f"{got[at:at + 8].hex()}, {want[at:at + 8].hex()} expected"
        )


def compare_read(view, model, offset, length):
    """One read: the model's bytes, or an error that lies in the model's unreadable range."""
    try:
        want = model.read(offset, length)
    except Unreadable:
        with pytest.raises(QcowError) as caught:
            view.read(offset, length)
        error = caught.value
        assert error.code in ("CORRUPT", "TRUNCATED"), error
        assert offset <= error.guest_offset < offset + length, error
        assert model.place(error.guest_offset).kind == "invalid", error
        return
    assert_same(view.read(offset, length), want, f"{length} bytes at guest offset {offset}")


def interesting_offsets(model, rng):
    """Where pieces begin and end, in the model and its backing file; not all if there are very
    many."""
    offsets = {0, model.size}
    while model is not None:
        offsets.add(model.size)
        for index in getattr(model, "pieces", ()):
            offsets |= {index * model.granule, (index + 1) * model.granule}
        model = getattr(model, "backing", None)
    return rng.sample(sorted(offsets), min(len(offsets), 80))


def check_reads(view, model, rng):
    """The whole, around every boundary, and anywhere."""
    assert view.size == model.size
    if 0 < model.size <= WHOLE_READ_MAX:
        compare_read(view, model, 0, model.size)
    offsets = interesting_offsets(model, rng)
    for offset in offsets:
        reach = rng.choice((1, 3, 512, 700))
        start = max(0, min(offset - reach, model.size))
        end = max(start, min(offset + reach, model.size))
        compare_read(view, model, start, end - start)
    for _ in range(40 if model.size else 0):
        start = (
            rng.choice(offsets) + rng.randint(-70000, 70000)
            if rng.random() < 0.5
            else rng.randrange(model.size)
        )
        start = max(0, min(start, model.size - 1))
        compare_read(view, model, start, min(model.size - start, int(2 ** rng.uniform(0, 18))))


def check_map(view, model):
    """The extents cover the view once (map_all() sees to that), and each byte sampled is what the
    model says."""
    for extent in view.map_all():
        start, end = extent.guest_offset, extent.guest_offset + extent.length
        step = model.finest
        inside = list(range((start // step + 1) * step, end, step))
        for offset in [start, end - 1] + inside[:500] + inside[-500:]:
            place = model.place(offset)
            assert extent.kind == place.kind, (extent, offset, place)
            if place.layer is not None:
                assert extent.layer == place.layer, (extent, offset, place)
            moved = offset - start if place.kind in ("normal", "zero allocated") else 0
            if place.host_offset is None:
                assert extent.host_offset is None, (extent, offset, place)
            else:
                assert extent.host_offset + moved == place.host_offset, (extent, offset, place)
            assert extent.host_bytes == place.host_bytes, (extent, offset, place)


def check_view(view, model, rng):
    check_reads(view, model, rng)
    check_map(view, model)


def qemu_agrees(path, model):
    """qemu-img finds nothing wrong, and reads what the model says."""
    checked = subprocess.run(
        ["qemu-img", "check", path], capture_output=True, text=True, timeout=60, cwd=path.parent
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    if model.size <= WHOLE_READ_MAX:
        assert_same(
            qemu_content(path), model.read(0, model.size // 512 * 512), "the model against QEMU"
        )


def qemu_content(path):
    """In the image's directory: QEMU looks for a data file from where it runs."""
    raw = path.with_suffix(".oracle")
    subprocess.run(
        ["qemu-img", "convert", "-O", "raw", path, raw], check=True, timeout=60, cwd=path.parent
    )
    return raw.read_bytes()


def check_image(image, tmp_path, rng, oracle=True, **options):
    """Write the image, and check its active disk and every snapshot. Leaves image.qcow2 in
    tmp_path."""
    path = image.write(tmp_path / "image.qcow2")
    if oracle:
        qemu_agrees(path, image.disk.model)
    with Opened(path, **options) as opened:
        check_view(opened.view(), image.disk.model, rng)
        assert len(opened.snapshots) == len(image.snapshots)
        for index, (disk, _, _) in enumerate(image.snapshots):
            check_view(opened.view(index), disk.model, rng)
        return opened.warnings


def opened_bytes(data, **options):
    return Opened.from_storage(data, **options)


def check_bytes(data, model, rng, **options):
    """Check the active disk of an image in memory. Returns its warnings."""
    with opened_bytes(data, **options) as opened:
        check_view(opened.view(), model, rng)
        return opened.warnings


def refused(data, codes, *words, length=512, **options):
    """Opening the image, its active disk, or reading its start fails, with one of `codes`
    (separated by blanks)."""
    with pytest.raises(QcowError) as caught:
        with opened_bytes(data, **options) as opened:
            view = opened.view()
            view.read(0, min(length, view.size))
    return expect_error(caught.value, codes, *words)


def expect_error(error, codes, *words):
    assert error.code in codes.split(), error
    for word in words:
        assert word in error.message, error
    return error


def small_image(**options):
    """Four clusters of 4 KiB, one of each common kind."""
    image = Image(**{"size": 16384, "cluster_bits": 12, **options})
    image.disk.normal(0, pattern(1, 4096))
    image.disk.compressed(2, squeezable(2, 4096))
    if image.version >= 3:
        image.disk.zero(3)
    return image


def mixed_image(cluster_bits, **options):
    """Every ordinary kind of cluster, in two L2 tables, an L1 hole, and an odd end."""
    cluster = 1 << cluster_bits
    reach = cluster // (16 if options.get("extended_l2") else 8)  # clusters of one L2 table
    image = Image(size=3 * reach * cluster - cluster + 512, cluster_bits=cluster_bits, **options)
    disk = image.disk
    disk.normal(0, pattern(1, cluster))
    disk.normal(1, pattern(2, cluster))
    disk.compressed(2, squeezable(3, cluster))
    disk.compressed(3, squeezable(4, cluster))
    disk.normal(5, pattern(5, cluster))
    disk.compressed(reach - 1, squeezable(6, cluster))
    disk.normal(reach, pattern(7, cluster))
    disk.normal(reach + 1, pattern(8, cluster))
    disk.normal(3 * reach - 1, pattern(9, cluster))
    if image.version >= 3:
        disk.zero(6)
        disk.zero_allocated(7, pattern(10, cluster))
        disk.zero_allocated(8, pattern(11, cluster))
    return image


# ---- All kinds, all sizes --------------------------------------------------------


@pytest.mark.parametrize("version", (2, 3))
@pytest.mark.parametrize("cluster_bits", ALL_CLUSTER_BITS)
def test_every_cluster_size(version, cluster_bits, tmp_path, rng):
    assert check_image(mixed_image(cluster_bits, version=version), tmp_path, rng) == []


@pytest.mark.parametrize("cluster_bits", SOME_CLUSTER_BITS)
def test_every_cluster_size_with_zstd(cluster_bits, tmp_path, rng):
    assert check_image(mixed_image(cluster_bits, compression=1), tmp_path, rng) == []


@pytest.mark.parametrize("compression", (0, 1))
@pytest.mark.parametrize("cluster_bits", range(14, 22))
def test_every_cluster_size_with_extended_l2(cluster_bits, compression, tmp_path, rng):
    image = mixed_image(cluster_bits, extended_l2=True, compression=compression)
    image.disk.subclusters(9, "DZ.D" * 8, pattern(12, 1 << cluster_bits))
    image.disk.subclusters(10, "..ZZ" * 8, b"", host=False)
    assert check_image(image, tmp_path, rng) == []


@pytest.mark.parametrize("order", range(1, 7))
def test_every_refcount_width(order, tmp_path, rng):
    assert check_image(small_image(refcount_order=order), tmp_path, rng) == []


def test_one_bit_refcounts(tmp_path, rng):
    image = Image(size=16384, cluster_bits=12, refcount_order=0)
    image.disk.normal(2, pattern(1, 4096))
    assert check_image(image, tmp_path, rng) == []


# ---- Header ----------------------------------------------------------------------


@pytest.mark.parametrize("cluster_bits", (9, 12))
@pytest.mark.parametrize("length", (104, 105, 111, 112, 120, 200, 400))
def test_header_length(length, cluster_bits, rng):
    image = Image(
        size=16384,
        cluster_bits=cluster_bits,
        header_length=length,
        header_tail=b"\xff" * 8,
        extensions=[(0x1234, b"kept")],
    )
    image.disk.normal(1, pattern(1, image.cluster_size))
    with opened_bytes(image.build()) as opened:
        assert opened.header.header_length == length
        assert [(e.type, e.host_offset, e.data) for e in opened.extensions()] == [
            (0x1234, length + 8, b"kept")
        ]
        check_view(opened.view(), image.disk.model, rng)


def test_header_length_of_a_whole_cluster(rng):
    image = Image(size=4096, cluster_bits=9, header_length=512)
    image.disk.normal(1, pattern(1, 512))
    assert check_bytes(image.build(), image.disk.model, rng) == []


@pytest.mark.parametrize("length", (0, 72, 103, 513, 0xFFFFFFFF))
def test_header_length_out_of_range(length):
    data = Image(size=4096, cluster_bits=9).build()
    refused(poke(data, 100, "I", length), "CORRUPT", "header_length", str(length))


def test_version_2_ends_at_72_bytes(tmp_path, rng):
    """What stands at a version 3 header's feature words are header extensions here."""
    image = small_image(version=2, extensions=[(0xFFFFFFFF, b"\xff" * 40)])
    assert check_image(image, tmp_path, rng) == []
    with Opened(tmp_path / "image.qcow2") as opened:
        header = opened.header
        assert (header.version, header.header_length, header.refcount_order) == (2, 72, 4)
        assert (
            header.incompatible_features,
            header.compatible_features,
            header.autoclear_features,
        ) == (0, 0, 0)
        assert [(e.type, e.data) for e in opened.extensions()] == [(0xFFFFFFFF, b"\xff" * 40)]


def test_header_fields_as_written():
    image = small_image(compatible=1 | 1 << 40, autoclear=1 << 41, incompatible=1, refcount_order=5)
    data = image.build()
    with opened_bytes(data) as opened:
        header = opened.header
        assert (header.size, header.cluster_bits, header.crypt_method) == (16384, 12, 0)
        assert (header.l1_offset, header.l1_size) == (image.disk.l1_offset, 1)
        assert (header.refcount_table_offset, header.refcount_table_clusters) == (
            image.refcount_table,
            1,
        )
        assert (header.refcount_order, header.snapshot_count, header.snapshots_offset) == (5, 0, 0)
        assert header.incompatible_features == 1
        assert (header.compatible_features, header.autoclear_features) == (1 | 1 << 40, 1 << 41)
        assert (header.backing_file, header.backing_format, header.data_file) == (None, None, None)
        layer = opened.layer(0)
        assert (layer.is_raw, layer.file_size, layer.size, layer.path) == (
            0,
            len(data),
            16384,
            None,
        )


@pytest.mark.parametrize("cluster_bits", SOME_CLUSTER_BITS)
@pytest.mark.parametrize("size", (1, 511, 513, 65335))
def test_size_that_is_no_multiple_of_512(size, cluster_bits, tmp_path, rng):
    """QEMU floors it to a multiple of 512; we give the whole."""
    image = Image(size=size, cluster_bits=cluster_bits)
    image.disk.normal((size - 1) >> cluster_bits, pattern(1, image.cluster_size))
    check_image(image, tmp_path, rng)
    with Opened(tmp_path / "image.qcow2") as opened:
        assert opened.view().size == opened.header.size == size
        assert opened.view().read(size - 1, 1) == image.disk.model.read(size - 1, 1)


@pytest.mark.parametrize("version", (2, 3))
def test_size_zero(version, tmp_path, rng):
    check_image(Image(size=0, version=version), tmp_path, rng)
    with Opened(tmp_path / "image.qcow2") as opened:
        view = opened.view()
        assert (view.size, view.read(0, 0), view.map_all()) == (0, b"", [])
        with pytest.raises(QcowError) as caught:
            view.read(0, 1)
        assert caught.value.code == "ARGUMENT"


@pytest.mark.parametrize("cluster_bits", (0, 8, 22, 31, 32, 64, 0xFFFFFFFF))
def test_cluster_bits_out_of_range(cluster_bits):
    refused(
        poke(Image(size=4096).build(), 20, "I", cluster_bits), "CORRUPT UNSUPPORTED", "cluster_bits"
    )


@pytest.mark.parametrize(
    "data", (b"", b"QFI", b"QFI\xfb", b"QFI\xfb\0\0\0", bytes(4096), b"QFI\xfc" + bytes(4092))
)
def test_not_qcow2(data):
    refused(data, "NOT_QCOW2")


@pytest.mark.parametrize(
    "version, code",
    ((0, "NOT_QCOW2"), (1, "NOT_QCOW2"), (4, "UNSUPPORTED"), (0xFFFFFFFF, "UNSUPPORTED")),
)
def test_version_out_of_range(version, code):
    refused(poke(Image(size=4096).build(), 4, "I", version), code, str(version))


@pytest.mark.parametrize("bit, word", ((0, "dirty"), (1, "corrupt")))
def test_dirty_and_corrupt_are_read_with_a_warning(bit, word, rng):
    image = small_image(incompatible=1 << bit)
    assert word in " ".join(check_bytes(image.build(), image.disk.model, rng)).lower()


@pytest.mark.parametrize("bit", range(5, 64))
def test_unknown_incompatible_bit(bit):
    error = refused(small_image(incompatible=1 << bit).build(), "UNSUPPORTED", str(bit))
    assert error.host_offset == 72


def test_unknown_incompatible_bits_are_named_from_the_table():
    table = (
        struct.pack("BB46s", 0, 5, b"time travel")
        + struct.pack("BB46s", 0, 63, b"x\x1b[2J" * 10)
        + struct.pack("BB46s", 1, 5, b"wrong type")
    )
    image = small_image(incompatible=1 << 5 | 1 << 63, extensions=[(builder.FEATURE_NAMES, table)])
    error = refused(image.build(), "UNSUPPORTED", "time travel", "5", "63", "\\x1b")
    assert "wrong type" not in error.message and "\x1b" not in error.message


@pytest.mark.parametrize("field", ("compatible", "autoclear"))
def test_unknown_harmless_bits_are_ignored(field, rng):
    image = small_image(**{field: 0xFFFFFFFFFFFFFFFC})
    check_bytes(image.build(), image.disk.model, rng)


def test_feature_names():
    long_name = b"n" * 46  # fills its field: no NUL
    table = (
        struct.pack("BB46s", 0, 5, b"five")
        + struct.pack("BB46s", 1, 0, b"very lazy")
        + struct.pack("BB46s", 2, 63, long_name)
        + b"\0\x07half an entry"
    )
    image = small_image(extensions=[(builder.FEATURE_NAMES, table)])
    with opened_bytes(image.build()) as opened:
        assert opened.feature_name(INCOMPATIBLE, 5) == b"five"
        assert opened.feature_name(COMPATIBLE, 0) == b"very lazy"
        assert opened.feature_name(AUTOCLEAR, 63) == long_name
        assert b"dirty" in opened.feature_name(INCOMPATIBLE, 0), "the format's own name"
        assert opened.feature_name(INCOMPATIBLE, 7) is None
        assert opened.feature_name(COMPATIBLE, 5) is None


@pytest.mark.parametrize(
    "length, kind, bit, codes",
    (
        (112, 0, True, "CORRUPT"),
        (112, 1, False, "CORRUPT"),
        (104, 0, True, "CORRUPT"),
        (112, 2, True, "UNSUPPORTED CORRUPT"),
        (112, 255, True, "UNSUPPORTED CORRUPT"),
        (112, 2, False, "UNSUPPORTED CORRUPT"),
    ),
)
def test_compression_type_mismatch(length, kind, bit, codes):
    image = Image(size=4096, header_length=length, incompatible=8 if bit else 0)
    data = image.build()
    if length > 104:
        data[104] = kind
    refused(data, codes, "compression type")


def test_no_compression_type_in_a_header_of_104_bytes(tmp_path, rng):
    """Byte 104 is then the first of an extension."""
    image = small_image(header_length=104, extensions=[(0x01020304, b"x")])
    assert check_image(image, tmp_path, rng) == []


def test_extended_l2_needs_16_kib_clusters():
    refused(
        Image(size=4096, cluster_bits=13, incompatible=16).build(),
        "CORRUPT UNSUPPORTED",
        "cluster_bits",
        "14",
    )


def test_warnings_of_every_layer_name_their_file(tmp_path):
    Image(size=4096, cluster_bits=9, incompatible=2).write(tmp_path / "base.qcow2")
    image = Image(
        size=4096, cluster_bits=9, incompatible=1, backing=b"base.qcow2", backing_format=b"qcow2"
    )
    with Opened(image.write(tmp_path / "top.qcow2")) as opened:
        dirty, corrupt = opened.warnings
    assert "dirty" in dirty and "top.qcow2" in dirty
    assert "corrupt" in corrupt and "base.qcow2" in corrupt


# ---- Header extensions -----------------------------------------------------------


@pytest.mark.parametrize("version", (2, 3))
def test_extensions_are_kept_in_order(version, tmp_path, rng):
    extensions = [
        (0x11111111, b""),
        (0xFFFFFFFE, b"a"),
        (0x11111111, b"seven b"),
        (7, bytes(range(256))),
        (8, b"12345678"),
    ]
    image = small_image(version=version, extensions=extensions)
    assert check_image(image, tmp_path, rng) == []
    with Opened(tmp_path / "image.qcow2") as opened:
        found = opened.extensions()
    data = (tmp_path / "image.qcow2").read_bytes()
    assert [(e.type, e.data) for e in found] == extensions
    assert all(data[e.host_offset : e.host_offset + e.length] == e.data for e in found)


def test_extensions_end_at_type_0():
    data = small_image(extensions=[(5, b"12345678"), (0, b""), (6, b"after the end")]).build()
    with opened_bytes(data) as opened:
        assert [e.type for e in opened.extensions()] == [5]


def test_extensions_end_at_the_backing_file_name(tmp_path, rng):
    """There is no end marker: the name, which looks like an extension, starts where the list
    ends."""
    name = b"\0\0\0\x09\0\0\0\x01name"
    image = small_image(extensions=[(5, b"12345678")], backing=b"x" * len(name))
    data = image.build()
    at = 112 + 16
    data[at : at + 8 + len(name)] = name + bytes(8)
    poke(data, 8, "Q", at)
    with opened_bytes(data, no_chain=True) as opened:
        assert [e.type for e in opened.extensions()] == [5]
        assert opened.header.backing_file == name


def test_extensions_end_at_the_end_of_the_cluster(rng):
    fill = 512 - 112 - 8
    image = Image(size=4096, cluster_bits=9, extensions=[(5, bytes(fill))])
    image.disk.normal(0, pattern(1, 512))
    assert check_bytes(image.build(), image.disk.model, rng) == []


@pytest.mark.parametrize("length", (512 - 112 - 8 + 1, 512, 0x7FFFFFFF, 0xFFFFFFF8, 0xFFFFFFFF))
def test_extension_leaves_the_cluster(length):
    data = Image(size=4096, cluster_bits=9, extensions=[(5, b"")]).build()
    error = refused(poke(data, 116, "I", length), "CORRUPT", "extension", str(length))
    assert error.host_offset in (112, 116, 120)


def test_extension_leaves_its_area_before_the_backing_file_name():
    data = Image(size=4096, cluster_bits=9, extensions=[(5, b"12345678")], backing=b"base").build()
    assert struct.unpack_from(">Q", data, 8)[0] == 136
    with opened_bytes(data, no_chain=True) as opened:
        assert [e.length for e in opened.extensions()] == [8]
    refused(poke(data, 116, "I", 17), "CORRUPT", "extension")


# ---- L1 and L2 -------------------------------------------------------------------


@pytest.mark.parametrize("cluster_bits", SOME_CLUSTER_BITS)
def test_copied_bit_means_nothing(cluster_bits, rng):
    image = Image(size=6 << cluster_bits, cluster_bits=cluster_bits)
    data = [pattern(seed, image.cluster_size) for seed in range(2)]
    for cluster, copied in enumerate((0, COPIED)):
        host = image.allocate(data[cluster])
        image.disk.force(
            cluster, host | copied, kind="normal", data=data[cluster], host_offset=host
        )
    image.disk.force(2, COPIED, kind=None)
    image.disk.force(3, COPIED | ZERO, kind="zero")
    out = image.build()
    check_bytes(out, image.disk.model, rng)
    l1_word = struct.unpack_from(">Q", out, image.disk.l1_offset)[0]
    check_bytes(poke(out, image.disk.l1_offset, "Q", l1_word ^ COPIED), image.disk.model, rng)


@pytest.mark.parametrize("bit", (1, 5, 8, 56, 61))
def test_reserved_bits_mean_nothing(bit, tmp_path, rng):
    image = Image(size=1 << 18)
    host = image.allocate(pattern(1, 65536))
    image.disk.force(
        0, COPIED | host | 1 << bit, kind="normal", data=pattern(1, 65536), host_offset=host
    )
    image.disk.force(1, 1 << bit, kind=None)
    image.disk.force(2, ZERO | 1 << bit, kind="zero")
    out = image.build()
    for more in (1 << bit, 1 << 62, 1):  # in an L1 entry, these mean nothing either
        word = image.disk.l2_offsets[0] | COPIED | more
        poke(out, image.disk.l1_offset, "Q", word)
        check_bytes(out, image.disk.model, rng)
    path = image.write(
        tmp_path / "reserved.qcow2",
        poke(out, image.disk.l1_offset, "Q", image.disk.l2_offsets[0] | COPIED),
    )
    assert_same(qemu_content(path), image.disk.model.read(0, 1 << 18), "the model against QEMU")


def test_zero_flag_in_version_2_is_an_error(rng):
    image = Image(size=16384, cluster_bits=12, version=2)
    image.disk.normal(0, pattern(1, 4096))
    image.disk.set(1, ZERO)
    image.disk.set(2, image.allocate(pattern(2, 4096)) | ZERO)
    data = image.build()
    check_bytes(data, image.disk.model, rng)
    with opened_bytes(data) as opened, pytest.raises(QcowError) as caught:
        opened.view().read(4096, 1)
    error = expect_error(caught.value, "CORRUPT", "zero", "version 2")
    assert (error.guest_offset, error.host_offset) == (4096, image.disk.entry_offset(1))


@pytest.mark.parametrize("flag", (0, ZERO))
@pytest.mark.parametrize("cluster_bits", (10, 16, 21))
def test_unaligned_cluster(cluster_bits, flag, rng):
    """Only its own range is lost."""
    image = Image(size=5 << cluster_bits, cluster_bits=cluster_bits)
    for cluster in (0, 1, 3):
        image.disk.normal(cluster, pattern(cluster, image.cluster_size))
    host = image.allocate(bytes(2 * image.cluster_size))
    image.disk.set(2, host + 512 | flag)
    data = image.build()
    check_bytes(data, image.disk.model, rng)
    with opened_bytes(data) as opened, pytest.raises(QcowError) as caught:
        opened.view().read(image.cluster_size, 2 * image.cluster_size)
    error = expect_error(caught.value, "CORRUPT", "cluster")
    assert (error.guest_offset, error.host_offset) == (
        2 * image.cluster_size,
        image.disk.entry_offset(2),
    )


def test_unaligned_l2_table(rng):
    image = Image(size=3 * 512 * 4096, cluster_bits=12)
    for cluster in (0, 512, 1024):
        image.disk.normal(cluster, pattern(cluster, 4096))
    image.disk.force_l1(1, image.allocate(bytes(8192)) + 512)
    data = image.build()
    with opened_bytes(data) as opened:
        view = opened.view()
        assert_same(view.read(0, 512 * 4096), image.disk.model.read(0, 512 * 4096), "before")
        assert_same(view.read(1024 * 4096, 4096), image.disk.model.read(1024 * 4096, 4096), "after")
        for start, length in (
            (512 * 4096, 1),
            (1024 * 4096 - 1, 1),
            (512 * 4096 - 1, 2),
            (0, view.size),
        ):
            with pytest.raises(QcowError) as caught:
                view.read(start, length)
            error = expect_error(caught.value, "CORRUPT", "L2")
            assert error.host_offset == image.disk.l1_offset + 8
            assert error.guest_offset == max(start, 512 * 4096)


def test_cluster_past_the_end_of_the_file(rng):
    image = Image(size=16384, cluster_bits=12)
    image.disk.normal(0, pattern(1, 4096))
    image.disk.force(1, COPIED | 1 << 40, kind="invalid")
    image.disk.force(2, COPIED | builder.OFFSET_MASK & ~4095, kind="invalid")
    with opened_bytes(image.build()) as opened:
        view = opened.view()
        check_reads(view, image.disk.model, rng)
        for guest_offset in (4096, 8192):
            with pytest.raises(QcowError) as caught:
                view.read(guest_offset, 10)
            assert expect_error(caught.value, "TRUNCATED").guest_offset == guest_offset


def test_l2_table_past_the_end_of_the_file():
    image = Image(size=2 * 512 * 4096, cluster_bits=12)
    image.disk.normal(0, pattern(1, 4096))
    image.disk.force_l1(1, COPIED | 1 << 50)
    with opened_bytes(image.build()) as opened:
        view = opened.view()
        assert_same(view.read(0, 4096), pattern(1, 4096), "the good half")
        with pytest.raises(QcowError) as caught:
            view.read(512 * 4096, 1)
        assert expect_error(caught.value, "TRUNCATED").guest_offset == 512 * 4096


def test_l2_table_that_is_the_header(rng):
    """Tables may lie anywhere: whatever the words say, no crash, no endless loop."""
    image = Image(size=512 * 4096, cluster_bits=12)
    image.disk.force_l1(0, 1 << 63)
    data = image.build()
    poke(data, image.disk.l1_offset, "Q", image.disk.l1_offset)
    with opened_bytes(data) as opened:
        view = opened.view()
        view.map_all()
        assert view.read(4096, 4096) == bytes(4096)
        assert_same(
            view.read(0, 4096),
            data[image.disk.l1_offset :][:4096],
            "the table is the first cluster, too",
        )


@pytest.mark.parametrize("cluster_bits", SOME_CLUSTER_BITS)
def test_l1_table_larger_than_needed(cluster_bits, tmp_path, rng):
    image = Image(size=3 << cluster_bits, cluster_bits=cluster_bits)
    image.disk.normal(1, pattern(1, image.cluster_size))
    image.disk.l1_entries = (image.cluster_size // 8) + 3
    check_image(image, tmp_path, rng)


@pytest.mark.parametrize("cluster_bits", (9, 16, 21))
def test_large_host_offsets(cluster_bits, tmp_path, rng):
    """Data, zero clusters and a compressed stream far beyond 4 GiB, in a sparse file."""
    image = Image(size=4 << cluster_bits, cluster_bits=cluster_bits)
    image.disk.normal(0, pattern(1, image.cluster_size), at=5 << 32)
    image.disk.compressed(1, squeezable(2, image.cluster_size), at=(6 << 32) + 12345)
    image.disk.normal(3, pattern(3, image.cluster_size), at=7 << 32)
    check_image(image, tmp_path, rng, oracle=False)
    assert_same(
        qemu_content(tmp_path / "image.qcow2"),
        image.disk.model.read(0, image.disk.size),
        "the model against QEMU",
    )


def test_zero_clusters_hide_the_backing_file(tmp_path, rng):
    base = pattern(20, 8 * 4096)
    (tmp_path / "base.raw").write_bytes(base)
    image = Image(
        size=8 * 4096,
        cluster_bits=12,
        backing=b"base.raw",
        backing_format=b"raw",
        backing_model=RawModel(base),
    )
    image.disk.zero(1)
    image.disk.zero_allocated(2, pattern(1, 4096))
    image.disk.normal(4, pattern(2, 4096))
    check_image(image, tmp_path, rng)


# ---- Extended L2 entries ---------------------------------------------------------


def backed_extended_image(tmp_path, cluster_bits, clusters=6):
    base = pattern(20, clusters << cluster_bits)
    (tmp_path / "base.raw").write_bytes(base)
    return Image(
        size=clusters << cluster_bits,
        cluster_bits=cluster_bits,
        extended_l2=True,
        backing=b"base.raw",
        backing_format=b"raw",
        backing_model=RawModel(base),
    )


@pytest.mark.parametrize("cluster_bits", EXTENDED_CLUSTER_BITS)
def test_subclusters(cluster_bits, tmp_path, rng):
    """Neither bit set inside an allocated cluster reads the backing file."""
    image = backed_extended_image(tmp_path, cluster_bits)
    kinds = ["".join(rng.choice("DZ.") for _ in range(32)) for _ in range(3)]
    for cluster, letters in enumerate(kinds):
        image.disk.subclusters(cluster, letters, pattern(cluster, image.cluster_size))
    image.disk.subclusters(3, "Z." * 16, b"", host=False)
    image.disk.subclusters(4, "." * 31 + "D", pattern(4, image.cluster_size))
    check_image(image, tmp_path, rng)


def test_subclusters_run_across_clusters(tmp_path, rng):
    image = backed_extended_image(tmp_path, 14)
    image.disk.subclusters(0, "." * 16 + "D" * 16, pattern(1, 16384))
    image.disk.subclusters(1, "D" * 16 + "Z" * 16, pattern(2, 16384))
    image.disk.subclusters(2, "Z" * 16 + "." * 16, pattern(3, 16384), host=True)
    image.disk.subclusters(3, "." * 16 + "Z" * 16, b"", host=False)
    check_image(image, tmp_path, rng)


def test_compressed_entries_ignore_the_bitmap(tmp_path, rng):
    image = backed_extended_image(tmp_path, 14)
    for cluster, bitmap in enumerate(
        (0, 0xFFFFFFFF, 0xFFFFFFFF << 32, (1 << 64) - 1, 0x5555AAAA5555AAAA)
    ):
        image.disk.compressed(cluster, squeezable(cluster, 16384), bitmap=bitmap)
    check_image(image, tmp_path, rng, oracle=False)


def test_extended_entries_have_no_zero_flag(tmp_path, rng):
    """Bit 0 is reserved there, and reserved bits mean nothing."""
    image = backed_extended_image(tmp_path, 14)
    host = image.allocate(pattern(1, 16384))
    image.disk.force(
        0, COPIED | host | ZERO, 0xFFFFFFFF, kind="normal", data=pattern(1, 16384), host_offset=host
    )
    image.disk.force(1, ZERO, 0, kind=None)
    check_image(image, tmp_path, rng, oracle=False)


@pytest.mark.parametrize("host", (False, True))
@pytest.mark.parametrize(
    "bitmap, bad",
    (
        (1 << 32 | 1, [0]),
        (1 << 63 | 1 << 31, [31]),
        ((1 << 64) - 1, range(32)),
        (0x00030003 << 8 | 0x00030003 << 32, None),
    ),
)
def test_subcluster_both_allocated_and_zero(bitmap, bad, host, rng):
    """The subclusters with both bits are lost, and those allocated without a host cluster; no
    others."""
    image = Image(size=4 * 16384, cluster_bits=14, extended_l2=True)
    image.disk.normal(0, pattern(1, 16384))
    data = pattern(2, 16384)
    place = image.allocate(data) if host else 0
    image.disk.set(1, place, bitmap, kind=None)
    for bit in range(32):
        has_data, has_zero = bitmap >> bit & 1, bitmap >> bit + 32 & 1
        place_of = place + bit * 512 if host else None
        if has_data and (has_zero or not host):
            piece = builder.Piece("invalid")
            assert bad is None or bit in bad
        elif has_data:
            piece = builder.Piece("normal", data[bit * 512 :][:512], place_of)
        elif has_zero:
            piece = builder.Piece("zero allocated" if host else "zero", None, place_of)
        else:
            continue
        image.disk.model.pieces[32 + bit] = piece
    image.disk.normal(2, pattern(3, 16384))
    check_bytes(image.build(), image.disk.model, rng)


# ---- Compressed clusters ---------------------------------------------------------


@pytest.mark.parametrize("window_bits", range(9, 16))
@pytest.mark.parametrize("cluster_bits", (12, 16))
def test_deflate_window(window_bits, cluster_bits, tmp_path, rng):
    """QEMU writes windows of 12 bits, and reads no larger ones; others did."""
    image = Image(size=4 << cluster_bits, cluster_bits=cluster_bits)
    data = (pattern(1, 3000) + squeezable(2, 30000) + pattern(1, 3000)) * 4
    data = data[: image.cluster_size].ljust(image.cluster_size, b"z")
    image.disk.compressed(1, data, deflate(data, window_bits))
    check_image(image, tmp_path, rng, oracle=window_bits <= 12)


@pytest.mark.parametrize(
    "name, options",
    (
        ("stored", {"level": 0}),
        ("fixed", {"strategy": zlib.Z_FIXED}),
        ("huffman", {"strategy": zlib.Z_HUFFMAN_ONLY}),
        ("fast", {"level": 1}),
    ),
)
def test_deflate_block_types(name, options, tmp_path, rng):
    image = Image(size=4 << 16)
    for cluster, data in enumerate((squeezable(1, 65536), bytes(65536), b"abc" * 21845 + b"d")):
        image.disk.compressed(cluster, data, deflate(data, **options))
    check_image(image, tmp_path, rng)


def test_deflate_in_many_blocks(tmp_path, rng):
    image = Image(size=4 << 16)
    data = squeezable(1, 65536)
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    stream = b"".join(
        packer.compress(data[at : at + 5000]) + packer.flush(zlib.Z_FULL_FLUSH)
        for at in range(0, 65536, 5000)
    )
    image.disk.compressed(1, data, stream + packer.flush())
    check_image(image, tmp_path, rng)


@pytest.mark.parametrize("compression", (0, 1))
@pytest.mark.parametrize("cluster_bits", SOME_CLUSTER_BITS)
def test_streams_at_any_byte_and_across_clusters(cluster_bits, compression, tmp_path, rng):
    cluster = 1 << cluster_bits
    image = Image(size=6 << cluster_bits, cluster_bits=cluster_bits, compression=compression)
    hosts = [image.disk.compressed(index, squeezable(index, cluster)) for index in range(5)]
    assert any(host % 512 for host in hosts)
    assert any((host + cluster // 2) // cluster != host // cluster for host in hosts)
    check_image(image, tmp_path, rng)


@pytest.mark.parametrize("compression", (0, 1))
@pytest.mark.parametrize("cluster_bits", SOME_CLUSTER_BITS)
def test_more_sectors_than_the_stream_needs(cluster_bits, compression, rng):
    """Trailing bytes are no error, be they zeros or anything."""
    cluster = 1 << cluster_bits
    image = Image(size=4 << cluster_bits, cluster_bits=cluster_bits, compression=compression)
    most = min(2 * cluster // 512, 1 << cluster_bits - 8) - 1
    for index, tail in enumerate(
        (bytes(3 * cluster), pattern(9, 3 * cluster), b"\xff" * 3 * cluster)
    ):
        data = b"%d" % index * (cluster // 2) + bytes(cluster - cluster // 2)
        stream = image.compress(data)
        at = image.allocate(stream + tail)
        image.disk.compressed(index, data, stream, sectors=most, at=at)
        image.put(at + len(stream), tail[: 2 * cluster])
    check_bytes(image.build(), image.disk.model, rng)


@pytest.mark.parametrize("compression", (0, 1))
def test_last_sector_past_the_end_of_the_file(compression, tmp_path, rng):
    image = Image(size=4 << 16, compression=compression, metadata_clusters=8)
    image.disk.normal(0, pattern(1, 65536))
    host = image.disk.compressed(1, squeezable(2, 65536))
    length = len(image.compress(squeezable(2, 65536)))
    path = image.write(tmp_path / "image.qcow2", image.build()[: host + length])
    with Opened(path) as opened:
        assert opened.warnings == []
        check_view(opened.view(), image.disk.model, rng)
    assert_same(qemu_content(path), image.disk.model.read(0, 4 << 16), "the model against QEMU")


@pytest.mark.parametrize("lost", (20, 100, 10000))
@pytest.mark.parametrize("compression", (0, 1))
def test_stream_cut_by_the_end_of_the_file(compression, lost):
    image = Image(size=4 << 16, compression=compression, metadata_clusters=8)
    image.disk.normal(0, pattern(1, 65536))
    host = image.disk.compressed(1, squeezable(2, 65536))
    data = image.build()[: host + len(image.compress(squeezable(2, 65536))) - lost]
    with opened_bytes(data) as opened:
        assert_same(opened.view().read(0, 65536), pattern(1, 65536), "what is there")
        assert opened.view().read(131072, 65536) == bytes(65536)
        with pytest.raises(QcowError) as caught:
            opened.view().read(65536 + 65535, 1)
    error = expect_error(caught.value, "TRUNCATED")
    assert (error.guest_offset, error.host_offset) == (
        65536 + 65535,
        host,
    ) or error.guest_offset == 65536


@pytest.mark.parametrize("compression", (0, 1))
def test_stream_wholly_past_the_end_of_the_file(compression):
    image = Image(size=4 << 16, compression=compression)
    image.disk.force(0, COMPRESSED | 1 << 40 | 512, kind="invalid")
    refused(image.build(), "TRUNCATED")


def test_deflate_stream_that_gives_more_than_a_cluster(tmp_path, rng):
    """As in QEMU, the cluster is what fits."""
    image = Image(size=4 << 12, cluster_bits=12)
    data = squeezable(1, 5000)
    image.disk.compressed(1, data[:4096], deflate(data))
    image.disk.compressed(2, bytes(4096), deflate(bytes(10000)))
    check_image(image, tmp_path, rng)


BAD_DEFLATE = {
    "too short": lambda data: deflate(data[:-1]),
    "empty": lambda data: deflate(b""),
    "reserved block type": lambda data: b"\x07" + deflate(data)[1:],
    "zlib header": lambda data: zlib.compress(data),
    "bad distance": lambda data: b"\x03\x12\x00" + bytes(2000),
    "stored length mismatch": lambda data: b"\x01\x00\x10\x00\x10" + data,
}


@pytest.mark.parametrize("name", BAD_DEFLATE)
def test_bad_deflate_stream(name, rng):
    bad_stream(Image(size=4 << 12, cluster_bits=12), BAD_DEFLATE[name](squeezable(1, 4096)), rng)


BAD_ZSTD = {
    "too short": lambda data: zstd(data[:-1]),
    "too long": lambda data: zstd(data + b"x"),
    "two frames, too long": lambda data: zstd(data[:100]) + zstd(data),
    "cut": lambda data: zstd(data)[:-10],
    "wrong checksum": lambda data: zstd(data, checksum=1)[:-4] + b"\1\2\3\4",
    "no magic": lambda data: b"\0" + zstd(data)[1:],
    "deflate": lambda data: deflate(data),
    "zeros": lambda data: bytes(2000),
    "skippable only": lambda data: zstd_skippable(bytes(900)),
    "skippable cut": lambda data: zstd_skippable(bytes(99999))[:1000],
    "empty frames": lambda data: zstd(b"") * 50,
}


@pytest.mark.parametrize("name", BAD_ZSTD)
def test_bad_zstd_stream(name, rng):
    bad_stream(
        Image(size=4 << 12, cluster_bits=12, compression=1),
        BAD_ZSTD[name](squeezable(1, 4096)),
        rng,
    )


def bad_stream(image, stream, rng):
    """The cluster is lost, its neighbours are not."""
    image.disk.normal(0, pattern(1, 4096))
    image.disk.compressed(2, squeezable(3, 4096))
    at = image.allocate(stream)
    image.disk.compressed(1, None, stream, at=at)
    image.disk.normal(3, pattern(4, 4096))  # so that the stream does not end the file
    with opened_bytes(image.build()) as opened:
        view = opened.view()
        check_map(view, image.disk.model)
        for cluster in (0, 2, 3):
            assert_same(
                view.read(cluster * 4096, 4096),
                image.disk.model.read(cluster * 4096, 4096),
                "a neighbour",
            )
        for start, length in (
            (4096, 4096),
            (4096, 1),
            (8191, 1),
            (0, 16384),
            (4000, 100),
            (8000, 500),
        ):
            with pytest.raises(QcowError) as caught:
                view.read(start, length)
            error = expect_error(caught.value, "CORRUPT", "compressed")
            assert error.host_offset == at and 4096 <= error.guest_offset < 8192


GOOD_ZSTD = {
    "two frames": lambda data: zstd(data[:1000]) + zstd(data[1000:]),
    "many frames": lambda data: b"".join(
        zstd(data[at : at + 333]) for at in range(0, len(data), 333)
    ),
    "empty frame first": lambda data: zstd(b"") + zstd(data),
    "skippable first": lambda data: zstd_skippable(b"skip me") + zstd(data),
    "skippable between": (
        lambda data: zstd(data[:7]) + zstd_skippable(b"") + zstd_skippable(b"x") + zstd(data[7:])
    ),
    "no content size": lambda data: zstd(data, content_size=0),
    "no content size, two frames": lambda data: zstd(data[:9], content_size=0)
    + zstd(data[9:], content_size=0),
    "checksums": lambda data: zstd(data[:50], checksum=1)
    + zstd(data[50:], checksum=1, content_size=0),
    "level 1": lambda data: zstd(data, level=1),
    "level 19": lambda data: zstd(data, level=19),
    "small window": lambda data: zstd(data, window_log=10, content_size=0),
    "large window": lambda data: zstd(data, window_log=27, content_size=0),
    "skippable after": lambda data: zstd(data) + zstd_skippable(b"after"),
}


@pytest.mark.parametrize("cluster_bits", (12, 16))
@pytest.mark.parametrize("name", GOOD_ZSTD)
def test_zstd_frames(name, cluster_bits, tmp_path, rng):
    image = Image(size=4 << cluster_bits, cluster_bits=cluster_bits, compression=1)
    data = squeezable(1, image.cluster_size)
    stream = GOOD_ZSTD[name](data)
    image.disk.compressed(1, data, stream)
    image.disk.compressed(2, squeezable(2, image.cluster_size))
    # QEMU 7.2 asks zstd for no more output than fits, so it also stops before what follows the last
    # frame.
    check_image(image, tmp_path, rng)


def test_zstd_frame_that_asks_for_a_huge_window(rng):
    """The bytes are there and the cluster is small: an answer or an error, but no 2 TiB of
    memory."""
    image = Image(size=4 << 12, cluster_bits=12, compression=1)
    data = squeezable(1, 4096)
    image.disk.compressed(0, data, zstd_huge_window(data))
    with opened_bytes(image.build()) as opened:
        try:
            assert opened.view().read(0, 4096) == data
        except QcowError as error:
            expect_error(error, "CORRUPT UNSUPPORTED")


def test_a_compressed_cluster_read_twice_is_the_same(rng):
    """From the cache, in small pieces, in any order, for two clusters that share a host cluster."""
    image = small_image()
    image.disk.compressed(1, squeezable(8, 4096))
    with opened_bytes(image.build()) as opened:
        view = opened.view()
        for at in rng.sample(range(0, 16384, 64), 256) * 2:
            assert view.read(at, 64) == image.disk.model.read(at, 64)


# ---- External data file ----------------------------------------------------------


@pytest.mark.parametrize("raw", (False, True))
@pytest.mark.parametrize("cluster_bits", SOME_CLUSTER_BITS)
def test_data_file(cluster_bits, raw, tmp_path, rng):
    image = Image(
        size=(5 << cluster_bits) + 512,
        cluster_bits=cluster_bits,
        data_file=b"guest.data",
        data_file_raw=raw,
    )
    image.disk.normal(0, pattern(1, image.cluster_size))
    image.disk.normal(2, pattern(2, image.cluster_size))
    image.disk.zero(3)
    image.disk.zero_allocated(4, pattern(3, image.cluster_size))  # stale bytes in the data file
    image.disk.normal(5, pattern(4, image.cluster_size))
    check_image(image, tmp_path, rng)
    with Opened(tmp_path / "image.qcow2") as opened:
        assert opened.header.data_file == b"guest.data"
        assert opened.layer(0).data_path == os.fsencode(tmp_path / "guest.data")
        assert opened.layer(0).path == os.fsencode(tmp_path / "image.qcow2")


def test_data_file_with_extended_l2(tmp_path, rng):
    image = Image(size=4 * 16384, cluster_bits=14, extended_l2=True, data_file=b"guest.data")
    image.disk.subclusters(0, "DZ.D" * 8, pattern(1, 16384))
    image.disk.subclusters(1, "Z..." * 8, b"", host=False)
    image.disk.subclusters(2, "...D" * 8, pattern(2, 16384))
    check_image(image, tmp_path, rng, oracle=False)
    assert_same(
        qemu_content(tmp_path / "image.qcow2"),
        image.disk.model.read(0, 65536),
        "the model against QEMU",
    )


@pytest.mark.parametrize(
    "word, kind", ((COPIED, "normal"), (0, None), (COPIED | ZERO, "zero"), (ZERO, "zero"))
)
def test_data_file_offset_0_is_allocated_if_bit_63_is_set(word, kind, tmp_path, rng):
    base = pattern(8, 4096 * 4)
    (tmp_path / "base.raw").write_bytes(base)
    image = Image(
        size=4 * 4096,
        cluster_bits=12,
        data_file=b"guest.data",
        backing=b"base.raw",
        backing_format=b"raw",
        backing_model=RawModel(base),
    )
    image.put_data_file(0, pattern(1, 16384))
    normal = {"data": pattern(1, 4096), "host_offset": 0} if kind == "normal" else {}
    image.disk.force(0, word, kind=kind, **normal)
    image.disk.normal(1, pattern(2, 4096))
    path = image.write(tmp_path / "image.qcow2")
    with Opened(path) as opened:
        check_view(opened.view(), image.disk.model, rng)
    assert_same(qemu_content(path), image.disk.model.read(0, 16384), "the model against QEMU")


def test_data_file_offset_0_in_an_extended_entry(tmp_path, rng):
    """Bit 0 is no zero flag there, so it changes nothing."""
    image = Image(size=4 * 16384, cluster_bits=14, extended_l2=True, data_file=b"guest.data")
    image.put_data_file(0, pattern(1, 16384))
    image.disk.force(
        0, COPIED | ZERO, 0xFFFFFFFF, kind="normal", data=pattern(1, 16384), host_offset=0
    )
    check_image(image, tmp_path, rng, oracle=False)


@pytest.mark.parametrize(
    "word", (COPIED | 0x3000, COMPRESSED | 0x1000, COPIED | ZERO | 0x3000, COPIED | 0x1200)
)
def test_data_file_entry_that_cannot_be(word, tmp_path, rng):
    """A host offset other than the guest offset, or a compressed cluster."""
    image = Image(size=4 * 4096, cluster_bits=12, data_file=b"guest.data")
    image.disk.normal(0, pattern(1, 4096))
    image.disk.normal(3, pattern(2, 4096))
    image.disk.force(1, word)
    path = image.write(tmp_path / "image.qcow2")
    with Opened(path) as opened:
        check_view(opened.view(), image.disk.model, rng)
        with pytest.raises(QcowError) as caught:
            opened.view().read(4096, 1)
    assert expect_error(caught.value, "CORRUPT").host_offset == image.disk.entry_offset(1)


def test_snapshots_of_an_image_with_a_data_file_are_invalid(tmp_path):
    """Said at open or when one is opened, and the active disk is still read."""
    image = Image(size=4 * 4096, cluster_bits=12, data_file=b"guest.data")
    image.disk.normal(0, pattern(1, 4096))
    image.snapshot()
    image.disk.normal(0, pattern(2, 4096))
    with Opened(image.write(tmp_path / "image.qcow2")) as opened:
        assert_same(opened.view().read(0, 4096), pattern(2, 4096), "the active disk")
        said = any("snapshot" in warning for warning in opened.warnings)
        if opened.snapshots:
            try:
                opened.view(0)
            except QcowError as error:
                said = expect_error(error, "CORRUPT UNSUPPORTED", "data file")
        assert said


def test_data_file_shorter_than_its_clusters(tmp_path):
    image = Image(size=4 * 4096, cluster_bits=12, data_file=b"guest.data")
    image.disk.normal(0, pattern(1, 4096))
    image.disk.normal(1, pattern(2, 4096))
    path = image.write(tmp_path / "image.qcow2")
    os.truncate(tmp_path / "guest.data", 6000)
    with Opened(path) as opened:
        view = opened.view()
        assert_same(view.read(0, 6000), image.disk.model.read(0, 6000), "what is there")
        for start, length in ((6000, 1), (5999, 2), (8191, 1), (0, 16384)):
            with pytest.raises(QcowError) as caught:
                view.read(start, length)
            expect_error(caught.value, "TRUNCATED")
        assert view.read(8192, 8192) == bytes(8192)


def test_data_file_without_a_name_needs_the_callers_word(tmp_path, rng):
    image = Image(size=4 * 4096, cluster_bits=12, data_file=b"")
    image.disk.normal(1, pattern(1, 4096))
    path = image.write(tmp_path / "image.qcow2")
    (tmp_path / "elsewhere").write_bytes(image.external)
    with pytest.raises(QcowError) as caught:
        Opened(path)
    expect_error(caught.value, "DENIED CORRUPT NOT_FOUND", "data-file=")
    with Opened(path, data_file=tmp_path / "elsewhere") as opened:
        check_view(opened.view(), image.disk.model, rng)


# ---- Backing file ----------------------------------------------------------------


@pytest.mark.parametrize("cluster_bits", (9, 16))
@pytest.mark.parametrize("length", (0, 1, 512, 70001, 1 << 18, (1 << 18) + 1))
def test_raw_backing_file_of_another_length(length, cluster_bits, tmp_path, rng):
    """Shorter: zeros beyond its end. Longer: the excess is invisible."""
    base = pattern(1, length)
    (tmp_path / "base.raw").write_bytes(base)
    image = Image(
        size=1 << 18,
        cluster_bits=cluster_bits,
        backing=b"base.raw",
        backing_format=b"raw",
        backing_model=RawModel(base),
    )
    image.disk.normal((1 << 17) >> cluster_bits, pattern(2, image.cluster_size))
    # QEMU's convert rounds a raw file up to a sector itself.
    check_image(image, tmp_path, rng)


@pytest.mark.parametrize("top_bits, base_bits", ((9, 16), (16, 9), (12, 21), (21, 12)))
def test_backing_file_with_another_cluster_size(top_bits, base_bits, tmp_path, rng):
    base = Image(size=(1 << 21) + 512 * 7, cluster_bits=base_bits, compression=1)
    base.disk.normal(0, pattern(1, base.cluster_size))
    (
        base.disk.compressed(1, squeezable(2, base.cluster_size))
        if base_bits < 21
        else base.disk.zero(1)
    )
    base.write(tmp_path / "base.qcow2")
    image = Image(
        size=1 << 22,
        cluster_bits=top_bits,
        backing=b"base.qcow2",
        backing_format=b"qcow2",
        backing_model=base.disk.model,
    )
    image.disk.normal(1, pattern(3, image.cluster_size))
    check_image(image, tmp_path, rng)
    with Opened(tmp_path / "image.qcow2") as opened:
        assert [layer.path for layer in opened.layers] == [
            os.fsencode(tmp_path / name) for name in ("image.qcow2", "base.qcow2")
        ]
        assert opened.layer(1).header.cluster_bits == base_bits


def test_three_layers(tmp_path, rng):
    raw = pattern(1, 100_000)
    (tmp_path / "base.raw").write_bytes(raw)
    middle = Image(
        size=150_016,
        cluster_bits=12,
        backing=b"base.raw",
        backing_format=b"raw",
        backing_model=RawModel(raw),
    )
    middle.disk.compressed(2, squeezable(2, 4096))
    middle.disk.zero(3)
    middle.disk.normal(30, pattern(3, 4096))
    middle.write(tmp_path / "middle.qcow2")
    image = Image(
        size=200_192,
        cluster_bits=9,
        backing=b"middle.qcow2",
        backing_format=b"qcow2",
        backing_model=middle.disk.model,
    )
    image.disk.zero(0)
    image.disk.normal(17, pattern(4, 512))
    check_image(image, tmp_path, rng)
    with Opened(tmp_path / "image.qcow2") as opened:
        assert [layer.is_raw for layer in opened.layers] == [0, 0, 1]
        assert opened.layer(2).header is None and opened.layer(2).file_size == 100_000


@pytest.mark.parametrize("name_bytes, cluster_bits", ((1023, 12), (300, 9)))
def test_longest_backing_file_name(name_bytes, cluster_bits, tmp_path, rng):
    base = pattern(1, 4096)
    (tmp_path / "base.raw").write_bytes(base)
    name = b"./" * ((name_bytes - 8) // 2) + b"base.raw"
    name = name if len(name) == name_bytes else name.replace(b"./", b".//", 1)
    assert len(name) == name_bytes
    image = Image(
        size=4096,
        cluster_bits=cluster_bits,
        backing=name,
        backing_format=b"raw",
        backing_model=RawModel(base),
    )
    check_image(image, tmp_path, rng)
    with Opened(tmp_path / "image.qcow2") as opened:
        assert opened.header.backing_file == name and opened.header.backing_format == b"raw"


def test_backing_file_name_up_to_the_end_of_the_cluster():
    name = b"n" * (512 - 112)
    data = Image(size=4096, cluster_bits=9, backing=name).build()
    assert struct.unpack_from(">QI", data, 8) == (112, 400)
    with opened_bytes(data, no_chain=True) as opened:
        assert opened.header.backing_file == name
    refused(poke(data, 16, "I", 401), "CORRUPT", "backing", no_chain=True)


@pytest.mark.parametrize(
    "offset, length",
    (
        (4096, 1),
        (4097, 0),
        (4097, 1),
        (0xFFFFFFFFFFFFFFFF, 5),
        (120, 1024),
        (120, 0xFFFFFFFF),
        (4000, 97),
    ),
)
def test_backing_file_name_out_of_its_bounds(offset, length):
    data = small_image(backing=b"base").build()
    refused(poke(poke(data, 8, "Q", offset), 16, "I", length), "CORRUPT", "backing", no_chain=True)


def test_backing_file_offset_of_a_whole_cluster_without_a_name(rng):
    image = small_image()
    check_bytes(poke(image.build(), 8, "Q", 4096), image.disk.model, rng)


def test_damaged_backing_file_fails_only_its_range(tmp_path, rng):
    base = Image(size=4 * 4096, cluster_bits=12)
    base.disk.normal(0, pattern(1, 4096))
    base.disk.set(1, 4096 + 512)
    base.disk.set(2, 4096 + 512)
    base.write(tmp_path / "base.qcow2")
    image = Image(
        size=4 * 4096,
        cluster_bits=12,
        backing=b"base.qcow2",
        backing_format=b"qcow2",
        backing_model=base.disk.model,
    )
    image.disk.normal(2, pattern(2, 4096))
    with Opened(image.write(tmp_path / "image.qcow2")) as opened:
        view = opened.view()
        model = image.disk.model
        assert_same(view.read(0, 4096), model.read(0, 4096), "before")
        assert_same(view.read(8192, 8192), model.read(8192, 8192), "after")
        for start, length in ((4096, 1), (4000, 200), (0, 16384)):
            with pytest.raises(QcowError) as caught:
                view.read(start, length)
            assert 4096 <= expect_error(caught.value, "CORRUPT").guest_offset < 8192
        assert [e.kind for e in view.map_all() if e.guest_offset == 4096] == ["invalid"]


# ---- Snapshots -------------------------------------------------------------------


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
    subprocess.run(["qemu-img", "snapshot", "-a", "seven", path], check=True, timeout=60)
    assert_same(qemu_content(path), disk.model.read(0, disk.size), "the model against QEMU")


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
    with opened_bytes(image.build()) as opened:
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
    poke(
        data, snapshot.l1_offset + 8, "Q", snapshot.l2_offsets[0]
    )  # after the table: not looked at
    with opened_bytes(data) as opened:
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
    with opened_bytes(image.build()) as opened:
        assert [(s.id, s.name) for s in opened.snapshots] == [(name[::-1], name) for name in names]


def test_snapshot_falls_through_to_the_current_backing_file(tmp_path, rng):
    base = pattern(1, 8 * 4096)
    (tmp_path / "base.raw").write_bytes(base)
    image = Image(
        size=8 * 4096,
        cluster_bits=12,
        backing=b"base.raw",
        backing_format=b"raw",
        backing_model=RawModel(base),
    )
    image.disk.normal(1, pattern(2, 4096))
    image.snapshot()
    image.disk.normal(3, pattern(3, 4096))
    image.disk.zero(1)
    check_image(image, tmp_path, rng)


def test_snapshot_with_extended_l2(tmp_path, rng):
    image = backed_extended_image(tmp_path, 14)
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
    with opened_bytes(data) as opened:
        with pytest.raises(QcowError) as caught:
            view = opened.view(0)
            view.read(0, 512)
        expect_error(caught.value, "CORRUPT", "L1")
        assert_same(opened.view().read(0, 4096), pattern(3, 4096), "the active disk")
        assert_same(opened.view(1).read(0, 4096), pattern(2, 4096), "the other snapshot")


def test_snapshot_l1_table_past_the_end_of_the_file():
    image, data = snapshot_image()
    poke(data, image.snapshots_offset, "Q", 1 << 40)
    with opened_bytes(data) as opened:
        with pytest.raises(QcowError) as caught:
            opened.view(0).read(0, 512)
        expect_error(caught.value, "TRUNCATED", "L1")
        assert_same(opened.view().read(0, 4096), pattern(3, 4096), "the active disk")


@pytest.mark.parametrize("extra", (1025, 0x7FFFFFFF, 0xFFFFFFFF))
def test_snapshot_extra_data_too_long(extra):
    """The snapshots before it are kept, the damage is reported."""
    image, data = snapshot_image()
    poke(data, image.snapshots_offset + image.snapshot_offsets[1] + 36, "I", extra)
    with opened_bytes(data) as opened:
        assert [snapshot.id for snapshot in opened.snapshots] == [b"1"]
        assert any("snapshot" in warning for warning in opened.warnings)
        assert_same(opened.view(0).read(0, 4096), pattern(1, 4096), "the first snapshot")
        assert_same(opened.view().read(0, 4096), pattern(3, 4096), "the active disk")


@pytest.mark.parametrize("offset", (512, 1 << 40, 1 << 63, 0xFFFFFFFFFFFFF000))
def test_snapshot_table_out_of_its_bounds(offset):
    _, data = snapshot_image()
    with opened_bytes(poke(data, 64, "Q", offset)) as opened:
        assert opened.snapshots == []
        assert any("snapshot" in warning for warning in opened.warnings)
        assert_same(opened.view().read(0, 4096), pattern(3, 4096), "the active disk")


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
        with opened_bytes(short) as opened:
            assert [s.id for s in opened.snapshots] == (
                [b"1"] if cut >= image.snapshot_offsets[1] else []
            )
            assert any("snapshot" in warning for warning in opened.warnings)
            assert_same(opened.view().read(0, 4096), pattern(1, 4096), "the active disk")


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
    with opened_bytes(many_snapshots(65536)) as opened:
        assert len(opened.snapshots) == 65536
        assert opened.warnings == []
        assert_same(opened.view(65535).read(0, 4096), pattern(1, 4096), "the last snapshot")


@pytest.mark.parametrize("count", (65537, 0xFFFFFFFF))
def test_too_many_snapshots(count):
    """Never more than the limit; what is wrong is said, and the active disk can be read."""
    data = poke(many_snapshots(65537), 60, "I", count)
    with opened_bytes(data) as opened:
        assert len(opened.snapshots) <= 65536
        assert any("snapshot" in warning for warning in opened.warnings)
        assert_same(opened.view().read(0, 4096), pattern(1, 4096), "the active disk")


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
    with opened_bytes(bytes(data) + entry * entries) as opened:
        assert len(opened.snapshots) == entries or not within
        assert any("snapshot" in warning for warning in opened.warnings) != within
        assert_same(opened.view().read(0, 4096), pattern(1, 4096), "the active disk")


# ---- Truncation ------------------------------------------------------------------


def truncatable(**options):
    """All tables first, then data. Returns the image, its bytes, and the host offsets of two data
    clusters."""
    image = Image(**{"size": 8 * 65536, "metadata_clusters": 8, **options})
    hosts = [image.disk.normal(cluster, pattern(cluster, 65536)) for cluster in (1, 2)]
    data = image.build()
    assert len(data) == hosts[-1] + 65536
    return image, data, hosts


@pytest.mark.parametrize("kept", (-1, 0, 1, 512, 65535))
def test_truncated_data_is_reported_at_open(kept):
    _, data, hosts = truncatable()
    with opened_bytes(data[: hosts[1] + kept]) as opened:
        assert any("truncated" in warning for warning in opened.warnings)


@pytest.mark.parametrize("kept", (0, 1, 512, 65535, 65536 - 100))
def test_truncated_data(kept):
    """The rest of the cluster is lost; QEMU reads zeros."""
    image, data, hosts = truncatable()
    with opened_bytes(data[: hosts[1] + kept]) as opened:
        view, model = opened.view(), image.disk.model
        lost = 2 * 65536 + kept
        assert_same(view.read(0, lost), model.read(0, lost), "what is there")
        assert view.read(3 * 65536, 5 * 65536) == bytes(5 * 65536)
        for start, length in (
            (lost, 1),
            (lost - 1, 2),
            (3 * 65536 - 1, 1),
            (0, view.size),
            (2 * 65536, 65536),
        ):
            with pytest.raises(QcowError) as caught:
                view.read(start, length)
            error = expect_error(caught.value, "TRUNCATED", "truncated")
            assert start <= error.guest_offset < start + length
            assert error.host_offset - error.guest_offset == hosts[1] - 2 * 65536


@pytest.mark.parametrize("kept", (0, 1000))
def test_truncated_data_error_names_the_first_byte_lost(kept):
    """Not the start of the run that was being read, of which all else can be had."""
    image, data, hosts = truncatable()
    with opened_bytes(data[: hosts[1] + kept]) as opened, pytest.raises(QcowError) as caught:
        opened.view().read(0, image.disk.size)
    assert (caught.value.guest_offset, caught.value.host_offset) == (
        2 * 65536 + kept,
        hosts[1] + kept,
    )


def test_truncated_l2_table():
    image = Image(size=2 * 8192 * 65536, metadata_clusters=1)
    image.disk.normal(0, pattern(1, 65536))
    image.disk.normal(8192, pattern(2, 65536))
    data = image.build()
    second = image.disk.l2_offsets[1]
    data = data[: second + 8]
    with opened_bytes(data) as opened:
        assert any("truncated" in warning for warning in opened.warnings)
        view = opened.view()
        assert_same(view.read(0, 65536), pattern(1, 65536), "through the first table")
        assert_same(
            view.read(8192 * 65536, 65536), pattern(2, 65536), "through the entry that is there"
        )
        for guest_offset in (8193 * 65536, 2 * 8192 * 65536 - 1):
            for attempt in (view.read, view.map):
                with pytest.raises(QcowError) as caught:
                    attempt(guest_offset, 1)
                error = expect_error(caught.value, "TRUNCATED", "L2")
                assert error.guest_offset == guest_offset


def test_truncated_l1_table():
    image = Image(size=100 * 8192 * 65536)
    image.disk.normal(0, pattern(1, 65536))
    data = image.build()
    for kept in (0, 4, 8 * 50):
        short = data[: image.disk.l1_offset + kept]
        with pytest.raises(QcowError) as caught:
            with opened_bytes(short) as opened:
                assert any("truncated" in warning for warning in opened.warnings)
                opened.view().read(60 * 8192 * 65536, 1)
        expect_error(caught.value, "TRUNCATED", "L1")


@pytest.mark.parametrize("version", (2, 3))
def test_every_truncation_of_the_first_cluster(version):
    """Never zeros for data; never an error other than that the file is not qcow2, or truncated."""
    image = Image(size=4096, cluster_bits=9, version=version, extensions=[(9, b"x" * 40)])
    image.disk.normal(0, pattern(1, 512))
    data = image.build()
    for length in range(8, 513):
        refused(data[:length], "TRUNCATED")
    for length in range(8):
        refused(data[:length], "NOT_QCOW2 TRUNCATED")


def test_every_truncation_of_a_small_image(rng):
    """Each byte of the disk is what it was, or an error: never something else."""
    image = Image(size=12 * 512, cluster_bits=9, metadata_clusters=3)
    for cluster in range(3):
        image.disk.normal(cluster, pattern(cluster, 512))
    image.disk.compressed(3, squeezable(3, 512))
    image.disk.zero(4)
    data = image.build()
    fits = 0
    for length in rng.sample(range(512, len(data)), 150):
        try:
            with opened_bytes(data[:length]) as opened:
                view = opened.view()
                for sector in range(12):
                    try:
                        got = view.read(sector * 512, 512)
                    except QcowError as error:
                        expect_error(error, "TRUNCATED")
                        continue
                    fits += 1
                    assert_same(
                        got,
                        image.disk.model.read(sector * 512, 512),
                        f"sector {sector} of {length} bytes",
                    )
        except QcowError as error:
            expect_error(error, "TRUNCATED")
    assert fits > 100


def test_extended_l2_image_may_end_inside_its_last_cluster(rng):
    """Only the subclusters marked allocated need to be there."""
    image = Image(size=8 << 17, cluster_bits=17, extended_l2=True, metadata_clusters=4)
    host = image.disk.subclusters(2, "D" * 3 + "." * 29, pattern(1, 1 << 17))
    data = image.build()[: host + 3 * 4096]
    assert check_bytes(data, image.disk.model, rng) == []
    with opened_bytes(data[:-1]) as opened:
        view = opened.view()
        assert_same(
            view.read(2 << 17, 3 * 4096 - 1), pattern(1, 1 << 17)[: 3 * 4096 - 1], "what is there"
        )
        with pytest.raises(QcowError) as caught:
            view.read((2 << 17) + 3 * 4096 - 1, 1)
        expect_error(caught.value, "TRUNCATED")


def test_extended_l2_image_that_qemu_ended_inside_its_last_cluster(tmp_path):
    path = tmp_path / "image.qcow2"
    subprocess.run(
        [
            "qemu-img",
            "create",
            "-q",
            "-f",
            "qcow2",
            "-o",
            "extended_l2=on,cluster_size=128k",
            path,
            "8M",
        ],
        check=True,
        timeout=60,
    )
    subprocess.run(
        ["qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 1M 4k", path],
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
    )
    assert (
        path.stat().st_size % (128 << 10) != 0
    ), "QEMU wrote the whole cluster: this test shows nothing"
    with Opened(path) as opened:
        assert opened.warnings == []
        assert_same(
            opened.view().read(0, 8 << 20),
            bytes(1 << 20) + b"\x5a" * 4096 + bytes((7 << 20) - 4096),
            "content",
        )


# ---- Limits at open --------------------------------------------------------------


@pytest.mark.parametrize("order", (7, 64, 0xFFFFFFFF))
def test_refcount_order_out_of_range(order):
    refused(poke(small_image().build(), 96, "I", order), "CORRUPT", "refcount_order")


@pytest.mark.parametrize(
    "offset, layout, value",
    (
        (48, "Q", 512),
        (48, "Q", 1 << 50),
        (48, "Q", 0xFFFFFFFFFFFFF000),
        (56, "I", 2049),
        (56, "I", 0xFFFFFFFF),
        (56, "I", 0),
    ),
)
def test_broken_refcount_table_does_not_stop_reading(offset, layout, value, rng):
    image = small_image()
    warnings = check_bytes(poke(image.build(), offset, layout, value), image.disk.model, rng)
    assert any("refcount" in warning for warning in warnings)


def sparse_source(data, size):
    """A storage of `size` bytes: `data`, then zeros."""
    return lambda offset, length: bytes(data[offset : offset + length]).ljust(length, b"\0"), size


def test_l1_table_of_32_mib():
    """The largest one, the last of whose entries is in use."""
    image = Image(size=4194304 * 64 * 512, cluster_bits=9)
    last = 4194304 * 64 - 1
    guest = pattern(1, 512)
    header = Image(size=0, cluster_bits=9).build()[:512]
    l1_offset, l2_offset, data_offset = 512, 512 + (32 << 20), 1024 + (32 << 20)
    poke(poke(poke(header, 24, "Q", image.disk.size), 36, "I", 4194304), 40, "Q", l1_offset)
    pieces = {
        0: bytes(header),
        l2_offset - 8: struct.pack(">Q", COPIED | l2_offset),
        l2_offset + 63 * 8: struct.pack(">Q", COPIED | data_offset),
        data_offset: guest,
    }

    def read(offset, length):
        out = bytearray(length)
        for at, piece in pieces.items():
            start, end = max(at, offset), min(at + len(piece), offset + length)
            if start < end:
                out[start - offset : end - offset] = piece[start - at : end - at]
        return bytes(out)

    with Opened.from_storage(read, data_offset + 512) as opened:
        view = opened.view()
        assert view.size == (last + 1) * 512
        assert_same(view.read(last * 512 - 512, 1024), bytes(512) + guest, "the last clusters")
    pieces[0] = bytes(poke(header, 36, "I", 4194305))
    with pytest.raises(QcowError) as caught:
        Opened.from_storage(read, data_offset + 512)
    expect_error(caught.value, "CORRUPT", "l1_size", "4194305")


@pytest.mark.parametrize(
    "offset, layout, value, word",
    (
        (36, "I", 0xFFFFFFFF, "l1_size"),
        (36, "I", 0, "l1_size"),
        (40, "Q", 513, "l1"),
        (40, "Q", 2048, "l1"),
        (40, "Q", 1 << 63, "l1"),
        (40, "Q", 0xFFFFFFFFFFFFF000, "l1"),
        (24, "Q", 1 << 40, "l1_size"),
        (24, "Q", 1 << 63, "l1_size"),
        (24, "Q", 0xFFFFFFFFFFFFFFFF, "l1_size"),
    ),
)
def test_active_l1_table_out_of_its_bounds(offset, layout, value, word):
    refused(poke(small_image().build(), offset, layout, value), "CORRUPT", word)


def test_l1_table_one_entry_too_small():
    image = Image(size=5 * 64 * 512, cluster_bits=9)
    data = image.build()
    with opened_bytes(poke(data, 36, "I", 5)) as opened:
        assert opened.view().read(0, 5 * 64 * 512) == bytes(5 * 64 * 512)
    refused(poke(data, 36, "I", 4), "CORRUPT", "l1_size", "4", "5")


@pytest.mark.parametrize(
    "method, codes",
    (
        (1, "KEY UNSUPPORTED"),
        (2, "CORRUPT TRUNCATED"),
        (3, "CORRUPT UNSUPPORTED"),
        (0xFFFFFFFF, "CORRUPT UNSUPPORTED"),
    ),
)
@pytest.mark.parametrize("version", (2, 3))
def test_encrypted_image_is_refused(method, codes, version):
    """Without a passphrase, or without a LUKS header: never ciphertext. See test_encryption.py for
    those that open."""
    extensions = [(0x0537BE77, struct.pack(">QQ", 65536, 65536))] if method == 2 else []
    image = small_image(version=version, crypt_method=method, extensions=extensions)
    refused(image.build(), codes)


# ---- What other readers get wrong ------------------------------------------------


def test_peer_dissect_extended_l2(tmp_path, rng):
    image = Image(size=4 * 16384, cluster_bits=14, extended_l2=True)
    image.disk.normal(0, pattern(1, 16384))
    image.disk.subclusters(2, "D" * 32, pattern(2, 16384))
    check_image(image, tmp_path, rng)


def test_peer_dissect_short_backing_file_moves_nothing(tmp_path, rng):
    (tmp_path / "base.raw").write_bytes(pattern(1, 70001))
    image = Image(
        size=4 * 65536,
        backing=b"base.raw",
        backing_format=b"raw",
        backing_model=RawModel(pattern(1, 70001)),
    )
    image.disk.normal(2, pattern(2, 65536))
    check_image(image, tmp_path, rng)


def test_peer_dissect_host_cluster_cut_short_moves_nothing():
    image = Image(size=4 * 4096, cluster_bits=12, metadata_clusters=2)
    image.disk.normal(1, pattern(1, 4096))
    cut = image.disk.normal(0, pattern(2, 4096))
    data = image.build()[: cut + 1000]
    with opened_bytes(data) as opened:
        assert_same(
            opened.view().read(4096, 4096),
            pattern(1, 4096),
            "the cluster after the one that is cut",
        )
        with pytest.raises(QcowError):
            opened.view().read(0, 8192)


def test_peer_dissect_version_2_with_a_backing_format(tmp_path, rng):
    """Its length is no feature word."""
    base = pattern(1, 65536)
    (tmp_path / "base.raw").write_bytes(base)
    image = Image(
        size=65536,
        cluster_bits=12,
        version=2,
        backing=b"base.raw",
        backing_format=b"raw",
        backing_model=RawModel(base),
    )
    image.disk.compressed(3, squeezable(2, 4096))
    assert check_image(image, tmp_path, rng) == []


def test_peer_dissect_version_2_compression_type_is_no_letter_of_a_name(tmp_path, rng):
    """Byte 104 of this version 2 image is inside the backing file's name."""
    base = pattern(1, 65536)
    name = b"\1" * 60 + b"base.raw"
    (tmp_path / os.fsdecode(name)).write_bytes(base)
    image = Image(
        size=65536, cluster_bits=12, version=2, backing=name, backing_model=RawModel(base)
    )
    image.disk.compressed(3, squeezable(2, 4096))
    data = image.build()
    assert data[104] == 1
    with Opened(image.write(tmp_path / "image.qcow2", data)) as opened:
        check_view(opened.view(), image.disk.model, rng)


def test_peer_dissect_snapshot_older_than_the_last_growth(tmp_path, rng):
    image = Image(size=4 * 512, cluster_bits=9)
    image.disk.normal(3, pattern(1, 512))
    image.snapshot()
    image.disk.resize(1000 * 512)
    image.disk.normal(999, pattern(2, 512))
    check_image(image, tmp_path, rng)


def test_peer_dissect_snapshot_of_a_zero_size_disk(rng):
    image = Image(size=0, cluster_bits=12)
    image.snapshot()
    image.disk.resize(4 * 4096)
    image.disk.normal(0, pattern(1, 4096))
    with opened_bytes(image.build()) as opened:
        assert opened.view(0).size == 0
        check_view(opened.view(), image.disk.model, rng)


def test_peer_dissect_snapshot_extra_over_24_bytes(rng):
    image = Image(size=4 * 4096, cluster_bits=12)
    image.disk.normal(0, pattern(1, 4096))
    extra = struct.pack(">QQq", 0, image.disk.size, -1) + b"future fields"
    image.snapshot(b"1", b"first", extra=extra)
    image.snapshot(b"2", b"second", extra=extra + bytes(3))
    image.disk.normal(0, pattern(2, 4096))
    with opened_bytes(image.build()) as opened:
        assert [(s.id, s.name) for s in opened.snapshots] == [(b"1", b"first"), (b"2", b"second")]
        assert opened.snapshots[0].unknown_extra == b"future fields"
        check_view(opened.view(1), image.snapshots[1][0].model, rng)


def test_peer_dissect_names_that_are_not_utf8():
    image = small_image()
    image.snapshot(b"\xe9", b"\xff\xfe\x80")
    with opened_bytes(image.build()) as opened:
        assert (opened.snapshots[0].id, opened.snapshots[0].name) == (b"\xe9", b"\xff\xfe\x80")
        assert opened.find(b"\xff\xfe\x80") == 0


def test_peer_dissect_unknown_incompatible_bit_is_refused():
    refused(small_image(incompatible=1 << 20).build(), "UNSUPPORTED", "20")


def test_peer_dissect_huge_l1_is_refused():
    refused(poke(small_image().build(), 36, "I", 0xFFFFFFFF), "CORRUPT", "l1_size")


def test_peer_libqcow_bit_0_of_a_compressed_descriptor_is_part_of_the_address(tmp_path, rng):
    image = Image(size=16 * 4096, cluster_bits=12)
    hosts = []
    for cluster in range(16):
        image.stream_end += cluster % 2 if image.stream_end else 0
        hosts.append(image.disk.compressed(cluster, squeezable(cluster, 4096)))
    assert len({host & 1 for host in hosts}) == 2
    check_image(image, tmp_path, rng)


def test_peer_libqcow_zero_flag(tmp_path, rng):
    image = Image(size=4 * 4096, cluster_bits=12)
    image.disk.zero(0)
    image.disk.zero_allocated(1, pattern(1, 4096))
    check_image(image, tmp_path, rng)


def test_peer_libqcow_zero_cluster_over_a_backing_file(tmp_path, rng):
    base = pattern(1, 4 * 4096)
    (tmp_path / "base.raw").write_bytes(base)
    image = Image(
        size=4 * 4096,
        cluster_bits=12,
        backing=b"base.raw",
        backing_format=b"raw",
        backing_model=RawModel(base),
    )
    image.disk.zero(0)
    image.disk.zero_allocated(2, pattern(2, 4096))
    check_image(image, tmp_path, rng)


def test_peer_libqcow_header_length(rng):
    image = small_image(header_length=136)
    check_bytes(image.build(), image.disk.model, rng)


def test_peer_libqcow_unknown_compatible_bits(rng):
    image = small_image(compatible=1 << 33)
    check_bytes(image.build(), image.disk.model, rng)


@pytest.mark.parametrize("peer", ("libqcow", "crosvm", "cloud-hypervisor", "imago", "qcow2-rs"))
def test_peer_serves_no_ciphertext(peer):
    refused(
        small_image(
            crypt_method=2, extensions=[(0x0537BE77, struct.pack(">QQ", 4096, 4096))]
        ).build(),
        "CORRUPT",
        "LUKS",
    )


@pytest.mark.parametrize("cluster_bits", range(9, 15))
def test_peer_go_small_compressed_clusters(cluster_bits, tmp_path, rng):
    image = Image(size=8 << cluster_bits, cluster_bits=cluster_bits)
    for cluster in range(8):
        image.disk.compressed(cluster, squeezable(cluster, image.cluster_size))
    check_image(image, tmp_path, rng)


def test_peer_go_version_4_is_refused():
    refused(poke(small_image().build(), 4, "I", 4), "UNSUPPORTED", "4")


@pytest.mark.parametrize("name", (b"vmdk", b"QCOW2", b"raw ", b"\xff" * 100))
def test_peer_go_unknown_backing_format(name, tmp_path):
    (tmp_path / "base").write_bytes(bytes(4096))
    image = Image(size=4096, cluster_bits=12, backing=b"base", backing_format=name)
    with pytest.raises(QcowError) as caught:
        Opened(image.write(tmp_path / "image.qcow2"))
    expect_error(caught.value, "DENIED" if name == b"vmdk" else "UNSUPPORTED", "format")


def test_peer_nbdkit_host_offsets_beyond_a_small_disk(tmp_path, rng):
    image = Image(size=1024, cluster_bits=16)
    image.junk(bytes(1 << 20))
    image.disk.normal(0, pattern(1, 65536))
    check_image(image, tmp_path, rng)


def test_peer_nbdkit_short_l1_is_an_error():
    refused(poke(Image(size=1 << 30, cluster_bits=12).build(), 36, "I", 3), "CORRUPT", "l1_size")


def test_peer_nbdkit_image_with_a_snapshot(tmp_path, rng):
    image = small_image()
    image.snapshot()
    check_image(image, tmp_path, rng)


def test_peer_7zip_data_file_image_does_not_show_its_header(tmp_path):
    image = Image(size=65536, cluster_bits=12, data_file=b"guest.data")
    image.disk.normal(0, pattern(1, 4096))
    with Opened(image.write(tmp_path / "image.qcow2")) as opened:
        assert opened.view().read(0, 512) == pattern(1, 512)


def test_peer_7zip_extended_l2_is_read(tmp_path, rng):
    image = Image(size=8 * 65536, extended_l2=True, compression=1)
    image.disk.subclusters(3, "DDZ." * 8, pattern(1, 65536))
    image.disk.compressed(4, squeezable(1, 65536))
    check_image(image, tmp_path, rng)


def test_peer_xmount_overlay_holes_show_the_backing_file(tmp_path, rng):
    base = pattern(1, 1 << 20)
    (tmp_path / "base.raw").write_bytes(base)
    image = Image(
        size=1 << 20, backing=b"base.raw", backing_format=b"raw", backing_model=RawModel(base)
    )
    image.disk.normal(7, pattern(2, 65536))
    check_image(image, tmp_path, rng)


@pytest.mark.parametrize("new_size", (4 * 4096, 32 * 4096))
def test_peer_qemu_resized_snapshot(new_size, tmp_path, rng):
    """32 KiB at the snapshot, then another size: QEMU's convert gives the new one."""
    image = Image(size=8 * 4096, cluster_bits=12)
    image.disk.normal(7, pattern(1, 4096))
    image.disk.normal(1, pattern(2, 4096))
    image.snapshot()
    image.disk.resize(new_size)
    check_image(image, tmp_path, rng)


def test_peer_qemu_truncated_image_is_not_zeros():
    image, data, hosts = truncatable()
    for end in (hosts[0], image.disk.l2_offsets[0], image.disk.l1_offset, 112):
        with pytest.raises(QcowError) as caught, opened_bytes(data[:end]) as opened:
            opened.view().read(65536, 65536)
        expect_error(caught.value, "TRUNCATED")
