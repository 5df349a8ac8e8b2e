# SPDX-License-Identifier: MIT
"""The header and its extensions, and the limits at open."""
import struct

import pytest

from lib import builder
from lib.builder import COPIED, Image, pattern, poke
from lib.core import AUTOCLEAR, COMPATIBLE, INCOMPATIBLE, QcowError
from lib.core import Image as Opened
from lib.expect import assert_bytes, check_bytes, check_image, check_view, expect_error, unreadable
from lib.images import SOME_CLUSTER_BITS, small_image

pytestmark = pytest.mark.usefixtures("core")


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
    with Opened.from_storage(image.build()) as opened:
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
    unreadable(poke(data, 100, "I", length), "CORRUPT", "header_length", str(length))


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
    with Opened.from_storage(data) as opened:
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
    unreadable(
        poke(Image(size=4096).build(), 20, "I", cluster_bits), "CORRUPT UNSUPPORTED", "cluster_bits"
    )


@pytest.mark.parametrize(
    "data", (b"", b"QFI", b"QFI\xfb", b"QFI\xfb\0\0\0", bytes(4096), b"QFI\xfc" + bytes(4092))
)
def test_not_qcow2(data):
    unreadable(data, "NOT_QCOW2")


@pytest.mark.parametrize(
    "version, code",
    ((0, "NOT_QCOW2"), (4, "UNSUPPORTED"), (0xFFFFFFFF, "UNSUPPORTED")),
)
def test_version_out_of_range(version, code):
    unreadable(poke(Image(size=4096).build(), 4, "I", version), code, str(version))


@pytest.mark.parametrize("bit, word", ((0, "dirty"), (1, "corrupt")))
def test_dirty_and_corrupt_are_read_with_a_warning(bit, word, rng):
    image = small_image(incompatible=1 << bit)
    assert word in " ".join(check_bytes(image.build(), image.disk.model, rng)).lower()


@pytest.mark.parametrize("bit", range(5, 64))
def test_unknown_incompatible_bit(bit):
    error = unreadable(small_image(incompatible=1 << bit).build(), "UNSUPPORTED", str(bit))
    assert error.host_offset == 72


def test_unknown_incompatible_bits_are_named_from_the_table():
    table = (
        struct.pack("BB46s", 0, 5, b"time travel")
        + struct.pack("BB46s", 0, 63, b"x\x1b[2J" * 10)
        + struct.pack("BB46s", 1, 5, b"wrong type")
    )
    image = small_image(incompatible=1 << 5 | 1 << 63, extensions=[(builder.FEATURE_NAMES, table)])
    error = unreadable(image.build(), "UNSUPPORTED", "time travel", "5", "63", "\\x1b")
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
    with Opened.from_storage(image.build()) as opened:
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
    unreadable(data, codes, "compression type")


def test_no_compression_type_in_a_header_of_104_bytes(tmp_path, rng):
    """Byte 104 is then the first of an extension."""
    image = small_image(header_length=104, extensions=[(0x01020304, b"x")])
    assert check_image(image, tmp_path, rng) == []


def test_extended_l2_needs_16_kib_clusters():
    unreadable(
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
    with Opened.from_storage(data) as opened:
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
    with Opened.from_storage(data, no_chain=True) as opened:
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
    error = unreadable(poke(data, 116, "I", length), "CORRUPT", "extension", str(length))
    assert error.host_offset in (112, 116, 120)


def test_extension_leaves_its_area_before_the_backing_file_name():
    data = Image(size=4096, cluster_bits=9, extensions=[(5, b"12345678")], backing=b"base").build()
    assert struct.unpack_from(">Q", data, 8)[0] == 136
    with Opened.from_storage(data, no_chain=True) as opened:
        assert [e.length for e in opened.extensions()] == [8]
    unreadable(poke(data, 116, "I", 17), "CORRUPT", "extension")


# ---- Limits at open --------------------------------------------------------------


@pytest.mark.parametrize("order", (7, 64, 0xFFFFFFFF))
def test_refcount_order_out_of_range(order):
    unreadable(poke(small_image().build(), 96, "I", order), "CORRUPT", "refcount_order")


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
        assert_bytes(view.read(last * 512 - 512, 1024), bytes(512) + guest, "the last clusters")
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
    unreadable(poke(small_image().build(), offset, layout, value), "CORRUPT", word)


def test_l1_table_one_entry_too_small():
    image = Image(size=5 * 64 * 512, cluster_bits=9)
    data = image.build()
    with Opened.from_storage(poke(data, 36, "I", 5)) as opened:
        assert opened.view().read(0, 5 * 64 * 512) == bytes(5 * 64 * 512)
    unreadable(poke(data, 36, "I", 4), "CORRUPT", "l1_size", "4", "5")


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
    unreadable(image.build(), codes)
