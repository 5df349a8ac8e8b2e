# SPDX-License-Identifier: MIT
"""Images whose file ends too early."""
import pytest

from lib.builder import Image, pattern, squeezable
from lib.core import QcowError
from lib.core import Image as Opened
from lib.expect import assert_bytes, check_bytes, expect_error, unreadable
from lib.images import truncatable
from lib.project import run_line

pytestmark = pytest.mark.usefixtures("core")


@pytest.mark.parametrize("kept", (-1, 0, 1, 512, 65535))
def test_truncated_data_is_reported_at_open(kept):
    _, data, hosts = truncatable()
    with Opened.from_storage(data[: hosts[1] + kept]) as opened:
        assert any("truncated" in warning for warning in opened.warnings)


@pytest.mark.parametrize("kept", (0, 1, 512, 65535, 65536 - 100))
def test_truncated_data(kept):
    """The rest of the cluster is lost; QEMU reads zeros."""
    image, data, hosts = truncatable()
    with Opened.from_storage(data[: hosts[1] + kept]) as opened:
        view, model = opened.view(), image.disk.model
        lost = 2 * 65536 + kept
        assert_bytes(view.read(0, lost), model.read(0, lost), "what is there")
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
    with Opened.from_storage(data[: hosts[1] + kept]) as opened, pytest.raises(QcowError) as caught:
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
    with Opened.from_storage(data) as opened:
        assert any("truncated" in warning for warning in opened.warnings)
        view = opened.view()
        assert_bytes(view.read(0, 65536), pattern(1, 65536), "through the first table")
        assert_bytes(
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
            with Opened.from_storage(short) as opened:
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
        unreadable(data[:length], "TRUNCATED")
    for length in range(8):
        unreadable(data[:length], "NOT_QCOW2 TRUNCATED")


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
            with Opened.from_storage(data[:length]) as opened:
                view = opened.view()
                for sector in range(12):
                    try:
                        got = view.read(sector * 512, 512)
                    except QcowError as error:
                        expect_error(error, "TRUNCATED")
                        continue
                    fits += 1
                    assert_bytes(
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
    with Opened.from_storage(data[:-1]) as opened:
        view = opened.view()
        assert_bytes(
            view.read(2 << 17, 3 * 4096 - 1), pattern(1, 1 << 17)[: 3 * 4096 - 1], "what is there"
        )
        with pytest.raises(QcowError) as caught:
            view.read((2 << 17) + 3 * 4096 - 1, 1)
        expect_error(caught.value, "TRUNCATED")


def test_extended_l2_image_that_qemu_ended_inside_its_last_cluster(tmp_path):
    path = tmp_path / "image.qcow2"
    run_line("qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=128k", path, "8M")
    run_line("qemu-io -f qcow2 -c", "write -P 0x5a 1M 4k", path)
    assert (
        path.stat().st_size % (128 << 10) != 0
    ), "QEMU wrote the whole cluster: this test shows nothing"
    with Opened(path) as opened:
        assert opened.warnings == []
        assert_bytes(
            opened.view().read(0, 8 << 20),
            bytes(1 << 20) + b"\x5a" * 4096 + bytes((7 << 20) - 4096),
            "content",
        )
