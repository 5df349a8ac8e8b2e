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
MOMENTS, TRIES = 6, 100
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


def interrupted_after(seconds, words, folder):
    """The exit status and what a command printed that gets Ctrl-C then, and after how many seconds
    that, or its end, was."""
    began = time.monotonic()
    process = start(words, folder)
    try:
        output, complaint = process.communicate(timeout=seconds)
        lasted = time.monotonic() - began
    except subprocess.TimeoutExpired:
        lasted = time.monotonic() - began
        process.send_signal(signal.SIGINT)
        output, complaint = process.communicate(timeout=120)
    return process.returncode, output, complaint, lasted


def moments(durations, rng):
    """Seconds after the start of a command. On a busy machine one run takes many times as long as
    another: the caller appends the duration of each run that was not interrupted."""
    for moment in range(MOMENTS):
        yield durations[-1] * (moment + 1) / (MOMENTS + 1)
    for _ in range(TRIES):
        yield rng.uniform(0, min(durations))


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_ends_a_command_by_the_signal(name, images, tmp_path, rng):
    """It ends at once, says so once, and what it printed cannot be mistaken for the whole."""
    for image in images.glob("*.qcow2"):
        (tmp_path / image.name).symlink_to(image)
    words = COMMANDS[name]
    began = time.monotonic()
    complete = start(words, tmp_path).communicate()[0]
    durations = [time.monotonic() - began]
    assert len(complete) > 100
    interrupted = 0
    for tried, seconds in enumerate(moments(durations, rng)):
        if tried >= MOMENTS and interrupted > 0:
            break
        for file in tmp_path.glob("streams/*"):
            file.unlink()
        status, output, complaint, lasted = interrupted_after(seconds, words, tmp_path)
        if output == complete:  # it had ended, or was about to
            durations.append(lasted)
            continue
        assert status == -signal.SIGINT
        # Before its first step, or between two programs, nothing can be said, nor was printed.
        assert complaint.decode() == SAID or (complaint, output) == (b"", b"")
        interrupted += complaint.decode() == SAID
        assert not ("--json" in words and is_json(output))
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
    assert process.wait(timeout=120) == -signal.SIGTERM
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
