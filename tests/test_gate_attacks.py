# SPDX-License-Identifier: MIT
"""The gate, attacked: names that are hard to see, links at every level, files that change while
they are opened, and what a real tool opens of hostile images. test_gate.py has the rules
themselves.
"""
import ctypes
import json
import multiprocessing
import os
import re
import subprocess
import unicodedata
from functools import partial
from pathlib import Path

import pytest

from lib import images, tools
from lib import inside as disks
from lib.builder import Image, pattern
from lib.core import Image as Opened
from lib.core import Named, QcowError
from lib.expect import refused
from lib.project import run_python

pytestmark = pytest.mark.usefixtures("core")
SIZE = 8192
BASE, SECRET = pattern(1, SIZE), pattern(2, SIZE)
RENAME_EXCHANGE = 2


# An image that is all its backing file's.
overlay = partial(images.overlay, size=SIZE, cluster_bits=9)


def data_file_image(path, name, backing=None):
    """An image whose only cluster is in its data file."""
    image = Image(
        size=SIZE,
        cluster_bits=9,
        data_file=os.fsencode(name),
        backing=backing,
        backing_format=backing and b"qcow2",
    )
    image.disk.normal(0, BASE[:512])
    path.write_bytes(image.build())
    return path


def content(path, **options):
    with Opened(path, **options) as opened:
        return opened.view().read(0, SIZE)


# ---- Names that are hard to see --------------------------------------------------

ODD_NAMES = (
    "base.raw ",
    " base.raw",
    "base.raw\n",
    "base\traw",
    "base\x1b[2Jraw",
    "base\x7fraw",
    "base\u202eraw.exe",
    "base\u200b.raw",
    "base\u00ad.raw",
    "base\u00a0.raw",
    "base\u2003.raw",
    "base\u3000.raw",
    "base\ufe0f.raw",
    "base\U000e0041.raw",
    "base\u115f.raw",
    "base.raw\\",
    'base".raw',
    "-base.raw",
    "base%s%n.raw",
    "base\u0301.raw",
    "bàse.raw",
    "BASE.RAW",
    "$(base.raw)",
    "base.raw*",
)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_name_means_the_file_of_exactly_that_name(name, tmp_path):
    """Never the one that looks like it; and what is shown of it shows what is in it."""
    (tmp_path / "base.raw").write_bytes(SECRET)
    path = overlay(tmp_path / "top.qcow2", name)
    message = refused(path, "DENIED", "no such file").message
    shown = message.split('"')[1]
    assert shown.isprintable() and shown.strip() == shown and shown != "base.raw"
    assert not any(unicodedata.category(letter) in ("Cc", "Cf", "Zl", "Zp") for letter in message)
    (tmp_path / name).write_bytes(BASE)
    assert content(path) == BASE


def test_bytes_that_are_no_utf8(tmp_path):
    name = b"base\xff\xfe\xc0\xaf.raw"
    path = overlay(tmp_path / "top.qcow2", os.fsdecode(name))
    refused(path, "DENIED", "base\\xff\\xfe\\xc0\\xaf.raw")
    Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_bytes(BASE)
    assert content(path) == BASE


@pytest.mark.parametrize("tail", (b"\0", b"\0/../../etc/passwd", b"\0.qcow2"))
def test_a_name_ends_at_a_nul(tail, tmp_path):
    """As for QEMU. What is shown of the header shows the rest."""
    (tmp_path / "base.raw").write_bytes(BASE)
    path = overlay(tmp_path / "top.qcow2", b"base.raw" + tail)
    assert content(path) == BASE
    with Opened(path) as opened:
        assert opened.header.backing_file == b"base.raw" + tail
        assert opened.layers[1].path == os.fsencode(tmp_path / "base.raw")
    refused(overlay(tmp_path / "other.qcow2", b"../base.raw" + tail), "DENIED", "..")


def test_a_name_cannot_end_the_quotes_around_it(tmp_path):
    """It would go on as if we said it."""
    name = 'x". To have it read, add ",backing=/etc/shadow" to the image name. "'
    message = refused(overlay(tmp_path / "top.qcow2", name), "DENIED", "\\x22").message
    assert '",backing=/etc' not in message
    refused(overlay(tmp_path / 'a" b.qcow2', "missing.raw"), "DENIED", "a\\x22 b.qcow2")


# ---- Links and other files at every level ----------------------------------------


@pytest.mark.parametrize("level", range(5))
@pytest.mark.parametrize("target", ("outside", "inside", "absolute"))
def test_symbolic_link_at_every_level(level, target, tmp_path):
    """Also one that stays inside the image's directory."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    parts = ("a", "b", "c", "d", "base.raw")
    for root, data in ((inside, BASE), (outside, SECRET)):
        root.joinpath(*parts[:-1]).mkdir(parents=True)
        root.joinpath(*parts).write_bytes(data)
    path = overlay(inside / "top.qcow2", "/".join(parts))
    assert content(path) == BASE
    link = inside.joinpath(*parts[: level + 1])
    real = link.with_name("moved")
    link.rename(real)
    link.symlink_to(
        {
            "outside": os.path.relpath(outside.joinpath(*parts[: level + 1]), link.parent),
            "inside": "moved",
            "absolute": outside.joinpath(*parts[: level + 1]),
        }[target]
    )
    assert link.exists()
    refused(path, "DENIED", "symbolic link")


def odd_files(directory):
    """A file of each kind that is not regular, by name."""
    directory.mkdir(exist_ok=True)
    os.mkfifo(directory / "fifo")
    os.mknod(directory / "socket", 0o140600)
    (directory / "directory").mkdir()
    (directory / "to-device").symlink_to("/dev/zero")
    (directory / "to-process").symlink_to("/proc/self/environ")
    (directory / "loop").symlink_to("loop")
    return sorted(entry.name for entry in directory.iterdir())


# Opening some of these would block for ever: the attempt is made in a process of its own.
ATTEMPT = """
import json, sys
from lib.core import Image, QcowError
for path, options in json.loads(sys.argv[1]):
    try:
        Image(path, **options).close()
        print(json.dumps("opened"))
    except QcowError as error:
        print(json.dumps(error.code), flush=True)
"""


def attempt(*attempts):
    return run_python(ATTEMPT, json.dumps(attempts, default=str))


def test_files_that_are_not_regular_are_never_opened_nor_waited_for(tmp_path):
    """As the image itself, as what the caller names, and in a directory to be searched."""
    search = tmp_path / "search"
    names = odd_files(search)
    path = overlay(tmp_path / "top.qcow2", "gone/base.raw")
    data = data_file_image(tmp_path / "data.qcow2", "gone/data")
    by_name = [overlay(tmp_path / f"to-{name}", f"gone/{name}") for name in names]
    attempts = [[search / name, {}] for name in names]
    attempts += [[path, {"backing": [str(search / name)]}] for name in names]
    attempts += [[data, {"data_file": str(search / name)}] for name in names]
    attempts += [[image, {"search": [str(search)]}] for image in by_name]
    found = attempt(*attempts)
    assert len(found) == len(attempts) == 4 * len(names)
    for (image, options), code in zip(attempts, found):
        if "search" in options:
            assert code == "DENIED", (image, options, code)
        elif (
            "to-process" in f"{image} {options}"
        ):  # the caller's own link to a regular file, of no bytes
            assert code in ("opened", "NOT_QCOW2"), (image, options, code)
        else:
            assert code in ("ARGUMENT", "IO"), (image, options, code)


def test_hard_link_is_a_regular_file(tmp_path):
    """A user who can make a hard link could have copied the file as well, and no name of a file
    differs from another."""
    (tmp_path / "elsewhere").write_bytes(BASE)
    (tmp_path / "inside").mkdir()
    os.link(tmp_path / "elsewhere", tmp_path / "inside" / "base.raw")
    assert content(overlay(tmp_path / "inside" / "top.qcow2", "base.raw")) == BASE


# ---- Files of the chain under other names ----------------------------------------


def test_data_file_that_is_an_image_of_the_chain_under_any_name(tmp_path):
    """By a link of each kind, and named by the caller; to the image itself, and to one above it. A
    search skips it."""
    (tmp_path / "search").mkdir()
    top = data_file_image(tmp_path / "top.qcow2", "gone/guest.data")
    (tmp_path / "link").symlink_to(top)
    os.link(top, tmp_path / "search" / "guest.data")
    for options in (
        {"data_file": top},
        {"data_file": tmp_path / "link"},
        {"data_file": tmp_path / "search" / ".." / "top.qcow2"},
    ):
        refused(top, "CORRUPT", "data file", **options)
    refused(top, "DENIED", "no such file", search=[tmp_path / "search"])
    refused(data_file_image(tmp_path / "top.qcow2", "link"), "DENIED", "symbolic link")
    base = data_file_image(tmp_path / "base.qcow2", "self.data")
    os.link(base, tmp_path / "self.data")
    refused(overlay(tmp_path / "over.qcow2", "base.qcow2", b"qcow2"), "CORRUPT", "data file")
    os.unlink(tmp_path / "self.data")
    os.link(tmp_path / "over.qcow2", tmp_path / "self.data")
    refused(tmp_path / "over.qcow2", "CORRUPT", "data file")


def test_data_file_is_never_read_as_an_image(tmp_path):
    """It has a qcow2 header that the guest wrote, which names another file."""
    inner = overlay(tmp_path / "guest.data", "/etc/passwd").read_bytes().ljust(SIZE, b"\0")
    image = Image(size=SIZE, cluster_bits=9, data_file=b"guest.data", data_file_raw=True)
    for cluster in range(SIZE // 512):
        image.disk.normal(cluster, inner[cluster * 512 :][:512])
    path = image.write(tmp_path / "top.qcow2")
    assert content(path) == inner


# ---- Files that change while they are opened -------------------------------------

SWAPPER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int armed, steps, swap_at, strayed;
static const char *one, *other;

void swapper_arm(int at, const char *a, const char *b)
{
  armed = 1;
  steps = 0;
  swap_at = at;
  one = a;
  other = b;
}

int swapper_disarm(void)
{
  armed = 0;
  return steps;
}

int swapper_strayed(void)
{
  return strayed;
}

/* Note whether what was opened lies outside the image's directory. */
static void note(int descriptor)
{
  char link[64], path[4096];
  ssize_t length;

  snprintf(link, sizeof(link), "/proc/self/fd/%d", descriptor);
  length = armed && descriptor >= 0 ? readlink(link, path, sizeof(path) - 1) : 0;
  path[length > 0 ? length : 0] = '\0';
  strayed = strayed || strstr(path, "/outside") != NULL || strstr(path, "/dev/") != NULL;
}

static void step(void)
{
  if (armed && steps++ == swap_at)
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE);
}

int fstatat(int directory, const char *path, struct stat *status, int flags)
{
  int (*real)(int, const char *, struct stat *, int) = dlsym(RTLD_NEXT, "fstatat");
  int result;

  step();
  result = real(directory, path, status, flags);
  step();
  return result;
}

int openat(int directory, const char *path, int flags, ...)
{
  int (*real)(int, const char *, int, ...) = dlsym(RTLD_NEXT, "openat");
  int result;

  step();
  result = real(directory, path, flags);
  note(result);
  step();
  return result;
}
"""

# Exchange two names at each step of opening in turn; say what each attempt gave.
SWAPS = """
import ctypes, json, os, sys
from lib.core import Image, QcowError
swapper = ctypes.CDLL(sys.argv[1])
path, one, other = map(os.fsencode, sys.argv[2:5])
at = 0
while True:
    swapper.swapper_arm(at, one, other)
    try:
        with Image(path) as image:
            outcome = image.view().read(0, 8192).hex()
    except QcowError as error:
        outcome = error.code + " " + error.message
    steps = swapper.swapper_disarm()
    print(json.dumps(outcome))
    if at >= steps:
        break
    assert ctypes.CDLL(None).renameat2(-100, one, -100, other, 2) == 0
    at += 1
assert not swapper.swapper_strayed(), "a file outside was opened, if only for a moment"
"""


@pytest.fixture(scope="session")
def swapper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swapper")
    (folder / "swapper.c").write_text(SWAPPER)
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-o", folder / "swapper.so", folder / "swapper.c", "-ldl"],
        check=True,
    )
    return folder / "swapper.so"


def good_and_evil(tmp_path):
    """An image with its backing file in a subdirectory, and a directory outside with another file
    of that name."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for directory, data in ((inside / "sub", BASE), (outside, SECRET)):
        directory.mkdir(parents=True)
        (directory / "base.raw").write_bytes(data)
    return inside, outside, overlay(inside / "top.qcow2", "sub/base.raw")


EVIL = {
    "file to link": ("sub/base.raw", lambda evil, outside: evil.symlink_to(outside / "base.raw")),
    "file to FIFO": ("sub/base.raw", lambda evil, outside: os.mkfifo(evil)),
    "file to directory": ("sub/base.raw", lambda evil, outside: evil.mkdir()),
    "file to device": ("sub/base.raw", lambda evil, outside: evil.symlink_to("/dev/zero")),
    "file to file": ("sub/base.raw", lambda evil, outside: evil.write_bytes(bytes(SIZE))),
    "directory to link": ("sub", lambda evil, outside: evil.symlink_to(outside)),
    "directory to file": ("sub", lambda evil, outside: evil.write_bytes(b"")),
}


@pytest.mark.parametrize("case", EVIL)
def test_exchanged_at_each_step_of_opening(case, swapper, tmp_path):
    """The file that was checked, or an error that says so; never the other one, and no waiting for
    it."""
    name, make = EVIL[case]
    inside, outside, path = good_and_evil(tmp_path)
    make(inside / "evil", outside)
    preload = " ".join(filter(None, (os.environ.get("LD_PRELOAD"), str(swapper))))
    names = (path, inside / name, inside / "evil")
    environment = {**os.environ, "LD_PRELOAD": preload}
    outcomes = run_python(SWAPS, swapper, *names, env=environment)
    assert len(outcomes) > 8, "a swap before and after each of several calls"
    good = [outcome for outcome in outcomes if outcome == BASE.hex()]
    other = [
        outcome for outcome in outcomes if case == "file to file" and outcome == bytes(SIZE).hex()
    ]
    denied = [outcome for outcome in outcomes if outcome.startswith("DENIED ")]
    assert len(good) + len(other) + len(denied) == len(outcomes), outcomes
    assert good and denied
    if case.startswith("file"):
        assert any(
            "exchanged for another file" in outcome
            or "symbolic link" in outcome
            or "levels" in outcome
            or "it is a" in outcome
            or "not a regular" in outcome
            for outcome in denied
        ), denied
    if case in ("file to file", "file to FIFO", "file to directory"):
        assert any("exchanged for another file" in outcome for outcome in denied), denied


def exchange_for_ever(pairs):
    rename = ctypes.CDLL(None).renameat2
    while True:
        for directory, one, other in pairs:
            rename(directory, one, -100, other, RENAME_EXCHANGE)


def test_exchanged_all_the_time(tmp_path):
    """Another process exchanges file and directory for links as fast as it can."""
    inside, outside, path = good_and_evil(tmp_path)
    (inside / "evil").symlink_to(outside)
    (inside / "evil.raw").symlink_to(outside / "base.raw")
    # From the directories themselves: by its path the link could become the directory in which
    # files are exchanged.
    pairs = [
        (os.open(inside, os.O_PATH), b"sub", os.fsencode(inside / "evil")),
        (os.open(inside / "sub", os.O_PATH), b"base.raw", os.fsencode(inside / "evil.raw")),
    ]
    process = multiprocessing.get_context("fork").Process(
        target=exchange_for_ever, args=(pairs,), daemon=True
    )
    process.start()
    found = {"good": 0, "denied": 0}
    try:
        for tried in range(1_000_000):
            if tried >= 2000 and found["denied"]:  # on a busy machine the process begins late
                break
            try:
                assert content(path) == BASE
                found["good"] += 1
            except QcowError as error:
                assert error.code == "DENIED", error
                found["denied"] += 1
    finally:
        process.kill()
        process.join()
        for directory, _, _ in pairs:
            os.close(directory)
    print(found)
    assert found["denied"] > 0, found


# ---- What a tool opens -----------------------------------------------------------

TRACED = (
    "/etc/passwd",
    "../outside/base.raw",
    "sub/../../outside/base.raw",
    "link",
    "linkdir/base.raw",
    "/proc/self/environ",
    "/dev/zero",
    "fifo",
    "socket",
    "sub",
    'json:{"driver":"file","filename":"/etc/passwd"}',
    "nbd://localhost/x",
    "file:/etc/passwd",
    "host_device:/dev/zero",
    "fat:/etc",
    "missing",
    "\x1b]0;x\x07",
    "top.qcow2",
)
# Where programs and their libraries look for themselves.
SYSTEM = (
    "/usr/",
    "/lib",
    "/etc/ld.so",
    "/etc/locale",
    "/proc/self/maps",
    "/proc/sys/",
    "/sys/devices/system/cpu",
)


counts_opened_files = pytest.mark.unsanitized("a sanitizer opens files too")


def opened_by(log):
    """The files that were opened, by their real paths; but for directories that were not opened for
    reading."""
    found = set()
    for line in log.read_text(errors="replace").splitlines():
        assert (
            not re.search(r"\b(connect|socket|creat|execve)\(", line) or 'execve("/usr/bin/' in line
        ), line
        result = re.search(r" = \d+<(.*)>$", line)
        if result and "O_PATH" not in line:
            found.add(result[1])
        assert not re.search(r"O_WRONLY|O_RDWR|O_CREAT", line), line
    return {path for path in found if not path.startswith((*SYSTEM, str(tools.BUILD)))}


def traced(tmp_path, tool, *arguments):
    log = tmp_path / "strace"
    trace = [
        "/usr/bin/strace",
        "-f",
        "-y",
        "-e",
        "trace=open,openat,openat2,creat,socket,connect,execve",
        "-o",
        log,
    ]
    return tools.run(tool, *arguments, prefix=trace), opened_by(log)


@counts_opened_files
@pytest.mark.parametrize("name", TRACED)
def test_a_tool_opens_nothing_but_the_image(name, tmp_path):
    inside, outside, _ = good_and_evil(tmp_path)
    odd_files(inside / "odd")
    for odd in ("fifo", "socket"):
        (inside / "odd" / odd).rename(inside / odd)
    (inside / "link").symlink_to(outside / "base.raw")
    (inside / "linkdir").symlink_to(outside)
    path = overlay(inside / "top.qcow2", name, b"qcow2")
    result, opened = traced(tmp_path, "img_stat", "-i", "qcow2", path)
    tools.assert_refused(result, "backing" if name != "top.qcow2" else "loop")
    assert opened == {str(path)}
    path = data_file_image(inside / "top.qcow2", name)
    result, opened = traced(tmp_path, "fls", "-i", "qcow2", path)
    tools.assert_refused(result, "data file")
    assert opened == {str(path)}


@counts_opened_files
@pytest.mark.parametrize("backing_format", (b"vmdk", b"qcow2", None))
def test_a_tool_does_not_follow_what_a_backing_file_says(backing_format, tmp_path):
    """The file beside the image may be opened. It is a VMDK, or a qcow2 image that nobody declared,
    that names another file."""
    inside, outside, _ = good_and_evil(tmp_path)
    base = inside / "base"
    if backing_format == b"vmdk":
        base.write_text(
            "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
            f'createType="monolithicFlat"\nRW 16 FLAT "{outside}/base.raw" 0\n'
        )
    else:
        overlay(base, outside / "base.raw" if backing_format else "sub/base.raw")
    path = overlay(inside / "top.qcow2", "base", backing_format)
    result, opened = traced(tmp_path, "img_stat", "-i", "qcow2", path)
    tools.assert_refused(result, "backing=")
    assert opened == {str(path), str(base)}


@counts_opened_files
def test_info_opens_one_file(tmp_path, build_directory):
    """Though a good backing file lies beside it."""
    _, _, path = good_and_evil(tmp_path)
    log = tmp_path / "strace"
    done = subprocess.run(
        [
            "strace",
            "-f",
            "-y",
            "-e",
            "trace=open,openat,openat2,creat,socket,connect",
            "-o",
            log,
            build_directory / "tsk_qcow2/tsk-qcow2",
            "info",
            path,
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and "sub/base.raw" in done.stdout
    assert opened_by(log) == {str(path)}


# ---- Inside a disk ---------------------------------------------------------------

INNER_ATTACKS = {
    "an absolute path": ("/vm/base.raw", "absolute path"),
    "an absolute path of this machine": ("/etc/passwd", "absolute path"),
    "the path inside, as the user types it": ("//0/vm/base.raw", "absolute path"),
    "out of its directory": ("../base.raw", '".."'),
    "out and in again": ("../vm/base.raw", '".."'),
    "a link to a file beside": ("link.raw", "symbolic link"),
    "a link to a file elsewhere": ("far.raw", "symbolic link"),
    "a link to this machine's file": ("passwd", "symbolic link"),
    "through a link to its own directory": ("here/base.raw", "symbolic link"),
    "through a link to the root": ("root/etc/passwd", "symbolic link"),
    "a FIFO": ("fifo", "not a regular file"),
    "a character device": ("null", "device"),
    "a block device": ("sda", "device"),
    "a directory": ("sub", "directory"),
    "the directory itself": (".", "directory"),
    "a file as a directory": ("base.raw/base.raw", "no directory"),
    "a protocol": ("nbd://host/disk", "protocol"),
    "JSON": ('json:{"driver":"raw"}', "protocol"),
    "by number": ("#12", "no such file"),
    "a deleted file": ("gone.raw", "no such file"),
    "itself": ("top.qcow2", "loop"),
    "itself by another path": ("./sub/../top.qcow2", '".."'),
    "itself by a hard link": ("twin.qcow2", "loop"),
}


def inner_disk(folder, reference, backing_format=b"raw"):
    """A disk with an image in /vm that refers to a file by this name, and with all that it could
    lead to."""
    files = folder / "files"
    (files / "vm/sub").mkdir(parents=True)
    (files / "base.raw").write_bytes(SECRET)
    for name in ("vm/base.raw", "vm/sub/base.raw", "vm/gone.raw"):
        (files / name).write_bytes(BASE)
    for name, target in {
        "link.raw": "base.raw",
        "far.raw": "../base.raw",
        "passwd": "/etc/passwd",
        "here": ".",
        "root": "/",
    }.items():
        (files / "vm" / name).symlink_to(target)
    overlay(files / "vm/top.qcow2", reference, backing_format)
    path = folder / "disk.raw"
    disks.ext4(path, files, 0, 8)
    disks.change_ext4(
        path,
        0,
        [
            "rm vm/gone.raw",
            "ln vm/top.qcow2 vm/twin.qcow2",
            "cd vm",
            "mknod fifo p",
            "mknod null c 1 3",
            "mknod sda b 8 0",
        ],
    )
    return path


@pytest.mark.parametrize("attack", INNER_ATTACKS)
@pytest.mark.parametrize("role", ("backing file", "data file"))
def test_inside_a_disk_nothing_else_is_opened(attack, role, tmp_path):
    """The rules hold in the file system there. The user may name a file in it."""
    reference, word = INNER_ATTACKS[attack]
    path = inner_disk(tmp_path, reference, b"qcow2" if word == "loop" else b"raw")
    if role == "data file":
        made = data_file_image(tmp_path / "data.qcow2", reference)
        disks.change_ext4(path, 0, ["cd vm", f"write {made} data.qcow2"])
        if word == "loop":  # there it is a file like others
            return
    image = f"{path}//0/vm/{'top' if role == 'backing file' else 'data'}.qcow2"
    with pytest.raises(QcowError) as caught:
        Named(image)
    assert word in str(caught.value), caught.value
    option = "backing" if role == "backing file" else "data-file"
    with Named(f"{image},{option}=//0/vm/sub/base.raw,format=raw") as opened:
        assert opened.read(0, 512) == BASE[:512]


def test_inside_a_disk_the_ordinary_reference_is_followed(tmp_path):
    for reference in ("base.raw", "./base.raw", "sub/base.raw", ".//sub/./base.raw"):
        folder = tmp_path / reference.replace("/", "_")
        folder.mkdir()
        with Named(f"{inner_disk(folder, reference)}//0/vm/top.qcow2") as opened:
            assert opened.read(0, SIZE) == BASE, reference


def test_a_number_has_no_directory(tmp_path):
    """Nothing is beside an image that is named by its inode."""
    path = inner_disk(tmp_path, "base.raw")
    number = disks.numbers(path, 0)["vm/top.qcow2"]
    with pytest.raises(QcowError, match="no directory of its own"):
        Named(f"{path}//0/#{number}")
    with Named(f"{path}//0/#{number},backing=//0/vm/base.raw") as opened:
        assert opened.read(0, SIZE) == BASE


@pytest.mark.parametrize("name", ("link.raw", "passwd", "here/top.qcow2", "fifo", "null", "sda"))
def test_the_user_passes_no_link_inside(name, tmp_path):
    path = inner_disk(tmp_path, "base.raw")
    with pytest.raises(QcowError, match="symbolic link|regular file|device"):
        Named(f"{path}//0/vm/{name}")


def test_loops_between_inner_and_outer(tmp_path):
    """The disk around is the user's word as a backing file: it ends, for it is as long as it is. An
    image that leads to itself by both ways is a loop."""
    path = inner_disk(tmp_path, "base.raw")
    image = f"{path}//0/vm/top.qcow2"
    with Named(f"{image},backing={path}") as opened:
        assert opened.read(0, SIZE) == path.read_bytes()[:SIZE]
    with pytest.raises(QcowError, match="loop"):
        Named(f"{image},backing=//0/vm/twin.qcow2,format=qcow2")


@pytest.mark.parametrize("leads", ("absolute", "dotted", "link"))
def test_a_selector_does_not_lead_to_a_disk_elsewhere(leads, tmp_path):
    path = inner_disk(tmp_path, "base.raw")
    case = tmp_path / "case"
    case.mkdir()
    (case / "link.raw").symlink_to(path)
    outer = {"absolute": path, "dotted": "../disk.raw", "link": "link.raw"}[leads]
    (case / "select.img").write_text(f"TSK-QCOW2-SELECTOR 1\n{outer}//0/vm/top.qcow2\n")
    with pytest.raises(QcowError, match="may not lead there"):
        Named(str(case / "select.img"))
    (tmp_path / "select.img").write_text("TSK-QCOW2-SELECTOR 1\ndisk.raw//0/vm/top.qcow2\n")
    with Named(str(tmp_path / "select.img")) as opened:
        assert opened.read(0, SIZE) == BASE
    (tmp_path / "other.img").write_text(
        "TSK-QCOW2-SELECTOR 1\ndisk.raw//0/vm/top.qcow2,backing=/etc/passwd\n"
    )
    with pytest.raises(QcowError, match="may not lead there"):
        Named(str(tmp_path / "other.img"))


@counts_opened_files
def test_a_tool_opens_the_disk_and_nothing_else(tmp_path):
    path = inner_disk(tmp_path, "/etc/passwd")
    result, opened = traced(tmp_path, "img_stat", "-i", "qcow2", f"{path}//0/vm/top.qcow2")
    tools.assert_refused(result, "absolute path")
    assert opened == {str(path)}
