# SPDX-License-Identifier: MIT
"""What the tests of encryption share: opening images with the passphrase that they are made with,
what is stored in them, and chains of them.
"""
import struct
from functools import partial
from pathlib import Path

import pytest

from . import expect
from .builder import pattern
from .core import Image
from .encrypted import content, create, has_libgcrypt, node, qemu, raw_node, write
from .expect import check_content

SIZE = 1 << 20
SECRET = b"secret"
SLOT_SECRETS = [b"secret", *(b"number %d" % number for number in range(1, 8))]
SLOT = 208  # of slot 0, in the LUKS header
METHODS = pytest.mark.parametrize("method", ("luks", "aes"))
needs_libgcrypt = pytest.mark.skipif(not has_libgcrypt(), reason="this build has no libgcrypt")


def opened(path, *passphrases, **options):
    return Image(path, passphrases=passphrases or [SECRET], **options)


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


def make_plain(path, method):
    """An ordinary image: (path, content)."""
    create(path, SIZE, method)
    write(node(path, method), some_writes(1))
    return path, content(node(path, method))


def make_with_all_slots(path):
    create(path, SIZE, secret=SLOT_SECRETS[0])
    write(node(path), [(0, pattern(1, 65536))])
    for number in range(1, 8):
        add_slot(path, number)
    return path


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


def header_offset(path):
    """Of the LUKS header, by the qcow2 header's extension."""
    data = Path(path).read_bytes()[:4096]
    at = data.index(struct.pack(">II", 0x0537BE77, 16))
    return struct.unpack_from(">Q", data, at + 8)[0]


# ---- Backing files, encrypted or not: (name, format), QEMU's node, passphrases ------


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
