# SPDX-License-Identifier: MIT
"""`tsk-qcow2 residue`: how much nothing refers to, where it is, and what it looks like."""
import json
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from lib import core, residue
from lib.builder import COMPRESSED, COPIED, Image, pattern, poke, squeezable
from lib.deleted import delete
from lib.project import COMMAND, SANITIZERS, SOURCE, run, tsk_qcow2

C = 4096


def command(*words, **options):
    return tsk_qcow2("residue", *words, **options)


def inventory(path, **options):
    """The bytes by where and by kind, and what was found, once they agree with the oracle."""
    with core.Image(path, no_chain=True) as image:
        result, where, kinds, found = image.find_residue(**options)
    used = sum(end - start for start, end in residue.references(path))
    assert result.is_complete and result.checked_to == result.file_bytes == path.stat().st_size
    assert result.residue_bytes == result.file_bytes - used
    assert sum(bytes for bytes, _ in where.values()) == result.residue_bytes
    assert sum(kinds.values()) == result.residue_bytes
    return where, kinds, found


def with_old_tables():
    """An image in which each kind of old table lies, unreferenced; and where."""
    image = Image(size=64 * C, cluster_bits=12)
    for cluster in range(8):
        image.disk.normal(cluster, pattern(cluster, C))
    data_at = [image.junk(pattern(100 + index, C)) for index in range(4)]
    at = {"data": data_at[0]}
    l2 = struct.pack(">5Q", *(COPIED | one for one in data_at), 1)
    at["l2"] = image.junk(l2.ljust(C, b"\0"))
    at["l1"] = image.junk(struct.pack(">Q", COPIED | at["l2"]))
    at["refcount-block"] = image.junk(struct.pack(">H", 1) * 300)
    at["refcount-table"] = image.junk(struct.pack(">Q", at["refcount-block"]))
    entry = snapshot_entry(at["l1"], b"7", b"monday", seconds=1772359920)
    gone = snapshot_entry(data_at[1], b"8", b"", seconds=5)
    at["snapshot-table"] = image.junk(entry + gone)
    name = b"backup"
    directory = struct.pack(">QIIBBHI", data_at[0], 1, 2, 1, 16, len(name), 0) + name
    at["bitmap-directory"] = image.junk(directory.ljust(32, b"\0"))
    inner = Image(size=16 * C, cluster_bits=12).build()
    at["header"] = image.junk(inner[:C])
    at["zero"] = image.junk(bytes(C))
    return image, at


def snapshot_entry(l1_offset, id, name, seconds=0, disk_size=64 * C, l1_size=1):
    entry = struct.pack(">QIHHIIQII", l1_offset, l1_size, len(id), len(name), seconds, 0, 0, 0, 16)
    entry += struct.pack(">QQ", 0, disk_size) + id + name
    return entry.ljust(-(-len(entry) // 8) * 8, b"\0")


def test_each_kind(tmp_path):
    image, at = with_old_tables()
    image.write(tmp_path / "image")
    where, kinds, found = inventory(tmp_path / "image")
    for kind in at:
        assert kinds[kind] >= C, kind
    assert kinds["data"] - 4 * C < C  # and what is left of tables
    tables = {(kind, offset) for kind, offset, snapshot, _, bitmap in found if not snapshot}
    for kind in ("l1", "l2", "refcount-table", "refcount-block", "header"):
        assert (kind, at[kind]) in tables
    snapshots = [(one.id, one.name, l1) for _, _, one, l1, _ in found if one]
    assert snapshots == [(b"7", b"monday", "there"), (b"8", b"", "gone")]
    assert [name for *_, name in found if name] == [b"backup"]
    assert "unreferenced" in where


def test_each_place(tmp_path):
    image = Image(size=20 * C + 512, cluster_bits=12)
    image.disk.normal(0, pattern(1, C))
    image.disk.zero_allocated(1, pattern(2, C))
    image.disk.compressed(2, squeezable(3, C))
    image.disk.normal(20, pattern(4, C))
    image.junk(pattern(5, C))
    image.disk.normal(3, pattern(6, C))
    image.snapshot(b"1", b"first")
    image.write(tmp_path / "image", image.build() + pattern(7, 3 * C))
    where, _, _ = inventory(tmp_path / "image")
    assert where["under-zeros"] == (C, C)
    assert where["past-disk"] == (C - 512, C - 512)
    assert where["after-last"] == (3 * C, 3 * C)
    assert where["unreferenced"] == (C, C)
    assert {"stream-gaps", "table-slack", "header-slack"} < set(where)
    extended = Image(size=4 * 16384, cluster_bits=14, extended_l2=True)
    extended.disk.subclusters(0, "DZ.D" * 8, pattern(1, 16384))
    extended.write(tmp_path / "extended")
    assert inventory(tmp_path / "extended")[0]["subclusters"] == (8192, 8192)


def test_holes(tmp_path):
    image = Image(size=64 * C, cluster_bits=16)
    path = image.write(tmp_path / "image")
    size = path.stat().st_size
    with open(path, "r+b") as file:
        file.truncate(size + (1 << 40))
    where, kinds, _ = inventory(path)
    assert where["after-last"] == (1 << 40, 0) and kinds["hole"] >= 1 << 40


def test_what_the_image_still_has_is_not_old(tmp_path):
    image = Image(size=64 * C, cluster_bits=12)
    image.disk.normal(0, pattern(1, C))
    then = image.snapshot(b"1", b"still here", seconds=9)
    data = image.build()
    entry = snapshot_entry(then.l1_offset, b"1", b"still here", seconds=9)
    old = snapshot_entry(then.l1_offset, b"2", b"deleted", seconds=8)
    data += (entry + old).ljust(C, b"\0") + (old + entry).ljust(C, b"\0")
    image.write(tmp_path / "image", data)
    snapshots = [(one.name, l1) for _, _, one, l1, _ in inventory(tmp_path / "image")[2] if one]
    assert snapshots == [(b"deleted", "reused")]


def test_a_deleted_snapshot_of_qemus(tmp_path):
    path = tmp_path / "image.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
    run("qemu-io", "-c", "write -P 65 0 8M", path)
    run("qemu-img", "snapshot", "-c", "monday", path)
    run("qemu-img", "snapshot", "-c", "tuesday", path)
    run("qemu-io", "-c", "write -P 66 0 4M", path)
    node = f"driver=qcow2,file.driver=file,file.filename={path},file.discard=ignore"
    run("qemu-img", "snapshot", "-d", "monday", "--image-opts", node)
    run("qemu-img", "snapshot", "-d", "tuesday", "--image-opts", node)
    _, kinds, found = inventory(path)
    snapshots = {one.name: l1 for _, _, one, l1, _ in found if one}
    assert snapshots == {b"monday": "there", b"tuesday": "there"}
    assert kinds["data"] >= 4 << 20 and kinds["l1"] == 2 << 16 and kinds["l2"] >= 1 << 16


# ---- The command -------------------------------------------------------------------


def test_text(tmp_path):
    image, _ = with_old_tables()
    image.disk.zero_allocated(9, pattern(2, C))
    path = image.write(tmp_path / "it's.qcow2")
    text = command(path)
    assert re.search(r"^Residue: \d+ of the file's \d+ bytes$", text, re.M)
    assert 'ID 7, name "monday", 2026-03-01 10:12:00 (UTC)' in text and "is there" in text
    assert 'Old bitmap entry: name "backup"' in text
    quoted = str(path).replace("'", "'\\''")
    assert f"img_stat -i qcow2 '{quoted},under-zeros'\n" in text
    assert text.endswith(f"img_cat -i qcow2 '{quoted},residue' > residue.raw\n")


def test_what_may_be_encrypted(tmp_path):
    """Only what is as random as ciphertext is counted as that."""
    image = Image(size=64 * C, cluster_bits=12)
    for data in (*(pattern(number, C) for number in range(3)), b"Some text. " * 372, bytes(C)):
        image.junk(data)
    path = image.write(tmp_path / "image")
    assert json.loads(command("--json", path))["random_bytes"] == 3 * C
    assert re.search(rf"^data, random: encrypted or compressed +{3 * C}$", command(path), re.M)


def test_nothing_left(tmp_path):
    path = Image(size=64 * C, cluster_bits=12).write(tmp_path / "image")
    assert command(path).endswith("Nothing is left: all residue is zeros.\n")


NAMES = "it's", "a b,c", 'x"y', "new\nline", "$(touch x)`id`", "back\\slash", "", "a//b", "ümläut"


def test_what_it_says_to_type_can_be_pasted(tmp_path):
    """Whatever the snapshots are called: each command opens the one that it is for."""
    image = Image(size=64 * C, cluster_bits=12)
    for number, name in enumerate(NAMES):
        image.disk.clear(0)
        image.disk.normal(0, pattern(number, C))
        image.snapshot(b"%d" % number, name.encode(), seconds=number + 1)
    path = image.write(tmp_path / "im äge,it's@x.qcow2", delete(image, image.build()))
    text = command(path)
    commands = re.findall(r"is lost: fls -r -i qcow2 (.*)", text)
    commands += re.findall(r"carvers: img_cat -i qcow2 (.*) > residue.raw", text)
    assert len(commands) == len(NAMES) + 1
    for number, words in enumerate(commands):
        typed = run("sh", "-c", f"printf '%s\\0' {words}", cwd=tmp_path).stdout
        (word,) = typed.split("\0")[:-1]
        found = tsk_qcow2("verify", "--no-hash", "--json", word, status=5, cwd=tmp_path)
        (state,) = json.loads(found)["states"]
        if number < len(NAMES):
            name = NAMES[number].replace("\\", "\\x5c").replace("\n", "\\x0a")
            assert (state["state"], state["name"]) == ("deleted_snapshot", name)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_json_is_as_documented(tmp_path):
    image, at = with_old_tables()
    path = image.write(tmp_path / "image")
    found = json.loads(command("--json", path))
    assert found["complete"] is True and found["checked_to"] == found["file_size"]
    assert [one["name"] for one in found["snapshots"]] == ["monday", ""]
    assert found["snapshots"][0]["l1_offset"] == at["l1"]
    assert {"kind": "l2", "host_offset": at["l2"]} in found["tables"]
    text = Path(SOURCE, "docs", "residue-json.md").read_text().split("## --map")[0]
    keys = set(found) | {"labels"} | set(found["snapshots"][0]) | set(found["bitmaps"][0])
    keys |= set(found["tables"][0]) | set(found["where"]) | set(found["kinds"])
    keys |= set(found["where"]["unreferenced"]) | set(found["streams"])  # "labels": test_deleted
    values = {"there", "gone", "reused", "unknown", "null"}
    assert set(re.findall(r"`([a-z0-9_-]+)`", text)) - values == keys


def test_names(tmp_path):
    image = Image(size=64 * C, cluster_bits=12)
    image.snapshot(b"1", b"first")
    path = image.write(tmp_path / "image")
    assert command(f"{path},residue") == command(path)
    for name in (f"{path}@first", f"{path},under-zeros"):
        command(name, status=2)
    command(tmp_path / "missing", status=1)


# ---- Hostile images ------------------------------------------------------------------


def test_the_bound_of_work(tmp_path):
    image, _ = with_old_tables()
    path = image.write(tmp_path / "image")
    with core.Image(path) as opened:
        result, *_ = opened.find_residue(work_bytes=1000)
    assert not result.is_complete and result.checked_to == 0


def test_a_table_that_cannot_be_read(tmp_path):
    image, _ = with_old_tables()
    data = bytes(image.build())
    bad = image.disk.l1_offset

    def read(offset, length):
        return 5 if offset < bad + 8 and offset + length > bad else data[offset : offset + length]

    with core.Image.from_storage(read, len(data)) as opened:
        result, *_ = opened.find_residue()
    assert not result.is_complete and result.has_unreadable


@pytest.mark.unsanitized("traces the program")
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_what_was_not_looked_at_is_not_called_empty(tmp_path):
    """From some read on, the operating system cannot read the file."""
    path = Image(size=64 * C, cluster_bits=12).write(tmp_path / "image")
    statuses = set()
    for first in (*range(3, 24), 1000):
        fail = f"inject=pread64:error=EIO:when={first}+"
        traced = ["strace", "-f", "-o", "/dev/null", "-e", "trace=pread64", "-e", fail]
        done = subprocess.run([*traced, COMMAND, "residue", path], capture_output=True, text=True)
        statuses.add(done.returncode)
        assert (done.returncode == 0) == ("Nothing is left" in done.stdout), done
        assert (done.returncode == 6) == ("some of it cannot be read" in done.stdout), done
    assert {0, 6} <= statuses


def test_tables_and_entries_without_end(tmp_path):
    """A file full of tables that name each other, and of entries: listed to a bound."""
    image = Image(size=64 * C, cluster_bits=9)
    data = image.build()
    start = len(data)
    for index in range(20000):
        targets = [COPIED | start + (index * 7 + other * 11) % 20000 * 512 for other in range(20)]
        data += struct.pack(">20Q", *targets).ljust(512, b"\0")
    for index in range(12000):
        name = b"snapshot %d" % index
        data += snapshot_entry(start, b"%d" % index, name, l1_size=8192).ljust(512, b"\0")
    path = image.write(tmp_path / "image", data)
    found = json.loads(command("--json", path))
    assert found["snapshot_count"] == 12000 and len(found["snapshots"]) == 10000
    assert found["table_count"] >= 20000 and len(found["tables"]) >= 10000
    assert found["complete"]


def test_a_wiped_header_field(tmp_path):
    """No L1 table at all: everything but the header is residue."""
    image, at = with_old_tables()
    data = image.build()
    poke(data, 36, "I", 0)
    poke(data, 24, "Q", 0)
    path = image.write(tmp_path / "image", data)
    _, kinds, found = inventory(path)
    assert kinds["data"] >= 12 * C and ("l2", at["l2"]) in {one[:2] for one in found}


@pytest.mark.parametrize("cluster_bits", (9, 12, 16, 21))
def test_ordinary_data_look_like_no_table(cluster_bits, tmp_path):
    image = Image(size=64 << cluster_bits, cluster_bits=cluster_bits)
    text = (Path(SOURCE, "README.md").read_bytes() * 600)[: 2 << 21]
    image.junk(text + pattern(1, 1 << 21) + bytes(100) + text)
    _, kinds, _ = inventory(image.write(tmp_path / "image"))
    assert set(kinds) <= {"data", "zero", "hole"}


def test_old_compressed_streams(tmp_path):
    """A stream right after one that is in use, and another after it; the third is overwritten."""
    image = Image(size=64 * C, cluster_bits=12)
    clusters = [pattern(number, 900).ljust(C, b"\0") for number in range(3)]
    streams = [image.compress(cluster) for cluster in clusters]
    together = b"".join(streams[:2]) + b"\xff" * 8 + streams[2]
    at = image.allocate(together[:C])
    image.disk.compressed(0, clusters[0], streams[0], at=at)
    image.write(tmp_path / "image")
    where, kinds, _ = inventory(tmp_path / "image")
    rest = C - len(streams[0]) - len(streams[1])
    assert kinds["compressed"] == len(streams[1])
    assert where["stream-gaps"][0] == len(streams[1]) + rest


def test_a_compressed_cluster_that_qemu_wrote_twice(tmp_path):
    path, raw = tmp_path / "image.qcow2", tmp_path / "raw"
    raw.write_bytes(squeezable(1, 1 << 18))
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=64k", path, "1M")
    run("qemu-img", "convert", "-c", "-O", "qcow2", raw, path)
    with core.Image(path) as image, image.view() as view:
        host = [view.map(cluster << 16, 65536).host_offset for cluster in range(3)]
    assert host[0] % 65536 == 0 and host[1] < host[0] + 65536
    run("qemu-io", "-c", "write -P 7 0 64k", path)  # no longer compressed: the stream stays
    assert inventory(path)[1]["compressed"] == host[1] - host[0]


# ---- Old streams, written out ---------------------------------------------------------


@pytest.mark.parametrize("compression", (0, 1))
@pytest.mark.parametrize("kept", (0, 1, 2))
def test_streams_that_cross_clusters(kept, compression, tmp_path):
    """Twelve streams in a row, from the start of a cluster: all are old, or the first one or two
    are still in use. Only what is cut by the foreign bytes at the end is lost."""
    image = Image(size=64 * C, cluster_bits=12, compression=compression, header_length=112)
    clusters = [squeezable(number, C) for number in range(12)]
    streams = [image.compress(cluster) for cluster in clusters]
    foreign = b"\xff" * 100
    at = image.junk(b"".join(streams) + foreign)
    offsets = [at + sum(map(len, streams[:number])) for number in range(12)]
    for number in range(kept):
        image.disk.compressed(number, clusters[number], streams[number], at=offsets[number])
    image.write(tmp_path / "image")
    found = []
    with core.Image(tmp_path / "image", no_chain=True) as opened:
        result, *_ = opened.find_residue(streams=found)
    expected = list(zip(offsets, map(len, streams), clusters))[kept:]
    assert found == expected and result.stream_count == len(expected)
    assert inventory(tmp_path / "image")[1]["compressed"] == sum(map(len, streams[kept:]))


def test_streams_are_written_out(tmp_path):
    image = Image(size=64 * C, cluster_bits=12)
    clusters = [squeezable(number, C) for number in range(3)]
    at = image.junk(b"".join(map(image.compress, clusters)))
    path = image.write(tmp_path / "image")
    before = path.read_bytes()
    assert '"--streams DIRECTORY" writes them out' in command(path)
    text = command("--streams", tmp_path / "new", path)
    assert f"3, of which 3 ({3 * C} bytes) were written to '{tmp_path}/new'" in text
    files = sorted((tmp_path / "new").iterdir())
    assert [file.read_bytes() for file in files] == clusters
    assert files[0].name == f"{at:020}-{len(image.compress(clusters[0]))}.cluster"
    assert path.read_bytes() == before
    (tmp_path / "empty").mkdir()
    found = json.loads(command("--json", "--streams", tmp_path / "empty", path))["streams"]
    assert found == {"count": 3, "written": 3, "written_bytes": 3 * C, "limited": False}


def test_streams_are_not_written_anywhere(tmp_path):
    path = Image(size=64 * C, cluster_bits=12).write(tmp_path / "image")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("missing")
    for place in (tmp_path, tmp_path / "file", tmp_path / "link", tmp_path / "no/where"):
        command("--streams", place, path, status=1)
    command(path, "--streams", status=2)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "image", "link"]


def test_no_more_streams_are_written_than_asked_for(tmp_path):
    """The core stops to report streams when the callback says so, and counts on."""
    image = Image(size=64 * C, cluster_bits=12)
    image.junk(b"".join(image.compress(squeezable(number, C)) for number in range(9)))
    path = image.write(tmp_path / "image")
    found = []
    with core.Image(path, no_chain=True) as opened:
        result, *_ = opened.find_residue(streams=found, streams_max=4)
    assert len(found) == 4 and result.stream_count == 9


def dense(path, cluster_bits, count, step, sectors=0):
    """An image of `count` compressed clusters, which begin every `step` bytes of random ones."""
    size = 1 << cluster_bits
    tables = -(-count * 8 // size)
    l1 = 3 * size
    first = l1 + -(-tables * 8 // size) * size
    data = first + tables * size
    shift = 62 - (cluster_bits - 8)
    header = struct.pack(
        ">IIQIIQIIQQIIQQQQII",
        *(0x514649FB, 3, 0, 0, cluster_bits, count * size, 0, tables, l1, size, 1, 0, 0),
        *(0, 0, 0, 4, 112),
    )
    with open(path, "wb") as file:
        file.write(header + bytes(8))
        file.seek(l1)
        l2 = [COPIED | first + index * size for index in range(tables)]
        file.write(struct.pack(f">{tables}Q", *l2))
        file.seek(first)
        words = [COMPRESSED | sectors << shift | data + index * step for index in range(count)]
        file.write(struct.pack(f">{count}Q", *words))
        file.seek(data)
        file.write(pattern(1, count * step + 512))
    return path


@pytest.mark.parametrize(
    "cluster_bits, count, step, sectors",
    [(9, 300000, 4, 0), (9, 700000, 9, 0), (12, 400000, 1, 15), (21, 30000, 3, 4000)],
)
def test_dense_streams_cost_little(cluster_bits, count, step, sectors, tmp_path):
    """Hundreds of thousands of streams that cannot all be there."""
    path = dense(tmp_path / "image", cluster_bits, count, step, sectors)
    for words in (("residue", path), ("verify", "--no-hash", f"{path},residue")):
        limit = [] if SANITIZERS else ["sh", "-c", 'ulimit -v 300000; exec "$@"', "sh"]
        done = subprocess.run(
            [*limit, COMMAND, *words], capture_output=True, check=False, timeout=60
        )
        assert done.returncode in (0, 5), done


def words(*values):
    return struct.pack(f">{len(values)}Q", *values)


AT = 5 * C  # where a table can be


@pytest.mark.parametrize(
    "content",
    [
        words(COPIED | AT, COPIED | AT),
        words(AT + 512),
        words(COPIED | AT, 1 << 59),
        words(AT, 2),
        words(1 << 50),
        words(COPIED),
        words(COPIED | COMPRESSED | AT),
        snapshot_entry(AT, b"\n", b""),
        snapshot_entry(AT, b"", b"name"),
        snapshot_entry(AT, b"1", b"\xff"),
        snapshot_entry(AT + 512, b"1", b""),
        snapshot_entry(1 << 50, b"1", b""),
        snapshot_entry(AT, b"1", b"", l1_size=0),
        snapshot_entry(AT, b"1", b"", disk_size=1 << 40),
        struct.pack(">QIIBBHI", AT, 1, 8, 1, 16, 1, 0) + b"b",
        struct.pack(">QIIBBHI", AT, 1, 0, 2, 16, 1, 0) + b"b",
        struct.pack(">QIIBBHI", AT, 1, 0, 1, 40, 1, 0) + b"b",
        struct.pack(">QIIBBHI", AT, 0, 0, 1, 16, 1, 0) + b"b",
        struct.pack(">3H", 1, 1, 2000),
        struct.pack(">4H", 1, 2, 3, 4),
        b"QFI\xfb" + bytes(3) + b"\x09",
    ],
)
def test_what_looks_like_no_table(content, tmp_path):
    image = Image(size=64 * C, cluster_bits=12)
    for cluster in range(6):
        image.disk.normal(cluster, pattern(cluster, C))
    image.junk(content.ljust(C, b"\0"))
    _, kinds, found = inventory(image.write(tmp_path / "image"))
    assert set(kinds) <= {"data", "zero", "hole"} and found == []


def test_streams_that_share_sectors(tmp_path):
    """The second begins before the last sector of the first: they cannot both be there, and both
    count to the end of their last sector."""
    image = Image(size=64 * C, cluster_bits=12)
    first = image.compress(pattern(1, 300).ljust(C, b"\0"))
    at = image.junk(first + pattern(2, 2 * C))
    image.disk.compressed(0, bytes(C), first, at=at, sectors=3)
    second = image.compress(pattern(3, 100).ljust(C, b"\0"))
    image.disk.compressed(1, bytes(C), second, at=at + 1024, sectors=1)
    image.write(tmp_path / "image")
    with core.Image(tmp_path / "image") as opened, opened.residue() as view:
        found = view.read(at, 2 * C)
    assert found[: len(first)] == bytes(len(first)) and any(found[len(first) : 1024])
    assert found[1024 : 1024 + 2 * 512] == bytes(2 * 512) and any(found[1024 + 2 * 512 :])
