# SPDX-License-Identifier: MIT
"""Images whose header was overwritten, opened by the layout that the name gives (l1=, size=,
cluster-bits= and more). What they give is compared with the disk as it was."""
import subprocess

import pytest
from lib import core, encrypted
from lib.builder import Image, pattern, squeezable
from lib.project import COMMAND, SANITIZERS


MIB = 1 << 20
FILLS = {
    "zeros": lambda length: bytes(length),
    "random": lambda length: pattern(99, length),
    "text": lambda length: (b"Nov 26 21:00:00 host kernel: log\n" * (length // 33 + 1))[:length],
}


def lose(path, fill="text", length=None, bits=16):
    """Overwrite the first bytes: by default the first cluster."""
    length = length or 1 << bits
    with open(path, "r+b") as file:
        file.write(FILLS[fill](length))
    return path


def built(path, bits, kind="normal", count=40, **options):
    """An image with data in two L2 tables, and the builder's."""
    size = 1 << bits
    per_table = size // (16 if options.get("extended_l2") else 8)
    image = Image(size=(per_table + count) * size, cluster_bits=bits, **options)
    data = squeezable if kind == "compressed" else pattern
    for cluster in (*range(0, count, 2), *range(per_table, per_table + count, 3)):
        getattr(image.disk, kind)(cluster, data(cluster, size))
    image.write(path)
    return image


def is_stored(model, at, length):
    """Whether the model has anything there."""
    pieces = range(at // model.granule, (at + length - 1) // model.granule + 1)
    return any(index in model.pieces for index in pieces)


def check(image, name, disk=None):
    """The disk through the name, against the builder's model. Returns its warnings. With
    sanitizers, which are slow, some of what is not stored is not read."""
    disk = disk or image.disk
    with core.Named(name) as opened:
        assert opened.size == disk.size
        for at in range(0, opened.size, MIB):
            length = min(MIB, opened.size - at)
            if SANITIZERS and at % (16 * MIB) and not is_stored(disk.model, at, length):
                continue
            assert opened.read(at, length) == disk.model.read(at, length), at
        return opened.warnings


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("bits", (9, 12, 16))
def test_the_first_cluster_is_overwritten(bits, fill, tmp_path):
    path = tmp_path / "disk.qcow2"
    image = built(path, bits)
    lose(path, fill, bits=bits)
    name = f"{path},l1={image.disk.l1_offset},cluster-bits={bits},size={image.disk.size}"
    warnings = check(image, name)
    assert "guessed: without a header (" in warnings[0]
    assert "what its tables do not allocate reads as zeros" in warnings[1] and len(warnings) == 2
    assert check(image, name + ",backing=none") == warnings


@pytest.mark.parametrize("compression", (0, 1))
def test_compressed(compression, tmp_path):
    path = tmp_path / "disk.qcow2"
    image = built(path, 12, "compressed", compression=compression)
    lose(path, bits=12)
    name = f"{path},l1={image.disk.l1_offset},cluster-bits=12,size={image.disk.size}"
    check(image, name + (",compression=zstd" if compression else ""))


def test_extended_l2(tmp_path):
    path = tmp_path / "disk.qcow2"
    image = Image(size=64 << 14, cluster_bits=14, extended_l2=True)
    for cluster in range(0, 60, 3):
        image.disk.subclusters(cluster, "DZ.D" * 8, pattern(cluster, 1 << 14))
    image.write(path)
    lose(path, bits=14)
    name = f"{path},l1={image.disk.l1_offset},cluster-bits=14,size={image.disk.size}"
    check(image, name + ",extended-l2")


def test_a_backing_file_is_the_users_word(tmp_path):
    base, path = tmp_path / "base.raw", tmp_path / "top.qcow2"
    base.write_bytes(pattern(5, 64 << 12))
    image = Image(size=64 << 12, cluster_bits=12, backing=b"base.raw", backing_format=b"raw")
    image.disk.normal(1, pattern(1, 1 << 12))
    image.write(path)
    lose(path, bits=12)
    name = f"{path},l1={image.disk.l1_offset},cluster-bits=12,size={image.disk.size}"
    expected = bytearray(base.read_bytes())
    expected[1 << 12 : 2 << 12] = pattern(1, 1 << 12)
    with core.Named(f"{name},backing={base},format=raw") as opened:
        assert opened.read(0, opened.size) == expected
        assert len(opened.warnings) == 1
    with core.Named(name) as opened:
        assert opened.read(0, 1 << 12) == bytes(1 << 12) and len(opened.warnings) == 2


def test_a_data_file_is_the_users_word(tmp_path):
    path = tmp_path / "disk.qcow2"
    image = Image(size=64 << 12, cluster_bits=12, data_file=b"disk.data")
    for cluster in (0, 3, 63):
        image.disk.normal(cluster, pattern(cluster, 1 << 12))
    image.write(path)
    lose(path, bits=12)
    name = f"{path},l1={image.disk.l1_offset},cluster-bits=12,size={image.disk.size}"
    check(image, f"{name},data-file={tmp_path}/disk.data,format=raw")


def test_luks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encrypted.create("disk.qcow2", MIB)
    encrypted.write(encrypted.node("disk.qcow2"), [(0, pattern(1, 1 << 16))])
    (tmp_path / "key").write_bytes(b"secret")
    with core.Image("disk.qcow2", no_chain=True) as image:
        l1, luks = image.header.l1_offset, image.encryption().header_offset
    lose("disk.qcow2")
    name = f"disk.qcow2,l1={l1},cluster-bits=16,size={MIB},luks={luks},key-file=key"
    with core.Named(name) as opened:
        assert opened.read(0, 1 << 16) == pattern(1, 1 << 16)


def test_legacy_aes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if encrypted.create("disk.qcow2", MIB, method="aes", check=False) is None:
        pytest.skip("this QEMU makes no images with legacy AES")
    encrypted.write(encrypted.node("disk.qcow2", "aes"), [(65536, pattern(1, 1 << 16))])
    (tmp_path / "key").write_bytes(b"secret")
    with core.Image("disk.qcow2", no_chain=True) as image:
        l1 = image.header.l1_offset
    lose("disk.qcow2")
    name = f"disk.qcow2,l1={l1},cluster-bits=16,size={MIB},encryption=aes,key-file=key"
    with core.Named(name) as opened:
        assert opened.read(65536, 1 << 16) == pattern(1, 1 << 16)
    with pytest.raises(core.QcowError) as caught:
        core.Named(f"{name},luks=65536")
    assert "not with both" in caught.value.message


def test_a_wiped_l1_table(tmp_path):
    """The header is there: only the L1 table is given, here that of a snapshot."""
    path = tmp_path / "disk.qcow2"
    image = Image(size=64 << 12, cluster_bits=12)
    image.disk.normal(0, pattern(1, 1 << 12))
    then = image.snapshot(b"1", b"then")
    image.disk.normal(0, pattern(2, 1 << 12))
    image.write(path)
    with open(path, "r+b") as file:
        file.seek(image.disk.l1_offset)
        file.write(bytes(512))
    warnings = check(image, f"{path},l1={then.l1_offset}", then)
    assert len(warnings) == 1 and "guessed: in place of what its header says" in warnings[0]
    check(image, f"{path}@then,l1={then.l1_offset}", then)


REFUSED = {
    ",l1=8192": "the cluster size, the disk's size and the L1 table must all be given",
    ",l1=8192,cluster-bits=12": "must all be given",
    ",l1=8192,cluster-bits=8,size=4096": "takes 9 to 21",
    ",l1=8192,cluster-bits=22,size=4096": "takes 9 to 21",
    ",l1=8191,cluster-bits=12,size=4096": "multiple of the cluster size",
    ",l1=0,cluster-bits=12,size=4096": "decimal number from 1 on",
    ",l1=0x2000,cluster-bits=12,size=4096": "decimal number from 1 on",
    ",l1=-8192,cluster-bits=12,size=4096": "decimal number from 1 on",
    ",l1=8192 ,cluster-bits=12,size=4096": "decimal number from 1 on",
    ",l1=18446744073709551616,cluster-bits=12,size=4096": "decimal number from 1 on",
    ",l1=18446744073709547520,cluster-bits=12,size=4096": "below 2^63",
    ",l1=8192,cluster-bits=12,size=18446744073709551615": "more than 32 MiB",
    ",l1=8192,cluster-bits=12,size=4096,extended-l2": "2^14",
    ",l1=8192,cluster-bits=12,size=4096,compression=lz4": "zstd",
    ",l1=8192,cluster-bits=12,size=4096,luks=9223372036854775808": "2^63",
}


@pytest.mark.parametrize("options", REFUSED)
def test_refused(options, tmp_path):
    path = tmp_path / "disk.qcow2"
    built(path, 12)
    lose(path, bits=12)
    with pytest.raises(core.QcowError) as caught:
        core.Named(f"{path}{options}")
    assert REFUSED[options] in caught.value.message
    if "must all" in REFUSED[options]:
        assert f"tsk-qcow2 residue --rebuild {path}" in caught.value.message.replace("'", "")


def test_not_beside_a_header(tmp_path):
    path = tmp_path / "disk.qcow2"
    built(path, 12)
    for option in ("extended-l2", "compression=zstd", "luks=4096"):
        with pytest.raises(core.QcowError) as caught:
            core.Named(f"{path},{option}")
        assert "the image has a header" in caught.value.message


def test_a_check_has_nothing_to_compare(tmp_path):
    path = tmp_path / "disk.qcow2"
    image = built(path, 12)
    lose(path, bits=12)
    name = f"{path},l1={image.disk.l1_offset},cluster-bits=12,size={image.disk.size}"
    done = subprocess.run([COMMAND, "check", name], capture_output=True, text=True, check=False)
    assert done.returncode == 6, done
    done = subprocess.run([COMMAND, "verify", name], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 6), done
