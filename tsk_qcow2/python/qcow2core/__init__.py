# SPDX-License-Identifier: MIT
"""qcow2 disk images, read through libqcow2core.

    import qcow2core

    with qcow2core.open("disk.qcow2@before-update") as disk:
        print(disk.size, [snapshot.name for snapshot in disk.snapshots])
        disk.seek(1048576)
        sector = disk.read(512)

A name is IMAGE[@SNAPSHOT][,OPTION[=VALUE]]..., as tsk-qcow2-image-names(7) describes it. Images are
opened read-only. A file that an image refers to is opened automatically only if it is below the
image's own directory. For pytsk3 see qcow2core.tsk.

If the system's loader does not find the library, the environment variable QCOW2CORE_LIBRARY names
it.
"""
import ctypes
import io
import os
import warnings
from collections import namedtuple
from ctypes import byref, c_void_p
from functools import lru_cache
from operator import index

from . import declarations

__all__ = ["DeletedSnapshot", "Disk", "Error", "Label", "Snapshot", "open", "probe"]

NO_OFFSET = ctypes.c_uint64(-1).value
LABELS_MAX = declarations.LABELS_MAX
ENCRYPTION = {0: None, 1: "aes", 2: "luks"}
COMPRESSION = ("deflate", "zstd")

# One entry of the snapshot table. Times are nanoseconds, sizes bytes; date: since 1970-01-01 UTC;
# icount: None: not recorded.
Snapshot = namedtuple("Snapshot", "id name date vm_clock vm_state_size disk_size icount")

# A deleted snapshot that can be read: IMAGE@deleted-l1=L1_OFFSET. Times and sizes as above; labels:
# how many bytes of its disk have each label.
DeletedSnapshot = namedtuple(
    "DeletedSnapshot", "id name date vm_state_size disk_size l1_offset labels"
)

# Bytes of a recovered state: a label such as "kept", where the run begins and its length, and where
# in the file that is (None: nowhere).
Label = namedtuple("Label", "label offset length host_offset")


@lru_cache(maxsize=None)
def _library():
    return declarations.load(os.environ.get("QCOW2CORE_LIBRARY", "libqcow2core.so.0"))


def __getattr__(name):
    """__version__ is the library's."""
    if name == "__version__":
        return _library().qcow2_version().decode()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Error(OSError):
    """A failure. `code` is the status's name, such as "TRUNCATED"; the message says what
    is wrong and what to do. The guest and the host offset, in bytes, are None if they do not
    apply."""

    def __init__(self, error):
        self.code = _library().qcow2_status_name(error.code).decode()
        self.message = error.message.decode()
        self.guest_offset = None if error.guest_offset == NO_OFFSET else error.guest_offset
        self.host_offset = None if error.host_offset == NO_OFFSET else error.host_offset
        super().__init__(self.message)


def _call(function, *arguments):
    error = declarations.Error()
    if function(*arguments, byref(error)) != 0:
        raise Error(error)


def _text(address, length):
    """Text as it is in the image; bytes that are not UTF-8 are kept as surrogates."""
    return ctypes.string_at(address, length).decode(errors="surrogateescape") if address else None


def _label_name(label):
    return _library().qcow2_label_name(label).decode()


def _labels(counts):
    """Bytes by label, without those that no byte has."""
    return {_label_name(label): count for label, count in enumerate(counts) if count > 0}


def probe(name):
    """True if the name leads to a file that starts as a qcow2 image does, or to a selector file:
    open() says what is wrong if it fails."""
    return bool(_library().qcow2_name_probe(declarations.encode(name)))


def open(name, *chain, on_damage=None):  # pylint: disable=redefined-builtin
    """Open an image by its name; further names are its backing chain, the topmost first. Returns a
    Disk.

    `on_damage` is called with a sentence for each damaged range that is met, once, and when the
    disk is closed with how many there were. It may be called by any thread that reads."""
    return Disk(name, *chain, on_damage=on_damage)


class Disk(io.RawIOBase):
    """An image's disk, or that of a snapshot, as a binary file that can be read and sought. Threads
    may share one through read_at()."""

    def __init__(self, name, *chain, on_damage=None):
        super().__init__()
        self._handle = None
        self._position = 0
        names = (name, *chain)
        handle = c_void_p()
        _call(
            _library().qcow2_disk_open,
            len(names),
            declarations.encode_all(names),
            None,
            byref(handle),
        )
        self._handle = handle
        self._image = _library().qcow2_disk_image(handle)
        self.name = name
        self.size = _library().qcow2_view_size(_library().qcow2_disk_view(handle))
        if on_damage is not None:
            self._on_damage = declarations.DAMAGE_SENTENCE(
                lambda _context, sentence: on_damage(sentence.decode())
            )
            _library().qcow2_disk_report_damage(handle, self._on_damage, None)

    def close(self):
        """Close the image. Reads must have ended."""
        if self._handle is not None:
            _library().qcow2_disk_close(self._handle)
            self._handle = None
        super().close()

    def _checked(self):
        if self._handle is None:
            raise ValueError("the disk is closed")
        return self._handle

    # ---- Reading ----

    def read_at(self, offset, length):
        """The bytes from `offset` on: `length` of them, or fewer at the disk's end only. Does not
        use the file position."""
        if index(offset) < 0 or index(length) < 0:
            raise ValueError("negative offset or length")
        handle = self._checked()
        length = max(0, min(length, self.size - offset))
        buffer = ctypes.create_string_buffer(length)
        if length > 0:
            _call(_library().qcow2_disk_read, handle, offset, buffer, length)
        return buffer.raw

    def read(self, size=-1):
        """The next `size` bytes, or all that are left; fewer at the disk's end only."""
        data = self.read_at(self._position, self.size if size is None or size < 0 else size)
        self._position += len(data)
        return data

    readall = read

    def readinto(self, buffer):
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset, whence=io.SEEK_SET):
        self._checked()
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}
        if whence not in starts:
            raise ValueError(f"whence is {whence!r}; it must be 0, 1 or 2")
        position = starts[whence] + index(offset)
        if position < 0:
            raise ValueError("negative seek position")
        self._position = position
        return position

    def tell(self):
        self._checked()
        return self._position

    def readable(self):
        return True

    def seekable(self):
        return True

    # ---- Facts ----

    @property
    def snapshots(self):
        """The snapshots kept inside the image, whichever of its disks is open."""
        self._checked()
        found = []
        for number in range(_library().qcow2_snapshot_count(self._image)):
            raw = _library().qcow2_snapshot_get(self._image, number).contents
            found.append(
                Snapshot(
                    _text(raw.id, raw.id_length),
                    _text(raw.name, raw.name_length),
                    raw.date_seconds * 10**9 + raw.date_nanoseconds,
                    raw.vm_clock_nanoseconds,
                    raw.vm_state_size,
                    raw.disk_size,
                    None if raw.icount == -1 else raw.icount,
                )
            )
        return found

    @property
    def deleted_snapshots(self):
        """The deleted snapshots that can be read, as far as they are left. Looks through all tables
        two times for each. A RuntimeWarning says so if there may be more of them."""
        self._checked()
        found, failures = [], []

        def report(_context, item):
            if item.contents.l1 not in declarations.L1_MAY_BE_READ:
                return
            raw, labels = item.contents.snapshot.contents, (ctypes.c_uint64 * LABELS_MAX)()
            try:
                _call(_library().qcow2_deleted_label_bytes, self._image, raw.l1_offset, labels)
            except Error as error:
                if error.code not in ("NOT_FOUND", "CORRUPT"):  # its L1 table is something else
                    failures.append(error)
                return
            found.append(
                DeletedSnapshot(
                    _text(raw.id, raw.id_length),
                    _text(raw.name, raw.name_length),
                    raw.date_seconds * 10**9 + raw.date_nanoseconds,
                    raw.vm_state_size,
                    raw.disk_size,
                    raw.l1_offset,
                    _labels(labels),
                )
            )

        _call(
            _library().qcow2_image_deleted, self._image, declarations.RESIDUE_REPORT(report), None
        )
        if not _library().qcow2_deleted_is_complete(self._image):
            warnings.warn(
                "some of the file cannot be read, so there may be deleted snapshots that are not "
                "found, or more may be lost of those that are",
                RuntimeWarning,
                stacklevel=2,
            )
        for failure in failures:
            warnings.warn(
                f"a deleted snapshot is left out: {failure}", RuntimeWarning, stacklevel=2
            )
        return found

    @property
    def recovered(self):
        """True if the name chose a deleted snapshot or an abandoned state, or an image in the disk
        of one."""
        return bool(_library().qcow2_disk_is_recovered(self._checked()))

    @property
    def has_gaps(self):
        """True if some of the file could not be read when it was found out what the disk shows, so
        that it may show more than it should: residue, a deleted snapshot or an abandoned state.
        `warnings` says so."""
        return bool(_library().qcow2_view_has_gaps(_library().qcow2_disk_view(self._checked())))

    @property
    def labels(self):
        """If the name chose a deleted snapshot or an abandoned state: how many bytes have each
        label that says how far they can be trusted, as docs/residue.md describes them. Else
        None."""
        view = _library().qcow2_disk_view(self._checked())
        labels = (ctypes.c_uint64 * LABELS_MAX)()
        if _library().qcow2_view_label_bytes(view, labels, None) != 0:
            return None
        return _labels(labels)

    def label_at(self, offset, length=1):
        """The Label of the bytes from `offset` on: at most `length` of them, and as long as they
        have one label. The disk must have labels."""
        view = _library().qcow2_disk_view(self._checked())
        raw = declarations.RawLabelled()
        _call(_library().qcow2_view_label, view, index(offset), index(length), byref(raw))
        host_offset = None if raw.host_offset == NO_OFFSET else raw.host_offset
        return Label(_label_name(raw.label), raw.guest_offset, raw.length, host_offset)

    @property
    def warnings(self):
        """Sentences about what is wrong with the image, though it could be opened, such as lost
        snapshots; and about what the name makes the disk show."""
        self._checked()
        found = []
        while (text := _library().qcow2_disk_warning(self._handle, len(found))) is not None:
            found.append(text.decode())
        return found

    @property
    def info(self):
        """What the image says about itself, as a dictionary; "layers" are the files of its chain,
        the image first."""
        self._checked()
        layers = [
            self._layer(number) for number in range(_library().qcow2_layer_count(self._image))
        ]
        header = layers[0].header.contents
        return {
            "version": header.version,
            "virtual_size": header.size,
            "cluster_size": 1 << header.cluster_bits,
            "compression": COMPRESSION[header.compression],
            "encryption": ENCRYPTION.get(header.crypt_method),
            "incompatible_features": header.incompatible_features,
            "compatible_features": header.compatible_features,
            "autoclear_features": header.autoclear_features,
            "backing_file": _text(header.backing_file, header.backing_file_length),
            "backing_format": _text(header.backing_format, header.backing_format_length),
            "data_file": _text(header.data_file, header.data_file_length),
            "layers": [
                {
                    "path": os.fsdecode(layer.path),
                    "format": layer.format.decode(),
                    "size": layer.size,
                    "file_size": layer.file_size,
                }
                for layer in layers
            ],
        }

    def _layer(self, number):
        layer = declarations.RawLayer()
        _call(_library().qcow2_layer_get, self._image, number, byref(layer))
        return layer
