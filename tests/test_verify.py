# SPDX-License-Identifier: MIT
"""Damage as users meet it: `tsk-qcow2 verify`, and errors=zero with the tools of The Sleuth Kit."""
import hashlib
import json
import os
import pty
import re
import select
import subprocess
from pathlib import Path

import pytest
import qcow2core
from lib import tools
from lib.builder import OFFSET_MASK, Image, deflate, pattern, poke, squeezable
from lib.project import BUILD, COMMAND, SOURCE, json_keys, run, run_line

C = 65536


def verify(*arguments):
    result = run(COMMAND, "verify", *arguments, check=False, env=tools.CLEAN)
    return result.returncode, result.stdout, result.stderr


def verify_json(*arguments):
    status, out, _ = verify("--json", *arguments)
    return status, json.loads(out)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def filled(**options):
    """A disk with normal and compressed clusters, a snapshot of another size with VM state, and a
    second snapshot."""
    image = Image(40 * C + 1000, **options)
    for i in range(0, 30, 2):
        image.disk.normal(i, pattern(i, C))
        image.disk.compressed(i + 1, squeezable(i + 1, C))
    running = image.disk.copy()
    running.l1_entries = 2
    running.normal(8192, pattern("memory", C))
    image.snapshot(b"1", b"running", disk=running, vm_state_size=5000)
    image.snapshot(b"2", "größer, \n\x1b[31m".encode(), seconds=1)
    image.disk.normal(3, pattern("later", C))
    return image


def test_good_image(tmp_path):
    image = filled()
    path = image.write(tmp_path / "disk.qcow2")
    active = sha256(image.disk.model.read(0, image.disk.size))
    before = sha256(image.snapshots[1][0].model.read(0, image.disk.size))
    assert active != before
    status, out, err = verify(path)
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"File: {path} (image, qcow2)",
        f"Active disk: {40 * C + 1000} bytes, SHA-256 {active}",
        f'Snapshot ID 1 "running": {40 * C + 1000} bytes, SHA-256 {before}',
        f'Snapshot ID 2 "größer, \\x0a\\x1b[31m": {40 * C + 1000} bytes, SHA-256 {before}',
        'Not read: saved memory of 1 snapshot (5000 bytes); "--vmstate" reads it too',
        "Good: all that was read can be read.",
    ]
    assert verify("--vmstate", path)[1].splitlines()[-1] == "Good: all of it can be read."


def test_vm_states_on_request(tmp_path):
    path = filled().write(tmp_path / "disk.qcow2")
    status, report = verify_json("--vmstate", path)
    assert status == 0 and report["result"] == "good"
    assert [(s["state"], s["index"]) for s in report["states"]] == [
        ("active", None),
        ("snapshot", 0),
        ("vm_state", 0),
        ("snapshot", 1),
    ]
    state = report["states"][2]
    assert (state["size"], state["sha256"]) == (5000, sha256(pattern("memory", C)[:5000]))
    assert report["not_read"] == {"vm_states": 0, "vm_state_bytes": 0, "other_disks": 0}


def test_one_state_alone(tmp_path):
    path = filled().write(tmp_path / "disk.qcow2")
    status, out, _ = verify(f"{path}@running,vmstate")
    file, state, unread, verdict = out.splitlines()
    assert status == 0 and state.startswith(
        'VM state of snapshot ID 1 "running": 5000 bytes, SHA-256 '
    )
    assert (
        unread == "Not read: 3 other disks of the image, because the image name chooses one state"
        and verdict == "Good: all that was read can be read."
    )
    status, report = verify_json(f"{path}@2")
    assert [s["id"] for s in report["states"]] == ["2"]
    assert report["not_read"] == {"vm_states": 1, "vm_state_bytes": 5000, "other_disks": 2}
    # A mistake of the user's, and no damage.
    status, out, err = verify("--json", f"{path}@2,vmstate")
    assert (status, out) == (1, "") and "snapshot ID 2 has no VM state" in err


@pytest.fixture
def damaged(tmp_path):
    """An image with three damaged ranges in the active disk; two of them are in the snapshots
    too."""
    image = filled()
    data = image.build()
    entry = image.disk.entry_offset
    poke(data, entry(4), "Q", (image.disk.entries[4][0] & OFFSET_MASK) + 512)
    at = image.disk.entries[7][0] & (1 << image.compressed_shift) - 1
    data[at : at + 64] = b"\xff" * 64
    for i in (20, 21):
        poke(data, entry(i), "Q", len(data) + i * C)
    poke(data, image.snapshots[0][0].entry_offset(10), "Q", len(data) + 100 * C)
    path = image.write(tmp_path / "disk.qcow2", data)
    expected = bytearray(image.disk.model.read(0, image.disk.size))
    for i in (4, 7, 20, 21):
        expected[i * C : (i + 1) * C] = bytes(C)
    return path, image, bytes(expected), at


def test_damaged_image(damaged):
    path, image, expected, stream = damaged
    status, report = verify_json(path)
    assert (status, report["result"]) == (4, "damaged")
    active, first, second = report["states"]
    assert (active["sha256"], active["sha256_with_zeros"]) == (None, sha256(expected))
    assert (active["bad_range_count"], active["bad_bytes"]) == (3, 4 * C)
    assert [(r["start"], r["length"], r["code"]) for r in active["bad_ranges"]] == [
        (4 * C, C, "CORRUPT"),
        (7 * C, C, "CORRUPT"),
        (20 * C, 2 * C, "TRUNCATED"),
    ]
    assert active["bad_ranges"][1]["host_offset"] == stream
    assert active["bad_ranges"][1]["table_offset"] == image.disk.entry_offset(7)
    assert [r["start"] for r in first["bad_ranges"]] == [7 * C, 10 * C]
    assert [r["start"] for r in second["bad_ranges"]] == [7 * C]


def test_damaged_image_in_words(damaged):
    path, image, expected, stream = damaged
    status, out, err = verify(path)
    assert status == 4 and err == ""
    assert (
        f"Active disk: cannot read {C} bytes at guest offset {4 * C}: " in out
        and f"host offset {stream}" in out
    )
    assert f"of which {4 * C} cannot be read, SHA-256 with zeros there {sha256(expected)}" in out
    verdict = out.splitlines()[-1]
    assert (
        verdict.startswith("Damaged: 3 of 3 states cannot be read as a whole (6 ranges, ")
        and "not at all" not in verdict
    )
    assert verdict.endswith(f"reads zeros in the ranges. More: tsk-qcow2 check '{path}'")


def test_without_hash(damaged):
    path, *_ = damaged
    status, report = verify_json("--no-hash", path)
    assert status == 4 and [s["bad_range_count"] for s in report["states"]] == [3, 2, 1]
    assert all(s["sha256"] is None and s["sha256_with_zeros"] is None for s in report["states"])


def test_holes_cost_nothing_without_hash(tmp_path):
    image = Image(1 << 45, cluster_bits=16)
    image.disk.normal(5, pattern(1, C))
    image.disk.normal((1 << 44) // C, b"x")
    path = image.write(tmp_path / "huge.qcow2")
    status, report = verify_json("--no-hash", path)
    assert status == 0 and report["states"][0]["size"] == 1 << 45


def test_a_range_over_many_chunks_is_one(tmp_path):
    """A lost L2 table; and so is a compressed cluster of 2 MiB, which is met by two pieces of the
    pass."""
    image = Image(1 << 31, cluster_bits=16)
    image.disk.normal(1, pattern(1, C))
    image.disk.normal(8192, pattern(2, C))
    data = image.build()
    poke(data, image.disk.l1_offset + 8, "Q", len(data) + C)
    status, report = verify_json("--no-hash", image.write(tmp_path / "lost.qcow2", data))
    assert [(r["start"], r["length"]) for r in report["states"][0]["bad_ranges"]] == [
        (1 << 29, 1 << 29)
    ]
    image = Image(8 << 20, cluster_bits=21)
    image.disk.compressed(1, squeezable(1, 2 << 20), stream=b"\xff" * 1000)
    image.disk.compressed(2, squeezable(2, 2 << 20), stream=b"\xff" * 1000)
    status, report = verify_json(image.write(tmp_path / "stream.qcow2"))
    assert [(r["start"], r["length"]) for r in report["states"][0]["bad_ranges"]] == [
        (2 << 20, 2 << 20),
        (4 << 20, 2 << 20),
    ]


def test_more_states_than_are_read_side_by_side(tmp_path):
    """Of several sizes, which share most bytes, with holes; each hash is that of its own bytes."""
    image = Image(12 * C, cluster_bits=16)
    for i in (1, 2, 5):
        image.disk.compressed(i, squeezable(i, C))
    for i in (3, 6, 7):
        image.disk.normal(i, pattern(i, C))
    for number in range(40):
        disk = image.disk.copy()
        if number % 3 == 0:
            disk.normal(number % 12, pattern(f"own {number}", C))
        disk.resize((12 - number % 5) * C - 512)
        image.snapshot(str(number).encode(), b"", disk=disk)
    path = image.write(tmp_path / "disk.qcow2")
    status, report = verify_json(path)
    models = [image.disk.model] + [disk.model for disk, *_ in image.snapshots]
    sizes = [12 * C] + [(12 - number % 5) * C - 512 for number in range(40)]
    assert status == 0 and [state["size"] for state in report["states"]] == sizes
    assert [state["sha256"] for state in report["states"]] == [
        sha256(model.read(0, size)) for model, size in zip(models, sizes)
    ]
    assert [state["id"] for state in report["states"]] == [None, *map(str, range(40))]


@pytest.mark.parametrize("options", [[], ["--no-hash"]])
def test_states_with_much_damage_are_told_in_order(tmp_path, options):
    """More than is kept of a state whose turn has not come."""
    count, lost = 3000, 700
    image = Image(count * 512, cluster_bits=9)
    for i in range(0, count, 7):
        image.disk.normal(i, pattern(i, 512))
    for number in range(3):
        image.snapshot(str(number).encode(), b"", disk=image.disk.copy())
    data = image.build()
    disks = [image.disk, *(disk for disk, *_ in image.snapshots)]
    expected = [list(range(number, number + 2 * lost, 2)) for number in range(len(disks))]
    for disk, clusters in zip(disks, expected):
        for i in clusters:
            poke(data, disk.entry_offset(i), "Q", (1 << 40) + 1024 * i)
    path = image.write(tmp_path / "disk.qcow2", data)
    status, report = verify_json(*options, path)
    assert status == 4
    for state, disk, clusters in zip(report["states"], disks, expected):
        assert [r["start"] // 512 for r in state["bad_ranges"]] == clusters
        assert {r["table_offset"] for r in state["bad_ranges"]} == {
            disk.entry_offset(i) for i in clusters
        }
        content = bytearray(disk.model.read(0, count * 512))
        for i in clusters:
            content[i * 512 : (i + 1) * 512] = bytes(512)
        assert state["sha256_with_zeros"] == (None if options else sha256(content))
    _, out, _ = verify(*options, path)
    titles = ["Active disk", *(f'Snapshot ID {number} ""' for number in range(3))]
    assert [line.split(":")[0] for line in out.splitlines()[1 : 1 + 4 * (lost + 1)]] == [
        title for title in titles for _ in range(lost + 1)
    ]
    offsets = [int(at) for at in re.findall(r"bytes at guest offset (\d+)", out)]
    assert offsets == [i * 512 for clusters in expected for i in clusters]


def test_unusable_image(tmp_path):
    path = tmp_path / "disk.qcow2"
    path.write_bytes(b"QFI\xfb" + bytes(1000))
    status, out, err = verify(path)
    assert (status, out) == (1, "") and err.startswith("tsk-qcow2: ")
    assert verify("--vmstates", path)[0] == 2


def test_a_snapshot_that_cannot_be_opened(tmp_path):
    image = filled()
    data = image.build()
    poke(data, image.snapshots_offset, "Q", 1234)  # the first one's L1 table
    status, report = verify_json(image.write(tmp_path / "disk.qcow2", data))
    assert status == 4 and "cluster size" in report["states"][1]["error"]
    assert report["states"][0]["error"] is None and report["states"][2]["sha256"]


def test_a_damaged_snapshot_table(tmp_path):
    image = filled()
    data = image.build()
    # The second one's extra data.
    poke(data, image.snapshots_offset + image.snapshot_offsets[1] + 36, "I", 5000)
    status, report = verify_json(image.write(tmp_path / "disk.qcow2", data))
    assert (status, report["result"], report["lost_snapshot_count"]) == (4, "damaged", 1)
    assert len(report["states"]) == 2 and report["warnings"]


def test_errors_zero_is_promised_where_it_helps_only(tmp_path):
    """For ranges; not for a snapshot whose disk cannot be opened, nor for one that is lost."""
    image = filled()
    data = image.build()
    poke(data, image.snapshots_offset + 8, "I", 0)  # the first one's l1_size
    path = image.write(tmp_path / "closed.qcow2", data)
    status, out, _ = verify(path)
    assert (
        status == 4
        and "errors=zero" not in out
        and "1 of these cannot be read at all" in out.splitlines()[-1]
    )
    assert tools.run("img_cat", f"{path}@1,errors=zero").returncode != 0
    poke(data, image.disk.entry_offset(4), "Q", 512)
    status, out, _ = verify(image.write(tmp_path / "both.qcow2", data))
    assert '",errors=zero" after the image name reads zeros in the ranges' in out.splitlines()[-1]
    assert tools.run("img_cat", f"{tmp_path}/both.qcow2,errors=zero").returncode == 0


# ---- What nothing refers to ------------------------------------------------------


def wipe_l1(image, data):
    data[image.disk.l1_offset : image.disk.l1_offset + 8 * image.disk.l1_count] = bytes(
        8 * image.disk.l1_count
    )
    return data


def used_by_data(image):
    """Clusters that the active disk refers to, with its L2 tables."""
    return len(
        {
            cluster
            for entry, _ in image.disk.entries.values()
            for cluster in image.clusters_of(entry)
        }
    ) + len(image.disk.l2_offsets)


def plain(**options):
    image = Image(40 * C, **options)
    for i in range(0, 30, 2):
        image.disk.normal(i, pattern(i, C))
        image.disk.compressed(i + 1, squeezable(i + 1, C))
    return image


def test_a_wiped_l1_table_is_not_good(tmp_path):
    image = plain()
    path = image.write(tmp_path / "disk.qcow2", wipe_l1(image, image.build()))
    count = used_by_data(image)
    status, out, err = verify(path)
    assert (status, err) == (5, "") and "Good" not in out
    assert f"Not referred to in {path}: {count} clusters ({count * C} bytes) of " in out
    verdict = out.splitlines()[-1]
    assert verdict.startswith(
        "Readable: everything that the tables refer to can be read, but nothing refers to "
        f"{count} clusters ({count * C} bytes) that are marked as used: "
    )
    assert verdict.endswith(f"More: tsk-qcow2 check '{path}'")
    assert (
        run(
            *verdict.split("More: ")[1].replace("'", "").replace("tsk-qcow2", str(COMMAND)).split(),
            check=False,
        ).returncode
        == 5
    )
    status, report = verify_json(path)
    checked = json.loads(run(COMMAND, "check", "--json", path, check=False).stdout)
    assert (status, report["result"]) == (5, "readable")
    tables = report["files"][0]["tables"]
    assert (tables["unreferenced_clusters"], tables["unreferenced_bytes"], tables["complete"]) == (
        count,
        count * C,
        True,
    )
    assert tables["leaks"] == checked["leaks"] == checked["unreferenced_clusters"] == count


def test_what_snapshots_still_refer_to_is_told_too(tmp_path):
    image = filled()
    status, out, _ = verify(image.write(tmp_path / "disk.qcow2", wipe_l1(image, image.build())))
    assert status == 5 and re.search(
        (
            r"Not referred to in .*: 2 clusters .*; 29 more with fewer references than their"
            r" refcounts say"
        ),
        out,
    )


def test_a_wiped_l1_table_in_the_backing_chain(tmp_path):
    """The base's own bitmaps and snapshots count there as they do when it is checked itself."""
    base = tmp_path / "base.qcow2"
    run_line(f"qemu-img create -q -f qcow2 -o cluster_size={C}", base, "4M")
    run("qemu-io", "-c", "write -q 0 1M", base)
    run_line("qemu-img snapshot -c first", base)
    run_line("qemu-img bitmap --add", base, "bits")
    run("qemu-io", "-c", "write -q 2M 1M", base)
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b", base.name, "-F", "qcow2", overlay, cwd=tmp_path)
    status, report = verify_json(overlay)
    assert (status, report["result"], [file["tables"]["leaks"] for file in report["files"]]) == (
        0,
        "good",
        [0, 0],
    )
    data = bytearray(base.read_bytes())
    l1 = int.from_bytes(data[40:48], "big")
    data[l1 : l1 + 8] = bytes(8)
    base.write_bytes(data)
    status, report = verify_json(overlay)
    assert (status, report["result"]) == (5, "readable")
    # 1 MiB, and an L2 table.
    assert [file["tables"]["unreferenced_clusters"] for file in report["files"]] == [
        0,
        17,
    ]
    assert f"tsk-qcow2 check '{base}'" in verify(overlay)[1]


def test_low_refcounts_are_no_damage_and_not_good(tmp_path):
    image = plain()
    data = image.build()
    at = image.refcount_blocks[0] + image.disk.l2_offsets[0] // C * 2
    status, out, _ = verify(image.write(tmp_path / "disk.qcow2", poke(data, at, "H", 0)))
    assert status == 5 and out.splitlines()[-1].startswith(
        "Readable: everything that the tables refer to can be read, but refcounts are wrong,"
        " which does not affect reading."
    )


def test_one_state_is_judged_by_itself(tmp_path):
    """What is wrong elsewhere keeps it from being called good, and is no damage of it."""
    image = filled()
    data = image.build()
    poke(data, image.disk.entry_offset(4), "Q", 512)
    path = image.write(tmp_path / "disk.qcow2", data)
    status, out, _ = verify(f"{path}@2")
    assert (
        status == 5
        and "\nReadable: this state can be read as a whole, but the image is damaged elsewhere."
        " More: " in out
    )
    assert verify(f"{path}@2,vmstate")[0] == 1 and verify(path)[0] == 4


def test_tables_that_contradict_each_other_are_damage(tmp_path):
    """All can be read, but one of the two reads wrong."""
    image = plain()
    data = image.build()
    poke(data, image.disk.entry_offset(0), "Q", image.disk.l2_offsets[0] | 1 << 63)
    status, out, _ = verify(image.write(tmp_path / "disk.qcow2", data))
    assert status == 4 and "Damaged: tables are not valid in 1 place. More: tsk-qcow2 check" in out


# ---- Which files -----------------------------------------------------------------


def test_every_file_is_named(tmp_path):
    (tmp_path / "base.raw").write_bytes(pattern("base", 1 << 20))
    run_line("qemu-img create -q -f qcow2 -b base.raw -F raw middle.qcow2", cwd=tmp_path)
    run_line(
        "qemu-img create -q -f qcow2 -b middle.qcow2 -F qcow2 -o data_file=top.data",
        "top, \u202e.qcow2",
        cwd=tmp_path,
    )
    run("qemu-io", "-c", "write -q 0 64k", "top, \u202e.qcow2", cwd=tmp_path)
    image = tmp_path / "top, \u202e.qcow2"
    status, out, _ = verify(image)
    assert status == 0 and [line for line in out.splitlines() if line.startswith("File: ")] == [
        f"File: {tmp_path}/top, \\xe2\\x80\\xae.qcow2 (image, qcow2)",
        f"File: {tmp_path}/top.data (data file, raw)",
        f"File: {tmp_path}/middle.qcow2 (backing file, qcow2)",
        f"File: {tmp_path}/base.raw (backing file, raw)",
    ]
    _, report = verify_json(image)
    assert [
        (file["path"].rsplit("/")[-1], file["role"], file["format"], file["tables"] is not None)
        for file in report["files"]
    ] == [
        ("top, \\xe2\\x80\\xae.qcow2", "image", "qcow2", True),
        ("top.data", "data_file", "raw", False),
        ("middle.qcow2", "backing_file", "qcow2", True),
        ("base.raw", "backing_file", "raw", False),
    ]
    assert [file["size"] for file in report["files"]][2:] == [
        (tmp_path / "middle.qcow2").stat().st_size,
        1 << 20,
    ]


def test_a_base_that_is_shorter_is_noted(tmp_path):
    (tmp_path / "base.raw").write_bytes(pattern("base", 1 << 20))
    run_line("qemu-img create -q -f qcow2 -b base.raw -F raw overlay.qcow2 2M", cwd=tmp_path)
    status, out, _ = verify(tmp_path / "overlay.qcow2")
    assert (
        status == 0
        and f"File: {tmp_path}/base.raw (backing file, raw)\n"
        "  note: the disk in this file is 1048576 bytes shorter" in out
    )
    _, report = verify_json(tmp_path / "overlay.qcow2")
    assert [len(file["notes"]) for file in report["files"]] == [0, 1]


def test_json_is_as_documented(tmp_path):
    """Each key that is printed is documented, and each that is documented is printed."""
    image = filled()
    data = image.build()
    poke(data, image.disk.entry_offset(4), "Q", 512)
    printed = json_keys(verify_json(image.write(tmp_path / "disk.qcow2", data))[1])
    text = Path(SOURCE, "docs", "verify-json.md").read_text()
    values = {
        "active",
        "snapshot",
        "vm_state",
        "residue",
        "deleted_snapshot",
        "deleted_vm_state",
        "abandoned",
        "image",
        "data_file",
        "backing_file",
        "qcow",
        "qcow2",
        "raw",
        "null",
        "check",
    }
    assert set(re.findall(r"`([a-z0-9_]+)`", text)) - values == printed


# ---- Damaged ranges are counted in one way ---------------------------------------


def side_by_side():
    """Two invalid entries beside each other, three clusters that the file's end cuts off, an
    undecodable one and one more invalid."""
    image = plain()
    data = image.build()
    for i in (2, 3, 9):
        poke(data, image.disk.entry_offset(i), "Q", 512)
    for i in (4, 5, 6):
        poke(data, image.disk.entry_offset(i), "Q", len(data) + i * C)
    at = image.disk.entries[7][0] & (1 << image.compressed_shift) - 1
    data[at : at + 64] = b"\xff" * 64
    return image, data, [(2 * C, C), (3 * C, C), (4 * C, 3 * C), (7 * C, C), (9 * C, C)]


def reported_count(text):
    """(ranges, bytes) of the line that says how many there were."""
    count, length = re.search(r"(\d+) damaged ranges? \((\d+) bytes\)", text).groups()
    return int(count), int(length)


def test_damaged_ranges_are_counted_in_one_way(tmp_path, rng, monkeypatch):
    monkeypatch.setenv("QCOW2CORE_LIBRARY", os.path.join(BUILD, "core/.libs/libqcow2core.so"))
    image, data, ranges = side_by_side()
    path = image.write(tmp_path / "disk.qcow2", data)
    expected = len(ranges), sum(length for _, length in ranges)
    _, report = verify_json(path)
    state = report["states"][0]
    assert [(one["start"], one["length"]) for one in state["bad_ranges"]] == ranges
    assert (state["bad_range_count"], state["bad_bytes"]) == expected
    for tool, more in ((["img_cat"], []), (["blkls", "-f", "raw", "-e"], [f"0-{30 * C // 512}"])):
        assert (
            reported_count(tools.run(*tool, f"{path},errors=zero", *more).complaint) == expected
        ), tool
    for step in (512, 5000, C, 3 * C):
        offsets = list(range(0, image.disk.size, step))
        for order in (offsets, offsets[::-1], rng.sample(offsets, len(offsets))):
            told = []
            with qcow2core.open(f"{path},errors=zero", on_damage=told.append) as disk:
                for offset in order:
                    disk.read_at(offset, step)
            assert reported_count(told[-1]) == expected, (step, order[:3])


def test_progress_is_shown_on_a_terminal_only(tmp_path):
    image = Image(2 << 30, cluster_bits=16)
    path = image.write(tmp_path / "disk.qcow2")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, "verify", path], stdout=subprocess.PIPE, stderr=theirs, env=tools.CLEAN
    )
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the other side is closed
            break
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert re.search(rb"Active disk \[#*\.*\] +\d+%, \d+ MB/s, \d+ s left", shown)
    assert shown.endswith(b"\r\x1b[K") and out.endswith(b"Good: all of it can be read.\n")
    assert verify(path)[2] == ""


# ---- errors=zero, and what TSK's tools say of damage -----------------------------


def test_errors_zero_reads_zeros_and_says_so(damaged):
    path, image, expected, _ = damaged
    result = tools.run("img_cat", "-i", "qcow2", f"{path},errors=zero")
    assert result.returncode == 0 and result.stdout == expected
    *told, count = [
        line for line in result.complaint.splitlines() if line.startswith("tsk-qcow2: error:")
    ]
    assert len(told) == 3, result.complaint
    for line, start in zip(told, (4 * C, 7 * C, 20 * C)):
        assert f"guest bytes {start} to " in line
    assert (
        count == f"tsk-qcow2: error: 3 damaged ranges ({4 * C} bytes) of the image were read; lost"
        " bytes were replaced by zeros"
    )


def test_without_errors_zero_a_read_fails(damaged):
    path, image, _, _ = damaged
    result = tools.run("img_cat", "-i", "qcow2", path)
    assert result.returncode != 0 and f"guest bytes {4 * C} to {5 * C - 1}" in result.complaint
    assert result.stdout == image.disk.model.read(0, len(result.stdout))
    assert "errors=zero" in result.complaint and "tsk-qcow2 verify" in result.complaint


def test_errors_zero_on_a_snapshot(damaged):
    path, image, _, _ = damaged
    disk = image.snapshots[1][0]
    expected = bytearray(disk.model.read(0, disk.size))
    expected[7 * C : 8 * C] = bytes(C)
    assert tools.run("img_cat", f"{path}@2,errors=zero").stdout == expected
    assert (
        "Errors: what cannot be read reads as zeros"
        in tools.run("img_stat", f"{path}@2,errors=zero").stdout.decode()
    )


def test_every_tool_reports_damage(tmp_path):
    """A file's block and a directory are lost: fls and icat print a reason of their own, so we
    report the real one."""
    files = tmp_path / "files"
    (files / "sub").mkdir(parents=True)
    (files / "one.bin").write_bytes(pattern("one", 300000))
    (files / "sub" / "two.txt").write_text("two\n")
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    run_line(
        "mke2fs -q -F -t ext4 -b 4096 -d",
        files,
        raw,
        "16M",
        env=dict(tools.CLEAN, PATH="/usr/sbin:/usr/bin:/sbin:/bin"),
    )
    run_line("qemu-img convert -f raw -O qcow2 -o cluster_size=4k", raw, path)
    start = raw.read_bytes().index(pattern("one", 300000)[100000 // 4096 * 4096 :][:4096])
    extent = next(
        e
        for e in json.loads(run_line("qemu-img map --output=json", path).stdout)
        if e["start"] <= start < e["start"] + e["length"]
    )
    data = bytearray(path.read_bytes())
    host = extent["offset"] + start - extent["start"]
    entry = next(
        at
        for at in range(0, len(data), 8)
        if data[at : at + 8] == (host | 1 << 63).to_bytes(8, "big")
    )
    poke(data, entry, "Q", host + 512 | 1 << 63)
    path.write_bytes(data)
    listing = tools.run("fls", "-r", path)
    inode = re.search(r"r/r (\d+):\s+one.bin", listing.stdout.decode())[1]
    result = tools.run("icat", path, inode)
    assert (
        result.returncode != 0
        and f"guest bytes {start} to {start + 4095}, table entry at host offset {entry}"
        in result.complaint
    )
    result = tools.run("icat", f"{path},errors=zero", inode)
    expected = bytearray(pattern("one", 300000))
    at = 100000 // 4096 * 4096
    expected[at : at + 4096] = bytes(4096)
    assert result.returncode == 0 and result.stdout == expected
    assert (
        result.complaint.count("guest bytes") == 1
        and "1 damaged range (4096 bytes)" in result.complaint
    )


def test_ranges_are_told_once(damaged):
    """Also by a tool that reads sector by sector."""
    path, *_ = damaged
    result = tools.run("blkls", "-f", "raw", "-e", f"{path},errors=zero", f"0-{30 * C // 512}")
    told = [line for line in result.complaint.splitlines() if "guest bytes" in line]
    assert len(told) == 3, result.complaint


# ---- What may be damaged -----------------------------------------------------------


def doubtful(folder, cluster_bits=16):
    """Two clusters of the snapshot, one of them shared with the active disk, whose streams do not
    end with them."""
    size = 1 << cluster_bits
    image = Image(4 * size, cluster_bits=cluster_bits)
    for cluster in range(3):
        data = squeezable(cluster, size)
        image.disk.compressed(cluster, data, deflate(data + b"more" * (cluster > 0)))
    image.snapshot(b"1", b"first")
    image.disk.compressed(2, squeezable(9, size))
    return image, image.write(folder / "disk.qcow2")


@pytest.mark.parametrize("cluster_bits", (16, 21))
def test_what_may_be_damaged_is_not_good(tmp_path, cluster_bits):
    """Also where a cluster is read in several pieces, it counts once."""
    size = 1 << cluster_bits
    image, path = doubtful(tmp_path, cluster_bits)
    status, out, err = verify(path)
    lines = out.splitlines()
    assert (status, err) == (5, "")
    assert lines[1].startswith(
        f"Active disk: {size} bytes at guest offset {size} may be damaged: the compressed stream "
        "does not end with its cluster; "
    )
    digest = sha256(image.disk.model.read(0, image.disk.size))
    assert lines[2] == (
        f"Active disk: {4 * size} bytes, of which {size} may be damaged, SHA-256 {digest}"
    )
    assert [line.split("; ")[0] for line in lines[3:5]] == [
        f'Snapshot ID 1 "first": {size} bytes at guest offset {cluster * size} may be damaged: '
        "the compressed stream does not end with its cluster"
        for cluster in (1, 2)
    ]
    assert lines[-1] == (
        "Readable: all that was read can be read, but it may not be what was written. "
        f"3 ranges ({3 * size} bytes) may be damaged: the compressed streams do not end with "
        "their clusters."
    )
    status, report = verify_json(path)
    assert (status, report["result"]) == (5, "readable")
    assert [
        (
            state["doubtful_range_count"],
            state["doubtful_bytes"],
            [(one["start"], one["length"]) for one in state["doubtful_ranges"]],
        )
        for state in report["states"]
    ] == [
        (1, size, [(size, size)]),
        (2, 2 * size, [(size, size), (2 * size, size)]),
    ]
    assert report["states"][0]["sha256"] == digest
    assert report["states"][0]["doubtful_ranges"][0]["code"] == "CORRUPT"
    assert [state["bad_range_count"] for state in report["states"]] == [0, 0]


def test_what_may_be_damaged_beside_damage(tmp_path):
    image, path = doubtful(tmp_path)
    data = bytearray(path.read_bytes())
    entry = int.from_bytes(data[image.disk.entry_offset(0) :][:8], "big")
    data[entry & OFFSET_MASK & ((1 << 54) - 1)] = 7  # a block of the reserved type
    path.write_bytes(data)
    status, out, _ = verify(path)
    assert status == 4
    assert ", of which 65536 cannot be read and 65536 may be damaged, SHA-256 with zeros" in out
    assert re.search(
        r"^Damaged: .*\. 3 ranges \(196608 bytes\) may be damaged: ", out, re.MULTILINE
    )
