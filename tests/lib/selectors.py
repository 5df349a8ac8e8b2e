# SPDX-License-Identifier: MIT
"""Selector files, images for them to name, and the command that writes them."""
import os
import subprocess
from functools import partial
from pathlib import Path

from . import images, tools
from .builder import Image
from .project import COMMAND
from .tools import assert_filled

SIZE = 64 << 10  # of every disk here, bytes: one cluster
FIRST_LINE = "TSK-QCOW2-SELECTOR 1\n"
assert_byte = partial(assert_filled, size=SIZE)


def image(path, byte, snapshots=(), **options):
    """A disk filled with a byte. `snapshots` are (id, name, byte)."""
    made = Image(size=SIZE, cluster_bits=16, **options)
    for identifier, name, filling in snapshots:
        made.disk.normal(0, bytes([filling]) * SIZE)
        made.snapshot(identifier, name)
    made.disk.normal(0, bytes([byte]) * SIZE)
    path.parent.mkdir(parents=True, exist_ok=True)
    return Path(made.write(path))


def overlay(path, backing):
    """An image that stores nothing, over a raw file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return images.overlay(path, backing, size=SIZE, cluster_bits=16)


def raw(path, byte):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([byte]) * SIZE)
    return path


def selector(path, name, more=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{FIRST_LINE}{name}\n{more}")
    return path


def key_of(home):
    return home / ".local/state/tsk-qcow2/selector-key"


def make_evidence(tmp_path):
    """evidence/disk.qcow2: 0xee, its snapshot "before update" 0x11, "its/../twin" twice with 0x22
    and 0x33."""
    return image(
        tmp_path / "evidence/disk.qcow2",
        0xEE,
        [
            (b"1", b"before update", 0x11),
            (b"2", b"it's/../twin", 0x22),
            (b"3", b"it's/../twin", 0x33),
        ],
    ).parent


def command(*arguments, home, cwd, environment=None):
    words = [str(word) for word in (COMMAND, *arguments)]
    return subprocess.run(
        words,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        env={**tools.CLEAN, "HOME": str(home), **(environment or {})},
    )


def write(*arguments, home, cwd, **options):
    """Let tsk-qcow2 write selectors; their paths."""
    done = command("selector", *arguments, home=home, cwd=cwd, **options)
    assert done.returncode == 0, done.stderr
    return [Path(cwd, line.split("  ")[0]) for line in done.stdout.splitlines()]


def refuses(*arguments, home, cwd, words, status=1):
    """tsk-qcow2 selector fails, says these words, and writes nothing."""
    before = sorted(os.listdir(cwd))
    done = command("selector", *arguments, home=home, cwd=cwd)
    assert (done.returncode, done.stdout) == (status, ""), done.stdout
    for word in words:
        assert word in done.stderr, done.stderr
    assert sorted(os.listdir(cwd)) == before
