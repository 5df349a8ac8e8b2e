# SPDX-License-Identifier: MIT
"""The gate: which files an image may make us open ("Evidence is hostile" in the design). A file
that is missing or refused is an error that says what to type, never zeros.
"""
import os
from functools import partial
from pathlib import Path

import pytest

from lib import images
from lib.builder import Image, pattern
from lib.core import Image as Opened
from lib.core import QcowError
from lib.expect import refused
from lib.project import run_python

pytestmark = pytest.mark.usefixtures("core")
SIZE = 8192
BASE = pattern(1, SIZE)


# ---- Making chains ---------------------------------------------------------------


# An image of 8 KiB whose first cluster is its own, and whose rest is its backing file's.
overlay = partial(images.overlay, size=SIZE, cluster_bits=9, first=b"\xcc" * 512)


def raw(path, data=BASE):
    Path(path).write_bytes(data)
    return path


def rest(path, **options):
    """All of the disk but the overlay's own first cluster."""
    with Opened(path, **options) as opened:
        return opened.view().read(512, SIZE - 512)


def assert_base(path, **options):
    assert rest(path, **options) == BASE[512:]


def refused_with_its_header(path, codes, *words, **options):
    """The image does not open, as refused() has it. Its header can still be read."""
    error = refused(path, codes, *words, **options)
    with Opened(path, no_chain=True) as opened:
        assert opened.header.size == SIZE
    return error


# ---- What opens automatically --------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    (
        "base.raw",
        "./base.raw",
        ".//./base.raw",
        "sub/base.raw",
        "sub//deeper/base.raw",
        "sub/a:b",
        "..base",
        "...",
        "b..",
        " ",
        "none",
        "naïve ☃",
    ),
)
def test_file_below_the_images_directory(name, tmp_path):
    target = tmp_path / name
    target.parent.mkdir(parents=True, exist_ok=True)
    raw(target)
    assert_base(overlay(tmp_path / "top.qcow2", name))


@pytest.mark.parametrize("backing_format", (None, b"raw", b"qcow2"))
def test_declared_and_probed_formats(backing_format, tmp_path):
    base = Image(size=SIZE, cluster_bits=9)
    base.disk.normal(3, pattern(2, 512))
    base.write(tmp_path / "base.qcow2")
    path = overlay(tmp_path / "top.qcow2", "base.qcow2", backing_format)
    expected = (
        (tmp_path / "base.qcow2").read_bytes().ljust(SIZE, b"\0")[:SIZE]
        if backing_format == b"raw"
        else base.disk.model.read(0, SIZE)
    )
    assert rest(path) == expected[512:]


def test_chain_through_subdirectories(tmp_path):
    """Each image's references start from its own directory."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    raw(tmp_path / "a" / "b" / "base.raw")
    overlay(tmp_path / "a" / "middle.qcow2", "b/base.raw")
    path = overlay(tmp_path / "top.qcow2", "a/middle.qcow2", b"qcow2")
    assert rest(path) == BASE[512:]
    with Opened(path) as opened:
        assert [layer.path for layer in opened.layers] == [
            os.fsencode(tmp_path / name) for name in ("top.qcow2", "a/middle.qcow2", "a/b/base.raw")
        ]


def test_backing_image_may_not_leave_its_own_directory(tmp_path):
    """`../base.raw` would be inside the topmost image's directory."""
    (tmp_path / "sub").mkdir()
    raw(tmp_path / "base.raw")
    overlay(tmp_path / "sub" / "middle.qcow2", "../base.raw")
    refused_with_its_header(
        overlay(tmp_path / "top.qcow2", "sub/middle.qcow2", b"qcow2"),
        "DENIED",
        "../base.raw",
        "backing=",
    )


def test_image_given_through_a_symbolic_link(tmp_path):
    """References start where the image really lies."""
    (tmp_path / "evidence").mkdir()
    (tmp_path / "case").mkdir()
    raw(tmp_path / "evidence" / "base.raw")
    raw(tmp_path / "case" / "base.raw", b"\xee" * SIZE)
    path = overlay(tmp_path / "evidence" / "top.qcow2", "base.raw")
    link = tmp_path / "case" / "link.qcow2"
    link.symlink_to(path)
    assert_base(link)
    (tmp_path / "linked").symlink_to(tmp_path / "evidence")
    assert_base(tmp_path / "linked" / "top.qcow2")


def test_relative_image_path(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    raw(tmp_path / "sub" / "base.raw")
    raw(tmp_path / "base.raw", b"\xee" * SIZE)
    overlay(tmp_path / "sub" / "top.qcow2", "base.raw")
    monkeypatch.chdir(tmp_path)
    assert_base("sub/top.qcow2")
    monkeypatch.chdir(tmp_path / "sub")
    assert_base("top.qcow2")


# ---- What does not ---------------------------------------------------------------


REFUSED = (
    "/etc/passwd",
    "/base.raw",
    "//base.raw",
    "{outside}/base.raw",
    "{inside}/base.raw",
    "../{outside_name}/base.raw",
    "sub/../base.raw",
    "..",
    ".",
    "sub",
    "sub/",
    "base.raw/",
    "link.raw",
    "link-inside.raw",
    "linkdir/base.raw",
    "linkdir-inside/base.raw",
    "dangling",
    'json:{{"driver":"file","filename":"base.raw"}}',
    "nbd://localhost/x",
    "file:base.raw",
    "a:b.raw",
    "fat:sub",
    "raw:base.raw",
    "host_device:/dev/zero",
    "/dev/zero",
    "/dev/stdin",
    "missing.raw",
    "sub/missing.raw",
    "missing/base.raw",
    "base.raw/x",
    "fifo",
    "socket",
    "\x1b[2J",
)


def hostile_directory(tmp_path):
    """Everything that REFUSED names, and base.raw, which may be opened. Returns the image's
    directory."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for directory in (inside / "sub", outside):
        directory.mkdir(parents=True)
        raw(directory / "base.raw")
    raw(inside / "base.raw")
    for name in ("a:b.raw", "file:base.raw"):
        raw(inside / name)
    os.mkfifo(inside / "fifo")
    os.mknod(inside / "socket", 0o140600)
    for link, target in (
        ("link.raw", outside / "base.raw"),
        ("link-inside.raw", "base.raw"),
        ("linkdir", outside),
        ("linkdir-inside", "sub"),
        ("dangling", "nowhere"),
    ):
        (inside / link).symlink_to(target)
    return inside


def hostile_name(name, inside):
    return name.format(inside=inside, outside=inside.parent / "outside", outside_name="outside")


# A FIFO or device that is opened would block for ever: the attempt is made in a process of its own.
ATTEMPT = """
import json, sys
from lib.core import Image, QcowError
for path in sys.argv[1:]:
    try:
        with Image(path) as image:
            image.view().read(512, 512)
        print(json.dumps(["opened", ""]))
    except QcowError as error:
        print(json.dumps([error.code, error.with_help]), flush=True)
"""


def attempt(*paths):
    """Open images and read them in another process; the code and message of each."""
    return run_python(ATTEMPT, *paths)


@pytest.mark.parametrize("role", ("backing", "data-file"))
@pytest.mark.parametrize("backing_format", (b"raw", None, b"qcow2"))
def test_refused_references(role, backing_format, tmp_path):
    """Each is refused by name, with the option that would settle it."""
    inside = hostile_directory(tmp_path)
    paths, names = [], [hostile_name(name, inside) for name in REFUSED]
    for index, name in enumerate(names):
        if role == "backing":
            paths.append(overlay(inside / f"image-{index}", name, backing_format))
        else:
            image = Image(size=SIZE, cluster_bits=9, data_file=os.fsencode(name))
            image.disk.normal(1, BASE[:512])
            paths.append(inside / f"image-{index}")
            paths[-1].write_bytes(image.build())
    answers = attempt(*paths)
    assert len(answers) == len(names)
    for name, (code, message) in zip(names, answers):
        shown = name.replace("\x1b", "\\x1b").replace('"', "\\x22")
        assert code == "DENIED", (name, code, message)
        assert shown in message and f"{role}=" in message, message
        searchable = (
            ":" not in name.split("/")[0] or '"filename":"base.raw"' in name
        ) and name.split("/")[-1] not in ("", ".", "..")
        assert ("search=" in message) == searchable, message
        assert "\x1b" not in message


def test_refused_references_mention_a_file_beside_the_image(tmp_path):
    inside = hostile_directory(tmp_path)
    for name, beside in (
        ("{outside}/base.raw", True),
        ("../x/base.raw", True),
        ("missing/base.raw", True),
        ("/somewhere/else.raw", False),
        ("missing.raw", False),
        ("/etc/fifo", False),
    ):
        error = refused_with_its_header(
            overlay(inside / "top.qcow2", hostile_name(name, inside)), "DENIED", "backing="
        )
        assert ("beside" in error.message) == beside, error.message


def test_a_missing_data_file_names_its_option(tmp_path):
    image = Image(size=SIZE, cluster_bits=9, data_file=b"gone.data")
    image.disk.normal(0, BASE[:512])
    path = image.write(tmp_path / "top.qcow2")
    os.unlink(tmp_path / "gone.data")
    refused_with_its_header(path, "DENIED", "gone.data", "data-file=")


def test_an_unreadable_directory_is_no_zeros(tmp_path):
    """A name too long for the file system, and a path through a file."""
    for name in ("n" * 300, "top.qcow2/base"):
        refused_with_its_header(
            overlay(tmp_path / "top.qcow2", name, cluster_bits=12), "DENIED IO", "backing="
        )


# ---- What the user names -------------------------------------------------------------


def test_backing_path_overrides_every_reference(tmp_path):
    inside = hostile_directory(tmp_path)
    (tmp_path / "to-base").symlink_to(inside / "base.raw")
    for name in REFUSED:
        path = overlay(inside / "top.qcow2", hostile_name(name, inside))
        assert_base(path, backing=[inside / "base.raw"])
    for given in (inside / "sub" / ".." / "base.raw", tmp_path / "to-base", inside / "link.raw"):
        assert_base(path, backing=[given])


def test_backing_path_that_cannot_be_opened(tmp_path):
    path = overlay(tmp_path / "top.qcow2", "base.raw")
    raw(tmp_path / "base.raw")
    error = refused_with_its_header(path, "IO", "nowhere.raw", backing=[tmp_path / "nowhere.raw"])
    assert error.os_errno != 0
    os.mkfifo(tmp_path / "fifo")
    for given in (tmp_path, tmp_path / "fifo", "/dev/zero"):
        refused_with_its_header(path, "ARGUMENT IO", backing=[given])


def test_backing_none(tmp_path):
    for name in ("/etc/passwd", "missing.raw", "base.raw"):
        raw(tmp_path / "base.raw")
        path = overlay(tmp_path / "top.qcow2", name)
        assert rest(path, backing=["none"]) == bytes(SIZE - 512)
        with Opened(path, backing=["none"]) as opened:
            assert len(opened.layers) == 1
            assert [extent.kind for extent in opened.view().map_all()] == ["normal", "unallocated"]


def test_backing_none_below_a_given_layer(tmp_path):
    middle = Image(size=SIZE, cluster_bits=9, backing=b"/etc/passwd", backing_format=b"raw")
    middle.disk.normal(1, BASE[:512])
    middle.write(tmp_path / "middle.qcow2")
    path = overlay(tmp_path / "top.qcow2", "middle.qcow2", b"qcow2")
    refused_with_its_header(path, "DENIED", "/etc/passwd")
    assert rest(path, backing=[tmp_path / "middle.qcow2", "none"]) == BASE[:512] + bytes(
        SIZE - 1024
    )


def test_a_file_named_none_can_be_given_by_another_path(tmp_path):
    path = overlay(tmp_path / "top.qcow2", "elsewhere.raw")
    raw(tmp_path / "none")
    assert_base(path, backing=[tmp_path / "none"])


def test_deeper_layers_follow_their_own_references(tmp_path):
    (tmp_path / "away").mkdir()
    raw(tmp_path / "away" / "base.raw")
    overlay(tmp_path / "away" / "middle.qcow2", "base.raw")
    path = overlay(tmp_path / "top.qcow2", "/nowhere/middle.qcow2", b"qcow2")
    assert_base(path, backing=[tmp_path / "away" / "middle.qcow2"])


def test_backing_paths_are_taken_in_order(tmp_path):
    overlay(tmp_path / "middle.qcow2", "/nowhere/base.raw")
    raw(tmp_path / "base.raw")
    path = overlay(tmp_path / "top.qcow2", "/nowhere/middle.qcow2", b"qcow2")
    assert_base(path, backing=[tmp_path / "middle.qcow2", tmp_path / "base.raw"])
    refused_with_its_header(
        path, "CORRUPT ARGUMENT", backing=[tmp_path / "base.raw", tmp_path / "middle.qcow2"]
    )


def test_more_backing_paths_than_layers(tmp_path):
    raw(tmp_path / "base.raw")
    path = overlay(tmp_path / "top.qcow2", "base.raw")
    refused_with_its_header(
        path, "ARGUMENT", "raw", backing=[tmp_path / "base.raw", tmp_path / "base.raw"]
    )
    refused_with_its_header(path, "ARGUMENT", backing=["none", tmp_path / "base.raw"])
    alone = overlay(tmp_path / "alone.qcow2", None, None)
    refused_with_its_header(alone, "ARGUMENT", "alone.qcow2", backing=[tmp_path / "base.raw"])


def test_search_directory(tmp_path):
    """By base name, before the place the image gives, in order; also for data files."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    raw(tmp_path / "two" / "base.raw")
    search = [tmp_path / "one", tmp_path / "two"]
    for name in ("/gone/base.raw", "../base.raw", "sub/base.raw", "base.raw"):
        assert_base(overlay(tmp_path / "top.qcow2", name), search=search)
    raw(tmp_path / "base.raw", b"\xee" * SIZE)
    assert_base(overlay(tmp_path / "top.qcow2", "base.raw"), search=search)
    raw(tmp_path / "one" / "base.raw", b"\xdd" * SIZE)
    assert rest(overlay(tmp_path / "top.qcow2", "base.raw"), search=search) == b"\xdd" * (
        SIZE - 512
    )


def test_search_directory_without_the_file(tmp_path):
    (tmp_path / "empty").mkdir()
    raw(tmp_path / "base.raw")
    assert_base(overlay(tmp_path / "top.qcow2", "base.raw"), search=[tmp_path / "empty"])
    refused_with_its_header(
        overlay(tmp_path / "top.qcow2", "/gone/base.raw"),
        "DENIED",
        "/gone/base.raw",
        "backing= search=",
        search=[tmp_path / "empty"],
    )


def test_search_directory_that_is_gone(tmp_path):
    """An error only if the file is not found, else a warning."""
    raw(tmp_path / "base.raw")
    nowhere = tmp_path / "nowhere"
    refused_with_its_header(
        overlay(tmp_path / "lost.qcow2", "gone.raw"), "IO", "gone.raw", "nowhere", search=[nowhere]
    )
    refused_with_its_header(
        overlay(tmp_path / "lost.qcow2", "/gone/gone.raw"),
        "IO",
        "gone.raw",
        "nowhere",
        search=[tmp_path, nowhere],
    )
    path = overlay(tmp_path / "top.qcow2", "base.raw")
    for search in ([nowhere], [nowhere, tmp_path]):
        assert_base(path, search=search)
        with Opened(path, search=search) as image:
            (warning,) = image.warnings
            assert "nowhere" in warning and "base.raw" in warning


def test_search_that_finds_another_file_than_the_images_own(tmp_path):
    """A warning, unless both are the same file, or nothing that may be opened lies where the image
    says."""
    (tmp_path / "search").mkdir()
    raw(tmp_path / "base.raw")
    path = overlay(tmp_path / "top.qcow2", "base.raw")
    os.link(tmp_path / "base.raw", tmp_path / "search" / "base.raw")
    with Opened(path, search=[tmp_path / "search"]) as image:
        assert image.warnings == []
    os.unlink(tmp_path / "search" / "base.raw")
    raw(tmp_path / "search" / "base.raw")
    with Opened(path, search=[tmp_path / "search"]) as image:
        (warning,) = image.warnings
        assert "another file lies where the image says" in warning and "search/base.raw" in warning
    (tmp_path / "link").symlink_to(".")
    for name in ("/gone/base.raw", "../base.raw", "gone/base.raw", "link/base.raw"):
        with Opened(overlay(tmp_path / "top.qcow2", name), search=[tmp_path / "search"]) as image:
            assert image.warnings == []


def test_search_passes_over_the_images_of_the_chain(tmp_path):
    """Images of the same name in several directories, as snapshots of a virtual machine's directory
    have them."""
    for folder in ("one", "two", "three"):
        (tmp_path / folder).mkdir()
    overlay(tmp_path / "one" / "disk.img", "../two/disk.img", b"qcow2")
    overlay(tmp_path / "two" / "disk.img", "../three/disk.img")
    raw(tmp_path / "three" / "disk.img")
    directories = [tmp_path / folder for folder in ("one", "two", "three")]
    assert_base(tmp_path / "one" / "disk.img", search=directories)
    refused_with_its_header(
        tmp_path / "one" / "disk.img", "DENIED", "../three/disk.img", search=directories[:2]
    )


@pytest.mark.parametrize(
    "name",
    ("..", "sub/..", "sub/.", "x/", "/", "json:base.raw", "nbd:base.raw", "nbd://h/base.raw"),
)
def test_search_directory_and_names_that_are_no_files(name, tmp_path):
    (tmp_path / "search" / "sub").mkdir(parents=True)
    raw(tmp_path / "search" / "base.raw")
    refused_with_its_header(
        overlay(tmp_path / "top.qcow2", name), "DENIED", search=[tmp_path / "search"]
    )


def test_search_directory_in_deeper_layers(tmp_path):
    (tmp_path / "search").mkdir()
    overlay(tmp_path / "search" / "middle.qcow2", "/gone/base.raw")
    raw(tmp_path / "search" / "base.raw")
    path = overlay(tmp_path / "top.qcow2", "/gone/middle.qcow2", b"qcow2")
    assert_base(path, search=[tmp_path / "search"])


# ---- Formats ---------------------------------------------------------------------


def test_probed_image_needs_the_callers_word_for_its_own_reference(tmp_path):
    """The top image does not declare a format; what is found by looking may not lead on."""
    raw(tmp_path / "base.raw")
    overlay(tmp_path / "middle.qcow2", "base.raw")
    path = overlay(tmp_path / "top.qcow2", "middle.qcow2", None)
    refused_with_its_header(path, "DENIED", "base.raw", "backing=")
    middle, base = tmp_path / "middle.qcow2", tmp_path / "base.raw"
    assert_base(path, backing=[middle, base])
    assert rest(path, backing=[middle, "none"]) == bytes(SIZE - 512)
    assert_base(path, search=[tmp_path])


def test_probed_image_given_by_the_caller_still_may_not_lead_on(tmp_path):
    """The caller named the file, but nobody has said that it is no raw disk whose guest wrote a
    header."""
    raw(tmp_path / "base.raw")
    overlay(tmp_path / "middle.qcow2", "base.raw")
    path = overlay(tmp_path / "top.qcow2", "middle.qcow2", None)
    refused_with_its_header(
        path, "DENIED", "base.raw", "backing=", backing=[tmp_path / "middle.qcow2"]
    )


def test_probed_image_with_a_data_file_is_refused(tmp_path):
    image = Image(size=SIZE, cluster_bits=9, data_file=b"secret.data")
    image.disk.normal(1, BASE[:512])
    image.write(tmp_path / "middle.qcow2")
    refused_with_its_header(
        overlay(tmp_path / "top.qcow2", "middle.qcow2", None), "DENIED", "secret.data"
    )
    assert rest(overlay(tmp_path / "top.qcow2", "middle.qcow2", b"qcow2"))[:512] == BASE[:512]


def test_raw_backing_file_whose_guest_wrote_a_qcow2_header(tmp_path):
    """Declared raw, it stays raw, and what the header refers to is not opened."""
    evil = overlay(tmp_path / "base.raw", "/etc/passwd").read_bytes().ljust(SIZE, b"\0")
    path = overlay(tmp_path / "top.qcow2", "base.raw", b"raw")
    assert rest(path) == evil[512:SIZE]
    with Opened(path) as opened:
        assert opened.layer(1).is_raw == 1 and len(opened.layers) == 2
    backing = [tmp_path / "base.raw"]
    refused_with_its_header(path, "ARGUMENT", "starts as qcow2 does", "format=raw", backing=backing)
    assert rest(path, backing=backing, formats=[b"raw"]) == evil[512:SIZE]


@pytest.mark.parametrize("data", (b"", b"QFI", BASE), ids=("empty", "short", "raw"))
def test_declared_qcow2_that_is_not(data, tmp_path):
    raw(tmp_path / "base.qcow2", data)
    refused_with_its_header(
        overlay(tmp_path / "top.qcow2", "base.qcow2", b"qcow2"),
        "CORRUPT NOT_QCOW2",
        "qcow2",
        "base.qcow2",
    )


def test_broken_qcow2_backing_file_is_no_raw_file(tmp_path):
    """Probed or declared: a damaged qcow2 image is an error."""
    data = bytearray(overlay(tmp_path / "base.qcow2", None, None).read_bytes())
    data[36:40] = bytes(4)  # l1_size
    raw(tmp_path / "base.qcow2", data)
    for backing_format in (None, b"qcow2"):
        refused_with_its_header(
            overlay(tmp_path / "top.qcow2", "base.qcow2", backing_format), "CORRUPT", "base.qcow2"
        )


def test_encrypted_backing_file_is_refused(tmp_path):
    overlay(tmp_path / "base.qcow2", None, None, crypt_method=1)
    refused_with_its_header(
        overlay(tmp_path / "top.qcow2", "base.qcow2", b"qcow2"), "UNSUPPORTED KEY", "base.qcow2"
    )


# ---- Loops and depth -------------------------------------------------------------


def loops(path, **options):
    return refused_with_its_header(path, "CORRUPT DENIED UNSUPPORTED", "loop", **options)


@pytest.mark.parametrize("backing_format", (b"qcow2", b"raw", None))
def test_image_that_backs_itself(backing_format, tmp_path):
    loops(overlay(tmp_path / "top.qcow2", "top.qcow2", backing_format))
    loops(overlay(tmp_path / "top.qcow2", "./top.qcow2", backing_format))


def test_image_that_backs_itself_under_another_name(tmp_path):
    path = overlay(tmp_path / "top.qcow2", "other.qcow2", b"qcow2")
    os.link(path, tmp_path / "other.qcow2")
    loops(path)
    (tmp_path / "link.qcow2").symlink_to(path)
    loops(path, backing=[tmp_path / "link.qcow2"])
    loops(tmp_path / "link.qcow2")


def test_longer_loop(tmp_path):
    overlay(tmp_path / "a.qcow2", "b.qcow2", b"qcow2")
    overlay(tmp_path / "b.qcow2", "c.qcow2", b"qcow2")
    overlay(tmp_path / "c.qcow2", "a.qcow2", b"qcow2")
    for name in "abc":
        loops(tmp_path / f"{name}.qcow2")
    overlay(tmp_path / "top.qcow2", "a.qcow2", b"qcow2")
    loops(tmp_path / "top.qcow2")


def chain(directory, depth):
    """`depth` overlays over a raw file; returns the topmost. Each file is its number."""
    raw(directory / "0")
    for number in range(1, depth + 1):
        overlay(directory / str(number), str(number - 1), b"qcow2" if number > 1 else b"raw")
    return directory / str(depth)


def test_deep_chain(tmp_path):
    path = chain(tmp_path, 40)
    assert_base(path)
    with Opened(path) as opened:
        assert len(opened.layers) == 41
        assert opened.view().map(600, 10).layer == 40


def test_chain_that_is_too_deep(tmp_path):
    path = chain(tmp_path, 300)
    refused_with_its_header(path, "UNSUPPORTED CORRUPT DENIED", "chain")
    refused_with_its_header(tmp_path / "257", "UNSUPPORTED CORRUPT DENIED", "chain")
    assert_base(tmp_path / "200")


# ---- Data files ------------------------------------------------------------------


def data_file_image(path, name):
    image = Image(size=SIZE, cluster_bits=9, data_file=os.fsencode(name))
    for cluster in range(16):
        image.disk.normal(cluster, BASE[cluster * 512 :][:512])
    Path(path).write_bytes(image.build())
    return Path(path)


def test_data_file_given_by_the_caller(tmp_path):
    (tmp_path / "away").mkdir()
    raw(tmp_path / "away" / "guest.data")
    for name in ("/gone/guest.data", "guest.data", "json:{}", ""):
        path = data_file_image(tmp_path / "top.qcow2", name)
        with Opened(path, data_file=tmp_path / "away" / "guest.data") as opened:
            assert opened.view().read(0, SIZE) == BASE
        if name.endswith("guest.data"):
            assert_base(path, search=[tmp_path / "away"])


def test_data_file_that_is_the_image_itself(tmp_path):
    """By its name, by a hard link, or named by the caller."""
    path = data_file_image(tmp_path / "top.qcow2", "top.qcow2")
    refused_with_its_header(path, "CORRUPT DENIED ARGUMENT", "data file")
    data_file_image(path, "other.data")
    os.link(path, tmp_path / "other.data")
    refused_with_its_header(path, "CORRUPT DENIED ARGUMENT", "data file")
    refused_with_its_header(path, "CORRUPT DENIED ARGUMENT", "data file", data_file=path)


def test_data_file_that_is_an_image_of_the_chain(tmp_path):
    """A backing image's data file may not be the image above it."""
    data_file_image(tmp_path / "base.qcow2", "top.qcow2")
    refused_with_its_header(
        overlay(tmp_path / "top.qcow2", "base.qcow2", b"qcow2"), "CORRUPT DENIED", "data file"
    )


def test_data_file_for_an_image_that_has_none(tmp_path):
    raw(tmp_path / "some.data")
    path = overlay(tmp_path / "top.qcow2", None, None)
    refused_with_its_header(path, "ARGUMENT", "data file", data_file=tmp_path / "some.data")


def test_data_file_of_a_backing_image(tmp_path):
    (tmp_path / "sub").mkdir()
    raw(tmp_path / "sub" / "guest.data")
    data_file_image(tmp_path / "sub" / "base.qcow2", "guest.data")
    assert_base(overlay(tmp_path / "top.qcow2", "sub/base.qcow2", b"qcow2"))


# ---- What other readers get wrong ------------------------------------------------


def test_peer_dissect_absolute_backing_file(tmp_path):
    refused_with_its_header(
        overlay(tmp_path / "top.qcow2", "/etc/passwd"), "DENIED", "/etc/passwd", "backing="
    )


def test_peer_dissect_raw_backing_file_with_the_magic(tmp_path):
    data = b"QFI\xfb\0\0\0\3" + BASE[8:]
    raw(tmp_path / "base.raw", data)
    assert rest(overlay(tmp_path / "top.qcow2", "base.raw", b"raw")) == data[512:]


def test_peer_dissect_and_qemu_self_backing(tmp_path):
    loops(overlay(tmp_path / "top.qcow2", "top.qcow2", b"qcow2"))


def test_peer_libqcow_overlay_opens_and_reads(tmp_path):
    raw(tmp_path / "base.raw", BASE[:5000])
    assert rest(overlay(tmp_path / "top.qcow2", "base.raw")) == BASE[512:5000] + bytes(SIZE - 5000)


def test_peer_xmount_a_missing_backing_file_is_no_zeros(tmp_path):
    refused_with_its_header(
        overlay(tmp_path / "top.qcow2", "base.raw"), "DENIED", "base.raw", "no such file"
    )


# ---- Nothing is written, nothing changes -----------------------------------------


def test_evidence_is_not_touched(tmp_path):
    """It can be read from a directory without write permission, and stays as it is, times
    included."""
    raw(tmp_path / "base.raw")
    path = overlay(tmp_path / "top.qcow2", "base.raw")
    for name in ("base.raw", "top.qcow2"):
        os.chmod(tmp_path / name, 0o400)
        os.utime(tmp_path / name, ns=(1_000_000_000, 2_000_000_000))
    before = {entry.name: entry.stat() for entry in os.scandir(tmp_path)}
    os.chmod(tmp_path, 0o500)
    try:
        assert_base(path)
    finally:
        os.chmod(tmp_path, 0o700)
    after = {entry.name: entry.stat() for entry in os.scandir(tmp_path)}
    assert before.keys() == after.keys()
    for name, status in before.items():
        assert (status.st_mtime_ns, status.st_ctime_ns, status.st_size) == (
            after[name].st_mtime_ns,
            after[name].st_ctime_ns,
            after[name].st_size,
        )
        assert status.st_atime_ns == after[name].st_atime_ns, "the access time of evidence changed"


def test_no_descriptors_are_left_open(tmp_path):
    raw(tmp_path / "base.raw")
    good = overlay(tmp_path / "top.qcow2", "base.raw")
    bad = [
        overlay(tmp_path / f"bad-{index}", name)
        for index, name in enumerate(("/etc/passwd", "missing/x", "x", "bad-3"))
    ]
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(3):
        assert_base(good)
        for path in bad:
            with pytest.raises(QcowError):
                Opened(path)
    assert set(os.listdir("/proc/self/fd")) == before


def test_no_descriptors_are_left_to_open_with(tmp_path):
    """No other name would help, so the error does not ask for one."""
    raw(tmp_path / "base.raw")
    for index in range(30):
        below = ("base.raw", b"raw") if index == 0 else (f"{index - 1}.qcow2", b"qcow2")
        overlay(tmp_path / f"{index}.qcow2", *below)
    few_descriptors = ("sh", "-c", 'ulimit -n 24; exec "$@"', "sh")
    ((code, message),) = run_python(ATTEMPT, tmp_path / "29.qcow2", prefix=few_descriptors)
    assert (
        code == "IO"
        and "Too many open files" in message
        and "ulimit -n" in message
        and "backing=" not in message
    )
