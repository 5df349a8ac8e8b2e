# SPDX-License-Identifier: MIT
"""Ctrl-C, at several moments of each command that can take long."""
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from lib import mounted
from lib.builder import Image, squeezable
from lib.project import COMMAND, SANITIZERS, run

pytestmark = pytest.mark.skipif(SANITIZERS != "", reason="they slow down what is to be timed")

SAID = "tsk-qcow2: interrupted: the output is not complete\n"
MOMENTS = 6
CLUSTER, SQUEEZED = 1 << 21, 24
MIB = 1 << 20


@pytest.fixture(scope="module")
def images(raw_disk, tmp_path_factory):
    """By name: `stored` takes long to read, and `files` long to list."""
    folder = tmp_path_factory.mktemp("images")
    image = Image(SQUEEZED * CLUSTER, cluster_bits=21)
    for cluster in range(SQUEEZED):
        image.disk.compressed(cluster, squeezable(cluster, CLUSTER))
    image.snapshot(b"1", b"before")
    residue = b"".join(squeezable(number, MIB) for number in range(64))
    image.write(folder / "stored.qcow2", bytes(image.build()) + residue)
    raw = raw_disk("mbr").path
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, folder / "files.qcow2")
    run("qemu-img", "snapshot", "-c", "before", folder / "files.qcow2")
    run("qemu-io", "-c", f"write -P 7 {33 * MIB} {MIB}", folder / "files.qcow2")
    return folder


COMMANDS = {
    "verify": ("verify", "stored.qcow2"),
    "verify-json": ("verify", "--json", "stored.qcow2"),
    "check": ("check", "--decode", "stored.qcow2"),
    "residue": ("residue", "stored.qcow2"),
    "residue-streams": ("residue", "--json", "--streams", "streams", "stored.qcow2"),
    "diff": ("diff", "--json", "files.qcow2@before", "files.qcow2"),
    "ranges": ("diff", "--ranges", "--json", "stored.qcow2", "files.qcow2"),
    "timeline": ("timeline", "files.qcow2"),
    "report": ("report", "--json", "--date", "2026-11-26", "stored.qcow2"),
}


def start(words, folder):
    return subprocess.Popen(
        [COMMAND, *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=mounted.environment(),
        preexec_fn=mounted.heed_signals,
    )


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_ends_a_command_by_the_signal(name, images, tmp_path):
    """It ends at once, says so once, and what it printed cannot be mistaken for the whole."""
    for image in images.glob("*.qcow2"):
        (tmp_path / image.name).symlink_to(image)
    words = COMMANDS[name]
    began = time.monotonic()
    complete = start(words, tmp_path).communicate()[0]
    seconds = time.monotonic() - began
    assert len(complete) > 100
    interrupted = 0
    for moment in range(MOMENTS):
        for file in tmp_path.glob("streams/*"):
            file.unlink()
        process = start(words, tmp_path)
        time.sleep(seconds * (moment + 1) / (MOMENTS + 1))
        process.send_signal(signal.SIGINT)
        output, complaint = process.communicate(timeout=20)
        if process.returncode != -signal.SIGINT or (complaint == b"" and output != b""):
            assert output == complete, "it had ended already"
            continue
        # Before its first step, or between two programs, nothing can be said, nor was printed.
        assert complaint.decode() == SAID or (complaint, output) == (b"", b"")
        interrupted += complaint.decode() == SAID
        assert output != complete and not ("--json" in words and is_json(output))
        sizes = {file.stat().st_size for file in tmp_path.glob("streams/*.cluster")}
        assert sizes <= {CLUSTER}
    assert interrupted > 0


def test_a_bar_on_the_terminal_is_removed(tmp_path):
    """What is drawn there makes room for the sentence. To hash so many zeros takes a while."""
    run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "large.qcow2", "64G")
    terminal, other = os.openpty()
    process = subprocess.Popen(
        [COMMAND, "verify", tmp_path / "large.qcow2"],
        stdout=subprocess.DEVNULL,
        stderr=other,
        env=mounted.environment(),
        preexec_fn=mounted.heed_signals,
    )
    os.close(other)
    drawn = b""
    while b"[" not in drawn:
        drawn += os.read(terminal, 4096)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == -signal.SIGTERM
    drawn += os.read(terminal, 4096)
    os.close(terminal)
    assert drawn.endswith(b"\r\x1b[K" + SAID.replace("\n", "\r\n").encode())


def test_an_ignored_signal_stays_ignored(images):
    """As nohup wants it."""

    def ignore():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    process = subprocess.Popen(
        [COMMAND, "check", "--decode", images / "stored.qcow2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=ignore,
        env=mounted.environment(),
    )
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and "libzstd" not in maps.read_text():
        time.sleep(0.001)
    process.send_signal(signal.SIGHUP)
    complaint = process.communicate(timeout=60)[1]
    assert process.returncode >= 0 and complaint == b""
