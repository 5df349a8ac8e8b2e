# SPDX-License-Identifier: MIT
"""Images of qcow version 1: made by QEMU, and built by hand from the rules of
core/format/version_1.h."""
import struct
import zlib
from pathlib import Path

from . import encrypted

COMPRESSED = 1 << 63
L1_OFFSET, L2_OFFSET = 48, 4096  # in images that are built here: one L2 table


def node(path, secret=None, backing=None):
    """QEMU's description of such an image."""
    method = None if secret is None else "aes"
    return encrypted.node(path, method, secret or 0, backing, driver="qcow")


def make(path, size, writes=(), encrypt=False, backing=None):
    """An image that QEMU makes and writes; `backing` is (name, format, QEMU's description).
    Returns QEMU's description of it."""
    named = backing and backing[:2]
    encrypted.create(path, size, "aes" if encrypt else None, driver="qcow", backing=named)
    made = node(path, 0 if encrypt else None, backing and backing[2])
    if writes:
        encrypted.write(made, writes)
    return made


def squeeze(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    return packer.compress(data) + packer.flush()


class Built:
    """A disk with clusters of 4 KiB, and one L2 table of 512 entries. Entries that are not given
    are 0; `l1` and `header` override what would be right."""

    def __init__(self, size, name=b""):
        self.size, self.name = size, name
        self.entries, self.clusters, self.l1, self.header = {}, [], L2_OFFSET, {}
        self.end = 2 * 4096

    def add(self, data):
        """The host offset of these bytes."""
        at = self.end
        self.clusters.append((at, data))
        self.end += len(data)
        return at

    def normal(self, index, data):
        self.end = -(-self.end // 4096) * 4096
        self.entries[index] = self.add(data)
        return self.entries[index]

    def compressed(self, index, data, stream=None):
        stream = squeeze(data) if stream is None else stream
        self.entries[index] = COMPRESSED | len(stream) << (63 - 12) | self.add(stream)
        return self.entries[index] & ((1 << 51) - 1)

    def build(self):
        fields = {
            "version": 1,
            "name_offset": 48 + 8 if self.name else 0,
            "name_length": len(self.name),
            "size": self.size,
            "cluster_bits": 12,
            "l2_bits": 9,
            "crypt_method": 0,
            "l1_offset": L1_OFFSET,
            **self.header,
        }
        out = bytearray(self.end)
        struct.pack_into(
            ">4sIQIIQBBHIQ",
            out,
            0,
            b"QFI\xfb",
            fields["version"],
            fields["name_offset"],
            fields["name_length"],
            0,
            fields["size"],
            fields["cluster_bits"],
            fields["l2_bits"],
            0,
            fields["crypt_method"],
            fields["l1_offset"],
        )
        struct.pack_into(">Q", out, L1_OFFSET, self.l1)
        out[56 : 56 + len(self.name)] = self.name
        for index, entry in self.entries.items():
            struct.pack_into(">Q", out, L2_OFFSET + 8 * index, entry)
        for at, data in self.clusters:
            out[at : at + len(data)] = data
        return bytes(out)

    def write(self, path):
        Path(path).write_bytes(self.build())
