# SPDX-License-Identifier: MIT
"""What all tests share: where the build is, and the library under test.

TSK_QCOW2_BUILD names the build directory (default: the root of the source tree), TSK_QCOW2_SEED the
seed of all random choices.
"""
import fcntl
import os
import pickle
import random
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))
sys.dont_write_bytecode = True
os.environ.setdefault("TSK_QCOW2_BUILD", str(TESTS.parent))
os.environ.setdefault("TSK_QCOW2_SEED", "1")
os.environ["PATH"] += ":/usr/sbin:/sbin"  # mke2fs, sfdisk and others, which are in root's PATH only
import lib  # noqa: E402, F401  for what it does to sys.path


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "unsanitized(reason): is pointless, or cannot be, with a build with sanitizers"
    )
    if not (getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput")):
        preload_python_only(config)


def preload_python_only(config):
    """What is preloaded for the sanitizers is for Python, which loads the library. QEMU would not
    work with it, and others be slow."""
    if os.environ.get("TSK_QCOW2_PRELOAD") and os.environ.pop("LD_PRELOAD", None):
        folder = tempfile.TemporaryDirectory(prefix="python")
        config.add_cleanup(folder.cleanup)
        wrapper = Path(folder.name, "python")
        wrapper.write_text(
            f'#!/bin/sh\nLD_PRELOAD="$TSK_QCOW2_PRELOAD $LD_PRELOAD" exec "{sys.executable}" "$@"\n'
        )
        wrapper.chmod(0o755)
        sys.executable = str(wrapper)


# Files that take long, of which none should be the last when other workers have nothing to do.
FIRST = ("test_build.py", "test_doors.py", "test_tools.py")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: item.path.name not in FIRST)
    if not os.environ.get("TSK_QCOW2_SANITIZERS"):
        return
    left_out = [item for item in items if item.get_closest_marker("unsanitized")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_report_header():
    sanitizers = os.environ.get("TSK_QCOW2_SANITIZERS")
    return (
        f"build: {os.environ['TSK_QCOW2_BUILD']}, TSK_QCOW2_SEED={os.environ['TSK_QCOW2_SEED']}"
        + (f", sanitizers: {sanitizers}" if sanitizers else "")
    )


def pytest_terminal_summary(terminalreporter):
    """Tests that inject faults record how many (record_property), and so do those of the table of
    doors."""
    recorded = [
        pair for report in terminalreporter.getreports("passed") for pair in report.user_properties
    ]
    count = {
        wanted: [value for name, value in recorded if name == wanted]
        for wanted in ("faults", "names", "doors", "pairs")
    }
    if count["faults"]:
        terminalreporter.write_line(f"{sum(count['faults'])} faults were injected")
    if count["pairs"]:
        terminalreporter.write_line(
            f"{sum(count['names'])} names through {max(count['doors'])} doors:"
            f" {sum(count['pairs'])} pairs"
        )


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
def source(tmp_path_factory):
    """The source, to be configured in other directories: a copy, if it was configured where it
    lies."""
    from lib.project import BUILD, SOURCE, run

    if not os.path.exists(os.path.join(SOURCE, "config.status")):
        return SOURCE
    copy = tmp_path_factory.mktemp("source") / "tsk-qcow2"
    run("make", "distdir", f"distdir={copy}", cwd=BUILD)
    return str(copy)


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """shared(name, make): what make(directory) returns. It is called by the first test that asks,
    for all workers of pytest-xdist; what it makes is not to be changed."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def get(name, make):
        result = folder / f"{name}.result"
        with open(folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not result.exists():
                shutil.rmtree(folder / name, ignore_errors=True)
                (folder / name).mkdir()
                result.write_bytes(pickle.dumps(make(folder / name)))
        return pickle.loads(result.read_bytes())

    return get


@pytest.fixture(scope="session")
def raw_disk(shared):
    """raw_disk("gpt") or raw_disk("mbr"): that disk of lib/disks.py."""
    from lib import disks

    return lambda name: shared(f"{name}-disk", disks.MAKE[name])


@pytest.fixture(scope="session")
def demo(shared):
    """The demonstration disk."""
    from lib.project import SOURCE, run

    def make(folder):
        run("sh", os.path.join(SOURCE, "scripts", "demo-disk.sh"), folder)
        return folder / "demo.qcow2"

    return shared("demo", make)


@pytest.fixture(scope="session")
def command(source, shared):
    """The tsk-qcow2 command, installed with all the rest into a prefix."""
    from lib.project import SANITIZERS, run

    def install(directory):
        build, prefix = directory / "build", directory / "prefix"
        build.mkdir()
        run(os.path.join(source, "configure"), f"--prefix={prefix}", "CFLAGS=-O0", cwd=build)
        run("make", "-j2", "install", cwd=build)
        return prefix / "bin" / "tsk-qcow2"

    if SANITIZERS:
        pytest.skip("what is installed here is built without sanitizers")
    return shared("command", install)


# ---- Encrypted images ------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_luks(tmp_path_factory):
    """An ordinary LUKS image: (path, content). Not to be changed."""
    from lib.unlocked import make_plain

    return make_plain(tmp_path_factory.mktemp("luks") / "disk.qcow2", "luks")


@pytest.fixture(scope="module")
def plain_aes(tmp_path_factory):
    """The same with legacy AES."""
    from lib.unlocked import make_plain

    return make_plain(tmp_path_factory.mktemp("aes") / "disk.qcow2", "aes")


@pytest.fixture(scope="module")
def slots(tmp_path_factory):
    """A LUKS image with all slots in use."""
    from lib.unlocked import make_with_all_slots

    return make_with_all_slots(tmp_path_factory.mktemp("slots") / "disk.qcow2")


@pytest.fixture()
def keys(tmp_path):
    """Key files by name."""

    def make(name, data=b"secret"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return make


# ---- Selectors: what test_selector.py and test_selector_writing.py begin with -----------


@pytest.fixture
def home(tmp_path):
    """The user's home directory, where no key is yet."""
    path = tmp_path / "home of the user"
    path.mkdir()
    return path


@pytest.fixture
def evidence(tmp_path):
    from lib.selectors import make_evidence

    return make_evidence(tmp_path)


@pytest.fixture
def case(tmp_path):
    path = tmp_path / "case"
    path.mkdir()
    return path
