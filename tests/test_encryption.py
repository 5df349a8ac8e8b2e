# SPDX-License-Identifier: MIT
"""Encryption: LUKS and legacy AES images that QEMU made, read as QEMU reads them, and broken ones.

Set TSK_QCOW2_ENCRYPTION_TABLE to a path to get the matrix of ciphers, modes and IV generators as a
table.
"""
import ctypes
import hashlib
import json
import os
import struct
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from lib import builder, expect, tools
from lib.builder import pattern, poke
from lib.core import Image as Opened
from lib.core import QcowError
from lib.encrypted import content, create, has_libgcrypt, node, qemu, raw_node, write
from lib.expect import assert_bytes, check_content
from lib.project import BUILD

SIZE = 1 << 20
SECRET = b"secret"
MIB = 1 << 20

pytestmark = pytest.mark.usefixtures("core")
needs_libgcrypt = pytest.mark.skipif(not has_libgcrypt(), reason="this build has no libgcrypt")


def opened(path, *passphrases, **options):
    return Opened(path, passphrases=passphrases or [SECRET], **options)


refused = partial(expect.refused, passphrases=[SECRET])


def check_opened(path, want, rng, *passphrases, **options):
    with opened(path, *passphrases, **options) as image, image.view() as view:
        check_content(view, want, rng)


def some_writes(seed, size=SIZE, cluster=65536):
    """Writes that leave holes, touch single sectors, and put neighbours out of order in the
    file."""
    return [
        (3 * cluster, pattern(seed, 2 * cluster)),
        (0, pattern(seed + 1, 512)),
        (cluster + 512 * 3, pattern(seed + 2, 512 * 5)),
        (size - cluster, pattern(seed + 3, cluster)),
        f"write -z {4 * cluster} {cluster}",
        (2 * cluster - 1024, pattern(seed + 4, 2048)),
    ]


# ---- The matrix ------------------------------------------------------------------

ALGORITHMS = (
    "aes-128",
    "aes-192",
    "aes-256",
    "serpent-128",
    "serpent-192",
    "serpent-256",
    "twofish-128",
    "twofish-192",
    "twofish-256",
    "cast5-128",
    "sm4",
)
MODES = ("ecb", "cbc", "ctr", "xts")
IVGENS = ("plain", "plain64", "essiv")
HASHES = ("md5", "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160", "sm3")
results = {"ciphers": {}, "hashes": {}}  # (row, column) -> what came of it


@pytest.fixture(scope="module", autouse=True)
def table():
    """Write the table of results when all is done, if it is asked for."""
    yield
    path = os.environ.get("TSK_QCOW2_ENCRYPTION_TABLE")
    if path:
        Path(path).write_text(
            "same: equal to what QEMU reads; -: this QEMU cannot make it; FAILED: see the test\n\n"
            + "\n".join(format_table(cells) for cells in results.values() if cells)
        )


def format_table(cells):
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    width = max(len(row) for row in rows)
    lines = [" " * width + "".join(f"  {column}" for column in columns)]
    for row in rows:
        found = ("  " + cells.get((row, column), "").ljust(len(column)) for column in columns)
        lines.append((row.ljust(width) + "".join(found)).rstrip())
    return "\n".join(lines) + "\n"


def check_made(kind, row, column, path, rng):
    """Record the result of one image that was just created, or could not be. True: it was."""
    cells = results[kind]
    if path is None:
        cells[row, column] = "-"
        return False
    cells[row, column] = "FAILED"
    write(node(path), some_writes(rng.randrange(1000)))
    want = content(node(path))
    assert want[3 * 65536 : 4 * 65536] not in path.read_bytes(), "not encrypted at all"
    check_opened(path, want, rng)
    cells[row, column] = "same"
    return True


@needs_libgcrypt
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ivgen", IVGENS)
def test_cipher(algorithm, mode, ivgen, tmp_path, rng):
    """All that QEMU makes, sensible or not: it also writes a hash for the generators that use
    none."""
    made = 0
    for name in (None, *HASHES):
        more = {} if name is None else {"ivgen_hash_alg": name}
        path = create(
            tmp_path / f"{name}.qcow2",
            SIZE,
            check=False,
            cipher_alg=algorithm,
            cipher_mode=mode,
            ivgen_alg=ivgen,
            **more,
        )
        made += check_made(
            "ciphers", algorithm, f"{mode}-{ivgen}" + (f":{name}" if name else ""), path, rng
        )
    if made == 0:
        pytest.skip("this QEMU cannot make it")


@needs_libgcrypt
@pytest.mark.parametrize("name", HASHES)
def test_hash(name, tmp_path, rng):
    if not check_made(
        "hashes",
        name,
        "key derivation",
        create(tmp_path / "image.qcow2", SIZE, check=False, hash_alg=name),
        rng,
    ):
        pytest.skip("this QEMU cannot make it")


@needs_libgcrypt
def test_legacy_aes(plain_aes, rng):
    path, want = plain_aes
    with opened(path) as image, image.view() as view:
        check_content(view, want, rng)
        assert any("wrong passphrase cannot be told" in warning for warning in image.warnings)
    with opened(path, b"wrong") as image, image.view() as view:
        assert view.read(3 * 65536, 65536) != want[3 * 65536 : 4 * 65536]


@needs_libgcrypt
def test_the_matrix_is_not_empty(tmp_path):
    """What every QEMU with encryption can make; so the tests above were not all skipped."""
    for names in (
        {},
        {
            "cipher_alg": "aes-128",
            "cipher_mode": "cbc",
            "ivgen_alg": "essiv",
            "ivgen_hash_alg": "md5",
        },
        {"cipher_mode": "cbc", "ivgen_alg": "plain64", "ivgen_hash_alg": "sha256"},
        {"cipher_alg": "serpent-256"},
        {"cipher_alg": "twofish-256", "hash_alg": "sha512"},
        {"cipher_alg": "cast5-128", "cipher_mode": "cbc"},
    ):
        assert create(tmp_path / "image.qcow2", SIZE, **names)


@needs_libgcrypt
@pytest.mark.parametrize("ivgen", ("plain", "plain64"))
def test_sectors_beyond_32_bits(ivgen, tmp_path, rng):
    """plain counts them modulo 2^32, plain64 does not. Host offsets that large are easiest in a
    data file."""
    size, far = 3 << 40, (2 << 40) + 7 * 65536
    path = tmp_path / "image.qcow2"
    if (
        create(path, size, check=False, options=(f"data_file={tmp_path}/data",), ivgen_alg=ivgen)
        is None
    ):
        pytest.skip("this file system has no files of 3 TiB")
    data = pattern(1, 65536)
    write(node(path), [(far, data), (far - (2 << 40), data)])
    ciphertext = [read_at(tmp_path / "data", at, 65536) for at in (far, far - (2 << 40))]
    assert (ciphertext[0] == ciphertext[1]) == (ivgen == "plain") and data not in ciphertext
    with opened(path, data_file=tmp_path / "data") as image, image.view() as view:
        for _ in range(20):
            start, end = sorted(rng.sample(range(65537), 2))
            assert_bytes(view.read(far + start, end - start), data[start:end], "far")


def read_at(path, offset, length):
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(length)


# ---- Passphrases -----------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_luks(tmp_path_factory):
    """An ordinary LUKS image: (path, content). Not to be changed."""
    path = create(tmp_path_factory.mktemp("luks") / "disk.qcow2", SIZE)
    write(node(path), some_writes(1))
    return path, content(node(path))


@pytest.fixture(scope="module")
def plain_aes(tmp_path_factory):
    """The same with legacy AES."""
    path = create(tmp_path_factory.mktemp("aes") / "disk.qcow2", SIZE, "aes")
    write(node(path, "aes"), some_writes(1))
    return path, content(node(path, "aes"))


@needs_libgcrypt
@pytest.mark.parametrize(
    "wrong", (b"", b"Secret", b"secret\n", b"secret ", b"secre", b"x" * 100000)
)
def test_wrong_passphrase(wrong, plain_luks):
    refused(
        plain_luks[0],
        "KEY",
        "disk.qcow2",
        "wrong" if wrong else "empty",
        "are number 0",
        "passphrase: key-file=",
        passphrases=[wrong],
    )


@needs_libgcrypt
def test_missing_passphrase(plain_luks, plain_aes):
    for path, _ in (plain_luks, plain_aes):
        refused(path, "KEY", "disk.qcow2", "needs a passphrase", "key-file=", passphrases=())


@needs_libgcrypt
def test_too_many_passphrases(plain_luks, plain_aes, tmp_path):
    for path, _ in (plain_luks, plain_aes):
        refused(path, "ARGUMENT", "2 passphrases", "1 encrypted file", passphrases=[SECRET, SECRET])
    plain = builder.Image(size=4096, cluster_bits=12).write(tmp_path / "plain.qcow2")
    refused(plain, "ARGUMENT", "plain.qcow2", "encrypted", passphrases=[SECRET])


def test_nothing_is_unlocked_without_the_chain(plain_luks, plain_aes):
    for path, _ in (plain_luks, plain_aes):
        for passphrases in ((), (b"wrong",), (b"a", b"b")):
            with Opened(path, no_chain=True, passphrases=passphrases) as image:
                assert image.header.crypt_method in (1, 2)


@needs_libgcrypt
@pytest.mark.parametrize(
    "secret",
    (
        b"",
        b"x",
        b"0123456789abcdef",
        b"0123456789abcdefg",
        "Schlüssel ☃".encode(),
        b"long " * 2000,
        b"two\nlines\r\n",
    ),
)
@pytest.mark.parametrize("method", ("luks", "aes"))
def test_odd_passphrases(method, secret, tmp_path, rng):
    """Legacy AES pads them with zeros or cuts them to 16 bytes."""
    path = create(tmp_path / "image.qcow2", SIZE, method, secret=secret, check=secret != b"")
    if path is None:
        pytest.skip("this QEMU takes no empty secret")
    write(node(path, method), [(0, pattern(1, 65536))], [secret])
    check_opened(path, content(node(path, method), [secret]), rng, secret)


@needs_libgcrypt
def test_legacy_aes_cuts_the_passphrase(tmp_path, rng):
    path = create(tmp_path / "image.qcow2", SIZE, "aes", secret=b"0123456789abcdef and more")
    write(node(path, "aes"), [(0, pattern(1, 65536))], [b"0123456789abcdef and more"])
    check_opened(path, pattern(1, 65536) + bytes(SIZE - 65536), rng, b"0123456789abcdef")


# ---- Key slots -------------------------------------------------------------------

SLOT_SECRETS = [b"secret", *(b"number %d" % number for number in range(1, 8))]


def amend(path, *words, secrets):
    qemu(
        "qemu-img",
        "amend",
        "--image-opts",
        f"driver=qcow2,file.filename={path},encrypt.format=luks,encrypt.key-secret=s0",
        "-o",
        ",".join(words),
        secrets=secrets,
    )


def add_slot(path, number):
    amend(
        path,
        "encrypt.state=active",
        "encrypt.new-secret=s1",
        f"encrypt.keyslot={number}",
        "encrypt.iter-time=100",
        secrets=[SLOT_SECRETS[0], SLOT_SECRETS[number]],
    )


@pytest.fixture(scope="module")
def slots(tmp_path_factory):
    """An image with all slots in use."""
    path = create(tmp_path_factory.mktemp("slots") / "disk.qcow2", SIZE, secret=SLOT_SECRETS[0])
    write(node(path), [(0, pattern(1, 65536))])
    for number in range(1, 8):
        add_slot(path, number)
    return path


def active_slots(path):
    with Opened(path, no_chain=True) as image:
        return [number for number, slot in enumerate(image.encryption().slots) if slot.is_active]


@needs_libgcrypt
@pytest.mark.parametrize("number", range(8))
def test_every_key_slot(number, slots):
    assert active_slots(slots) == list(range(8))
    with opened(slots, SLOT_SECRETS[number]) as image, image.view() as view:
        assert_bytes(view.read(0, 65536), pattern(1, 65536), "through the slot")


@needs_libgcrypt
def test_wrong_passphrase_names_the_slots(slots):
    refused(slots, "KEY", "0, 1, 2, 3, 4, 5, 6, 7", passphrases=[b"number 8"])


@needs_libgcrypt
def test_erased_key_slots(slots, tmp_path):
    path = tmp_path / "image.qcow2"
    path.write_bytes(slots.read_bytes())
    for number in (0, 1, 2, 4, 5, 6, 7):
        amend(
            path, "encrypt.state=inactive", f"encrypt.keyslot={number}", secrets=[SLOT_SECRETS[3]]
        )
        refused(path, "KEY", passphrases=[SLOT_SECRETS[number]])
    assert active_slots(path) == [3]
    opened(path, SLOT_SECRETS[3]).close()


@needs_libgcrypt
def test_no_active_slot(slots, tmp_path):
    data = bytearray(slots.read_bytes())
    for number in range(8):
        poke(data, header_offset(slots) + 208 + 48 * number, "I", 0xDEAD)
    (tmp_path / "image.qcow2").write_bytes(data)
    refused(tmp_path / "image.qcow2", "KEY", "none of the key slots")


@needs_libgcrypt
def test_an_unreadable_slot_does_not_hide_the_others(slots):
    """Slot 5's key material cannot be read."""
    data = slots.read_bytes()
    lost = (
        header_offset(slots)
        + 512 * struct.unpack_from(">I", data, header_offset(slots) + 208 + 48 * 5 + 40)[0]
    )

    def source(offset, length):
        return 5 if offset <= lost < offset + length else data[offset : offset + length]

    for number in (0, 4, 6, 7):
        Opened.from_storage(source, len(data), passphrases=[SLOT_SECRETS[number]]).close()
    for secret in (SLOT_SECRETS[5], b"wrong"):
        with pytest.raises(QcowError) as caught:
            Opened.from_storage(source, len(data), passphrases=[secret])
        assert caught.value.code == "IO", caught.value


# ---- What is encrypted -----------------------------------------------------------

METHODS = pytest.mark.parametrize("method", ("luks", "aes"))


@needs_libgcrypt
@METHODS
def test_snapshots(method, tmp_path, rng):
    path = create(tmp_path / "image.qcow2", SIZE, method)
    want = []
    for number in range(3):
        write(
            node(path, method),
            [(65536 * number + 512 * at, pattern(10 * number + at, 1024)) for at in (0, 5, 100)],
        )
        want.append(content(node(path, method)))
        take_snapshot(path, method, number)
    write(node(path, method), [(0, pattern(99, 4 * 65536))])
    with opened(path) as image:
        assert len(image.snapshots) == 3
        for number in range(3):
            with image.view(number) as view:
                check_content(view, want[number], rng)
        with image.view() as view:
            check_content(view, content(node(path, method)), rng)


def take_snapshot(path, method, number):
    qemu(
        "qemu-img",
        "snapshot",
        "-c",
        f"n{number}",
        "--image-opts",
        f"driver=qcow2,file.filename={path},encrypt.format={method},encrypt.key-secret=s0",
        secrets=[SECRET],
    )


@needs_libgcrypt
@METHODS
@pytest.mark.parametrize(
    "options",
    (
        "cluster_size=512",
        "cluster_size=4k",
        "cluster_size=2M",
        "compat=0.10",
        "compression_type=zstd",
        "extended_l2=on,cluster_size=16k",
        "extended_l2=on,cluster_size=128k",
    ),
)
def test_geometries(method, options, tmp_path, rng):
    size = 4 * MIB if "2M" in options else SIZE
    cluster = 2 * MIB if "2M" in options else 65536
    path = create(tmp_path / "image.qcow2", size, method, options=(options,))
    write(
        node(path, method),
        some_writes(1, size, cluster) if cluster == 65536 else [(512, pattern(1, 70000))],
    )
    check_opened(path, content(node(path, method)), rng)


@needs_libgcrypt
@METHODS
@pytest.mark.parametrize("compression", ("zlib", "zstd"))
def test_compressed_clusters_are_not_encrypted(method, compression, tmp_path, rng):
    path = create(
        tmp_path / "image.qcow2", SIZE, method, options=(f"compression_type={compression}",)
    )
    (tmp_path / "data").write_bytes(pattern(5, 4096) * 16)
    write(
        node(path, method),
        [
            (0, pattern(1, 65536)),
            f"write -c -s {tmp_path}/data 65536 65536",
            (3 * 65536, pattern(2, 65536)),
            f"write -c -s {tmp_path}/data 262144 65536",
        ],
    )
    want = content(node(path, method))
    with opened(path) as image, image.view() as view:
        assert [extent.kind for extent in view.map_all()].count("compressed") == 2
        check_content(view, want, rng)


@needs_libgcrypt
@METHODS
def test_data_file(method, tmp_path, rng):
    data = tmp_path / "data"
    path = create(tmp_path / "image.qcow2", SIZE, method, options=(f"data_file={data}",))
    write(node(path, method), some_writes(1))
    want = content(node(path, method))
    assert want[3 * 65536 : 4 * 65536] not in data.read_bytes()
    check_opened(path, want, rng, data_file=data)


def raw_backing(tmp_path):
    base = tmp_path / "base.raw"
    base.write_bytes(pattern(50, SIZE - 700))
    return ("base.raw", "raw"), raw_node(base), []


def plain_backing(tmp_path):
    base = tmp_path / "base.qcow2"
    create(base, SIZE, None)
    write(node(base, None), [(0, pattern(50, SIZE - 70144))])
    return ("base.qcow2", "qcow2"), node(base, None), []


def encrypted_backing(method, secret):
    def make(tmp_path):
        base = create(tmp_path / "base.qcow2", SIZE, method, secret=secret)
        write(node(base, method), [(0, pattern(50, SIZE - 70144))], [secret])
        return ("base.qcow2", "qcow2"), node(base, method, 1), [secret]

    return make


BACKINGS = {
    "raw": raw_backing,
    "qcow2": plain_backing,
    "luks": encrypted_backing("luks", b"base's own"),
    "aes": encrypted_backing("aes", b"base's own"),
}


@needs_libgcrypt
@pytest.mark.parametrize("method", ("luks", "aes", None))
@pytest.mark.parametrize("backing", BACKINGS)
def test_chains(method, backing, tmp_path, rng):
    """Encrypted or not, above and below."""
    name, below, secrets = BACKINGS[backing](tmp_path)
    top = tmp_path / "top.qcow2"
    create(top, SIZE, method, backing=name)
    described = node(top, method, backing=below)
    write(
        described, [(65536, pattern(1, 1024)), (5 * 65536, pattern(2, 65536))], [SECRET, *secrets]
    )
    want = content(described, [SECRET, *secrets])
    passphrases = ([SECRET] if method else []) + secrets
    with Opened(top, passphrases=passphrases) as image, image.view() as view:
        check_content(view, want, rng)
        assert [image.encryption(layer).method for layer in (0, 1)] == [
            {"luks": 2, "aes": 1}.get(kind, 0) for kind in (method, backing)
        ]
    if secrets and method:
        refused(
            top, "ARGUMENT", "3 passphrases", "2 encrypted files", passphrases=[*passphrases, b"x"]
        )
    if secrets and method is None:
        refused(top, "KEY", "base.qcow2", "needs a passphrase", passphrases=[])
    if secrets and backing == "luks":
        refused(top, "KEY", "base.qcow2", "wrong", passphrases=[*passphrases[:-1], b"wrong"])


@needs_libgcrypt
def test_the_last_passphrase_serves_the_rest(tmp_path, rng):
    """Three encrypted files and a plain one among them; the two lower ones share a passphrase."""
    base = create(tmp_path / "base.qcow2", SIZE, secret=b"shared")
    lower = create(
        tmp_path / "lower.qcow2", SIZE, secret=b"shared", backing=("base.qcow2", "qcow2")
    )
    create(tmp_path / "plain.qcow2", SIZE, None, backing=("lower.qcow2", "qcow2"))
    top = create(tmp_path / "top.qcow2", SIZE, secret=b"own", backing=("plain.qcow2", "qcow2"))
    secrets = [b"own", b"shared"]
    layers = node(base, "luks", 1)
    write(layers, [(0, pattern(1, SIZE))], secrets)
    layers = node(lower, "luks", 1, backing=layers)
    write(layers, [(65536, pattern(2, 65536))], secrets)
    layers = node(top, "luks", 0, backing=node(tmp_path / "plain.qcow2", None, backing=layers))
    write(layers, [(3 * 65536, pattern(3, 65536))], secrets)
    want = content(layers, secrets)
    check_opened(top, want, rng, *secrets)
    check_opened(top, want, rng, *secrets, b"shared")
    refused(
        top,
        "ARGUMENT",
        "4 passphrases",
        "3 encrypted files",
        passphrases=[*secrets, b"shared", b"shared"],
    )
    refused(top, "KEY", "lower.qcow2", passphrases=[b"own"])
    refused(top, "KEY", "top.qcow2", passphrases=[b"shared"])


@needs_libgcrypt
@METHODS
def test_threads(method, plain_luks, plain_aes, rng):
    """Each has its own cipher state; shared, they would mix up their initialisation vectors."""
    path, want = plain_luks if method == "luks" else plain_aes
    wrong = []
    with opened(path) as image, image.view() as view:

        def work(seeds):
            for start, length in seeds:
                if view.read(start, length) != want[start : start + length]:
                    wrong.append((start, length))

        plans = [
            [(start := rng.randrange(SIZE), rng.randrange(1, SIZE - start + 1)) for _ in range(150)]
            for _ in range(4)
        ]
        threads = [threading.Thread(target=work, args=(plan,)) for plan in plans]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@needs_libgcrypt
@METHODS
def test_every_short_read_around_a_sector(method, plain_luks, plain_aes):
    path, want = plain_luks if method == "luks" else plain_aes
    with opened(path) as image, image.view() as view:
        for start in (
            3 * 65536 + 510,
            3 * 65536 + 511,
            4 * 65536 - 514,
            4 * 65536 - 2,
            SIZE - 1030,
        ):
            for length in (1, 2, 3, 511, 512, 513, 514, 1023, 1024, 1025, 1030):
                assert_bytes(
                    view.read(start, length), want[start : start + length], f"{length} at {start}"
                )


# ---- What the image says ---------------------------------------------------------


def test_description(plain_luks):
    path, _ = plain_luks
    luks = json.loads(qemu("qemu-img", "info", "--output=json", path).stdout)["format-specific"][
        "data"
    ]["encrypt"]
    with Opened(path, no_chain=True) as image:
        info = image.encryption()
        assert (
            info.method,
            info.cipher,
            info.key_bits,
            info.mode,
            info.ivgen,
            info.ivgen_hash,
            info.hash,
        ) == (2, b"aes", 256, b"xts", b"plain64", b"", b"sha256")
        assert info.uuid.decode() == luks["uuid"] and info.payload_offset == luks["payload-offset"]
        assert [(bool(slot.is_active), slot.iterations) for slot in info.slots] == [
            (slot["active"], slot.get("iters", 0)) for slot in luks["slots"]
        ]
        assert info.header_offset == header_offset(path)
        with pytest.raises(QcowError) as caught:
            image.encryption(1)
        assert caught.value.code == "ARGUMENT"


def test_description_of_essiv(tmp_path):
    path = create(
        tmp_path / "image.qcow2",
        SIZE,
        cipher_alg="twofish-256",
        cipher_mode="cbc",
        ivgen_alg="essiv",
        ivgen_hash_alg="sha256",
        hash_alg="sha512",
    )
    with Opened(path, no_chain=True) as image:
        info = image.encryption()
        assert (info.cipher, info.key_bits, info.mode, info.ivgen, info.ivgen_hash, info.hash) == (
            b"twofish",
            256,
            b"cbc",
            b"essiv",
            b"sha256",
            b"sha512",
        )


def test_description_of_the_others(plain_aes, tmp_path):
    with Opened(plain_aes[0], no_chain=True) as image:
        info = image.encryption()
        assert (info.method, info.cipher, info.key_bits, info.mode) == (1, b"aes", 128, b"cbc")
    plain = builder.Image(size=4096, cluster_bits=12).write(tmp_path / "plain.qcow2")
    with Opened(plain) as image:
        assert bytes(image.encryption()) == bytes(ctypes.sizeof(image.encryption()))


def run_info(*arguments, **environment):
    return subprocess.run(
        [f"{BUILD}/tsk_qcow2/tsk-qcow2", "info", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**tools.CLEAN, **environment},
    )


def test_info_needs_no_passphrase(slots, plain_aes, tmp_path):
    text = run_info(slots)
    assert text.returncode == 0, text.stderr
    assert (
        "Encryption: LUKS (aes-256-xts-plain64, sha256; active key slots 0, 1, 2, 3, 4, 5, 6, 7)"
        in text.stdout
    )
    assert "Encryption: legacy AES (aes-128-cbc-plain64)" in run_info(plain_aes[0]).stdout
    described = json.loads(run_info("--json", slots).stdout)
    assert described["header"]["encryption"] == "luks"
    assert (
        described["encryption_details"]["cipher"] == "aes"
        and described["encryption_details"]["key_bits"] == 256
    )
    assert [slot["active"] for slot in described["encryption_details"]["luks"]["key_slots"]] == [
        True
    ] * 8
    plain = builder.Image(size=4096, cluster_bits=12).write(tmp_path / "plain.qcow2")
    assert json.loads(run_info("--json", plain).stdout)["encryption_details"] is None
    assert "Encryption: none" in run_info(plain).stdout


def test_info_of_a_broken_header(plain_luks, tmp_path):
    data = bytearray(plain_luks[0].read_bytes())
    data[header_offset(plain_luks[0]) + 8] = 0x1B
    (tmp_path / "image.qcow2").write_bytes(data)
    text = run_info(tmp_path / "image.qcow2")
    assert text.returncode == 0 and "cannot be used" in text.stdout and "\\x1bes" in text.stdout
    assert (
        "\\x1bes"
        in json.loads(run_info("--json", tmp_path / "image.qcow2").stdout)["encryption_details"][
            "error"
        ]
    )


# ---- Broken headers --------------------------------------------------------------


def header_offset(path):
    """Of the LUKS header, by the qcow2 header's extension."""
    data = Path(path).read_bytes()[:4096]
    at = data.index(struct.pack(">II", 0x0537BE77, 16))
    return struct.unpack_from(">Q", data, at + 8)[0]


SLOT = 208  # of slot 0, in the LUKS header
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


# ---- Image names -----------------------------------------------------------------


@pytest.fixture()
def keys(tmp_path):
    """Key files by name."""

    def make(name, data=SECRET):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return make


def img_cat(name, **environment):
    return tools.run("img_cat", "-i", "qcow2", name, environment=environment)


def cat_refused(name, *words, **environment):
    tools.assert_refused(img_cat(name, **environment), *words)


@needs_libgcrypt
@pytest.mark.parametrize("data", (b"secret", b"secret\n", b"secret\r\n"))
def test_key_file(data, plain_luks, plain_aes, keys):
    for path, want in (plain_luks, plain_aes):
        assert_bytes(img_cat(f"{path},key-file={keys('key', data)}").stdout, want, "by option")
        assert_bytes(
            img_cat(path, TSK_QCOW2_KEY_FILE=str(keys("key", data))).stdout, want, "by environment"
        )


@needs_libgcrypt
@pytest.mark.parametrize(
    "data", (b"", b"\n", b"secret\n\n", b"secret\r", b"secret \n", b"\nsecret", b"secret\r\r\n")
)
def test_key_file_with_another_passphrase(data, plain_luks, keys):
    problem = "wrong" if data.rstrip(b"\r\n") else "empty"
    cat_refused(
        f"{plain_luks[0]},key-file={keys('key', data)}",
        "disk.qcow2",
        f"the passphrase is {problem}",
    )


@needs_libgcrypt
def test_key_file_errors(plain_luks, keys, tmp_path):
    path, _ = plain_luks
    cat_refused(path, "disk.qcow2", "needs a passphrase", "key-file=PATH")
    cat_refused(f"{path},key-file={tmp_path}/none", "key file", "none", "No such file")
    cat_refused(f"{path},key-file={tmp_path}", "key file", "not a regular file")
    os.mkfifo(tmp_path / "fifo")
    cat_refused(f"{path},key-file={tmp_path}/fifo", "not a regular file")
    cat_refused(f"{path},key-file=/dev/zero", "not a regular file")
    cat_refused(f"{path},key-file=", "key-file=PATH")
    with open(tmp_path / "large", "wb") as file:
        file.truncate((8 << 20) + 1)
    cat_refused(f"{path},key-file={tmp_path}/large", "8 MiB")
    cat_refused(path, "No such file", TSK_QCOW2_KEY_FILE=str(tmp_path / "none"))
    cat_refused(
        f"{path},key-file={keys('key')},key-file={keys('key')}", "2 passphrases", "1 encrypted file"
    )
    cat_refused(
        f"{path},key-file={keys('wrong', b'wrong')}",
        "passphrase is wrong",
        TSK_QCOW2_KEY_FILE=str(keys("key")),
    )


@needs_libgcrypt
def test_key_file_of_the_largest_size(tmp_path, keys):
    """As far as the file goes; QEMU's secret is as long."""
    secret = b"x" * (8 << 20)
    path = create(tmp_path / "image.qcow2", SIZE, secret=secret)
    assert img_cat(f"{path},key-file={keys('key', secret)}").returncode == 0


def test_key_file_for_a_plain_image(tmp_path, keys):
    path = builder.Image(size=4096, cluster_bits=12).write(tmp_path / "plain.qcow2")
    cat_refused(f"{path},key-file={keys('key')}", "passphrase was given", "plain.qcow2")
    for key_file in (keys("key"), tmp_path / "none", ""):
        assert img_cat(path, TSK_QCOW2_KEY_FILE=str(key_file)).stdout == bytes(4096)
    assert run_info(f"{path},key-file=/nonexistent").returncode == 0


@needs_libgcrypt
def test_key_files_of_a_chain(tmp_path, keys):
    name, below, secrets = BACKINGS["luks"](tmp_path)
    top = create(tmp_path / "top.qcow2", SIZE, backing=name)
    described = node(top, backing=below)
    write(described, [(65536, pattern(1, 1024))], [SECRET, *secrets])
    want = content(described, [SECRET, *secrets])
    first, second = keys("first"), keys("second", secrets[0] + b"\n")
    assert_bytes(img_cat(f"{top},key-file={first},key-file={second}").stdout, want, "in order")
    cat_refused(f"{top},key-file={second},key-file={first}", "top.qcow2", "wrong")
    cat_refused(f"{top},key-file={first}", "base.qcow2", "wrong")


@needs_libgcrypt
def test_environment_unlocks_a_backing_file(tmp_path, keys):
    name, _, secrets = BACKINGS["luks"](tmp_path)
    create(tmp_path / "top.qcow2", SIZE, None, backing=name)
    result = img_cat(tmp_path / "top.qcow2", TSK_QCOW2_KEY_FILE=str(keys("key", secrets[0])))
    assert_bytes(result.stdout[:65536], pattern(50, 65536), "through the base")


@needs_libgcrypt
def test_img_stat_describes_and_warns(plain_luks, plain_aes, keys):
    stat = tools.run("img_stat", "-i", "qcow2", f"{plain_luks[0]},key-file={keys('key')}").stdout
    assert b"Encryption: LUKS (aes-256-xts-plain64, sha256; active key slots 0)" in stat
    stat = tools.run("img_stat", "-i", "qcow2", f"{plain_aes[0]},key-file={keys('key')}").stdout
    assert b"Encryption: legacy AES" in stat and b"wrong passphrase cannot be told" in stat


# ---- Keys do not stay in memory --------------------------------------------------

CHILD = r"""
import ctypes, os, sys
from lib import core
path, key_file = sys.argv[1:]
length = os.path.getsize(key_file)
passphrase = ctypes.create_string_buffer(length)
with open(key_file, "rb", buffering=0) as file:
    file.readinto(passphrase)
options = core.open_options(passphrases=[b""])
options.passphrases[0].length = length
ctypes.c_void_p.from_buffer(options.passphrases[0]).value = ctypes.addressof(passphrase)
def say(word):
    print(word, flush=True)
    sys.stdin.readline()
handle, view = ctypes.c_void_p(), ctypes.c_void_p()
core.call("qcow2_image_open", path.encode(), ctypes.byref(options), ctypes.byref(handle))
core.call("qcow2_view_open", handle, core.ACTIVE, ctypes.byref(view))
block = ctypes.create_string_buffer(65536)
core.call("qcow2_view_read", view, 3 * 65536, block, 65536)
ctypes.memset(passphrase, 0, length)
say("open")
core.library().qcow2_view_close(view)
core.library().qcow2_image_close(handle)
say("closed")
"""


def memory_holds(pid, needle):
    """True if a process's writable memory holds the bytes. Regions of gigabytes are a
    sanitizer's."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, mode = line.split()[:2]
            start, end = (int(word, 16) for word in span.split("-"))
            if mode.startswith("rw") and end - start < 1 << 30:
                memory.seek(start)
                if needle in memory.read(end - start):
                    return True
    return False


def watch(path, key_file, needle):
    """Whether a process that opens and closes the image holds the bytes while it is open, and
    afterwards."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(key_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    found = []
    try:
        for word in ("open", "closed"):
            assert child.stdout.readline().strip() == word
            found.append(memory_holds(child.pid, needle))
            child.stdin.write("\n")
            child.stdin.flush()
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.wait()
    return found


@needs_libgcrypt
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at Linux's /proc")
def test_keys_are_wiped(tmp_path, keys):
    """The key of legacy AES is its passphrase; what opens a LUKS slot is wiped before the image is
    open."""
    secret = os.urandom(8).hex().encode()
    path = create(tmp_path / "image.qcow2", SIZE, "aes", secret=secret)
    assert watch(path, keys("key", secret), secret) == [True, False]
    path = create(tmp_path / "image.qcow2", SIZE, secret=secret)
    slot_key, master_key = luks_keys(path, secret)
    needles = {
        "passphrase": (secret, False),
        "slot key": (slot_key[:32], False),
        "slot tweak key": (slot_key[32:], False),
        "master key": (master_key[:32], True),
        "master tweak key": (master_key[32:], True),
    }
    found = {
        name: watch(path, keys("key", secret), needle) for name, (needle, _) in needles.items()
    }
    assert found == {name: [expected, False] for name, (_, expected) in needles.items()}


def luks_keys(path, secret):
    """Slot 0's key and the master key of an AES-256-XTS image, by other means than the reader's."""
    data = path.read_bytes()
    header, slot = header_offset(path), header_offset(path) + SLOT
    (iterations,) = struct.unpack_from(">I", data, slot + 4)
    slot_key = hashlib.pbkdf2_hmac("sha256", secret, data[slot + 8 : slot + 40], iterations, 64)
    material = header + 512 * struct.unpack_from(">I", data, slot + 40)[0]
    stripes = aes_xts(slot_key, data[material : material + 256000])
    key = bytes(64)
    for at in range(0, 256000, 64):
        if at:
            key = b"".join(
                hashlib.sha256(struct.pack(">I", i) + key[32 * i : 32 * i + 32]).digest()
                for i in (0, 1)
            )
        key = bytes(a ^ b for a, b in zip(key, stripes[at : at + 64]))
    (digest_iterations,) = struct.unpack_from(">I", data, header + 164)
    assert (
        hashlib.pbkdf2_hmac("sha256", key, data[header + 132 : header + 164], digest_iterations, 20)
        == data[header + 112 : header + 132]
    )
    return slot_key, key


def aes_xts(key, data):
    """AES-256-XTS of sectors from number 0 on."""
    gcrypt, handle = ctypes.CDLL("libgcrypt.so.20"), ctypes.c_void_p()
    assert gcrypt.gcry_cipher_open(ctypes.byref(handle), 9, 13, 0) == 0
    assert gcrypt.gcry_cipher_setkey(handle, key, ctypes.c_size_t(64)) == 0
    out = b""
    for number in range(len(data) // 512):
        sector = ctypes.create_string_buffer(data[512 * number : 512 * number + 512], 512)
        gcrypt.gcry_cipher_setiv(handle, struct.pack("<QQ", number, 0), ctypes.c_size_t(16))
        gcrypt.gcry_cipher_decrypt(handle, sector, ctypes.c_size_t(512), None, ctypes.c_size_t(0))
        out += sector.raw
    gcrypt.gcry_cipher_close(handle)
    return out


# ---- Without libgcrypt -----------------------------------------------------------


@pytest.mark.skipif(has_libgcrypt(), reason="for a build without libgcrypt")
def test_without_libgcrypt(plain_luks, plain_aes, keys):
    for path, _ in (plain_luks, plain_aes):
        for passphrases in ((), (SECRET,), (b"wrong",)):
            refused(path, "UNSUPPORTED", "disk.qcow2", "libgcrypt", passphrases=passphrases)
        cat_refused(f"{path},key-file={keys('key')}", "disk.qcow2", "no libgcrypt")
