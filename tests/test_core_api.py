# SPDX-License-Identifier: MIT
"""The C interface itself: arguments, error structs, finding snapshots, escaping text, the caller's
storage, and threads."""
import ctypes
import errno
import gzip
import os
import random
import threading
from ctypes import byref, c_size_t, c_void_p

import pytest

from lib import core, door_ways
from lib.builder import Image, pattern, poke, squeezable
from lib.core import (
    ACTIVE,
    BY_ID,
    BY_ID_OR_NAME,
    BY_NAME,
    CheckOptions,
    CheckResult,
    Error,
    Image as Opened,
    OpenOptions,
    PythonStorage,
    QcowError,
    RawExtent,
    RawLayer,
    call,
    library,
    open_options,
    probe,
    text_escape,
)

pytestmark = pytest.mark.usefixtures("core")
ARGUMENT, NOT_FOUND, NOT_QCOW2 = -10, -8, -2
ALONE = 4  # QCOW2_VIEW_ALONE


def small_image(**options):
    """Six clusters of 4 KiB; the builder that knows them."""
    image = Image(**{"size": 6 * 4096 - 512, "cluster_bits": 12, **options})
    image.disk.normal(0, pattern(1, 4096))
    image.disk.compressed(1, squeezable(2, 4096))
    image.disk.normal(5, pattern(3, 4096))
    return image


@pytest.fixture
def small():
    image = small_image()
    with Opened.from_storage(image.build()) as opened:
        opened.model = image.disk.model
        yield opened


def fails(code, call, *arguments, **options):
    with pytest.raises(QcowError) as caught:
        call(*arguments, **options)
    assert caught.value.code == code, caught.value
    assert caught.value.message
    return caught.value


# ---- Names and versions ----------------------------------------------------------


@pytest.mark.parametrize(
    "code, name",
    (
        (0, "OK"),
        (-1, "IO"),
        (-2, "NOT_QCOW2"),
        (-3, "CORRUPT"),
        (-4, "TRUNCATED"),
        (-5, "UNSUPPORTED"),
        (-6, "DENIED"),
        (-7, "KEY"),
        (-8, "NOT_FOUND"),
        (-9, "NOMEM"),
        (-10, "ARGUMENT"),
    ),
)
def test_status_names(code, name):
    assert library().qcow2_status_name(code) == name.encode()


@pytest.mark.parametrize("code", (1, -11, 1 << 30, -(1 << 31)))
def test_status_name_of_an_unknown_code_is_never_null(code):
    assert library().qcow2_status_name(code)


def test_version():
    numbers = library().qcow2_version().split(b".")
    assert len(numbers) == 3 and all(number.isdigit() for number in numbers)


# ---- Reads and maps --------------------------------------------------------------


def test_read_past_the_end(small):
    view = small.view()
    size = view.size
    for offset, length in (
        (size, 1),
        (size - 1, 2),
        (0, size + 1),
        (size + 1, 0),
        (1 << 63, 1),
        ((1 << 64) - 1, 1),
        ((1 << 64) - 512, 1024),
    ):
        error = fails("ARGUMENT", view.read, offset, length)
        assert error.os_errno == 0
    assert view.read(0, size) == small.model.read(0, size), "the view still works"


def test_read_with_a_length_that_overflows(small):
    error = Error()
    code = library().qcow2_view_read(
        small.view().handle, 512, None, ctypes.c_size_t(-1).value - 100, byref(error)
    )
    assert code == error.code == ARGUMENT


@pytest.mark.parametrize("offset", (0, 1, 4096, 6 * 4096 - 513, 6 * 4096 - 512))
def test_read_of_no_bytes(offset, small):
    assert small.view().read(offset, 0) == b""
    assert library().qcow2_view_read(small.view().handle, offset, None, 0, None) == 0


def test_map_arguments(small):
    view = small.view()
    for offset, length in (
        (0, 0),
        (view.size, 1),
        (view.size, 0),
        (1 << 63, 1),
        ((1 << 64) - 1, 1),
    ):
        fails("ARGUMENT", view.map, offset, length)
    extent = RawExtent()
    assert library().qcow2_view_map(view.handle, view.size, 1, byref(extent), None) == ARGUMENT


def test_map_of_more_than_the_view_is_cut(small):
    view = small.view()
    extent = view.map(5 * 4096 + 10, (1 << 64) - 1)
    assert (extent.kind, extent.guest_offset, extent.length) == (
        "normal",
        5 * 4096 + 10,
        4096 - 512 - 10,
    )
    assert view.map(10, 5).length == 5
    assert view.map(2 * 4096, 1 << 40).length == 3 * 4096, "a run of holes comes in one piece"


def test_same_arguments(small):
    view, run, is_same = small.view(), ctypes.c_uint64(), ctypes.c_int()
    for offset, length in ((0, 0), (view.size, 1), (1 << 63, 1), ((1 << 64) - 1, 1)):
        fails("ARGUMENT", call_same, view, view, offset, length, run, is_same)
    call_same(view, view, 5 * 4096 + 10, (1 << 64) - 1, run, is_same)
    assert (run.value, is_same.value) == (4096 - 512 - 10, 1), "more than the view is cut"


def call_same(view, other, offset, length, run, is_same):
    call("qcow2_view_same", view.handle, other.handle, offset, length, byref(run), byref(is_same))


def test_null_error_pointers(small):
    view, handle = small.view(), c_void_p()
    buffer = ctypes.create_string_buffer(512)
    assert library().qcow2_view_read(view.handle, 0, buffer, 512, None) == 0
    assert buffer.raw == small.model.read(0, 512)
    assert library().qcow2_view_read(view.handle, view.size, buffer, 512, None) == ARGUMENT
    assert library().qcow2_view_open(small.handle, 5, byref(handle), None) == ARGUMENT
    assert (
        library().qcow2_snapshot_find(small.handle, b"x", BY_ID, byref(c_size_t()), None)
        == NOT_FOUND
    )
    assert library().qcow2_layer_get(small.handle, 9, byref(RawLayer()), None) == ARGUMENT
    assert library().qcow2_image_open(b"/nonexistent", None, byref(handle), None) == -1
    for data in (
        b"nothing",
        bytes(poke(small_image().build(), 36, "I", 0)),
        bytes(poke(small_image().build(), 20, "I", 99)),
    ):
        storage = PythonStorage(data)
        assert (
            library().qcow2_image_open_storage(byref(storage.struct), None, byref(handle), None) < 0
        )


def test_null_error_pointer_with_a_damaged_cluster():
    image = small_image()
    image.disk.compressed(2, None, b"\x07" * 600)
    image.disk.set(3, 513)
    with Opened.from_storage(image.build()) as opened:
        for cluster in (2, 3):
            buffer = ctypes.create_string_buffer(4096)
            assert (
                library().qcow2_view_read(opened.view().handle, cluster * 4096, buffer, 4096, None)
                == -3
            )


def test_closing_nothing():
    library().qcow2_image_close(None)
    library().qcow2_view_close(None)


# ---- Opening ---------------------------------------------------------------------


def test_open_without_options(tmp_path):
    path = small_image().write(tmp_path / "image.qcow2")
    handle = c_void_p()
    assert library().qcow2_image_open(os.fsencode(path), None, byref(handle), None) == 0
    library().qcow2_image_close(handle)


@pytest.mark.parametrize(
    "change",
    (
        {"struct_size": 0},
        {"struct_size": 4},
        {"struct_size": 1 << 20},
        {"flags": 4},
        {"flags": 1 << 31},
    ),
)
def test_open_with_bad_options(change, tmp_path):
    path = small_image().write(tmp_path / "image.qcow2")
    options, handle, error = open_options(), c_void_p(), Error()
    for field, value in change.items():
        setattr(options, field, value)
    assert (
        library().qcow2_image_open(os.fsencode(path), byref(options), byref(handle), byref(error))
        == ARGUMENT
    )
    assert error.code == ARGUMENT and error.message and not handle


def test_open_with_the_options_of_an_older_caller(tmp_path):
    """Fields past struct_size are not looked at."""
    path = small_image().write(tmp_path / "image.qcow2")
    options, handle = open_options(), c_void_p()
    options.struct_size = OpenOptions.backing_paths.offset
    options.backing_count = options.search_count = 1000
    assert library().qcow2_image_open(os.fsencode(path), byref(options), byref(handle), None) == 0
    library().qcow2_image_close(handle)


@pytest.mark.parametrize("kind", (OpenOptions, CheckOptions))
def test_options_of_a_newer_caller(kind, tmp_path):
    """What is not known here may ask for less trust, so it is refused, unless it asks for
    nothing."""
    size = ctypes.sizeof(kind)

    class Newer(ctypes.Structure):
        _fields_ = [("known", kind), ("unknown", ctypes.c_uint64 * 2)]

    with Opened(small_image().write(tmp_path / "image.qcow2")) as opened:
        for unknown, tail in ((0, 16), (0, 9), (1, 16), (1 << 56, 16)):
            options, handle, error, result = Newer(), c_void_p(), Error(), CheckResult()
            options.known.struct_size, options.unknown[0] = size + tail, unknown
            if kind is OpenOptions:
                code = library().qcow2_image_open(
                    os.fsencode(tmp_path / "image.qcow2"),
                    byref(options.known),
                    byref(handle),
                    byref(error),
                )
                library().qcow2_image_close(handle)
            else:
                code = library().qcow2_image_check(
                    opened.handle, byref(options.known), byref(result), byref(error)
                )
            assert (code, unknown > 0) in ((0, False), (ARGUMENT, True))
            assert unknown == 0 or b"does not know" in error.message


def test_open_what_is_no_image(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "raw").write_bytes(bytes(4096))
    os.mkfifo(tmp_path / "fifo")
    assert "it is empty" in fails("NOT_QCOW2", Opened, tmp_path / "empty").message
    fails("NOT_QCOW2", Opened, tmp_path / "raw")
    missing = fails("IO", Opened, tmp_path / "missing")
    assert missing.os_errno == errno.ENOENT and "missing" in missing.message
    for path in (tmp_path, tmp_path / "fifo", "/dev/zero", "/dev/tty"):
        assert fails_in_any_way(Opened, path).code in ("ARGUMENT", "IO", "NOT_QCOW2")
    assert "\x1b" not in fails("IO", Opened, tmp_path / "a\x1b[2Jb").message


def fails_in_any_way(call, *arguments):
    with pytest.raises(QcowError) as caught:
        call(*arguments)
    return caught.value


def test_probe(tmp_path):
    path = small_image().write(tmp_path / "image.qcow2")
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "raw").write_bytes(bytes(4096))
    (tmp_path / "short").write_bytes(b"QFI\xfb\0\0\0")
    (tmp_path / "version-1").write_bytes(b"QFI\xfb\0\0\0\1" + bytes(100))
    (tmp_path / "version-9").write_bytes(b"QFI\xfb\0\0\0\x09" + bytes(100))
    for name in ("disk.qcow2.gz", "disk.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"packed"))
    (tmp_path / "disk.qcow2.raw").write_bytes(bytes(4096))
    os.mkfifo(tmp_path / "fifo")
    answers = {
        "image.qcow2": 1,
        "link": 1,
        "version-9": 1,
        "raw": 0,
        "short": 0,
        "version-1": 2,
        "disk.qcow2.gz": 1,
        "disk.gz": 0,
        "disk.qcow2.raw": 0,
        "fifo": 0,
        "missing": 0,
        ".": 0,
    }
    assert {name: probe(tmp_path / name) for name in answers} == answers
    assert probe("/dev/zero") == 0


def test_no_chain_opens_nothing_else_and_gives_no_view(tmp_path):
    image = Image(
        size=4096,
        cluster_bits=12,
        backing=b"/dev/zero",
        backing_format=b"raw",
        data_file=b"missing.data",
    )
    image.snapshot(b"1", b"one")
    path = image.write(tmp_path / "image.qcow2")
    os.unlink(tmp_path / "missing.data")
    with Opened(path, no_chain=True) as opened:
        assert (opened.header.backing_file, opened.header.data_file) == (
            b"/dev/zero",
            b"missing.data",
        )
        assert [snapshot.name for snapshot in opened.snapshots] == [b"one"]
        assert len(opened.layers) == 1
        for index in (ACTIVE, 0):
            fails("ARGUMENT", opened.view, index)


def test_views_of_layers(tmp_path):
    """Each file of a chain with those below it, and alone; what a map says of them counts from the
    topmost."""
    (tmp_path / "base.raw").write_bytes(pattern("base", 3 * 4096))
    for name, below, size in (("mid", "base.raw", 4), ("top", "mid.qcow2", 5)):
        backing_format = b"raw" if below == "base.raw" else b"qcow2"
        image = Image(
            size * 4096, cluster_bits=12, backing=below.encode(), backing_format=backing_format
        )
        image.disk.normal(("mid", "top").index(name), pattern(name, 4096))
        image.write(tmp_path / f"{name}.qcow2")
    base, zeros = pattern("base", 3 * 4096), bytes(4096)
    expected = {
        (0, 0): pattern("mid", 4096) + pattern("top", 4096) + base[8192:] + 2 * zeros,
        (0, ALONE): zeros + pattern("top", 4096) + 3 * zeros,
        (1, 0): pattern("mid", 4096) + base[4096:] + zeros,
        (1, ALONE): pattern("mid", 4096) + 3 * zeros,
        (2, 0): base,
        (2, ALONE): base,
    }
    with Opened(tmp_path / "top.qcow2") as opened:
        for (layer, flags), content in expected.items():
            view = opened.layer_view(layer, flags)
            assert (view.size, view.read(0, view.size)) == (len(content), content), (layer, flags)
        assert opened.layer_view(1).map(0, 4096).layer == 1
        assert opened.layer_view(1).map(4096, 4096).layer == 2
        fails("ARGUMENT", opened.layer_view, 3)
        fails("ARGUMENT", opened.layer_view, ACTIVE)
        fails("ARGUMENT", opened.layer_view, 0, 1)
        fails("ARGUMENT", opened.layer_view, 0, 8)
    with Opened(tmp_path / "top.qcow2", no_chain=True) as opened:
        fails("ARGUMENT", opened.layer_view, 0)


def test_indices_past_the_end(small):
    for index in (0, 1, 1 << 40, ACTIVE - 1):
        fails("ARGUMENT", small.view, index)
        assert not library().qcow2_snapshot_get(small.handle, index)
    for index in (1, 2, ACTIVE):
        fails("ARGUMENT", small.layer, index)
        assert small.extensions(index) == []
    assert library().qcow2_warning(small.handle, 1000) is None
    for bit in (64, 255, 0xFFFFFFFF):
        assert small.feature_name(0, bit) is None
    assert small.feature_name(3, 0) is None


# ---- Finding snapshots -----------------------------------------------------------


@pytest.fixture
def named():
    image = Image(size=4096, cluster_bits=12)
    for snapshot_id, name in (
        (b"1", b"base"),
        (b"2", b"3"),
        (b"3", b"other"),
        (b"4", b"twice"),
        (b"5", b"twice"),
        (b"6", b"6"),
        (b"7", b""),
        (b"", b"no id"),
        (b"8", b"\x1b[2J\n"),
    ):
        image.snapshot(snapshot_id, name)
    with Opened.from_storage(image.build()) as opened:
        yield opened


@pytest.mark.parametrize(
    "key, by, index",
    (
        (b"1", BY_ID_OR_NAME, 0),
        (b"base", BY_ID_OR_NAME, 0),
        (b"base", BY_NAME, 0),
        (b"1", BY_ID, 0),
        (b"3", BY_NAME, 1),
        (b"3", BY_ID, 2),
        (b"5", BY_ID_OR_NAME, 4),
        (b"6", BY_ID_OR_NAME, 5),
        (b"6", BY_NAME, 5),
        (b"no id", BY_ID_OR_NAME, 7),
        (b"\x1b[2J\n", BY_NAME, 8),
    ),
)
def test_find(key, by, index, named):
    assert named.find(key, by) == index


def test_find_an_id_that_is_anothers_name(named):
    message = fails("NOT_FOUND", named.find, b"3").with_help
    assert 'ID 2 "3"' in message and 'ID 3 "other"' in message and "ID 4" not in message
    assert "id=" in message and "name=" in message


def test_find_a_name_that_several_have(named):
    for by in (BY_ID_OR_NAME, BY_NAME):
        message = fails("NOT_FOUND", named.find, b"twice", by).with_help
        assert (
            'ID 4 "twice"' in message
            and 'ID 5 "twice"' in message
            and "base" not in message
            and "id=" in message
        )


@pytest.mark.parametrize(
    "key, by",
    (
        (b"unknown", BY_ID_OR_NAME),
        (b"", BY_ID_OR_NAME),
        (b"", BY_ID),
        (b"", BY_NAME),
        (b"base", BY_ID),
        (b"1", BY_NAME),
        (b"Base", BY_ID_OR_NAME),
        (b"bas", BY_ID_OR_NAME),
        (b"base ", BY_ID_OR_NAME),
        (b"01", BY_ID),
    ),
)
def test_find_nothing_lists_what_there_is(key, by, named):
    message = fails("NOT_FOUND", named.find, key, by).message
    assert (
        'ID 1 "base"' in message
        and 'ID 5 "twice"' in message
        and "\\x1b[2J\\x0a" in message
        and "\x1b" not in message
    )


def test_find_in_an_image_without_snapshots(small):
    assert "no snapshots" in fails("NOT_FOUND", small.find, b"x").message


def test_find_among_very_many():
    image = Image(size=4096, cluster_bits=12)
    for number in range(300):
        image.snapshot(b"%d" % number, b"n" * 60 + b"%d" % number)
    with Opened.from_storage(image.build()) as opened:
        assert opened.find(b"299") == 299
        error = fails("NOT_FOUND", opened.find, b"x\n" * 400)
        assert "more" in error.message and "ID 0 " in error.message and "list" in error.with_help


# ---- Escaping --------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, escaped",
    (
        (b"", b""),
        (b"plain name", b"plain name"),
        ("naïve ☃ 𝄞".encode(), "naïve ☃ 𝄞".encode()),
        (b"a\\b", b"a\\x5cb"),
        (b"\x1b[31m", b"\\x1b[31m"),
        (b"a\nb\tc\rd", b"a\\x0ab\\x09c\\x0dd"),
        (b"\x7f", b"\\x7f"),
        (b"nul\0in", b"nul\\x00in"),
        (b"\xff\xfe", b"\\xff\\xfe"),
        (b"caf\xe9", b"caf\\xe9"),
        (b"\xc3", b"\\xc3"),
        (b"\xc0\xaf", b"\\xc0\\xaf"),
        (b"\xed\xa0\x80", b"\\xed\\xa0\\x80"),
        (b"\xf4\x90\x80\x80", b"\\xf4\\x90\\x80\\x80"),
        (b"\xe2\x82", b"\\xe2\\x82"),
        (b"\xc2\x9b", b"\\xc2\\x9b"),
    ),
)
def test_text_escape(text, escaped):
    assert text_escape(text).lower() == escaped.lower()


@pytest.mark.parametrize("text", (b"", b"x", b"0123456789" * 3, b"\x1b" * 12, "é☃𝄞".encode() * 5))
def test_text_escape_cuts_where_it_does_not_fit(text):
    """Never past the buffer (the binding checks), always valid UTF-8, whole escapes only."""
    whole = text_escape(text)
    for size in range(1, len(whole) + 5):
        cut = text_escape(text, size)
        assert len(cut) < size
        if len(whole) < size:
            assert cut == whole
        elif size > 3:
            assert cut.endswith(b"...") and whole.startswith(cut[:-3])
            cut.decode()
            assert (
                text_escape(cut[:-3].replace(b"\\x1b", b"\x1b")) == cut[:-3]
            ), "an escape was cut in two"


# ---- The caller's storage --------------------------------------------------------


def test_storage_is_closed_once_also_after_a_failure():
    for data in (
        small_image().build(),
        b"",
        b"no image",
        poke(small_image().build(), 36, "I", 0),
        small_image(backing=b"base").build(),
        small_image(crypt_method=1).build(),
    ):
        storage = PythonStorage(data)
        try:
            with Opened.from_storage(storage):
                assert storage.closed == 0
        except QcowError:
            pass
        assert storage.closed == 1 and storage.outside == []


def test_storage_is_closed_when_the_options_are_bad():
    storage = PythonStorage(small_image().build())
    options, handle = OpenOptions(), c_void_p()
    assert (
        library().qcow2_image_open_storage(
            byref(storage.struct), byref(options), byref(handle), None
        )
        == ARGUMENT
    )
    assert storage.closed == 1


def test_storage_without_a_directory_needs_the_callers_word(tmp_path):
    (tmp_path / "base").write_bytes(pattern(9, 6 * 4096))
    data = small_image(backing=b"base", backing_format=b"raw").build()
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        error = fails("DENIED", Opened.from_storage, data)
        assert "backing= search=" in error.with_help
    finally:
        os.chdir(here)
    for options in ({"backing": [tmp_path / "base"]}, {"search": [tmp_path]}):
        with Opened.from_storage(data, **options) as opened:
            assert opened.view().read(2 * 4096, 4096) == pattern(9, 6 * 4096)[2 * 4096 : 3 * 4096]


def count_reads(data):
    """How often the library reads to open an image and to read all of it, and the whole content."""
    calls = []

    def read(offset, length):
        calls.append((offset, length))
        return bytes(data[offset : offset + length])

    with Opened.from_storage(read, len(data)) as opened:
        whole = opened.view().read(0, opened.view().size)
    return len(calls), whole


def test_files_as_they_are_stored(tmp_path):
    """Bytes and holes of the image, of its data file, and of a raw backing file."""
    image = small_image(backing=b"base.raw", backing_format=b"raw")
    image.write(tmp_path / "top.qcow2")
    with open(tmp_path / "base.raw", "wb") as file:
        file.write(pattern(7, 4096))
        file.seek(3 << 20)
        file.write(pattern(8, 4096))
    with Opened(tmp_path / "top.qcow2") as opened:
        for layer, name in enumerate(("top.qcow2", "base.raw")):
            stored = (tmp_path / name).read_bytes()
            assert opened.file_bytes(layer, 0, len(stored)) == stored
            fails("TRUNCATED", opened.file_bytes, layer, len(stored), 1)
            assert sum(length for length, _ in opened.file_runs(layer)) == len(stored)
        assert opened.file_runs(1) == [(4096, True), ((3 << 20) - 4096, False), (4096, True)]
        assert opened.file_runs(0, data_file=True) == []
        fails("ARGUMENT", opened.file_bytes, 0, 0, 1, data_file=True)
        fails("ARGUMENT", opened.file_bytes, 2, 0, 1)
        assert opened.file_runs(2) == []
    with Opened.from_storage(small_image().build()) as opened:
        assert opened.file_bytes(0, 0, 4) == b"QFI\xfb" and len(opened.file_runs(0)) == 1


@pytest.mark.parametrize("os_error", (errno.EIO, errno.ENOMEM, errno.EACCES))
def test_storage_error_at_any_read(os_error):
    """The n-th read fails: an IO error with that errno, or the true bytes; and the next try
    succeeds."""
    image = small_image()
    image.snapshot()
    data = image.build()
    total, expected = count_reads(data)
    failed = 0
    for bad in range(total):
        left = [bad]

        def read(offset, length):
            left[0] -= 1
            return os_error if left[0] == -1 else bytes(data[offset : offset + length])

        try:
            opened = Opened.from_storage(read, len(data))
        except QcowError as error:
            assert (error.code, error.os_errno) == ("IO", os_error), error
            failed += 1
            continue
        with opened:
            view = opened.view()
            try:
                assert view.read(0, view.size) == expected
            except QcowError as error:
                assert (error.code, error.os_errno) == ("IO", os_error), error
                failed += 1
            assert view.read(0, view.size) == expected, "an error was remembered"
    assert failed >= 4


def test_storage_error_names_its_place():
    image = small_image()
    host = image.disk.normal(3, pattern(4, 4096))
    data = image.build()

    def read(offset, length):
        return (
            errno.EIO
            if offset < host + 4096 and offset + length > host
            else bytes(data[offset : offset + length])
        )

    with Opened.from_storage(read, len(data)) as opened:
        view = opened.view()
        error = fails("IO", view.read, 3 * 4096 + 100, 50)
        assert (error.os_errno, error.guest_offset, error.host_offset) == (
            errno.EIO,
            3 * 4096 + 100,
            host + 100,
        )
        assert view.read(0, 3 * 4096) == image.disk.model.read(0, 3 * 4096)
        assert view.read(4 * 4096, 4096) == image.disk.model.read(4 * 4096, 4096)


@pytest.mark.parametrize("cluster_bits", (9, 16, 21))
def test_storage_is_never_read_outside(cluster_bits):
    cluster = 1 << cluster_bits
    image = Image(size=8 * cluster, cluster_bits=cluster_bits)
    image.disk.normal(1, pattern(1, cluster))
    image.disk.compressed(2, squeezable(2, cluster), sectors=(1 << cluster_bits - 8) - 1)
    data = image.build()
    storage = PythonStorage(data)
    with Opened.from_storage(storage) as opened:
        assert opened.view().read(0, 8 * cluster) == image.disk.model.read(0, 8 * cluster)
    assert storage.outside == []


# ---- Threads ---------------------------------------------------------------------


def test_many_threads_read_two_views(rng):
    """Two views of an image with many compressed clusters, and the smallest caches: each read is
    right."""
    bits, clusters = 16, 160
    image = Image(size=clusters << bits, cluster_bits=bits, compression=1)
    for cluster in range(0, clusters, 2):
        image.disk.compressed(cluster, squeezable(cluster, 1 << bits))
    image.disk.normal(1, pattern(1, 1 << bits))
    old = image.snapshot()
    for cluster in range(0, clusters, 3):
        image.disk.compressed(cluster, squeezable(1000 + cluster, 1 << bits))
    contents = [image.disk.model.read(0, image.disk.size), old.model.read(0, old.size)]
    problems, seeds = [], [rng.random() for _ in range(8)]
    with Opened.from_storage(image.build(), cache_bytes=1) as opened:
        views = [opened.view(), opened.view(0)]

        def work(seed):
            choice = random.Random(seed)
            try:
                for _ in range(250):
                    which = choice.randrange(2)
                    length = int(2 ** choice.uniform(0, 18))
                    start = choice.randrange(len(contents[which]) - length)
                    if views[which].read(start, length) != contents[which][start : start + length]:
                        problems.append((which, start, length))
                    views[which].map(start, length)
            except Exception as error:  # a thread's failure would be lost
                problems.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in seeds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


def test_peer_all_but_us_inflate_a_cluster_for_each_small_read():
    """TSK reads small blocks: a decoded cluster is kept, and so are table slices."""
    image = Image(size=4 << 20, cluster_bits=16)
    for cluster in range(64):
        image.disk.compressed(cluster, bytes([cluster]) * 65536)
    data, reads = bytes(image.build()), []

    def read(offset, length):
        reads.append(offset)
        return data[offset : offset + length]

    with Opened.from_storage(read, len(data)) as opened, opened.view() as view:
        del reads[:]
        for at in range(0, 4 << 20, 512):
            assert view.read(at, 512) == bytes([at >> 16]) * 512
        assert len(reads) <= 64 + 4  # one for each stream, and the tables


# ---- libtsk's images ----------------------------------------------------------------


def test_an_image_is_known_until_it_is_closed(tmp_path):
    """Also while others are read by turns, and whichever was used last."""
    backend, images = door_ways.tsk_library(), []
    for number in (1, 2):
        image = Image(size=4096, cluster_bits=12)
        image.disk.normal(0, pattern(number, 4096))
        image.write(tmp_path / f"{number}.qcow2")
        name = core.encode_all([str(tmp_path / f"{number}.qcow2")])
        images.append(backend.tsk_qcow2_open(1, name, 0))
    first, second = images
    for number, image in ((1, first), (2, second), (2, second), (1, first)):
        buffer = ctypes.create_string_buffer(4096)
        assert backend.tsk_qcow2_owns(image) == 1
        assert backend.tsk_qcow2_read(image, 0, buffer, 4096) == 4096
        assert buffer.raw == pattern(number, 4096)
    backend.tsk_img_close(first)
    assert [backend.tsk_qcow2_owns(image) for image in images] == [0, 1]
    backend.tsk_img_close(second)
    assert [backend.tsk_qcow2_owns(image) for image in images] == [0, 0]
