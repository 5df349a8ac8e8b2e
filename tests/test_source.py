# SPDX-License-Identifier: MIT
"""The source is written as .editorconfig says, and what checks that sees each fault."""
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lib.project import SOURCE, run

CHECK = Path(SOURCE, "scripts", "check-lines.py")
pytestmark = pytest.mark.unsanitized("about the source")

LONG = b"word " * 25 + b"end"
ADDRESS = b"https://example.org/" + b"a" * 100


def in_a_checkout():
    """Not in a release tarball, and git is there and trusts the folder."""
    git = shutil.which("git")
    return git and subprocess.run([git, "ls-files"], cwd=SOURCE, capture_output=True).stdout


@pytest.mark.skipif(not in_a_checkout(), reason="this is no git checkout")
def test_the_source_has_no_faults():
    assert run(sys.executable, CHECK, check=False).stdout == ""


@pytest.fixture
def checked(tmp_path):
    """A function: what the check says of one file with these bytes, and how it ends."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    (tmp_path / "scripts").mkdir()
    shutil.copy(CHECK, tmp_path / "scripts")
    shutil.copy(Path(SOURCE, ".editorconfig"), tmp_path)
    run("git", "init", "-q", tmp_path)

    def check(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        run("git", "-C", tmp_path, "add", "-A")
        done = run(sys.executable, tmp_path / "scripts" / CHECK.name, check=False)
        assert done.returncode in (0, 1), done.stderr
        assert (done.returncode == 0) == (done.stdout == "")
        return done.stdout

    return check


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.sh", LONG + b"\n", "a.sh:1: has 128 characters, more than 100"),
        ("a.sh", b"\n\nblank \n", "a.sh:3: ends with a blank"),
        ("a.sh", b"\tindented\n", "a.sh:1: has a tab"),
        ("a.sh", b"one\nno end", "a.sh:2: does not end with a newline"),
        ("a.sh", b"one\r\n", "a.sh:1: has a carriage return"),
        ("a.sh", b"one\n\xff\n", "a.sh:2: is not UTF-8"),
        ("folder/a.py", LONG + b"\n", "folder/a.py:1: has 128 characters, more than 100"),
        ("Makefile.am", LONG + b"\n", "Makefile.am:1: has 128 characters, more than 100"),
        ("a.md", b"| a |\n\n" + LONG + b"\n", "a.md:3: has 128 characters, more than 100"),
        (
            "a.md",
            b"```\n" + LONG + b"\n```\n" + LONG + b"\n",
            "a.md:4: has 128 characters, more than 100",
        ),
        ("a.md", LONG + b" [a](b)\n", "a.md:1: has 132 characters, more than 100"),
        ("a.patch", LONG + b"\n", "a.patch:1: has 128 characters, more than 100"),
    ],
)
def test_each_fault_is_reported(checked, name, content, said):
    assert checked(name, content) == said + "\n"


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.sh", "ü".encode() * 100 + b"\n"),
        ("a.sh", b"# see " + ADDRESS + b"\n"),
        ("a.sh", b""),
        ("Makefile.am", b"all:\n\ttrue\n"),
        ("folder/a.mk", b"all:\n\ttrue\n"),
        ("a.md", b"| " + LONG + b" |\n"),
        ("a.md", b"```\n" + LONG + b"\n```\n"),
        ("a.md", b"see [a](" + b"b" * 120 + b")\n"),
        ("a.png", b"\x89PNG\0\r\n\xff " + LONG),
        ("patches/1/a.patch", LONG + b" \n\t\n"),
        ("tests/fuzz/findings/image/a", b"\xff\t\r \n" + LONG),
    ],
)
def test_what_cannot_be_otherwise_is_not(checked, name, content):
    assert checked(name, content) == ""
