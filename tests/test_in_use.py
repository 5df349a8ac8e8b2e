# SPDX-License-Identifier: MIT
"""Files that another process has open for writing, with QEMU as that process, and files that change
while they are read."""
import fcntl
import json
import os
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from lib import tools
from lib.builder import Image, pattern
from lib.core import Image as Opened
from lib.core import Named
from lib.images import small_image
from lib.project import COMMAND, run, run_line, sanitized

pytestmark = pytest.mark.usefixtures("core")
IN_USE = "another process has the file open for writing"
CHANGED = "changed while it was open here"


def image(path):
    run_line("qemu-img create -q -f qcow2", path, "1M")
    run("qemu-io", "-c", "write -q -P 7 0 64k", str(path))
    return path


@contextmanager
def held_by(*command):
    """A process that has opened its files when it has printed something; it ends at the end of its
    input."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdin.write(b"length\n")
        process.stdin.flush()
        assert process.stdout.read(1)
        yield process
        process.stdin.close()


def locks():
    return Path("/proc/locks").read_text()


# ---- In use ----------------------------------------------------------------------


def test_image_that_qemu_has_open_for_writing(tmp_path):
    path = image(tmp_path / "disk.qcow2")
    with held_by("qemu-io", str(path)):
        before = locks()
        with Opened(path) as opened:
            (warning,) = opened.warnings
            assert IN_USE in warning and "disk.qcow2" in warning
            assert opened.view().read(0, 4096) == b"\x07" * 4096
            own = [line for line in locks().splitlines() if f" {os.getpid()} " in line]
            assert own == [] and len(locks().splitlines()) == len(before.splitlines())
        result = tools.run("img_stat", "-i", "qcow2", str(path))
        assert result.returncode == 0 and f"tsk-qcow2: warning: {IN_USE}" in result.complaint
        info = run(COMMAND, "info", path, env={**tools.CLEAN, **sanitized()})
        assert f"Warning: {IN_USE}" in info.stdout
        # QEMU can go on, and take its locks again.
        run("qemu-io", "-U", "-r", "-c", "read -q -P 7 0 64k", str(path))
    with Opened(path) as opened:
        assert opened.warnings == []
    run("qemu-io", "-c", "write -q -P 8 0 64k", str(path))


def test_image_that_qemu_has_open_for_reading(tmp_path):
    path = image(tmp_path / "disk.qcow2")
    with held_by("qemu-io", "-r", str(path)), Opened(path) as opened:
        assert opened.warnings == []


def test_files_of_a_chain_that_qemu_has_open(tmp_path):
    """A machine writes to its topmost image only. The data file of an image is one of its files."""
    base = image(tmp_path / "base.qcow2")
    run_line(f"qemu-img create -q -f qcow2 -F qcow2 -b {base.name}", tmp_path / "top.qcow2")
    with held_by("qemu-io", str(tmp_path / "top.qcow2")):
        with Opened(tmp_path / "top.qcow2") as opened:
            assert ["top.qcow2" in warning for warning in opened.warnings] == [True]
        with Opened(base) as opened:
            assert opened.warnings == []
    with held_by("qemu-io", str(base)), Opened(tmp_path / "top.qcow2") as opened:
        assert ["base.qcow2" in warning for warning in opened.warnings] == [True]
    run_line(
        "qemu-img create -q -f qcow2 -o data_file=disk.data",
        "external.qcow2",
        "1M",
        cwd=tmp_path,
    )
    with held_by("qemu-io", "-f", "raw", str(tmp_path / "disk.data")):
        with Opened(tmp_path / "external.qcow2") as opened:
            assert ["disk.data" in warning for warning in opened.warnings] == [True]


@pytest.mark.parametrize("byte, is_writer", ((100, False), (101, True), (103, True), (201, False)))
def test_locks_of_a_process(byte, is_writer, tmp_path):
    """POSIX locks, which QEMU takes where there are no others. Those of reading, and of what it
    does not share, are not about writing."""
    path = image(tmp_path / "disk.qcow2")
    script = (
        "import fcntl, sys; file = open(sys.argv[1], 'rb'); "
        "fcntl.lockf(file, fcntl.LOCK_SH, 1, int(sys.argv[2])); print(1, flush=True); "
        "sys.stdin.read()"
    )
    with held_by(sys.executable, "-c", script, str(path), str(byte)), Opened(path) as opened:
        assert [IN_USE in warning for warning in opened.warnings] == [True] * is_writer


def test_a_lock_of_our_own_process(tmp_path):
    """A lock of another open file of this process counts: that file may be written through."""
    path = image(tmp_path / "disk.qcow2")
    with open(path, "rb") as file:
        lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 101, 1, 0)
        fcntl.fcntl(file, 37, lock)  # F_OFD_SETLK
        with Opened(path) as opened:
            assert len(opened.warnings) == 1


# ---- Changed ---------------------------------------------------------------------


def later(path):
    """The file system's clock has coarse steps."""
    time.sleep(0.02)
    return path


CHANGES = {
    "written": (lambda path: run("qemu-io", "-c", "write -q -P 9 0 512", str(path)), "written at"),
    "longer": (lambda path: os.truncate(path, path.stat().st_size + 1), "bytes, and now has"),
    "shorter": (lambda path: os.truncate(path, path.stat().st_size - 512), "bytes, and now has"),
    "touched": (lambda path: os.utime(path, ns=(1, 10**18)), "written at 2001-09-09 01:46:40"),
    "other mode": (lambda path: os.chmod(path, 0o600), "attributes"),
}


@pytest.mark.parametrize("how", CHANGES)
def test_file_that_changed_while_it_was_open(how, tmp_path):
    change, word = CHANGES[how]
    path = image(tmp_path / "disk.qcow2")
    with Opened(path) as opened:
        opened.view().read(0, 4096)
        assert opened.changed() is None
        change(later(path))
        sentence = opened.changed()
        assert CHANGED in sentence and word in sentence and "disk.qcow2" in sentence
        assert opened.changed(1) is None


def test_reading_is_no_change(tmp_path):
    """Nor is a change of another file."""
    path = image(tmp_path / "disk.qcow2")
    other = image(tmp_path / "other.qcow2")
    with Opened(path) as opened:
        path.read_bytes()
        run("qemu-io", "-r", "-c", "read -q 0 64k", str(path))
        os.utime(later(other))
        assert opened.changed() is None


def test_base_and_data_file_that_changed(tmp_path):
    (tmp_path / "base.raw").write_bytes(pattern(1, 8192))
    made = Image(
        size=8192,
        cluster_bits=12,
        data_file=b"disk.data",
        backing=b"base.raw",
        backing_format=b"raw",
    )
    made.disk.normal(0, pattern(2, 4096))
    path = made.write(tmp_path / "top.qcow2")
    with Opened(path) as opened:
        os.utime(later(tmp_path / "disk.data"))
        assert "disk.data" in opened.changed() and opened.changed(1) is None
    with Opened(path) as opened:
        os.utime(later(tmp_path / "base.raw"))
        assert opened.changed() is None and "base.raw" in opened.changed(1)


def test_programs_warn_at_the_end(tmp_path):
    """The tools with the drop-in, and callers of the library of names."""
    path = small_image().write(tmp_path / "disk.qcow2")
    with Named(path) as named:
        named.read(0, 4096)
        os.utime(later(path))
    assert [CHANGED in sentence for sentence in named.told] == [True]
    with Named(path) as named:
        named.read(0, 4096)
    assert named.told == []


def test_a_tool_warns_at_its_end(tmp_path):
    """img_cat writes into a pipe that nobody empties before the file changes."""
    made = Image(size=4 << 20, cluster_bits=16)
    for cluster in range(64):
        made.disk.normal(cluster, pattern(cluster, 65536))
    path = made.write(tmp_path / "disk.qcow2")
    out, into = os.pipe()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(tools.run, "img_cat", "-i", "qcow2", path, stdout=into)
        content = os.read(out, 1)
        os.utime(later(path))
        while len(content) < 4 << 20:
            content += os.read(out, 1 << 20)
        result = running.result()
    os.close(out)
    os.close(into)
    assert result.returncode == 0 and content == made.disk.model.read(0, 4 << 20)
    assert f'tsk-qcow2: warning: the file "{path}" {CHANGED}' in result.complaint


def verify(path, *options, change=None):
    """The exit status, and what verify printed. The file changes after it was opened: when a tenth
    of a second of processor time was spent since then."""
    with subprocess.Popen(
        [COMMAND, "verify", *options, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**tools.CLEAN, **sanitized()},
    ) as process:
        while change and str(path) not in open_files(process):
            assert process.poll() is None, "verify ended before the file could be changed"
        if change:
            opened = processor_seconds(process)
            while processor_seconds(process) < opened + 0.1:
                time.sleep(0.01)
            change(path)
        out, complaint = process.communicate(timeout=120)
    return process.returncode, out.decode(), complaint.decode()


def processor_seconds(process):
    return time.clock_gettime(~process.pid << 3 | 2)  # as clock_getcpuclockid() has it


def open_files(process):
    found = []
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            found.append(os.readlink(link))
        except FileNotFoundError:
            pass
    return found


def test_verify_of_a_file_that_changes(tmp_path):
    """It has a result of its own, and an exit status. The disk is large, so that reading it takes
    longer than changing the file."""
    path = tmp_path / "disk.qcow2"
    run_line("qemu-img create -q -f qcow2", path, "2G")
    assert verify(path, "--no-hash")[0] == 0
    status, out, complaint = verify(path, change=os.utime)
    assert status == 7 and "\nChanged: 1 file changed while it was read" in out
    assert f'warning: the file "{path}" {CHANGED}' in complaint
    status, out, complaint = verify(path, "--json", change=os.utime)
    report = json.loads(out)
    assert (status, report["result"]) == (7, "changed")
    assert [CHANGED in sentence for sentence in report["changes"]] == [True]
    assert report["states"][0]["sha256"]
