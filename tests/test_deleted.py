# SPDX-License-Identifier: MIT
"""Deleted snapshots: which label each cluster has, and that what is lost is an error.

tests/deleted-histories counts right and wrong in as many random histories as one has time for.
"""
import hashlib
import json
import random
import re
import struct
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from lib import core, encrypted, mounted, tools
from lib.builder import Image, pattern, poke, squeezable
from lib.deleted import delete
from lib.deleted_history import LOST, SURE, DeletedHistory
from lib.project import COMMAND, SOURCE, run, sanitized, tsk_qcow2

C = 4096
KIB, MIB = 1 << 10, 1 << 20


def labels(view):
    """[(label, first cluster, clusters)]"""
    return [(run_.label, run_.guest_offset // C, run_.length // C) for run_ in view.label_all()]


def lost(view, cluster):
    with pytest.raises(core.QcowError) as caught:
        view.read(cluster * C, C)
    assert caught.value.code == "CORRUPT" and "lost (" in str(caught.value)
    return str(caught.value)


def image_of(count=8, size=1024, **options):
    """An image of 1,024 clusters in two L2 tables, of which the first `count` are stored."""
    image = Image(size=size * C, cluster_bits=12, **options)
    for cluster in range(count):
        image.disk.normal(cluster, pattern(cluster, C))
    return image


def writes_after(image, clusters):
    for cluster in clusters:
        image.disk.clear(cluster)
        image.disk.normal(cluster, pattern(100 + cluster, C))


# ---- Labels ----------------------------------------------------------------------


def test_what_older_and_newer_snapshots_and_the_disk_share(tmp_path):
    image = image_of()
    image.snapshot(b"1", b"older")
    writes_after(image, (1, 2, 3))
    image.snapshot(b"2", b"monday")
    writes_after(image, (2, 3))
    image.snapshot(b"3", b"newer")
    writes_after(image, (1, 3))
    path = image.write(tmp_path / "image", delete(image, image.build(), keep=(0, 2)))
    with core.Image(path) as opened, opened.deleted("monday") as view:
        assert labels(view) == [
            ("shared-older", 0, 1),
            ("shared-newer", 1, 1),
            ("kept", 2, 2),
            ("shared-older", 4, 4),
            ("absent", 8, 504),
            ("absent", 512, 512),
        ]
        for cluster in range(8):
            byte = 100 + cluster if cluster in (1, 2, 3) else cluster
            assert view.read(cluster * C, C) == pattern(byte, C)
        assert view.label_bytes()["kept"] == 2 * C and 'ID 2 "monday"' in view.warnings[0]
        assert "kept 8192" in view.warnings[0] and "lost: nothing" in view.warnings[0]
    with core.Image(path) as opened, opened.deleted("2", core.DELETED_BY_ID, 8) as view:
        assert view.read(0, C) == pattern(0, C)
        assert "shared-newer" in lost(view, 1)


def test_only_the_active_disk_shares(tmp_path):
    image = image_of()
    image.snapshot(b"1", b"monday")
    writes_after(image, (5,))
    path = image.write(tmp_path / "image", delete(image, image.build()))
    with core.Image(path) as opened, opened.deleted("monday") as view:
        assert [label for label, _, _ in labels(view)][:3] == [
            "shared-active",
            "kept",
            "shared-active",
        ]


@pytest.mark.parametrize("user", ("data", "under zeros", "past the disk", "elsewhere", "header"))
def test_whatever_names_a_cluster_has_reused_it(user, tmp_path):
    """Even what nothing reads: it was written through that entry."""
    image = image_of(size=16 if user == "past the disk" else 1024)
    monday = image.snapshot(b"1", b"monday")
    writes_after(image, range(8))
    host = monday.entries[3][0] & 0x00FFFFFFFFFFFE00
    if user == "data":
        image.disk.force(9, 1 << 63 | host, kind="normal")
    elif user == "under zeros":
        image.disk.force(9, 1 << 63 | host | 1, kind="zero")
    elif user == "past the disk":
        image.disk.force(30, 1 << 63 | host, kind="normal")
    data = delete(image, image.build())
    if user == "elsewhere":  # as a table of the image: its only L2 table
        poke(data, image.disk.l1_offset, "Q", 1 << 63 | host)
    elif user == "header":
        poke(data, 48, "Q", host)
    path = image.write(tmp_path / "image", data)
    with core.Image(path) as opened, opened.deleted("monday") as view:
        assert ("reused", 3, 1) in labels(view)
        assert f"at host offset {host}" in lost(view, 3)
        assert view.read(2 * C, C) == pattern(2, C)
        zeros, damage = view.salvage(3 * C, C)
        assert zeros == bytes(C) and len(damage) == 1


@pytest.mark.parametrize("fate", ("zeros", "noise", "another table", "reused"))
def test_lost_l2_tables(fate, tmp_path):
    image = image_of()
    monday = image.snapshot(b"1", b"monday")
    writes_after(image, range(8))
    data = delete(image, image.build())
    at = int.from_bytes(data[monday.l1_offset : monday.l1_offset + 8], "big") & ~(1 << 63)
    if fate == "zeros":
        data[at : at + C] = bytes(C)
    elif fate == "noise":
        data[at + 64 : at + C] = pattern(9, C - 64)
    elif fate == "another table":  # it names a cluster twice
        data[at + 8 : at + 16] = data[at : at + 8]
    else:
        poke(data, image.disk.l1_offset + 8, "Q", 1 << 63 | at)
    path = image.write(tmp_path / "image", data)
    with core.Image(path) as opened, opened.deleted("monday") as view:
        label = "punched" if fate == "zeros" else "lost-table"
        assert labels(view)[0] == (label, 0, 512)
        assert label in lost(view, 2) and "table entry at host offset" in lost(view, 2)


def test_zeros_may_be_a_hole(tmp_path):
    image = image_of()
    monday = image.snapshot(b"1", b"monday")
    writes_after(image, range(8))
    data = delete(image, image.build())
    host = monday.entries[3][0] & 0x00FFFFFFFFFFFE00
    data[host : host + C] = bytes(C)
    path = image.write(tmp_path / "image", data)
    with core.Image(path) as opened, opened.deleted("monday") as view:
        assert ("punched", 3, 1) in labels(view)
        assert "punched" in lost(view, 3)


def test_a_cut_file(tmp_path):
    image = image_of()
    image.snapshot(b"1", b"monday")
    writes_after(image, range(8))
    last = image.junk(pattern(1, C))
    data = delete(image, image.build())
    assert last < len(data)
    path = image.write(tmp_path / "image", data[: len(data) - C])
    with core.Image(path) as opened, opened.deleted("monday") as view:
        assert view.read(0, C) == pattern(0, C)


def test_a_cut_table(tmp_path):
    """The file ends in the snapshot's L2 table. What its entries before that name was reused,
    too."""
    image = image_of()
    monday = image.snapshot(b"1", b"monday")
    writes_after(image, range(8))
    host = monday.entries[3][0] & 0x00FFFFFFFFFFFE00
    image.disk.force(9, 1 << 63 | host, kind="normal")
    data = delete(image, image.build())
    at = int.from_bytes(data[monday.l1_offset : monday.l1_offset + 8], "big") & ~(1 << 63)
    table, data[at : at + C] = data[at : at + 64], bytes(C)
    data += bytes(-len(data) % C)
    poke(data, monday.l1_offset, "Q", 1 << 63 | len(data))
    path = image.write(tmp_path / "image", data + table)
    with core.Image(path) as opened, opened.deleted("monday") as view:
        assert view.label(2 * C, C).label == "kept" and view.read(2 * C, C) == pattern(2, C)
        assert view.label(3 * C, C).label == "reused" and "reused" in lost(view, 3)


@pytest.mark.parametrize("options", ({}, {"compression": 1}), ids=("deflate", "zstd"))
def test_compressed_streams_are_compared_to_the_byte(options, tmp_path):
    image = Image(size=1024 * C, cluster_bits=12, **options)
    for cluster in range(8):
        image.disk.compressed(cluster, squeezable(cluster, C))
    monday = image.snapshot(b"1", b"monday")
    for cluster in range(0, 8, 2):  # the others stay, right beside those of the snapshot alone
        image.disk.clear(cluster)
        image.disk.normal(cluster, pattern(cluster, C))
    data = delete(image, image.build())
    path = image.write(tmp_path / "image", data)
    with core.Image(path) as opened, opened.deleted("monday") as view:
        found = [view.label(cluster * C, C).label for cluster in range(8)]
        assert found == ["kept", "shared-active"] * 4
        for cluster in range(8):
            assert view.read(cluster * C, C) == squeezable(cluster, C)
    start = monday.entries[2][0] & (1 << image.compressed_shift) - 1
    poke(data, image.disk.l1_offset + 8, "Q", 0)
    stream = image.compress(squeezable(50, C))
    data[start + 4 : start + 4 + len(stream)] = stream  # a live stream inside the old one
    at = int.from_bytes(data[image.disk.l1_offset :][:8], "big") & ~(1 << 63)
    poke(data, at + 9 * 8, "Q", 1 << 62 | 1 << image.compressed_shift | (start + 4))
    path = image.write(tmp_path / "image", data)
    with core.Image(path) as opened, opened.deleted("monday") as view:
        assert view.label(2 * C, C).label == "reused"
        lost(view, 2)


def test_subclusters(tmp_path):
    size = 1 << 14
    image = Image(size=64 * size, cluster_bits=14, extended_l2=True)
    image.disk.subclusters(0, "D" * 16 + "Z" * 8 + "." * 8, pattern(1, size))
    image.disk.subclusters(1, "D" * 32, pattern(2, size))
    image.snapshot(b"1", b"monday")
    image.disk.clear(0)
    image.disk.subclusters(0, "D" * 32, pattern(3, size))
    path = image.write(tmp_path / "image", delete(image, image.build()))
    with core.Image(path) as opened, opened.deleted("monday") as view:
        assert [(run_.label, run_.length) for run_ in view.label_all()][:3] == [
            ("kept", size // 2),
            ("kept", size // 4),
            ("absent", size // 4),
        ]
        assert view.read(0, size) == pattern(1, size)[: size // 2].ljust(size, b"\0")


def test_what_is_under_its_zeros(tmp_path):
    """The label is that of what is stored, unless that is nothing but zeros."""
    image = image_of()
    image.disk.zero_allocated(8, pattern(58, C))
    image.snapshot(b"1", b"older")
    hosts = {}
    for cluster in range(1, 7):
        image.disk.clear(cluster)
        hosts[cluster] = image.disk.zero_allocated(cluster, pattern(50 + cluster, C))
    shared = image.snapshots[0][0].entries[7][0] & 0x00FFFFFFFFFFFE00
    image.disk.force(7, 1 << 63 | shared | 1, kind="zero allocated")
    image.snapshot(b"2", b"monday")
    writes_after(image, (1, 2, 3, 4, 7, 8))
    image.disk.force(500, 1 << 63 | hosts[2], kind="normal")  # reused
    data = delete(image, image.build(), keep=(0,))
    data[hosts[3] : hosts[3] + C] = bytes(C)
    path = image.write(tmp_path / "image", data)
    with core.Image(path) as opened, opened.deleted("monday") as view:
        assert view.read(C, 7 * C) == bytes(7 * C)
    with core.Image(path) as opened, opened.deleted("monday", flags=core.VIEW_UNDER_ZEROS) as view:
        assert labels(view)[:7] == [
            ("shared-older", 0, 1),
            ("kept", 1, 1),
            ("reused", 2, 1),
            ("kept", 3, 1),
            ("kept", 4, 1),
            ("shared-active", 5, 2),
            ("shared-older", 7, 2),
        ]
        for cluster in (1, 4, 5, 6, 8):
            assert view.read(cluster * C, C) == pattern(50 + cluster, C)
        assert "something else is in its cluster now" in lost(view, 2)
        assert view.read(3 * C, C) == bytes(C) and view.read(7 * C, C) == pattern(7, C)
        assert view.map(3 * C, C).kind == "zero allocated" and view.map(4 * C, C).kind == "normal"
        assert f"under-zeros: {7 * C} bytes that the deleted snapshot says" in view.warnings[1]
    flags = core.VIEW_UNDER_ZEROS | core.VIEW_ONLY_KEPT
    with core.Image(path) as opened, opened.deleted("monday", flags=flags) as view:
        assert view.read(3 * C, 2 * C) == bytes(C) + pattern(54, C)
        assert (
            "shared-active" in lost(view, 5) and f"under-zeros: {5 * C} bytes" in view.warnings[1]
        )


def test_what_qemu_leaves_under_zeros(tmp_path):
    """Zeros over a file, a snapshot, its deletion: what was in the file."""
    path = tmp_path / "disk.qcow2"
    node = f"driver=qcow2,file.driver=file,file.discard=ignore,file.filename={path}"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", path, "1M")
    for steps in (["write -P 65 0 256k", "write -z 64k 64k"], ["write -P 66 0 128k"]):
        run("qemu-io", "--image-opts", node, *[word for step in steps for word in ("-c", step)])
        if steps[0].startswith("write -P 65"):
            run("qemu-img", "snapshot", "-c", "monday", "--image-opts", node)
    run("qemu-img", "snapshot", "-d", "monday", "--image-opts", node)
    with core.Named(f"{path}@deleted=monday,under-zeros") as disk:
        assert disk.read(0, disk.size) == b"A" * (256 * KIB) + bytes(MIB - 256 * KIB)
        assert "under-zeros: 65536 bytes" in disk.warnings[1]
    with core.Named(f"{path}@deleted=monday") as disk:
        assert disk.read(64 * KIB, 64 * KIB) == bytes(64 * KIB)


def test_under_the_zeros_of_a_backing_file(tmp_path):
    """Where the deleted snapshot had no cluster, as elsewhere with that option."""
    base = Image(size=1024 * C, cluster_bits=12)
    base.disk.zero_allocated(5, pattern(77, C))
    base.write(tmp_path / "base")
    image = image_of(2, backing=b"base", backing_format=b"qcow2")
    image.snapshot(b"1", b"monday")
    writes_after(image, (0, 1))
    path = image.write(tmp_path / "image", delete(image, image.build()))
    for flags, content in ((0, bytes(C)), (core.VIEW_UNDER_ZEROS, pattern(77, C))):
        with core.Image(path) as opened, opened.deleted("monday", flags=flags) as view:
            assert view.read(4 * C, 2 * C) == bytes(C) + content
            assert view.label(5 * C, C).label == "absent"
            assert ("what backing files store under zeros" in view.warnings[-1]) == (flags > 0)


def test_the_backing_file_is_read_where_it_was_absent(tmp_path):
    (tmp_path / "base").write_bytes(pattern(77, 1024 * C))
    image = image_of(2, backing=b"base", backing_format=b"raw")
    image.snapshot(b"1", b"monday")
    writes_after(image, (0, 1))
    path = image.write(tmp_path / "image", delete(image, image.build()))
    with core.Image(path) as opened, opened.deleted("monday") as view:
        assert view.read(0, 3 * C) == (
            pattern(0, C) + pattern(1, C) + pattern(77, 1024 * C)[2 * C : 3 * C]
        )


def test_saved_memory(tmp_path):
    image = image_of(2)
    then = image.snapshot(b"1", b"running", vm_state_size=C + 10)
    then.l1_entries = 3
    then.normal(1024, pattern(1, C))
    then.normal(1025, pattern(2, C))
    writes_after(image, (0, 1))
    path = image.write(tmp_path / "image", delete(image, image.build()))
    with core.Image(path) as opened, opened.deleted("running", flags=core.VIEW_VM_STATE) as view:
        assert view.read(0, C + 10) == pattern(1, C) + pattern(2, C)[:10]
        assert labels(view)[0][0] == "kept"


# ---- Which entry is believed -------------------------------------------------------


def test_several_of_a_name(tmp_path):
    image = image_of()
    for number in (1, 2):
        image.snapshot(b"%d" % number, b"monday", seconds=1000 * number)
        writes_after(image, (number,))
    path = image.write(tmp_path / "image", delete(image, image.build()))
    with core.Image(path) as opened:
        with pytest.raises(core.QcowError) as caught:
            opened.deleted("monday")
        offsets = [l1_offset for _, _, l1_offset, _ in opened.old_entries()]
        for number, offset in enumerate(offsets):
            assert f"L1 table is at {offset}" in str(caught.value)
            with opened.deleted(str(offset), core.DELETED_BY_L1) as view:
                assert view.read(0, C) == pattern(0, C), number
    shown = tools.run("img_stat", "-i", "qcow2", f"{path}@deleted=monday")
    assert shown.returncode == 1 and b"@deleted-l1=OFFSET" in shown.stderr
    shown = run(COMMAND, "residue", "--map", "monday", path, check=False)
    assert shown.returncode == 1 and '"--map l1=OFFSET"' in shown.stderr


def test_forged_entries(tmp_path):
    """A guest writes what looks like old entries: their L1 tables are elsewhere, in use, or later
    than theirs."""
    image = image_of()
    image.snapshot(b"1", b"true", seconds=2000)
    writes_after(image, range(8))
    data = image.build()
    true = image.snapshot_table()
    for name, l1_offset, seconds in (
        (b"live", image.disk.l1_offset, 3000),
        (b"data", C * 3, 3000),
        (b"then", int.from_bytes(true[:8], "big"), 1000),
    ):
        entry = bytearray(true.replace(b"true", name))
        poke(entry, 0, "Q", l1_offset)
        poke(entry, 16, "I", seconds)
        data += bytes(-len(data) % C) + bytes(entry).ljust(C, b"\0")
    path = image.write(tmp_path / "image", delete(image, data))
    with core.Image(path) as opened:
        found = {name: there for name, _, _, there in opened.old_entries()}
        assert found.pop(b"data") in ("gone", "reused")
        assert found == {b"true": "there", b"live": "reused", b"then": "gone"}
        for name in ("live", "data", "then", "none"):
            with pytest.raises(core.QcowError) as caught:
                opened.deleted(name)
            assert caught.value.code == "NOT_FOUND"
        with opened.deleted("true") as view:
            assert view.read(0, C) == pattern(0, C)


def test_two_tables_of_one_cluster_cannot_both_be_old(tmp_path):
    image = image_of(1024)
    monday = image.snapshot(b"1", b"monday")
    writes_after(image, range(1024))
    data = delete(image, image.build())
    tables = [
        int.from_bytes(data[monday.l1_offset + i * 8 :][:8], "big") & ~(1 << 63) for i in (0, 1)
    ]
    data[tables[1] : tables[1] + 8] = data[tables[0] : tables[0] + 8]
    path = image.write(tmp_path / "image", data)
    with core.Image(path) as opened, opened.deleted("monday") as view:
        assert view.label(0, C).label == view.label(512 * C, C).label == "lost-table"
        assert view.label(C, C).label == "kept"


def test_an_image_full_of_entries(tmp_path):
    image = image_of()
    image.snapshot(b"1", b"monday", seconds=1)
    writes_after(image, range(8))
    data = image.build()
    table = image.snapshot_table()
    for number in range(3000):
        entry = bytearray(table.replace(b"monday", b"m%05d" % number))
        poke(entry, 16, "I", number + 2)
        data += bytes(entry).ljust(C, b"\0")
    path = image.write(tmp_path / "image", delete(image, data))
    with core.Image(path) as opened:
        there = [name for name, _, _, what in opened.old_entries() if what == "there"]
        assert there == [b"m02999"]


# ---- Through other doors --------------------------------------------------------------


def monday(folder):
    image = image_of()
    image.snapshot(b"1", b"monday", seconds=1772359920)
    writes_after(image, (2,))
    return image.write(folder / "disk.qcow2", delete(image, image.build()))


def test_residue_says_what_to_type(tmp_path):
    path = monday(tmp_path)
    line = (
        "of its data, at most 12 % is as it was, 88 % may have been written since, 0 % is lost: "
        f"fls -r -i qcow2 '{path}@deleted=monday'"
    )
    assert f'Deleted snapshot "monday", 2026-03-01 10:12:00 (UTC): {line}' in tsk_qcow2(
        "residue", path
    )
    (entry,) = json.loads(tsk_qcow2("residue", "--json", path))["deleted"]
    assert entry["name"] == "monday" and entry["labels"]["kept"] == C
    text = tsk_qcow2("residue", "--map", "monday", path)
    assert "kept" in text and "shared-active" in text
    found = json.loads(tsk_qcow2("residue", "--json", "--map", "id=1", path))
    assert sum(run_["length"] for run_ in found["ranges"]) == found["size"] == 1024 * C
    assert found["labels"] == entry["labels"] and found["name"] == "monday"
    text = Path(SOURCE, "docs", "residue-json.md").read_text()
    keys = set(entry) | set(found) | set(found["ranges"][0])
    assert keys <= set(re.findall(r"`([a-z0-9_-]+)`", text))
    both = run(COMMAND, "residue", "--map", "monday", "--streams", "new", path, check=False)
    assert both.returncode == 2 and "leave out --streams" in both.stderr
    missing = run(COMMAND, "residue", "--map", "tuesday", path, check=False)
    assert missing.returncode == 1 and f"tsk-qcow2 residue '{path}'" in missing.stderr


def test_zeros_are_not_promised_as_kept(tmp_path):
    """A cluster of stored zeros is only found when it is read: opening says so, and the summary
    says "at most"."""
    image = Image(size=64 * C, cluster_bits=12)
    image.disk.normal(0, pattern(0, C))
    image.disk.normal(1, bytes(C))
    image.snapshot(b"1", b"monday", seconds=1000)
    writes_after(image, (0, 1))
    path = image.write(tmp_path / "image", delete(image, image.build()))
    with core.Image(path) as opened, opened.deleted("monday") as view:
        assert "kept 8192" in view.warnings[0] and "clusters of zeros" in view.warnings[0]
        assert "(punched)" in lost(view, 1)
    assert "at most 100 % is as it was, 0 % is lost" in tsk_qcow2("residue", path)
    assert "punched                      4096" in tsk_qcow2("residue", "--map", "monday", path)


def test_a_snapshot_without_a_disk(tmp_path):
    image = image_of()
    image.snapshot(b"1", b"empty", seconds=1000, extra=struct.pack(">QQ", 0, 0))
    writes_after(image, (0,))
    path = image.write(tmp_path / "image", delete(image, image.build()))
    assert '"empty", 1970-01-01 00:16:40 (UTC): it had no data of its own: fls' in tsk_qcow2(
        "residue", path
    )


def test_verify_and_selectors(tmp_path):
    path = monday(tmp_path)
    with core.Image(path) as opened, opened.deleted("monday") as view:
        digest = hashlib.sha256(view.read(0, view.size)).hexdigest()
    found = json.loads(tsk_qcow2("verify", "--json", f"{path}@deleted=monday", status=5))
    (state,) = found["states"]
    assert state["state"] == "deleted_snapshot" and state["sha256"] == digest
    assert state["name"] == "monday" and state["index"] is None
    assert any("recovered" in warning for warning in state["warnings"])


def entries_alone(folder):
    """An image of which two deleted snapshots left their entries, one of these its table, too."""
    image = image_of()
    image.snapshot(b"1", b"gone", seconds=1000)
    writes_after(image, (1,))
    image.snapshot(b"2", b"monday", seconds=2000, vm_state_size=C).l1_entries = 3
    writes_after(image, (2,))
    data = delete(image, image.build())
    at = image.snapshots[0][0].l1_offset
    data[at : at + C] = pattern(1, C)
    return image.write(folder / "disk.qcow2", data)


def test_selectors_for_all_of_them(tmp_path):
    """The file's name and the line about it say what they are; what is lost is said."""
    path = entries_alone(tmp_path)
    made = tmp_path / "made"
    made.mkdir()
    done = subprocess.run(
        [COMMAND, "selector", "--all", "--vmstate", "--directory", made, path],
        capture_output=True,
        check=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), **sanitized()},
    )
    lines = dict(line.split("  ", 1) for line in done.stdout.splitlines())
    shares = f"recovered: of the disk's bytes kept {C}, shared-active {7 * C}, absent"
    assert {Path(file).name: text.split(", absent")[0] for file, text in lines.items()} == {
        "disk-active.img": "the active disk",
        "disk-deleted-monday.img": f'deleted snapshot 2 "monday", {shares[:-8]}',
        "disk-deleted-monday-vmstate.img": (
            f'saved memory of deleted snapshot 2 "monday", {shares[:-8]}'
        ),
    }
    assert "note: 1 deleted snapshot cannot be read, because" in done.stderr
    assert 'ID 1 "gone" of 1970-01-01 00:16:40' in done.stderr
    with core.Image(path) as opened, opened.deleted("monday") as view:
        content = view.read(0, view.size)
    shown = tools.img_cat(made / "disk-deleted-monday.img", home=tmp_path)
    assert shown.stdout == content and b"recovered" in shown.stderr


def test_one_selector(tmp_path):
    path = monday(tmp_path)
    for rest, file, words in (
        ("@deleted=monday", "deleted-monday", 'deleted snapshot 1 "monday", recovered: '),
        (
            "@deleted-id=1,under-zeros",
            "deleted-monday-under-zeros",
            'deleted snapshot 1 "monday", with what is stored under zeros, recovered: ',
        ),
        ("@abandoned", "abandoned", "an abandoned state, recovered by guess"),
    ):
        made = tmp_path / file
        made.mkdir()
        line = tsk_qcow2("selector", "--directory", tmp_path / file, f"{path}{rest}", HOME=tmp_path)
        assert line.startswith(f"{made}/disk-{file}.img  {words}")


@mounted.needed
def test_a_mount_says_which_it_has_not(tmp_path):
    path = entries_alone(tmp_path)
    with mounted.Mount(path, tmp_path / "mounted") as mount:
        assert {"deleted/monday.raw", "deleted/monday.qevm"} < set(mount.files())
        with core.Image(path) as opened:
            with opened.deleted("monday", flags=core.VIEW_VM_STATE) as view:
                assert mount.path("deleted/monday.qevm").read_bytes() == view.read(0, C)
    assert 'cannot be read, because nothing but an entry is left: ID 1 "gone"' in mount.complaint
    assert mount.status == 0


@mounted.needed
def test_a_mount_has_them(tmp_path):
    path = monday(tmp_path)
    (tmp_path / "mounted").mkdir()
    with core.Image(path) as opened, opened.deleted("monday") as view:
        content = view.read(0, view.size)
    with mounted.Mount(path, tmp_path / "mounted") as mount:
        assert mount.path("deleted/monday.raw").read_bytes() == content
    assert "cannot be read" not in mount.complaint
    with mounted.Mount(f"{path}@deleted=monday", tmp_path / "mounted") as mount:
        assert mount.path("deleted/monday.raw").read_bytes() == content
        assert not mount.path("active.raw").exists()


@pytest.mark.skipif(not encrypted.has_libgcrypt(), reason="built without libgcrypt")
@pytest.mark.parametrize("method", ("luks", "aes"))
def test_encrypted(method, tmp_path):
    path = tmp_path / "image"
    encrypted.create(path, 64 * C, method=method, options=["cluster_size=4k"])
    node = encrypted.node(path, method=method)
    text = (
        f"driver=qcow2,file.driver=file,file.filename={path},file.discard=ignore,"
        f"encrypt.format={method},encrypt.key-secret=s0"
    )
    snapshot = ("qemu-img", "snapshot", "--image-opts")
    encrypted.write(node, ["write -P 65 0 64k", "write -P 66 64k 16k"])
    truth = b"A" * (16 * C) + b"B" * (4 * C) + bytes(44 * C)
    encrypted.qemu(*snapshot, "-c", "monday", text, secrets=[b"secret"])
    encrypted.write(node, ["write -P 67 16k 16k"])
    encrypted.qemu(*snapshot, "-d", "monday", text, secrets=[b"secret"])
    with core.Image(path, passphrases=[b"secret"]) as opened, opened.deleted("monday") as view:
        assert view.read(0, view.size) == truth


def test_names_that_make_no_sense(tmp_path):
    path = monday(tmp_path)
    for rest, word in (
        (",only=kept", "needs a deleted snapshot"),
        ("@deleted=monday,only=all", 'takes the value "kept"'),
        ("@deleted=monday,residue", "does not go with"),
        ("@deleted=monday,vmstate", "no VM state"),
        ("@deleted=tuesday", 'those that can be read: ID 1 "monday"'),
        ("@deleted-l1=1", "there is no deleted snapshot"),
    ):
        with pytest.raises(core.QcowError) as caught:
            core.Named(f"{path}{rest}")
        assert word in str(caught.value), rest


# ---- QEMU ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", (2, 4, 6, 8, 10))
def test_calm_histories(seed, tmp_path):
    history = DeletedHistory(seed, tmp_path)
    history.run()
    counts = history.check()
    assert not [label for label in SURE if counts[label, "wrong"]], counts


def test_busy_histories(tmp_path):
    """What was freed twice cannot be told from what was freed once: see docs/residue.md."""
    counts = Counter()
    for seed in (1, 3, 5, 7):
        history = DeletedHistory(seed, tmp_path)
        history.run()
        counts += history.check()
    assert counts["kept", "wrong"] * 6 <= counts["kept", "right"], counts


def test_files_of_a_deleted_snapshot(tmp_path):
    """300 files, a snapshot, 150 of them wiped, the snapshot deleted, 100 more writes."""
    rng = random.Random(18)
    files = {f"file-{i:03}": rng.randbytes(rng.randrange(8, 60) * KIB) for i in range(300)}
    (tmp_path / "files").mkdir()
    for name, content in files.items():
        (tmp_path / "files" / name).write_bytes(content)
    raw, path = tmp_path / "raw", tmp_path / "disk.qcow2"
    options = ("-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", tmp_path / "files")
    run("mke2fs", *options, raw, "64M")
    run("qemu-img", "convert", "-O", "qcow2", "-o", "cluster_size=4k", raw, path)
    disk = raw.read_bytes()
    node = f"driver=qcow2,file.driver=file,file.discard=ignore,file.filename={path}"
    run("qemu-img", "snapshot", "-c", "before", "--image-opts", node)
    wiped = [
        f"write -P {rng.randrange(1, 255)} {disk.index(files[name][:4096])} {len(files[name])}"
        for name in rng.sample(sorted(files), 150)
    ]
    run("qemu-io", "--image-opts", node, *[word for step in wiped for word in ("-c", step)])
    run("qemu-img", "snapshot", "-d", "before", "--image-opts", node)
    free = range(48 * MIB, 60 * MIB, 64 * KIB)
    writes = [f"write -P 7 {rng.choice(free)} {rng.randrange(1, 17) * 4}k" for _ in range(100)]
    assert check_files(path, files, disk) == (300, 30, 0)  # nothing was written since
    run("qemu-io", "--image-opts", node, *[word for step in writes for word in ("-c", step)])
    with core.Image(path) as opened:
        if any(there == "there" for _, _, _, there in opened.old_entries()):
            check_files(path, files, disk)


def check_files(path, files, disk):
    """By the bytes of the disk where they were stored, and some of them by name: never other
    content without an error. Returns how many files were listed, how many of these are whole, and
    how many clusters of files are lost."""
    lost_count = 0
    with core.Image(path) as opened, opened.deleted("before") as view:
        for content in files.values():
            start = disk.index(content[:4096])
            for at in range(start // C * C, start + len(content), C):
                if view.label(at, C).label in LOST:
                    lost_count += 1
                    with pytest.raises(core.QcowError):
                        view.read(at, C)
                else:
                    assert view.read(at, C) == disk[at : at + C]
    name = f"{path}@deleted=before"
    listed = tools.run("fls", "-r", "-p", "-i", "qcow2", f"{name},errors=zero").stdout.decode()
    inodes = dict(re.findall(r"r/r (\d+):\t(file-\d+)", listed))
    whole = 0
    for inode, file in list(inodes.items())[::10]:
        got = tools.run("icat", "-i", "qcow2", name, inode)
        is_whole = got.stdout == files[file]
        assert is_whole or (got.returncode != 0 and b"lost (" in got.stderr), file
        whole += is_whole
    return len(inodes), whole, lost_count
