# SPDX-License-Identifier: MIT
"""Saved memory of snapshots: a real machine's, saved by QEMU, read as IMAGE@SNAPSHOT,vmstate."""
import os
import shutil
import subprocess
import time

import pytest
from lib import tools
from lib.project import run, run_line

QEMU = shutil.which("qemu-system-x86_64")
MACHINE = [
    "-accel",
    "tcg",
    "-m",
    "32",
    "-display",
    "none",
    "-nodefaults",
    "-vga",
    "none",
    "-net",
    "none",
    "-monitor",
    "stdio",
]


def machine(image, command, *more, until=""):
    """Run a machine without an operating system for a moment. The monitor command is given until
    the monitor has answered so. Returns all that it said."""
    process = subprocess.Popen(
        [QEMU, *MACHINE, "-drive", f"file={image},format=qcow2,if=virtio", *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said, end = "", time.monotonic() + 60
    try:
        time.sleep(0.5)
        while not said or until not in said:
            assert time.monotonic() < end, said
            process.stdin.write(command + "\n")
            process.stdin.flush()
            time.sleep(0.05)
            said += os.read(process.stdout.fileno(), 65536).decode()
        return said + process.communicate("quit\n", timeout=60)[0]
    finally:
        process.kill()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A machine's disk with two snapshots: `live` with its memory, `disk-only` without."""
    if QEMU is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    image = tmp_path_factory.mktemp("machine") / "disk.qcow2"
    run_line("qemu-img create -q -f qcow2", image, "16M")
    run("qemu-io", "-c", "write -P 0x5a 0 1M", image)
    run_line("qemu-img snapshot -c disk-only", image)
    said = machine(image, "savevm live")
    assert "Error" not in said, said
    return image


@pytest.fixture(scope="module")
def state(saved, tmp_path_factory):
    """The saved memory, as img_cat writes it."""
    path = tmp_path_factory.mktemp("state") / "state.bin"
    with open(path, "wb") as out:
        assert (
            tools.run("img_cat", "-i", "qcow2", f"{saved}@live,vmstate", stdout=out).returncode == 0
        )
    return path


def test_stream_is_exactly_as_long_as_recorded(core, saved, state):
    with core.Image(saved) as image:
        recorded = {snapshot.name: snapshot.vm_state_size for snapshot in image.snapshots}
    assert recorded[b"disk-only"] == 0 and recorded[b"live"] > 100_000
    assert os.path.getsize(state) == recorded[b"live"]


def test_stream_starts_as_qemu_writes_it(state):
    assert state.read_bytes()[:4] == b"QEVM"


def test_qemu_resumes_a_machine_from_the_stream(saved, state, tmp_path):
    copy = tmp_path / "disk.qcow2"
    shutil.copy(saved, copy)
    machine(copy, "info status", "-incoming", f"exec:cat {state}", until="VM status: running")


def test_the_disk_ends_where_it_ends(core, saved):
    with core.Image(saved) as image, image.view(image.find(b"live", core.BY_NAME)) as view:
        assert view.size == 16 << 20
        with pytest.raises(core.QcowError):
            view.read(16 << 20, 1)


def test_a_snapshot_without_memory_says_so(saved):
    tools.assert_refused(
        tools.run("img_cat", "-i", "qcow2", f"{saved}@disk-only,vmstate"), "has no VM state"
    )


def test_memory_of_an_overlay_does_not_come_from_its_base(core, saved, tmp_path):
    """What the VM state leaves unallocated is zeros, though a backing file has bytes at those guest
    offsets."""
    base, overlay = tmp_path / "base.raw", tmp_path / "overlay.qcow2"
    base.write_bytes(bytes(1 << 20) + b"\xbb" * (63 << 20))
    run_line("qemu-img create -q -f qcow2 -b base.raw -F raw -o cluster_size=4k", overlay, "16M")
    said = machine(overlay, "savevm live")
    assert "Error" not in said, said
    with open(
        overlay, "r+b"
    ) as file:  # let the state claim more than was written: up to the end of its L2 table
        file.seek(64)
        file.seek(int.from_bytes(file.read(8), "big") + 40)
        written = int.from_bytes(file.read(8), "big")
        file.seek(-8, os.SEEK_CUR)
        file.write((2 << 20).to_bytes(8, "big"))
    with core.Image(overlay) as image, image.vm_state(0) as view:
        data = view.read(0, view.size)
    end = (written + 4095) // 4096 * 4096
    assert written < end < len(data) == 2 << 20
    assert data[:4] == b"QEVM" and data[end:] == bytes(len(data) - end)
