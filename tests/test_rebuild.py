# SPDX-License-Identifier: MIT
"""`tsk-qcow2 residue --rebuild`: files whose first bytes were overwritten. What is found is opened
as it says, and compared with the disk as it was."""
import json
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from lib import core
from lib.builder import Image, pattern, squeezable
from lib.project import COMMAND, SANITIZERS, SOURCE, run, sanitized, tsk_qcow2
from test_layout import FILLS, check, lose

MIB = 1 << 20


def rebuild(path, status=0):
    return json.loads(tsk_qcow2("residue", "--rebuild", "--json", path, status=status))


def filled(bits, kind="normal", **options):
    """An image whose disk is larger than its first L2 table, with two snapshots."""
    size = 1 << bits
    entries = size // (16 if options.get("extended_l2") else 8)
    image = Image(size=min(entries * 3, 3000) * size, cluster_bits=bits, **options)
    data = squeezable if kind == "compressed" else pattern
    clusters = image.disk.size // size
    chosen = sorted({*range(0, min(40, clusters)), *range(0, clusters, 97), clusters - 1})
    if bits == 21:
        chosen = chosen[:6]

    def write(seed):
        for number, cluster in enumerate(chosen):
            if kind == "subclusters":
                image.disk.subclusters(cluster, "DZ.D" * 8, pattern(seed + number, size))
            else:
                getattr(image.disk, kind)(cluster, data(seed + number, size))

    write(1)
    first = image.snapshot(b"1", b"first")
    write(1000)
    second = image.snapshot(b"2", b"second")
    write(2000)
    return image, [first, second]


@pytest.mark.parametrize(
    "bits, fill",
    [
        *((bits, fill) for bits in (9, 12, 16) for fill in FILLS),
        pytest.param(21, "text", marks=pytest.mark.skipif(SANITIZERS != "", reason="a minute")),
    ],
)
def test_plain(bits, fill, tmp_path):
    prove(tmp_path / "disk.qcow2", bits, fill, {})


@pytest.mark.parametrize("bits, compression", [(12, 0), (12, 1), (16, 0), (16, 1)])
def test_compressed(bits, compression, tmp_path):
    found = prove(tmp_path / "disk.qcow2", bits, "text", {"compression": compression}, "compressed")
    assert all(one["streams_good"] == one["streams_tried"] == 8 for one in found["layouts"])


@pytest.mark.parametrize("bits", (14, 16))
def test_extended(bits, tmp_path):
    prove(tmp_path / "disk.qcow2", bits, "text", {"extended_l2": True}, "subclusters")


def prove(path, bits, fill, options, kind="normal"):
    image, snapshots = filled(bits, kind, **options)
    image.write(path)
    lose(path, fill, bits=bits)
    found = rebuild(path)
    assert found["complete"] and not found["header"]
    by_l1 = {one["l1_offset"]: one for one in found["layouts"]}
    assert found["layouts"][0]["l1_offset"] == image.disk.l1_offset
    assert len(found["layouts"]) == 3
    for disk, name in [(image.disk, None), (snapshots[0], "first"), (snapshots[1], "second")]:
        one = by_l1[disk.l1_offset]
        assert (one["cluster_bits"], one["snapshot"], one["size"]) == (bits, name, disk.size)
        assert one["exact"] and one["lost_l2_tables"] == one["bad_entries"] == 0
        assert one["tables_in_use"] == one["tables_counted"] > 0
        assert one["refcount_bits"] == 16 and not one["data_file"]
        check(image, one["image"], disk)
    return found


def test_a_log_over_the_first_64_kib(tmp_path):
    """With clusters of 64 KiB that is the header alone; the size is that of the partition table."""
    raw, path = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    content = bytearray(48 * MIB)
    content[MIB : 40 * MIB : 4096] = bytes([7]) * len(range(MIB, 40 * MIB, 4096))
    header = b"EFI PART" + struct.pack("<IIIIQQ", 0x10000, 92, 0, 0, 1, len(content) // 512 - 1)
    content[512 : 512 + len(header)] = header
    raw.write_bytes(content)
    run("qemu-img", "convert", "-O", "qcow2", raw, path)
    with core.Image(path) as image:
        l1 = image.header.l1_offset
    lose(path, "text", length=65536)
    found = rebuild(path)
    assert [one["l1_offset"] for one in found["layouts"]] == [l1]
    assert found["layouts"][0]["size_source"] == "partitions"
    with core.Named(found["layouts"][0]["image"]) as disk:
        assert disk.size == len(content) and disk.read(0, disk.size) == content


def test_qemus_small_clusters_lose_their_tables(tmp_path):
    """64 KiB over clusters of 512 bytes: header, refcounts and the active L1 table are gone. What
    is left, the snapshot's, is found, and nothing else is claimed."""
    path = tmp_path / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "4M")
    run("qemu-io", "-c", "write -P 65 0 1M", path)
    run("qemu-img", "snapshot", "-c", "then", path)
    run("qemu-io", "-c", "write -P 66 0 1M", path)
    with core.Image(path) as image:
        offset, size = image.snapshots[0].l1_offset, image.header.size
    assert offset >= 65536
    lose(path, "random", length=65536)
    found = rebuild(path)
    ours = [one for one in found["layouts"] if one["l1_offset"] == offset]
    assert len(ours) == 1 and ours[0]["cluster_bits"] == 9
    with core.Named(ours[0]["image"] + ",errors=zero") as disk:
        assert disk.size in (size, MIB) and set(disk.read(0, MIB)) <= {0, 65}


def test_an_intact_image(tmp_path):
    image, snapshots = filled(12)
    image.write(tmp_path / "disk.qcow2")
    found = rebuild(tmp_path / "disk.qcow2")
    assert found["header"] and len(found["layouts"]) == 3
    assert found["layouts"][0]["l1_offset"] == image.disk.l1_offset


@pytest.mark.parametrize("bits", (9, 12, 16))
def test_tiny(bits, tmp_path):
    """Of one cluster it cannot be told how large it is: the right answer is among those given."""
    path = tmp_path / "disk.qcow2"
    image = Image(size=4 << bits, cluster_bits=bits)
    image.disk.normal(0, pattern(1, 1 << bits))
    image.write(path)
    lose(path, bits=bits)
    found = {(one["cluster_bits"], one["l1_offset"]) for one in rebuild(path)["layouts"]}
    assert (bits, image.disk.l1_offset) in found


DATA_FILES = [
    pytest.param(9, {}, id="512 bytes"),
    pytest.param(12, {"data_file_raw": True}, id="raw"),
    pytest.param(14, {"extended_l2": True}, id="extended"),
]


def with_data_file(path, bits, options):
    """It has two L2 tables, and none for what is between them."""
    size = 1 << bits
    entries = size // (16 if options.get("extended_l2") else 8)
    count = 2 * entries + 8
    image = Image(size=count * size, cluster_bits=bits, data_file=b"guest.data", **options)
    for cluster in (*range(24), *range(count - 3, count)):
        image.disk.normal(cluster, pattern(cluster, size))
    image.disk.zero_allocated(0, pattern(7, size))
    image.write(path)
    lose(path, bits=bits)
    return image


@pytest.mark.parametrize("l1", ("there", "lost"))
@pytest.mark.parametrize("bits, options", DATA_FILES)
def test_data_in_another_file(bits, options, l1, tmp_path):
    """Each L2 entry leads to where its cluster is on the disk. So without an L1 table, too, the
    disk comes out byte for byte."""
    path = tmp_path / "disk.qcow2"
    image = with_data_file(path, bits, options)
    if l1 == "lost":
        with open(path, "r+b") as file:
            file.seek(image.disk.l1_offset)
            file.write(b"log\n" * 8)
    one, *others = rebuild(path)["layouts"]
    assert one["data_file"] and one["bad_entries"] == one["lost_l2_tables"] == 0 and not others
    assert (one["l2_tables"], one["clusters"], one["size"]) == (2, 27, image.disk.size)
    assert one["l1_offset"] == (None if l1 == "lost" else image.disk.l1_offset)
    name, _, placeholder = one["image"].rpartition("=")
    assert placeholder == "PATH" and name.endswith(",data-file")
    check(image, f"{name}={tmp_path}/guest.data,format=raw")
    text = tsk_qcow2("residue", "--rebuild", path)
    assert "its data are in another file" in text and ",data-file=PATH'" in text


@pytest.mark.parametrize("l1", ("there", "lost"))
def test_an_l2_table_of_a_data_file_that_looks_like_an_l1_table(l1, tmp_path):
    """The disk's first clusters that are stored are at the offsets of the image's L2 tables."""
    path = tmp_path / "disk.qcow2"

    def made(clusters):
        image = Image(size=1024 << 12, cluster_bits=12, data_file=b"guest.data")
        for cluster in (*clusters, *range(600, 605)):
            image.disk.normal(cluster, pattern(cluster, 4096))
        data = image.build()
        words = struct.unpack_from(">2Q", data, image.disk.l1_offset)
        return image, data, [word >> 12 & 511 for word in words]

    *_, tables = made([1])
    image, data, again = made(tables)
    assert again == tables
    if l1 == "lost":
        data[image.disk.l1_offset : image.disk.l1_offset + 16] = bytes(16)
    image.write(path, data)
    lose(path, bits=12)
    one = rebuild(path)["layouts"][0]
    assert (one["data_file"], one["l2_tables"], one["clusters"]) == (True, 2, 7)


def test_clusters_that_lie_where_they_are_on_the_disk(tmp_path):
    """By chance, as they can in the image itself; but its refcounts call them used."""
    path = tmp_path / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", path, "16M")
    run("qemu-io", "-c", "write -P 65 320k 2M", path)
    with core.Image(path) as image, image.view() as view:
        truth = view.read(0, view.size)
        assert view.map(320 << 10, MIB).host_offset == 320 << 10
    lose(path)
    one, *others = rebuild(path)["layouts"]
    assert not one["data_file"] and not others
    with core.Named(one["image"]) as disk:
        assert disk.read(0, disk.size) == truth[: disk.size] and disk.size == 2368 << 10


def deflated(size):
    """A compressed file, as a guest may have many."""
    words = b" ".join(b"%x" % (number * 7919 % 65537) for number in range(size // 2))
    return zlib.compress(words)[:size]


WHAT_MAY_BE_ENCRYPTED = {
    "ciphertext": lambda size: pattern(1, size),
    "deflated": deflated,
    "text": lambda size: b"Some text. " * (size // 11),
}


@pytest.mark.parametrize("kind", WHAT_MAY_BE_ENCRYPTED)
def test_what_may_be_encrypted(kind, tmp_path):
    """Zeros that are stored say nothing; text anywhere says that nothing is encrypted."""
    path = tmp_path / "disk.qcow2"
    image = Image(size=70 << 14, cluster_bits=14)
    content = WHAT_MAY_BE_ENCRYPTED[kind](64 << 14)
    assert len(content) >= 63 << 14
    for cluster in range(63):
        image.disk.normal(cluster, content[cluster << 14 : (cluster + 1) << 14])
    image.disk.normal(66, bytes(1 << 14))
    image.write(path)
    lose(path, bits=14)
    one = rebuild(path)["layouts"][0]
    assert (one["clusters_tried"], one["clusters_random"]) == (63, 63 * (kind == "ciphertext"))
    text = tsk_qcow2("residue", "--rebuild", path)
    assert ("encryption=aes,key-file=PATH" in text) == (kind == "ciphertext")


def test_a_qcow2_inside_the_guest(tmp_path):
    """Its tables are found too, but its offsets are not those of the file: the outer image comes
    first."""
    inner, _ = filled(9)
    outer = Image(size=4 * MIB, cluster_bits=12)
    data = bytes(inner.build())
    for cluster in range(-(-len(data) >> 12)):
        outer.disk.normal(cluster, data[cluster << 12 : (cluster + 1) << 12].ljust(4096, b"\0"))
    path = outer.write(tmp_path / "disk.qcow2")
    lose(path, bits=12)
    found = rebuild(path)["layouts"]
    assert (found[0]["l1_offset"], found[0]["cluster_bits"]) == (outer.disk.l1_offset, 12)
    check(outer, f"{path},l1={found[0]['l1_offset']},cluster-bits=12,size={4 * MIB}")


def test_nothing_is_found_in_other_data(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(pattern(1, MIB) + b"Some text. " * 50000 + bytes(MIB))
    assert rebuild(path, status=1)["layouts"] == []
    path.write_bytes(b"")
    assert rebuild(path, status=1)["layouts"] == []
    done = subprocess.run(
        [COMMAND, "residue", "--rebuild", tmp_path / "no"], capture_output=True, check=False
    )
    assert done.returncode == 1 and b"no" in done.stderr


def test_inside_another_file(tmp_path):
    image, _ = filled(12)
    path = image.write(tmp_path / "disk.qcow2")
    lose(path, bits=12)
    (tmp_path / "disk.dd").write_bytes(pattern(7, 12288) + path.read_bytes())
    found = rebuild(f"{tmp_path}/disk.dd,offset=12288")["layouts"]
    assert len(found) == 3 and ",offset=12288,l1=" in found[0]["image"]
    check(image, found[0]["image"])
    done = subprocess.run([COMMAND, "residue", "--rebuild", f"{path},residue"], check=False)
    assert done.returncode == 2


def test_text(tmp_path):
    image, _ = filled(12, "compressed", compression=1)
    path = image.write(tmp_path / "it's.qcow2")
    lose(path, bits=12)
    done = subprocess.run(
        [COMMAND, "residue", "--rebuild", path], capture_output=True, text=True, check=True
    )
    quoted = str(path).replace("'", "'\\''")
    assert f"img_stat -i qcow2 '{quoted},l1={image.disk.l1_offset},cluster-bits=12," in done.stdout
    assert "8 of 8 compressed clusters could be decompressed" in done.stdout
    assert "guessed by the form of the tables" in done.stdout
    assert 'snapshot "first"' in done.stdout
    for words in (["--rebuild"], ["--rebuild", "--streams", "x", path]):
        done = subprocess.run([COMMAND, "residue", *words], capture_output=True, check=False)
        assert done.returncode == 2


@pytest.mark.parametrize(
    "name, start, is_offered",
    [("a.qcow2", b"log", True), ("a.raw", b"log", False), ("a.qcow2", b"KDMV\1\0\0\0", False)],
    ids=["qcow2 by name", "raw", "VMDK"],
)
def test_the_error_of_a_file_without_a_header_leads_here(name, start, is_offered, tmp_path):
    (tmp_path / name).write_bytes(start.ljust(65536, b"\0"))
    said = run(COMMAND, "verify", name, check=False, cwd=tmp_path).stderr
    assert said.endswith(f": tsk-qcow2 residue --rebuild '{name}'\n") == is_offered, said
    assert said.endswith('leave out "-i qcow2"\n') != is_offered, said


def test_json_is_as_documented(tmp_path):
    image, _ = filled(12)
    found = rebuild(image.write(tmp_path / "disk.qcow2"))
    text = Path(SOURCE, "docs", "rebuild-json.md").read_text()
    assert set(re.findall(r"`([a-z0-9_]+)`", text)) == set(found) | set(found["layouts"][0])


def test_l2_tables_without_an_l1_table(tmp_path):
    image, snapshots = filled(12)
    path = image.write(tmp_path / "disk.qcow2")
    with open(path, "r+b") as file:
        file.seek(image.disk.l1_offset)
        file.write(bytes(4096))
    lose(path, bits=12)
    done = subprocess.run(
        [COMMAND, "residue", "--rebuild", path], capture_output=True, text=True, check=True
    )
    assert f"{path}@abandoned,l1={snapshots[0].l1_offset}," in done.stdout


# ---- Hostile files -------------------------------------------------------------------


def words(*values):
    return struct.pack(f">{len(values)}Q", *values)


def everything_points_everywhere(count):
    """A file of tables that all name each other."""
    data = bytearray(count * 512)
    for index in range(count):
        targets = [(index * 7 + other * 11) % count * 512 for other in range(20)]
        targets = [target for target in dict.fromkeys(targets) if target]
        data[index * 512 : index * 512 + len(targets) * 8] = words(*targets)
    return bytes(data)


@pytest.mark.unsanitized("traces the program")
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_read_that_fails_makes_it_incomplete(tmp_path):
    """Whichever read of the file it is: what was there may be a layout."""
    image, *_ = filled(12)
    path = image.write(tmp_path / "image")
    command = [COMMAND, "residue", "--rebuild", "--json", path]
    reads = ["-e", "trace=pread64", "-P", path]
    run("strace", "-o", tmp_path / "log", *reads, *command)
    count = len((tmp_path / "log").read_text().splitlines()) - 1
    for number in range(1, count + 1, 1 + count // 25):
        fail = f"inject=pread64:error=EIO:when={number}"
        traced = ["strace", "-o", "/dev/null", *reads, "-e", fail, *command]
        done = run(*traced, check=False)
        assert done.returncode == 1 or not json.loads(done.stdout)["complete"], (number, count)


HOSTILE = {
    "tables of tables": lambda: everything_points_everywhere(30000),
    "one table, over and over": lambda: words(*(512 * n for n in range(1, 65))) * 40000,
    "zero flags": lambda: words(1) * 2000000,
    "compressed entries": lambda: words(*((1 << 62) + 5000 + n for n in range(64))) * 30000,
    "L1 tables in a row": lambda: words(1 << 20, *([0] * 63)) * 3000 + bytes(1 << 20),
    "snapshot entries": lambda: (
        struct.pack(">QIHHIIQII", 4096, 1, 1, 1, 0, 0, 0, 0, 16) + words(0, 4096) + b"1n"
    ).ljust(512, b"\0")
    * 30000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile(kind, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(HOSTILE[kind]())
    limit = [] if SANITIZERS else ["sh", "-c", 'ulimit -v 400000; exec "$@"', "sh"]
    done = subprocess.run(
        [*limit, COMMAND, "residue", "--rebuild", "--json", path],
        capture_output=True,
        check=False,
        timeout=100,
        env={"PATH": "/usr/bin:/bin", **sanitized()},
    )
    assert done.returncode in (0, 1, 6), done
    assert len(json.loads(done.stdout)["layouts"]) <= 1000
