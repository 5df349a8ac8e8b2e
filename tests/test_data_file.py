# SPDX-License-Identifier: MIT
"""External data files."""
import os

import pytest

from lib.builder import COMPRESSED, COPIED, ZERO, Image, pattern
from lib.core import QcowError
from lib.core import Image as Opened
from lib.expect import assert_bytes, check_image, check_view, expect_error, qemu_content
from lib.images import SOME_CLUSTER_BITS, over_raw

pytestmark = pytest.mark.usefixtures("core")


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
    assert_bytes(
        qemu_content(tmp_path / "image.qcow2"),
        image.disk.model.read(0, 65536),
        "the model against QEMU",
    )


@pytest.mark.parametrize(
    "word, kind", ((COPIED, "normal"), (0, None), (COPIED | ZERO, "zero allocated"), (ZERO, "zero"))
)
def test_data_file_offset_0_is_allocated_if_bit_63_is_set(word, kind, tmp_path, rng):
    image = over_raw(
        tmp_path, pattern(8, 4096 * 4), size=4 * 4096, cluster_bits=12, data_file=b"guest.data"
    )
    image.put_data_file(0, pattern(1, 16384))
    what = {"data": pattern(1, 4096)} if kind == "normal" else {}
    if word & COPIED:
        what["host_offset"] = 0
    image.disk.force(0, word, kind=kind, **what)
    image.disk.normal(1, pattern(2, 4096))
    path = image.write(tmp_path / "image.qcow2")
    with Opened(path) as opened:
        check_view(opened.view(), image.disk.model, rng)
    assert_bytes(qemu_content(path), image.disk.model.read(0, 16384), "the model against QEMU")


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
        assert_bytes(opened.view().read(0, 4096), pattern(2, 4096), "the active disk")
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
        assert_bytes(view.read(0, 6000), image.disk.model.read(0, 6000), "what is there")
        for start, length in ((6000, 1), (5999, 2), (8191, 1), (0, 16384)):
            with pytest.raises(QcowError) as caught:
                view.read(start, length)
            expect_error(caught.value, "TRUNCATED")
        assert view.read(8192, 8192) == bytes(8192)


@pytest.mark.parametrize("clusters, kept", (((0,), 0), ((0,), 100), ((1,), 6000), ((1,), 8192)))
def test_a_data_file_that_is_cut_is_a_warning(clusters, kept, tmp_path):
    """Also if only its first cluster is there, or was: its offset is 0."""
    image = Image(size=4 * 4096, cluster_bits=12, data_file=b"guest.data")
    for cluster in clusters:
        image.disk.normal(cluster, pattern(cluster, 4096))
    path = image.write(tmp_path / "image.qcow2")
    os.truncate(tmp_path / "guest.data", kept)
    with Opened(path) as opened:
        is_cut = kept < (clusters[-1] + 1) * 4096
        assert any("truncated" in warning for warning in opened.warnings) == is_cut


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
