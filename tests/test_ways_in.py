# SPDX-License-Identifier: MIT
"""Images that break a rule of the format though their data are intact: each has a way in, and the
error says which."""
import struct

import pytest

from lib import builder
from lib.builder import Image, pattern, poke, squeezable, zstd
from lib.core import Image as Opened
from lib.core import QcowError
from lib.expect import assert_bytes, check_view, expect_error, refused
from lib.images import small_image

pytestmark = pytest.mark.usefixtures("core")
SIZE = 16384


# ---- The backing file's name -----------------------------------------------------


def with_name_outside(path, name, at=None, length=None):
    """An image whose backing file's name is at a host offset outside of the first cluster."""
    image = small_image(backing=b"x")
    data = image.build()
    at = len(data) if at is None else at
    if at == len(data):
        data += name
    poke(poke(data, 8, "Q", at), 16, "I", len(name) if length is None else length)
    path.write_bytes(data)
    return path, image


def test_backing_name_outside_of_the_first_cluster(tmp_path):
    """It is shown, and can be searched for, but is not followed."""
    base = pattern(7, SIZE)
    (tmp_path / "base.raw").write_bytes(base)
    path, image = with_name_outside(tmp_path / "top.qcow2", b"base.raw")
    error = refused(path, "DENIED", "base.raw", "first cluster", "backing=", "search=")
    assert "base.raw" in error.message
    for options in ({"backing": [tmp_path / "base.raw"]}, {"search": [tmp_path]}):
        with Opened(path, **options) as opened:
            assert opened.header.backing_file == b"base.raw"
            assert len(opened.layers) == 2
            assert_bytes(opened.view().read(4096, 4096), base[4096:8192], "of the base")
            (warning,) = opened.warnings
            assert "first cluster" in warning
    with Opened(path, backing=["none"]) as opened:
        assert opened.view().read(0, 4096) == image.disk.model.read(0, 4096)
    with Opened(path, no_chain=True) as opened:
        assert opened.header.backing_file == b"base.raw" and len(opened.warnings) == 1


@pytest.mark.parametrize(
    "at, length, word",
    (
        (4096, 1024, "longer than 1023"),
        (120, 1024, "longer than 1023"),
        (120, 0xFFFFFFFF, "longer than 1023"),
        (0xFFFFFFFFFFFFFFFF, 5, "first cluster"),
        (1 << 40, 5, "first cluster"),
        (4094, 5, "first cluster"),
    ),
)
def test_backing_name_that_cannot_be_read(at, length, word, tmp_path):
    """Without a name there is nothing to search for."""
    (tmp_path / "base.raw").write_bytes(pattern(7, SIZE))
    path, _ = with_name_outside(tmp_path / "top.qcow2", b"base.raw", at, length)
    refused(path, "DENIED", word, "backing=")
    with Opened(path, backing=[tmp_path / "base.raw"]) as opened:
        assert opened.view().read(4096, 10) == pattern(7, SIZE)[4096:4106]


def test_backing_name_outside_below_the_topmost_image(tmp_path):
    (tmp_path / "base.raw").write_bytes(pattern(7, SIZE))
    middle, _ = with_name_outside(tmp_path / "middle.qcow2", b"base.raw")
    top = small_image(backing=b"middle.qcow2", backing_format=b"qcow2").write(
        tmp_path / "top.qcow2"
    )
    refused(top, "DENIED", "middle.qcow2", "first cluster")
    with Opened(top, backing=[middle, tmp_path / "base.raw"]) as opened:
        assert opened.view().read(4096, 10) == pattern(7, SIZE)[4096:4106]


# ---- The header's length ---------------------------------------------------------


def with_counted_extensions(extensions=((builder.FEATURE_NAMES, bytes(96)), (5, b"12345678"))):
    """The header's length counts the extensions, as one program once wrote it."""
    image = small_image(header_length=104, extensions=extensions)
    data = image.build()
    return poke(data, 100, "I", 104 + len(image.extension_bytes())), image


def test_header_length_that_counts_the_extensions(rng):
    data, image = with_counted_extensions()
    error = refused(data, "CORRUPT", "header_length is 224", "104", "0x6803f857")
    assert "header-length=104" in error.with_help and error.host_offset == 100
    with Opened.from_storage(data, header_length=104) as opened:
        check_view(opened.view(), image.disk.model, rng)
        assert [e.type for e in opened.extensions()] == [builder.FEATURE_NAMES, 5]
        assert opened.header.header_length == 104
        (warning,) = opened.warnings
        assert "header's length" in warning


def test_a_header_length_that_nothing_needs(tmp_path):
    """An image whose header is right is not read in another way."""
    path = small_image(compression=1).write(tmp_path / "right.qcow2")
    refused(
        path, "ARGUMENT", "104", "right.qcow2", "leave out:", "header-length=", header_length=104
    )


def test_a_header_length_that_does_not_help():
    data, _ = with_counted_extensions()
    refused(data, "CORRUPT", "header_length", header_length=224)
    refused(data, "CORRUPT", "extension", header_length=105)


def test_header_length_below_the_topmost_image(tmp_path):
    """The option is for every file that needs it, and for no other."""
    data, base = with_counted_extensions()
    (tmp_path / "base.qcow2").write_bytes(data)
    top = Image(
        size=SIZE,
        cluster_bits=12,
        compression=1,
        backing=b"base.qcow2",
        backing_format=b"qcow2",
        backing_model=base.disk.model,
    )
    top.disk.compressed(1, squeezable(9, 4096))
    path = top.write(tmp_path / "top.qcow2")
    refused(path, "CORRUPT", "base.qcow2", "header-length=104")
    with Opened(path, header_length=104) as opened:
        assert opened.view().read(0, SIZE) == top.disk.model.read(0, SIZE)


# ---- The snapshot table ----------------------------------------------------------


def with_snapshots(extra=None, count=4):
    """The second snapshot has this extra data."""
    image = small_image()
    for index in range(count):
        image.disk.normal(0, pattern(index, 4096))
        image.snapshot(b"%d" % index, b"name %d" % index, extra=extra if index == 1 else None)
    return image


@pytest.mark.parametrize("length", (1025, 5000, 70001))
@pytest.mark.parametrize("count", (2, 4))
def test_snapshot_with_too_much_extra_data(length, count, rng):
    extra = struct.pack(">QQ", 0, SIZE) + b"\xff" * 8 + pattern(1, length - 24)
    image = with_snapshots(extra, count)
    with Opened.from_storage(image.build()) as opened:
        assert [(s.id, s.name) for s in opened.snapshots] == [
            (b"%d" % index, b"name %d" % index) for index in range(count)
        ]
        assert opened.snapshots[1].unknown_extra == extra[24:1024]
        for index in range(count):
            check_view(opened.view(index), image.snapshots[index][0].model, rng)
        (warning,) = opened.warnings
        assert "1 entry" in warning and "extra data" in warning
        kinds = [finding.kind for finding in opened.check()[1]]
        assert kinds == ["table"]


@pytest.mark.parametrize("written", (16, 24, 8))
@pytest.mark.parametrize("length", (0x80000010, 1 << 20, 2000, 0xFFFFFFFF))
def test_snapshot_whose_extra_data_have_a_wrong_length(length, written, rng):
    """A flipped bit: the texts are where programs write them."""
    image = with_snapshots(struct.pack(">QQQ", 0, SIZE, 2**64 - 1)[:written])
    data = image.build()
    poke(data, image.snapshots_offset + image.snapshot_offsets[1] + 36, "I", length)
    with Opened.from_storage(data) as opened:
        assert [s.name for s in opened.snapshots] == [b"name %d" % index for index in range(4)]
        check_view(opened.view(1), image.snapshots[1][0].model, rng)
        check_view(opened.view(3), image.snapshots[3][0].model, rng)
        assert len(opened.warnings) == 1


def test_snapshot_whose_texts_are_nowhere():
    """An entry that cannot be found is lost, as it was: nothing is made up."""
    image = with_snapshots(bytes(64))
    data = image.build()
    poke(data, image.snapshots_offset + image.snapshot_offsets[1] + 36, "I", 5000)
    with Opened.from_storage(data) as opened:
        assert [s.name for s in opened.snapshots] == [b"name 0"] and opened.lost == (3, 0)


# ---- The compression type --------------------------------------------------------


@pytest.mark.parametrize("declared", (0, 1), ids=("deflate", "zstd"))
def test_streams_of_the_other_compression(declared):
    image = Image(size=SIZE, cluster_bits=12, compression=declared)
    content = squeezable(1, 4096)
    image.disk.compressed(
        0, content, stream=builder.deflate(content) if declared else zstd(content)
    )
    image.disk.compressed(1, content)
    with Opened.from_storage(image.build()) as opened:
        view = opened.view()
        assert view.read(4096, 4096) == content
        with pytest.raises(QcowError) as caught:
            view.read(0, 4096)
    word = "does not start as zstd" if declared else "starts as a zstd stream does (28 b5 2f fd)"
    expect_error(caught.value, "CORRUPT", word, "compression type")


@pytest.mark.parametrize("declared", (0, 1), ids=("deflate", "zstd"))
def test_damaged_streams_of_the_declared_compression(declared):
    """Nothing is said about the other one."""
    image = Image(size=SIZE, cluster_bits=12, compression=declared)
    stream = bytearray(image.compress(squeezable(1, 4096)))
    stream[-40:] = bytes(40)
    stream[8:40] = b"\xff" * 32
    image.disk.compressed(0, squeezable(1, 4096), stream=bytes(stream))
    with Opened.from_storage(image.build()) as opened:
        with pytest.raises(QcowError) as caught:
            opened.view().read(0, 4096)
    expect_error(caught.value, "CORRUPT")
    assert "compression type" not in caught.value.message
