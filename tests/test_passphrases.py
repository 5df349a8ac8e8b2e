# SPDX-License-Identifier: MIT
"""Passphrases: which file of a chain each unlocks, key slots, key files; and keys do not stay in
memory."""
import ctypes
import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from lib import builder, tools
from lib.builder import pattern, poke
from lib.core import Image as Opened
from lib.core import QcowError
from lib.encrypted import content, create, has_libgcrypt, node, write
from lib.expect import assert_bytes
from lib.project import COMMAND, run
from lib.unlocked import (
    BACKINGS,
    SECRET,
    SIZE,
    SLOT,
    SLOT_SECRETS,
    amend,
    check_opened,
    header_offset,
    needs_libgcrypt,
    opened,
    refused,
)

pytestmark = pytest.mark.usefixtures("core")


# ---- Passphrases -----------------------------------------------------------------


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


# ---- Image names -----------------------------------------------------------------


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
    run(COMMAND, "info", f"{path},key-file=/nonexistent", env=tools.CLEAN)


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
        assert child.wait(120) == 0
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
