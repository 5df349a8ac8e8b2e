# SPDX-License-Identifier: MIT
"""Bash completion, asked as an interactive Bash asks it."""
import os
import subprocess

import pytest
from lib.builder import Image
from lib.project import BUILD, SOURCE

SCRIPT = r"""
source "$COMPLETION"
COMP_LINE=$1 COMP_POINT=${#1} COMP_CWORD=$2
shift 2
COMP_WORDS=("$@")
compopt() { :; }  # works inside a completion only
_tsk_qcow2
printf '%s\n' "${COMPREPLY[@]}"
"""


def complete(line, words, folder):
    """The answers at the end of `line`, which Bash has broken into `words`."""
    environment = {
        "PATH": os.path.join(BUILD, "tsk_qcow2") + ":/usr/bin:/bin",
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
