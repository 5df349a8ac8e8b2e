# SPDX-License-Identifier: MIT
"""Bash completion, asked as an interactive Bash asks it."""
import os
import subprocess
from pathlib import Path

import pytest
from lib.builder import Image, pattern
from lib.deleted import delete
from lib.project import BUILD, SOURCE

SCRIPT = r"""
source "$COMPLETION"
COMP_LINE=$1 COMP_POINT=${#1} COMP_CWORD=$2
shift 2
COMP_WORDS=("$@")
compopt() { :; }  # works inside a completion only
[[ $PATIENT ]] && timeout() { "${@:2}"; }  # however busy the machine is
_tsk_qcow2
printf '%s\n' "${COMPREPLY[@]}"
"""


def complete(line, words, folder, slow_programs=None):
    """The answers at the end of `line`, which Bash has broken into `words`."""
    environment = {
        "PATH": f"{slow_programs or os.path.join(BUILD, 'tsk_qcow2')}:/usr/bin:/bin",
        "PATIENT": "" if slow_programs else "yes",
        "LC_ALL": "C.UTF-8",
        "COMPLETION": os.path.join(SOURCE, "completion", "tsk-qcow2"),
    }
    done = subprocess.run(
        ["bash", "-c", SCRIPT, "bash", line, str(len(words) - 1), *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return sorted(done.stdout.split())


@pytest.fixture
def folder(tmp_path):
    image = Image(1 << 20)
    for number, name in enumerate((b"before-update", b"before", b"after", b"two words"), 1):
        image.snapshot(str(number).encode(), name)
    image.write(tmp_path / "disk.qcow2")
    return tmp_path


def test_commands(folder):
    assert complete("tsk-qcow2 ver", ["tsk-qcow2", "ver"], folder) == ["verify"]
    assert {"info", "run", "snapshots", "--help"} <= set(
        complete("tsk-qcow2 ", ["tsk-qcow2", ""], folder)
    )
    assert complete("tsk-qcow2 help im", ["tsk-qcow2", "help", "im"], folder) == ["image-names"]


def test_options(folder):
    assert complete("tsk-qcow2 verify --", ["tsk-qcow2", "verify", "--"], folder) == [
        "--help",
        "--json",
        "--list",
        "--no-hash",
        "--vmstate",
    ]


def test_files(folder):
    assert complete("tsk-qcow2 info di", ["tsk-qcow2", "info", "di"], folder) == ["disk.qcow2"]


def test_snapshots_where_bash_breaks_the_word(folder):
    words = ["tsk-qcow2", "verify", "disk.qcow2", "@", "bef"]
    assert complete("tsk-qcow2 verify disk.qcow2@bef", words, folder) == ["before", "before-update"]


def test_snapshots_where_it_does_not(folder):
    words = ["tsk-qcow2", "verify", "disk.qcow2@"]
    assert complete("tsk-qcow2 verify disk.qcow2@", words, folder) == [
        "disk.qcow2@after",
        "disk.qcow2@before",
        "disk.qcow2@before-update",
    ]


@pytest.fixture
def deleted(tmp_path):
    """A snapshot that is there, and three that were deleted: a shell must quote the last one."""
    image = Image(1 << 20)
    for number, name in enumerate((b"live", b"monday", b"more", b"two words"), 1):
        image.snapshot(str(number).encode(), name, seconds=number)
        image.disk.clear(0)
        image.disk.normal(0, pattern(number, 65536))
    image.write(tmp_path / "old.qcow2", delete(image, image.build(), keep=(0,)))
    return tmp_path


@pytest.mark.parametrize(
    "before, words, found",
    [
        ("", ["@"], ["deleted=monday", "deleted=more", "live"]),
        ("", ["@", "d"], ["deleted=monday", "deleted=more"]),
        ("deleted=", ["@", "deleted", "="], ["monday", "more"]),
        ("deleted=", ["@", "deleted", "=", "mon"], ["monday"]),
        ("", ["@", "li"], ["live"]),
        ("", ["@", "ab"], ["abandoned"]),
    ],
)
def test_recovered_states(deleted, before, words, found):
    """`before` is what Bash leaves as it is, where it breaks the word."""
    word = "".join(["old.qcow2", *words])
    line = f"tsk-qcow2 map {word}"
    assert complete(line, ["tsk-qcow2", "map", "old.qcow2", *words], deleted) == found
    unbroken = complete(line, ["tsk-qcow2", "map", word], deleted)
    assert unbroken == [f"old.qcow2@{before}{name}" for name in found]


def test_a_search_that_takes_long_is_given_up(deleted):
    """As in an image with many tables."""
    programs = deleted / "programs"
    programs.mkdir()
    slow = programs / "tsk-qcow2"
    real = Path(BUILD, "tsk_qcow2", "tsk-qcow2")
    slow.write_text(f'#!/bin/sh\n[ "$1" = info ] && exec sleep 600\nexec {real} "$@"\n')
    slow.chmod(0o755)
    words = ["tsk-qcow2", "map", "old.qcow2", "@"]
    assert complete("tsk-qcow2 map old.qcow2@", words, deleted, programs) == ["live"]
