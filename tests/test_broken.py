# SPDX-License-Identifier: MIT
"""Broken images through every door: none says good, clean or nothing of what another calls damaged,
lost or unreadable.

The images are those of lib/defects.py, one defect each, and those below, whose tables are lost.
"""
import json
import os
import re
import struct

import pytest
import qcow2core
from lib import core, encrypted, tools
from lib.builder import COPIED, Image, pattern, poke, squeezable
from lib.defects import (
    BITMAP_DEFECTS,
    DEFECTS,
    bitmap_places,
    cut,
    damage_bitmaps,
    entry,
    extended,
    make_marked,
    past,
    snapshot_entry,
    wipe_snapshots,
)
from lib.project import BUILD, COMMAND, run

C = 4096


def running():
    """With saved memory, two snapshots and compressed clusters."""
    image = Image(700 * C, cluster_bits=12)
    for cluster in range(8):
        image.disk.normal(cluster, pattern(cluster, C))
        image.disk.compressed(cluster + 10, squeezable(cluster, C))
    disk = image.disk.copy()
    disk.l1_entries = 3
    disk.normal(1024, pattern("memory", C))
    image.snapshot(b"1", b"running", disk=disk, vm_state_size=C)
    image.snapshot(b"2", b"later")
    image.disk.normal(3, pattern("new", C))
    return image


def fill(data, start, length, byte=0):
    data[start : start + length] = bytes([byte]) * length


def second(image):
    return image.snapshots_offset + image.snapshot_offsets[1]


def stream(image, data, cluster):
    """Where a compressed cluster's stream is."""
    return (
        struct.unpack_from(">Q", data, entry(image, cluster))[0] & (1 << image.compressed_shift) - 1
    )


LOST = {  # name: (image, what is done to its bytes)
    "the second entry wiped": (running, lambda i, d: fill(d, second(i), 40)),
    "the second entry's fixed part garbage": (running, lambda i, d: fill(d, second(i), 40, 0xFF)),
    "both entries wiped": (running, wipe_snapshots),
    "an entry more": (running, lambda i, d: poke(d, 60, "I", 3)),
    "198 entries more": (running, lambda i, d: poke(d, 60, "I", 200)),
    "more entries than a table can have": (running, lambda i, d: poke(d, 60, "I", 0xFFFFFFFF)),
    "an entry less": (running, lambda i, d: poke(d, 60, "I", 1)),
    "no entries": (running, lambda i, d: poke(d, 60, "I", 0)),
    "snapshot table not aligned": (running, lambda i, d: poke(d, 64, "Q", i.snapshots_offset + 8)),
    "snapshot table in the header": (running, lambda i, d: poke(d, 64, "Q", 0)),
    "snapshot table in guest data": (
        running,
        lambda i, d: poke(d, 64, "Q", i.disk.entries[0][0] & ~COPIED),
    ),
    "snapshot table in an L2 table": (running, lambda i, d: poke(d, 64, "Q", i.disk.l2_offsets[0])),
    "l1_size 0": (running, lambda i, d: poke(d, second(i) + 8, "I", 0)),
    "L1 table in the header": (running, lambda i, d: poke(d, second(i), "Q", 0)),
    "L1 table not aligned": (running, lambda i, d: poke(d, second(i), "Q", 513)),
    "L1 table past the end": (running, lambda i, d: poke(d, second(i), "Q", past(d, 9))),
    "disk larger than the L1 table": (running, lambda i, d: poke(d, second(i) + 48, "Q", 1 << 50)),
    "VM state larger than the L1 table": (
        running,
        lambda i, d: poke(d, snapshot_entry(i) + 40, "Q", 1 << 50),
    ),
    "no extra data": (running, lambda i, d: poke(d, second(i) + 36, "I", 0)),
    "active L1 table in the header": (running, lambda i, d: poke(d, 40, "Q", 0)),
    "active L1 table wiped": (running, lambda i, d: fill(d, i.disk.l1_offset, 8 * i.disk.l1_count)),
    "active L2 table wiped": (running, lambda i, d: fill(d, i.disk.l2_offsets[0], C)),
    "active L2 table of ones": (running, lambda i, d: fill(d, i.disk.l2_offsets[0], C, 0xFF)),
    "a snapshot's L1 table wiped": (running, lambda i, d: fill(d, i.snapshots[1][0].l1_offset, 16)),
    "refcount table wiped": (running, lambda i, d: fill(d, i.refcount_table, C)),
    "refcount table in the header": (running, lambda i, d: poke(d, 48, "Q", 0)),
    "refcount block wiped": (running, lambda i, d: fill(d, i.refcount_blocks[0], C)),
    "a stream that cannot be decoded": (running, lambda i, d: fill(d, stream(i, d, 12), 64, 0xFF)),
    "the second half gone": (running, lambda i, d: cut(d, len(d) // 2)),
    "bitmaps without an extension": (running, lambda i, d: poke(d, 88, "Q", 1)),
    "marked corrupt": (running, lambda i, d: poke(d, 72, "Q", 2)),
    "marked dirty": (running, lambda i, d: poke(d, 72, "Q", 1)),
    "snapshots beside a data file": (
        lambda: extended(data_file=b"data"),
        lambda i, d: [poke(d, 60, "I", 1), poke(d, 64, "Q", i.disk.l1_offset)],
    ),
}
LISTED = {  # name: how many snapshots are listed then, and how many are lost
    "the second entry wiped": (1, 1),
    "the second entry's fixed part garbage": (1, 1),
    "both entries wiped": (0, 2),
    "an entry more": (2, 1),
    "198 entries more": (2, 198),
    "more entries than a table can have": (0, 0xFFFFFFFF),
    "snapshot table not aligned": (0, 2),
    "snapshot table in the header": (0, 2),
    "snapshot table in guest data": (0, 2),
    "snapshot table in an L2 table": (0, 2),
    "l1_size 0": (2, 0),
    "L1 table in the header": (2, 0),
    "L1 table not aligned": (2, 0),
}
ONLY_READING_FINDS = {"a stream that cannot be decoded"}
ONLY_A_WARNING = {"marked corrupt", "marked dirty"}


# ---- The doors -------------------------------------------------------------------


class Answers:
    """What every door says of the image at `path`."""

    def __init__(self, path):
        self.path = path
        self.verify = self.command("verify", "--vmstate", path)
        self.verify_json = json.loads(self.command("verify", "--vmstate", "--json", path).stdout)
        self.check = self.command("check", path)
        self.info = self.command("info", path)
        self.info_json = json.loads(self.command("info", "--json", path).stdout)
        self.snapshots = self.command("snapshots", path)
        self.bitmaps = [
            self.command("bitmap", path, one["name"]) for one in self.info_json["bitmaps"]
        ]
        self.no_bitmap = self.command("bitmap", path, "none of that name")
        self.no_snapshot = self.command("info", f"{path}@none of that name")
        self.no_index = self.command("info", f"{path}@index=99999")
        self.selector = self.command(
            "selector", "--all", "--directory", path.parent / "selectors", path
        )
        names = [str(path)]
        for index, one in enumerate(self.info_json["snapshots"]):
            names += [f"{path}@index={index}"] + (
                [f"{path}@index={index},vmstate"] if one["vm_state_size"] else []
            )
        self.names = names
        self.img_stat = tools.run("img_stat", path)
        self.img_cat = {
            name: tools.run("img_cat", name, stdout=subprocess_null()) for name in names
        }
        self.python = {name: read_by_python(name) for name in names}
        with qcow2core.open(path) as disk:
            self.python_warnings = disk.warnings

    @staticmethod
    def command(*words):
        return run(COMMAND, *words, check=False, env=tools.CLEAN)

    @property
    def unreadable(self):
        """The states that cannot be read as a whole; each door must say so."""
        bad = {name for name, result in self.img_cat.items() if result.returncode != 0}
        assert bad == {name for name, error in self.python.items() if error is not None}
        return bad

    @property
    def lost(self):
        """How many snapshots and bitmaps are lost, or cannot be read."""
        lists = self.info_json["snapshots"] + self.info_json["bitmaps"]
        return (
            self.info_json["lost_snapshot_count"]
            + self.info_json["lost_bitmap_count"]
            + sum(one["error"] is not None for one in lists)
        )


def subprocess_null():
    return open(os.devnull, "wb")


def read_by_python(name):
    """None, or the error."""
    try:
        with qcow2core.open(name) as disk:
            for offset in range(0, min(disk.size, 1 << 27), 1 << 20):
                disk.read_at(offset, 1 << 20)
    except qcow2core.Error as error:
        return error
    return None


def assert_agreement(path, only_reading=False, only_warning=False):
    answers = Answers(path)
    unreadable, lost = answers.unreadable, answers.lost
    verdict = answers.verify.stdout.splitlines()[-1]
    about = f"{verdict}\n{answers.check.stdout}\n{answers.info.stdout}\n{unreadable} {lost}"
    check_status, verify_status = answers.check.returncode, answers.verify.returncode
    result = answers.verify_json["result"]
    assert {"good": 0, "damaged": 4, "readable": 5, "incomplete": 6}[result] == verify_status, about
    assert verdict.startswith(result.capitalize() + ":"), about
    # verify: damaged if anything cannot be read or is lost; never good if the check is not clean
    assert (verify_status == 4) == bool(
        unreadable or lost or "may fail, or give" in answers.check.stdout
    ), about
    assert (verify_status == 0) <= (check_status == 0 and not unreadable and not lost), about
    # check: clean only where all tables lead to what they should; what it does not read, it says
    assert (check_status == 0) <= (not lost and (not unreadable or only_reading)), about
    assert (check_status == 0) == ("CLEAN: " in answers.check.stdout)
    if check_status == 0:
        assert (
            answers.check.stdout.endswith(f"More: tsk-qcow2 verify '{path}'\n")
            and "Data were not read" in answers.check.stdout
        )
        assert (verify_status == 0) != only_reading, about
    # every door reports what is lost, with the same sentences
    told = answers.info_json["warnings"]
    assert told == answers.python_warnings == answers.verify_json["warnings"], about
    assert [f"Warning: {one}" for one in told] == re.findall(
        "^Warning: .*$", answers.info.stdout, re.M
    ), about
    assert [f"Warning: {one}" for one in told] == re.findall(
        "^Warning: .*$", answers.verify.stdout, re.M
    ), about
    assert [f"Warning: {one}" for one in told] == re.findall(
        "^Warning: .*$", answers.check.stdout, re.M
    ), about
    for errors in (
        answers.snapshots.stderr,
        answers.no_bitmap.stderr,
        answers.selector.stderr,
        answers.img_stat.complaint,
        *(
            result.complaint
            for result in answers.img_cat.values()
            if "Error opening image file" not in result.complaint
        ),
    ):
        assert [one for one in told if f"tsk-qcow2: warning: {one}\n" not in errors] == [], errors
    assert bool(told or "cannot be read" in answers.info.stdout) >= bool(lost), about
    assert f"Note: data were not read. More: tsk-qcow2 verify '{path}'\n" in answers.info.stdout
    if verify_status == 0:
        assert bool(told) == only_warning and ("See the warnings above." in verdict) == (
            "See the warnings above." in answers.check.stdout
        ) == bool(told)
    # a name that is not found is not said to be none of the image's, if the image may have lost it
    assert ("cannot be read" in answers.no_snapshot.stderr) == (
        answers.info_json["lost_snapshot_count"] > 0
    ), answers.no_snapshot
    assert ("cannot be read" in answers.no_index.stderr) == (
        answers.info_json["lost_snapshot_count"] > 0
    ), answers.no_index
    assert ("cannot be read" in answers.no_bitmap.stderr.splitlines()[-1]) == (
        answers.info_json["lost_bitmap_count"] > 0
    ), answers.no_bitmap
    for one, bitmap in zip(answers.info_json["bitmaps"], answers.bitmaps):
        assert (bitmap.returncode != 0) == (one["error"] is not None), bitmap
    assert_library_agrees(path, answers)
    return answers


def failure(function, *arguments):
    try:
        function(*arguments)
    except core.QcowError as error:
        return error.message
    return None


def assert_library_agrees(path, answers):
    with core.Image(path, no_chain=True) as image:
        assert image.lost == (
            answers.info_json["lost_snapshot_count"],
            answers.info_json["lost_bitmap_count"],
        )
        assert image.warnings == answers.info_json["warnings"]
        for index, one in enumerate(answers.info_json["snapshots"]):
            assert failure(image.check_snapshot, index) == one["error"]
        for index, one in enumerate(answers.info_json["bitmaps"]):
            assert failure(image.dirty_ranges, index) == one["error"]


@pytest.fixture(autouse=True)
def library(monkeypatch, tmp_path):
    monkeypatch.setenv("QCOW2CORE_LIBRARY", os.path.join(BUILD, "core/.libs/libqcow2core.so"))
    (tmp_path / "selectors").mkdir()


def broken(tmp_path, table, name):
    make, damage = table[name][:2]
    image = make()
    data = image.build()
    damage(image, data)
    return image.write(tmp_path / "image.qcow2", data)


@pytest.mark.parametrize("name", DEFECTS)
def test_one_defect(tmp_path, name):
    assert_agreement(broken(tmp_path, DEFECTS, name))


@pytest.mark.parametrize("name", LOST)
def test_lost_tables(tmp_path, name):
    answers = assert_agreement(
        broken(tmp_path, LOST, name),
        only_reading=name in ONLY_READING_FINDS,
        only_warning=name in ONLY_A_WARNING,
    )
    assert name in ONLY_A_WARNING or answers.verify.returncode != 0
    if name in LISTED:
        listed, lost = LISTED[name]
        assert (len(answers.info_json["snapshots"]), answers.info_json["lost_snapshot_count"]) == (
            listed,
            lost,
        )


def test_an_l1_table_in_the_header_is_none(tmp_path):
    """Most of what the header would be as one reads as zeros."""
    path = broken(tmp_path, LOST, "active L1 table in the header")
    state = Answers(path).verify_json["states"][0]
    assert [(one["start"], one["length"], one["code"]) for one in state["bad_ranges"]] == [
        (0, 700 * C, "CORRUPT")
    ]
    assert "where the header is" in state["bad_ranges"][0]["reason"]


@pytest.mark.parametrize("name", BITMAP_DEFECTS)
def test_lost_bitmaps(tmp_path, name):
    image = make_marked(tmp_path / "marked.qcow2")
    damage_bitmaps(image, bitmap_places(image), BITMAP_DEFECTS[name])
    assert bool(assert_agreement(image).lost) == (name != "nothing")


@pytest.mark.parametrize("at, value", ((0, b"X"), (8, b"rot13"), (108, b"\xff"), (208, b"\xff")))
def test_a_luks_header_that_cannot_be_used(tmp_path, at, value):
    """Nothing can be read then; the check needs no passphrase, and finds it all the same, unless
    this reader does not know the cipher."""
    path = encrypted.create(tmp_path / "luks.qcow2", "8M")
    with core.Image(path, no_chain=True) as image:
        start = image.encryption().header_offset
    data = bytearray(path.read_bytes())
    data[start + at : start + at + len(value)] = value
    path.write_bytes(data)
    check, info = Answers.command("check", path), Answers.command("info", path)
    assert (
        check.returncode == 4 and "the image cannot be decrypted" in check.stdout
    ) or value == b"rot13", check
    assert "its header cannot be used" in info.stdout
