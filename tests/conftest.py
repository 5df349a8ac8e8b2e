# SPDX-License-Identifier: MIT
"""What all tests share: where the build is, and the library under test.

TSK_QCOW2_BUILD names the build directory (default: the root of the source tree), TSK_QCOW2_SEED the seed of all random
choices.
"""
import os
import random
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))
sys.dont_write_bytecode = True
os.environ.setdefault("TSK_QCOW2_BUILD", str(TESTS.parent))
os.environ.setdefault("TSK_QCOW2_SEED", "1")
import lib  # noqa: E402, F401  for what it does to sys.path


def pytest_report_header():
    return f"build: {os.environ['TSK_QCOW2_BUILD']}, TSK_QCOW2_SEED={os.environ['TSK_QCOW2_SEED']}"


@pytest.fixture(scope="session")
def build_directory():
    return Path(os.environ["TSK_QCOW2_BUILD"])


@pytest.fixture(scope="session")
def core():
    """The library through ctypes: lib.core's module."""
    from lib import core as module

    module.library()
    return module


@pytest.fixture
def rng(request):
    """Random choices of one test, repeatable through TSK_QCOW2_SEED."""
    seed = f"{os.environ['TSK_QCOW2_SEED']} {request.node.name}"
    print(f"seed: {seed!r} (TSK_QCOW2_SEED={os.environ['TSK_QCOW2_SEED']})")
    return random.Random(seed)


@pytest.fixture(scope="session")
def command(tmp_path_factory):
    """The tsk-qcow2 command, installed with all the rest into a prefix."""
    from lib.project import SOURCE, run

    directory = tmp_path_factory.mktemp("command")
    build, prefix = directory / "build", directory / "prefix"
    build.mkdir()
    run(os.path.join(SOURCE, "configure"), f"--prefix={prefix}", "CFLAGS=-O1", cwd=build)
    run("make", "-j2", "install", cwd=build)
    return prefix / "bin" / "tsk-qcow2"
