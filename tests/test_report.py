# SPDX-License-Identifier: MIT
"""`tsk-qcow2 report`: one document of what the other commands know."""
import json
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from lib import door_names
from lib.builder import Image, pattern
from lib.project import COMMAND, SOURCE, run, tsk_qcow2

C = 4096
VOID = {"meta", "br", "link", "img", "hr", "input"}
SECTIONS = ("files", "facts", "pictures", "states", "hashes", "consistency", "residue")
DATE = "2026-11-26T21:30:00Z"


def report(*words, **options):
    return tsk_qcow2("report", *words, timeout=300, **options)


class Page(HTMLParser):
    """The elements and the text of a page that is well-formed, and has nothing that runs or that is
    fetched."""

    ALLOWED = set(
        "html head meta title style body header nav main section h1 h2 h3 p dl dt dd ul li a code"
        " span strong q br div table caption thead tbody tr th td figure figcaption"
        " svg desc defs pattern rect path text circle".split()
    )

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.words, self.links = [], [], [], []
        self.sections = {}  # by the ID of its heading
        self.section = None
        self.feed(text)
        self.close()
        assert not self.open
        assert len(self.ids) == len(set(self.ids))
        assert set(self.links) <= {f"#{one}" for one in self.ids}
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag, attributes):
        assert tag in self.ALLOWED, tag
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attributes:
            assert not name.startswith("on") and name not in ("src", "style"), (tag, name)
            if name == "href":
                self.links.append(value)
            if name == "id":
                self.ids.append(value)
            if name == "aria-labelledby" and tag == "section":
                self.section = value

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag
        if tag in ("td", "th", "dt", "dd"):
            self.handle_data(" ")

    def handle_data(self, data):
        self.words.append(data)
        self.sections[self.section] = self.sections.get(self.section, "") + data


def words_of(page, section):
    return re.sub(r"\s+", " ", page.sections[section])


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """An image with a snapshot and a file system: a file was created since then."""
    path = tmp_path_factory.mktemp("report") / "disk.qcow2"
    content = door_names.filesystem()
    door_names.image(path, content, snapshots=[(b"1", b"before", content)])
    return path


# ---- What is in it ------------------------------------------------------------------


def test_every_section_is_there(disk):
    page = Page(report(disk))
    assert "Not in this report" not in page.text
    assert "Good: every state can be read as a whole." in words_of(page, "summary")
    assert str(disk.stat().st_size) in words_of(page, "files").replace(",", "")
    assert run("sha256sum", disk).stdout.split()[0] in words_of(page, "files")
    assert "The disk, by what is stored" in words_of(page, "pictures")
    assert "before" in words_of(page, "snapshots")
    assert words_of(page, "states").count("ext4") == 2
    assert "Every byte of every state" in words_of(page, "damage")
    assert "CLEAN" in words_of(page, "consistency")
    assert "nothing to compare it with" in words_of(page, "differences")


def test_it_says_what_the_commands_say(disk):
    found = json.loads(report("--json", disk))
    assert [name for name in found if name in SECTIONS] == list(SECTIONS)
    assert all(found[name]["is_done"] and found[name]["why"] is None for name in SECTIONS)
    for section, *words in (
        ("facts", "info", "--chain"),
        ("consistency", "check"),
        ("residue", "residue"),
        ("hashes", "verify"),
    ):
        said = json.loads(run(COMMAND, *words, "--json", disk).stdout)
        for state in found[section]["data"].get("states", []):
            del state["title"]
        assert found[section]["data"] == said, section
    page = Page(report(disk))
    for state in json.loads(report("--json", disk))["hashes"]["data"]["states"]:
        assert f"{state['title']} {state['size']:,} {state['sha256']} " in words_of(page, "hashes")


def test_the_whole_chain_is_hashed(disk, tmp_path):
    overlay = tmp_path / "over\nlay\\.qcow2"
    door_names.overlay(overlay, os.fsencode(disk.name), b"qcow2")
    (tmp_path / disk.name).write_bytes(disk.read_bytes())
    report("-o", tmp_path / "report.html", "--hash-list", tmp_path / "hashes", overlay)
    checked = run("sha256sum", "--strict", "-c", "hashes", cwd=tmp_path).stdout
    assert checked.count(": OK") == 2
    page = Page((tmp_path / "report.html").read_text())
    assert "backing file: " in words_of(page, "files") and "0: over" in words_of(page, "chain")
    with open(tmp_path / disk.name, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    assert run("sha256sum", "-c", "hashes", cwd=tmp_path, check=False).returncode == 1


def test_images_inside_of_files(disk, tmp_path):
    """What is hashed is said; what sha256sum cannot find is not in its list."""
    (tmp_path / "packed").write_bytes(bytes(C) + disk.read_bytes())
    name = f"{tmp_path}/packed,offset={C}"
    page = Page(report("--hash-list", tmp_path / "hashes", name))
    assert "byte 4,096 of the file: size and SHA-256 are of what" in words_of(page, "files")
    assert run("sha256sum", disk).stdout.split()[0] in words_of(page, "files")
    assert (tmp_path / "hashes").read_text() == ""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/disk.qcow2").write_bytes(disk.read_bytes())
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", tmp_path / "inner", tmp_path / "host.raw", "8M")
    name = f"{tmp_path}/host.raw//0/disk.qcow2"
    page = Page(report("--hash-list", tmp_path / "more", name))
    assert run("sha256sum", disk).stdout.split()[0] in words_of(page, "files")
    assert (tmp_path / "more").read_text() == ""


def damaged_disk(tmp_path, name):
    """An image with a file of which some bytes cannot be read."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / name).write_bytes(b"here it is\n" * 3000)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-d", tmp_path / "files", tmp_path / "raw", "1M")
    content = (tmp_path / "raw").read_bytes()
    made = Image(size=len(content), cluster_bits=12)
    door_names.store(made.disk, content)
    made.disk.force(content.index(b"here it is\n") // C + 3, 1 << 63 | 513)
    return made.write(tmp_path / "disk.qcow2")


def test_damage_by_file_name(tmp_path):
    """The cluster with the content of a file cannot be read."""
    text = report(damaged_disk(tmp_path, "early.txt"), status=4)
    page = Page(text)
    assert "/early.txt Active disk 12 content, 4,096 bytes (4 KiB)" in words_of(page, "damage")
    assert "Files that are hit 1" in words_of(page, "summary")
    assert "Damaged: some of it cannot be read" in words_of(page, "summary")
    assert len(re.findall(r'<path class="cross" d="M[^"]*"', text)) == 2  # disk and file


def test_the_differences_are_those_of_diff(demo):
    *_, last = json.loads(report("--json", demo))["states"]["data"]["states"]
    done = run(COMMAND, "diff", "--json", f"{demo}@before-deletion", demo).stdout
    said = json.loads(done.splitlines()[-1])["counts"]
    assert {key: said[key] for key in last["difference"]["files"]} == last["difference"]["files"]
    assert said["created"] == said["deleted"] == 1
    assert 0 < last["difference"]["bytes_apart"] < demo.stat().st_size


def test_what_cannot_be_compared_is_not_called_unchanged(disk, tmp_path):
    """Nothing of the active disk can be read. Zeros alone would say that no file changed."""
    data = bytearray(disk.read_bytes())
    l1 = int.from_bytes(data[40:48], "big")
    data[l1 : l1 + 8] = (1 << 63 | 1 << 40).to_bytes(8, "big")
    (tmp_path / "damaged").write_bytes(data)
    said = words_of(Page(report(tmp_path / "damaged", status=4)), "differences")
    assert "not all of it can be compared" in said
    found = json.loads(report("--json", tmp_path / "damaged", status=4))
    *_, last = found["states"]["data"]["states"]
    assert not last["difference"]["complete"] and last["difference"]["result"] == "incomplete"
    assert "not all of it" not in words_of(Page(report(disk)), "differences")


def test_exit_status(tmp_path):
    image = Image(size=16 * C, cluster_bits=12)
    image.junk(pattern(1, C), leak=True)
    image.write(tmp_path / "leaky")
    Page(report(tmp_path / "leaky", status=5))
    image.disk.force(1, 1 << 63 | 513)
    image.write(tmp_path / "damaged")
    Page(report(tmp_path / "damaged", status=4))
    (tmp_path / "none").write_bytes(bytes(C))
    assert report(tmp_path / "none", status=1) == ""
    assert report(f"{tmp_path}/leaky,residue", status=2) == ""


def test_a_deleted_snapshot(tmp_path):
    """QEMU deletes it, and leaves its clusters in the file."""
    path = tmp_path / "image"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
    run("qemu-io", "-c", "write -P 1 0 4M", path)
    run("qemu-img", "snapshot", "-c", "gone <b>", path)
    run("qemu-io", "-c", "write -P 2 0 2M", path)
    keep = "pass-discard-snapshot=off,pass-discard-other=off"
    run(
        *("qemu-img", "snapshot", "-d", "gone <b>", "--image-opts"),
        f"driver=qcow2,{keep},file.filename={path}",
    )
    words = words_of(Page(report(path)), "residue")
    assert re.search(
        r"Recovered: deleted snapshots that can be read.* 1 gone <b> .* 64 MiB kept: 2 MiB", words
    )
    assert report(f"{path}@deleted=gone <b>", status=2) == ""


def test_an_image_without_refcounts(tmp_path):
    """qcow version 1: what it does not have is said."""
    (tmp_path / "raw").write_bytes(door_names.filesystem())
    run("qemu-img", "convert", "-O", "qcow", tmp_path / "raw", tmp_path / "old.qcow")
    page = Page(report(tmp_path / "old.qcow", status=6))
    assert "The image file is not drawn: an image of qcow version 1" in words_of(page, "pictures")
    assert "Not in this report: an image of qcow version 1" in words_of(page, "consistency")
    assert "ext4" in words_of(page, "states")


# ---- Sections and options ---------------------------------------------------------------


def test_what_was_not_asked_for_says_so(disk):
    page = Page(report("--sections", "facts,files", "--no-hash", disk))
    assert page.text.count("it was not asked for") >= 5
    assert "SHA-256 none: not asked for" in words_of(page, "files")
    assert "The chain of files" in page.text
    report("--sections", "nonsense", disk, status=2)
    report("--date", "yesterday", disk, status=2)
    report("--date", status=2)
    report(disk, disk, status=2)


def test_what_cannot_be_done_says_why(disk, tmp_path):
    """A state of which libtsk's program cannot be run."""
    (tmp_path / "tsk-qcow2").write_bytes(COMMAND.read_bytes())
    (tmp_path / "tsk-qcow2").chmod(0o755)
    (tmp_path / "tsk-qcow2-states").write_text("#!/bin/sh\necho 'no <states> today' >&2\nexit 1\n")
    (tmp_path / "tsk-qcow2-states").chmod(0o755)
    done = run(tmp_path / "tsk-qcow2", "report", disk, check=False)
    assert done.returncode == 6 and "no <states> today" in done.stderr
    assert "Not in this report: no <states> today." in words_of(Page(done.stdout), "states")


def test_nothing_is_overwritten(disk, tmp_path):
    before = disk.read_bytes()
    for option in ("-o", "--hash-list"):
        report(option, disk, disk, status=1)
        os.symlink(tmp_path / "elsewhere", tmp_path / option)
        report(option, tmp_path / option, disk, status=1)
    assert disk.read_bytes() == before and not (tmp_path / "elsewhere").exists()
    assert report("-o", tmp_path / "new", disk) == "" and (tmp_path / "new").exists()
    report("-o", tmp_path / "missing/new", disk, status=1)


def test_a_file_that_appears_meanwhile_is_not_overwritten(disk, tmp_path):
    """The program that is started last makes it."""
    (tmp_path / "tsk-qcow2").write_bytes(COMMAND.read_bytes())
    (tmp_path / "tsk-qcow2-states").write_text(f"#!/bin/sh\necho mine >{tmp_path}/out\nexit 1\n")
    for name in ("tsk-qcow2", "tsk-qcow2-states"):
        (tmp_path / name).chmod(0o755)
    done = run(tmp_path / "tsk-qcow2", "report", "-o", tmp_path / "out", disk, check=False)
    assert done.returncode == 1 and "already there" in done.stderr
    assert (tmp_path / "out").read_text() == "mine\n"


def test_the_same_image_gives_the_same_bytes(disk):
    first = report("--date", DATE, disk)
    assert report("--date", DATE, disk) == first and DATE in first
    undated = report(disk).splitlines()
    differing = [line for line in undated if line not in first.splitlines()]
    assert len(differing) <= 4  # date, host, command
    assert report("--json", "--date", DATE, disk) == report("--json", "--date", DATE, disk)


# ---- Hostile images ------------------------------------------------------------------------

HOSTILE = b"</td></table><script>alert(1)</script><img src=x onerror=\"alert('2')\">&amp;{{image}}"


def test_names_stay_text(tmp_path):
    name = "a<svg onload=alert(3)>&'\".qcow2"
    path = tmp_path / name
    content = door_names.filesystem()
    made = Image(size=len(content), cluster_bits=12)
    door_names.store(made.disk, content)
    made.snapshot(HOSTILE[:20], HOSTILE + b"\x00\x1b[31m\xff\xe2\x80\xae", made.disk.copy())
    made.write(path)
    page = Page(report(path))
    assert HOSTILE.decode() in page.text
    assert "a<svg onload=alert(3)>" in page.text
    assert "\\x1b[31m\\xff" in page.text
    json.loads(report("--json", path))


def test_names_of_files_stay_text(tmp_path):
    """In a file system, on damage."""
    page = Page(report(damaged_disk(tmp_path, "<script>alert(1)<"), status=4))
    assert "/<script>alert(1)< Active disk 12 content" in words_of(page, "damage")


@pytest.mark.unsanitized
def test_the_size_is_bounded(tmp_path):
    """2,500 snapshots with long names, and an invalid entry in every second cluster."""
    image = Image(size=40000 * C, cluster_bits=12)
    for cluster in range(0, 40000, 2):
        image.disk.force(cluster, 1 << 63 | 513)
    state = type(image.disk)(image, C)
    for index in range(2500):
        image.snapshot(str(index).encode(), HOSTILE * 11 + str(index).encode(), state)
    image.write(tmp_path / "image")
    text = report("--sections", "facts,hashes,consistency", tmp_path / "image", status=4)
    assert len(text) < 16 << 20
    page = Page(text)
    assert "And 1,500 more snapshots." in page.text and "more ranges." in page.text
    assert "more findings" not in page.text or page.text.count("more findings") == 1


def test_files_on_ranges_that_are_not_listed(tmp_path):
    """2,500 damaged ranges: that files may be missing is said."""
    image = Image(size=5000 * C, cluster_bits=12)
    for cluster in range(0, 5000, 2):
        image.disk.force(cluster, 1 << 63 | 513)
    image.write(tmp_path / "image")
    found = json.loads(report("--json", "--no-hash", tmp_path / "image", status=4))
    state = found["hashes"]["data"]["states"][0]
    assert (state["bad_range_count"], len(state["bad_ranges"])) == (2500, 2000)
    assert not found["states"]["data"]["states"][0]["damaged_files_complete"]
    done = run(COMMAND, "verify", "--list", "3", tmp_path / "image", check=False)
    assert done.stdout.count("cannot read 4096 bytes at") == 3
    assert "and 2497 more damaged ranges" in done.stdout
    for bad in ("-1", "", "10001", "many"):
        assert run(COMMAND, "verify", "--list", bad, tmp_path, check=False).returncode == 2


# ---- Documents --------------------------------------------------------------------------------


def test_the_document_has_every_key(disk):
    text = Path(SOURCE, "docs", "report-json.md").read_text()
    named = set(re.findall(r"`([a-z_0-9]+)`", text))
    found = json.loads(report("--json", disk))
    assert set(found) | set(found["made"]) | set(found["summary"]) <= named
    states = found["states"]["data"]
    assert set(found["files"]) | set(found["files"]["data"]["list"][0]) | set(states) <= named
    for state in states["states"]:
        assert set(state) | set(state["volumes"][0]) | set(state["difference"] or ()) <= named
    assert set(found["pictures"]["data"]) <= named


def test_the_pictures_are_those_that_map_draws_now(tmp_path):
    run(
        sys.executable,
        f"{SOURCE}/scripts/draw-pictures.py",
        tmp_path,
        env={**os.environ, "PATH": f"{COMMAND.parent}:/usr/bin:/bin"},
    )
    drawn = sorted(tmp_path.glob("*.svg"))
    assert len(drawn) == 2
    for path in drawn:
        assert path.read_bytes() == Path(SOURCE, "docs", path.name).read_bytes(), path.name
