# SPDX-License-Identifier: MIT
"""tsk-qcow2 mount: every state of an image as a raw file, through the kernel."""
import concurrent.futures
import errno
import json
import os
import random
import re
import shutil
import signal
import socket
import stat
import struct
import time
from pathlib import Path

import pytest
from lib import agreement, encrypted, mounted, tools, version_1
from lib.builder import Image, pattern, squeezable
from lib.history import History
from lib.mounted import Mount, in_background
from lib.project import BUILD, COMMAND, can_change_user, run

pytestmark = mounted.needed
C, PAGE, SECTOR, MIB = 4096, 4096, 512, 1 << 20


def fill(disk, seed, clusters):
    for cluster in range(clusters):
        disk.normal(cluster, pattern(f"{seed} {cluster}", disk.image.cluster_size))


@pytest.fixture
def states(tmp_path):
    """An image with three snapshots, two of the same name, one with saved memory."""
    image = Image(8 * C + 700, cluster_bits=12)
    fill(image.disk, "first", 8)
    image.snapshot(b"1", b"before/update", seconds=1_000_000_000, nanoseconds=5)
    fill(image.disk, "second", 4)
    running = image.disk.copy()
    running.l1_entries = 2
    running.normal(C // 8, pattern("memory", C))
    image.snapshot(b"2", b"before update", disk=running, seconds=1_100_000_000, vm_state_size=1000)
    fill(image.disk, "third", 2)
    image.snapshot(b"3", b"-.hidden")
    fill(image.disk, "active", 1)
    image.write(tmp_path / "disk.qcow2")
    return tmp_path / "disk.qcow2"


def view(name):
    """What img_cat gives."""
    done = tools.run("img_cat", "-i", "qcow2", name, environment=mounted.environment())
    assert done.returncode == 0, done.complaint
    return done.stdout


# ---- The tree --------------------------------------------------------------------

FILES = {
    "active.raw": "",
    "residue.raw": ",residue",
    "snapshots/before_update.raw": "@1",
    "snapshots/before_update-2.raw": "@2",
    "snapshots/_.hidden.raw": "@3",
    "vmstate/before_update-2.qevm": "@2,vmstate",
}


def test_every_state_is_a_file(states, tmp_path):
    names = dict(FILES)
    names["vmstate/before_update.qevm"] = names.pop("vmstate/before_update-2.qevm")
    with Mount(states, tmp_path / "m") as mount:
        assert mount.files() == sorted([*names, "info.json"])
        for file, rest in names.items():
            assert mount.path(file).read_bytes() == view(f"{states}{rest}"), file
        assert mount.path("info.json").read_text() == run(COMMAND, "info", "--json", states).stdout
        assert mount.path("snapshots/before_update.raw").stat().st_mtime_ns == 10**18 + 5
        assert mount.path("vmstate/before_update.qevm").stat().st_mtime == 1_100_000_000
        assert mount.path("active.raw").stat().st_mtime_ns == states.stat().st_mtime_ns
    assert (mount.status, mount.complaint) == (0, "")


def test_files_are_called_as_selectors_are(states, tmp_path):
    (tmp_path / "s").mkdir()
    run(COMMAND, "selector", "--all", "--directory", tmp_path / "s", states)
    selectors = {
        re.sub(r"^disk-", "", path.stem): view(path)
        for path in (tmp_path / "s").iterdir()
        if path.stem != "disk-active"
    }
    selectors["_.hidden"] = selectors.pop("-.hidden")  # what stands first must be no option
    with Mount(states, tmp_path / "m") as mount:
        found = {path.stem: path.read_bytes() for path in mount.path("snapshots").iterdir()}
    assert found == selectors and len(found) == 3


def test_nothing_can_be_changed(states, tmp_path):
    before = states.read_bytes()
    with Mount(states, tmp_path / "m") as mount:
        for path in [mount.directory, *mount.directory.rglob("*")]:
            mode = path.stat().st_mode
            assert stat.S_IMODE(mode) == (0o555 if stat.S_ISDIR(mode) else 0o444)
        file, folder = mount.path("active.raw"), mount.path("snapshots")
        for change in (
            lambda: open(file, "r+b"),
            lambda: open(file, "ab"),
            lambda: os.truncate(file, 0),
            lambda: open(folder / "new", "wb"),
            lambda: file.unlink(),
            lambda: file.rename(folder / "moved"),
            lambda: folder.rmdir(),
            lambda: (folder / "new").mkdir(),
            lambda: (folder / "new").symlink_to("x"),
            lambda: os.link(file, folder / "new"),
            lambda: file.chmod(0o666),
            lambda: os.utime(file, (0, 0)),
        ):
            with pytest.raises(OSError) as raised:
                change()
            assert raised.value.errno == errno.EROFS
        space = os.statvfs(mount.directory)
        assert (space.f_bfree, space.f_bavail, space.f_ffree) == (0, 0, 0)
        assert space.f_blocks * space.f_frsize > 4 * 8 * C and space.f_namemax == 255
        assert not os.access(file, os.W_OK) and not mount.path("no such").exists()
    assert states.read_bytes() == before


@pytest.mark.parametrize(
    "rest, file",
    [
        ("@2", "snapshots/before_update.raw"),
        ("@name=-.hidden", "snapshots/_.hidden.raw"),
        ("@2,vmstate", "vmstate/before_update.qevm"),
    ],
)
def test_a_name_that_chooses_a_state_shows_it_alone(states, tmp_path, rest, file):
    name = f"{states}{rest}"
    with Mount(name, tmp_path / "m") as mount:
        assert mount.files() == sorted([file, "info.json"])
        assert mount.path(file).read_bytes() == view(name)
        assert mount.path("info.json").read_text() == run(COMMAND, "info", "--json", name).stdout


def test_a_selector_is_mounted(states, tmp_path):
    (tmp_path / "s").mkdir()
    run(COMMAND, "selector", "--directory", tmp_path / "s", f"{states}@1")
    (selector,) = (tmp_path / "s").iterdir()
    with Mount(selector, tmp_path / "m") as mount:
        assert mount.files() == ["info.json", "snapshots/before_update.raw"]
        assert mount.path("snapshots/before_update.raw").read_bytes() == view(f"{states}@1")


def test_options_of_the_name_count(tmp_path):
    encrypted.create(tmp_path / "locked.qcow2", "1M", secret=b"correct horse")
    (tmp_path / "key").write_bytes(b"correct horse")
    with Mount(tmp_path / "locked.qcow2", tmp_path / "m") as mount:
        assert not mount.is_mounted
    assert mount.status == 1 and "key-file=" in mount.complaint
    with Mount(f"{tmp_path}/locked.qcow2,key-file={tmp_path}/key", tmp_path / "m") as mount:
        assert mount.path("active.raw").read_bytes() == bytes(MIB)


def test_very_many_snapshots_of_one_name(tmp_path):
    image = Image(MIB, cluster_bits=16)
    for number in range(5000):
        image.snapshot(b"%d" % number, b"same", disk=image.disk)
    image.write(tmp_path / "disk.qcow2")
    with Mount(tmp_path / "disk.qcow2", tmp_path / "m") as mount:
        listed = set(os.listdir(mount.path("snapshots")))
        assert listed == {"same.raw", *(f"same-{number}.raw" for number in range(2, 5001))}
        assert mount.path("snapshots/same-5000.raw").stat().st_size == MIB


# ---- Residue -----------------------------------------------------------------------


def test_residue_is_beside_the_states(tmp_path):
    """It is what the name with ",residue" gives; nothing is looked for until it is read."""
    image = Image(MIB, cluster_bits=12)
    fill(image.disk, "disk", 4)
    image.junk(pattern("left", 3 * C))
    data = image.build()
    path = image.write(tmp_path / "disk.qcow2", data)
    with Mount(path, tmp_path / "m") as mount:
        assert mount.path("residue.raw").stat().st_size == len(data)
        content = mount.path("residue.raw").read_bytes()
        assert mount.path("residue.raw").read_bytes() == content
    assert content == view(f"{path},residue") and pattern("left", 3 * C) in content
    assert (mount.status, mount.complaint) == (0, "")
    old = tmp_path / "old.qcow"
    version_1.make(old, MIB)
    for name in (f"{path},under-zeros", old):  # there is no such name with ",residue"
        with Mount(name, tmp_path / "m") as mount:
            assert "residue.raw" not in mount.files() and mount.path("active.raw").exists()
        assert mount.status == 0


def test_residue_that_cannot_be_read(tmp_path):
    """The file is cut after it was mounted; one of its L2 tables was there."""
    image = Image(4 * MIB, cluster_bits=12)
    fill(image.disk, "disk", 4)
    image.disk.force_l1(1, 1 << 63 | (len(image.build()) + 63 * C))
    data = image.build() + pattern("left", 64 * C)
    path = image.write(tmp_path / "disk.qcow2", data)
    with Mount(path, tmp_path / "m") as mount:
        os.truncate(path, len(data) - 32 * C)
        assert mount.path("residue.raw").stat().st_size == len(data)
        descriptor = os.open(mount.path("residue.raw"), os.O_RDONLY | os.O_DIRECT)
        start = len(data) - 64 * C
        assert os.pread(descriptor, 32 * C, start) == pattern("left", 64 * C)[: 32 * C]
        with pytest.raises(OSError) as raised:
            os.pread(descriptor, C, len(data) - C)
        assert raised.value.errno == errno.EIO
        os.close(descriptor)
    assert mount.complaint.count("warning: residue.raw: residue: some tables") == 1
    assert "error: residue.raw: " in mount.complaint and mount.status == 4


# ---- The layers of a chain ---------------------------------------------------------


def test_layers_of_a_chain(tmp_path):
    """Each backing file as the disk it gives, and what each file stores itself; QEMU is the oracle
    of the first, a chain that ends there of the second."""
    (tmp_path / "base.raw").write_bytes(pattern("base", 6 * C))
    run("qemu-img", "create", "-qf", "qcow2", "-b", "base.raw", "-F", "raw", tmp_path / "mid.qcow2")
    run("qemu-io", "-c", "write -P 1 0 4096", "-c", "write -z 4096 4096", tmp_path / "mid.qcow2")
    run("qemu-img", "snapshot", "-c", "within", tmp_path / "mid.qcow2")
    words = ["-qf", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", tmp_path / "top.img", "40960"]
    run("qemu-img", "create", *words)
    run("qemu-io", "-c", "write -P 2 8192 4096", tmp_path / "top.img")
    expected = {
        "active.raw": view(tmp_path / "top.img"),
        "layers/0-top-alone.raw": view(f"{tmp_path}/top.img,backing=none"),
        "layers/1-mid.raw": view(tmp_path / "mid.qcow2"),
        "layers/1-mid-alone.raw": view(f"{tmp_path}/mid.qcow2,backing=none"),
        "layers/2-base.raw": (tmp_path / "base.raw").read_bytes(),
    }
    assert expected["layers/1-mid.raw"] == b"\1" * C + bytes(C) + pattern("base", 6 * C)[2 * C :]
    with Mount(tmp_path / "top.img", tmp_path / "m") as mount:
        assert mount.files() == sorted([*expected, "info.json", "residue.raw"])
        for file, content in expected.items():
            assert mount.path(file).read_bytes() == content, file
        of_command = run(COMMAND, "info", "--json", tmp_path / "top.img").stdout
        assert mount.path("info.json").read_text() == of_command
        mid = mount.path("layers/1-mid.raw").stat()
        assert mid.st_mtime_ns == (tmp_path / "mid.qcow2").stat().st_mtime_ns
    for file, path in (("active.raw", "top.img"), ("layers/1-mid.raw", "mid.qcow2")):
        run("qemu-img", "convert", "-O", "raw", tmp_path / path, tmp_path / "oracle")
        assert (tmp_path / "oracle").read_bytes() == expected[file]


# ---- The oracle --------------------------------------------------------------------


@pytest.mark.parametrize("seed", [6, 38, 74, 113, 139])
def test_every_state_equals_the_oracle(seed, core, tmp_path):
    """Random histories of images, their disks and snapshots as QEMU reads them."""
    (tmp_path / "history").mkdir()
    history = History(seed, tmp_path / "history")
    history.run(lambda *_: None)
    with agreement.oracles(history) as expected:
        if any(one.damage for one in expected):
            pytest.skip("QEMU damaged this image")
        with Mount(history.top.path, tmp_path / "m") as mount:
            snapshots = json.loads(mount.path("info.json").read_text())["snapshots"]
            files = sorted(
                mount.path("snapshots").glob("*.raw") if snapshots else [],
                key=lambda path: path.stat().st_ino,
            )
            assert len(files) == len(snapshots)
            by_id = {int(one["id"]): file for one, file in zip(snapshots, files)}
            for one in expected:
                path = by_id[one.snapshot] if one.snapshot else mount.path("active.raw")
                assert path.stat().st_size == one.size
                assert path.read_bytes() == one.raw.read_bytes()[: one.size]


def test_many_readers_at_once(tmp_path):
    """More states than stay open when nobody reads, compressed, from several threads and through
    the page cache and past it."""
    image = Image(64 * C, cluster_bits=12)
    contents = []
    for number in range(48):
        for cluster in range(64):
            image.disk.compressed(cluster, squeezable(f"{number} {cluster}", C))
        contents.append(b"".join(squeezable(f"{number} {cluster}", C) for cluster in range(64)))
        image.snapshot(b"%d" % (number + 1), b"s%d" % number)
    image.write(tmp_path / "disk.qcow2")

    def read_some(worker):
        rng = random.Random(worker)
        for _ in range(60):
            number = rng.randrange(48)
            at = rng.randrange(63) * C + (rng.randrange(C) if worker % 2 else 0)
            length = rng.choice([SECTOR, C, 10 * C, 64 * C])
            flags = os.O_RDONLY | (0 if worker % 2 else os.O_DIRECT)
            descriptor = os.open(mount.path(f"snapshots/s{number}.raw"), flags)
            try:
                got = os.pread(descriptor, length, at)
            finally:
                os.close(descriptor)
            assert got == contents[number][at : at + length], (number, at, length)

    with Mount(tmp_path / "disk.qcow2", tmp_path / "m") as mount:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(read_some, range(16)))
    assert (mount.status, mount.complaint) == (0, "")


def test_a_state_in_use_stays_open(tmp_path):
    """Though others are opened, and one of its two users has closed it."""
    image = Image(8 * C, cluster_bits=12)
    fill(image.disk, "kept", 8)
    for number in range(80):
        image.snapshot(b"%d" % (number + 1), b"s%d" % number)
    image.write(tmp_path / "disk.qcow2")
    with Mount(tmp_path / "disk.qcow2", tmp_path / "m") as mount:
        path = mount.path("snapshots/s0.raw")
        first, second = (os.open(path, os.O_RDONLY | os.O_DIRECT) for _ in range(2))
        os.close(second)
        for number in range(1, 80):
            mount.path(f"snapshots/s{number}.raw").read_bytes()
        assert os.pread(first, C, 3 * C) == pattern("kept 3", C)
        os.close(first)
        assert path.read_bytes() == b"".join(pattern(f"kept {each}", C) for each in range(8))
    assert (mount.status, mount.complaint) == (0, "")


def resident_kib(process):
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


@pytest.mark.unsanitized("sanitizers keep what is freed for a while")
def test_memory_does_not_grow_with_reads(tmp_path):
    """Files are opened, read in all ways and closed again and again. The caches fill once."""
    image = Image(16 * MIB, cluster_bits=16)
    for cluster in range(256):
        image.disk.compressed(cluster, squeezable(cluster, 65536))
    for number in range(40):
        image.snapshot(b"%d" % (number + 1), b"s%d" % number)
    image.write(tmp_path / "disk.qcow2")

    def read(times):
        rng = random.Random(times)
        for number in range(times):
            path = mount.path(f"snapshots/s{number % 40}.raw")
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
            for _ in range(20):
                os.pread(descriptor, rng.choice([SECTOR, 65536, MIB]), rng.randrange(15 * MIB))
            os.close(descriptor)
            os.listdir(mount.directory)

    with Mount(tmp_path / "disk.qcow2", tmp_path / "m") as mount:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(read, [500] * 4))
            before = resident_kib(mount.process.pid)
            list(pool.map(read, [300] * 4))
            after = resident_kib(mount.process.pid)
    assert after < before + 20 * 1024, f"{before} KiB became {after} KiB"
    assert after < 160 * 1024


# ---- Damage ------------------------------------------------------------------------

BAD = (100, 101, 900, 1111)  # sectors
SIZE = MIB + 700


@pytest.fixture
def damaged(tmp_path):
    """(path, content with zeros for the sectors of BAD, which lie past the end of the file)."""
    image = Image(SIZE, cluster_bits=9)
    fill(image.disk, "good", SIZE // SECTOR + 1)
    image.snapshot(b"1", b"first")
    data = bytearray(image.build())
    content = bytearray(
        b"".join(pattern(f"good {number}", SECTOR) for number in range(SIZE // SECTOR + 1))[:SIZE]
    )
    for sector in BAD:
        at = image.disk.entry_offset(sector)
        struct.pack_into(">Q", data, at, 1 << 63 | 1 << 40)
        content[sector * SECTOR : (sector + 1) * SECTOR] = bytes(SECTOR)
    image.write(tmp_path / "bad.qcow2", data)
    return tmp_path / "bad.qcow2", bytes(content)


def read_pieces(path, step, flags=0):
    """(content with zeros where a piece cannot be read, offsets of those pieces)."""
    descriptor = os.open(path, os.O_RDONLY | flags)
    content, bad = b"", []
    try:
        for at in range(0, SIZE, step):
            length = min(step, SIZE - at)
            try:
                piece = os.pread(descriptor, length, at)
            except OSError as error:
                assert error.errno == errno.EIO
                bad.append(at)
                piece = bytes(length)
            assert len(piece) == length
            content += piece
    finally:
        os.close(descriptor)
    return content, bad


def test_damaged_sectors_fail_alone_past_the_page_cache(damaged, tmp_path):
    path, content = damaged
    with Mount(path, tmp_path / "m") as mount:
        found = read_pieces(mount.path("active.raw"), SECTOR, os.O_DIRECT)
    assert found == (content, [sector * SECTOR for sector in BAD])
    assert mount.status == 4
    assert "3 damaged ranges (2048 bytes)" in mount.complaint


def test_damaged_pages_fail_alone_through_the_page_cache(damaged, tmp_path):
    """The kernel keeps pages, so it knows nothing finer; but no page more fails, though it reads
    ahead, and what comes before is given first."""
    path, content = damaged
    pages = sorted({sector * SECTOR // PAGE * PAGE for sector in BAD})
    expected = bytearray(content)
    for page in pages:
        expected[page : page + PAGE] = bytes(PAGE)
    with Mount(path, tmp_path / "m") as mount:
        assert read_pieces(mount.path("active.raw"), PAGE) == (bytes(expected), pages)
        with open(mount.path("active.raw"), "rb", buffering=0) as file:
            start = pages[0] - 10 * PAGE + 5
            assert file.seek(start) == start
            assert file.read(MIB) == content[start : pages[0]]
            with pytest.raises(OSError) as raised:
                file.read(1)
            assert raised.value.errno == errno.EIO
    lines = mount.complaint.splitlines()
    assert len(lines) == 4  # three ranges, once each, and how many there were
    assert all(line.startswith("tsk-qcow2: error: active.raw: ") for line in lines)
    assert mount.status == 4


@pytest.mark.parametrize("how, unit", [("direct", SECTOR), ("", PAGE)])
def test_dd_saves_all_that_is_good(damaged, tmp_path, how, unit):
    path, content = damaged
    expected = bytearray(content.ljust(-(-SIZE // SECTOR) * SECTOR, b"\0"))
    for sector in BAD:
        at = sector * SECTOR // unit * unit
        expected[at : at + unit] = bytes(unit)
    copy = tmp_path / "copy"
    with Mount(path, tmp_path / "m") as mount:
        words = [f"if={mount.path('active.raw')}", f"of={copy}", f"bs={SECTOR}"]
        words += ["conv=noerror,sync", *([f"iflag={how}"] if how else [])]
        done = run("dd", *words, check=False)
    assert "Input/output error" in done.stderr
    assert copy.read_bytes() == expected


def test_errors_zero_gives_zeros_and_reports_them(damaged, tmp_path):
    path, content = damaged
    with Mount(f"{path},errors=zero", tmp_path / "m") as mount:
        assert mount.path("active.raw").read_bytes() == content
    assert mount.status == 4
    assert "3 damaged ranges (2048 bytes)" in mount.complaint
    assert "replaced by zeros" in mount.complaint


def test_a_file_that_breaks_off_does_not_look_short(tmp_path):
    """The kernel takes a short answer for the end of a file."""
    image = Image(64 * C, cluster_bits=12, metadata_clusters=8)
    fill(image.disk, "whole", 64)
    data = image.build()
    at = data.index(pattern("whole 40", C))
    image.write(tmp_path / "cut.qcow2", data[: at + 100])
    content = b"".join(pattern(f"whole {number}", C) for number in range(64))
    with Mount(tmp_path / "cut.qcow2", tmp_path / "m") as mount:
        path = mount.path("active.raw")
        for flags in (0, os.O_DIRECT):
            descriptor = os.open(path, os.O_RDONLY | flags)
            assert os.pread(descriptor, 40 * C, 0) == content[: 40 * C]
            with pytest.raises(OSError):
                os.pread(descriptor, C, 41 * C)
            assert os.fstat(descriptor).st_size == 64 * C
            os.close(descriptor)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        assert os.pread(descriptor, 100, 40 * C) == content[40 * C : 40 * C + 100]
        os.close(descriptor)
        with pytest.raises(OSError):
            path.read_bytes()
        assert path.stat().st_size == 64 * C
    assert "truncated" in mount.complaint


def lost_table(image, data, which):
    """Let a snapshot's L1 table lie where none can."""
    offset = struct.unpack_from(">Q", data, 64)[0]
    struct.pack_into(">Q", data, offset + image.snapshot_offsets[which], 1 << 40 | 8)


def test_a_state_that_cannot_be_opened_is_named(tmp_path):
    image = Image(MIB, cluster_bits=12)
    fill(image.disk, "disk", 4)
    for number in (1, 2):
        image.snapshot(b"%d" % number, b"s%d" % number)
    data = bytearray(image.build())
    lost_table(image, data, 0)
    image.write(tmp_path / "disk.qcow2", data)
    with Mount(tmp_path / "disk.qcow2", tmp_path / "m") as mount:
        assert mount.files() == ["active.raw", "info.json", "residue.raw", "snapshots/s2.raw"]
    assert mount.status == 4
    assert "tsk-qcow2: error: snapshots/s1.raw is not there: " in mount.complaint
    assert "residue.raw" not in mount.complaint
    done = in_background(tmp_path / "disk.qcow2", tmp_path / "m", check=False)
    mounted.unmount(tmp_path / "m")
    assert done.returncode == 4 and "snapshots/s1.raw is not there" in done.stderr
    with Mount(f"{tmp_path}/disk.qcow2@1", tmp_path / "m") as mount:
        assert not mount.is_mounted
    assert mount.status == 1 and "snapshots/s1.raw is not there" in mount.complaint


# ---- Starting and ending -------------------------------------------------------------


def processes_of(directory):
    """The programs that serve a directory."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0] == b"tsk-qcow2-mount" and os.fsencode(directory) in words:
            found.append(int(process.name))
    return found


def wait_until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_in_the_background_with_relative_paths(states, tmp_path):
    """It goes on when the command has ended, reads ahead in threads, and ends when unmounted."""
    image = Image(16 * MIB, cluster_bits=16)
    for cluster in range(256):
        image.disk.compressed(cluster, squeezable(cluster, 65536))
    image.write(tmp_path / "packed.qcow2")
    (tmp_path / "m").mkdir()
    done = run(COMMAND, "mount", "packed.qcow2", "m", cwd=tmp_path, env=mounted.environment())
    try:
        assert (done.stdout, done.stderr) == ("", "")
        found = (tmp_path / "m" / "active.raw").read_bytes()
        (process,) = processes_of("m")
        assert os.readlink(f"/proc/{process}/cwd") == "/"
        assert {os.readlink(f"/proc/{process}/fd/{number}") for number in (0, 1, 2)} == {
            "/dev/null"
        }
        if len(os.sched_getaffinity(0)) > 1:  # a thread names itself when it begins to run
            comms = Path(f"/proc/{process}/task").glob
            wait_until(lambda: any("ahead" in comm.read_text() for comm in comms("*/comm")))
    finally:
        mounted.unmount(tmp_path / "m")
    assert found == b"".join(squeezable(cluster, 65536) for cluster in range(256))
    wait_until(lambda: not processes_of("m"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_unmounts(states, tmp_path, number):
    with Mount(states, tmp_path / "m") as mount:
        assert mount.path("active.raw").exists()
        mount.process.send_signal(number)
        mount.process.wait(timeout=120)
        assert not mount.is_mounted
    assert (mount.status, mount.complaint) == (0, "")


def test_the_log_of_the_system_gets_what_is_damaged(damaged, tmp_path):
    if not can_change_user() or os.path.lexists("/dev/log"):
        pytest.skip("needs root, and a machine on which nothing keeps a log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind("/dev/log")
        log.settimeout(120)
        try:
            assert in_background(damaged[0], tmp_path / "m").stderr == ""
            read_pieces(tmp_path / "m" / "active.raw", PAGE)
            said = [log.recv(4096).decode() for _ in range(3)]
            mounted.unmount(tmp_path / "m")
            said.append(log.recv(4096).decode())
        finally:
            mounted.unmount(tmp_path / "m")
            os.unlink("/dev/log")
    assert all("tsk-qcow2[" in line and "]: error: active.raw: " in line for line in said), said
    assert "3 damaged ranges (2048 bytes)" in said[-1]


@pytest.mark.parametrize("options", [(), ("--foreground",)], ids=["background", "foreground"])
def test_what_cannot_be_mounted_is_said_before_the_command_ends(states, tmp_path, options):
    def refused(status, name, directory, *words):
        done = run(
            COMMAND, "mount", *options, name, directory, check=False, env=mounted.environment()
        )
        assert done.returncode == status, done.stderr
        assert done.stdout == "" and done.stderr.startswith("tsk-qcow2: ")
        for word in words:
            assert word in done.stderr

    (tmp_path / "m").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    refused(1, tmp_path / "none.qcow2", tmp_path / "m", "none.qcow2")
    refused(1, f"{states}@nothing", tmp_path / "m", "no such snapshot")
    refused(1, f"{states}@1,vmstate", tmp_path / "m", "has no VM state")
    refused(1, states, tmp_path / "none", f"mkdir '{tmp_path}/none'")
    refused(1, states, tmp_path / "full", "not empty")
    refused(1, states, states, "Not a directory")
    assert not os.path.ismount(tmp_path / "m")


def test_the_command_line_is_checked(states, tmp_path):
    for words in (
        [],
        [states],
        [states, tmp_path, tmp_path],
        ["--nonsense", states, tmp_path],
        ["--json", states, tmp_path],
    ):
        done = run(COMMAND, "mount", *words, check=False)
        assert done.returncode == 2 and "tsk-qcow2: mount" in done.stderr


def test_a_mount_whose_program_died_is_explained(states, tmp_path):
    with Mount(states, tmp_path / "m") as mount:
        mount.process.kill()
        mount.process.wait()
        done = run(COMMAND, "mount", states, tmp_path / "m", check=False)
        assert done.returncode == 1
        assert done.stderr.endswith(f"fusermount3 -u '{tmp_path}/m'\n")
        run("fusermount3", "-u", tmp_path / "m")


def test_without_the_program_the_package_is_named(states, tmp_path):
    shutil.copy(COMMAND, tmp_path / "tsk-qcow2")
    installed = Path("/usr/local/libexec/tsk-qcow2/tsk-qcow2-mount")
    if installed.exists():
        pytest.skip("it is installed here")
    done = run(tmp_path / "tsk-qcow2", "mount", states, tmp_path, check=False)
    assert done.returncode == 1 and done.stderr.endswith("sudo apt-get install tsk-qcow2-fuse\n")


@pytest.mark.skipif(not can_change_user(), reason="needs root, and a user to become")
@pytest.mark.unsanitized("another user cannot write the sanitizers' reports")
def test_other_users_look_in_only_if_allowed(states, tmp_path):
    def seen_by_nobody():
        words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        return run(*words, "ls", tmp_path / "m", check=False).returncode == 0

    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o111)
    with Mount(states, tmp_path / "m"):
        assert not seen_by_nobody()
    with Mount(states, tmp_path / "m", "--allow-other") as mount:
        assert mount.is_mounted and seen_by_nobody()


@pytest.mark.unsanitized("about what is built without sanitizers")
def test_only_the_program_that_mounts_links_libfuse():
    needed = {
        name: run("readelf", "-d", Path(BUILD, "tsk_qcow2", name)).stdout
        for name in ("tsk-qcow2", "tsk-qcow2-mount")
    }
    assert "libfuse3" not in needed["tsk-qcow2"] and "libfuse3" in needed["tsk-qcow2-mount"]
    assert not any("libtsk" in text for text in needed.values())
