# SPDX-License-Identifier: MIT
"""Writes qcow2 images byte by byte, without QEMU and without our C code, and knows what a reader
must get from them.

    image = Image(size=1 << 20, cluster_bits=16)
    image.disk.normal(0, pattern(1, 65536))     # guest cluster 0
    image.disk.zero(3)
    image.snapshot(b"1", b"before")
    image.write(path)
    image.disk.model.read(0, 512)               # the bytes expected

An ordinary image has correct refcounts. Anything can be forced: L1 and L2 words, where data lie,
sector counts, header fields (poke the bytes that build() returns).
"""
import ctypes
import os
import random
import struct
import zlib
from collections import Counter, namedtuple
from functools import cache
from pathlib import Path

MAGIC = 0x514649FB
BACKING_FORMAT, FEATURE_NAMES, DATA_FILE = 0xE2792ACA, 0x6803F857, 0x44415441
COPIED, COMPRESSED, ZERO = 1 << 63, 1 << 62, 1
OFFSET_MASK = 0x00FFFFFFFFFFFE00
INCOMPATIBLE_DATA_FILE, INCOMPATIBLE_COMPRESSION, INCOMPATIBLE_EXTENDED_L2 = 4, 8, 16
AUTOCLEAR_DATA_FILE_RAW = 2
SUBCLUSTERS = 32


def pattern(seed, length):
    """Bytes that don't compress."""
    return random.Random(seed).randbytes(length)


def squeezable(seed, length):
    """Bytes that compress to a little over a half."""
    return random.Random(seed).randbytes(length // 2 + 1).hex().encode()[:length]


def poke(data, offset, layout, value):
    """Overwrite one big-endian field; `layout` is a struct code such as "Q"."""
    struct.pack_into(">" + layout, data, offset, value)
    return data


def divide_up(value, by):
    return -(-value // by)


# ---- Compressors -----------------------------------------------------------------


def deflate(data, window_bits=12, level=6, strategy=zlib.Z_DEFAULT_STRATEGY):
    """A raw deflate stream. QEMU reads windows of up to 12 bits."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -window_bits, 9, strategy)
    return packer.compress(data) + packer.flush()


@cache
def zstd_library():
    library = ctypes.CDLL("libzstd.so.1")
    for name in (
        "ZSTD_createCCtx",
        "ZSTD_compressBound",
        "ZSTD_CCtx_setParameter",
        "ZSTD_compress2",
    ):
        getattr(library, name).restype = (
            ctypes.c_void_p if name == "ZSTD_createCCtx" else ctypes.c_size_t
        )
    return library


ZSTD_LEVEL, ZSTD_WINDOW_LOG, ZSTD_CONTENT_SIZE, ZSTD_CHECKSUM = 100, 101, 200, 201


def zstd(data, **parameters):
    """One zstd frame. Parameters: level, window_log, content_size (0: none), checksum (1: with
    one)."""
    library = zstd_library()
    context = ctypes.c_void_p(library.ZSTD_createCCtx())
    numbers = {
        "level": ZSTD_LEVEL,
        "window_log": ZSTD_WINDOW_LOG,
        "content_size": ZSTD_CONTENT_SIZE,
        "checksum": ZSTD_CHECKSUM,
    }
    for name, value in parameters.items():
        status = library.ZSTD_CCtx_setParameter(context, numbers[name], value)
        assert not library.ZSTD_isError(ctypes.c_size_t(status)), name
    room = library.ZSTD_compressBound(ctypes.c_size_t(len(data)))
    out = ctypes.create_string_buffer(room)
    length = library.ZSTD_compress2(
        context, out, ctypes.c_size_t(room), data, ctypes.c_size_t(len(data))
    )
    assert length <= room, "ZSTD_compress2 failed"
    library.ZSTD_freeCCtx(context)
    return out.raw[:length]


def zstd_skippable(data):
    return struct.pack("<II", 0x184D2A53, len(data)) + data


def zstd_huge_window(data, window_byte=0xF8):
    """A frame of raw blocks without content size whose window descriptor asks for 2^(10 +
    window_byte/8) bytes."""
    blocks = [data[at : at + 65536] for at in range(0, len(data), 65536)]
    out = struct.pack("<IBB", 0xFD2FB528, 0, window_byte)
    for index, block in enumerate(blocks):
        out += struct.pack("<I", len(block) << 3 | (index == len(blocks) - 1))[:3] + block
    return out


# ---- What a reader must get ------------------------------------------------------


class Unreadable(Exception):
    """The model of a range that cannot be read."""


Piece = namedtuple("Piece", "kind data host_offset host_bytes", defaults=(None, None, 0))
Place = namedtuple("Place", "kind layer host_offset host_bytes")
NOWHERE = Place("unallocated", None, None, 0)
PAST_THE_END = Place("zero", 0, None, 0)  # a short backing file hides what is below it, as in QEMU


class RawModel:
    """A raw backing file."""

    granule = 512

    def __init__(self, data):
        self.data, self.size = bytes(data), len(data)

    def read(self, offset, length):
        return self.data[offset : offset + length]

    def place(self, offset):
        return Place("normal", 0, offset, 0)


class Model:
    """A guest disk as pieces of `granule` bytes; missing ones come from the backing model."""

    def __init__(self, size, granule, backing=None):
        self.size, self.granule, self.backing = size, granule, backing
        self.pieces = {}

    def copy(self, size=None):
        twin = Model(self.size if size is None else size, self.granule, self.backing)
        twin.pieces = dict(self.pieces)
        return twin

    def read(self, offset, length):
        assert offset + length <= self.size
        out = bytearray()
        while len(out) < length:
            index, skip = divmod(offset + len(out), self.granule)
            out += self.piece_bytes(index, skip, min(self.granule - skip, length - len(out)))
        return bytes(out)

    def piece_bytes(self, index, skip, length):
        piece = self.pieces.get(index)
        if piece is None:
            start = index * self.granule + skip
            left = max(0, min(length, self.backing.size - start)) if self.backing else 0
            return (self.backing.read(start, left) if left else b"").ljust(length, b"\0")
        if piece.kind == "invalid":
            raise Unreadable(index * self.granule)
        return bytes(length) if piece.data is None else piece.data[skip : skip + length]

    def place(self, offset):
        """What map() must say of one byte; layer and host offset are None where they mean
        nothing."""
        index, skip = divmod(offset, self.granule)
        piece = self.pieces.get(index)
        if piece is None:
            if self.backing is None:
                return NOWHERE
            below = self.backing.place(offset) if offset < self.backing.size else PAST_THE_END
            return below if below.layer is None else below._replace(layer=below.layer + 1)
        in_place = piece.kind in ("normal", "zero allocated")
        return Place(
            piece.kind,
            0,
            piece.host_offset + skip if in_place else piece.host_offset,
            piece.host_bytes,
        )

    @property
    def finest(self):
        """The smallest granule in the chain."""
        return min(
            self.granule,
            getattr(self.backing, "finest", getattr(self.backing, "granule", self.granule)),
        )


# ---- Disks -----------------------------------------------------------------------


class Disk:
    """One guest disk's L1 and L2 entries: the active disk, or a snapshot's."""

    def __init__(self, image, size):
        self.image = image
        self.entries = {}  # guest cluster -> (descriptor, subcluster bitmap)
        self.forced = set()  # guest clusters whose descriptor is written as it is
        self.placed = set()  # guest clusters with a host cluster
        self.forced_l1 = {}  # L1 index -> word
        self.l1_entries = None  # forces the number of L1 entries
        self.l1_offset = None
        self.l2_offsets = {}
        self.model = Model(size, image.granule, image.backing_model)

    @property
    def size(self):
        return self.model.size

    def copy(self, size=None):
        twin = Disk(self.image, self.size)
        twin.entries, twin.forced_l1 = dict(self.entries), dict(self.forced_l1)
        twin.forced, twin.placed = set(self.forced), set(self.placed)
        twin.model = self.model.copy(size)
        return twin

    def resize(self, size):
        """Change the size; what lies past a smaller one is forgotten."""
        self.model = self.model.copy(size)
        keep = divide_up(size, self.image.cluster_size)
        for cluster in [cluster for cluster in self.entries if cluster >= keep]:
            self.clear(cluster)

    def clear(self, cluster):
        """Unallocated, as at first."""
        self.set(cluster, 0, kind=None)
        del self.entries[cluster]

    def set(
        self,
        cluster,
        descriptor,
        bitmap=0,
        kind="invalid",
        data=None,
        host_offset=None,
        host_bytes=0,
    ):
        """Set an L2 entry, and what it means for the whole cluster (kind None: the backing file's
        content)."""
        self.entries[cluster] = (descriptor, bitmap)
        self.forced.discard(cluster)
        self.placed.discard(cluster)
        granule = self.image.granule
        per_cluster = self.image.cluster_size // granule
        for index in range(per_cluster):
            key = cluster * per_cluster + index
            self.model.pieces.pop(key, None)
            if kind is None:
                continue
            piece_data = (
                None if data is None else bytes(data[index * granule : (index + 1) * granule])
            )
            place = host_offset
            if place is not None and kind in ("normal", "zero allocated"):
                place += index * granule
            self.model.pieces[key] = Piece(kind, piece_data, place, host_bytes)

    def force(self, cluster, descriptor, bitmap=0, **meaning):
        """set(), and the descriptor is written as it is: build() does not touch its bit 63."""
        self.set(cluster, descriptor, bitmap, **meaning)
        self.forced.add(cluster)

    def force_l1(self, index, word):
        self.forced_l1[index] = word

    def host_cluster(self, cluster, data, at):
        """Place a cluster's bytes: at a given host offset, in the data file, or anywhere. Returns
        the host offset."""
        image = self.image
        data = bytes(data).ljust(image.cluster_size, b"\0")
        if image.data_file is not None:
            at = cluster * image.cluster_size if at is None else at
            image.put_data_file(at, data)
            return at
        if at is None:
            return image.allocate(data)
        image.put(at, data)
        return at

    def normal(self, cluster, data, at=None):
        assert len(data) <= self.image.cluster_size
        data = bytes(data).ljust(self.image.cluster_size, b"\0")
        host = self.host_cluster(cluster, data, at)
        bitmap = 0xFFFFFFFF if self.image.extended_l2 else 0
        self.set(cluster, host, bitmap, "normal", data, host)
        self.placed.add(cluster)
        return host

    def zero(self, cluster):
        if self.image.extended_l2:
            self.set(cluster, 0, 0xFFFFFFFF << 32, "zero")
        else:
            self.set(cluster, ZERO, kind="zero")

    def zero_allocated(self, cluster, stale, at=None):
        """Reads zeros; `stale` stays in the file."""
        host = self.host_cluster(cluster, stale, at)
        if self.image.extended_l2:
            self.set(cluster, host, 0xFFFFFFFF << 32, "zero allocated", host_offset=host)
        else:
            self.set(cluster, host | ZERO, kind="zero allocated", host_offset=host)
        self.placed.add(cluster)
        return host

    def compressed(self, cluster, data, stream=None, sectors=None, at=None, bitmap=0):
        """`stream`: the bytes written, else `data` compressed as the image says. `sectors`: the
        descriptor's field, else as few as hold the stream. Returns the stream's host offset."""
        image = self.image
        assert stream is not None or len(data) == image.cluster_size
        stream = image.compress(data) if stream is None else stream
        host = image.allocate_stream(stream) if at is None else at
        if at is not None:
            image.put(at, stream)
        if sectors is None:
            sectors = (host + len(stream) - 1) // 512 - host // 512
        descriptor = COMPRESSED | sectors << image.compressed_shift | host
        assert descriptor < COPIED, "the stream does not fit into a descriptor"
        host_bytes = (sectors + 1) * 512 - host % 512
        self.set(cluster, descriptor, bitmap, "compressed", data, host, host_bytes)
        return host

    def subclusters(self, cluster, kinds, data, host=True, at=None):
        """`kinds` has 32 letters: D data, Z zero, '.' neither. `host`: whether there is a host
        cluster. `data` is a whole cluster, all of which is written."""
        assert len(kinds) == SUBCLUSTERS and self.image.extended_l2
        assert host or "D" not in kinds
        place = self.host_cluster(cluster, data, at) if host else 0
        bitmap = sum(1 << bit for bit, kind in enumerate(kinds) if kind == "D")
        bitmap |= sum(1 << bit + 32 for bit, kind in enumerate(kinds) if kind == "Z")
        self.set(cluster, place, bitmap, kind=None)
        if host:
            self.placed.add(cluster)
        size = self.image.granule
        for bit, kind in enumerate(kinds):
            host_offset = place + bit * size if host else None
            if kind == "D":
                piece = Piece("normal", bytes(data[bit * size : (bit + 1) * size]), host_offset)
            elif kind == "Z":
                piece = Piece("zero allocated" if host else "zero", None, host_offset)
            else:
                continue
            self.model.pieces[cluster * SUBCLUSTERS + bit] = piece
        return place

    # -- Writing --

    def needed_l1(self):
        return divide_up(self.size, self.image.cluster_size * self.image.l2_entries)

    def place_tables(self):
        """Choose the offsets of the L1 and L2 tables."""
        image = self.image
        needed = self.needed_l1()
        self.l1_count = needed if self.l1_entries is None else self.l1_entries
        self.l1_offset = image.allocate_metadata(bytes(max(1, self.l1_count) * 8))
        for index in sorted({cluster // image.l2_entries for cluster in self.entries}):
            self.l2_offsets[index] = image.allocate_metadata(bytes(image.cluster_size))

    def entry_offset(self, cluster):
        """Where the L2 entry of a guest cluster is, after build()."""
        index, slot = divmod(cluster, self.image.l2_entries)
        return self.l2_offsets[index] + slot * self.image.l2_entry_bytes

    def count(self, references):
        """Count the references to host clusters that this disk makes."""
        image = self.image
        shift = image.cluster_bits
        for at in range(self.l1_offset, self.l1_offset + self.l1_count * 8, image.cluster_size):
            references[at >> shift] += 1
        references.update(offset >> shift for offset in self.l2_offsets.values())
        for descriptor, _ in self.entries.values():
            references.update(image.clusters_of(descriptor))

    def write_tables(self, references):
        image = self.image
        for index, offset in self.l2_offsets.items():
            if index < self.l1_count:
                image.put(self.l1_offset + index * 8, struct.pack(">Q", offset | COPIED))
        for index, word in self.forced_l1.items():
            image.put(self.l1_offset + index * 8, struct.pack(">Q", word))
        for cluster, (descriptor, bitmap) in self.entries.items():
            if cluster not in self.forced and self.is_copied(cluster, descriptor, references):
                descriptor |= COPIED
            entry = struct.pack(">QQ", descriptor, bitmap)[: image.l2_entry_bytes]
            image.put(self.entry_offset(cluster), entry)

    def is_copied(self, cluster, descriptor, references):
        if descriptor & COMPRESSED:
            return False
        if self.image.data_file is not None:
            return cluster in self.placed
        offset = descriptor & OFFSET_MASK
        return offset != 0 and references[offset >> self.image.cluster_bits] == 1


class Image:
    """A qcow2 image in the making. `disk` is the active disk."""

    def __init__(
        self,
        size,
        cluster_bits=16,
        version=3,
        extended_l2=False,
        compression=0,
        header_length=None,
        header_tail=b"",
        incompatible=0,
        compatible=0,
        autoclear=0,
        extensions=(),
        backing=None,
        backing_format=None,
        backing_model=None,
        data_file=None,
        data_file_raw=False,
        refcount_order=4,
        crypt_method=0,
        metadata_clusters=0,
    ):
        self.cluster_bits, self.cluster_size = cluster_bits, 1 << cluster_bits
        self.version, self.extended_l2 = version, extended_l2
        self.compression = compression  # 0 deflate, 1 zstd
        self.header_length = header_length or (72 if version == 2 else 112)
        self.header_tail = header_tail  # what follows the compression type in the header
        self.incompatible = (
            incompatible
            | (compression and INCOMPATIBLE_COMPRESSION)
            | (extended_l2 and INCOMPATIBLE_EXTENDED_L2)
            | (data_file is not None and INCOMPATIBLE_DATA_FILE)
        )
        self.compatible, self.autoclear = compatible, autoclear | (
            data_file_raw and AUTOCLEAR_DATA_FILE_RAW
        )
        # The name as bytes; what it holds.
        self.backing, self.backing_model = backing, backing_model
        self.data_file = data_file  # the name as bytes, b"": no name in the image
        self.extensions = list(extensions)
        if backing_format is not None:
            self.extensions.insert(0, (BACKING_FORMAT, backing_format))
        if data_file:
            self.extensions.append((DATA_FILE, data_file))
        self.refcount_order, self.crypt_method = refcount_order, crypt_method
        self.l2_entry_bytes = 16 if extended_l2 else 8
        self.l2_entries = self.cluster_size // self.l2_entry_bytes
        self.granule = self.cluster_size // SUBCLUSTERS if extended_l2 else self.cluster_size
        self.compressed_shift = 62 - (cluster_bits - 8)
        self.host = bytearray(self.cluster_size * (1 + metadata_clusters))
        # Free for metadata.
        self.reserved = self.cluster_size, self.cluster_size * (1 + metadata_clusters)
        self.stream_end = 0  # where the last compressed stream ends
        self.far = {}  # host offset -> bytes, beyond what is worth holding in memory
        self.external = bytearray()  # the data file
        self.leaked = []  # host clusters with a refcount, but without a reference
        self.snapshots = []
        self.disk = Disk(self, size)

    # -- Host space --

    def allocate(self, data):
        """Append bytes at a new cluster; returns the host offset."""
        at = len(self.host)
        self.host += bytes(data).ljust(
            divide_up(len(data), self.cluster_size) * self.cluster_size, b"\0"
        )
        return at

    def allocate_metadata(self, data):
        """The same, in the clusters reserved after the header, while there are any."""
        start, end = self.reserved
        length = divide_up(len(data), self.cluster_size) * self.cluster_size
        if length > end - start:
            return self.allocate(data)
        self.put(start, data)
        self.reserved = start + length, end
        return start

    def allocate_stream(self, stream):
        """Put a compressed stream right after the one before it, as QEMU does; it may cross
        clusters."""
        if self.stream_end % self.cluster_size == 0 or divide_up(
            self.stream_end, self.cluster_size
        ) * self.cluster_size != len(self.host):
            self.stream_end = len(self.host)
        at = self.stream_end
        self.stream_end += len(stream)
        missing = divide_up(self.stream_end, self.cluster_size) * self.cluster_size - len(self.host)
        self.host += bytes(max(0, missing))
        self.put(at, stream)
        return at

    def put(self, at, data):
        if at > 1 << 28:
            self.far[at] = bytes(data)
            return
        if at + len(data) > len(self.host):
            self.host += bytes(at + len(data) - len(self.host))
        self.host[at : at + len(data)] = data

    def put_data_file(self, at, data):
        self.external += bytes(max(0, at + len(data) - len(self.external)))
        self.external[at : at + len(data)] = data

    def junk(self, data, leak=False):
        """Bytes that nothing refers to: with refcount 0 (residue), or 1 (a leak)."""
        at = self.allocate(data)
        if leak:
            self.leaked += range(at >> self.cluster_bits, len(self.host) >> self.cluster_bits)
        return at

    def compress(self, data):
        return zstd(data) if self.compression else deflate(data)

    def clusters_of(self, descriptor):
        """The host clusters that an L2 descriptor refers to; none if it is not a sane one."""
        if descriptor & COMPRESSED:
            start = descriptor & (1 << self.compressed_shift) - 1
            sectors = ((descriptor & COMPRESSED - 1) >> self.compressed_shift) + 1
            end = start // 512 * 512 + sectors * 512
            return range(start >> self.cluster_bits, divide_up(end, self.cluster_size))
        start = descriptor & OFFSET_MASK
        if (
            start == 0
            or start % self.cluster_size
            or start >= len(self.host)
            or self.data_file is not None
        ):
            return ()
        return (start >> self.cluster_bits,)

    # -- Snapshots --

    def snapshot(
        self,
        id=b"1",
        name=b"snapshot",
        disk=None,
        extra=None,
        seconds=0,
        nanoseconds=0,
        clock=0,
        vm_state_size=0,
        vm_state_size_32=0,
    ):
        """Take a snapshot of the active disk, or of `disk`. `extra` overrides the extra data (VM
        state size, disk size)."""
        disk = self.disk.copy() if disk is None else disk
        extra = struct.pack(">QQ", vm_state_size, disk.size) if extra is None else extra
        fixed = struct.pack(
            ">HHIIQII",
            len(id),
            len(name),
            seconds,
            nanoseconds,
            clock,
            vm_state_size_32,
            len(extra),
        )
        self.snapshots.append((disk, fixed, extra + id + name))
        return disk

    def snapshot_table(self):
        table = b""
        self.snapshot_offsets = []  # within the table
        for disk, fixed, texts in self.snapshots:
            self.snapshot_offsets.append(len(table))
            entry = struct.pack(">QI", disk.l1_offset, disk.l1_count) + fixed + texts
            table += entry.ljust(divide_up(len(entry), 8) * 8, b"\0")
        return table

    # -- Refcounts --

    def place_refcounts(self):
        """Reserve a refcount table and blocks that cover everything, themselves too."""
        per_block = self.cluster_size * 8 >> self.refcount_order
        used, blocks, table = len(self.host) >> self.cluster_bits, 0, 1
        while blocks * per_block < used + blocks + table:
            blocks += 1
            table = divide_up(blocks * 8, self.cluster_size)
        self.refcount_table = self.allocate_metadata(bytes(table * self.cluster_size))
        self.refcount_table_clusters = table
        self.refcount_blocks = [
            self.allocate_metadata(bytes(self.cluster_size)) for _ in range(blocks)
        ]

    def write_refcounts(self, references):
        width = 1 << self.refcount_order
        per_block = self.cluster_size * 8 // width
        for index, block in enumerate(self.refcount_blocks):
            self.put(self.refcount_table + index * 8, struct.pack(">Q", block))
        for cluster, count in references.items():
            index, slot = divmod(cluster, per_block)
            if index >= len(self.refcount_blocks):
                continue  # a forced entry that refers to nothing real
            assert count < 1 << width, "the refcounts are too narrow"
            at = self.refcount_blocks[index] + slot * width // 8
            if width < 8:  # several counts in a byte, the first one lowest
                self.host[at] |= count << slot * width % 8
            else:
                self.put(at, count.to_bytes(width // 8, "big"))

    def count_references(self):
        references = Counter({0: 1})
        disks = [self.disk] + [disk for disk, _, _ in self.snapshots]
        for disk in disks:
            disk.count(references)
        own = [(self.refcount_table, self.refcount_table_clusters * self.cluster_size)]
        own += [(block, 1) for block in self.refcount_blocks]
        own += [(self.snapshots_offset, self.snapshots_length)] if self.snapshots else []
        for start, length in own:
            references.update(
                range(start >> self.cluster_bits, divide_up(start + length, self.cluster_size))
            )
        references.update(self.leaked)
        return references

    # -- The whole --

    def extension_bytes(self):
        out = b""
        for kind, data in self.extensions:
            out += struct.pack(">II", kind, len(data)) + data.ljust(
                divide_up(len(data), 8) * 8, b"\0"
            )
        return out

    def write_header(self):
        extensions = self.extension_bytes()
        name_at = self.header_length + len(extensions) + 8
        if self.backing is not None and name_at + len(self.backing) > self.cluster_size:
            name_at -= 8  # the name's offset ends the list of extensions as well
        header = struct.pack(
            ">IIQIIQIIQQIIQ",
            MAGIC,
            self.version,
            name_at if self.backing is not None else 0,
            len(self.backing or b""),
            self.cluster_bits,
            self.disk.size,
            self.crypt_method,
            self.disk.l1_count,
            self.disk.l1_offset,
            self.refcount_table,
            self.refcount_table_clusters,
            len(self.snapshots),
            self.snapshots_offset,
        )
        if self.version >= 3:
            header += struct.pack(
                ">QQQII",
                self.incompatible,
                self.compatible,
                self.autoclear,
                self.refcount_order,
                self.header_length,
            )
            header += (bytes([self.compression]) + self.header_tail).ljust(
                self.header_length - 104, b"\0"
            )
            header = header[: self.header_length]
        header += extensions
        assert len(header) <= self.cluster_size
        self.put(0, header)
        if self.backing is not None:
            assert name_at + len(self.backing) <= self.cluster_size
            self.put(name_at, self.backing)

    def build(self):
        """Lay out the metadata; returns the image's bytes. Once per image."""
        disks = [self.disk] + [disk for disk, _, _ in self.snapshots]
        for disk in disks:
            disk.place_tables()
        table = self.snapshot_table()
        self.snapshots_length = len(table)
        self.snapshots_offset = self.allocate_metadata(table) if table else 0
        self.place_refcounts()
        references = self.count_references()
        for disk in disks:
            disk.write_tables(references)
        self.write_refcounts(references)
        self.write_header()
        return bytearray(self.host)

    def write(self, path, data=None):
        """build() (or `data`, its changed result) into a file, and the data file beside it. Returns
        the path."""
        path = Path(path)
        data = self.build() if data is None else data
        path.write_bytes(data)
        if self.data_file:
            (path.parent / os.fsdecode(self.data_file)).write_bytes(self.external)
        if self.far:
            with open(path, "r+b") as file:
                for at, piece in self.far.items():
                    file.seek(at)
                    file.write(piece)
        return path
