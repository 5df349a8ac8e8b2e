# SPDX-License-Identifier: MIT
"""",under-zeros": what is stored in clusters that the image says are zeros."""
import pytest
from lib import core, encrypted, tools
from lib.builder import COPIED, COMPRESSED, ZERO, Image, pattern
from lib.project import run

C = 4096
SIZE = 16 * C


def under_zeros(path, snapshot_index=core.ACTIVE, vm_state=False, **options):
    """The content, and the warning."""
    with core.Image(path, **options) as image:
        with image.view(snapshot_index, under_zeros=True, vm_state=vm_state) as view:
            content = view.read(0, view.size)
            (warning,) = view.warnings
    return content, warning


def image_of(cluster, path, **options):
    """Clusters of each kind; `cluster` is what is stored under zeros in cluster 5."""
    image = Image(size=SIZE, cluster_bits=12, **options)
    image.disk.normal(0, pattern(1, C))
    image.disk.zero(1)
    image.disk.zero_allocated(5, cluster)
    if not options.get("data_file"):
        image.disk.compressed(2, bytes(C))
    image.write(path)
    content = bytearray(SIZE)
    content[:C], content[5 * C : 6 * C] = pattern(1, C), cluster
    return bytes(content)


@pytest.mark.parametrize("options", ({}, {"data_file": b"guest.data"}), ids=("image", "data file"))
def test_only_what_is_stored_is_shown(options, tmp_path):
    content = image_of(pattern(2, C), tmp_path / "image", **options)
    shown, warning = under_zeros(tmp_path / "image")
    assert shown == content
    assert f" {C} bytes that the image says are zeros" in warning
    with core.Image(tmp_path / "image") as image, image.view() as view:
        assert view.read(5 * C, C) == bytes(C) and view.warnings == []
        assert view.map(5 * C, C).kind == "zero allocated"
        with image.view(under_zeros=True) as uncovered:
            extent = uncovered.map(5 * C, C)
            assert (extent.kind, extent.length) == ("normal", C)
            assert extent.host_offset == view.map(5 * C, C).host_offset


def test_each_state_has_its_own(tmp_path):
    image = Image(size=SIZE, cluster_bits=12)
    image.disk.zero_allocated(3, pattern(1, C))
    then = image.snapshot(b"1", b"first", vm_state_size=C)
    then.l1_entries = 2
    then.zero_allocated(512, pattern(2, C))
    image.disk.normal(3, pattern(3, C))
    image.write(tmp_path / "image")
    active, warning = under_zeros(tmp_path / "image")
    assert active[3 * C : 4 * C] == pattern(3, C) and " 0 bytes" in warning
    first, warning = under_zeros(tmp_path / "image", 0)
    assert first[3 * C : 4 * C] == pattern(1, C) and f" {C} bytes" in warning
    memory, warning = under_zeros(tmp_path / "image", 0, vm_state=True)
    assert memory == pattern(2, C) and f" {C} bytes" in warning


def test_version_2_and_extended_entries_read_as_ever(tmp_path):
    image = Image(size=SIZE, cluster_bits=12, version=2)
    at = image.junk(pattern(1, C))
    image.disk.force(1, COPIED | ZERO | at, kind="invalid")
    image.write(tmp_path / "old")
    with core.Image(tmp_path / "old") as opened, opened.view(under_zeros=True) as view:
        with pytest.raises(core.QcowError, match="version 2"):
            view.read(C, 512)
        assert " 0 bytes" in view.warnings[0]
    extended = Image(size=4 * 16384, cluster_bits=14, extended_l2=True)
    extended.disk.zero_allocated(0, pattern(2, 16384))
    extended.disk.subclusters(1, "DZ.." * 8, pattern(3, 16384))
    extended.write(tmp_path / "extended")
    shown, warning = under_zeros(tmp_path / "extended")
    assert shown == extended.disk.model.read(0, 4 * 16384)
    assert " 0 bytes" in warning


def test_bit_0_of_a_compressed_entry_is_no_zero_flag(tmp_path):
    image = Image(size=SIZE, cluster_bits=12)
    stream = image.compress(pattern(5, 2000).ljust(C, b"\0"))
    at = image.allocate(b"\0" + stream) + 1
    image.disk.compressed(1, pattern(5, 2000).ljust(C, b"\0"), stream, at=at)
    assert image.disk.entries[1][0] & (COMPRESSED | ZERO) == COMPRESSED | ZERO
    image.write(tmp_path / "image")
    assert under_zeros(tmp_path / "image")[0] == image.disk.model.read(0, SIZE)


@pytest.mark.parametrize("kept", (0, 512, 1000))
def test_what_the_file_lacks_is_an_error(kept, tmp_path):
    """Zeros that are zeros anyway need no bytes; what is asked for does."""
    image = Image(size=SIZE, cluster_bits=12, metadata_clusters=8)
    image.disk.zero_allocated(5, pattern(2, C))
    data = image.build()
    image.write(tmp_path / "image", data[: len(data) - C + kept])
    with core.Image(tmp_path / "image") as opened, opened.view(under_zeros=True) as view:
        content, damage = view.salvage(0, SIZE)
        assert content == bytes(5 * C) + pattern(2, C)[:kept] + bytes(SIZE - 5 * C - kept)
        assert [(one.code, one.guest_offset, one.guest_length) for one in damage] == [
            ("TRUNCATED", 5 * C + kept, C - kept)
        ]
    with core.Image(tmp_path / "image") as opened, opened.view() as view:
        assert view.read(0, SIZE) == bytes(SIZE)


@pytest.mark.parametrize("method", ("luks", "aes"))
@pytest.mark.skipif(not encrypted.has_libgcrypt(), reason="built without libgcrypt")
def test_it_is_decrypted_as_ever(method, tmp_path):
    path = tmp_path / "image"
    encrypted.create(path, SIZE, method=method, options=["cluster_size=4k"])
    described = encrypted.node(path, method=method)
    encrypted.write(described, [(2 * C, pattern(1, 3 * C)), f"write -z {3 * C} {C}"])
    shown, warning = under_zeros(path, passphrases=[b"secret"])
    assert shown == bytes(2 * C) + pattern(1, 3 * C) + bytes(11 * C)
    assert f" {C} bytes" in warning


def test_a_guest_that_writes_zeros(tmp_path):
    """What QEMU leaves, through a tool of The Sleuth Kit."""
    path = tmp_path / "image.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "1M")
    run("qemu-io", "-c", "write -P 65 0 256k", "-c", "write -z 64k 64k", path)
    shown = tools.run("img_cat", "-i", "qcow2", f"{path},under-zeros")
    assert shown.stdout == b"A" * 262144 + bytes((1 << 20) - 262144)
    assert shown.complaint.count("tsk-qcow2: warning: under-zeros: 65536 bytes") == 1
    stat = tools.run("img_stat", "-i", "qcow2", f"{path},under-zeros").stdout.decode()
    assert "Zeros: what is stored under zero, allocated clusters is shown" in stat
    plain = tools.run("img_cat", "-i", "qcow2", path)
    assert plain.stdout[65536:131072] == bytes(65536) and "under-zeros" not in plain.complaint


def test_the_first_cluster_of_a_data_file(tmp_path):
    """Its offset is 0. QEMU keeps bit 63 of its entry, which says that there is a cluster."""
    path = tmp_path / "image.qcow2"
    options = f"cluster_size=4k,data_file={tmp_path}/guest.data"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "64k")
    run("qemu-io", "-c", "write -P 65 0 16k", "-c", "write -z 0 8k", "-c", "write -z 32k 4k", path)
    shown, warning = under_zeros(path, data_file=tmp_path / "guest.data")
    assert shown == b"A" * 4 * C + bytes(12 * C)
    assert f" {2 * C} bytes" in warning


def test_unknown_flags(tmp_path):
    image_of(pattern(1, C), tmp_path / "image")
    with core.Image(tmp_path / "image") as image:
        with pytest.raises(core.QcowError, match="unknown flags"):
            core.View(image, core.ACTIVE, flags=4)


def test_counting_is_bounded(tmp_path):
    """A disk of 2 PiB, every entry of whose tables is one of zeros over something: one table, named
    4 million times."""
    image = Image(size=SIZE, cluster_bits=16)
    image.disk.zero_allocated(0, pattern(1, 65536))
    data = image.build()
    l1_size = 4 << 20
    l2_offset = int.from_bytes(data[image.disk.l1_offset : image.disk.l1_offset + 8], "big")
    entry = data[image.disk.entry_offset(0) : image.disk.entry_offset(0) + 8]
    data[l2_offset & core.NO_OFFSET >> 8 : (l2_offset & core.NO_OFFSET >> 8) + 65536] = entry * 8192
    data[24:32] = (l1_size << 29).to_bytes(8, "big")
    data[36:40] = l1_size.to_bytes(4, "big")
    data[40:48] = len(data).to_bytes(8, "big")
    data += l2_offset.to_bytes(8, "big") * l1_size
    image.write(tmp_path / "image", data)
    with core.Image(tmp_path / "image") as opened, opened.view(under_zeros=True) as view:
        assert "at least " in view.warnings[0]
        assert view.read(l1_size << 28, 65536) == pattern(1, 65536)
