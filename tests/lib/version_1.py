# SPDX-License-Identifier: MIT
"""Images of qcow version 1: made by QEMU, and built by hand from the rules of
core/format/version_1.h."""
import struct
import zlib
from pathlib import Path

from . import encrypted

COMPRESSED = 1 << 63
L1_OFFSET = 48  # in images that are built here


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
    """A disk with one L2 table, of one cluster. Entries that are not given are 0; `l1` and `header`
    override what would be right."""

    def __init__(self, size, cluster_bits=12):
        self.size, self.cluster_bits = size, cluster_bits
        self.cluster_size = 1 << cluster_bits
        self.entries, self.clusters, self.header = {}, [], {}
        self.l1 = self.l2_offset = self.cluster_size
        self.end = 2 * self.cluster_size

    def add(self, data):
        """The host offset of these bytes."""
        at = self.end
        self.clusters.append((at, data))
        self.end += len(data)
        return at

    def normal(self, index, data):
        self.end = -(-self.end // self.cluster_size) * self.cluster_size
        self.entries[index] = self.add(data)
        return self.entries[index]

    def compressed(self, index, data, stream=None):
        stream = squeeze(data) if stream is None else stream
        shift = 63 - self.cluster_bits
        self.entries[index] = COMPRESSED | len(stream) << shift | self.add(stream)
        return self.entries[index] & ((1 << shift) - 1)

    def build(self):
        fields = {
            "version": 1,
            "name_offset": 0,
            "name_length": 0,
            "size": self.size,
            "cluster_bits": self.cluster_bits,
            "l2_bits": self.cluster_bits - 3,
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
        for index, entry in self.entries.items():
            struct.pack_into(">Q", out, self.l2_offset + 8 * index, entry)
        for at, data in self.clusters:
            out[at : at + len(data)] = data
        return bytes(out)

    def write(self, path):
        Path(path).write_bytes(self.build())
