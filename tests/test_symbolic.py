# SPDX-License-Identifier: MIT
"""A libtsk that is linked with -Bsymbolic-functions, as Ubuntu's is: its calls of its own functions
tsk_img_open() and tsk_img_read() do not reach the drop-in. Images are read right all the same, or
programs are refused; and what libtsk hides of read errors is zeros, and reported."""
import os
import re
import shutil
import sqlite3
import struct
from pathlib import Path

import pytest
from lib import project, tools
from lib.builder import Image, pattern, poke
from lib.namespace import CLEAN
from lib.project import COMMAND, SOURCE, run
from lib.tools import DROPIN

pytestmark = pytest.mark.skipif(bool(tools.NATIVE), reason="these tools need no drop-in")
C = 4096
SONAME = next(DROPIN.glob("libtsk.so.*")).name
REAL = re.search(r"NEEDED.*\[(/.*)\]", run("readelf", "-d", DROPIN / SONAME).stdout)[1]
SYMBOLIC = ["-O1", "-fPIC", "-shared", "-Wl,-Bsymbolic-functions", f"-Wl,-soname,{SONAME}"]


def with_library(library):
    """The words before a command that is to find `library` where the drop-in's libtsk is."""
    script = f'/bin/mount --bind "{library}" "{os.path.realpath(REAL)}"; exec "$@"'
    for flags in ("-rm", "-m"):  # in a chroot root needs no user namespace, and gets none
        words = ["/usr/bin/unshare", flags, "/bin/sh", "-c"]
        probe = run(*words, "true", check=False)
        if probe.returncode == 0:
            return [*words, script, "sh"]
    pytest.skip("mount namespaces are not allowed here: " + probe.stderr)


# ---- A small library and program of our own --------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The folder with them: tests/symbolic/."""
    folder = tmp_path_factory.mktemp("own")
    sources = Path(SOURCE, "tests", "symbolic")
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-overloaded-virtual"]  # as libtsk's classes are
    library, later = folder / "lib" / SONAME, folder / "lib" / "libtsk.so.99"
    library.parent.mkdir()
    run("g++", *warnings, *SYMBOLIC, sources / "library.cpp", "-o", library)
    run("g++", *SYMBOLIC[:-1], "-Wl,-soname,libtsk.so.99", sources / "library.cpp", "-o", later)
    for name, flags in {
        "program": [library],
        "future": ["-DFUTURE", library],
        "rpath": ["-Wl,--disable-new-dtags,-rpath,$ORIGIN/lib", library],
        "runpath": ["-Wl,--enable-new-dtags,-rpath,$ORIGIN/lib", library],
        "other": [later],
        "static": [sources / "library.cpp"],
    }.items():
        run("g++", *warnings, "-O1", sources / "program.cpp", "-o", folder / name, *flags)
    return folder


@pytest.fixture(scope="module")
def with_own(own):
    return with_library(own / "lib" / SONAME)


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A qcow2 with four clusters of data."""
    image = Image(8 * C, cluster_bits=12)
    for i in range(4):
        image.disk.normal(i, pattern(i, C))
    path = tmp_path_factory.mktemp("image") / "disk.qcow2"
    image.write(path)
    return path


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """The same, but the third cluster's entry is damaged."""
    image = Image(8 * C, cluster_bits=12)
    for i in range(4):
        image.disk.normal(i, pattern(i, C))
    data = image.build()
    poke(data, image.disk.entry_offset(2), "Q", 1536)
    path = tmp_path_factory.mktemp("damaged") / "disk.qcow2"
    image.write(path, data)
    return path


@pytest.fixture
def ask(own, with_own):
    """ask(way, image, offset, length): what the program got, with the drop-in or without."""

    def call(way, image, *piece, dropin=True, program="program"):
        environment = dict(CLEAN, LD_LIBRARY_PATH=str(DROPIN if dropin else own / "lib"))
        if project.SANITIZERS:
            environment.update(project.sanitized(), LD_PRELOAD=project.PRELOAD)
        command = [*with_own, own / program, way, image, *piece]
        return run(*command, env=environment, check=False)

    return call


WAYS = ["open", "open-utf8", "virtual", "db-open", "db-open-utf8", "db-virtual", "add", "case-add"]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_open_gets_qcow2(way, ask, image):
    """And without the drop-in, or for another image, what it was."""
    plain = ask(way, image, 4096, 8, dropin=False)
    raw = image.with_name("disk.raw")
    raw.write_bytes(pattern("raw", 8 * C))
    assert plain.returncode == 0, plain.stderr
    assert f"type 1, {image.stat().st_size} bytes" in plain.stdout
    assert ask(way, raw, 4096, 8).stdout == ask(way, raw, 4096, 8, dropin=False).stdout

    result = ask(way, image, 4096, 8)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"type 800, {8 * C} bytes" in result.stdout
    if way != "case-add":
        assert "read 8: " + pattern(1, C)[:8].hex(" ") in result.stdout
    assert set(re.findall("^(?:closed|left open): (.*)", result.stdout, re.M)) == {"0"}
    assert set(re.findall("^open: (.*)", result.stdout, re.M)) <= {"1"}  # no matter how often
    assert result.stdout.count("added: ") == plain.stdout.count("added: ")


@pytest.mark.parametrize("way", WAYS)
def test_what_cannot_be_opened_is_never_raw(way, ask, image):
    result = ask(way, f"{image}@no-such-snapshot")
    assert result.returncode == 1 and "type" not in result.stdout
    if way in ("add", "case-add"):  # these register the error, and have it printed
        assert "no such snapshot" in result.stderr and "(TskAutoDb::startAddImage)" in result.stderr


def test_hidden_errors_are_zeros_and_reported(ask, damaged):
    """The library turns the error of this read into success, with what its own buffer holds."""
    result = ask("open", damaged, 2 * C - 4, 9)
    assert "read 9: " + (pattern(1, C)[-4:] + bytes(5)).hex(" ") in result.stdout
    assert f"guest bytes {2 * C} to {3 * C - 1}" in result.stderr
    count = result.stderr.splitlines()[-1]
    assert "1 damaged range (" in count and "passed zeros on" in count


def test_errors_that_are_not_hidden_stay_errors(ask, damaged):
    result = ask("open", damaged, 2 * C, 512)
    assert "read -1:" in result.stdout and f"guest bytes {2 * C} to" in result.stderr


# ---- What tsk-qcow2 says of programs ---------------------------------------------

REFUSED = {
    "future": "opens images by _ZN9TskFuture7examineEiPKPKc17TSK_IMG_TYPE_ENUMj",
    "rpath": f"finds OWN/lib/{SONAME} by its own run path",
    "other": "needs libtsk.so.99, and the plugin was built for",
    "static": "contains a libtsk of its own",
}


@pytest.mark.parametrize("name", REFUSED)
def test_run_refuses_what_would_see_raw(name, command, own, with_own, image):
    words = [command, "run", own / name, "open", image]
    result = run(*with_own, *words, env=CLEAN, check=False)
    assert result.returncode == 1 and result.stdout == ""
    reason = REFUSED[name].replace("OWN", str(own))
    assert f"{own / name} {reason}" in result.stderr
    assert result.stderr.rstrip().endswith("tsk-qcow2 run img_cat disk.qcow2 >disk.raw")


@pytest.mark.parametrize("name", ["program", "runpath"])
def test_run_runs_the_others(name, command, own, with_own, image):
    result = run(*with_own, command, "run", own / name, "open", image, env=CLEAN)
    assert "type 800" in result.stdout


def test_run_finds_programs_as_a_shell_does(command, own, with_own, image):
    environment = dict(CLEAN, PATH=f"{own}:{CLEAN['PATH']}")
    words = [command, "run", "static", "open", image]
    result = run(*with_own, *words, env=environment, check=False)
    assert result.returncode == 1 and f"{own}/static contains" in result.stderr
    result = run(command, "run", "./static", "open", image, env=CLEAN, check=False, cwd=own)
    assert result.returncode == 1 and "./static contains" in result.stderr


def test_future_does_see_raw(ask, image):
    """Which is why it is refused."""
    assert ask("examine", image, program="future").stdout == "type 1\n"


def status(command, folder, *prefix):
    return run(*prefix, command, "status", env=dict(CLEAN, PATH=str(folder)), check=False).stdout


def test_status_names_the_programs_that_see_raw(command, own, with_own, tmp_path):
    result = status(command, own, *with_own)
    assert "Calls inside libtsk: do not reach the plugin" in result
    named = dict(re.findall(r"(/\S+) (opens|finds|needs|contains)", result))
    raw = {"future": "opens", "rpath": "finds", "other": "needs", "static": "contains"}
    assert named == {str(own / name): why for name, why in raw.items()}
    assert "Understand qcow2:    2 programs in PATH" in result  # program, runpath
    assert "Read it as raw:      none in PATH\nUnderstand qcow2:    0 " in status(command, tmp_path)


def test_status_of_debians_libtsk(command):
    result = run(command, "status", env=CLEAN, check=False).stdout
    assert "Calls inside libtsk: reach the plugin" in result
    assert re.findall(r"(/\S+) contains", result) == ["/usr/bin/pstat"]
    assert int(re.search(r"Understand qcow2: +(\d+) programs", result)[1]) > 20


def test_enabled_a_run_path_wins(command, own):
    """The loader looks there before it looks where it is configured."""
    from lib.namespace import in_namespace

    result = in_namespace(f"{command} enable; PATH={own} {command} status")
    assert re.search(rf"{own}/runpath finds {own}/lib/{SONAME}", result.stdout), result.stdout


def test_damaged_programs_are_looked_at_safely(own, tmp_path, rng):
    """status reads the files of all programs in PATH."""
    whole = (own / "program").read_bytes()
    header = 64
    sections = int.from_bytes(whole[40:48], "little")
    for i in range(300):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            start, end = rng.choice([(0, header), (sections, len(whole)), (0, len(whole))])
            at = rng.randrange(start, end)
            data[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        if i % 3 == 0:
            del data[rng.randrange(len(data)) :]
        (tmp_path / f"p{i}").write_bytes(data)
        (tmp_path / f"p{i}").chmod(0o755)
    result = run(COMMAND, "status", env=dict(CLEAN, PATH=str(tmp_path)), check=False)
    assert result.returncode in (0, 3), result.stderr  # enabled here, or not
    assert int(re.search(r"Understand qcow2: +(\d+)", result.stdout)[1]) < 300


# ---- The distribution's own libtsk, linked so ------------------------------------


@pytest.fixture(scope="session")
def symbolic(tmp_path_factory):
    """The words before a tool that loads it."""
    library = tmp_path_factory.mktemp("symbolic") / SONAME
    archive = Path(run("pkg-config", "--variable=libdir", "tsk").stdout.strip(), "libtsk.a")
    if not archive.exists():
        pytest.skip(f"there is no {archive}")
    needed = re.findall(r"=> (\S+)", run("ldd", REAL).stdout)
    whole = ["-Wl,--whole-archive", archive, "-Wl,--no-whole-archive"]
    result = run("g++", *SYMBOLIC, "-Wl,-z,defs", "-o", library, *whole, *needed, check=False)
    if result.returncode != 0:
        pytest.skip(f"{archive} cannot be linked as a shared library: {result.stderr[-300:]}")
    assert "tsk_img_open" not in run("readelf", "-rW", library).stdout
    return with_library(library)


@pytest.fixture(scope="module")
def disk(raw_disk, tmp_path_factory):
    """The paths of a disk by image type."""
    raw, image = raw_disk("gpt").path, tmp_path_factory.mktemp("disk") / "disk.qcow2"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, image)
    return {"raw": raw, "qcow2": image}


@pytest.fixture
def examine(symbolic, disk):
    """examine(image type, command): the tool's result; IMAGE stands for the image's name."""

    def call(image_type, command):
        tool, *words = command.split()
        words = [word.replace("IMAGE", str(disk[image_type])) for word in words]
        chosen = [] if tool == "fiwalk" else ["-i", image_type]
        return tools.run(tool, *chosen, *words, dropin=image_type == "qcow2", prefix=symbolic)

    return call


@pytest.mark.parametrize(
    "command",
    [
        "tsk_gettimes -m IMAGE",
        "tsk_imageinfo IMAGE",
        "fls -r -p -o 2048 IMAGE",
        "mmls IMAGE",
        "fsstat -o 2048 IMAGE",
        "icat -o 2048 IMAGE 2",
        "istat -o 2048 IMAGE 12",
        "blkcat -o 2048 IMAGE 1 3",
        "jls -o 2048 IMAGE",
        "img_cat -e 4000 IMAGE",
    ],
)
def test_tools_give_the_same(command, examine):
    raw = examine("raw", command)
    assert raw.returncode == 0 and raw.stdout
    tools.assert_same(examine("qcow2", command), raw)


def test_fiwalk_detects_it(examine):
    assert examine("qcow2", "fiwalk -x IMAGE").stdout.count(b"<fileobject>") > 1000


def test_recovered_files_are_the_same(examine, tmp_path):
    for image_type in ("raw", "qcow2"):
        examine(image_type, f"tsk_recover -e -o 2048 IMAGE {tmp_path}/{image_type}")
    run("diff", "-r", tmp_path / "raw", tmp_path / "qcow2")
    assert sum(path.is_file() for path in (tmp_path / "raw").rglob("*")) > 1000
    compare = f"tsk_comparedir -o 149504 IMAGE {tmp_path}/raw"
    tools.assert_same(examine("qcow2", compare), examine("raw", compare))


def test_database_is_the_same(examine, disk, tmp_path):
    files = {}
    for image_type in ("raw", "qcow2"):
        database = tmp_path / f"{image_type}.db"
        result = examine(image_type, f"tsk_loaddb -h -d {database} IMAGE")
        assert result.returncode == 0, result.complaint
        with sqlite3.connect(database) as connection:
            rows = connection.execute("SELECT * FROM tsk_files ORDER BY obj_id")
            files[image_type] = rows.fetchall()
            ((name,),) = connection.execute("SELECT name FROM tsk_image_names")
        assert Path(name).name == disk[image_type].name
    assert len(files["raw"]) > 1000 and files["qcow2"] == files["raw"]


def test_database_of_what_cannot_be_opened(examine, tmp_path):
    result = examine("qcow2", f"tsk_loaddb -d {tmp_path}/x.db IMAGE@nothing")
    assert result.returncode == 1 and "no such snapshot" in result.complaint


def damage_entry(image, guest_offset):
    """Damage the L2 entry of a cluster of 64 KiB."""
    with open(image, "r+b") as file:
        file.seek(40)
        (l1_offset,) = struct.unpack(">Q", file.read(8))
        file.seek(l1_offset + guest_offset // (65536 * 8192) * 8)
        l2_offset = struct.unpack(">Q", file.read(8))[0] & (1 << 56) - 512
        file.seek(l2_offset + guest_offset // 65536 % 8192 * 8)
        file.write(struct.pack(">Q", 1536))


def test_lost_inodes_are_zeros_and_reported(symbolic, disk, tmp_path):
    """TSK reads inodes in pieces of less than a sector: libtsk hides the errors of such reads."""
    layout = tools.run("fsstat", "-o", 2048, disk["raw"], dropin=False).stdout.decode()
    table = 2048 * 512 + int(re.search(r"Inode Table: (\d+)", layout)[1]) * 4096
    lost = (table + 65536) // 65536 * 65536
    image = tmp_path / "disk.qcow2"
    shutil.copy(disk["qcow2"], image)
    damage_entry(image, lost)
    first = (lost - table) // 256 + 1  # the first inode there
    strict, zeros = (
        tools.run("istat", "-o", 2048, name, first, prefix=symbolic)
        for name in (image, f"{image},errors=zero")
    )
    assert strict.stdout == zeros.stdout and b"mode: ----------\nsize: 0" in strict.stdout
    assert f"guest bytes {lost} to {lost + 65535}" in strict.complaint
    count = strict.complaint.splitlines()[-1]
    assert "1 damaged range (65536 bytes)" in count and "passed zeros on" in count
