# SPDX-License-Identifier: MIT
"""A part of the tests under valgrind, which also sees bytes that nobody has written, and what the
libraries below do."""
import os
import re
import shutil

import pytest
from lib import tools
from lib.builder import Image, pattern, squeezable
from lib.project import BUILD, run
from test_faults import ENCRYPTED, FAULTS, IMAGES, has_libgcrypt

VALGRIND = ["/usr/bin/valgrind", "--quiet", "--error-exitcode=99", "--track-origins=no"]
NO_LEAKS = ["--leak-check=full", "--errors-for-leak-kinds=definite,indirect"]
pytestmark = [
    pytest.mark.unsanitized("valgrind and the sanitizers exclude each other"),
    pytest.mark.skipif(shutil.which(VALGRIND[0]) is None, reason="valgrind is not installed"),
]


@pytest.fixture(autouse=True, scope="module")
def readable_build():
    """Older versions of valgrind cannot read what newer compilers (clang 14, for one) say for
    debuggers."""
    said = run(*VALGRIND, os.path.join(BUILD, "tests", "unit", "unit"), check=False).stderr
    if "debuginfo reader" in said or "unhandled dwarf" in said:
        pytest.skip("this valgrind does not know the debugging information of this compiler")


def test_valgrind_sees(tmp_path):
    """That of which the sanitizers see nothing: a decision by bytes that nobody has written."""
    (tmp_path / "program.c").write_text(
        "#include <stdlib.h>\n#include <unistd.h>\nint main(void)\n{\n  volatile char *block ="
        " malloc(10);\n  if (block[3] != 0)\n    _exit(0);\n  return 0;\n}\n"
    )
    run("gcc", "-g", "-O0", tmp_path / "program.c", "-o", tmp_path / "program")
    assert run(*VALGRIND, tmp_path / "program", check=False).returncode == 99


def test_unit_tests():
    unit = os.path.join(BUILD, "tests", "unit", "unit")
    for name in run(unit).stdout.split():
        run(*VALGRIND, *NO_LEAKS, unit, name)


@pytest.mark.parametrize(
    "kind", ["deflate", "zstd", "chain", *(["LUKS"] if has_libgcrypt() else [])]
)
def test_faults(kind, tmp_path):
    """Some of the faults: those are different calls for each image."""
    step = 199 if kind == "LUKS" else 37  # valgrind derives keys a hundred times as slowly
    name = {**IMAGES, **ENCRYPTED}[kind](tmp_path)
    for options in ((), ("-b",)):
        result = run(*VALGRIND, *NO_LEAKS, FAULTS, "-e", step, *options, name)
        assert int(re.match(r"(\d+) faults", result.stdout).group(1)) > 0


def test_a_tool(tmp_path):
    """img_cat with the drop-in, over each kind of cluster. TSK's programs leak."""
    image = Image(24 * 4096, cluster_bits=12)
    for cluster in (0, 5, 23):
        image.disk.normal(cluster, pattern(cluster, 4096))
        image.disk.compressed((cluster + 1) % 24, squeezable(cluster, 4096))
    path = image.write(tmp_path / "disk.qcow2")
    result = tools.run("img_cat", "-i", "qcow2", path, prefix=[*VALGRIND, "--leak-check=no"])
    assert result.returncode == 0 and result.stderr == b"", result.complaint
    assert result.stdout == image.disk.model.read(0, 24 * 4096)
