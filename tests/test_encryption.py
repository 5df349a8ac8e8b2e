# SPDX-License-Identifier: MIT
"""Encryption: LUKS and legacy AES images that QEMU made, read as QEMU reads them.

Set TSK_QCOW2_ENCRYPTION_TABLE to a path to get the matrix of ciphers, modes and IV generators as a
table.
"""
import ctypes
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from lib import builder, tools
from lib.builder import pattern
from lib.core import Image as Opened
from lib.core import QcowError
from lib.encrypted import content, create, node, qemu, write
from lib.expect import assert_bytes, check_content
from lib.project import COMMAND, SANITIZERS
from lib.unlocked import (
    BACKINGS,
    METHODS,
    SECRET,
    SIZE,
    check_opened,
    header_offset,
    needs_libgcrypt,
    opened,
    refused,
    some_writes,
)

pytestmark = pytest.mark.usefixtures("core")


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
    none. Sanitizers need not see each of those."""
    made = 0
    for name in (None, "sha256") if SANITIZERS and ivgen != "essiv" else (None, *HASHES):
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


# ---- What is encrypted -----------------------------------------------------------


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
    size = 4 << 20 if "2M" in options else SIZE
    cluster = 2 << 20 if "2M" in options else 65536
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
        [COMMAND, "info", *map(str, arguments)],
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
    assert text.returncode == 4 and "cannot be used" in text.stdout and "\\x1bes" in text.stdout
    assert (
        "\\x1bes"
        in json.loads(run_info("--json", tmp_path / "image.qcow2").stdout)["encryption_details"][
            "error"
        ]
    )
