# SPDX-License-Identifier: MIT
"""Backing files: their names, their lengths, and chains of them."""
import os
import struct

import pytest

from lib.builder import Image, RawModel, pattern, poke, squeezable
from lib.core import QcowError
from lib.core import Image as Opened
from lib.expect import assert_bytes, check_bytes, check_image, expect_error, unreadable
from lib.images import over_raw, small_image

pytestmark = pytest.mark.usefixtures("core")


@pytest.mark.parametrize("cluster_bits", (9, 16))
@pytest.mark.parametrize("length", (0, 1, 512, 70001, 1 << 18, (1 << 18) + 1))
def test_raw_backing_file_of_another_length(length, cluster_bits, tmp_path, rng):
    """Shorter: zeros beyond its end. Longer: the excess is invisible."""
    image = over_raw(tmp_path, pattern(1, length), size=1 << 18, cluster_bits=cluster_bits)
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
    middle = over_raw(tmp_path, pattern(1, 100_000), size=150_016, cluster_bits=12)
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
    with Opened.from_storage(data, no_chain=True) as opened:
        assert opened.header.backing_file == name
    unreadable(poke(data, 16, "I", 401), "DENIED", "first cluster")


def test_backing_file_offset_out_of_its_bounds_without_a_name():
    """With a name there is a way in: test_ways_in.py."""
    data = small_image(backing=b"base").build()
    unreadable(poke(poke(data, 8, "Q", 4097), 16, "I", 0), "CORRUPT", "backing", no_chain=True)


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
        assert_bytes(view.read(0, 4096), model.read(0, 4096), "before")
        assert_bytes(view.read(8192, 8192), model.read(8192, 8192), "after")
        for start, length in ((4096, 1), (4000, 200), (0, 16384)):
            with pytest.raises(QcowError) as caught:
                view.read(start, length)
            assert 4096 <= expect_error(caught.value, "CORRUPT").guest_offset < 8192
        assert [e.kind for e in view.map_all() if e.guest_offset == 4096] == ["invalid"]
