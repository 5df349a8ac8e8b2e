# SPDX-License-Identifier: MIT
"""libqcow2core through ctypes: everything that qcow2core.h declares, as Python objects.

Image and View are context managers; a failure raises QcowError. Calls release the GIL, so threads
run at once.
"""
import ctypes
import errno
import os
from collections import namedtuple
from ctypes import byref, c_char_p, c_size_t, c_uint64, c_void_p
from functools import cache
from pathlib import Path

from qcow2core.declarations import (
    CLOSE_CALLBACK,
    DAMAGE_REPORT,
    FINDING_KINDS,
    FINDING_REPORT,
    LABELS,
    LABELS_MAX,
    RESIDUE_KINDS,
    RESIDUE_REPORT,
    RESIDUE_REPORT_STREAM,
    RESIDUE_WHERES,
    READ_CALLBACK,
    DAMAGE_SENTENCE,
    CLUSTER_REPORT,
    CheckOptions,
    CheckResult,
    EncryptionInfo,
    Error,
    OpenOptions,
    Passphrase,
    RawExtent,
    RawLabelled,
    RawLayer,
    RawRange,
    ResidueOptions,
    ResidueResult,
    Storage,
    encode,
    encode_all,
    load,
)

ACTIVE = c_size_t(-1).value
NO_OFFSET = c_uint64(-1).value
BY_ID_OR_NAME, BY_ID, BY_NAME = range(3)
INCOMPATIBLE, COMPATIBLE, AUTOCLEAR = range(3)
NO_CHAIN, NO_THREADS = 1, 2
VIEW_VM_STATE, VIEW_UNDER_ZEROS, VIEW_ONLY_KEPT, VIEW_BY_NEIGHBOURS = 1, 2, 8, 16
DELETED_BY_NAME, DELETED_BY_ID, DELETED_BY_L1 = range(3)
RESIDUE_L1 = ("there", "gone", "reused", "unknown")
ARGUMENT = -10
KINDS = ("unallocated", "zero", "zero allocated", "normal", "compressed", "invalid")
WEIGHTS = ("leak", "corruption", "defect", "unreadable", "doubt")

Extent = namedtuple("Extent", "kind layer guest_offset length host_offset host_bytes")
Labelled = namedtuple("Labelled", "label guest_offset length host_offset")
Extension = namedtuple("Extension", "type length host_offset data")


@cache
def library():
    """The loaded library, with every function's prototype set."""
    return load(str(Path(os.environ["TSK_QCOW2_BUILD"], "core/.libs/libqcow2core.so")))


# What an error's `help` says would help, and by which options (bit 0 first): the names that image
# names have for them.
HELP = (
    "",
    "referrer",
    "name it:",
    "format=raw",
    "end the chain:",
    "passphrase:",
    "leave out:",
    "id= name=",
    "list",
    "another reader",
    "offset=",
    "header-length=104",
    "unpack",
    "rebuild",
    "deleted-l1=",
    "list deleted",
    "@abandoned",
)
HELP_OPTIONS = ("backing=", "data-file=", "search=", "key-file=", "header-length=")


def help_of(error):
    options = [name for bit, name in enumerate(HELP_OPTIONS) if error.help_options >> bit & 1]
    formats = [f"format={error.help_format.decode()}"] if error.help_format else []
    return " ".join((HELP[error.help], *options, *formats))


class QcowError(Exception):
    """A failed call. `code` is the status's name; the offsets are None where they do not apply;
    `with_help` is the message with what would help."""

    def __init__(self, error):
        self.code = library().qcow2_status_name(error.code).decode()
        self.os_errno = error.os_errno
        self.guest_offset = offset_or_none(error.guest_offset)
        self.guest_length = error.guest_length
        self.host_offset = offset_or_none(error.host_offset)
        self.table_offset = offset_or_none(error.table_offset)
        self.message = error.message.decode()  # always UTF-8
        self.with_help = f"{self.message} ({help_of(error)})"
        super().__init__(
            f"{self.code}: {self.message} (guest {self.guest_offset}, host {self.host_offset})"
        )


def offset_or_none(offset):
    return None if offset == NO_OFFSET else offset


def call(name, *arguments):
    """Call a function whose last parameter is the error; raise it."""
    error = Error()
    code = getattr(library(), name)(*arguments, byref(error))
    if code != 0:
        assert code == error.code, f"{name} returned {code}, but filled in {error.code}"
        raise QcowError(error)
    assert bytes(error) == bytes(Error()), f"{name} touched the error though it succeeded"


def probe(path):
    return library().qcow2_image_probe(encode(path))


def text_escape(text, out_size=1024):
    out = ctypes.create_string_buffer(b"\xee" * (out_size + 8), out_size + 8)
    library().qcow2_text_escape(text, len(text), out, out_size)
    assert out.raw[out_size:] == b"\xee" * 8, "wrote past the end of its buffer"
    return out.value


# ---- Opening ---------------------------------------------------------------------


def open_options(
    backing=(),
    search=(),
    data_file=None,
    no_chain=False,
    cache_bytes=0,
    passphrases=(),
    formats=None,
    data_format=None,
    no_threads=False,
    offset=0,
    header_length=0,
):
    return OpenOptions(
        struct_size=ctypes.sizeof(OpenOptions),
        flags=(NO_CHAIN if no_chain else 0) | (NO_THREADS if no_threads else 0),
        backing_paths=encode_all(backing),
        backing_count=len(backing),
        search_directories=encode_all(search),
        search_count=len(search),
        data_file=None if data_file is None else encode(data_file),
        cache_bytes=cache_bytes,
        passphrase_count=len(passphrases),
        passphrases=(Passphrase * len(passphrases))(*((text, len(text)) for text in passphrases)),
        backing_formats=None if formats is None else (c_char_p * len(formats))(*formats),
        data_format=data_format,
        offset=offset,
        header_length=header_length,
    )


class PythonStorage:
    """A struct qcow2_storage over bytes, or over `source(offset, length)`, which returns bytes or
    an errno."""

    def __init__(self, source, size=None):
        self.source = (
            source
            if callable(source)
            else lambda offset, length: bytes(source[offset : offset + length])
        )
        self.size = len(source) if size is None else size
        self.closed = 0
        self.outside = []  # reads that left the storage: the library must never ask for them
        self.struct = Storage(None, self.size, READ_CALLBACK(self.read), CLOSE_CALLBACK(self.close))

    def read(self, _context, offset, buffer, length):
        if length == 0 or offset + length > self.size:
            self.outside.append((offset, length))
            return errno.EINVAL
        answer = self.source(offset, length)
        if isinstance(answer, int):
            return answer
        ctypes.memmove(buffer, answer, length)
        return 0

    def close(self, _context):
        self.closed += 1


class Closing:
    """Closed when its `with` ends."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Image(Closing):
    """An opened image. Options: backing=[paths], search=[directories], data_file, no_chain,
    cache_bytes, passphrases=[bytes], formats=[bytes or None] of the backing files,
    data_format=bytes, no_threads.
    """

    def __init__(self, path, **options):
        self.open("qcow2_image_open", encode(path), options)

    @classmethod
    def from_storage(cls, source, size=None, **options):
        """Open from bytes, from a callable (see PythonStorage), or from a PythonStorage."""
        self = cls.__new__(cls)
        self.storage = source if isinstance(source, PythonStorage) else PythonStorage(source, size)
        self.open("qcow2_image_open_storage", byref(self.storage.struct), options)
        return self

    def open(self, function, source, options):
        self.handle = c_void_p()
        self.views = []
        call(function, source, byref(open_options(**options)), byref(self.handle))

    def close(self):
        while self.views:
            self.views[0].close()
        library().qcow2_image_close(self.handle)
        self.handle = c_void_p()

    def residue(self):
        return View(self, None, "qcow2_view_open_residue")

    def deleted(self, key, by=DELETED_BY_NAME, flags=0):
        """A view of a deleted snapshot."""
        l1_offset = c_uint64()
        call("qcow2_deleted_find", self.handle, encode(key), by, byref(l1_offset))
        return View(self, l1_offset.value, "qcow2_view_open_deleted", flags)

    def abandoned(self, flags=0):
        """A view of the state that was left when a snapshot was applied."""
        return View(self, None, "qcow2_view_open_abandoned", flags)

    def old_entries(self):
        """[(name, ID, l1_offset, what of RESIDUE_L1 is there)] of deleted snapshots."""
        found = []

        def report(_context, item):
            entry = item.contents.snapshot.contents
            name = ctypes.string_at(entry.name, entry.name_length)
            identity = ctypes.string_at(entry.id, entry.id_length)
            found.append((name, identity, entry.l1_offset, RESIDUE_L1[item.contents.l1]))

        call("qcow2_image_deleted", self.handle, RESIDUE_REPORT(report), None)
        return found

    def view(self, snapshot_index=ACTIVE, under_zeros=False, vm_state=False):
        if not under_zeros:
            return View(self, snapshot_index)
        return View(self, snapshot_index, flags=VIEW_UNDER_ZEROS | vm_state * VIEW_VM_STATE)

    def layer_view(self, layer, flags=0):
        return View(self, layer, "qcow2_view_open_layer", flags)

    def vm_state(self, snapshot_index):
        return View(self, snapshot_index, "qcow2_view_open_vm_state")

    @property
    def snapshots(self):
        count = library().qcow2_snapshot_count(self.handle)
        return [
            Snapshot(library().qcow2_snapshot_get(self.handle, index).contents)
            for index in range(count)
        ]

    def find(self, key, by=BY_ID_OR_NAME):
        index = c_size_t()
        call("qcow2_snapshot_find", self.handle, encode(key), by, byref(index))
        return index.value

    @property
    def lost(self):
        """How many snapshots and bitmaps are lost."""
        return library().qcow2_snapshot_lost_count(self.handle), library().qcow2_bitmap_lost_count(
            self.handle
        )

    def check_snapshot(self, index):
        call("qcow2_snapshot_check", self.handle, index)

    def dirty_ranges(self, index):
        """[(guest offset, length)] of a bitmap."""
        found, raw = [], RawRange()
        while True:
            call(
                "qcow2_bitmap_next_dirty",
                self.handle,
                index,
                raw.guest_offset + raw.length,
                byref(raw),
            )
            if raw.length == 0:
                return found
            found.append((raw.guest_offset, raw.length))

    @property
    def bitmaps(self):
        count = library().qcow2_bitmap_count(self.handle)
        return [
            Bitmap(library().qcow2_bitmap_get(self.handle, index).contents)
            for index in range(count)
        ]

    @property
    def layers(self):
        return [self.layer(index) for index in range(library().qcow2_layer_count(self.handle))]

    def layer(self, index):
        raw = RawLayer()
        call("qcow2_layer_get", self.handle, index, byref(raw))
        return Layer(raw)

    def changed(self, index=0):
        """The sentence that says how a file of the chain changed; None: it did not."""
        text = ctypes.create_string_buffer(640)
        found = library().qcow2_layer_changed(self.handle, index, text, len(text))
        return text.value.decode() if found else None

    @property
    def header(self):
        return self.layer(0).header

    def encryption(self, layer=0):
        info = EncryptionInfo()
        call("qcow2_encryption_get", self.handle, layer, byref(info))
        return info

    def extensions(self, layer=0):
        found = []
        while raw := library().qcow2_extension_get(self.handle, layer, len(found)):
            raw = raw.contents
            found.append(
                Extension(raw.type, raw.length, raw.host_offset, bytes_at(raw.data, raw.length))
            )
        return found

    def check(self, report_max=None, layer=None, **options):
        """(CheckResult, [Finding]); of a kind, at most report_max findings. Options: memory_bytes,
        work_bytes, decode."""
        result, found = CheckResult(), []

        def report(_context, finding):
            found.append(Finding(finding.contents))
            return (
                report_max is not None
                and sum(one.kind == found[-1].kind for one in found) >= report_max
            )

        given = CheckOptions(
            struct_size=ctypes.sizeof(CheckOptions), report=FINDING_REPORT(report), **options
        )
        if layer is None:
            call("qcow2_image_check", self.handle, byref(given), byref(result))
        else:
            call("qcow2_layer_check", self.handle, layer, byref(given), byref(result))
        return result, found

    def cluster_runs(self, **options):
        """(CheckResult, [run]): what the clusters of the file are used as."""
        found = []

        def hear(_context, run):
            raw = run.contents
            found.append(type(raw).from_buffer_copy(raw))

        result, _ = self.check(clusters=CLUSTER_REPORT(hear), **options)
        return result, found

    def find_residue(self, **options):
        """(ResidueResult, {where: (bytes, bytes of data)}, {kind: bytes}, [(kind, host offset,
        snapshot, L1's state, bitmap)]). Options: work_bytes; streams, a list that gets (host
        offset, length, cluster) of the first streams_max."""
        result, found, streams = ResidueResult(), [], options.pop("streams", None)
        streams_max = options.pop("streams_max", None)

        def report(_context, raw):
            one = raw.contents
            snapshot = Snapshot(one.snapshot.contents) if one.snapshot else None
            bitmap = Bitmap(one.bitmap.contents).name if one.bitmap else None
            found.append(
                (RESIDUE_KINDS[one.kind], one.host_offset, snapshot, RESIDUE_L1[one.l1], bitmap)
            )

        def report_stream(_context, raw):
            one = raw.contents
            cluster = ctypes.string_at(one.cluster, one.cluster_size)
            streams.append((one.host_offset, one.length, cluster))
            return len(streams) == streams_max

        given = ResidueOptions(
            struct_size=ctypes.sizeof(ResidueOptions), report=RESIDUE_REPORT(report), **options
        )
        if streams is not None:
            given.report_stream = RESIDUE_REPORT_STREAM(report_stream)
        call("qcow2_image_residue", self.handle, byref(given), byref(result))
        pairs = zip(RESIDUE_WHERES, zip(result.where_bytes, result.where_data_bytes))
        kinds = zip(RESIDUE_KINDS, result.kind_bytes)
        return (
            result,
            {where: counts for where, counts in pairs if counts[0]},
            {kind: count for kind, count in kinds if count},
            found,
        )

    def file_bytes(self, layer, offset, length, data_file=False):
        """The bytes of a file of the chain, as they are stored."""
        buffer = ctypes.create_string_buffer(length)
        call("qcow2_layer_read", self.handle, layer, data_file, offset, buffer, length)
        return buffer.raw

    def file_runs(self, layer, data_file=False):
        """(length, whether it is stored) of each run of that file, to its end."""
        found, at, is_stored = [], 0, ctypes.c_int()
        while length := library().qcow2_layer_stored(
            self.handle, layer, data_file, at, byref(is_stored)
        ):
            found.append((length, bool(is_stored.value)))
            at += length
        assert at == library().qcow2_layer_file_size(self.handle, layer, data_file)
        return found

    def feature_name(self, kind, bit):
        return library().qcow2_feature_name(self.handle, kind, bit)

    @property
    def warnings(self):
        return warnings_of(self.handle)


def warnings_of(handle, function="qcow2_warning"):
    found = []
    while (text := getattr(library(), function)(handle, len(found))) is not None:
        found.append(text.decode())
    return found


def bytes_at(address, length):
    return None if not address else ctypes.string_at(address, length)


class Record:
    """A C structure's plain fields under their own names."""

    def __init__(self, raw):
        for name, kind in raw._fields_:
            if kind is not c_void_p and not name.endswith("_length"):
                setattr(self, name, getattr(raw, name))


class Snapshot(Record):
    def __init__(self, raw):
        super().__init__(raw)
        self.id = text_at(raw.id, raw.id_length)
        self.name = text_at(raw.name, raw.name_length)
        self.unknown_extra = bytes_at(raw.unknown_extra, raw.unknown_extra_length)


class Bitmap(Record):
    def __init__(self, raw):
        super().__init__(raw)
        self.name = text_at(raw.name, raw.name_length)


def text_at(address, length):
    """A text with the NUL that must follow it."""
    if not address:
        return None
    text = ctypes.string_at(address, length + 1)
    assert text[-1] == 0, "no NUL was added"
    return text[:-1]


class Finding(Record):
    def __init__(self, raw):
        super().__init__(raw)
        self.kind, self.weight = FINDING_KINDS[raw.kind], WEIGHTS[raw.weight]
        self.sentence = raw.sentence.decode()

    def __repr__(self):
        return f"{self.weight} {self.kind}: {self.sentence}"


class Header(Record):
    def __init__(self, raw):
        super().__init__(raw)
        self.header_length = raw.header_length
        self.backing_file = text_at(raw.backing_file, raw.backing_file_length)
        self.backing_format = text_at(raw.backing_format, raw.backing_format_length)
        self.data_file = text_at(raw.data_file, raw.data_file_length)


class Layer(Record):
    def __init__(self, raw):
        super().__init__(raw)
        self.header = Header(raw.header.contents) if raw.header else None


# ---- Views -----------------------------------------------------------------------


class View(Closing):
    def __init__(self, image, snapshot_index, function="qcow2_view_open", flags=None):
        self.handle = c_void_p()
        self.image = image
        if function in ("qcow2_view_open_layer", "qcow2_view_open_deleted"):
            call(function, image.handle, snapshot_index, flags, byref(self.handle))
        elif function == "qcow2_view_open_abandoned":
            call(function, image.handle, flags, byref(self.handle))
        elif flags is None:
            index = () if snapshot_index is None else (snapshot_index,)
            call(function, image.handle, *index, byref(self.handle))
        else:
            call("qcow2_view_open_as", image.handle, snapshot_index, flags, byref(self.handle))
        image.views.append(self)

    def close(self):
        if self in self.image.views:
            self.image.views.remove(self)
            library().qcow2_view_close(self.handle)
            self.handle = c_void_p()

    @property
    def size(self):
        return library().qcow2_view_size(self.handle)

    @property
    def warnings(self):
        return warnings_of(self.handle, "qcow2_view_warning")

    def read(self, offset, length):
        buffer = ctypes.create_string_buffer(b"\xaa" * (length + 1), length + 1)
        call("qcow2_view_read", self.handle, offset, buffer, length)
        assert buffer.raw[length] == 0xAA, "wrote past the end of its buffer"
        return buffer.raw[:length]

    def salvage(self, offset, length):
        """The bytes, zeros in place of what cannot be read, and a QcowError for each damaged
        range."""
        buffer = ctypes.create_string_buffer(b"\xaa" * (length + 1), length + 1)
        found = []
        report = DAMAGE_REPORT(lambda _context, damage: found.append(QcowError(damage.contents)))
        call("qcow2_view_salvage", self.handle, offset, buffer, length, report, None)
        assert buffer.raw[length] == 0xAA, "wrote past the end of its buffer"
        return buffer.raw[:length], found

    def examine(self, offset, length):
        """The same, and a QcowError for each range that may be damaged."""
        buffer = ctypes.create_string_buffer(b"\xaa" * (length + 1), length + 1)
        found, doubts = [], []
        report = DAMAGE_REPORT(lambda _context, damage: found.append(QcowError(damage.contents)))
        doubt = DAMAGE_REPORT(lambda _context, damage: doubts.append(QcowError(damage.contents)))
        call("qcow2_view_examine", self.handle, offset, buffer, length, report, doubt, None)
        assert buffer.raw[length] == 0xAA, "wrote past the end of its buffer"
        return buffer.raw[:length], found, doubts

    def map(self, offset, length):
        raw = RawExtent()
        call("qcow2_view_map", self.handle, offset, length, byref(raw))
        return Extent(
            KINDS[raw.kind],
            raw.layer,
            raw.guest_offset,
            raw.length,
            offset_or_none(raw.host_offset),
            raw.host_bytes,
        )

    def map_all(self):
        """All extents, in order."""
        return self.run_by_run(self.map)

    def label(self, offset, length):
        raw = RawLabelled()
        call("qcow2_view_label", self.handle, offset, length, byref(raw))
        host_offset = offset_or_none(raw.host_offset)
        return Labelled(LABELS[raw.label], raw.guest_offset, raw.length, host_offset)

    def label_all(self):
        """All labels, in order."""
        return self.run_by_run(self.label)

    def run_by_run(self, ask):
        """All answers of ask(offset, length), which must cover the view exactly once."""
        found, at = [], 0
        while at < self.size:
            run = ask(at, self.size - at)
            assert run.guest_offset == at and 0 < run.length <= self.size - at, run
            found.append(run)
            at += run.length
        return found

    def label_bytes(self):
        """{label: bytes}, as counted when the view was opened."""
        counts = (c_uint64 * LABELS_MAX)()
        call("qcow2_view_label_bytes", self.handle, counts)
        return dict(zip(LABELS, counts))


# ---- Image names (qcow2names.h) --------------------------------------------------


class Named(Closing):
    """What image names open: `told` gets the sentences about damage, the last of them when it is
    closed."""

    def __init__(self, *names):
        self.handle, self.told = c_void_p(), []
        self.tell = DAMAGE_SENTENCE(lambda _context, sentence: self.told.append(sentence.decode()))
        call("qcow2_disk_open", len(names), encode_all(names), None, byref(self.handle))
        library().qcow2_disk_report_damage(self.handle, self.tell, None)

    def close(self):
        library().qcow2_disk_close(self.handle)
        self.handle = c_void_p()

    @property
    def size(self):
        return library().qcow2_view_size(library().qcow2_disk_view(self.handle))

    @property
    def warnings(self):
        return warnings_of(self.handle, "qcow2_disk_warning")

    def read(self, offset, length):
        buffer = ctypes.create_string_buffer(length)
        call("qcow2_disk_read", self.handle, offset, buffer, length)
        return buffer.raw
