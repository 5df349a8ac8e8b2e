# SPDX-License-Identifier: MIT
"""What of a qcow2 file something refers to, found out by walking its tables in Python, from the
format's text and without our C code: the oracle for ",residue".

    used = references(path)     # [(start, end)], sorted, in bytes
    check(path, residue_view)   # zero there, and as stored everywhere else
"""
import ctypes
import struct
import zlib
from pathlib import Path

from .builder import zstd_library

OFFSET_MASK = 0x00FFFFFFFFFFFE00
COMPRESSED, ZERO = 1 << 62, 1
BITMAPS, LUKS, BITMAPS_AUTOCLEAR = 0x23852875, 0x0537BE77, 1
CHUNK = 1 << 20


def pad8(length):
    return -(-length // 8) * 8


class Walk:
    """One walk over a file of which all tables are where they should be."""

    def __init__(self, path):
        self.data = Path(path).open("rb")
        self.file_size = Path(path).stat().st_size
        self.used, self.streams = [], {}
        (
            self.version,
            self.backing_at,
            self.backing_length,
            self.cluster_bits,
            self.size,
            self.crypt,
            self.l1_size,
            self.l1_at,
            self.refcounts_at,
            self.refcounts_clusters,
            self.snapshot_count,
            self.snapshots_at,
        ) = self.get(">IQIIQIIQQIIQ", 4)
        more = (0, 0, 0, 4, 72) if self.version == 2 else self.get(">QQQII", 72)
        self.incompatible, _, self.autoclear, _, self.header_length = more
        zstd = self.header_length > 104 and self.read(104, 1) == b"\1"
        self.consumed = consumed_by_zstd if zstd else consumed_by_deflate
        self.extended = bool(self.incompatible & 16)
        self.data_file = bool(self.incompatible & 4)
        self.cluster = 1 << self.cluster_bits
        self.l2_entries = self.cluster // (16 if self.extended else 8)

    def read(self, offset, length):
        self.data.seek(offset)
        return self.data.read(length)

    def get(self, layout, offset):
        return struct.unpack(layout, self.read(offset, struct.calcsize(layout)))

    def words(self, offset, count):
        data = self.read(offset, count * 8)
        return struct.unpack(f">{len(data) // 8}Q", data[: len(data) // 8 * 8])

    def add(self, offset, length):
        end = min(offset + length, self.file_size)
        if offset < end:
            self.used.append((offset, end))

    def all(self):
        self.header()
        self.refcounts()
        self.disk(self.l1_at, self.l1_size, [(0, self.size)])
        self.snapshots()
        for offset, length in self.streams.items():
            packed = self.read(offset, length)
            self.add(offset, self.consumed(packed, self.cluster) or len(packed))
        return merged(self.used)

    def header(self):
        area_end = self.backing_at or self.cluster
        at = self.header_length
        self.add(self.backing_at, self.backing_length)
        while at + 8 <= area_end:
            kind, length = self.get(">II", at)
            at += 8
            if kind == 0:
                break
            if kind == BITMAPS and self.autoclear & BITMAPS_AUTOCLEAR:
                self.bitmaps(at)
            elif kind == LUKS:
                self.add(*self.get(">QQ", at))
            at += pad8(length)
        self.add(0, at)

    def bitmaps(self, at):
        count, _, size, directory = self.get(">IIQQ", at)
        self.add(directory, size)
        at = directory
        for _ in range(count):
            table, entries, _, _, _, name, extra = self.get(">QIIBBHI", at)
            self.add(table, entries * 8)
            for word in self.words(table, entries):
                if word & OFFSET_MASK:
                    self.add(word & OFFSET_MASK, self.cluster)
            at += pad8(24 + name + extra)

    def refcounts(self):
        length = self.refcounts_clusters << self.cluster_bits
        self.add(self.refcounts_at, length)
        for word in self.words(self.refcounts_at, length // 8):
            if word:
                self.add(word, self.cluster)

    def snapshots(self):
        at = self.snapshots_at
        for _ in range(self.snapshot_count):
            at = pad8(at)
            l1_at, l1_size, id_length, name, memory_32, extra = self.get(">QIHH16xII", at)
            values = struct.unpack(">QQ", self.read(at + 40, 16)) if extra >= 16 else (None, None)
            memory = values[0] if extra >= 8 and values[0] is not None else memory_32
            size = self.size if values[1] is None else values[1]
            reach = self.l2_entries * self.cluster
            start = -(-size // reach) * reach
            self.disk(l1_at, l1_size, [(0, size), (start, start + memory)])
            at += 40 + extra + id_length + name
        self.add(self.snapshots_at, at - self.snapshots_at)

    def disk(self, l1_at, l1_size, shown):
        """`shown`: the ranges of guest bytes that can be read."""
        self.add(l1_at, l1_size * 8)
        for index, word in enumerate(self.words(l1_at, l1_size)):
            if word & OFFSET_MASK:
                self.add(word & OFFSET_MASK, self.cluster)
                self.l2(word & OFFSET_MASK, index * self.l2_entries, shown)

    def l2(self, offset, first, shown):
        width = 2 if self.extended else 1
        words = self.words(offset, self.l2_entries * width)
        for index in range(0, len(words), width):
            bitmap = words[index + 1] if self.extended else None
            guest = (first + index // width) * self.cluster
            for start, end in shown:
                if words[index] and start <= guest < end:
                    self.entry(words[index], bitmap, min(self.cluster, end - guest))

    def entry(self, word, bitmap, length):
        if word & COMPRESSED:
            shift = 62 - (self.cluster_bits - 8)
            at = word & (1 << shift) - 1
            sectors = ((word & COMPRESSED - 1) >> shift) + 1
            self.streams[at] = max(self.streams.get(at, 0), sectors * 512 - at % 512)
            return
        at, piece = word & OFFSET_MASK, self.cluster // 32
        if self.data_file or at == 0:
            return
        if self.crypt:
            length = -(-length // 512) * 512
        if bitmap is None:
            self.add(at, 0 if word & ZERO else length)
            return
        for bit in range(32):
            if bitmap >> bit & 1 and bit * piece < length:
                self.add(at + bit * piece, min(piece, length - bit * piece))


def consumed_by_deflate(packed, size):
    unpacker = zlib.decompressobj(-15)
    try:
        out = unpacker.decompress(packed)
    except zlib.error:
        return 0
    return len(packed) - len(unpacker.unused_data) if len(out) == size else 0


def consumed_by_zstd(packed, size):
    library, done, at = zstd_library(), 0, 0
    out = ctypes.create_string_buffer(size)
    library.ZSTD_findFrameCompressedSize.restype = ctypes.c_size_t
    library.ZSTD_decompress.restype = ctypes.c_size_t
    while done < size:
        rest = packed[at:]
        frame = library.ZSTD_findFrameCompressedSize(rest, ctypes.c_size_t(len(rest)))
        if library.ZSTD_isError(ctypes.c_size_t(frame)):
            return 0
        count = library.ZSTD_decompress(
            out, ctypes.c_size_t(size - done), rest, ctypes.c_size_t(frame)
        )
        if library.ZSTD_isError(ctypes.c_size_t(count)):
            return 0
        done, at = done + count, at + frame
    return at


def merged(ranges):
    found = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([start, end])
    return found


def references(path):
    """[[start, end]] of the bytes that something refers to."""
    return Walk(path).all()


def check(path, view, as_stored=True):
    """Raise AssertionError unless the view is the file's residue. Not as_stored: what is residue is
    decrypted, so that only the zeros are compared. Returns (referenced, residue) in bytes."""
    used, size = references(path), Path(path).stat().st_size
    assert view.size == size
    position = 0
    with open(path, "rb") as file:
        for at in range(0, size, CHUNK):
            length = min(CHUNK, size - at)
            stored = bytearray(file.read(length))
            given = view.read(at, length)
            while position < len(used) and used[position][0] < at + length:
                start, end = max(used[position][0], at), min(used[position][1], at + length)
                assert not any(given[start - at : end - at]), f"used: bytes {start} to {end}"
                stored[start - at : end - at] = bytes(end - start)
                if used[position][1] > at + length:
                    break
                position += 1
            if as_stored and given != stored:
                bad = next(i for i, (a, b) in enumerate(zip(given, stored)) if a != b)
                raise AssertionError(f"residue at {at + bad}: {given[bad]}, stored {stored[bad]}")
    taken = sum(end - start for start, end in used)
    return taken, size - taken
