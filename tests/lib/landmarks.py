# SPDX-License-Identifier: MIT
"""The starts of disks and file systems, and what else is recognised of them (core/residue/): byte
by byte, as far as it is looked at."""
import struct
import zlib

EXT_64BIT, EXT_CHECKSUMS = 0x80, 0x400


def mbr(*partitions):
    """`partitions`: (start, length) of each, in sectors."""
    sector = bytearray(512)
    for number, (start, length) in enumerate(partitions):
        struct.pack_into("<8xII", sector, 446 + 16 * number, start, length)
        sector[446 + 16 * number + 4] = 0x83
    return bytes(sector[:510]) + b"\x55\xaa"


def gpt(here, there, sectors, entries=0):
    """A header in the sector `here`; its copy is `there`. Entries begin in the sector 2."""

    def header(checksum):
        return b"EFI PART" + struct.pack(
            "<IIIIQQQQ16sQIII",
            0x10000,
            92,
            checksum,
            0,
            here,
            there,
            34,
            sectors - 34,
            b"g" * 16,
            2,
            entries,
            128,
            0,
        )

    return header(zlib.crc32(header(0))).ljust(512, b"\0")


def gpt_entry(first, last):
    return b"t" * 16 + b"p" * 16 + struct.pack("<QQ", first, last) + bytes(80)


def xfs(group, blocks=1792, group_blocks=512):
    """The start of an allocation group, with blocks of 4 KiB."""
    start = bytearray(1024)
    struct.pack_into(">4sIQ", start, 0, b"XFSB", 4096, blocks)
    start[32:48] = b"u" * 16
    struct.pack_into(">II", start, 84, group_blocks, -(-blocks // group_blocks))
    struct.pack_into(">H", start, 102, 512)
    struct.pack_into(">4sII", start, 512, b"XAGF", 1, group)
    return bytes(start)


def ntfs(start, sectors, mft=(600, 1200)):
    """A boot sector; `mft`: the clusters (4 KiB) of the MFT and its copy."""
    sector = bytearray(512)
    sector[3:11] = b"NTFS    "
    struct.pack_into("<HB", sector, 11, 512, 8)
    struct.pack_into("<I", sector, 28, start)
    struct.pack_into("<QQQQ", sector, 40, sectors - 1, *mft, 7)
    return bytes(sector)


def mft_record():
    return b"FILE" + bytes(40) + struct.pack("<I", 0)


def crc32c(data, crc=0xFFFFFFFF):
    """As in ext4: not inverted at the end."""
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


def ext(group, blocks, group_blocks, checksums=True, sparse=True):
    """The superblock of ext4 with blocks of 1 KiB, or its copy in a group."""
    block = bytearray(1024)
    struct.pack_into("<II", block, 0, 16, blocks)
    struct.pack_into("<III", block, 20, 1, 0, 0)
    struct.pack_into("<I", block, 32, group_blocks)
    struct.pack_into("<H", block, 56, 0xEF53)
    struct.pack_into("<H", block, 90, group)
    struct.pack_into("<I", block, 96, EXT_64BIT if checksums else 0)
    struct.pack_into("<I", block, 100, (EXT_CHECKSUMS if checksums else 0) | sparse)
    block[104:120] = b"e" * 16
    struct.pack_into("<H", block, 254, 64)
    if checksums:
        struct.pack_into("<I", block, 1020, crc32c(block[:1020]))
    return bytes(block)


def ext_group(block, bitmap):
    """What describes a block group: where its block bitmap is, and its checksum."""
    checksum = crc32c(bitmap, crc32c(b"e" * 16))
    description = bytearray(64)
    struct.pack_into("<I", description, 0, block)
    struct.pack_into("<H", description, 24, checksum & 0xFFFF)
    struct.pack_into("<H", description, 56, checksum >> 16)
    return bytes(description)
