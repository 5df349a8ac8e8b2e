# SPDX-License-Identifier: MIT
"""Images inside a disk: OUTER//START/PATH. What is read in place is what is read after extraction,
whatever the outer disk and the file system are; what cannot be read right is refused by name. The
gate's rules inside are in test_gate_attacks.py, and every door in test_doors.py.
"""
import ctypes
import errno
import os
import re
import shutil
import struct
import threading
from ctypes import byref
from pathlib import Path

import pytest

from lib import encrypted, inside, tools
from lib.builder import Image, pattern, squeezable
from lib.core import Named, PythonStorage, QcowError, Storage, library
from lib.door_names import disk, image, overlay, raw
from lib.namespace import without_libtsk
from lib.project import COMMAND, SOURCE, run, run_line

pytestmark = pytest.mark.usefixtures("core")
MIB = 1 << 20
EXT4, NTFS, FAT = 2048, 20 * 2048, 40 * 2048
STARTS = {EXT4: "83", NTFS: "7", FAT: "c"}


def content(*names):
    with Named(*names) as named:
        return named.read(0, named.size)


def warnings(name):
    with Named(name) as named:
        return named.warnings


def refused(name, *words):
    with pytest.raises(QcowError) as caught:
        content(name)
    for word in words:
        assert word in str(caught.value), f"no {word!r} in: {caught.value}"


# ---- The host's disk -----------------------------------------------------------------


def make_images(folder):
    """{name: content} of images in the folder."""
    here = os.getcwd()
    os.chdir(folder)
    try:
        image("plain.qcow2", disk(1), [(b"1", b"first", disk(2))])
        image("packed.qcow2", squeezable(3, MIB), kind="compressed")
        image("gone.qcow2", disk(4))
        raw("base.raw", 5)
        overlay("middle.qcow2", "base.raw", b"raw", mark=6)
        overlay("top.qcow2", "middle.qcow2", b"qcow2", mark=7)
    finally:
        os.chdir(here)
    chain = disk(7)[:4096] + disk(5)[4096:]
    return {
        "plain.qcow2": disk(1),
        "plain.qcow2@first": disk(2),
        "packed.qcow2": squeezable(3, MIB),
        "top.qcow2": chain,
        "gone.qcow2": disk(4),
    }


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """(path, {name: content}): a disk with ext4, NTFS and FAT32, each with the same images, of
    which one is deleted."""
    folder = tmp_path_factory.mktemp("host")
    files = folder / "files"
    (files / "vm").mkdir(parents=True)
    images = make_images(files / "vm")
    path = folder / "host.raw"
    inside.partition_table(path, 82, STARTS)
    inside.ext4(path, files, EXT4, 16)
    inside.change_ext4(path, EXT4, ["rm vm/gone.qcow2"])
    flat = {source.name: source for source in sorted((files / "vm").iterdir())}
    inside.ntfs(path, flat, NTFS, 16)
    number = int(inside.numbers(path, NTFS)["gone.qcow2"].split("-")[0])
    inside.Record(path, NTFS, number).delete()
    inside.fat(path, files, FAT, 40)
    run("mdel", "-i", f"{path}@@{FAT * 512}", "::/vm/gone.qcow2")
    return path, images


def place(start):
    return "/" if start == NTFS else "/vm/"


# ---- Every file system -----------------------------------------------------------------


@pytest.mark.parametrize("start", STARTS, ids=["ext4", "ntfs", "fat"])
def test_by_path(host, start):
    path, images = host
    for name in ("plain.qcow2", "plain.qcow2@first", "packed.qcow2", "top.qcow2"):
        assert content(f"{path}//{start}{place(start)}{name}") == images[name], name
        assert warnings(f"{path}//{start}{place(start)}{name}") == []


@pytest.mark.parametrize("start", STARTS, ids=["ext4", "ntfs", "fat"])
def test_by_number_as_fls_prints_it(host, start):
    path, images = host
    numbers = inside.numbers(path, start)
    inner = place(start)[1:]
    assert content(f"{path}//{start}/#{numbers[inner + 'plain.qcow2']}@first") == disk(2)
    deleted = next(numbers[name] for name in numbers if re.search(r"(gone|_one).qcow2", name, re.I))
    name = f"{path}//{start}/#{deleted}"
    assert content(name) == images["gone.qcow2"]
    assert len(warnings(name)) == 1 and "deleted" in warnings(name)[0]


@pytest.mark.parametrize("start", STARTS, ids=["ext4", "ntfs", "fat"])
def test_tools_show_the_same_as_after_extraction(host, start, tmp_path):
    path, images = host
    number = inside.numbers(path, start)[f"{place(start)[1:]}plain.qcow2"]
    icat = tools.run("icat", "-o", start, path, number, dropin=False)
    (tmp_path / "plain.qcow2").write_bytes(icat.stdout)
    for snapshot in ("", "@first"):
        here = f"{path}//{start}{place(start)}plain.qcow2{snapshot}"
        there = f"{tmp_path}/plain.qcow2{snapshot}"
        for tool in (["fls", "-r"], ["fsstat"]):
            for kind in ([], ["-i", "qcow2"]):
                actual = tools.run(*tool, *kind, here)
                assert actual.returncode == 0 and actual.stderr == b"", actual.complaint
                assert actual.stdout == tools.run(*tool, "-i", "qcow2", there).stdout
        assert tools.img_cat(here).stdout == tools.img_cat(there, image_type="qcow2").stdout


def test_a_chain_inside_by_the_users_word(host, tmp_path):
    path, images = host
    name = f"{path}//{EXT4}/vm/top.qcow2"
    raw(tmp_path / "own.raw", 9)
    assert content(f"{name},backing=//{NTFS}/middle.qcow2") == images["top.qcow2"]
    assert content(f"{name},backing=//{NTFS}/middle.qcow2,backing={tmp_path}/own.raw") == (
        disk(7)[:4096] + disk(9)[4096:]
    )
    assert content(name, f"//{NTFS}/middle.qcow2", f"//{FAT}/vm/base.raw") == images["top.qcow2"]
    assert content(f"{name},backing=none")[4096:] == bytes(MIB - 4096)
    assert content(f"{name},search={tmp_path}") == images["top.qcow2"]
    refused(f"{name},backing=//{NTFS}/vm/middle.qcow2", 'no "vm" in the directory "/"')
    refused(f"{name},search=//{NTFS}/", "a directory of this machine", "backing=//START/PATH")


# ---- Every outer disk --------------------------------------------------------------------


def make_outer(kind, path, folder):
    """The same disk in another format; its name."""
    if kind == "raw":
        return str(path)
    if kind == "split":
        run("split", "-b", "30M", "-d", "-a", "3", path, f"{folder}/host.")
        os.rename(folder / "host.000", folder / "host.tmp")
        for number in (2, 1):
            os.rename(folder / f"host.{number:03}", folder / f"host.{number + 1:03}")
        os.rename(folder / "host.tmp", folder / "host.001")
        return f"{folder}/host.001"
    if kind == "ewf":
        with open(path, "rb") as source:
            run(
                *("ewfacquirestream", "-q", "-t", f"{folder}/host", "-f", "encase6"),
                *("-S", str(1 << 20)),
                stdin=source,
            )
        assert (folder / "host.E02").exists()
        return f"{folder}/host.E01"
    name = f"{folder}/host.{kind}"
    if kind == "luks":
        (folder / "key").write_bytes(b"secret")
        encrypted.qemu(
            *("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o"),
            "encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=100",
            *(path, name),
            secrets=[b"secret"],
        )
        return f"{name},key-file={folder}/key"
    driver = {"vhd": "vpc"}.get(kind, kind)
    options = {"vhd": "-o force_size=on", "qcow2": "-c"}.get(kind, "")
    run_line(f"qemu-img convert -f raw -O {driver} {options}", path, name)
    return name


@pytest.mark.parametrize("kind", ["raw", "split", "ewf", "vmdk", "vhd", "qcow2", "luks"])
def test_every_outer_disk(host, kind, tmp_path):
    if kind == "ewf" and shutil.which("ewfacquirestream") is None:
        pytest.skip("there is no ewfacquirestream")
    path, images = host
    outer = make_outer(kind, path, tmp_path)
    for start in (EXT4, NTFS):
        for name in ("plain.qcow2@first", "top.qcow2", "packed.qcow2"):
            assert content(f"{outer}//{start}{place(start)}{name}") == images[name], name
    number = inside.numbers(path, NTFS)["gone.qcow2"]
    assert content(f"{outer}//{NTFS}/#{number}") == images["gone.qcow2"]
    name = f"{outer}//{EXT4}/vm/plain.qcow2@first"
    listed = tools.run("fls", "-r", "-i", "qcow2", name)
    assert b"early.txt" in listed.stdout and listed.returncode == 0, listed.complaint


def test_a_snapshot_and_an_offset_outside(host, tmp_path):
    path, images = host
    outer = tmp_path / "host.qcow2"
    run_line("qemu-img convert -f raw -O qcow2", path, outer)
    run_line("qemu-img snapshot -c before", outer)
    run("qemu-io", "-f", "qcow2", "-c", f"write -P 0 {EXT4 * 512} 16M", outer)
    refused(f"{outer}//{EXT4}/vm/plain.qcow2", "no file system", f"sector {EXT4}")
    assert content(f"{outer}@before//{EXT4}/vm/plain.qcow2@first") == disk(2)
    moved = tmp_path / "moved.dd"
    moved.write_bytes(bytes(4096) + outer.read_bytes())
    assert content(f"{moved}@before,offset=4096//{EXT4}/vm/top.qcow2") == images["top.qcow2"]


def nested(folder, depth):
    """The name of an image that lies in this many disks, one in the other; all of ext4 without
    partitions, in turn raw and qcow2."""
    image(f"{folder}/0.qcow2", disk(1), [(b"1", b"first", disk(2))])
    name, mib = "/0.qcow2@first", 8
    for level in range(1, depth + 1):
        files = folder / f"files{level}"
        files.mkdir()
        last = "qcow2" if level == 1 or level % 2 == 0 else "raw"
        shutil.move(folder / f"{level - 1}.{last}", files)
        made = folder / f"{level}.raw"
        inside.ext4(made, files, 0, mib)
        if level % 2 == 1 and level < depth:
            run_line("qemu-img convert -f raw -O qcow2", made, folder / f"{level}.qcow2")
            made.unlink()
            name = f"/{level}.qcow2//0{name}"
        else:
            name = f"/{level}.raw//0{name}"
        mib += 8
    return f"{folder}{name}"


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_nested(depth, tmp_path):
    assert content(nested(tmp_path, depth)) == disk(2)


def test_five_deep_is_refused(tmp_path):
    refused(nested(tmp_path, 5), "inside more than 4 disks", "icat")


# ---- How files lie in file systems ---------------------------------------------------------


@pytest.mark.parametrize("blocks", [8, 2])
def test_fragments_and_holes(blocks, tmp_path):
    """A fragment is 8 or 2 blocks of 4 KiB. Of the latter there are 640, which are more than some
    versions of libtsk can list."""
    noise = pattern(1, 5 * MIB)
    image(tmp_path / "a.qcow2", noise, cluster_bits=16)
    with open(tmp_path / "holes.raw", "wb") as file:
        for at in (3 * MIB, 7 * MIB + 100):
            file.seek(at)
            file.write(pattern(at, 50_000))
        file.truncate(9 * MIB + 7)
    holes = (tmp_path / "holes.raw").read_bytes()
    overlay(tmp_path / "b.qcow2", "holes.raw", b"raw", mark=None)
    files = {name: tmp_path / name for name in ("a.qcow2", "b.qcow2", "holes.raw")}
    inside.ext4_fragmented(tmp_path / "host.raw", files, 0, 32, blocks)
    listed = run("debugfs", "-R", "ex a.qcow2", tmp_path / "host.raw").stdout
    assert len(listed.splitlines()) > 1100 // blocks
    assert content(f"{tmp_path}/host.raw//0/a.qcow2") == noise
    assert content(f"{tmp_path}/host.raw//0/b.qcow2,backing=//0/holes.raw") == holes[:MIB]
    big = Image(size=9 * MIB + 512, backing=b"holes.raw", backing_format=b"raw")
    big.write(tmp_path / "c.qcow2")
    with Named(f"{tmp_path}/c.qcow2,backing={tmp_path}/holes.raw") as extracted:
        wanted = extracted.read(0, extracted.size)
    inside.change_ext4(tmp_path / "host.raw", 0, [f"write {tmp_path}/c.qcow2 c.qcow2"])
    assert content(f"{tmp_path}/host.raw//0/c.qcow2") == wanted


def test_extents_that_were_never_written(tmp_path):
    """fallocate() leaves what was in the blocks; it reads as zeros."""
    host = tmp_path / "host.raw"
    host.write_bytes(b"\xee" * (16 * MIB))
    Path(tmp_path / "a.qcow2").write_bytes(b"")
    image(tmp_path / "top.qcow2", disk(1))
    inside.ext4(host, None, 0, 16)
    inside.change_ext4(
        host,
        0,
        [
            f"write {tmp_path}/a.qcow2 base.raw",
            "fallocate base.raw 0 255",
            f"sif base.raw size {MIB}",
        ],
    )
    overlay(tmp_path / "top.qcow2", "base.raw", b"raw", mark=None)
    inside.change_ext4(host, 0, [f"write {tmp_path}/top.qcow2 top.qcow2"])
    assert content(f"{host}//0/top.qcow2") == bytes(MIB)


def test_content_inside_an_inode(tmp_path):
    small = b"inside the inode".ljust(60, b".")
    (tmp_path / "base.raw").write_bytes(small)
    top = Image(size=512, cluster_bits=9, backing=b"base.raw", backing_format=b"raw")
    top.write(tmp_path / "top.qcow2")
    files = {name: tmp_path / name for name in ("base.raw", "top.qcow2")}
    folder = tmp_path / "files"
    folder.mkdir()
    for source in files.values():
        shutil.copy(source, folder)
    inside.ntfs(tmp_path / "ntfs.raw", files)
    assert content(f"{tmp_path}/ntfs.raw//0/top.qcow2") == small.ljust(512, b"\0")
    inside.ext4(tmp_path / "ext4.raw", folder, 0, 16, features="inline_data")
    assert content(f"{tmp_path}/ext4.raw//0/top.qcow2") == small.ljust(512, b"\0")


@pytest.fixture
def windows(tmp_path):
    """An NTFS file system with an image, and the number of its record."""
    image(tmp_path / "a.qcow2", disk(1))
    path = tmp_path / "ntfs.raw"
    inside.ntfs(path, {"a.qcow2": tmp_path / "a.qcow2"})
    return path, int(inside.numbers(path, 0)["a.qcow2"].split("-")[0])


def test_upper_and_lower_case_are_the_same_to_windows(windows):
    path, _ = windows
    assert content(f"{path}//0/A.QCOW2") == disk(1)


def test_compressed_by_ntfs(tmp_path):
    data = squeezable(1, MIB)
    image(tmp_path / "a.qcow2", data, cluster_bits=16)
    inside.ntfs(tmp_path / "h.raw", {"a.qcow2": tmp_path / "a.qcow2"}, options=["-C"])
    number = inside.numbers(tmp_path / "h.raw", 0)["a.qcow2"]
    told = tools.run("istat", tmp_path / "h.raw", number, dropin=False).stdout
    if b"Compressed" not in told:
        pytest.skip("this ntfscp does not compress")
    assert content(f"{tmp_path}/h.raw//0/a.qcow2") == data


def test_encrypted_by_ntfs_is_refused(windows):
    path, number = windows
    record = inside.Record(path, 0, number)
    record.change(record.attribute(0x80) + 12, "<H", 0x4000)
    refused(f"{path}//0/a.qcow2", "EFS", "a.qcow2")


def test_what_windows_keeps_elsewhere_is_refused(windows):
    """Compressed by "compact /exe", or deduplicated: the file itself is zeros then."""
    path, number = windows
    record = inside.Record(path, 0, number)
    record.change(record.attribute(0x50), "<I", 0xC0)
    refused(f"{path}//0/a.qcow2", "reparse point")


def test_a_lost_part_of_a_list_is_an_error(windows):
    """The first fragments of NTFS's list are missing: libtsk gives zeros."""
    path, number = windows
    record = inside.Record(path, 0, number)
    at = record.attribute(0x80)
    (first,) = struct.unpack_from("<Q", record.data, at + 16)
    assert first == 0
    (runs,) = struct.unpack_from("<H", record.data, at + 32)
    length = struct.unpack_from("<B", record.data, at + runs + 1)[0]
    assert length > 4
    record.change(at + 16, "<Q", 4)  # the first four clusters are elsewhere, and that is lost
    refused(f"{path}//0/a.qcow2", "a.qcow2")


# ---- What cannot be found ---------------------------------------------------------------------

NOT_FOUND = {
    f"//{EXT4}/vm/none/a.qcow2": ('no "none" in the directory "/vm"',),
    f"//{EXT4}/none": ('no "none" in the directory "/"',),
    f"//{EXT4}/vm": ("it is a directory",),
    f"//{EXT4}/vm/": ("it is a directory",),
    f"//{EXT4}/vm/plain.qcow2/x": ("it is not a directory",),
    f"//{EXT4}/vm/../vm/plain.qcow2": ('".."',),
    f"//{EXT4}/vm/gone.qcow2": ("was deleted", "/#"),
    f"//{EXT4}/#2": ("it is a directory",),
    f"//{EXT4}/#99999999": ("no inode 99999999",),
    f"//{EXT4}/#abc": ("as fls prints it",),
    f"//{EXT4}/#": ("as fls prints it",),
    f"//{NTFS}/#64-128-1-2": ("as fls prints it",),
    f"//{NTFS}/#64-": ("as fls prints it",),
    "//63/vm/plain.qcow2": ("no file system", "sector 63", "2048", str(NTFS), str(FAT)),
    "//0/vm/plain.qcow2": ("no file system", "sector 0", "2048"),
    "//99999999/vm/plain.qcow2": ("after the end",),
    "//999999999999999/x": ("after the end",),
    "//9999999999999999/x": ("START",),
    "//-1/x": ("START",),
    "//0x800/x": ("START",),
    "//2048": ("START/PATH",),
    "//2048/": ("START/PATH",),
    "//": ("START/PATH",),
    "///2048/x": ("START/PATH",),
    f"@first//{EXT4}/vm/plain.qcow2": ("not a qcow2 image", "right after it"),
    f",errors=zero//{EXT4}/vm/plain.qcow2": ("not a qcow2 image", "right after it"),
    f"//{EXT4}/vm/base.raw": ("not a qcow2 image", "icat"),
    f"//{EXT4}/vm/plain.qcow2@none": ("no such snapshot",),
    f"//{EXT4}/vm/plain.qcow2//0/x": ('no "x" in the directory "/"',),
    f"//{EXT4}/vm/plain.qcow2@first@x": ("no such snapshot",),
}


@pytest.mark.parametrize("rest", NOT_FOUND)
def test_what_is_not_there(host, rest):
    refused(f"{host[0]}{rest}", *NOT_FOUND[rest])


def test_a_file_whose_name_has_two_slashes(tmp_path, monkeypatch):
    """The longest prefix that names a file comes first, as ever."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    image("a/b.qcow2", disk(1), [(b"1", b"first", disk(2))])
    assert content("a//b.qcow2") == content(f"{tmp_path}//a//b.qcow2") == disk(1)
    assert content("a//b.qcow2@first") == disk(2)
    refused("a//c.qcow2", "there is no file")


def test_a_packed_or_unreadable_outer_disk_is_named(host, tmp_path):
    packed = tmp_path / "host.raw.xz"
    packed.write_bytes(b"\xfd7zXZ\0" + bytes(5000))
    refused(f"{packed}//2048/x", "compressed by xz", "unpack it first")
    false = tmp_path / "host.dd"
    false.write_bytes(b"KDMV" + bytes(5000))
    refused(f"{false}//2048/x", "VMDK", "raw")
    empty = tmp_path / "host.qcow2"
    empty.write_bytes(bytes(5000))
    refused(f"{empty}//2048/x", "qcow2")


# ---- Damage around the image -------------------------------------------------------------------


@pytest.fixture
def noisy(tmp_path):
    """(path, content): a disk with an image of noise, of which the middle is far from anything
    else."""
    noise = pattern(1, 4 * MIB)
    (tmp_path / "files").mkdir()
    image(tmp_path / "files/noise.qcow2", noise, cluster_bits=16)
    path = tmp_path / "noisy.raw"
    inside.ext4(path, tmp_path / "files", 0, 16)
    return path, noise


def damaged_outer(path, bad):
    """The disk as qcow2, where the entry of the cluster that has byte `bad` is invalid."""
    data = path.read_bytes()
    made = Image(size=len(data), cluster_bits=16)
    for index in range(len(data) >> 16):
        cluster = data[index << 16 : (index + 1) << 16]
        if cluster.strip(b"\0"):
            made.disk.normal(index, cluster)
    built = bytearray(made.build())
    at = made.disk.entry_offset(bad >> 16)
    (entry,) = struct.unpack_from(">Q", built, at)
    struct.pack_into(">Q", built, at, entry + 512)
    outer = path.parent / "bad.qcow2"
    outer.write_bytes(built)
    return outer


def test_damage_around_the_image_is_an_error(noisy):
    path, noise = noisy
    middle = path.read_bytes().index(noise[2 * MIB : 2 * MIB + 512])
    outer = damaged_outer(path, middle)
    with Named(f"{outer}//0/noise.qcow2") as named:
        assert named.read(0, MIB) == noise[:MIB]
        with pytest.raises(QcowError, match="of the disk around it"):
            named.read(2 * MIB, 4096)
        assert any("of the disk around it" in sentence for sentence in named.told)
        assert named.read(3 * MIB, MIB) == noise[3 * MIB :]
    with Named(f"{outer},errors=zero//0/noise.qcow2") as named:
        assert named.read(2 * MIB, 512) == bytes(512)
        assert any("of the disk around it" in sentence for sentence in named.told)
    with Named(f"{outer}//0/noise.qcow2,errors=zero") as named:
        assert named.read(2 * MIB, 512) == bytes(512)
        assert named.told
    assert run(COMMAND, "verify", f"{outer}//0/noise.qcow2", check=False).returncode == 4


def test_a_damaged_file_system_is_an_error(noisy):
    """Not what libtsk makes of a read that failed."""
    path, _ = noisy
    outer = damaged_outer(path, 0)
    for name in ("/noise.qcow2", "/#12"):
        refused(f"{outer}//0{name}", "bad.qcow2")


def test_a_cut_outer_disk(host, tmp_path):
    path, images = host
    cut = tmp_path / "cut.raw"
    cut.write_bytes(path.read_bytes()[: (EXT4 + 2048) * 512])
    for name in ("plain.qcow2", "packed.qcow2", "top.qcow2"):
        try:
            assert content(f"{cut}//{EXT4}/vm/{name}") == images[name]
        except QcowError as error:
            assert re.search("ends at byte|cut off|truncated", str(error)), error
    (tmp_path / "all.raw").write_bytes(path.read_bytes()[: (FAT + 1000) * 512])
    name = f"{tmp_path}/all.raw//{EXT4}/vm/top.qcow2"
    assert warnings(name) == [] and content(name) == images["top.qcow2"]
    cut.write_bytes(path.read_bytes()[: (EXT4 + 15 * 2048) * 512])
    told = warnings(f"{cut}//{EXT4}/vm/top.qcow2")
    assert any("disk around it is truncated" in text for text in told)


# ---- The rest --------------------------------------------------------------------------


def test_many_threads(host):
    """Compressed clusters are decoded ahead by threads, also inside a raw disk."""
    path, images = host
    wrong = []
    name = f"{path}//{NTFS}/packed.qcow2"
    with Named(name) as named:

        def reader(seed):
            for step in range(200):
                at = (seed * 7919 + step * 4099) % (MIB - 5000)
                if named.read(at, 5000) != images["packed.qcow2"][at : at + 5000]:
                    wrong.append(at)

        threads = [threading.Thread(target=reader, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_info_names_what_was_opened(host):
    path, _ = host
    name = f"{path}//{EXT4}/vm/top.qcow2"
    told = run(COMMAND, "info", "--chain", name).stdout
    for file in ("top.qcow2", "middle.qcow2", "base.raw"):
        assert f"{path}//{EXT4}/vm/{file}" in told
    assert run(COMMAND, "verify", name).returncode == 0


@pytest.mark.unsanitized("a Python that is started with a clean environment loads the library")
def test_without_libtsk_it_is_refused_by_name(host):
    path, _ = host
    name = f"{path}//{EXT4}/vm/plain.qcow2"
    result = without_libtsk(f"{COMMAND} info '{name}' || echo status $?; in_python '{name}' || :")
    assert result.stdout == "status 1\n", result.stdout
    for words in ("by libtsk, which cannot be loaded", "img_cat"):
        assert result.stderr.count(words) == 2, result.stderr


PAIRS = {
    "tsk_qcow2_img": ("TSK_IMG_INFO", {"tag": "tag", "type": "itype", "size": "size"}),
    "tsk_qcow2_vs": (
        "TSK_VS_INFO",
        {"tag": "tag", "type": "vstype", "offset": "offset", "block_bytes": "block_size"},
    ),
    "tsk_qcow2_part": (
        "TSK_VS_PART_INFO",
        {"tag": "tag", "start": "start", "length": "len", "description": "desc", "flags": "flags"},
    ),
    "tsk_qcow2_fs": (
        "TSK_FS_INFO",
        {
            "tag": "tag",
            "offset": "offset",
            "root_inode": "root_inum",
            "last_block": "last_block",
            "block_bytes": "block_size",
            "bytes_before_block": "block_pre_size",
            "bytes_after_block": "block_post_size",
            "type": "ftype",
        },
    ),
    "tsk_qcow2_fs_name": (
        "TSK_FS_NAME",
        {"tag": "tag", "name": "name", "inode": "meta_addr", "type": "type", "flags": "flags"},
    ),
    "tsk_qcow2_fs_meta": (
        "TSK_FS_META",
        {"tag": "tag", "flags": "flags", "inode": "addr", "type": "type", "size": "size"},
    ),
    "tsk_qcow2_fs_file": (
        "TSK_FS_FILE",
        {"tag": "tag", "name": "name", "meta": "meta", "fs": "fs_info"},
    ),
    "tsk_qcow2_fs_run": (
        "TSK_FS_ATTR_RUN",
        {"next": "next", "offset": "offset", "address": "addr", "length": "len", "flags": "flags"},
    ),
    "tsk_qcow2_fs_attr": (
        "TSK_FS_ATTR",
        {
            "flags": "flags",
            "type": "type",
            "id": "id",
            "size": "size",
            "runs": "nrd.run",
            "skipped_bytes": "nrd.skiplen",
            "initialized_bytes": "nrd.initsize",
        },
    ),
}
VALUES = {
    "LIBTSK_VS_TAG": "TSK_VS_INFO_TAG",
    "LIBTSK_PART_TAG": "TSK_VS_PART_INFO_TAG",
    "LIBTSK_PART_ALLOCATED": "TSK_VS_PART_FLAG_ALLOC",
    "LIBTSK_FS_TAG": "TSK_FS_INFO_TAG",
    "LIBTSK_FS_NTFS": "TSK_FS_TYPE_NTFS_DETECT",
    "LIBTSK_FS_FAT": "TSK_FS_TYPE_FAT_DETECT",
    "LIBTSK_FS_EXT": "TSK_FS_TYPE_EXT_DETECT",
    "LIBTSK_FS_HFS": "TSK_FS_TYPE_HFS_DETECT",
    "LIBTSK_NAME_TAG": "TSK_FS_NAME_TAG",
    "LIBTSK_NAME_ALLOCATED": "TSK_FS_NAME_FLAG_ALLOC",
    "LIBTSK_META_TAG": "TSK_FS_META_TAG",
    "LIBTSK_META_DELETED": "TSK_FS_META_FLAG_UNALLOC",
    "LIBTSK_META_REGULAR": "TSK_FS_META_TYPE_REG",
    "LIBTSK_META_DIRECTORY": "TSK_FS_META_TYPE_DIR",
    "LIBTSK_META_CHARACTER_DEVICE": "TSK_FS_META_TYPE_CHR",
    "LIBTSK_META_BLOCK_DEVICE": "TSK_FS_META_TYPE_BLK",
    "LIBTSK_META_LINK": "TSK_FS_META_TYPE_LNK",
    "LIBTSK_META_VIRTUAL_DIRECTORY": "TSK_FS_META_TYPE_VIRT_DIR",
    "LIBTSK_FILE_TAG": "TSK_FS_FILE_TAG",
    "LIBTSK_RUN_FILLER": "TSK_FS_ATTR_RUN_FLAG_FILLER",
    "LIBTSK_RUN_SPARSE": "TSK_FS_ATTR_RUN_FLAG_SPARSE",
    "LIBTSK_RUN_ENCRYPTED": "TSK_FS_ATTR_RUN_FLAG_ENCRYPTED",
    "LIBTSK_ATTR_IN_BLOCKS": "TSK_FS_ATTR_NONRES",
    "LIBTSK_ATTR_ENCRYPTED": "TSK_FS_ATTR_ENC",
    "LIBTSK_ATTR_COMPRESSED": "TSK_FS_ATTR_COMP",
    "LIBTSK_ATTR_REPARSE_POINT": "TSK_FS_ATTR_TYPE_NTFS_REPARSE",
    "LIBTSK_ATTR_DATA": "TSK_FS_ATTR_TYPE_NTFS_DATA",
}


def test_libtsks_structures_are_as_we_know_them(tmp_path):
    lines = [
        f"CHECK(offsetof(struct {ours}, {a}) == offsetof({theirs}, {b}));\n"
        for ours, (theirs, fields) in PAIRS.items()
        for a, b in fields.items()
    ]
    lines += [f"CHECK({ours} == (int) {theirs});\n" for ours, theirs in VALUES.items()]
    header = Path(SOURCE, "tsk_qcow2/names/libtsk.h").read_text()
    assert set(re.findall(r"^struct (\w+) \{", header, re.M)) == {*PAIRS, "tsk_qcow2_libtsk"}
    source = tmp_path / "layout.c"
    source.write_text(
        "#include <stddef.h>\n#include <tsk/libtsk.h>\n"
        f'#include "{SOURCE}/tsk_qcow2/names/libtsk.h"\n'
        "#define CHECK(condition) _Static_assert(condition, #condition)\n" + "".join(lines)
    )
    run("gcc", "-fsyntax-only", source)


# ---- Lists of fragments, by the C interface --------------------------------------------------

ZERO, LOST = (1 << 64) - 1, (1 << 64) - 2


def in_fragments(outer, pieces):
    """A storage of fragments: (length, offset in `outer`)."""
    made, storage = ctypes.c_void_p(), Storage()
    functions = library()
    assert functions.qcow2_fragments_new(byref(outer.struct), byref(made), None) == 0
    for length, offset in pieces:
        code = functions.qcow2_fragments_add(
            made, ctypes.c_uint64(length), ctypes.c_uint64(offset), None
        )
        if code != 0:
            functions.qcow2_fragments_free(made)
            return code
    functions.qcow2_fragments_finish(made, byref(storage))
    return storage


def read_storage(storage, offset, length):
    """The bytes, or an errno value."""
    buffer = ctypes.create_string_buffer(length)
    code = storage.read(storage.context, offset, ctypes.addressof(buffer), length)
    return code if code else buffer.raw


def test_fragments_in_any_order():
    """Each byte comes from its fragment, however a read lies over them."""
    data = pattern(1, 5000)
    outer = PythonStorage(data)
    pieces = [(7, 4000), (100, 0), (1, 100), (13, ZERO), (500, 3000), (2, 2), (40, ZERO), (9, 1)]
    whole = b"".join(
        bytes(length) if at == ZERO else data[at : at + length] for length, at in pieces
    )
    storage = in_fragments(outer, pieces)
    assert storage.size == len(whole)
    for start in range(0, len(whole), 3):
        for length in (1, 2, 50, len(whole)):
            wanted = whole[start : start + length]
            assert read_storage(storage, start, len(wanted)) == wanted
    storage.close(storage.context)
    assert not outer.outside and outer.closed == 0


def test_lost_and_missing_fragments_fail():
    outer = PythonStorage(pattern(1, 1000))
    storage = in_fragments(outer, [(100, 0), (100, LOST), (100, ZERO), (100, 950), (100, 5000)])
    assert read_storage(storage, 0, 100) == pattern(1, 1000)[:100]
    assert read_storage(storage, 200, 100) == bytes(100)
    for start, length in ((100, 1), (199, 1), (99, 2), (300, 100), (400, 1), (0, 500)):
        assert read_storage(storage, start, length) == errno.EIO, start
    assert read_storage(storage, 300, 50) == pattern(1, 1000)[950:]
    assert not outer.outside
    storage.close(storage.context)


def test_impossible_fragments_are_refused():
    outer = PythonStorage(bytes(1000))
    for piece in ((1 << 63, 0), (1, 1 << 63), (1 << 62, 1 << 63), (1 << 64 - 1, ZERO)):
        assert in_fragments(outer, [(10, 0), piece]) == -3, piece
