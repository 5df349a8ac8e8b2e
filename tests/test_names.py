# SPDX-License-Identifier: MIT
"""The grammar of image names, IMAGE[@SNAPSHOT][,OPTION[=VALUE]]..., as typed to img_cat and
img_stat."""
import os
import struct
from functools import partial

import pytest

from lib import builder, tools
from lib.project import run, run_line
from lib.tools import assert_filled, assert_refused

SIZE = 256 << 10  # of every disk here, bytes
BOTH = pytest.mark.parametrize("image_type", ["qcow2", None], ids=["told", "detected"])


def fill(folder, name, byte):
    run("qemu-io", "-f", "qcow2", "-c", f"write -P {byte} 0 {SIZE}", name, cwd=folder)


img_cat = partial(tools.img_cat, image_type="qcow2")
assert_byte = partial(assert_filled, size=SIZE)


# ---- Snapshots -------------------------------------------------------------------

# The snapshots of disk.qcow2, in order. Their IDs are 1, 2, ...; number n holds a disk filled with
# the byte n.
SNAPSHOTS = [
    "first",
    "before update",
    "a@b",
    "a,b",
    "a=b",
    "id=1",
    "name=first",
    "2",
    "twice",
    "twice",
    "backing=none",
    "Größe",
    ",",
    "@",
    "x,,y",
]


@pytest.fixture(scope="session")
def snapshots(tmp_path_factory):
    """A directory with disk.qcow2, whose active disk is filled with the byte 0xee."""
    folder = tmp_path_factory.mktemp("snapshots")
    run_line("qemu-img create -f qcow2 disk.qcow2", SIZE, cwd=folder)
    for number, name in enumerate(SNAPSHOTS, 1):
        fill(folder, "disk.qcow2", number)
        run_line("qemu-img snapshot -c", name, "disk.qcow2", cwd=folder)
    fill(folder, "disk.qcow2", 0xEE)
    return folder


SNAPSHOT_NAMES = {
    "": 0xEE,
    "@first": 1,
    "@1": 1,
    "@id=1": 1,  # not the snapshot of that name
    "@before update": 2,
    "@a@b": 3,
    "@a,,b": 4,
    "@name=a,,b": 4,
    "@a=b": 5,
    "@id=6": 6,
    "@name=id=1": 6,
    "@name=name=first": 7,
    "@id=2": 2,
    "@name=2": 8,
    "@id=9": 9,
    "@id=10": 10,
    "@9": 9,
    "@backing=none": 11,
    "@Größe": 12,
    "@,,": 13,
    "@@": 14,
    "@x,,,,y": 15,
    "@15,backing=none": 15,
}


@BOTH
@pytest.mark.parametrize("name", SNAPSHOT_NAMES)
def test_snapshot_is_chosen(name, image_type, snapshots):
    assert_byte(
        img_cat(f"{snapshots}/disk.qcow2{name}", image_type=image_type), SNAPSHOT_NAMES[name]
    )


def test_img_stat_gives_the_snapshots_disk(snapshots):
    result = tools.run("img_stat", "-i", "qcow2", f"{snapshots}/disk.qcow2@before update")
    assert result.returncode == 0 and str(SIZE) in result.stdout.decode()


WRONG_SNAPSHOTS = {
    "@nobody": ["nobody", "first", "before update", "Größe"],
    "@": ["first", "before update"],
    "@id=": ["first", "before update"],
    "@name=": ["first", "before update"],
    "@id=first": ["first", "before update"],
    "@name=1": ["first", "before update"],
    "@FIRST": ["first"],
    "@first ": ["first"],
    "@16": ["first"],
    "@2": ["before update", "ID 2", "ID 8", "@id=", "@name="],  # one snapshot's ID, another's name
    "@twice": ["twice", "ID 9", "ID 10", "@id="],  # two names
    "@name=twice": ["twice", "ID 9", "ID 10", "@id="],
}


@BOTH
@pytest.mark.parametrize("name", WRONG_SNAPSHOTS)
def test_wrong_snapshot_lists_those_there_are(name, image_type, snapshots):
    for tool in ("img_cat", "img_stat"):
        chosen = ["-i", image_type] if image_type else []
        assert_refused(
            tools.run(tool, *chosen, f"{snapshots}/disk.qcow2{name}"), *WRONG_SNAPSHOTS[name]
        )


def test_image_without_snapshots_says_so(tmp_path):
    run_line("qemu-img create -f qcow2 disk.qcow2", SIZE, cwd=tmp_path)
    for name in ("@any", "@"):
        assert_refused(img_cat(f"{tmp_path}/disk.qcow2{name}"), "no snapshots")


def test_control_characters_of_a_name_are_escaped(tmp_path):
    """A snapshot's name must not be able to write to the examiner's terminal."""
    run_line("qemu-img create -f qcow2 disk.qcow2", SIZE, cwd=tmp_path)
    run_line("qemu-img snapshot -c", "red\x1b[31mname\nline", "disk.qcow2", cwd=tmp_path)
    result = img_cat(f"{tmp_path}/disk.qcow2@none")
    assert_refused(result, "red\\x1b[31mname\\x0aline")
    assert b"\x1b" not in result.stderr


# ---- The backing chain -----------------------------------------------------------


@pytest.fixture
def chain(tmp_path):
    """case/top.qcow2 (stores nothing) over lost/middle.qcow2 (nothing) over deep/base.raw, bytes
    0x11. The two lower files have moved to other directories. others/ holds other.raw and the
    lone other.qcow2, bytes 0x22, and another base.raw, bytes 0x33."""
    for folder in ("case", "lost", "deep", "others"):
        (tmp_path / folder).mkdir()
    case = tmp_path / "case"
    (case / "base.raw").write_bytes(b"\x11" * SIZE)
    run_line("qemu-img create -f qcow2 -b base.raw -F raw middle.qcow2", cwd=case)
    run_line("qemu-img create -f qcow2 -b middle.qcow2 -F qcow2 top.qcow2", cwd=case)
    (case / "middle.qcow2").rename(tmp_path / "lost/middle.qcow2")
    (case / "base.raw").rename(tmp_path / "deep/base.raw")
    (tmp_path / "others/other.raw").write_bytes(b"\x22" * SIZE)
    run_line("qemu-img convert -f raw -O qcow2 other.raw other.qcow2", cwd=tmp_path / "others")
    (tmp_path / "others/base.raw").write_bytes(b"\x33" * SIZE)
    return tmp_path


CHAIN_NAMES = {
    # Image names, with DIR for the fixture's directory, and the byte that fills the disk.
    "DIR/case/top.qcow2,backing=DIR/lost/middle.qcow2,backing=DIR/deep/base.raw": 0x11,
    "DIR/case/top.qcow2,backing=DIR/lost/../lost/middle.qcow2,backing=DIR/others/other.raw": 0x22,
    "DIR/case/top.qcow2,backing=DIR/others/other.qcow2": 0x22,
    "DIR/case/top.qcow2,backing=none": 0,
    "DIR/case/top.qcow2,backing=DIR/lost/middle.qcow2,backing=none": 0,
    "DIR/case/top.qcow2,search=DIR/lost,search=DIR/deep": 0x11,
    "DIR/case/top.qcow2,search=DIR/deep,search=DIR/lost": 0x11,
    "DIR/case/top.qcow2,search=DIR/lost,search=DIR/others": 0x33,
    "DIR/case/top.qcow2,search=DIR/deep,backing=DIR/lost/middle.qcow2": 0x11,
    "DIR/case/top.qcow2 DIR/lost/middle.qcow2 DIR/deep/base.raw": 0x11,
    "DIR/case/top.qcow2 DIR/lost/middle.qcow2 DIR/others/other.raw": 0x22,
    "DIR/case/top.qcow2 DIR/others/other.qcow2": 0x22,
    "DIR/lost/middle.qcow2 DIR/deep/base.raw": 0x11,
}


@BOTH
@pytest.mark.parametrize("names", CHAIN_NAMES)
def test_chain_is_named(names, image_type, chain):
    images = [name.replace("DIR", str(chain)) for name in names.split()]
    assert_byte(img_cat(*images, image_type=image_type), CHAIN_NAMES[names])


@BOTH
def test_search_variable(image_type, chain):
    for directories, byte in (("lost:deep", 0x11), ("lost:others:deep", 0x33)):
        search = ":".join(f"{chain}/{name}" for name in directories.split(":"))
        result = img_cat(
            chain / "case/top.qcow2",
            image_type=image_type,
            environment={"TSK_QCOW2_SEARCH": search},
        )
        assert_byte(result, byte)


def test_search_variable_does_not_find_what_is_not_there(chain):
    for search in ("", ":", f"{chain}/others"):
        result = img_cat(chain / "case/top.qcow2", environment={"TSK_QCOW2_SEARCH": search})
        assert_refused(result, "middle.qcow2", "backing=")
    assert_refused(
        img_cat(chain / "case/top.qcow2", environment={"TSK_QCOW2_SEARCH": f"{chain}/nowhere"}),
        "nowhere",
    )


def test_the_advice_after_a_long_message_is_whole(tmp_path):
    """What to type comes last, whatever names the image's maker chose."""
    long = "n" * 200
    image = builder.Image(
        size=4096, cluster_bits=12, backing=("../" + "\u00e4" * 120).encode(), backing_format=b"raw"
    )
    (tmp_path / long).mkdir()
    path = image.write(tmp_path / long / f"{long}.qcow2")
    for name in (path, f"{path},search={tmp_path}"):
        result = img_cat(name)
        assert_refused(result, "..", "backing=PATH", "search=DIRECTORY", "to the image name")
    assert "another directory than those searched" in result.complaint
    selector = tmp_path / long / "unsigned.img"
    selector.write_text(f"TSK-QCOW2-SELECTOR 1\n./{long}.qcow2\n")
    assert_refused(img_cat(selector), "to the image name. The image name is in the selector")


WRONG_CHAINS = {
    "DIR/case/top.qcow2": ["middle.qcow2", "backing="],
    "DIR/case/top.qcow2,backing=DIR/lost/middle.qcow2": ["base.raw"],
    "DIR/case/top.qcow2,search=DIR/lost": ["base.raw"],
    "DIR/case/top.qcow2,search=DIR/deep": ["middle.qcow2", "backing="],
    "DIR/case/top.qcow2 DIR/lost/middle.qcow2": ["base.raw"],
    "DIR/case/top.qcow2,backing=DIR/none-such": ["none-such"],
    "DIR/case/top.qcow2,backing=": ["backing"],
    "DIR/case/top.qcow2,backing": ["backing"],
    "DIR/case/top.qcow2 DIR/case/none-such": ["none-such"],
    "DIR/case/top.qcow2,backing=DIR/others/other.raw": [
        "other.raw",
        "qcow2",
    ],  # top declares a qcow2 backing file
    "DIR/case/top.qcow2,search=DIR/nowhere": ["nowhere"],
}


@BOTH
@pytest.mark.parametrize("names", WRONG_CHAINS)
def test_wrong_chain_is_explained(names, image_type, chain):
    images = [name.replace("DIR", str(chain)) for name in names.split()]
    assert_refused(img_cat(*images, image_type=image_type), *WRONG_CHAINS[names])


def test_comma_in_an_options_value_is_doubled(chain):
    (chain / "others/other.qcow2").rename(chain / "others/o,t,h.img")
    assert_byte(img_cat(f"{chain}/case/top.qcow2,backing={chain}/others/o,,t,,h.img"), 0x22)
    (chain / "lost").rename(chain / "lo,st")
    name = (
        f"{chain}/case/top.qcow2,search={chain}/lo,,st,backing={chain}/lo,,st/middle.qcow2"
        f",search={chain}/deep"
    )
    assert_byte(img_cat(name), 0x11)


def test_relative_paths_start_from_the_working_directory(chain, monkeypatch):
    monkeypatch.chdir(chain / "others")
    assert_byte(img_cat("../case/top.qcow2,backing=other.qcow2"), 0x22)
    assert_byte(img_cat("../case/top.qcow2,search=../lost,search=."), 0x33)


# ---- The external data file ------------------------------------------------------


@pytest.fixture
def data_file(tmp_path):
    """case/disk.qcow2, whose data file has moved to elsewhere/guest.data."""
    case = tmp_path / "case"
    case.mkdir()
    run_line("qemu-img create -f qcow2 -o data_file=guest.data disk.qcow2", SIZE, cwd=case)
    fill(case, "disk.qcow2", 0x44)
    (tmp_path / "elsewhere").mkdir()
    (case / "guest.data").rename(tmp_path / "elsewhere/guest.data")
    return tmp_path


@BOTH
@pytest.mark.parametrize("option", ["data-file=DIR/elsewhere/guest.data", "search=DIR/elsewhere"])
def test_data_file_is_named(option, image_type, data_file):
    option = option.replace("DIR", str(data_file))
    assert_byte(img_cat(f"{data_file}/case/disk.qcow2,{option}", image_type=image_type), 0x44)


@BOTH
@pytest.mark.parametrize("option", ["", ",search=DIR/case", ",data-file=DIR/none-such"])
def test_missing_data_file_is_explained(option, image_type, data_file):
    result = img_cat(
        f"{data_file}/case/disk.qcow2{option.replace('DIR', str(data_file))}", image_type=image_type
    )
    assert_refused(result, "none-such" if "none-such" in option else "data-file=")


# ---- Which file is meant ---------------------------------------------------------


@BOTH
def test_the_longest_name_of_a_file_wins(image_type, tmp_path):
    for byte, name in enumerate(
        ["disk", "disk@first", "disk@first,backing=none", "disk,search=x"], 1
    ):
        run_line("qemu-img create -f qcow2", f"./{name}", SIZE, cwd=tmp_path)
        fill(tmp_path, f"./{name}", byte)
        run_line("qemu-img snapshot -c first", f"./{name}", cwd=tmp_path)
        assert_byte(img_cat(tmp_path / name, image_type=image_type), byte)
    assert_byte(img_cat(tmp_path / "disk@first@first", image_type=image_type), 2)
    assert_byte(img_cat(tmp_path / "disk@first,backing=none,search=/x", image_type=image_type), 3)
    (tmp_path / "disk@first").unlink()
    assert_byte(img_cat(tmp_path / "disk@first", image_type=image_type), 1)


@BOTH
@pytest.mark.parametrize("name", ["sp ace", "Maß", "-dash", "a@b,c=d.qcow2", "@", ",", "tab\there"])
def test_file_names(name, image_type, snapshots, tmp_path):
    os.symlink(snapshots / "disk.qcow2", tmp_path / name)
    assert_byte(img_cat(f"{tmp_path}/{name}", image_type=image_type), 0xEE)
    assert_byte(img_cat(f"{tmp_path}/{name}@first", image_type=image_type), 1)


# ---- Options that are wrong, or come later ---------------------------------------

WRONG_OPTIONS = {
    ",nonsense": ["nonsense"],
    ",nonsense=1": ["nonsense"],
    ",Backing=none": ["Backing"],
    ",": ["option"],
    "@first,nonsense=1": ["nonsense"],
    "@first,backing=none,nonsense": ["nonsense"],
    ",key-file": ["key-file", "key-file=PATH"],
    "@first,vmstate": ["no VM state"],  # reading one: test_vmstate.py
    ",vmstate": ["vmstate", "snapshot"],
    ",errors=zeros": ["errors", "zero"],  # what errors=zero does: test_verify.py
    ",errors": ["errors=zero"],
}


@BOTH
@pytest.mark.parametrize("option", WRONG_OPTIONS)
def test_wrong_option_is_explained(option, image_type, snapshots):
    result = img_cat(f"{snapshots}/disk.qcow2{option}", image_type=image_type)
    assert_refused(result, *WRONG_OPTIONS[option])


def test_a_file_that_only_resembles_a_selector_is_raw(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(b"TSK-QCOW2-SELECTORS\n".ljust(4096, b"\0"))
    assert img_cat(path, image_type=None).stdout == path.read_bytes()


@pytest.mark.parametrize("magic", [b"QFI\xfb", b"QFI\xfa"])
def test_detection_goes_by_magic_and_version(magic, tmp_path):
    """Foreign files are left to the other image types: here to raw."""
    path = tmp_path / "disk.img"
    path.write_bytes(
        (magic + struct.pack(">I", 0 if magic == b"QFI\xfb" else 3)).ljust(4096, b"\0")
    )
    assert img_cat(path, image_type=None).stdout == path.read_bytes()
