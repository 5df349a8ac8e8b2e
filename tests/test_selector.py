# SPDX-License-Identifier: MIT
"""Selector files: an image name in a file, opened by the tools of The Sleuth Kit.

A selector can come with the evidence. So it is not trusted, and may only lead to files below its
own directory (test_selector_writing.py has those that this user wrote)."""
import contextlib
import os
import re
import shutil
import sqlite3
import subprocess

import pytest
from lib import tools
from lib.builder import Image
from lib.selectors import (
    FIRST_LINE,
    SIZE,
    assert_byte,
    command,
    image,
    overlay,
    raw,
    selector,
    write,
)
from lib.tools import assert_refused, img_cat
from lib.project import COMMAND

BOTH = pytest.mark.parametrize("image_type", ["qcow2", None], ids=["told", "detected"])


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
