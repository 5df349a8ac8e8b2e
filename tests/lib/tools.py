# SPDX-License-Identifier: MIT
"""Runs the distribution's own TSK tools, with the drop-in library or without it.

TSK_QCOW2_TOOLS names a directory with the programs of a TSK that has qcow2 inside (see patches/):
these are tested instead, without the drop-in.
"""
import functools
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import project

BUILD = Path(project.BUILD)
DROPIN = BUILD / "tsk_qcow2" / "dropin"  # holds libtsk.so.19
NATIVE = os.environ.get("TSK_QCOW2_TOOLS")
CLEAN = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PATH": "/usr/local/bin:/usr/bin:/bin"}
# Stock tools that do not end on some systems, and arguments with which they must.
MUST_END = {
    "tsk_gettimes": ["{disk}"],
    "tsk_imageinfo": ["{disk}"],
    "tsk_loaddb": ["-d", "{disk}.db", "{disk}"],
}


@dataclass(frozen=True)
class Result:
    command: tuple
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def complaint(self):
        return self.stderr.decode(errors="replace")


def path(tool):
    return (
        NATIVE + "/" + tool if NATIVE and os.path.exists(f"{NATIVE}/{tool}") else "/usr/bin/" + tool
    )


@functools.cache
def stock():
    """Variables with which tools load libtsk itself, though the plugin may be enabled here."""
    (library,) = DROPIN.glob("libtsk.so.*")
    real = re.search(r"NEEDED.*\[(/.*)\]", project.run("readelf", "-d", library).stdout)[1]
    return {"LD_LIBRARY_PATH": os.path.dirname(real)}


@functools.cache
def undisturbed():
    """What docs/distributions.md says to preload, where libbfio disturbs libraries with one of
    their own."""
    loaded = project.run("ldd", path("img_stat")).stdout
    names = [name for name in ("libvslvm.so.1", "libewf.so.2") if name in loaded]
    return {"LD_PRELOAD": ":".join(names)}


def survives(tool, *arguments, environment=None):
    """Whether a stock tool ends without a signal. One that would never end is killed when it has
    used five seconds of processor time."""
    variables = {**CLEAN, **stock(), **(environment or {})}
    try:
        done = subprocess.run(
            ["prlimit", "--cpu=5", path(tool), *arguments],
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode >= 0


def way_round(tool, *arguments):
    """Variables with which a stock tool survives these arguments: none where it is sound."""
    if survives(tool, *arguments):
        return {}
    if not survives(tool, *arguments, environment=undisturbed()):
        pytest.skip(
            f"the stock {tool} is broken here, even by the way round of docs/distributions.md"
        )
    return undisturbed()


@functools.cache
def way_to_the_end(tool):
    """The way round of a tool that does not end here on a disk of zeros."""
    with tempfile.TemporaryDirectory(prefix="disk") as folder:
        disk = Path(folder, "disk.raw")
        disk.write_bytes(bytes(65536))
        return way_round(tool, *(word.format(disk=disk) for word in MUST_END[tool]))


def names_e01(words):
    """Whether one of a tool's arguments says that an E01 is opened."""
    return any(sign in str(word) for word in words for sign in (".E01", "format=ewf"))


@functools.cache
def way_round_e01():
    """The way round for tools that open an E01, which they do not survive on some systems."""
    if shutil.which("ewfacquirestream") is None:
        return {}
    with tempfile.TemporaryDirectory(prefix="disk") as folder:
        words = ["ewfacquirestream", "-q", "-t", f"{folder}/disk", "-f", "encase6"]
        subprocess.run(words, input=bytes(65536), check=True, capture_output=True, timeout=60)
        return way_round("img_stat", f"{folder}/disk.E01")


def run(
    tool, *arguments, dropin=True, prefix=(), environment=None, stdout=subprocess.PIPE, timeout=120
):
    """Run a tool to its end. `prefix` is a command that runs it, such as strace; `environment` adds
    to CLEAN."""
    variables = {**CLEAN, **(environment or {})}
    if not dropin and not NATIVE:
        variables.update(stock())
    if tool in MUST_END and not NATIVE:
        variables.update(way_to_the_end(tool))
    if names_e01(arguments) and not NATIVE:
        variables.update(way_round_e01())
    if dropin and not NATIVE:
        assert any(
            DROPIN.glob("libtsk.so.*")
        ), f"no libtsk.so.* in {DROPIN}: build first, or set TSK_QCOW2_BUILD"
        variables["LD_LIBRARY_PATH"] = str(DROPIN)
        if project.SANITIZERS:  # TSK's programs leak: they end without closing the image
            preloaded = [project.PRELOAD, variables.get("LD_PRELOAD")]
            variables.update(project.sanitized(), LD_PRELOAD=":".join(filter(None, preloaded)))
    command = [str(word) for word in (*prefix, path(tool), *arguments)]
    done = subprocess.run(
        command,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        timeout=timeout,
    )
    return Result(tuple(command), done.returncode, done.stdout or b"", done.stderr)


def img_cat(*images, image_type=None, home=None, environment=None, **options):
    """img_cat -i TYPE, or without a type, with this home directory."""
    return run(
        "img_cat",
        *(["-i", image_type] if image_type else []),
        *images,
        environment={**({"HOME": str(home)} if home else {}), **(environment or {})},
        **options,
    )


def assert_filled(result, byte, size):
    """The disk was read, and is filled with this byte alone."""
    assert result.returncode == 0, result.complaint
    assert result.stdout == bytes([byte]) * size, f"it begins with {result.stdout[:4]!r}"


def assert_same(actual, expected):
    """The same exit status, output and complaints. Says where the first difference is."""
    about = (
        f"{' '.join(actual.command)}\ninstead of {' '.join(expected.command)}\n{actual.complaint}"
    )
    assert actual.returncode == expected.returncode, about
    assert first_difference(actual.stdout, expected.stdout) is None, about
    assert first_difference(actual.stderr, expected.stderr) is None, about


def first_difference(actual, expected):
    """None if equal, else the offset, and the lines there."""
    if actual == expected:
        return None
    at = next(
        (i for i, (a, b) in enumerate(zip(actual, expected)) if a != b),
        min(len(actual), len(expected)),
    )
    start = max(0, at - 60)
    end = at + 60
    return (
        f"at byte {at} of {len(actual)} and {len(expected)}: {actual[start:end]!r}, not"
        f" {expected[start:end]!r}"
    )


def assert_refused(result, *words):
    """The tool failed, printed nothing on stdout, and its complaint has all of these words."""
    about = f"{' '.join(result.command)}\nexit status {result.returncode}\n{result.complaint}"
    assert result.returncode > 0, about  # below zero: killed by a signal
    assert result.stdout == b"", about
    for word in words:
        assert word in result.complaint, f"no {word!r} in: {about}"
