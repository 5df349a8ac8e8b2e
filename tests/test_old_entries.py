# SPDX-License-Identifier: MIT
"""Old entries after the end of tables: nothing pads a table, so what was there before goes on.

The oracle looks for the very bytes of each entry that the image ever had, in what nothing refers
to (lib/residue.py).
"""
import json
import random
import struct

import pytest
from lib import core, residue
from lib.builder import COPIED, Image, pattern
from lib.deleted import delete
from lib.project import run, tsk_qcow2

C = 4096


def pad8(data):
    return data.ljust(-(-len(data) // 8) * 8, b"\0")


def snapshot_entry(l1_offset, id, name, seconds=0, disk_size=64 * C, l1_size=1):
    entry = struct.pack(">QIHHIIQII", l1_offset, l1_size, len(id), len(name), seconds, 0, 0, 0, 16)
    return pad8(entry + struct.pack(">QQ", 0, disk_size) + id + name)


def bitmap_entry(table_offset, name):
    return pad8(struct.pack(">QIIBBHI", table_offset, 1, 2, 1, 16, len(name), 0) + name)


def live_entries(path):
    """{(ID, name, seconds, nanoseconds): bytes} of the snapshot table."""
    walk = residue.Walk(path)
    entries, at = {}, walk.snapshots_at
    for _ in range(walk.snapshot_count):
        id_length, name, seconds, nanoseconds, extra = walk.get(">12xHHII12xI", at)
        length = 40 + extra + id_length + name
        entry = walk.read(at, length)
        texts = entry[40 + extra :]
        entries[texts[:id_length], texts[id_length:], seconds, nanoseconds] = entry
        at += -(-length // 8) * 8
    return entries


def in_residue(path, entry):
    """Whether these bytes are at a multiple of 8, where nothing refers to any of them."""
    data, used = path.read_bytes(), residue.references(path)
    at = data.find(entry)
    while at >= 0:
        if at % 8 == 0 and all(end <= at or start >= at + len(entry) for start, end in used):
            return True
        at = data.find(entry, at + 1)
    return False


def found_in(path):
    """The same keys, of what is found; with and without everything else."""
    with core.Image(path, no_chain=True) as image:
        result, _, _, found = image.find_residue()
        assert result.is_complete
        snapshots = [one for _, _, one, _, _ in found if one]
        names = sorted(one.name for one in snapshots)
        assert sorted(one[0] for one in image.old_entries()) == names
    keys = [(one.id, one.name, one.date_seconds, one.date_nanoseconds) for one in snapshots]
    assert len(set(keys)) == len(keys)
    return set(keys)


@pytest.mark.parametrize("cluster_size, seed", ((512, 1), (4096, 2), (65536, 3)))
def test_snapshots_of_qemus(cluster_size, seed, tmp_path):
    """Snapshots are taken and deleted all the time: every entry whose bytes are left is found."""
    rng, path = random.Random(seed), tmp_path / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster_size}", path, "1M")
    node = f"driver=qcow2,file.driver=file,file.discard=ignore,file.filename={path}"
    names, ever = [], {}
    for number in range(24):
        if len(names) > 2 and rng.random() < 0.45:
            run(
                *"qemu-img snapshot -d".split(),
                names.pop(rng.randrange(len(names))),
                "--image-opts",
                node,
            )
        else:
            names.append(f"{number}-" + "x" * rng.choice((1, 9, 40, 200)))
            run(*"qemu-img snapshot -c".split(), names[-1], "--image-opts", node)
        ever.update(live_entries(path))
    live = live_entries(path)
    left = {key for key, entry in ever.items() if key not in live and in_residue(path, entry)}
    assert left and found_in(path) == left


# ---- What is where ------------------------------------------------------------------


def live_table(tmp_path, slack, cluster_bits=12):
    """An image with one snapshot, and these bytes right after its table. Returns the path, and the
    host offset of these bytes."""
    image = Image(size=64 * C, cluster_bits=cluster_bits)
    image.disk.normal(0, pattern(1, 1 << cluster_bits))
    image.snapshot(b"1", b"still here", seconds=9)
    data = image.build()
    at = image.snapshots_offset + -(-image.snapshots_length // 8) * 8
    data[at : at + len(slack)] = slack
    return image.write(tmp_path / "image", data), at


@pytest.mark.parametrize("cut", (8, 40, 64))
def test_the_slack_of_a_live_table(cut, tmp_path):
    """The first old entry is cut by the end of the live table. The last is earlier than the one
    before it, so it is of another table."""
    entries = [
        snapshot_entry(2 * C, b"7", b"cut", 20),
        snapshot_entry(3 * C, b"8", b"after it", 30),
        snapshot_entry(4 * C, b"9", b"and after that", 40),
        snapshot_entry(1 * C, b"5", b"of another table", 10),
    ]
    path, at = live_table(tmp_path, b"".join(entries)[cut:])
    with core.Image(path) as opened:
        found = opened.find_residue()[3]
    starts = [at - cut + sum(map(len, entries[:number])) for number in range(4)]
    assert [(one.name, host) for _, host, one, _, _ in found if one] == [
        (b"after it", starts[1]),
        (b"and after that", starts[2]),
        (b"of another table", starts[3]),
    ]
    assert [name for name, *_ in old(path)] == [b"after it", b"and after that", b"of another table"]


def old(path):
    with core.Image(path) as opened:
        return opened.old_entries()


def test_an_old_table_that_begins_like_a_newer_one(tmp_path):
    """A short table was written over a long one, and deleted, too."""
    image = Image(size=64 * C, cluster_bits=12)
    long = [snapshot_entry(2 * C, b"%d" % i, b"long %d" % i, 10 + i) for i in range(6)]
    short = snapshot_entry(3 * C, b"9", b"a short one, longer than two", 50)
    whole = b"".join(long)
    image.junk((short + whole[len(short) :]).ljust(C, b"\0"))
    names = [name for name, *_ in old(image.write(tmp_path / "image"))]
    assert names == [b"a short one, longer than two"] + [b"long %d" % i for i in range(2, 6)]


def test_far_in_the_slack(tmp_path):
    """All of a table's last cluster is searched, and an entry may reach into the next one."""
    entry = snapshot_entry(3 * 512, b"7", b"n" * 700, 20, disk_size=C)
    path, at = live_table(tmp_path, b"")
    data = bytearray(path.read_bytes())
    assert at % C < 2000
    data[at - at % C + 3992 : at - at % C + C] = snapshot_entry(2 * C, b"7", b"far", 20)[:104]
    path.write_bytes(data)
    assert [name for name, *_ in old(path)] == [b"far"]
    image = Image(size=64 * C, cluster_bits=9)
    image.junk(b"\xff" * 200 + entry + b"\xff" * 8 + entry.replace(b"nnn", b"mmm"))
    found = old(image.write(tmp_path / "small"))
    assert [name[:1] for name, *_ in found] == [b"n", b"m"]


def test_entries_of_which_a_part_is_in_use(tmp_path):
    """They are not believed."""
    image = Image(size=64 * C, cluster_bits=12)
    entry = snapshot_entry(2 * C, b"7", b"name" * 900, 20)
    at = image.junk(bytes(C - 800) + entry[:800])
    assert image.disk.normal(5, entry[800:].ljust(C, b"\0")) == at + C
    assert old(image.write(tmp_path / "image")) == []


def test_after_other_tables_and_streams(tmp_path):
    """After an L1 table, and in the sector in which a compressed stream ends."""
    image = Image(size=64 * C, cluster_bits=12)
    stream = image.compress(pattern(1, 100).ljust(C, b"\0"))
    entries = [snapshot_entry(2 * C, b"%d" % i, b"number %d" % i, 20 + i) for i in range(2)]
    gap = stream + bytes(-len(stream) % 8)
    image.disk.compressed(
        0, pattern(1, 100).ljust(C, b"\0"), stream, at=image.junk(gap + entries[0])
    )
    data = image.build()
    at = image.disk.l1_offset + 8 * image.disk.l1_count
    data[at + 24 : at + 24 + len(entries[1])] = entries[1]
    path = image.write(tmp_path / "image", data)
    assert {name for name, *_ in old(path)} == {b"number 0", b"number 1"}
    found_in(path)


def test_padding_that_was_never_written(tmp_path):
    """QEMU writes no zeros after an entry, up to the next multiple of 8."""
    entries = [snapshot_entry(2 * C, b"7", name, 20) for name in (b"one", b"two")]
    entries[0] = entries[0].rstrip(b"\0").ljust(len(entries[0]), b"x")
    path, _ = live_table(tmp_path, b"".join(entries))
    assert [name for name, *_ in old(path)] == [b"one", b"two"]


def test_bitmap_directories(tmp_path):
    """QEMU's, of which the first bitmap is removed; and one after the end of another."""
    path = tmp_path / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
    node = f"driver=qcow2,file.driver=file,file.discard=ignore,file.filename={path}"
    for name in ("first", "second", "third"):
        run("qemu-img", "bitmap", "--add", "--image-opts", node, name)
    for name in ("second", "first"):
        run("qemu-img", "bitmap", "--remove", "--image-opts", node, name)
    with core.Image(path) as opened:
        names = {name for *_, name in opened.find_residue()[3] if name}
        at = next(start for start, end in residue.references(path) if end - start == 32)
    assert {b"first", b"second"} <= names
    with open(path, "r+b") as file:
        file.seek(at + 32 + 16)
        file.write(bitmap_entry(65536 * 3, b"forgotten"))
    with core.Image(path) as opened:
        names = {name for *_, name in opened.find_residue()[3] if name}
    assert b"forgotten" in names


def test_parts_of_a_large_file(tmp_path):
    """A map has 2^25 clusters at once. What is found in each part is said to be complete to its
    end; an entry may lie in two."""
    path = Image(size=64 * C, cluster_bits=9).write(tmp_path / "image")
    part = 512 << 25
    places = {b"first": 1 << 30, b"both": part - 24, b"second": part + 9000}
    with open(path, "r+b") as file:
        file.truncate(2 * part)
        for number, (name, at) in enumerate(places.items()):
            file.seek(at)
            file.write(snapshot_entry(C, b"1", name, number, disk_size=C))
    with core.Image(path, no_chain=True) as image:
        for work, names, checked in ((0, set(places), 2 * part), (300 << 20, {b"first"}, part)):
            result, _, _, found = image.find_residue(work_bytes=work)
            assert {one.name for _, _, one, _, _ in found if one} == names
            assert (result.is_complete, result.checked_to) == (work == 0, checked)


# ---- Which are believed ------------------------------------------------------------------


def three_states(folder, keep, over):
    """Snapshots "first" and "second". The L1 table of the second is overwritten by a snapshot table
    of the first alone (over: by its whole entry, or by all but the first word)."""
    image = Image(size=512 * C, cluster_bits=12)
    for state in range(3):
        for cluster in range(4):
            image.disk.clear(cluster)
            image.disk.normal(cluster, pattern(10 * state + cluster, C))
        if state < 2:
            image.snapshot(b"%d" % state, (b"first", b"second")[state], seconds=1000 * (state + 1))
    data = image.build()
    table, (first, second) = image.snapshot_table(), image.snapshot_offsets
    at = int.from_bytes(table[second : second + 8], "big")
    data = delete(image, data, keep=keep)
    if over == "rest":  # the L1 table was written there later
        data[at : at + 8] = (int.from_bytes(data[at : at + 8], "big") & ~COPIED).to_bytes(8, "big")
    skip = 8 if over == "rest" else 0
    data[at + skip : at + second] = table[first + skip : second]
    return image.write(folder / "image", data)


@pytest.mark.parametrize("keep", ((), (0,)))
def test_a_snapshot_table_over_an_l1_table(keep, tmp_path):
    """Its first word is the offset of an L1 table: read as an L1 table, it would show the first
    one's L2 tables as data."""
    path = three_states(tmp_path, keep, "all")
    assert {name: there for name, _, _, there in old(path)}[b"second"] == "gone"
    with core.Image(path) as opened, pytest.raises(core.QcowError) as caught:
        opened.deleted("second")
    assert caught.value.code == "NOT_FOUND"


def test_an_l1_table_over_a_snapshot_table(tmp_path):
    """The image still has the snapshot of that entry: its first word is the L1 table's."""
    path = three_states(tmp_path, (0,), "rest")
    with core.Image(path) as opened, opened.deleted("second") as view:
        assert view.read(0, 4 * C) == b"".join(pattern(10 + cluster, C) for cluster in range(4))


def test_which_snapshots_are_older(tmp_path):
    """What follows a newer table is of another one: nothing before it is older."""
    image = Image(size=512 * C, cluster_bits=12)
    image.disk.normal(0, pattern(1, C))
    for number, name in enumerate((b"a", b"c", b"d")):
        image.snapshot(b"%d" % number, name, seconds=1000 * (number + 1))
    data = delete(image, image.build(), keep=(0, 2))
    table, ends = image.snapshot_table(), image.snapshot_offsets
    newer = table[: ends[1]] + table[ends[2] :]
    assert len(newer) == ends[2]
    at = image.snapshots_offset
    data[at : at + len(table)] = newer + table[ends[1] : ends[2]]
    path = image.write(tmp_path / "image", data)
    with core.Image(path) as opened, opened.deleted("c") as view:
        assert view.label(0, C).label == "shared-newer"


# ---- Hostile images ------------------------------------------------------------------------


def entries_without_end(count, length):
    """Entries that each fill `length` bytes, and whose L1 tables are at many places."""
    for number in range(count):
        yield snapshot_entry(
            C + number % 8192 * 512, b"%07d" % number, b"n" * (length - 64), number, disk_size=C
        )


@pytest.mark.parametrize("length, count", ((72, 70000), (512, 70000)))
def test_slack_without_end(length, count, tmp_path):
    """More entries than are listed, in clusters that each begin with one: no piece is read again
    and again."""
    image = Image(size=64 * C, cluster_bits=9)
    data = image.build() + b"".join(entries_without_end(count, length))
    path = image.write(tmp_path / "image", data)
    found = json.loads(tsk_qcow2("residue", "--json", path, status=6))
    assert 65000 < found["snapshot_count"] <= 65536 and not found["complete"]
    text = tsk_qcow2("residue", path, status=6)
    assert "Incomplete: there are more old entries" in text
