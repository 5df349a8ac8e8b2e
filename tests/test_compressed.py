# SPDX-License-Identifier: MIT
"""Compressed clusters: streams of every kind, where they lie, and bad ones."""
import zlib

import pytest

from lib.builder import (
    COMPRESSED,
    Image,
    deflate,
    pattern,
    squeezable,
    zstd,
    zstd_huge_window,
    zstd_skippable,
)
from lib.core import QcowError
from lib.core import Image as Opened
from lib.expect import (
    assert_bytes,
    check_bytes,
    check_image,
    check_map,
    check_view,
    expect_error,
    qemu_content,
    unreadable,
)
from lib.images import SOME_CLUSTER_BITS, small_image

pytestmark = pytest.mark.usefixtures("core")


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
    assert_bytes(qemu_content(path), image.disk.model.read(0, 4 << 16), "the model against QEMU")


@pytest.mark.parametrize("lost", (20, 100, 10000))
@pytest.mark.parametrize("compression", (0, 1))
def test_stream_cut_by_the_end_of_the_file(compression, lost):
    image = Image(size=4 << 16, compression=compression, metadata_clusters=8)
    image.disk.normal(0, pattern(1, 65536))
    host = image.disk.compressed(1, squeezable(2, 65536))
    data = image.build()[: host + len(image.compress(squeezable(2, 65536))) - lost]
    with Opened.from_storage(data) as opened:
        assert_bytes(opened.view().read(0, 65536), pattern(1, 65536), "what is there")
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
    unreadable(image.build(), "TRUNCATED")


def test_deflate_stream_that_gives_more_than_a_cluster(tmp_path, rng):
    """As in QEMU, the cluster is what fits."""
    image = Image(size=4 << 12, cluster_bits=12)
    data = squeezable(1, 5000)
    image.disk.compressed(1, data[:4096], deflate(data))
    image.disk.compressed(2, bytes(4096), deflate(bytes(10000)))
    check_image(image, tmp_path, rng)


def unended(data):
    """A deflate stream of the data that goes on with an empty block that is not there."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -12)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


def test_what_may_be_damaged_is_read_and_reported(tmp_path, core):
    """Each read of a part of the cluster reports it; a cluster whose stream ends with it, never."""
    C = 4096
    image = Image(size=8 * C, cluster_bits=12)
    streams = [
        deflate(squeezable(0, C)),
        deflate(squeezable(1, C) + b"x"),
        unended(squeezable(2, C)),
        unended(squeezable(3, C)) + deflate(b""),
        deflate(squeezable(4, C - 1)),
        deflate(squeezable(5, C)) + b"after it",
    ]
    for cluster, stream in enumerate(streams):
        image.disk.compressed(cluster, squeezable(cluster, C), stream)
    path = image.write(tmp_path / "disk.qcow2")
    with core.Image(path) as opened:
        view = opened.view()
        data, damage, doubts = view.examine(0, 8 * C)
        assert [(one.guest_offset, one.guest_length) for one in damage] == [(4 * C, C)]
        assert [(one.guest_offset, one.guest_length, one.code) for one in doubts] == [
            (1 * C, C, "CORRUPT"),
            (2 * C, C, "CORRUPT"),
        ]
        assert doubts[0].host_offset == view.map(C, 1).host_offset
        assert doubts[0].table_offset is not None
        assert doubts[0].message.startswith(
            "the compressed stream does not end with its cluster; it begins at host offset "
            f"{doubts[0].host_offset} (guest bytes {C} to {2 * C - 1}"
        )
        assert data == b"".join(
            squeezable(i, C) if i in (0, 1, 2, 3, 5) else bytes(C) for i in range(8)
        )
        salvaged, found = view.salvage(0, 8 * C)
        assert salvaged == data and list(map(str, found)) == list(map(str, damage))
        _, _, doubts = view.examine(C + 100, 10)
        assert [(one.guest_offset, one.guest_length) for one in doubts] == [(C + 100, C - 100)]
        assert view.examine(3 * C, C)[1:] == ([], [])
        assert view.examine(C, C)[0] == view.read(C, C) == squeezable(1, C)


def test_zstd_streams_end_with_their_clusters(tmp_path, core):
    image = Image(size=4 << 12, cluster_bits=12, compression=1)
    image.disk.compressed(0, squeezable(0, 4096), zstd(squeezable(0, 4096)) + b"after it")
    with core.Image(image.write(tmp_path / "disk.qcow2")) as opened:
        assert opened.view().examine(0, 4096) == (squeezable(0, 4096), [], [])


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
    with Opened.from_storage(image.build()) as opened:
        view = opened.view()
        check_map(view, image.disk.model)
        for cluster in (0, 2, 3):
            assert_bytes(
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
    with Opened.from_storage(image.build()) as opened:
        try:
            assert opened.view().read(0, 4096) == data
        except QcowError as error:
            expect_error(error, "CORRUPT UNSUPPORTED")


def test_a_compressed_cluster_read_twice_is_the_same(rng):
    """From the cache, in small pieces, in any order, for two clusters that share a host cluster."""
    image = small_image()
    image.disk.compressed(1, squeezable(8, 4096))
    with Opened.from_storage(image.build()) as opened:
        view = opened.view()
        for at in rng.sample(range(0, 16384, 64), 256) * 2:
            assert view.read(at, 64) == image.disk.model.read(at, 64)
