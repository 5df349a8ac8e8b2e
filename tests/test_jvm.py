# SPDX-License-Identifier: MIT
"""Inside a Java virtual machine, as Autopsy 4 runs: the drop-in is found, and the type is one that
TSK's Java classes know."""
import shutil
from pathlib import Path

import pytest
from lib.disks import make_with_snapshot
from lib.namespace import CLEAN, in_namespace
from lib.project import SOURCE, run
from lib.tools import DROPIN

JAVAC = shutil.which("javac")
pytestmark = [
    pytest.mark.skipif(
        JAVAC is None, reason="there is no Java development kit (Debian: default-jdk-headless)"
    ),
    pytest.mark.unsanitized("Java does not start with a sanitizer before it"),
]


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """The words that run tests/jvm/Probe on image names."""
    directory = tmp_path_factory.mktemp("jvm")
    sources = Path(SOURCE, "tests", "jvm")
    include = Path(JAVAC).resolve().parents[1] / "include"
    run(JAVAC, "-d", directory, sources / "Probe.java")
    run(
        "gcc",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        f"-I{include}",
        f"-I{include}/linux",
        sources / "probe.c",
        "-o",
        directory / "libprobe.so",
        "-ltsk",
    )
    return [
        Path(JAVAC).resolve().with_name("java"),
        "-Xshare:auto",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        directory,
        "Probe",
        directory / "libprobe.so",
    ]


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    return make_with_snapshot(tmp_path_factory.mktemp("jvm-disk"))[0]


def check(lines):
    active, snapshot = lines
    for line in lines:
        assert line.startswith("type 1, 8388608 bytes: ")
        assert "early.txt" in line.split()
    assert "late.txt" in active.split() and "late.txt" not in snapshot.split()


def test_without_the_plugin_it_is_no_file_system(probe, disk):
    """So the other tests see the plugin at work."""
    result = run(*probe, disk, env=CLEAN, check=False)
    assert result.returncode != 0 and "8388608" not in result.stdout


def test_detected_and_read_with_a_type_that_java_knows(probe, disk):
    result = run(*probe, disk, f"{disk}@first", env={**CLEAN, "LD_LIBRARY_PATH": str(DROPIN)})
    check(result.stdout.splitlines())


def test_enable_reaches_it(probe, disk, command):
    words = " ".join(str(word) for word in probe)
    result = in_namespace(
        f"{command} enable >/dev/null; exec env -i PATH=/usr/bin:/bin {words} {disk} {disk}@first"
    )
    check(result.stdout.splitlines())


def test_what_cannot_be_opened_is_an_exception_with_the_reason(probe, disk):
    result = run(
        *probe, f"{disk}@second", env={**CLEAN, "LD_LIBRARY_PATH": str(DROPIN)}, check=False
    )
    assert result.returncode != 0 and "no such snapshot" in result.stderr and result.stdout == ""
