# SPDX-License-Identifier: MIT
"""The map of guest clusters: every cluster size, L1 and L2 tables, subclusters."""
import struct

import pytest

from lib import builder
from lib.builder import COPIED, ZERO, Image, pattern, poke, squeezable
from lib.core import QcowError
from lib.core import Image as Opened
from lib.expect import (
    assert_bytes,
    check_bytes,
    check_image,
    check_reads,
    expect_error,
    qemu_content,
)
from lib.images import SOME_CLUSTER_BITS, extended_over_raw, mixed_image, over_raw, small_image

ALL_CLUSTER_BITS = range(9, 22)
EXTENDED_CLUSTER_BITS = (14, 16, 21)

pytestmark = pytest.mark.usefixtures("core")


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
    assert_bytes(qemu_content(path), image.disk.model.read(0, 1 << 18), "the model against QEMU")


def test_zero_flag_in_version_2_is_an_error(rng):
    image = Image(size=16384, cluster_bits=12, version=2)
    image.disk.normal(0, pattern(1, 4096))
    image.disk.set(1, ZERO)
    image.disk.set(2, image.allocate(pattern(2, 4096)) | ZERO)
    data = image.build()
    check_bytes(data, image.disk.model, rng)
    with Opened.from_storage(data) as opened, pytest.raises(QcowError) as caught:
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
    with Opened.from_storage(data) as opened, pytest.raises(QcowError) as caught:
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
    with Opened.from_storage(data) as opened:
        view = opened.view()
        assert_bytes(view.read(0, 512 * 4096), image.disk.model.read(0, 512 * 4096), "before")
        assert_bytes(
            view.read(1024 * 4096, 4096), image.disk.model.read(1024 * 4096, 4096), "after"
        )
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
    with Opened.from_storage(image.build()) as opened:
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
    with Opened.from_storage(image.build()) as opened:
        view = opened.view()
        assert_bytes(view.read(0, 4096), pattern(1, 4096), "the good half")
        with pytest.raises(QcowError) as caught:
            view.read(512 * 4096, 1)
        assert expect_error(caught.value, "TRUNCATED").guest_offset == 512 * 4096


def test_l2_table_that_is_the_header(rng):
    """Tables may lie anywhere: whatever the words say, no crash, no endless loop."""
    image = Image(size=512 * 4096, cluster_bits=12)
    image.disk.force_l1(0, 1 << 63)
    data = image.build()
    poke(data, image.disk.l1_offset, "Q", image.disk.l1_offset)
    with Opened.from_storage(data) as opened:
        view = opened.view()
        view.map_all()
        assert view.read(4096, 4096) == bytes(4096)
        assert_bytes(
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
    assert_bytes(
        qemu_content(tmp_path / "image.qcow2"),
        image.disk.model.read(0, image.disk.size),
        "the model against QEMU",
    )


def test_zero_clusters_hide_the_backing_file(tmp_path, rng):
    image = over_raw(tmp_path, pattern(20, 8 * 4096), size=8 * 4096, cluster_bits=12)
    image.disk.zero(1)
    image.disk.zero_allocated(2, pattern(1, 4096))
    image.disk.normal(4, pattern(2, 4096))
    check_image(image, tmp_path, rng)


# ---- Extended L2 entries ---------------------------------------------------------


@pytest.mark.parametrize("cluster_bits", EXTENDED_CLUSTER_BITS)
def test_subclusters(cluster_bits, tmp_path, rng):
    """Neither bit set inside an allocated cluster reads the backing file."""
    image = extended_over_raw(tmp_path, cluster_bits)
    kinds = ["".join(rng.choice("DZ.") for _ in range(32)) for _ in range(3)]
    for cluster, letters in enumerate(kinds):
        image.disk.subclusters(cluster, letters, pattern(cluster, image.cluster_size))
    image.disk.subclusters(3, "Z." * 16, b"", host=False)
    image.disk.subclusters(4, "." * 31 + "D", pattern(4, image.cluster_size))
    check_image(image, tmp_path, rng)


def test_subclusters_run_across_clusters(tmp_path, rng):
    image = extended_over_raw(tmp_path, 14)
    image.disk.subclusters(0, "." * 16 + "D" * 16, pattern(1, 16384))
    image.disk.subclusters(1, "D" * 16 + "Z" * 16, pattern(2, 16384))
    image.disk.subclusters(2, "Z" * 16 + "." * 16, pattern(3, 16384), host=True)
    image.disk.subclusters(3, "." * 16 + "Z" * 16, b"", host=False)
    check_image(image, tmp_path, rng)


def test_compressed_entries_ignore_the_bitmap(tmp_path, rng):
    image = extended_over_raw(tmp_path, 14)
    for cluster, bitmap in enumerate(
        (0, 0xFFFFFFFF, 0xFFFFFFFF << 32, (1 << 64) - 1, 0x5555AAAA5555AAAA)
    ):
        image.disk.compressed(cluster, squeezable(cluster, 16384), bitmap=bitmap)
    check_image(image, tmp_path, rng, oracle=False)


def test_extended_entries_have_no_zero_flag(tmp_path, rng):
    """Bit 0 is reserved there, and reserved bits mean nothing."""
    image = extended_over_raw(tmp_path, 14)
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
