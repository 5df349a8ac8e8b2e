# SPDX-License-Identifier: MIT
"""Broken LUKS headers, and what they cost."""
import struct
import time

import pytest

from lib.builder import poke
from lib.core import Image as Opened
from lib.core import QcowError
from lib.encrypted import create
from lib.expect import assert_bytes
from lib.unlocked import (
    METHODS,
    SECRET,
    SIZE,
    SLOT,
    header_offset,
    needs_libgcrypt,
    opened,
    refused,
)

pytestmark = pytest.mark.usefixtures("core")

HEADER_DAMAGE = {
    "no magic": (0, b"X", "CORRUPT", "there is no LUKS header"),
    "version 2": (6, b"\0\2", "UNSUPPORTED", "version 2"),
    "version 0": (6, b"\0\0", "UNSUPPORTED", "version 0"),
    "unknown cipher": (8, b"rot13\0", "UNSUPPORTED", 'cipher "rot13"'),
    "no cipher": (8, b"\0", "UNSUPPORTED", 'cipher ""'),
    "half a cipher": (8, b"ae\0", "UNSUPPORTED", 'cipher "ae"'),
    "endless cipher": (8, b"a" * 32, "CORRUPT", "cipher name is not terminated"),
    "unknown mode": (40, b"gcm-plain64\0", "UNSUPPORTED", 'cipher mode "gcm-plain64"'),
    "no IV generator": (40, b"xts\0", "UNSUPPORTED", 'IV generator ""'),
    "unknown IV generator": (40, b"xts-plain128\0", "UNSUPPORTED", 'IV generator "plain128"'),
    "no hash for ESSIV": (40, b"cbc-essiv\0", "UNSUPPORTED", "essiv"),
    "unknown hash for ESSIV": (40, b"cbc-essiv:crc32\0", "UNSUPPORTED", "crc32"),
    "hash that is no key": (40, b"cbc-essiv:sha1\0", "UNSUPPORTED", "essiv:sha1"),
    "endless mode": (40, b"xts-plain64" + b"x" * 21, "CORRUPT", "cipher mode is not terminated"),
    "XTS of 8-byte blocks": (8, b"cast5\0", "UNSUPPORTED", "cast5 in XTS"),
    "unknown hash": (72, b"sha3-256\0", "UNSUPPORTED", 'hash "sha3-256"'),
    "endless hash": (72, b"s" * 32, "CORRUPT", "hash name is not terminated"),
    "no key": (108, struct.pack(">I", 0), "CORRUPT", "a key of 0 bytes"),
    "odd key": (108, struct.pack(">I", 63), "CORRUPT", "a key of 63 bytes"),
    "half key": (108, struct.pack(">I", 40), "CORRUPT", "a key of 40 bytes"),
    "long key": (108, struct.pack(">I", 128), "CORRUPT", "a key of 128 bytes"),
    "giant key": (108, struct.pack(">I", 0xFFFFFFFF), "CORRUPT", "a key of 4294967295 bytes"),
    "key that wraps": (108, struct.pack(">I", 0x80000040), "CORRUPT", "a key of"),
    "no digest iterations": (
        164,
        struct.pack(">I", 0),
        "CORRUPT",
        "zero iterations for its master key",
    ),
    "giant digest iterations": (164, struct.pack(">I", 0xFFFFFFFF), "UNSUPPORTED", "iterations"),
    "endless UUID": (168, b"u" * 40, "CORRUPT", "UUID is not terminated"),
    "strange state": (SLOT, struct.pack(">I", 1), "CORRUPT", "key slot 0", "neither"),
    "strange state of the last": (
        SLOT + 48 * 7,
        struct.pack(">I", 0),
        "CORRUPT",
        "key slot 7",
        "neither",
    ),
    "no iterations": (SLOT + 4, struct.pack(">I", 0), "CORRUPT", "key slot 0", "zero iterations"),
    "giant iterations": (SLOT + 4, struct.pack(">I", 0xFFFFFFFF), "UNSUPPORTED", " 85899"),
    "iterations past the limit": (
        SLOT + 4,
        struct.pack(">I", 200000000),
        "UNSUPPORTED",
        "at most 400000000",
    ),
    "material in the header": (
        SLOT + 40,
        struct.pack(">I", 1),
        "CORRUPT",
        "key slot 0",
        "inside the header",
    ),
    "material at 0": (
        SLOT + 40,
        struct.pack(">I", 0),
        "CORRUPT",
        "key slot 0",
        "inside the header",
    ),
    "material past the area": (
        SLOT + 48 * 7 + 40,
        struct.pack(">I", 3600),
        "CORRUPT",
        "key slot 7",
        "outside",
    ),
    "material far away": (
        SLOT + 40,
        struct.pack(">I", 0xFFFFFFFF),
        "CORRUPT",
        "key slot 0",
        "outside",
    ),
    "material twice": (SLOT + 48 + 40, struct.pack(">I", 8), "CORRUPT", "key slot 1", "overlaps"),
    "material overlaps by a sector": (
        SLOT + 48 + 40,
        struct.pack(">I", 8 + 499),
        "CORRUPT",
        "key slot 1",
        "overlaps",
    ),
    "other stripes": (SLOT + 44, struct.pack(">I", 3999), "CORRUPT", "key slot 0", "4000 stripes"),
    "no stripes": (
        SLOT + 48 * 3 + 44,
        struct.pack(">I", 0),
        "CORRUPT",
        "key slot 3",
        "4000 stripes",
    ),
    "giant stripes": (
        SLOT + 44,
        struct.pack(">I", 0xFFFFFFFF),
        "CORRUPT",
        "key slot 0",
        "4000 stripes",
    ),
}


@pytest.mark.parametrize("name", HEADER_DAMAGE)
def test_damaged_luks_header(name, plain_luks, tmp_path):
    """An error that names the damage, before any work is done for it."""
    at, replacement, code, *words = HEADER_DAMAGE[name]
    path, data = tmp_path / "image.qcow2", bytearray(plain_luks[0].read_bytes())
    at += header_offset(plain_luks[0])
    data[at : at + len(replacement)] = replacement
    path.write_bytes(data)
    error = refused(path, code, "image.qcow2", *words)
    assert error.host_offset is not None
    with Opened(path, no_chain=True) as image:  # what else there is can be seen
        with pytest.raises(QcowError) as caught:
            image.encryption()
        assert caught.value.code == code and caught.value.host_offset == error.host_offset


LUKS_WORK_MAX = 400_000_000  # hashes, for one file; twice as many for a chain


def set_iterations(path, numbers, iterations):
    """Make the slots active, with `iterations` each; SHA-256 derives a key of 64 bytes from
    two chains of them."""
    data, start = bytearray(path.read_bytes()), header_offset(path)
    for number in numbers:
        poke(
            poke(data, start + SLOT + 48 * number, "I", 0x00AC71F3),
            start + SLOT + 48 * number + 4,
            "I",
            iterations,
        )
    path.write_bytes(data)
    return struct.unpack_from(">I", data, start + 164)[0]  # the digest's


@needs_libgcrypt
def test_most_iterations(slots, tmp_path):
    """Eight slots that are tried in vain. A hundredth of what is allowed is done here, and the time
    printed for all of it."""
    path = tmp_path / "image.qcow2"
    path.write_bytes(slots.read_bytes())
    digest = set_iterations(path, [], 0)
    set_iterations(path, range(8), LUKS_WORK_MAX // 100 // 8 // 2)
    start = time.process_time()
    refused(path, "KEY", "0, 1, 2, 3, 4, 5, 6, 7", passphrases=[b"wrong"])
    print(f"LUKS, the most iterations with SHA-256: {(time.process_time() - start) * 100:.0f} s")
    most = (LUKS_WORK_MAX // 8 - digest) // 2
    set_iterations(path, range(8), most + 8)
    refused(path, "UNSUPPORTED", "at most 400000000")
    set_iterations(path, range(8), most)
    refused(path, "KEY", "needs a passphrase", passphrases=())


@needs_libgcrypt
def test_most_iterations_of_a_chain(tmp_path):
    """Each file is within its bound, and opens with its first slot; all slots of three are too
    much."""
    names = ["base.qcow2", "middle.qcow2", "top.qcow2"]
    for name, below in zip(names, (None, *names)):
        create(tmp_path / name, SIZE, backing=below and (below, "qcow2"))
        set_iterations(tmp_path / name, [1], 190_000_000)
    opened(tmp_path / "middle.qcow2").close()
    refused(tmp_path / "top.qcow2", "UNSUPPORTED", "base.qcow2", "hashes", "one chain")


def test_material_side_by_side_is_allowed(plain_luks, tmp_path):
    """The neighbours of the cases above."""
    path, data = tmp_path / "image.qcow2", bytearray(plain_luks[0].read_bytes())
    start = header_offset(plain_luks[0])
    assert struct.unpack_from(">I", data, start + SLOT + 40)[0] == 8
    poke(data, start + SLOT + 48 + 40, "I", 8 + 500)
    path.write_bytes(data)
    with Opened(path, no_chain=True) as image:
        assert image.encryption().cipher == b"aes"


EXTENSION_DAMAGE = {
    "offset past the file": ("Q", 0, 1 << 40, "TRUNCATED"),
    "offset past INT64_MAX": ("Q", 0, 1 << 63, "CORRUPT"),
    "length past INT64_MAX": ("Q", 8, (1 << 64) - 1, "CORRUPT"),
    "length of nothing": ("Q", 8, 0, "CORRUPT"),
    "length of the header": ("Q", 8, 4096, "CORRUPT"),
    "offset of something else": ("Q", 0, 0, "CORRUPT"),
    "short extension": ("I", -4, 8, "CORRUPT"),
    "other extension": ("I", -8, 0x12345678, "CORRUPT"),
}


@pytest.mark.parametrize("name", EXTENSION_DAMAGE)
def test_damaged_extension(name, plain_luks, tmp_path):
    layout, at, value, code = EXTENSION_DAMAGE[name]
    path, data = tmp_path / "image.qcow2", bytearray(plain_luks[0].read_bytes())
    poke(data, data.index(struct.pack(">II", 0x0537BE77, 16)) + 8 + at, layout, value)
    path.write_bytes(data)
    refused(path, code)


@needs_libgcrypt
def test_wrong_digest(plain_luks, tmp_path):
    path, data = tmp_path / "image.qcow2", bytearray(plain_luks[0].read_bytes())
    data[header_offset(plain_luks[0]) + 112 + 19] ^= 1
    path.write_bytes(data)
    refused(path, "KEY", "wrong")


@needs_libgcrypt
def test_every_truncation_of_the_luks_area(plain_luks):
    """The key material ends before it; the header; nothing but the qcow2 header is there."""
    data = plain_luks[0].read_bytes()
    start = header_offset(plain_luks[0])
    first_end = start + 8 * 512 + 256000  # of slot 0's key material
    for length in (
        start - 1,
        start,
        start + 1,
        start + 591,
        start + 592,
        start + 4096,
        first_end - 1,
    ):
        with pytest.raises(QcowError) as caught:
            Opened.from_storage(data[:length], passphrases=[SECRET]).close()
        assert caught.value.code == "TRUNCATED", (length, caught.value)
    Opened.from_storage(data[:first_end], passphrases=[SECRET]).close()


@needs_libgcrypt
@METHODS
def test_truncated_data(method, plain_luks, plain_aes):
    """A sector that is cut cannot be decrypted; the ones before it can."""
    path, want = plain_luks if method == "luks" else plain_aes
    data = path.read_bytes()
    with opened(path) as image, image.view() as view:
        last = max(
            (extent for extent in view.map_all() if extent.kind == "normal"),
            key=lambda extent: extent.host_offset,
        )
    cut = last.host_offset + 5 * 512 + 100
    with Opened.from_storage(data[:cut], passphrases=[SECRET]) as image, image.view() as view:
        at = last.guest_offset
        assert_bytes(view.read(at, 5 * 512), want[at : at + 5 * 512], "before the cut")
        for start, length in (
            (5 * 512, 1),
            (5 * 512, 100),
            (5 * 512 - 1, 2),
            (0, 5 * 512 + 1),
            (6 * 512, 512),
        ):
            with pytest.raises(QcowError) as caught:
                view.read(at + start, length)
            assert caught.value.code == "TRUNCATED", caught.value
