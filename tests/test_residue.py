# SPDX-License-Identifier: MIT
"""",residue": every byte of a file is either referred to or residue, and which it is.

The oracle is lib/residue.py. tests/differential compares random histories with it too.
"""
import random
import shutil
import struct
import subprocess
import zlib

import pytest
from lib import core, encrypted, residue, tools
from lib.builder import COPIED, Image, pattern, poke, squeezable
from lib.project import run

C = 4096


def stored(path):
    """The residue, after a comparison with the oracle."""
    with core.Image(path) as image, image.residue() as view:
        residue.check(path, view)
        rng, size = random.Random(1), view.size
        whole = view.read(0, size)
        for _ in range(50):
            at = rng.randrange(size)
            length = min(rng.choice((1, 7, 512, 5000)), size - at)
            assert view.read(at, length) == whole[at : at + length]
        return whole


def full_image(**options):
    """An image with something of everything."""
    image = Image(size=40 * C + 100, cluster_bits=12, **options)
    image.junk(pattern(1, 3 * C))
    image.junk(pattern(2, C), leak=True)
    for cluster in range(5):
        image.disk.normal(cluster, pattern(10 + cluster, C))
    image.disk.zero_allocated(5, pattern(3, C))
    for cluster in range(6, 12):
        image.disk.compressed(cluster, squeezable(cluster, C))
    image.disk.normal(40, pattern(4, C))  # of which 100 bytes are the disk's
    image.snapshot(b"1", b"before")
    image.disk.normal(0, pattern(5, C))
    image.disk.clear(6)
    return image


@pytest.mark.parametrize("options", ({}, {"compression": 1}, {"version": 2}), ids=str)
def test_all_kinds(options, tmp_path):
    options = dict(options)
    image = full_image(**options) if options.get("version") != 2 else None
    if image is None:
        image = Image(size=40 * C, cluster_bits=12, version=2)
        image.disk.normal(3, pattern(3, C))
        image.disk.compressed(4, squeezable(4, C))
        image.junk(pattern(1, C))
    data = image.build() + pattern(99, 1234)
    image.write(tmp_path / "image", data)
    found = stored(tmp_path / "image")
    assert found[len(data) - 1234 :] == pattern(99, 1234)
    assert pattern(1, C) in found
    if "version" not in options:
        assert pattern(2, C) in found and pattern(3, C) in found
        assert pattern(4, C)[100:] in found and pattern(4, C)[:100] not in found
    for cluster in range(1, 5):
        assert pattern(10 + cluster, 64) not in found


def test_slack_of_tables(tmp_path):
    image = full_image(backing=b"base.raw", backing_format=b"raw")
    data = image.build()
    slack = [
        (image.disk.l1_offset + 8 * image.disk.l1_count, "L1"),
        (image.snapshots_offset + image.snapshots_length, "snapshot table"),
        (data.index(b"base.raw") + 8, "header"),
    ]
    for at, what in slack:
        data[at : at + 64] = what.encode().ljust(64, b"!")
    image.write(tmp_path / "image", data)
    (tmp_path / "base.raw").write_bytes(bytes(C))
    found = stored(tmp_path / "image")
    for at, what in slack:
        assert found[at : at + 64] == what.encode().ljust(64, b"!")
    assert b"base.raw" not in found and b"QFI" not in found


def test_subclusters(tmp_path):
    image = Image(size=8 * 16384, cluster_bits=14, extended_l2=True)
    image.disk.subclusters(0, "DZ.D" * 8, pattern(1, 16384))
    image.disk.subclusters(1, "D" * 32, pattern(2, 16384))
    image.disk.subclusters(2, "Z" * 32, pattern(3, 16384))
    host = image.disk.subclusters(7, "." * 31 + "D", pattern(4, 16384))
    image.write(tmp_path / "image")
    found = stored(tmp_path / "image")
    assert found[host : host + 31 * 512] == pattern(4, 16384)[: 31 * 512]
    assert pattern(3, 16384) in found


def test_a_data_file_has_no_residue_in_the_image(tmp_path):
    image = Image(size=8 * C, cluster_bits=12, data_file=b"guest.data")
    image.disk.normal(0, pattern(1, C))
    image.disk.normal(3, pattern(2, C))
    image.junk(pattern(3, C))
    image.write(tmp_path / "image")
    found = stored(tmp_path / "image")
    assert pattern(3, C) in found and len(found.replace(b"\0", b"")) < C + 64


def test_what_an_invalid_entry_names_is_residue(tmp_path):
    image = Image(size=16 * C, cluster_bits=12)
    at = image.junk(pattern(1, 2 * C))
    image.disk.force(0, COPIED | at + 512, kind="invalid")
    image.write(tmp_path / "image")
    with core.Image(tmp_path / "image") as opened, opened.residue() as view:
        assert view.read(at, 2 * C) == pattern(1, 2 * C)


def test_entries_behind_the_end_of_the_disk(tmp_path):
    """No state shows what they name."""
    image = Image(size=16 * C, cluster_bits=12)
    at = image.disk.normal(20, pattern(1, C))
    image.write(tmp_path / "image")
    found = stored(tmp_path / "image")
    assert found[at : at + C] == pattern(1, C)


def test_saved_memory_is_no_residue(tmp_path):
    image = Image(size=16 * C, cluster_bits=12)
    then = image.snapshot(b"1", b"running", vm_state_size=C + 10)
    then.l1_entries = 2
    host = then.normal(512, pattern(1, C))
    last = then.normal(513, pattern(2, C))
    image.write(tmp_path / "image")
    found = stored(tmp_path / "image")
    assert found[host : host + C] == bytes(C)
    assert found[last : last + C] == bytes(10) + pattern(2, C)[10:]


def test_a_damaged_stream_is_in_use_to_the_end_of_its_sectors(tmp_path):
    image = Image(size=16 * C, cluster_bits=12)
    at = image.disk.compressed(0, squeezable(1, C))
    image.write(tmp_path / "image")
    with open(tmp_path / "image", "r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 16)
    found = stored(tmp_path / "image")
    assert not any(found[at : at + 512])


def test_a_stream_that_would_go_on(tmp_path):
    """Deflate streams of more than a cluster can be read; what is left of them nobody reads."""
    image = Image(size=16 * C, cluster_bits=12)
    stream = image.compress(squeezable(1, 2 * C))
    at = image.disk.compressed(0, squeezable(1, 2 * C)[:C], stream)
    image.write(tmp_path / "image")
    with core.Image(tmp_path / "image") as opened, opened.residue() as view:
        given, end = view.read(at, len(stream)), len(stream)
        used = end - len(given.lstrip(b"\0"))
        assert end // 4 < used < end * 3 // 4 and given[used:] == stream[used:]


def test_a_table_that_cannot_be_read_is_a_warning(tmp_path):
    image = full_image()
    data = bytes(image.build())
    bad = image.disk.l1_offset

    def read(offset, length):
        if offset < bad + 8 and offset + length > bad:
            return 5  # EIO
        return data[offset : offset + length]

    with core.Image.from_storage(read, len(data)) as opened, opened.residue() as view:
        assert "cannot be read" in view.warnings[0]
        with pytest.raises(core.QcowError) as caught:
            view.read(bad, C)
        assert caught.value.code == "IO"


@pytest.mark.skipif(not encrypted.has_libgcrypt(), reason="built without libgcrypt")
@pytest.mark.parametrize("method", ("luks", "aes"))
def test_encrypted(method, tmp_path):
    path = tmp_path / "image"
    encrypted.create(path, 64 * C, method=method, options=["cluster_size=4k"])
    described = encrypted.node(path, method=method)
    described["discard"] = "unmap"
    encrypted.write(described, [(0, pattern(1, 16 * C))])
    secret = pattern(1, 16 * C)
    before = path.read_bytes()
    encrypted.write(described, [f"write -z 0 {4 * C}"])
    with core.Image(path, passphrases=[b"secret"]) as image, image.residue() as view:
        residue.check(path, view, as_stored=method == "aes")
        found = view.read(0, view.size)
    assert (secret[: 4 * C] in found) == (method == "luks")
    assert len(before) <= path.stat().st_size


def test_a_deleted_snapshot(tmp_path):
    """What QEMU leaves of one where discards do not reach the file."""
    path = tmp_path / "image.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "4M")
    run("qemu-io", "-c", "write -P 65 0 1M", path)
    run("qemu-img", "snapshot", "-c", "gone", path)
    run("qemu-io", "-c", "write -P 66 0 1M", path)
    node = f"driver=qcow2,file.driver=file,file.filename={path},file.discard=ignore"
    run("qemu-img", "snapshot", "-d", "gone", "--image-opts", node)
    found = stored(path)
    assert found.count(b"A" * 65536) == 16 and b"B" * 512 not in found and b"gone" in found


def test_overlapping_streams(tmp_path):
    """Streams that begin at every third byte cannot be there: they are in use to the end of their
    last sector, without being decoded."""
    image = Image(size=4096 * C, cluster_bits=12)
    at = image.junk(pattern(2, 16 * C))
    for cluster in range(4096):
        image.disk.compressed(cluster, bytes(C), stream=b"", sectors=3, at=at + cluster * 3)
    image.write(tmp_path / "image")
    with core.Image(tmp_path / "image") as opened, opened.residue() as view:
        given = view.read(at, 16 * C)
    end = 12285 // 512 * 512 + 4 * 512
    assert given == bytes(end) + pattern(2, 16 * C)[end:]


def test_lost_l1(tmp_path):
    image = full_image()
    data = image.build()
    poke(data, 40, "Q", 0)
    image.write(tmp_path / "image", data)
    with core.Image(tmp_path / "image") as opened, opened.residue() as view:
        assert pattern(11, C) not in view.read(0, view.size)  # the snapshot has it
        assert pattern(5, C) in view.read(0, view.size)


@pytest.mark.parametrize("cluster_bits", (9, 16, 21))
def test_cluster_sizes(cluster_bits, tmp_path):
    size = 1 << cluster_bits
    image = Image(size=9 * size, cluster_bits=cluster_bits)
    image.disk.normal(0, pattern(1, size))
    image.disk.compressed(1, squeezable(2, size))
    image.disk.compressed(2, bytes(size))
    image.disk.zero_allocated(3, pattern(3, size))
    image.write(tmp_path / "image")
    assert pattern(3, size) in stored(tmp_path / "image")


def test_bitmaps(tmp_path):
    path = tmp_path / "image.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
    run("qemu-img", "bitmap", "--add", path, "first")
    run("qemu-io", "-c", "write -P 65 0 1M", path)
    run("qemu-img", "bitmap", "--add", path, "second")
    run("qemu-img", "bitmap", "--remove", path, "first")
    before = stored(path)
    assert b"first" in before  # the directory that there was before
    with open(path, "r+b") as file:  # a program that knows no bitmaps wrote to the image
        file.seek(88)
        file.write(struct.pack(">Q", 0))
    assert stored(path).count(b"second") == before.count(b"second") + 1


# ---- Programs that read it -------------------------------------------------------


def png(seed):
    """A picture of 64 x 64 pixels."""

    def chunk(kind, data):
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    rows = b"".join(b"\0" + pattern(seed + row, 192) for row in range(64))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def discarded(tmp_path_factory):
    """An image whose guest had a file system with pictures, all of which it discarded; and the
    pictures. Discards do not reach the file: it keeps them."""
    folder = tmp_path_factory.mktemp("discarded")
    pictures = {f"picture{number}.png": png(100 * number) for number in range(20)}
    for name, content in pictures.items():
        (folder / "files").mkdir(exist_ok=True)
        (folder / "files" / name).write_bytes(content)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", folder / "files", folder / "raw", "8M")
    path = folder / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
    node = f"driver=qcow2,discard=unmap,file.driver=file,file.filename={path},file.discard=ignore"
    run("qemu-io", "--image-opts", "-c", f"write -s {folder / 'raw'} 8M 8M", node)
    run("qemu-io", "--image-opts", "-c", "write -P 1 32M 1M", "-c", "discard 8M 8M", node)
    return path, pictures, (folder / "raw").read_bytes()


def test_a_file_system_in_it(discarded, tmp_path):
    """Found at its offset by The Sleuth Kit's tools, and recovered."""
    path, pictures, raw = discarded
    found = stored(path)
    start = found.index(raw[:65536])
    assert start % 512 == 0 and found[start : start + len(raw)] == raw
    name, offset = f"{path},residue", ("-o", str(start // 512))
    listed = tools.run("fls", "-i", "qcow2", *offset, "-r", name).stdout.decode()
    assert all(picture in listed for picture in pictures)
    tools.run("tsk_recover", "-i", "qcow2", *offset, "-e", name, str(tmp_path / "out"))
    for picture, content in pictures.items():
        assert (tmp_path / "out" / picture).read_bytes() == content


@pytest.mark.skipif(not shutil.which("photorec"), reason="there is no photorec (package testdisk)")
def test_photorec(discarded, tmp_path):
    """A carver finds the pictures in the residue, and none on the disk."""
    path, pictures, _ = discarded
    for name, count in ((f"{path},residue", len(pictures)), (str(path), 0)):
        stream = tmp_path / f"{count}.raw"
        stream.write_bytes(tools.run("img_cat", "-i", "qcow2", name).stdout)
        carved = tmp_path / f"carved{count}"
        carved.mkdir()
        options = "partition_none,options,fileopt,everything,disable,png,enable,wholespace,search"
        subprocess.run(
            ["photorec", "/d", carved / "out", "/cmd", stream, options],
            check=True,
            capture_output=True,
            timeout=120,
            cwd=carved,
            env={**tools.CLEAN, "HOME": str(tmp_path), "TERM": "dumb"},
        )
        recovered = {file.read_bytes() for file in carved.glob("out*/*.png")}
        assert recovered == (set(pictures.values()) if count else set())


# ---- Bounds ------------------------------------------------------------------------


def test_a_nested_image(tmp_path):
    """A qcow2 image inside the guest, deleted: bytes like others."""
    inner = full_image().build()
    image = Image(size=len(inner) + C, cluster_bits=12)
    at = image.junk(inner)
    image.disk.normal(0, bytes(inner[:C]))
    image.write(tmp_path / "image")
    assert stored(tmp_path / "image")[at : at + len(inner)] == inner


@pytest.mark.skipif(not encrypted.has_libgcrypt(), reason="built without libgcrypt")
def test_old_tables_of_an_encrypted_image(tmp_path):
    """They never were encrypted; what the guest wrote was."""
    path = tmp_path / "image"
    encrypted.create(path, 64 * C, options=["cluster_size=4k"])
    described = encrypted.node(path)
    described["file"]["discard"] = "ignore"
    secret = pattern(1, 8 * C)
    encrypted.write(described, [(0, secret)])
    words = ("qemu-img", "snapshot", "--image-opts")
    options = f"driver=qcow2,encrypt.key-secret=s0,file.filename={path},file.discard=ignore"
    encrypted.qemu(*words, "-c", "deleted", options, secrets=[b"secret"])
    encrypted.write(described, [(0, pattern(2, 8 * C))])
    encrypted.qemu(*words, "-d", "deleted", options, secrets=[b"secret"])
    with core.Image(path, passphrases=[b"secret"]) as image, image.residue() as view:
        residue.check(path, view, as_stored=False)
        found = view.read(0, view.size)
        assert b"deleted" in found and secret[:C] in found and secret[7 * C :] in found
        assert (
            b"".join(view.read(at, 100) for at in range(0, view.size - 99, 100))
            == found[: view.size // 100 * 100]
        )
