# SPDX-License-Identifier: MIT
"""LUKS headers that the passphrase "secret" opens although their key material is all zeros, and
need not be stored.

Whatever the material decrypts to, it merges to some master key; the header gets the digest of that
one.
"""
import ctypes
import hashlib
import struct
from functools import cache

SECTOR, STRIPES = 512, 4000
# libgcrypt's numbers.
ALGORITHMS = {
    ("aes", 16): 7,
    ("aes", 24): 8,
    ("aes", 32): 9,
    ("serpent", 16): 304,
    ("serpent", 32): 306,
    ("twofish", 16): 303,
    ("twofish", 32): 10,
    ("cast5", 16): 3,
    ("sm4", 16): 318,
}
MODES = {"ecb": 1, "cbc": 3, "ctr": 6, "xts": 13}
SALT = bytes(range(32))


@cache
def libgcrypt():
    library = ctypes.CDLL("libgcrypt.so.20")
    library.gcry_check_version(None)
    return library


class Cipher:
    """One of libgcrypt's ciphers with a key."""

    def __init__(self, algorithm, mode, key):
        self.library, self.mode, self.handle = libgcrypt(), mode, ctypes.c_void_p()
        half = len(key) // 2 if mode == "xts" else len(key)
        number = ALGORITHMS[algorithm, half]
        self.check(self.library.gcry_cipher_open(ctypes.byref(self.handle), number, MODES[mode], 0))
        self.check(self.library.gcry_cipher_setkey(self.handle, key, ctypes.c_size_t(len(key))))
        self.block = 8 if algorithm == "cast5" else 16

    def check(self, status):
        assert status == 0, status

    def run(self, function, data, iv):
        out = ctypes.create_string_buffer(data, len(data))
        size = ctypes.c_size_t(len(data))
        if self.mode == "ctr":
            self.check(
                self.library.gcry_cipher_setctr(self.handle, iv, ctypes.c_size_t(self.block))
            )
        elif self.mode != "ecb":
            self.check(self.library.gcry_cipher_setiv(self.handle, iv, ctypes.c_size_t(self.block)))
        self.check(
            getattr(self.library, function)(self.handle, out, size, None, ctypes.c_size_t(0))
        )
        return out.raw

    def __del__(self):
        self.library.gcry_cipher_close(self.handle)


def sector_iv(cipher, algorithm, generator, key, sector):
    if generator == "plain":
        return struct.pack("<I", sector).ljust(cipher.block, b"\0")
    number = struct.pack("<Q", sector).ljust(cipher.block, b"\0")
    if not generator.startswith("essiv"):
        return number
    salt = hashlib.new(generator.split(":")[1], key).digest()
    return Cipher(algorithm, "ecb", salt).run("gcry_cipher_encrypt", number, None)


def decrypted_zeros(algorithm, mode, key, length):
    """What a run of zeros of this length decrypts to."""
    chain, _, generator = mode.partition("-")
    cipher = Cipher(algorithm, chain, key)
    function = "gcry_cipher_decrypt" if chain != "ctr" else "gcry_cipher_encrypt"
    return b"".join(
        cipher.run(function, bytes(SECTOR), sector_iv(cipher, algorithm, generator, key, number))
        for number in range(-(-length // SECTOR))
    )


def merge(stripes, length, digest):
    """The anti-forensic splitter, backwards."""
    size = hashlib.new(digest).digest_size
    block = bytes(length)
    for index in range(STRIPES):
        if index > 0:
            block = b"".join(
                hashlib.new(digest, struct.pack(">I", part) + block[at : at + size]).digest()[
                    : length - at
                ]
                for part, at in enumerate(range(0, length, size))
            )
        stripe = stripes[index * length : (index + 1) * length]
        block = bytes(a ^ b for a, b in zip(block, stripe))
    return block


def master_digest(cipher, mode, digest, key_bytes, iterations):
    key = hashlib.pbkdf2_hmac(digest, b"secret", SALT, iterations, key_bytes)
    master = merge(decrypted_zeros(cipher, mode, key, key_bytes * STRIPES), key_bytes, digest)
    return hashlib.pbkdf2_hmac(digest, master, SALT, iterations, 20)


def luks_header(cipher, mode, digest, key_bytes=16, slot=0, iterations=50, known=None):
    """The 592 bytes. `known`: the master key's digest, where libgcrypt lacks the cipher."""
    known = known or master_digest(cipher, mode, digest, key_bytes, iterations)
    header = b"LUKS\xba\xbe" + struct.pack(
        ">H32s32s32s", 1, cipher.encode(), mode.encode(), digest.encode()
    )
    header += struct.pack(">II", 4096, key_bytes) + known + SALT
    header += struct.pack(">I40s", iterations, b"01234567-89ab-cdef-0123-456789abcdef")
    sectors = -(-key_bytes * STRIPES // SECTOR)
    for index in range(8):
        state = (0x00AC71F3, iterations) if index == slot else (0x0000DEAD, 0)
        header += struct.pack(">II32sII", *state, SALT, 8 + index * (sectors + 8), STRIPES)
    return header


LUKS_VARIANTS = {
    "aes-128-ecb": dict(cipher="aes", mode="ecb", digest="sha1"),
    "aes-256-xts": dict(cipher="aes", mode="xts-plain64", digest="sha256", key_bytes=64, slot=1),
    "aes-128-cbc-essiv": dict(cipher="aes", mode="cbc-essiv:sha256", digest="sha512"),
    "aes-192-ctr": dict(cipher="aes", mode="ctr-plain64", digest="sha224", key_bytes=24),
    "serpent-256-cbc": dict(
        cipher="serpent", mode="cbc-plain", digest="sha384", key_bytes=32, slot=7
    ),
    "serpent-128-xts": dict(cipher="serpent", mode="xts-plain", digest="sha1", key_bytes=32),
    "twofish-256-cbc": dict(cipher="twofish", mode="cbc-plain64", digest="sha256", key_bytes=32),
    "twofish-128-xts": dict(cipher="twofish", mode="xts-plain64", digest="md5", key_bytes=32),
    "twofish-192-xts": dict(
        cipher="twofish",
        mode="xts-plain64",
        digest="sha256",
        key_bytes=48,
        known=bytes.fromhex("ae60dd772faec85b00b011dc37f8d9200482f30a"),
    ),
    "cast5-cbc": dict(cipher="cast5", mode="cbc-plain64", digest="sha1"),
    "cast5-ctr": dict(cipher="cast5", mode="ctr-essiv:md5", digest="md5"),
    "sm4-cbc": dict(cipher="sm4", mode="cbc-plain64", digest="sha256"),
}
