# SPDX-License-Identifier: MIT
"""Selector files that `tsk-qcow2 selector` writes, and the authentication code by which one that
this user wrote may lead anywhere."""
import hashlib
import hmac
import os
import re
import shutil
import subprocess

import pytest
from lib import tools
from lib.builder import Image
from lib.project import COMMAND, can_change_user
from lib.selectors import (
    FIRST_LINE,
    SIZE,
    assert_byte,
    command,
    image,
    key_of,
    overlay,
    raw,
    refuses,
    selector,
    write,
)
from lib.tools import assert_refused, img_cat

ROOT = pytest.mark.skipif(not can_change_user(), reason="needs root, to be another user")


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
