# SPDX-License-Identifier: MIT
"""qcow version 1. The oracle is QEMU, and for damage what built the image."""
import hashlib
import json
import os
import random

import pytest
from lib import encrypted, tools, version_1
from lib.builder import pattern
from lib.core import Image, QcowError, probe
from lib.project import COMMAND, run, run_line

C = 4096


def draw_writes(rng, size, count=40):
    """Writes of whole sectors, at random places."""
    out = []
    for _ in range(count):
        length = 512 * rng.choice((1, 2, 8, 9, 40, 130))
        at = 512 * rng.randrange((size - length) // 512)
        out.append((at, rng.choice((rng.randbytes, lambda n: pattern(n % 251, n)))(length)))
    return out


def content(described, more=()):
    return encrypted.content(described, options=more)


def squeeze_disk(raw, path):
    """Convert a raw disk to a compressed image. QEMU writes all of it, and ends with status 1."""
    run_line("qemu-img convert -c -f raw -O qcow", raw, path, check=False)
    assert content(version_1.node(path)) == raw.read_bytes()


def assert_reads(path, expected, **options):
    with Image(path, **options) as image:
        view = image.view()
        assert view.size == len(expected)
        assert hashlib.sha256(view.read(0, view.size)).digest() == hashlib.sha256(expected).digest()
        return image.warnings


# ---- As QEMU reads it --------------------------------------------------------------


@pytest.mark.parametrize("encrypt", [False, True], ids=["plain", "aes"])
@pytest.mark.parametrize("seed", range(4))
def test_random_writes(core, seed, encrypt, tmp_path):
    rng = random.Random(seed)
    size = rng.choice((1 << 20, (1 << 20) + 512, 9 << 20))
    path = tmp_path / "disk.qcow"
    made = version_1.make(path, size, draw_writes(rng, size), encrypt)
    assert_reads(path, content(made), passphrases=[b"secret"] if encrypt else [])


@pytest.mark.parametrize("seed", range(3))
def test_compressed(core, seed, tmp_path):
    rng = random.Random(seed)
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.qcow"
    size = 3 << 20
    with open(raw, "wb") as file:
        file.truncate(size)
        for at, data in draw_writes(rng, size):
            file.seek(at)
            file.write(data)
    squeeze_disk(raw, path)
    assert_reads(path, raw.read_bytes())
    encrypted.write(version_1.node(path), draw_writes(rng, size, 10))
    assert_reads(path, content(version_1.node(path)))


@pytest.mark.parametrize("below", ["raw", "qcow", "qcow2"])
@pytest.mark.parametrize("above", ["qcow", "qcow2"])
def test_chains(core, above, below, tmp_path):
    """An overlay of version 1 has clusters of 512 bytes. It does not declare its base's format."""
    rng, size = random.Random(7), 2 << 20
    base, top = tmp_path / "base", tmp_path / "top"
    described = encrypted.node(base, None, driver=below)
    run_line("qemu-img create -q -f", below, base, size)
    encrypted.write(described, draw_writes(rng, size))
    if above == "qcow":
        made = version_1.make(top, size, draw_writes(rng, size), False, ("base", below, described))
    else:
        encrypted.create(top, size, None, backing=("base", below))
        made = encrypted.node(top, None, backing=described)
        encrypted.write(made, draw_writes(rng, size))
    expected = content(made)
    assert_reads(top, expected)
    assert_reads(top, expected, backing=[base])
    with Image(top) as image:
        assert [layer.format for layer in image.layers] == [above.encode(), below.encode()]


def test_an_undeclared_base_is_trusted_with_nothing(core, tmp_path):
    """Version 1 declares no format, so its base was recognised by its bytes: what that refers to
    needs the user's word."""
    below = encrypted.node(tmp_path / "middle", None, driver="qcow2")
    run_line("qemu-img create -q -f raw", tmp_path / "base", C)
    run_line("qemu-img create -q -f qcow2 -F raw -b base", tmp_path / "middle")
    version_1.make(tmp_path / "top", C, [], False, ("middle", "qcow2", below))
    with pytest.raises(QcowError) as caught:
        Image(tmp_path / "top")
    assert caught.value.code == "DENIED"
    assert_reads(tmp_path / "top", bytes(C), backing=[tmp_path / "middle", tmp_path / "base"])


@pytest.mark.parametrize("declared, word", [("qcow2", "qcow2"), ("raw", None)])
def test_a_base_that_is_not_what_the_image_declares(core, declared, word, tmp_path):
    version_1.make(tmp_path / "base", C, [(0, pattern(1, 512))])
    encrypted.create(tmp_path / "top", C, None, backing=("base", declared))
    if word is None:
        assert_reads(tmp_path / "top", (tmp_path / "base").read_bytes()[:C].ljust(C, b"\0"))
        return
    with pytest.raises(QcowError) as caught:
        Image(tmp_path / "top")
    assert f'should be of format "{word}"' in caught.value.message


# ---- Through the tools -------------------------------------------------------------


def test_the_tools(core, tmp_path):
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.img"
    run_line("mke2fs -q -F -t ext4", raw, "2M")
    squeeze_disk(raw, path)
    assert tools.run("img_stat", "-t", path).stdout == b"qcow2\n"
    assert tools.run("fls", path).stdout == tools.run("fls", raw).stdout
    assert tools.img_cat(path, image_type=None).stdout == raw.read_bytes()
    assert b"Format: qcow, version 1\n" in tools.run("img_stat", "-i", "qcow2", path).stdout
    info = json.loads(run(COMMAND, "info", "--json", path).stdout)
    assert info["header"]["version"] == 1 and info["header"]["refcount_bits"] is None
    verified = json.loads(run(COMMAND, "verify", "--json", path).stdout)
    assert verified["files"][0]["format"] == "qcow" and verified["files"][0]["tables"] is None


@pytest.mark.parametrize(
    "words, why",
    [
        (("check",), "has no refcounts"),
        (("residue",), "neither snapshots nor refcounts"),
        (("verify", ",residue"), "neither snapshots nor refcounts"),
        (("verify", "@abandoned"), "neither snapshots nor refcounts"),
    ],
    ids=" ".join,
)
def test_what_needs_refcounts_is_refused(words, why, tmp_path):
    path = tmp_path / "disk.qcow"
    version_1.make(path, C)
    done = run(COMMAND, words[0], f"{path}{''.join(words[1:])}", check=False)
    assert done.returncode == 1 and why in done.stderr


# ---- Damage and bad fields -----------------------------------------------------------


def built(size=8 * C):
    image = version_1.Built(size)
    image.normal(0, pattern(1, C))
    image.compressed(1, b"squeezable " * 400)
    image.normal(2, pattern(2, C))
    return image


def built_content(size=8 * C):
    squeezed = (b"squeezable " * 400)[:C]
    return (pattern(1, C) + squeezed + pattern(2, C)).ljust(size, b"\0")


def test_a_built_image(core, tmp_path):
    """What the tests below damage is right, by QEMU too."""
    image = version_1.Built(8 * C)
    image.normal(0, pattern(1, C))
    image.compressed(1, (b"squeezable " * 400)[:C])
    image.normal(2, pattern(2, C))
    image.write(tmp_path / "disk.qcow")
    assert not assert_reads(tmp_path / "disk.qcow", built_content())
    assert content(version_1.node(tmp_path / "disk.qcow")) == built_content()


def test_every_truncation(core):
    """Each byte is what it was, or an error; and that the file is truncated is said at open."""
    image = version_1.Built(8 * C)
    image.normal(0, pattern(1, C))
    image.compressed(1, (b"squeezable " * 400)[:C])
    image.normal(2, pattern(2, C))
    data, expected = image.build(), built_content()
    for length in [*range(60), *range(60, len(data), 251), len(data) - 1]:
        try:
            opened = Image.from_storage(data[:length])
        except QcowError as error:
            assert error.code in ("TRUNCATED", "NOT_QCOW2")
            assert length < 48
            continue
        with opened:
            assert any("truncated" in warning for warning in opened.warnings), length
            view = opened.view()
            for at in range(0, len(expected), 512):
                try:
                    assert view.read(at, 512) == expected[at : at + 512], (length, at)
                except QcowError as error:
                    assert error.code == "TRUNCATED", (length, at)
    with Image.from_storage(data) as opened:
        assert opened.warnings == []
        assert opened.layer(0).needed_size == len(data)


BAD_HEADERS = {
    "cluster_bits below": ({"cluster_bits": 8}, "cluster_bits is 8"),
    "cluster_bits above": ({"cluster_bits": 17}, "cluster_bits is 17"),
    "l2_bits below": ({"l2_bits": 5}, "l2_bits is 5"),
    "l2_bits above": ({"l2_bits": 14}, "l2_bits is 14"),
    "an unknown cipher": ({"crypt_method": 2}, "crypt_method is 2"),
    "a disk too large": ({"size": (1 << 63) + 5}, "size is"),
    "an L1 table over the header": ({"l1_offset": 40}, "l1_table_offset is 40"),
    "an L1 table that is not aligned": ({"l1_offset": 52}, "l1_table_offset is 52"),
    "an L1 table nowhere": ({"l1_offset": 1 << 63}, "l1_table_offset is"),
    "a long name": ({"name_offset": 56, "name_length": 1024}, "backing_file_size is 1024"),
    "a name far off": ({"name_offset": 65535, "name_length": 2}, "backing_file_offset is 65535"),
    "a name nowhere": ({"name_offset": (1 << 64) - 1, "name_length": 9}, "backing_file_offset is"),
    "a name behind the end": ({"name_offset": 60000, "name_length": 9}, "ends inside the backing"),
    "version 0": ({"version": 0}, "version is 0"),
}


@pytest.mark.parametrize("title", BAD_HEADERS)
def test_bad_headers(core, title):
    header, words = BAD_HEADERS[title]
    image = built()
    image.header = header
    with pytest.raises(QcowError) as caught:
        Image.from_storage(image.build())
    assert words in caught.value.message


BAD_ENTRIES = {
    "low bits": 3 * C + 1,
    "not of a cluster": 3 * C + 512,
    "too far": 1 << 57,
    "high bits": 1 << 62 | 3 * C,
}


@pytest.mark.parametrize("title", BAD_ENTRIES)
@pytest.mark.parametrize("table", ["L1", "L2"])
def test_bad_entries(core, table, title):
    """All bits of an entry are its offset. None is masked out, so that nothing else is read."""
    image = built()
    if table == "L1":
        image.l1 = BAD_ENTRIES[title]
    else:
        image.entries[0] = BAD_ENTRIES[title]
    with Image.from_storage(image.build()) as opened, pytest.raises(QcowError) as caught:
        opened.view().read(0, 1)
    assert caught.value.code == "CORRUPT"
    assert "not a multiple of the cluster size" in caught.value.message
    assert caught.value.table_offset == (48 if table == "L1" else C)


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_a_stream_that_is_too_short(core, kept):
    image = version_1.Built(2 * C)
    whole = (b"squeezable " * 400)[:C]
    image.compressed(0, whole, version_1.squeeze(whole)[:kept])
    image.normal(1, pattern(1, C))
    with Image.from_storage(image.build()) as opened:
        with pytest.raises(QcowError) as caught:
            opened.view().read(0, 1)
        assert opened.view().read(C, C) == pattern(1, C)
    assert caught.value.code == "CORRUPT"
    assert "cannot be read: its deflate stream is damaged" in caught.value.message


def test_probe(core, tmp_path):
    path = tmp_path / "disk"
    for version, answer in ((0, 0), (1, 2), (2, 1), (3, 1)):
        path.write_bytes(b"QFI\xfb" + bytes([0, 0, 0, version]))
        assert probe(path) == answer
        assert core.library().qcow2_name_probe(os.fsencode(path)) == answer


def test_qed_is_named(tmp_path):
    """It is no qcow, and nothing here reads it."""
    path = tmp_path / "disk.qed"
    run_line("qemu-img create -q -f qed", path, "1M")
    tools.assert_refused(tools.img_cat(path, image_type="qcow2"), "QED", "qemu-img convert")
