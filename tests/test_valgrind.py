# SPDX-License-Identifier: MIT
"""A part of the tests under valgrind, which also sees bytes that nobody has written, and what the
libraries below do."""
import os
import re
import shutil

import pytest
from lib import disks, mounted, tools
from lib.builder import Image, pattern, squeezable
from lib.project import BUILD, COMMAND, run, run_line
from test_faults import ENCRYPTED, FAULTS, IMAGES, has_libgcrypt

VALGRIND = ["/usr/bin/valgrind", "--quiet", "--error-exitcode=99", "--track-origins=no"]
NO_LEAKS = ["--leak-check=full", "--errors-for-leak-kinds=definite,indirect"]
# What a program starts too, but nothing that is setuid, since valgrind cannot run it.
CHILDREN = ["--trace-children=yes", "--trace-children-skip=*/mount,*/umount,*/fusermount3"]
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
    """But for the one that only shows how long something takes."""
    unit = os.path.join(BUILD, "tests", "unit", "unit")
    names = set(run(unit).stdout.split()) - {"compare_many_of_one_name"}
    run(*VALGRIND, *NO_LEAKS, unit, *sorted(names))


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


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A disk of three file systems, with a snapshot, a deleted one, and damage."""
    folder = tmp_path_factory.mktemp("files")
    disk, image = disks.make_small(folder), folder / "files.qcow2"
    run_line("qemu-img convert -c -f raw -O qcow2", disk.path, image)
    for change in ("snapshot -c before", "snapshot -c gone"):
        run_line(f"qemu-img {change}", image)
    run_line("qemu-img snapshot -d gone", image)
    big_bin = disk.path.read_bytes().index(pattern("ext4", disks.BIG_BYTES)[:4096])
    for at, length in ((big_bin, 4096), (5 << 20, 1 << 18)):  # the other one is free, in FAT
        run("qemu-io", "-c", f"write -P 7 {at} {length}", image)
    os.truncate(image, image.stat().st_size - 100_000)
    return image


@pytest.mark.parametrize(
    "words",
    [
        "info --json",
        "verify",
        "verify --json",
        "check --decode",
        "residue",
        "residue --json",
        "map --json",
        "timeline --csv",
        "diff --deleted @before",
        "diff --json @before",
        "diff --body @before",
        "diff --ranges @before",
    ],
)
def test_a_command(words, files):
    """They do the same as without valgrind, and those which they start do so too."""
    names = [f"{files}{word}" for word in words.split() if word.startswith("@")]
    words = [word for word in words.split() if not word.startswith("@")]
    command = [COMMAND, *words, *names, files]
    expected = run(*command, check=False)
    result = run(*VALGRIND, *CHILDREN, *NO_LEAKS, *command, check=False)
    assert result.stderr == expected.stderr and result.returncode == expected.returncode
    assert result.stdout == expected.stdout and len(result.stdout) > 100


@mounted.needed
def test_a_mount(files, tmp_path):
    """Every file is opened, read whole and in pieces, and closed several times."""
    prefix = [*VALGRIND, *CHILDREN, *NO_LEAKS]
    with mounted.Mount(files, tmp_path / "m", prefix=prefix) as mount:
        assert mount.files() == ["active.raw", "info.json", "residue.raw", "snapshots/before.raw"]
        for _ in range(3):
            run("dd", f"if={mount.path('snapshots/before.raw')}", "of=/dev/null", "bs=1M")
            for name in mount.files():
                descriptor = os.open(mount.path(name), os.O_RDONLY | os.O_DIRECT)
                for at in range(0, 1 << 20, 99 * 512):
                    os.pread(descriptor, 3000, at)
                os.close(descriptor)
        with pytest.raises(OSError):
            mount.path("active.raw").read_bytes()
    assert mount.status == 4 and "==" not in mount.complaint, mount.complaint
