# SPDX-License-Identifier: MIT
"""What other readers of qcow2 get wrong, by the reader."""
import os
import struct

import pytest

from lib.builder import Image, RawModel, pattern, poke, squeezable
from lib.core import QcowError
from lib.core import Image as Opened
from lib.expect import assert_bytes, check_bytes, check_image, check_view, expect_error, unreadable
from lib.images import over_raw, small_image, truncatable

pytestmark = pytest.mark.usefixtures("core")


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
    with Opened.from_storage(data) as opened:
        assert_bytes(
            opened.view().read(4096, 4096),
            pattern(1, 4096),
            "the cluster after the one that is cut",
        )
        with pytest.raises(QcowError):
            opened.view().read(0, 8192)


def test_peer_dissect_version_2_with_a_backing_format(tmp_path, rng):
    """Its length is no feature word."""
    image = over_raw(tmp_path, pattern(1, 65536), size=65536, cluster_bits=12, version=2)
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
    with Opened.from_storage(image.build()) as opened:
        assert opened.view(0).size == 0
        check_view(opened.view(), image.disk.model, rng)


def test_peer_dissect_snapshot_extra_over_24_bytes(rng):
    image = Image(size=4 * 4096, cluster_bits=12)
    image.disk.normal(0, pattern(1, 4096))
    extra = struct.pack(">QQq", 0, image.disk.size, -1) + b"future fields"
    image.snapshot(b"1", b"first", extra=extra)
    image.snapshot(b"2", b"second", extra=extra + bytes(3))
    image.disk.normal(0, pattern(2, 4096))
    with Opened.from_storage(image.build()) as opened:
        assert [(s.id, s.name) for s in opened.snapshots] == [(b"1", b"first"), (b"2", b"second")]
        assert opened.snapshots[0].unknown_extra == b"future fields"
        check_view(opened.view(1), image.snapshots[1][0].model, rng)


def test_peer_dissect_names_that_are_not_utf8():
    image = small_image()
    image.snapshot(b"\xe9", b"\xff\xfe\x80")
    with Opened.from_storage(image.build()) as opened:
        assert (opened.snapshots[0].id, opened.snapshots[0].name) == (b"\xe9", b"\xff\xfe\x80")
        assert opened.find(b"\xff\xfe\x80") == 0


def test_peer_dissect_unknown_incompatible_bit_is_refused():
    unreadable(small_image(incompatible=1 << 20).build(), "UNSUPPORTED", "20")


def test_peer_dissect_huge_l1_is_refused():
    unreadable(poke(small_image().build(), 36, "I", 0xFFFFFFFF), "CORRUPT", "l1_size")


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
    image = over_raw(tmp_path, pattern(1, 4 * 4096), size=4 * 4096, cluster_bits=12)
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
    unreadable(
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
    unreadable(poke(small_image().build(), 4, "I", 4), "UNSUPPORTED", "4")


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
    unreadable(poke(Image(size=1 << 30, cluster_bits=12).build(), 36, "I", 3), "CORRUPT", "l1_size")


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
    image = over_raw(tmp_path, pattern(1, 1 << 20), size=1 << 20)
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
        with pytest.raises(QcowError) as caught, Opened.from_storage(data[:end]) as opened:
            opened.view().read(65536, 65536)
        expect_error(caught.value, "TRUNCATED")
