# SPDX-License-Identifier: MIT
"""Selector files: an image name in a file, opened by the tools of The Sleuth Kit, and written by
`tsk-qcow2 selector`.

A selector can come with the evidence. So it is not trusted, and may only lead to files below its
own directory; one that this user wrote, as its authentication code shows, may lead anywhere."""
import contextlib
import hashlib
import hmac
import os
import re
import shutil
import sqlite3
import subprocess
from functools import partial
from pathlib import Path

import pytest

from lib import images, tools
from lib.builder import Image
from lib.project import BUILD, can_change_user
from lib.tools import assert_filled, assert_refused, img_cat

SIZE = 64 << 10  # of every disk here, bytes: one cluster
COMMAND = Path(BUILD, "tsk_qcow2", "tsk-qcow2")
FIRST_LINE = "TSK-QCOW2-SELECTOR 1\n"
BOTH = pytest.mark.parametrize("image_type", ["qcow2", None], ids=["told", "detected"])
ROOT = pytest.mark.skipif(not can_change_user(), reason="needs root, to be another user")


# ---- Making things ---------------------------------------------------------------


def image(path, byte, snapshots=(), **options):
    """A disk filled with a byte. `snapshots` are (id, name, byte)."""
    made = Image(size=SIZE, cluster_bits=16, **options)
    for identifier, name, filling in snapshots:
        made.disk.normal(0, bytes([filling]) * SIZE)
        made.snapshot(identifier, name)
    made.disk.normal(0, bytes([byte]) * SIZE)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(made.write(path))


def overlay(path, backing):
    """An image that stores nothing, over a raw file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return images.overlay(path, backing, size=SIZE, cluster_bits=16)


def raw(path, byte):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([byte]) * SIZE)
    return path


def selector(path, name, more=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{FIRST_LINE}{name}\n{more}")
    return path


@pytest.fixture
def home(tmp_path):
    """The user's home directory, where no key is yet."""
    path = tmp_path / "home of the user"
    path.mkdir()
    return path


def key_of(home):
    return home / ".local/state/tsk-qcow2/selector-key"


@pytest.fixture
def evidence(tmp_path):
    """evidence/disk.qcow2: 0xee, its snapshot "before update" 0x11, "its/../twin" twice with 0x22
    and 0x33."""
    return image(
        tmp_path / "evidence/disk.qcow2",
        0xEE,
        [
            (b"1", b"before update", 0x11),
            (b"2", b"it's/../twin", 0x22),
            (b"3", b"it's/../twin", 0x33),
        ],
    ).parent


@pytest.fixture
def case(tmp_path):
    path = tmp_path / "case"
    path.mkdir()
    return path


assert_byte = partial(assert_filled, size=SIZE)


def command(*arguments, home, cwd, environment=None):
    words = [str(word) for word in (COMMAND, *arguments)]
    return subprocess.run(
        words,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        env={**tools.CLEAN, "HOME": str(home), **(environment or {})},
    )


def write(*arguments, home, cwd, **options):
    """Let tsk-qcow2 write selectors; their paths."""
    done = command("selector", *arguments, home=home, cwd=cwd, **options)
    assert done.returncode == 0, done.stderr
    return [Path(cwd, line.split("  ")[0]) for line in done.stdout.splitlines()]


def refuses(*arguments, home, cwd, words, status=1):
    """tsk-qcow2 selector fails, says these words, and writes nothing."""
    before = sorted(os.listdir(cwd))
    done = command("selector", *arguments, home=home, cwd=cwd)
    assert (done.returncode, done.stdout) == (status, ""), done.stdout
    for word in words:
        assert word in done.stderr, done.stderr
    assert sorted(os.listdir(cwd)) == before


# ---- Reading ---------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    "name, byte",
    [
        ("disk.qcow2", 0xEE),
        ("disk.qcow2@before update", 0x11),
        ("./disk.qcow2@id=3", 0x33),
        ("disk.qcow2@index=1", 0x22),
        (".//disk.qcow2@1,errors=zero", 0x11),
    ],
)
def test_opens_as_the_image_name_in_it(name, byte, image_type, evidence):
    path = selector(evidence / "some.img", name)
    assert_byte(img_cat(path, image_type=image_type), byte)


def test_every_tool_takes_it(tmp_path):
    """A disk with a partition and a file system: tools, with the type given or not, agree with what
    they say of the image."""
    from lib import disks

    disk = disks.make_disk(
        tmp_path,
        "disk",
        24 << 20,
        "label: dos\nlabel-id: 0xc0ffee00\nstart=2048, size=45056, type=83\n",
        [disks.Partition("ext4", 2048, 45056, 5, "/usr/include", 1024)],
    )
    disks.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk.path, tmp_path / "disk.qcow2")
    disks.run("qemu-img", "snapshot", "-c", "now", tmp_path / "disk.qcow2")
    path = selector(tmp_path / "now.img", "disk.qcow2@now")
    for chosen in ([], ["-i", "qcow2"]):
        for tool, *more in (
            ["mmls"],
            ["fls", "-r", "-o", "2048"],
            ["fsstat", "-o", "2048"],
            ["img_stat"],
        ):
            tools.assert_same(
                tools.run(tool, *chosen, *more, path),
                (
                    tools.run(tool, "-i", "raw", *more, disk.path)
                    if tool != "img_stat"
                    else tools.run(tool, *chosen, f"{tmp_path}/disk.qcow2@now")
                ),
            )
    assert tools.run("img_stat", "-t", path).stdout == b"qcow2\n"
    assert tools.run("tsk_loaddb", "-d", tmp_path / "db", path).returncode == 0
    with contextlib.closing(sqlite3.connect(tmp_path / "db")) as database:
        assert database.execute("select name from tsk_image_names").fetchall() == [(str(path),)]


@pytest.mark.parametrize("subcommand", ["info", "snapshots", "verify"])
def test_the_command_takes_it(subcommand, evidence, home):
    path = selector(evidence / "some.img", "disk.qcow2")
    done = command(subcommand, path, home=home, cwd="/")
    assert done.returncode == 0 and "before update" in done.stdout, done.stderr


def test_paths_start_from_the_real_directory(evidence, case, tmp_path, monkeypatch):
    """Through symbolic links, as Autopsy makes them, and whatever the working directory."""
    selector(evidence / "some.img", "disk.qcow2@1")
    os.symlink(evidence / "some.img", case / "link.img")
    os.symlink(evidence, tmp_path / "linked")
    image(case / "disk.qcow2", 0x99)
    monkeypatch.chdir(case)
    for path in ("link.img", case / "link.img", tmp_path / "linked/some.img"):
        assert_byte(img_cat(path), 0x11)


def test_options_lead_below_the_directory(tmp_path):
    """The backing file, directories to search, the data file, each deeper down; and the
    environment is the user's, so it is still trusted."""
    case = tmp_path / "case"
    overlay(case / "top.qcow2", "/lost/base.raw")
    raw(case / "bases/base.raw", 0x44)
    raw(tmp_path / "elsewhere/base.raw", 0x55)
    for name, byte in (
        ("top.qcow2,backing=bases/base.raw", 0x44),
        ("top.qcow2,backing=none", 0),
        ("top.qcow2,search=bases", 0x44),
        ("./top.qcow2,search=./bases/", 0x44),
    ):
        assert_byte(img_cat(selector(case / "some.img", name)), byte)
    environment = {"TSK_QCOW2_SEARCH": str(tmp_path / "elsewhere")}
    assert_byte(img_cat(selector(case / "some.img", "top.qcow2"), environment=environment), 0x55)
    image(case / "apart.qcow2", 0x66, data_file=b"lost.data")
    os.rename(case / "lost.data", case / "bases/guest.data")
    assert_byte(
        img_cat(selector(case / "some.img", "apart.qcow2,data-file=bases/guest.data")), 0x66
    )


@pytest.fixture
def locked(tmp_path):
    """locked/disk.qcow2: 0x77, with the passphrase in locked/keys/key and in outside/key."""
    from lib import encrypted

    for folder in ("locked/keys", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("locked/keys", "outside"):
        (tmp_path / folder / "key").write_text("open sesame\n")
    path = tmp_path / "locked/disk.qcow2"
    encrypted.create(path, SIZE, secret=b"open sesame")
    encrypted.write(encrypted.node(path), [(0, b"\x77" * SIZE)], secrets=[b"open sesame"])
    return tmp_path


def test_key_files_are_the_selectors_word_too(locked, home):
    path = locked / "locked/some.img"
    assert_byte(img_cat(selector(path, "disk.qcow2,key-file=keys/key")), 0x77)
    for outside in ("../outside/key", f"{locked}/outside/key"):
        assert_refused(
            img_cat(selector(path, f"disk.qcow2,key-file={outside}")),
            "key file",
            "only lead",
            "tsk-qcow2 selector",
        )
    os.symlink("../../outside/key", locked / "locked/keys/link")
    assert_refused(img_cat(selector(path, "disk.qcow2,key-file=keys/link")), "symbolic link")
    environment = {"TSK_QCOW2_KEY_FILE": str(locked / "outside/key")}
    assert_byte(img_cat(selector(path, "disk.qcow2"), environment=environment), 0x77)
    (made,) = write(
        f"{locked}/locked/disk.qcow2,key-file={locked}/outside/key", home=home, cwd=home
    )
    assert_byte(img_cat(made, home=home), 0x77)


# ---- What a selector may not do --------------------------------------------------


OUTSIDE = {
    # The selector's second line, with DIR for the fixture's directory; a word of the reason.
    "DIR/outside/disk.qcow2": "absolute path",
    "DIR/outside/disk.qcow2@first,errors=zero": "absolute path",
    "../outside/disk.qcow2": '".."',
    "sub/../../outside/disk.qcow2@1": '".."',
    "sub/../disk.qcow2": '".."',
    "link.qcow2": "symbolic link",
    "linked/disk.qcow2": "symbolic link",
    "nowhere.qcow2": "no such file",
    "sub": "directory",
    "fifo": "not a regular file",
    "json:{}": "protocol",
    "top.qcow2,backing=DIR/outside/base.raw": "absolute path",
    "top.qcow2,backing=../outside/base.raw": '".."',
    "top.qcow2,backing=link.raw": "symbolic link",
    "top.qcow2,search=DIR/outside": "absolute path",
    "top.qcow2,search=../outside": '".."',
    "top.qcow2,search=linked": "symbolic link",
    "top.qcow2,search=nowhere": "no such file",
    "apart.qcow2,data-file=DIR/outside/base.raw": "absolute path",
    "apart.qcow2,data-file=../outside/base.raw": '".."',
    "apart.qcow2,data-file=link.raw": "symbolic link",
}


@pytest.fixture
def trap(tmp_path):
    """case/ with images and every way out of it, to outside/."""
    case, outside = tmp_path / "case", tmp_path / "outside"
    image(outside / "disk.qcow2", 0xBB, [(b"1", b"first", 0xBB)])
    raw(outside / "base.raw", 0xBB)
    overlay(case / "top.qcow2", f"{outside}/base.raw")
    image(case / "disk.qcow2", 0x11)
    Image(size=SIZE, cluster_bits=16, data_file=b"lost.data").write(case / "apart.qcow2")
    (case / "sub").mkdir()
    os.symlink("../outside/disk.qcow2", case / "link.qcow2")
    os.symlink("../outside/base.raw", case / "link.raw")
    os.symlink("../outside", case / "linked")
    os.mkfifo(case / "fifo")
    return tmp_path


@BOTH
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_selector_that_leads_outside_is_refused(name, image_type, trap, home):
    path = selector(trap / "case/some.img", name.replace("DIR", str(trap)))
    assert_refused(
        img_cat(path, image_type=image_type, home=home),
        OUTSIDE[name],
        "not opened",
        "no authentication code",
        "tsk-qcow2 selector ",
    )


@BOTH
def test_the_image_of_a_selector_leads_outside(image_type, trap, home):
    """It is the image that is not trusted, so a selector with an authentication code would not
    help. The error says what to add to the name in a new selector, and that helps."""
    path = selector(trap / "case/some.img", "top.qcow2")
    result = img_cat(path, image_type=image_type, home=home)
    assert_refused(
        result, "absolute path", "not opened", "backing=PATH", "to which more can be added"
    )
    assert "authentication code" not in result.complaint
    command = result.complaint[result.complaint.index("tsk-qcow2 selector '") :].rstrip(")\n")
    command = command[:-1] + f",backing={trap}/outside/base.raw'"
    (trap / "notes").mkdir()
    subprocess.run(
        ["sh", "-c", command.replace("tsk-qcow2", str(COMMAND), 1)],
        cwd=trap / "notes",
        check=True,
        env={**tools.CLEAN, "HOME": str(home)},
    )
    (written,) = (trap / "notes").iterdir()
    assert_byte(img_cat(written, image_type=image_type, home=home), 0xBB)


def test_a_selector_does_not_open_formats_that_lead_on(tmp_path, home):
    """A VMDK names further files, so one is opened only if the user names it."""
    case = tmp_path / "case"
    raw(case / "base.raw", 0x44)
    subprocess.run(
        ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", case / "base.raw", case / "base.vmdk"],
        check=True,
    )
    Image(size=SIZE, cluster_bits=16, backing=b"lost", backing_format=b"vmdk").write(
        case / "top.qcow2"
    )
    Image(size=SIZE, cluster_bits=16, backing=b"lost").write(case / "undeclared.qcow2")
    for name in ("top.qcow2", "undeclared.qcow2"):
        typed = f"{case}/{name},backing={case}/base.vmdk"
        assert_byte(img_cat(typed), 0x44)
        assert_refused(
            img_cat(selector(case / "some.img", f"{name},backing=base.vmdk")), "backing="
        )
        (made,) = write(typed, home=home, cwd=home)
        assert_byte(img_cat(made, home=home), 0x44)


def test_nothing_outside_is_even_looked_for(trap, tmp_path):
    """A path that leads out is refused by its text: the system may mount what a path asks for."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    for name in (
        f"{trap}/outside/disk.qcow2@1",
        "../outside/disk.qcow2",
        "sub/../../outside/disk.qcow2,errors=zero",
    ):
        log = tmp_path / "log"
        img_cat(
            selector(trap / "case/some.img", name),
            prefix=[strace, "-f", "-o", log, "-e", "trace=file"],
        )
        assert "case/some.img" in log.read_text() and "/outside" not in log.read_text()


def test_a_selector_may_be_inside_a_directory_reached_by_a_link(trap):
    """What counts is its real directory: a link to a selector elsewhere gives it no new
    directory."""
    selector(trap / "outside/some.img", "disk.qcow2")
    assert_byte(img_cat(trap / "case/linked/some.img"), 0xBB)
    os.symlink(trap / "outside/some.img", trap / "case/some.img")
    assert_byte(img_cat(trap / "case/some.img"), 0xBB)


def test_the_command_that_is_offered_works(trap, home):
    """Quotes and all: what the refusal says to type writes a selector that opens."""
    image(trap / "outside/it's a disk.qcow2", 0xCC, [(b"1", b"o'clock", 0xCD)])
    path = selector(trap / "case/some.img", "../outside/it's a disk.qcow2@o'clock")
    offered = re.search(
        r"working directory: tsk-qcow2 (.*?)\)?\n", img_cat(path, home=home).complaint
    )[1]
    done = subprocess.run(
        ["sh", "-c", f"'{COMMAND}' {offered}"],
        cwd=home,
        env={**tools.CLEAN, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert_byte(img_cat(home / done.stdout.split("  ")[0], home=home), 0xCD)


def test_a_command_with_odd_characters_is_not_offered(trap, home):
    result = img_cat(selector(trap / "case/some.img", "/x\x1b[2J\t/y.qcow2"), home=home)
    assert_refused(result, "\\x1b[2J", "tsk-qcow2 selector IMAGE")
    assert b"\x1b" not in result.stderr


BAD = {
    "another version": (b"TSK-QCOW2-SELECTOR 2\ndisk.qcow2\n", 'version "2"'),
    "a version like ours": (b"TSK-QCOW2-SELECTOR 10\ndisk.qcow2\n", 'version "10"'),
    "no version": (b"TSK-QCOW2-SELECTOR \ndisk.qcow2\n", "version"),
    "only the first line": (b"TSK-QCOW2-SELECTOR 1", "no image name"),
    "an empty second line": (b"TSK-QCOW2-SELECTOR 1\n\ndisk.qcow2\n", "no image name"),
    "a blank second line": (b"TSK-QCOW2-SELECTOR 1\n \t\r\n", "no image name"),
    "a third line": (b"TSK-QCOW2-SELECTOR 1\ndisk.qcow2\ndisk.qcow2\n", "line 3"),
    "a fourth line": (
        b"TSK-QCOW2-SELECTOR 1\ndisk.qcow2\nMAC " + b"0" * 64 + b"\nMAC " + b"0" * 64,
        "line 4",
    ),
    "a short MAC": (b"TSK-QCOW2-SELECTOR 1\ndisk.qcow2\nMAC " + b"0" * 63 + b"\n", "line 3"),
    "a MAC of other digits": (
        b"TSK-QCOW2-SELECTOR 1\ndisk.qcow2\nMAC " + b"G" * 64 + b"\n",
        "line 3",
    ),
    "a NUL in the name": (b"TSK-QCOW2-SELECTOR 1\ndisk.qcow2\0@x\n", "NUL"),
    "NULs after it": (b"TSK-QCOW2-SELECTOR 1\ndisk.qcow2\n" + bytes(512), "NUL"),
    "a CR in the name": (b"TSK-QCOW2-SELECTOR 1\rdisk.qcow2\n", "version"),
    "two names by CR": (b"TSK-QCOW2-SELECTOR 1\ndisk.qcow2\rother\n", "CR"),
    "rubbish": (b"TSK-QCOW2-SELECTOR 1\n" + bytes(range(1, 256)) * 9, ""),
    "an unknown option": (b"TSK-QCOW2-SELECTOR 1\ndisk.qcow2,nonsense\n", "nonsense"),
    "an unknown snapshot": (b"TSK-QCOW2-SELECTOR 1\ndisk.qcow2@nobody\n", "before update"),
    "itself": (b"TSK-QCOW2-SELECTOR 1\nsome.img\n", "another selector"),
    "another selector": (b"TSK-QCOW2-SELECTOR 1\ngood.img\n", "another selector"),
    "no qcow2": (b"TSK-QCOW2-SELECTOR 1\nplain.txt\n", "not a qcow2 image"),
    "huge": (b"TSK-QCOW2-SELECTOR 1\ndisk.qcow2\n".ljust(65537), "64 KiB"),
}


@BOTH
@pytest.mark.parametrize("what", BAD)
def test_bad_selectors_are_explained(what, image_type, evidence):
    """Never are they taken for raw disks."""
    content, word = BAD[what]
    selector(evidence / "good.img", "disk.qcow2")
    (evidence / "plain.txt").write_bytes(b"plain " * 1000)
    (evidence / "some.img").write_bytes(content)
    assert_refused(img_cat(evidence / "some.img", image_type=image_type), word)


def test_a_huge_selector_is_not_read(tmp_path):
    with open(tmp_path / "some.img", "wb") as file:
        file.write(FIRST_LINE.encode())
        file.truncate(1 << 40)
    assert_refused(img_cat(tmp_path / "some.img"), "64 KiB")


HARMLESS = {
    "CR LF": b"TSK-QCOW2-SELECTOR 1\r\ndisk.qcow2@1\r\n",
    "no end of line": b"TSK-QCOW2-SELECTOR 1\ndisk.qcow2@1",
    "blank lines after it": b"TSK-QCOW2-SELECTOR 1\ndisk.qcow2@1\n\n  \t\r\n",
    "padding": b"TSK-QCOW2-SELECTOR 1\ndisk.qcow2@1\n".ljust(65536),
    "a MAC that is not needed": b"TSK-QCOW2-SELECTOR 1\ndisk.qcow2@1\nMAC " + b"0" * 64 + b"\n",
}


@pytest.mark.parametrize("what", HARMLESS)
def test_harmless_differences_are_tolerated(what, evidence):
    (evidence / "some.img").write_bytes(HARMLESS[what])
    assert_byte(img_cat(evidence / "some.img"), 0x11)


def test_nothing_can_be_added_to_a_selector(evidence):
    path = selector(evidence / "some.img", "disk.qcow2")
    for names in ([f"{path}@1"], [f"{path},errors=zero"], [path, evidence / "disk.qcow2"]):
        assert_refused(img_cat(*names, image_type="qcow2"), "nothing can be added")


def test_odd_image_names(tmp_path):
    """The longest name of a file wins, as when typed, but only below the directory."""
    for byte, name in enumerate(
        ["disk", "disk@1", "disk@1,backing=none", "-", "a b", "Maß", "@", "x:y"], 1
    ):
        image(tmp_path / "case" / name, byte, [(b"1", b"s", 0x80 + byte)])
    for name, byte in (
        ("disk", 1),
        ("disk@1", 2),
        ("disk@1@1", 0x82),
        ("disk@1,backing=none", 3),
        ("-", 4),
        ("a b@s", 0x85),
        ("Maß", 6),
        ("@", 7),
        ("@@1", 0x87),
        ("./x:y", 8),
    ):
        assert_byte(img_cat(selector(tmp_path / "case/some.img", name)), byte)


# ---- Is it trusted? ------------------------------------------------------------


def test_a_selector_of_this_user_may_lead_anywhere(evidence, case, home):
    (made,) = write("../evidence/disk.qcow2@before update", home=home, cwd=case)
    text = made.read_text()
    assert re.fullmatch(
        rf"TSK-QCOW2-SELECTOR 1\n{evidence}/disk\.qcow2@id=1\nMAC [0-9a-f]{{64}}\n", text
    )
    assert_byte(img_cat(made, home=home), 0x11)
    assert_byte(img_cat(made, home=home, image_type="qcow2"), 0x11)


def test_the_code_is_hmac_sha256_of_text_and_directory(evidence, case, home):
    """As another implementation computes it."""
    (made,) = write(evidence / "disk.qcow2", home=home, cwd=case)
    lines = made.read_text().splitlines()
    covered = f"{FIRST_LINE}{evidence}/disk.qcow2\n{case}/".encode()
    assert (
        lines[2]
        == "MAC " + hmac.new(key_of(home).read_bytes(), covered, hashlib.sha256).hexdigest()
    )


def sign(path, home, name):
    """A selector with a valid code, made by hand."""
    covered = f"{FIRST_LINE}{name}\n{path.parent}/".encode()
    return selector(
        path,
        name,
        "MAC " + hmac.new(key_of(home).read_bytes(), covered, hashlib.sha256).hexdigest(),
    )


def test_a_changed_selector_is_refused(evidence, case, home):
    image(evidence / "disk.qcow3", 0x99)
    (made,) = write(evidence / "disk.qcow2", home=home, cwd=case)
    text = made.read_text()
    for old, new in (
        ("qcow2\n", "qcow3\n"),
        ("qcow2\n", "qcow2@1\n"),
        (text[-2], "0" if text[-2] != "0" else "1"),
    ):
        made.write_text(new.join(text.rsplit(old, 1)))
        assert_refused(img_cat(made, home=home), "not made with your key", "tsk-qcow2 selector ")
    made.write_text(text)
    assert_byte(img_cat(made, home=home), 0xEE)
    # Signed by this user, it opens.
    assert_byte(img_cat(sign(made, home, f"{evidence}/disk.qcow3"), home=home), 0x99)


def test_a_selector_that_was_moved_or_copied_is_refused(evidence, case, home):
    """It would come back in somebody else's evidence."""
    (made,) = write(evidence / "disk.qcow2", home=home, cwd=case)
    (case / "sub").mkdir()
    shutil.copy(made, case / "sub")
    assert_refused(
        img_cat(case / "sub" / made.name, home=home), "not for this text in this directory"
    )
    os.rename(made, case / "renamed.img")
    assert_byte(img_cat(case / "renamed.img", home=home), 0xEE)
    os.symlink(case / "renamed.img", case / "sub/link.img")
    assert_byte(img_cat(case / "sub/link.img", home=home), 0xEE)
    os.rename(case, case.parent / "moved")
    assert_refused(
        img_cat(case.parent / "moved/renamed.img", home=home), "not for this text in this directory"
    )


def test_a_selector_of_another_user_is_refused(evidence, case, home, tmp_path):
    (made,) = write(evidence / "disk.qcow2", home=home, cwd=case)
    other = tmp_path / "other"
    other.mkdir()
    assert_refused(img_cat(made, home=other), "who opens it, has no key yet")
    write(evidence / "disk.qcow2", home=other, cwd=other)
    assert key_of(other).read_bytes() != key_of(home).read_bytes()
    assert_refused(img_cat(made, home=other), "not made with your key", "root, under sudo")
    assert_refused(img_cat(made, environment={"HOME": ""}), "HOME")
    assert_refused(img_cat(made, environment={"HOME": "relative"}), "HOME")


@ROOT
def test_root_has_no_use_for_a_users_key(evidence, case, home):
    """sudo may leave HOME as the user's."""
    (made,) = write(evidence / "disk.qcow2", home=home, cwd=case)
    for path in (key_of(home), key_of(home).parent):
        os.chown(path, 65534, 65534)
        assert_refused(img_cat(made, home=home), "not yours alone")
        os.chown(path, 0, 0)
    assert_byte(img_cat(made, home=home), 0xEE)


def test_the_key_is_made_once_and_for_this_account_alone(evidence, case, home):
    write(evidence / "disk.qcow2", home=home, cwd=case)
    key = key_of(home)
    assert key.stat().st_mode & 0o7777 == 0o600 and key.stat().st_size == 32
    assert key.parent.stat().st_mode & 0o7777 == 0o700
    before = key.read_bytes()
    assert len(set(before)) > 10
    write(evidence / "disk.qcow2", home=home, cwd=case)
    assert key.read_bytes() == before
    assert os.listdir(key.parent) == ["selector-key"]


def test_the_state_directory_of_the_environment(evidence, case, home, tmp_path):
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    (made,) = write(evidence / "disk.qcow2", home=home, cwd=case, environment=state)
    assert (tmp_path / "state/tsk-qcow2/selector-key").exists() and not (home / ".local").exists()
    assert_byte(img_cat(made, home=home, environment=state), 0xEE)
    assert_refused(img_cat(made, home=home), "has no key yet")
    (made,) = write(
        evidence / "disk.qcow2", home=home, cwd=case, environment={"XDG_STATE_HOME": "relative"}
    )
    assert key_of(home).exists()


def hurt_mode(key):
    key.chmod(0o640)


def hurt_directory(key):
    key.parent.chmod(0o750)


def hurt_link(key):
    key.rename(key.parent / "real")
    key.symlink_to("real")


def hurt_directory_link(key):
    key.parent.rename(key.parent.parent / "real")
    key.parent.symlink_to("real")


def hurt_short(key):
    key.write_bytes(key.read_bytes()[:31])


def hurt_empty(key):
    key.write_bytes(b"")


def hurt_fifo(key):
    key.unlink()
    os.mkfifo(key, 0o600)


HURTS = {
    hurt_mode: "not yours alone",
    hurt_directory: "not yours alone",
    hurt_link: "not yours alone",
    hurt_directory_link: "not yours alone",
    hurt_short: "damaged",
    hurt_empty: "damaged",
    hurt_fifo: "not yours alone",
}


@pytest.mark.parametrize("hurt", HURTS)
def test_a_key_that_others_may_know_is_refused(hurt, evidence, case, home):
    (made,) = write(evidence / "disk.qcow2", home=home, cwd=case)
    hurt(key_of(home))
    assert_refused(img_cat(made, home=home), HURTS[hurt])
    refuses(evidence / "disk.qcow2", home=home, cwd=case, words=[HURTS[hurt]])
    # This one needs no key.
    (inside,) = write("--directory", evidence, evidence / "disk.qcow2", home=home, cwd=case)
    assert_byte(img_cat(inside, home=home), 0xEE)


def test_a_home_that_cannot_be_written_to(evidence, case, tmp_path):
    raw(tmp_path / "file", 0)
    refuses(
        evidence / "disk.qcow2",
        home=tmp_path / "file",
        cwd=case,
        words=["selector-key", "Not a directory"],
    )


# ---- Writing ---------------------------------------------------------------------


def test_a_selector_beside_its_image_needs_no_key(evidence, home):
    """Relative paths: the directory can be moved as a whole, and read by anybody."""
    (made,) = write("--directory", evidence, evidence / "disk.qcow2@1", home=home, cwd="/")
    assert made.read_text() == f"{FIRST_LINE}./disk.qcow2@id=1\n"
    assert not (home / ".local").exists()
    os.rename(evidence, evidence.parent / "moved")
    assert_byte(img_cat(evidence.parent / "moved" / made.name, home=home), 0x11)


def test_never_silently_beside_the_evidence(evidence, home, tmp_path):
    os.symlink(evidence, tmp_path / "linked")
    for cwd in (evidence, tmp_path / "linked"):
        for name in ("disk.qcow2", f"{tmp_path}/linked/disk.qcow2@1"):
            refuses(
                name, home=home, cwd=cwd, words=["into the image's own directory", "--directory"]
            )
        refuses("--all", "disk.qcow2", home=home, cwd=cwd, words=["into the image's own directory"])
    made = write("--all", "--directory", ".", "disk.qcow2", home=home, cwd=evidence)
    assert len(made) == 4


def test_all_of_an_image(evidence, case, home):
    """The active disk and each snapshot, those that share a name too."""
    made = write("--all", evidence / "disk.qcow2", home=home, cwd=case)
    assert [path.name for path in made] == [
        "disk-active.img",
        "disk-before_update.img",
        "disk-it_s_.._twin.img",
        "disk-it_s_.._twin-2.img",
    ]
    for path, byte in zip(made, (0xEE, 0x11, 0x22, 0x33)):
        assert_byte(img_cat(path, home=home), byte)


def test_all_says_what_it_wrote(evidence, case, home):
    done = command("selector", "--all", evidence / "disk.qcow2", home=home, cwd=case)
    assert done.stdout.splitlines()[:2] == [
        "disk-active.img  the active disk",
        'disk-before_update.img  snapshot 1 "before update"',
    ]
    done = command("selector", "--directory", case, evidence / "disk.qcow2", home=home, cwd="/")
    assert done.stdout == f"{case}/disk-active-2.img  the active disk\n"


def test_snapshots_without_names_or_with_one_id(case, home, tmp_path):
    path = image(
        tmp_path / "x/odd name,@.qcow2",
        0xEE,
        [
            (b"7", b"", 0x11),
            (b"", b"", 0x22),
            (b"8", b"twin", 0x33),
            (b"8", b"twin", 0x44),
            (b"../9", "Größe\n".encode(), 0x55),
            (b"10", b"\xff\xfe/..", 0x66),
            (b"11", b"-rf", 0x77),
        ],
    )
    made = write("--all", path, home=home, cwd=case)
    assert [item.name for item in made] == [
        "odd_name_-active.img",
        "odd_name_-id-7.img",
        "odd_name_-index-1.img",
        "odd_name_-twin.img",
        "odd_name_-twin-2.img",
        "odd_name_-Gr_e_.img",
        "odd_name_-_...img",
        "odd_name_--rf.img",
    ]
    for item, byte in zip(made, (0xEE, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77)):
        assert_byte(img_cat(item, home=home), byte)


@pytest.mark.parametrize(
    "name, stem",
    [
        ("-rf.qcow2", "_rf"),
        (".hidden", "_hidden"),
        ("ü.QCOW2", "_"),
        (".qcow2", "_qcow2"),
        ("a" * 200 + ".qcow2", "a" * 72),
        ("disk.img", "disk"),
        ("a@b,c", "a_b_c"),
    ],
)
def test_file_names_need_no_quoting(name, stem, case, home, tmp_path):
    image(tmp_path / "x" / name, 0x11, [(b"1", b"z" * 300, 0x22)])
    made = write("--all", tmp_path / "x" / name, home=home, cwd=case)
    assert [path.name for path in made] == [f"{stem}-active.img", f"{stem}-{'z' * 72}.img"]
    assert_byte(img_cat(made[1], home=home), 0x22)


def test_saved_memory(case, home, tmp_path):
    """Asked for with --all, for the snapshots that have some; or by name."""
    made = Image(size=SIZE, cluster_bits=16)
    state = made.disk.copy(size=8193 * SIZE)
    made.disk.normal(0, b"\x11" * SIZE)
    made.snapshot(b"1", b"without")
    state.normal(0, b"\x11" * SIZE)
    state.normal(8192, b"\x22" * SIZE)
    made.snapshot(
        b"2", b"with", disk=state, extra=(4096).to_bytes(8, "big") + SIZE.to_bytes(8, "big")
    )
    path = tmp_path / "x/disk.qcow2"
    path.parent.mkdir()
    made.write(path)
    files = write("--all", "--vmstate", path, home=home, cwd=case)
    assert [item.name for item in files] == [
        "disk-active.img",
        "disk-without.img",
        "disk-with.img",
        "disk-with-vmstate.img",
    ]
    assert img_cat(files[3], home=home).stdout == b"\x22" * 4096
    (named,) = write(f"{path}@with,vmstate", home=home, cwd=case)
    assert (
        named.name == "disk-with-vmstate-2.img"
        and img_cat(named, home=home).stdout == b"\x22" * 4096
    )


def test_nothing_is_ever_overwritten(evidence, case, home):
    """Not files, nor what links lead to."""
    (case / "disk-active.img").write_text("mine")
    os.symlink(case / "target", case / "disk-active-2.img")
    (case / "disk-active-3.img").mkdir()
    (made,) = write(evidence / "disk.qcow2", home=home, cwd=case)
    assert made.name == "disk-active-4.img"
    assert (case / "disk-active.img").read_text() == "mine" and not (case / "target").exists()


def test_options_are_carried_over_and_made_absolute(home, case, tmp_path):
    """Those with commas too, and those below the directory as relative ones."""
    overlay(tmp_path / "x/top.qcow2", "lost.raw")
    raw(tmp_path / "b,ases/base.raw", 0x44)
    raw(tmp_path / "b,ases/lost.raw", 0x55)
    relative = "../x/top.qcow2,backing=../b,,ases/base.raw,errors=zero"
    (made,) = write(relative, home=home, cwd=case)
    assert (
        made.read_text().splitlines()[1]
        == f"{tmp_path}/x/top.qcow2,backing={tmp_path}/b,,ases/base.raw,errors=zero"
    )
    assert_byte(img_cat(made, home=home), 0x44)
    (made,) = write("../x/top.qcow2,search=../b,,ases", home=home, cwd=case)
    assert_byte(img_cat(made, home=home), 0x55)
    (made,) = write("--directory", tmp_path, relative, home=home, cwd=case)
    assert made.read_text() == f"{FIRST_LINE}./x/top.qcow2,backing=./b,,ases/base.raw,errors=zero\n"
    assert_byte(img_cat(made, home=home), 0x44)
    (made,) = write("../x/top.qcow2,backing=none", home=home, cwd=case)
    assert_byte(img_cat(made, home=home), 0)


def test_links_are_resolved_when_it_is_written(evidence, case, home):
    """It keeps leading to the file that the user named then."""
    os.symlink(evidence / "disk.qcow2", case / "link.qcow2")
    (case / "sub").mkdir()
    (made,) = write("../link.qcow2", home=home, cwd=case / "sub")
    assert f"{evidence}/disk.qcow2" in made.read_text() and made.name == "link-active.img"
    (inside,) = write("--directory", case, case / "link.qcow2", home=home, cwd="/")
    assert "MAC" in inside.read_text()


def test_a_name_that_another_file_has(evidence, case, home):
    """disk.qcow2@id=1 is a file: a selector for the snapshot would lead there."""
    image(evidence / "disk.qcow2@id=1", 0x99)
    for more in ([], ["--directory", evidence]):
        done = command(
            "selector", *more, evidence / "disk.qcow2@before update", home=home, cwd=case
        )
        assert done.returncode == 1 and "is also the name of another file" in done.stderr


def test_several_images(evidence, case, home, tmp_path):
    image(tmp_path / "other/disk.qcow2", 0x77)
    made = write(evidence / "disk.qcow2@1", tmp_path / "other/disk.qcow2", home=home, cwd=case)
    for path, byte in zip(made, (0x11, 0x77)):
        assert_byte(img_cat(path, home=home), byte)


def test_what_cannot_be_written_is_explained(evidence, case, home, tmp_path):
    plain = raw(tmp_path / "plain.raw", 0)
    image(tmp_path / "line\nbreak/disk.qcow2", 1)
    (made,) = write(evidence / "disk.qcow2", home=home, cwd=tmp_path)
    disk = evidence / "disk.qcow2"
    for arguments, words in (
        ([disk.parent / "none.qcow2"], ["no file"]),
        ([plain], ["not a qcow2"]),
        ([f"{disk}@nobody"], ["before update"]),
        ([f"{disk},nonsense"], ["nonsense"]),
        ([f"{disk},key-file=/nowhere/key"], ["/nowhere/key", "No such file"]),
        ([made], ["selector file itself"]),
        ([tmp_path / "line\nbreak/disk.qcow2"], ["line break"]),
        (["--directory", "/nowhere", disk], ["/nowhere"]),
        (["--directory", plain, disk], ["plain.raw"]),
    ):
        refuses(*arguments, home=home, cwd=case, words=words)
    for arguments, words in (
        ([], ["needs an image"]),
        (["--directory"], ["needs a directory"]),
        (["--wrong", disk], ["--wrong"]),
        (["--vmstate", disk], ["--all"]),
        (["--all", f"{disk}@1"], ["--all"]),
    ):
        refuses(*arguments, home=home, cwd=case, words=words, status=2)


def test_a_full_disk_leaves_nothing_behind(evidence, home, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    script = (
        f"mount -t tmpfs -o size=4k tmpfs {small}; cd {small}; cat /dev/zero > filler 2>/dev/null; "
        f"{COMMAND} selector {evidence}/disk.qcow2; echo $?; ls"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**tools.CLEAN, "HOME": str(home)},
    )
    if "unshare" in done.stderr:
        pytest.skip("user namespaces are not allowed here: " + done.stderr)
    assert done.stdout == "1\nfiller\n" and "No space left" in done.stderr
