# SPDX-License-Identifier: MIT
"""The mistakes that an examiner makes, and what the tools of The Sleuth Kit say then."""
import struct
from pathlib import Path

import pytest
from lib import disks
from lib.builder import pattern
from lib.tools import assert_refused
from lib.variants import copy_sparse
from test_tools import run_command


@pytest.fixture
def small(tmp_path):
    """A directory of the examiner's, with what the mistakes need."""
    case = tmp_path / "case"
    case.mkdir()
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "base.raw").write_bytes(pattern("base", 1 << 20))
    (case / "notes.txt").write_text("no image at all\n" * 1000)

    def qemu(*words):
        disks.run("qemu-img", *words, cwd=case)

    qemu("create", "-f", "qcow2", "snapshots.qcow2", "1M")
    for name in ("monday", "tuesday night"):
        qemu("snapshot", "-c", name, "snapshots.qcow2")
    copy_sparse(outside / "base.raw", case / "lost.raw")
    qemu("create", "-f", "qcow2", "-b", "lost.raw", "-F", "raw", "orphan.qcow2")
    (case / "lost.raw").unlink()
    qemu("create", "-f", "qcow2", "-b", outside / "base.raw", "-F", "raw", "outside.qcow2")
    qemu("create", "-f", "qcow2", "-b", "../elsewhere/base.raw", "-F", "raw", "dotdot.qcow2")
    qemu("create", "-f", "qcow2", "future.qcow2", "1M")
    name_unknown_feature(case / "future.qcow2", 20, b"time travel")
    qemu("create", "-f", "qcow2", "nameless.qcow2", "1M")
    name_unknown_feature(case / "nameless.qcow2", 21, None)
    return case


def name_unknown_feature(path, bit, name):
    """Set an incompatible feature bit in the header; put its name into the feature name table, over
    another's."""
    image = bytearray(path.read_bytes())
    struct.pack_into(">Q", image, 72, 1 << bit)
    if name:
        table = image.index(struct.pack(">I", 0x6803F857), 104) + 8
        image[table : table + 48] = struct.pack(">BB46s", 0, bit, name)
    path.write_bytes(image)


MISTAKES = {
    "unknown snapshot": ("snapshots.qcow2@wednesday", ["wednesday", "monday", "tuesday night"]),
    "empty snapshot": ("snapshots.qcow2@", ["monday", "tuesday night"]),
    "missing backing file": ("orphan.qcow2", ["lost.raw", "backing="]),
    "backing file elsewhere": ("outside.qcow2", ["elsewhere/base.raw", "backing="]),
    "backing file above": ("dotdot.qcow2", ["../elsewhere/base.raw", "backing="]),
    "unknown feature": ("future.qcow2", ["time travel"]),
    "nameless unknown feature": ("nameless.qcow2", ["21"]),
}


@pytest.mark.parametrize("image_type", ["qcow2", None], ids=["told", "detected"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_explained(mistake, image_type, small):
    name, words = MISTAKES[mistake]
    for tool in ("fls", "mmls", "img_cat"):
        assert_refused(run_command(f"{tool} IMAGE", [small / name], image_type), *words)


@pytest.mark.parametrize("name", ["notes.txt", "../elsewhere/base.raw", "no such file.qcow2"])
def test_not_a_qcow2_file(name, small):
    for tool in ("fls", "img_cat"):
        assert_refused(run_command(f"{tool} IMAGE", [small / name], "qcow2"), Path(name).name)
