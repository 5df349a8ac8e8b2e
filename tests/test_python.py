# SPDX-License-Identifier: MIT
"""The Python module: a reader of images by their names, and an Img_Info for pytsk3."""
import hashlib
import io
import os
import shutil
import struct

import pytest
import qcow2core
from lib.disks import make_with_snapshot
from lib.project import BUILD, run, run_line


@pytest.fixture(scope="module", autouse=True)
def library():
    os.environ["QCOW2CORE_LIBRARY"] = os.path.join(BUILD, "core/.libs/libqcow2core.so")


@pytest.fixture(scope="module")
def tsk_or_none():
    try:
        import qcow2core.tsk
    except ImportError:
        return None
    return qcow2core.tsk


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    return make_with_snapshot(tmp_path_factory.mktemp("python"))


# ---- The reader ------------------------------------------------------------------


def test_reads_as_a_file(disk):
    image, now, then = disk
    for name, raw in ((image, now), (f"{image}@first", then)):
        expected = raw.read_bytes()
        with qcow2core.open(name) as opened:
            assert opened.size == len(expected)
            assert opened.read(1080) == expected[:1080] and opened.tell() == 1080
            assert opened.seek(-5, io.SEEK_END) == len(expected) - 5
            assert opened.read(512) == expected[-5:] and opened.read(1) == b""
            assert opened.seek(1 << 40) == 1 << 40 and opened.read(4) == b""
            opened.seek(777)
            opened.seek(3, io.SEEK_CUR)
            buffer = bytearray(4096)
            assert opened.readinto(buffer) == 4096 and buffer == expected[780 : 780 + 4096]
            assert (
                opened.read_at(4096, 8192) == expected[4096:12288] and opened.tell() == 780 + 4096
            )
            opened.seek(0)
            assert opened.read() == expected


def test_serves_what_takes_files(disk, tmp_path):
    image, now, _ = disk
    with qcow2core.open(image) as opened, open(tmp_path / "copy", "wb") as copy:
        shutil.copyfileobj(io.BufferedReader(opened, 3000), copy, 10_007)
    assert (tmp_path / "copy").read_bytes() == now.read_bytes()


def test_snapshots_and_info(disk, tmp_path):
    image, now, _ = disk
    overlay = tmp_path / "overlay.qcow2"
    run_line(
        "qemu-img create -q -f qcow2 -o compression_type=zstd,cluster_size=4k -b",
        image,
        "-F",
        "qcow2",
        overlay,
    )
    with qcow2core.open(image) as opened:
        (snapshot,) = opened.snapshots
        assert (snapshot.id, snapshot.name, snapshot.disk_size, snapshot.vm_state_size) == (
            "1",
            "first",
            8 << 20,
            0,
        )
        assert abs(snapshot.date / 1e9 - image.stat().st_mtime) < 3600
        assert opened.warnings == []
    with qcow2core.open(f"{overlay},backing={image}") as opened:
        info = opened.info
        assert hashlib.sha256(opened.read()).digest() == hashlib.sha256(now.read_bytes()).digest()
    assert (info["version"], info["virtual_size"], info["cluster_size"]) == (3, 8 << 20, 4096)
    assert (info["compression"], info["encryption"], info["data_file"]) == ("zstd", None, None)
    assert (info["backing_file"], info["backing_format"]) == (str(image), "qcow2")
    assert [(layer["path"], layer["format"]) for layer in info["layers"]] == [
        (str(overlay), "qcow2"),
        (str(image), "qcow2"),
    ]


def test_further_names_are_the_chain(disk, tmp_path):
    image, now, _ = disk
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -u -b /gone -F qcow2", overlay, "8M")
    with pytest.raises(qcow2core.Error) as caught:
        qcow2core.open(overlay)
    assert caught.value.code == "DENIED" and "backing=" in str(caught.value)
    with qcow2core.open(overlay, image) as opened:
        assert opened.read(1 << 20) == now.read_bytes()[: 1 << 20]


def test_errors_say_what_and_where(disk):
    image, _, _ = disk
    with pytest.raises(qcow2core.Error, match='no such snapshot.*"first"') as caught:
        qcow2core.open(f"{image}@second")
    assert (caught.value.code, caught.value.guest_offset, caught.value.host_offset) == (
        "NOT_FOUND",
        None,
        None,
    )
    assert isinstance(caught.value, OSError)
    opened = qcow2core.open(image)
    for offset, length in ((-1, 1), (0, -1)):
        with pytest.raises(ValueError):
            opened.read_at(offset, length)
    opened.close()
    opened.close()
    for use in (
        opened.read,
        opened.tell,
        lambda: opened.read_at(0, 0),
        lambda: opened.snapshots,
        lambda: opened.info,
    ):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_name_with_a_nul_is_refused(disk, tsk_or_none):
    """C would read it up to there: another image, or another state of it."""
    image, _, _ = disk
    uses = [
        lambda name: qcow2core.open(name),
        qcow2core.probe,
        lambda name: qcow2core.open(image, name),
    ]
    uses += [tsk_or_none.ImgInfo] if tsk_or_none else []
    for name in (f"{image}\0@first", f"{image}@first\0", "\0", os.fsencode(image) + b"\0"):
        for use in uses:
            with pytest.raises(ValueError, match="embedded null byte"):
                use(name)


def test_so_do_the_wrappers_that_the_tests_use(core, disk):
    with core.Image(disk[0]) as opened:
        uses = [
            core.probe,
            core.Image,
            opened.find,
            lambda name: core.Image(disk[0], backing=[name]),
            lambda name: core.Image(disk[0], search=[name]),
            lambda name: core.Image(disk[0], data_file=name),
        ]
        for use in uses:
            with pytest.raises(ValueError, match="embedded null byte"):
                use("first\0")


def test_seek_wants_what_a_file_wants(disk):
    with qcow2core.open(disk[0]) as opened:
        opened.seek(100)
        for arguments, kind in (
            ((0, 3), ValueError),
            ((0, -1), ValueError),
            ((-1,), ValueError),
            ((-101, 1), ValueError),
            ((1.5,), TypeError),
            (("1",), TypeError),
            ((None,), TypeError),
        ):
            with pytest.raises(kind):
                opened.seek(*arguments)
        assert opened.tell() == 100
        for offset, length in ((0, 1.5), (1.5, 0), (0, None)):
            with pytest.raises(TypeError):
                opened.read_at(offset, length)


def test_probe(disk):
    image, now, _ = disk
    assert qcow2core.probe(image) and qcow2core.probe(f"{image}@first") and not qcow2core.probe(now)


def test_damage_is_told(disk, tmp_path):
    """The first cluster's entry points past the end of the file, and the image was not closed
    properly."""
    damaged = tmp_path / "damaged.qcow2"
    data = bytearray(disk[0].read_bytes())
    (l1_offset,) = struct.unpack_from(">Q", data, 40)
    l2_offset = struct.unpack_from(">Q", data, l1_offset)[0] & 0x00FFFFFFFFFFFE00
    struct.pack_into(">Q", data, l2_offset, 1 << 63 | 1 << 40)
    struct.pack_into(">Q", data, 72, 1)  # incompatible features: dirty
    damaged.write_bytes(data)
    told = []
    with qcow2core.open(damaged, on_damage=told.append) as opened:
        with pytest.raises(qcow2core.Error) as caught:
            opened.read_at(0, 1 << 17)
        assert (caught.value.code, caught.value.guest_offset, caught.value.host_offset) == (
            "TRUNCATED",
            0,
            1 << 40,
        )
        assert len(told) == 1 and len(opened.warnings) == 1 and "dirty" in opened.warnings[0]
    assert len(told) == 2 and "1 damaged range" in told[1]
    with qcow2core.open(f"{damaged},errors=zero") as opened:
        assert (
            opened.read_at(0, 1 << 17) == bytes(1 << 16) + disk[1].read_bytes()[1 << 16 : 1 << 17]
        )


# ---- pytsk3 ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def tsk():
    pytest.importorskip("pytsk3", reason="pytsk3 is not installed (Debian: python3-tsk)")
    import qcow2core.tsk

    return qcow2core.tsk


def read_files(tsk, name):
    """{file name: content} of the root directory's .txt files."""
    import pytsk3

    image = tsk.ImgInfo(name)
    filesystem = pytsk3.FS_Info(image)  # pytsk3 needs it kept as long as what is made of it
    found = {}
    for entry in filesystem.open_dir("/"):
        if entry.info.name.name.endswith(b".txt"):
            found[entry.info.name.name.decode()] = entry.read_random(0, entry.info.meta.size)
    image.close()
    return found


def test_pytsk3_lists_and_reads_files_of_a_snapshot(tsk, disk):
    image, _, _ = disk
    assert read_files(tsk, str(image)) == {"early.txt": b"early\n", "late.txt": b"late\n"}
    assert read_files(tsk, f"{image}@first") == {"early.txt": b"early\n"}


def test_pytsk3_gives_the_disk_to_its_end(tsk, disk):
    image, now, _ = disk
    opened = tsk.ImgInfo(image)
    assert opened.get_size() == 8 << 20
    assert opened.read((8 << 20) - 3, 100) == now.read_bytes()[-3:]
    with pytest.raises(qcow2core.Error, match="no such snapshot"):
        tsk.ImgInfo(f"{image}@second")
    opened.close()


# ---- As a user has it ------------------------------------------------------------


def test_installed_module_runs_its_own_example(command, disk, tmp_path):
    """The examples at the head of the modules, with `command`'s prefix for a system."""
    prefix = command.parents[1]
    (folder,) = prefix.glob("lib/python3*/*/qcow2core")
    shutil.copyfile(disk[0], tmp_path / "disk.qcow2")
    text = (folder / "__init__.py").read_text().split('"""')[1]
    example = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    ")).replace(
        "before-update", "first"
    )
    environment = {
        "PYTHONPATH": str(folder.parent),
        "LD_LIBRARY_PATH": str(prefix / "lib"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    result = run(
        "/usr/bin/python3", "-c", example + "\nprint(len(sector))", cwd=tmp_path, env=environment
    )
    assert result.stdout == f"{8 << 20} ['first']\n512\n"
