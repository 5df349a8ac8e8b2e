# SPDX-License-Identifier: MIT
"""What a release promises: one version, an entry in NEWS.md, the SONAMEs that stand there."""
import datetime
import os
import re
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import qcow2core
from lib.project import BUILD, COMMAND, SOURCE, run

NEWS = Path(SOURCE, "NEWS.md").read_text()
VERSION = re.search(
    r"^AC_INIT\(\[tsk-qcow2\], \[(.*)\]\)$", Path(SOURCE, "configure.ac").read_text(), re.M
)[1]
ENTRIES = re.findall(r"^## \[(.*)\] - (.*)$", NEWS, re.M)


def changelog():
    return run("sh", Path(SOURCE, "packaging", "changelog.sh")).stdout


def test_everything_says_the_same_version(monkeypatch):
    monkeypatch.setenv("QCOW2CORE_LIBRARY", os.path.join(BUILD, "core/.libs/libqcow2core.so"))
    pages = list(Path(BUILD, "man").glob("*.[1-8]"))
    assert len(pages) >= 4
    said = {
        "command": run(COMMAND, "--version").stdout.split()[1],
        "Python module": qcow2core.__version__,
        "Debian packages": re.match(r"tsk-qcow2 \((.*)\) ", changelog())[1],
        **{
            name: re.search("^Version: (.*)$", Path(BUILD, name).read_text(), re.M)[1]
            for name in ("core/qcow2core.pc", "tsk_qcow2/tsk_qcow2.pc")
        },
        **{
            page.name: re.search(r'^\.TH .* "tsk-qcow2 (.*)" ', page.read_text(), re.M)[1]
            for page in pages
        },
    }
    assert said == dict.fromkeys(said, VERSION)


def test_the_version_stands_in_one_place():
    """In the source: in configure.ac. NEWS.md has an entry for it."""
    written = re.compile(rf"(?<![\d.]){re.escape(VERSION)}(?![\d.])")
    sources = [
        path
        for folder in (
            "completion",
            "core",
            "docs",
            "examples",
            "man",
            "packaging",
            "scripts",
            "tsk_qcow2",
        )
        for path in Path(SOURCE, folder).rglob("*")
        if path.is_file() and path.suffix not in (".o", ".png", ".lo", ".so", ".la", ".a")
    ]
    sources += [path for path in Path(SOURCE).glob("*.md") if path.name != "NEWS.md"]
    if SOURCE == BUILD:
        pytest.skip("what is built lies among the source")
    assert len(sources) > 100
    assert [str(path) for path in sources if written.search(path.read_text(errors="replace"))] == []


def test_news_has_a_dated_entry_for_this_version():
    assert ENTRIES[0][0] == VERSION
    dates = [datetime.date.fromisoformat(date) for _, date in ENTRIES]
    assert dates == sorted(dates, reverse=True)
    assert (
        parsedate_to_datetime(re.search(r"^ -- .*>  (.*)$", changelog(), re.M)[1]).date()
        == dates[0]
    )
    kinds = set(re.findall(r"^### (.*)$", NEWS, re.M))
    assert kinds <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }, "not a changelog to keep"


@pytest.mark.parametrize(
    "library", ["core/.libs/libqcow2core.so", "tsk_qcow2/.libs/libtsk_qcow2.so"]
)
def test_sonames_are_those_of_the_policy(library):
    """And the Debian package of the library carries the number, as those of two SONAMEs can be
    installed together."""
    soname = re.search(
        r"SONAME.*\[(.*)\]", run("readelf", "-d", os.path.join(BUILD, library)).stdout
    )[1]
    assert f"`{soname}`" in NEWS
    name, number = re.fullmatch(r"(.*)\.so\.(\d+)", soname).groups()
    package = name.replace("_", "-") + ("-" if name.endswith("2") else "") + number
    assert re.search(
        rf"^Package: {package}$", Path(SOURCE, "packaging/debian/control").read_text(), re.M
    )
    node = re.escape(name.removeprefix("lib").upper() + "_" + number)
    symbols = run(
        "nm", "-D", "--defined-only", "--with-symbol-versions", os.path.join(BUILD, library)
    ).stdout.splitlines()
    functions = [line.split()[-1] for line in symbols if " T " in line]
    assert len(functions) > 5 and all(
        re.search(rf"@@{node}(\.\d+)?$", function) for function in functions
    )
