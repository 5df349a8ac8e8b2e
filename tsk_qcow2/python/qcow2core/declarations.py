# SPDX-License-Identifier: MIT
"""What <qcow2core.h> and <qcow2names.h> declare, for ctypes."""
import ctypes
import os
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_uint, c_uint32, c_uint64, c_void_p

READ_CALLBACK = ctypes.CFUNCTYPE(c_int, c_void_p, c_uint64, c_void_p, c_size_t)
CLOSE_CALLBACK = ctypes.CFUNCTYPE(None, c_void_p)
DAMAGE_SENTENCE = ctypes.CFUNCTYPE(None, c_void_p, c_char_p)


def encode(name):
    """A path or name (str, bytes, or what os.fspath() takes) as bytes. A NUL in it is an
    error: C would read only what is before it, and so find another file."""
    data = os.fsencode(name)
    if b"\0" in data:
        raise ValueError("embedded null byte")
    return data


def encode_all(names):
    """The same for several, as an array."""
    return (c_char_p * len(names))(*map(encode, names))


class Error(ctypes.Structure):
    _fields_ = [
        ("code", c_int),
        ("os_errno", c_int),
        ("help", c_int),
        ("help_options", c_int),
        ("guest_offset", c_uint64),
        ("guest_length", c_uint64),
        ("host_offset", c_uint64),
        ("table_offset", c_uint64),
        ("help_format", c_char_p),
        ("reserved", c_uint64 * 2),
        ("message", ctypes.c_char * 960),
    ]


class Storage(ctypes.Structure):
    _fields_ = [
        ("context", c_void_p),
        ("size", c_uint64),
        ("read", READ_CALLBACK),
        ("close", CLOSE_CALLBACK),
    ]


class Passphrase(ctypes.Structure):
    _fields_ = [("bytes", c_char_p), ("length", c_size_t)]


class Layout(ctypes.Structure):
    _fields_ = [
        ("l1_offset", c_uint64),
        ("size", c_uint64),
        ("cluster_bits", c_uint32),
        ("flags", c_uint),
        ("luks_offset", c_uint64),
    ]


class OpenOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("flags", c_uint),
        ("backing_paths", POINTER(c_char_p)),
        ("backing_count", c_size_t),
        ("search_directories", POINTER(c_char_p)),
        ("search_count", c_size_t),
        ("data_file", c_char_p),
        ("cache_bytes", c_size_t),
        ("open_foreign", c_void_p),
        ("foreign_context", c_void_p),
        ("passphrases", POINTER(Passphrase)),
        ("passphrase_count", c_size_t),
        ("referrer", c_void_p),
        ("referrer_search_count", c_size_t),
        ("backing_formats", POINTER(c_char_p)),
        ("data_format", c_char_p),
        ("search_variable", c_char_p),
        ("search_variable_count", c_size_t),
        ("offset", c_uint64),
        ("layout", POINTER(Layout)),
        ("header_length", c_uint32),
        ("find_file_system", c_void_p),
        ("file_system_context", c_void_p),
    ]


class RawExtent(ctypes.Structure):
    _fields_ = [
        ("kind", c_int),
        ("layer", c_size_t),
        ("guest_offset", c_uint64),
        ("length", c_uint64),
        ("host_offset", c_uint64),
        ("host_bytes", c_uint64),
    ]


class RawSnapshot(ctypes.Structure):
    _fields_ = [
        ("id", c_void_p),
        ("id_length", c_size_t),
        ("name", c_void_p),
        ("name_length", c_size_t),
        ("date_seconds", c_uint32),
        ("date_nanoseconds", c_uint32),
        ("vm_clock_nanoseconds", c_uint64),
        ("vm_state_size", c_uint64),
        ("disk_size", c_uint64),
        ("has_disk_size", c_int),
        ("icount", c_int64),
        ("l1_offset", c_uint64),
        ("l1_size", c_uint32),
        ("unknown_extra", c_void_p),
        ("unknown_extra_length", c_size_t),
    ]


class RawHeader(ctypes.Structure):
    _fields_ = [
        ("version", c_uint32),
        ("header_length", c_uint32),
        ("cluster_bits", c_uint32),
        ("l2_bits", c_uint32),
        ("size", c_uint64),
        ("crypt_method", c_uint32),
        ("l1_offset", c_uint64),
        ("l1_size", c_uint32),
        ("refcount_table_offset", c_uint64),
        ("refcount_table_clusters", c_uint32),
        ("refcount_order", c_uint32),
        ("snapshot_count", c_uint32),
        ("snapshots_offset", c_uint64),
        ("incompatible_features", c_uint64),
        ("compatible_features", c_uint64),
        ("autoclear_features", c_uint64),
        ("compression", c_int),
        ("backing_file", c_void_p),
        ("backing_file_length", c_size_t),
        ("backing_format", c_void_p),
        ("backing_format_length", c_size_t),
        ("data_file", c_void_p),
        ("data_file_length", c_size_t),
    ]


class RawExtension(ctypes.Structure):
    _fields_ = [
        ("type", c_uint32),
        ("length", c_uint32),
        ("host_offset", c_uint64),
        ("data", c_void_p),
    ]


class RawBitmap(ctypes.Structure):
    _fields_ = [
        ("name", c_void_p),
        ("name_length", c_size_t),
        ("granularity", c_uint64),
        ("flags", c_uint32),
        ("type", ctypes.c_uint8),
        ("is_consistent", c_int),
        ("table_offset", c_uint64),
        ("table_size", c_uint32),
        ("extra_length", c_uint32),
    ]


class RawRange(ctypes.Structure):
    _fields_ = [("guest_offset", c_uint64), ("length", c_uint64)]


class RawLayer(ctypes.Structure):
    _fields_ = [
        ("path", c_char_p),
        ("data_path", c_char_p),
        ("format", c_char_p),
        ("is_raw", c_int),
        ("file_size", c_uint64),
        ("allocated_size", c_uint64),
        ("needed_size", c_uint64),
        ("size", c_uint64),
        ("header", POINTER(RawHeader)),
        ("data_format", c_char_p),
        ("offset", c_uint64),
        ("written", c_int64),
        ("is_hidden", c_int),
        ("reserved", c_uint64 * 3),
    ]


class KeySlot(ctypes.Structure):
    _fields_ = [("is_active", c_int), ("iterations", c_uint32)]


class EncryptionInfo(ctypes.Structure):
    _fields_ = [
        ("method", c_uint32),
        ("cipher", ctypes.c_char * 16),
        ("key_bits", c_uint32),
        ("mode", ctypes.c_char * 16),
        ("ivgen", ctypes.c_char * 16),
        ("ivgen_hash", ctypes.c_char * 16),
        ("hash", ctypes.c_char * 16),
        ("uuid", ctypes.c_char * 40),
        ("header_offset", c_uint64),
        ("payload_offset", c_uint64),
        ("slots", KeySlot * 8),
        ("reserved", c_uint64 * 6),
    ]


FINDING_KINDS = (
    "leak",
    "refcount-low",
    "overflow",
    "copied",
    "reserved-bits",
    "unaligned",
    "past-end",
    "cut",
    "entry",
    "refcount-block",
    "table",
    "overlap",
    "unreadable",
    "stream",
)


class RawFinding(ctypes.Structure):
    _fields_ = [
        ("kind", c_int),
        ("weight", c_int),
        ("host_offset", c_uint64),
        ("guest_offset", c_uint64),
        ("table_offset", c_uint64),
        ("snapshot_index", c_size_t),
        ("refcount", c_uint64),
        ("references", c_uint64),
        ("sentence", c_char_p),
        ("of_refcounts", c_int),
    ]


FINDING_REPORT = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(RawFinding))


class RawClusterRun(ctypes.Structure):
    _fields_ = [
        ("host_offset", c_uint64),
        ("length", c_uint64),
        ("uses", c_uint),
        ("of_active", c_int),
        ("of_snapshot", c_int),
        ("is_leaked", c_int),
        ("is_stored", c_int),
    ]


CLUSTER_REPORT = ctypes.CFUNCTYPE(None, c_void_p, POINTER(RawClusterRun))


class CheckOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("report", FINDING_REPORT),
        ("context", c_void_p),
        ("memory_bytes", c_size_t),
        ("work_bytes", c_uint64),
        ("decode", c_int),
        ("clusters", CLUSTER_REPORT),
    ]


class CheckResult(ctypes.Structure):
    _fields_ = [
        ("corruptions", c_uint64),
        ("leaks", c_uint64),
        ("defects", c_uint64),
        ("unreadable", c_uint64),
        ("by_kind", c_uint64 * 32),
        ("is_complete", c_int),
        ("checked_to", c_uint64),
        ("used_clusters", c_uint64),
        ("unreferenced_clusters", c_uint64),
        ("of_refcounts", c_uint64),
        ("doubts", c_uint64),
        ("reserved", c_uint64 * 4),
    ]

    @property
    def counts(self):
        """{kind: count}, without those that are 0."""
        return {kind: count for kind, count in zip(FINDING_KINDS, self.by_kind) if count}


RESIDUE_WHERES = (
    "unreferenced",
    "after-last",
    "under-zeros",
    "subclusters",
    "past-disk",
    "stream-gaps",
    "table-slack",
    "header-slack",
)
RESIDUE_KINDS = (
    "hole",
    "zero",
    "data",
    "l1",
    "l2",
    "refcount-table",
    "refcount-block",
    "snapshot-table",
    "bitmap-directory",
    "header",
    "compressed",
)


class RawResidueFound(ctypes.Structure):
    _fields_ = [
        ("kind", c_int),
        ("host_offset", c_uint64),
        ("snapshot", POINTER(RawSnapshot)),
        ("l1", c_int),
        ("bitmap", POINTER(RawBitmap)),
        ("table_offset", c_uint64),
    ]


L1_MAY_BE_READ = (0, 3)  # of RawResidueFound.l1: it is there, or that is not known


class ResidueStream(ctypes.Structure):
    _fields_ = [
        ("host_offset", c_uint64),
        ("length", c_uint64),
        ("cluster", c_void_p),
        ("cluster_size", c_size_t),
    ]


RESIDUE_REPORT = ctypes.CFUNCTYPE(None, c_void_p, POINTER(RawResidueFound))
RESIDUE_REPORT_STREAM = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(ResidueStream))


class ResidueOptions(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("report", RESIDUE_REPORT),
        ("context", c_void_p),
        ("work_bytes", c_uint64),
        ("report_stream", RESIDUE_REPORT_STREAM),
    ]


class ResidueResult(ctypes.Structure):
    _fields_ = [
        ("file_bytes", c_uint64),
        ("residue_bytes", c_uint64),
        ("where_bytes", c_uint64 * 16),
        ("where_data_bytes", c_uint64 * 16),
        ("kind_bytes", c_uint64 * 16),
        ("is_complete", c_int),
        ("has_unreadable", c_int),
        ("checked_to", c_uint64),
        ("stream_count", c_uint64),
        ("random_bytes", c_uint64),
        ("reserved", c_uint64 * 4),
    ]


LABELS = (
    "kept",
    "shared-older",
    "shared-newer",
    "shared-active",
    "reused",
    "lost-table",
    "punched",
    "absent",
    "by-neighbours",
)
LABELS_MAX = 16


class RawLabelled(ctypes.Structure):
    _fields_ = [
        ("label", c_int),
        ("guest_offset", c_uint64),
        ("length", c_uint64),
        ("host_offset", c_uint64),
        ("reserved", c_uint64 * 2),
    ]


DAMAGE_REPORT = ctypes.CFUNCTYPE(None, c_void_p, POINTER(Error))
HANDLE, HANDLE_OUT, ERROR = c_void_p, POINTER(c_void_p), POINTER(Error)
PROTOTYPES = {
    "qcow2_error_set": (c_int, ERROR, c_int, c_char_p),
    "qcow2_status_name": (c_char_p, c_int),
    "qcow2_version": (c_char_p,),
    "qcow2_image_probe": (c_int, c_char_p),
    "qcow2_image_open": (c_int, c_char_p, POINTER(OpenOptions), HANDLE_OUT, ERROR),
    "qcow2_image_open_storage": (c_int, POINTER(Storage), POINTER(OpenOptions), HANDLE_OUT, ERROR),
    "qcow2_image_close": (None, HANDLE),
    "qcow2_view_open": (c_int, HANDLE, c_size_t, HANDLE_OUT, ERROR),
    "qcow2_view_open_as": (c_int, HANDLE, c_size_t, c_uint, HANDLE_OUT, ERROR),
    "qcow2_view_open_layer": (c_int, HANDLE, c_size_t, c_uint, HANDLE_OUT, ERROR),
    "qcow2_view_open_residue": (c_int, HANDLE, HANDLE_OUT, ERROR),
    "qcow2_view_open_deleted": (c_int, HANDLE, c_uint64, c_uint, HANDLE_OUT, ERROR),
    "qcow2_view_open_abandoned": (c_int, HANDLE, c_uint, HANDLE_OUT, ERROR),
    "qcow2_view_deleted": (POINTER(RawSnapshot), HANDLE),
    "qcow2_view_label": (c_int, HANDLE, c_uint64, c_uint64, POINTER(RawLabelled), ERROR),
    "qcow2_view_label_bytes": (c_int, HANDLE, POINTER(c_uint64), ERROR),
    "qcow2_view_has_gaps": (c_int, HANDLE),
    "qcow2_deleted_is_complete": (c_int, HANDLE),
    "qcow2_label_name": (c_char_p, c_int),
    "qcow2_label_is_lost": (c_int, c_int),
    "qcow2_deleted_find": (c_int, HANDLE, c_char_p, c_int, POINTER(c_uint64), ERROR),
    "qcow2_deleted_label_bytes": (c_int, HANDLE, c_uint64, POINTER(c_uint64), ERROR),
    "qcow2_image_deleted": (c_int, HANDLE, RESIDUE_REPORT, c_void_p, ERROR),
    "qcow2_view_open_vm_state": (c_int, HANDLE, c_size_t, HANDLE_OUT, ERROR),
    "qcow2_view_close": (None, HANDLE),
    "qcow2_view_size": (c_uint64, HANDLE),
    "qcow2_view_warning": (c_char_p, HANDLE, c_size_t),
    "qcow2_view_read": (c_int, HANDLE, c_uint64, c_void_p, c_size_t, ERROR),
    "qcow2_view_salvage": (
        c_int,
        HANDLE,
        c_uint64,
        c_void_p,
        c_size_t,
        DAMAGE_REPORT,
        c_void_p,
        ERROR,
    ),
    "qcow2_view_examine": (
        c_int,
        HANDLE,
        c_uint64,
        c_void_p,
        c_size_t,
        DAMAGE_REPORT,
        DAMAGE_REPORT,
        c_void_p,
        ERROR,
    ),
    "qcow2_view_map": (c_int, HANDLE, c_uint64, c_uint64, POINTER(RawExtent), ERROR),
    "qcow2_view_same": (
        c_int,
        HANDLE,
        HANDLE,
        c_uint64,
        c_uint64,
        POINTER(c_uint64),
        POINTER(c_int),
        ERROR,
    ),
    "qcow2_referrer_open": (c_int, c_char_p, HANDLE_OUT, ERROR),
    "qcow2_referrer_close": (None, HANDLE),
    "qcow2_referrer_path": (c_char_p, HANDLE),
    "qcow2_referrer_storage": (POINTER(Storage), HANDLE),
    "qcow2_referrer_follow": (c_int, HANDLE, c_char_p, c_char_p, POINTER(Storage), ERROR),
    "qcow2_snapshot_count": (c_size_t, HANDLE),
    "qcow2_snapshot_get": (POINTER(RawSnapshot), HANDLE, c_size_t),
    "qcow2_snapshot_find": (c_int, HANDLE, c_char_p, c_int, POINTER(c_size_t), ERROR),
    "qcow2_snapshot_lost_count": (c_size_t, HANDLE),
    "qcow2_snapshot_check": (c_int, HANDLE, c_size_t, ERROR),
    "qcow2_bitmap_count": (c_size_t, HANDLE),
    "qcow2_bitmap_get": (POINTER(RawBitmap), HANDLE, c_size_t),
    "qcow2_bitmap_lost_count": (c_size_t, HANDLE),
    "qcow2_bitmap_find": (c_int, HANDLE, c_char_p, POINTER(c_size_t), ERROR),
    "qcow2_bitmap_next_dirty": (c_int, HANDLE, c_size_t, c_uint64, POINTER(RawRange), ERROR),
    "qcow2_finding_kind_name": (c_char_p, c_int),
    "qcow2_image_check": (c_int, HANDLE, POINTER(CheckOptions), POINTER(CheckResult), ERROR),
    "qcow2_image_residue": (
        c_int,
        HANDLE,
        POINTER(ResidueOptions),
        POINTER(ResidueResult),
        ERROR,
    ),
    "qcow2_layer_read": (c_int, HANDLE, c_size_t, c_int, c_uint64, c_void_p, c_size_t, ERROR),
    "qcow2_layer_file_size": (c_uint64, HANDLE, c_size_t, c_int),
    "qcow2_layer_stored": (c_uint64, HANDLE, c_size_t, c_int, c_uint64, POINTER(c_int)),
    "qcow2_residue_kind_name": (c_char_p, c_int),
    "qcow2_residue_where_name": (c_char_p, c_int),
    "qcow2_layer_check": (
        c_int,
        HANDLE,
        c_size_t,
        POINTER(CheckOptions),
        POINTER(CheckResult),
        ERROR,
    ),
    "qcow2_layer_count": (c_size_t, HANDLE),
    "qcow2_layer_changed": (c_int, HANDLE, c_size_t, c_char_p, c_size_t),
    "qcow2_layer_get": (c_int, HANDLE, c_size_t, POINTER(RawLayer), ERROR),
    "qcow2_encryption_get": (c_int, HANDLE, c_size_t, POINTER(EncryptionInfo), ERROR),
    "qcow2_extension_get": (POINTER(RawExtension), HANDLE, c_size_t, c_size_t),
    "qcow2_feature_name": (c_char_p, HANDLE, c_int, c_uint),
    "qcow2_warning": (c_char_p, HANDLE, c_size_t),
    "qcow2_disk_open": (c_int, c_size_t, POINTER(c_char_p), c_void_p, HANDLE_OUT, ERROR),
    "qcow2_disk_close": (None, HANDLE),
    "qcow2_disk_image": (HANDLE, HANDLE),
    "qcow2_disk_is_recovered": (c_int, HANDLE),
    "qcow2_disk_view": (HANDLE, HANDLE),
    "qcow2_disk_warning": (c_char_p, HANDLE, c_size_t),
    "qcow2_disk_read": (c_int, HANDLE, c_uint64, c_void_p, c_size_t, ERROR),
    "qcow2_disk_report_damage": (None, HANDLE, DAMAGE_SENTENCE, c_void_p),
    "qcow2_name_probe": (c_int, c_char_p),
    "qcow2_text_escape": (c_char_p, c_char_p, c_size_t, c_void_p, c_size_t),
}


def load(path):
    """The library at a path, or of that name, with every function's prototype set."""
    library = ctypes.CDLL(path)
    for name, (result, *arguments) in PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
