# SPDX-License-Identifier: MIT
"""Debian's own TSK tools give the same on a qcow2 image as on the raw disk, or fail in words that
help."""
import hashlib
import json
import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from lib import disks, oracle, tools
from lib.project import SANITIZERS, SOURCE
from lib.tools import assert_refused, assert_same
from lib.variants import SNAPSHOT, VARIANTS, Workshop

FILESYSTEMS = [
    f"{disk}-{filesystem}" for disk in disks.MAKE for filesystem in ("ext4", "ntfs", "fat")
]
GPT_FILESYSTEMS = FILESYSTEMS[:3]
WITHOUT_TYPE_OPTION = {"fiwalk", "sigfind"}


# ---- The disks, and what is true of them -----------------------------------------


@pytest.fixture(scope="session")
def shops(raw_disk, tmp_path_factory):
    """The workshops by disk name, made when first asked for."""
    made = {}

    def shop(disk):
        if disk not in made:
            made[disk] = Workshop(raw_disk(disk), tmp_path_factory.mktemp(disk))
        return made[disk]

    return shop


@pytest.fixture(scope="session")
def evidence(shops):
    """evidence(disk, variant): the variant, made when first asked for; evidence.seen: its files as
    they were then."""
    seen = {}

    def get(disk, variant):
        made = shops(disk).variant(variant)
        if made.directory not in seen:
            seen[made.directory] = fingerprint(made.directory)
        return made

    get.seen = seen
    return get


def fingerprint(directory):
    return {
        path.name: (path.stat().st_mtime_ns, oracle.sha256(path)) for path in directory.iterdir()
    }


@pytest.fixture(scope="session")
def stock():
    """stock(command, raw): the unmodified tool's result on a raw disk, each run once."""
    results = {}

    def run(command, raw):
        if (command, raw) not in results:
            results[command, raw] = shortened(run_command(command, [raw], "raw", dropin=False))
        return results[command, raw]

    return run


@pytest.fixture(scope="session")
def check(stock):
    """check(command, images, type, raw): the tool with the drop-in gives what the unmodified one
    gives on `raw`."""

    def run(command, images, image_type, raw, warning=""):
        result = shortened(run_command(command, images, image_type))
        assert_same(without_warning(result, warning) if warning else result, stock(command, raw))

    return run


def without_warning(result, word):
    """Take away our one line of warning, which must be there and have this word in it."""
    first, rest = result.stderr.split(b"\n", 1)
    assert first.startswith(b"tsk-qcow2: warning: ") and word.encode() in first, result.complaint
    return tools.Result(result.command, result.returncode, result.stdout, rest)


def shortened(result):
    """Keep a very long output as its hash."""
    if len(result.stdout) < 8 << 20:
        return result
    digest = (
        f"{len(result.stdout)} bytes, sha256 {hashlib.sha256(result.stdout).hexdigest()}".encode()
    )
    return tools.Result(result.command, result.returncode, digest, result.stderr)


@pytest.fixture(scope="session")
def facts(shops, stock):
    """facts("gpt-ext4"): the numbers that commands are filled in with."""

    def of(filesystem):
        disk, kind = filesystem.split("-")
        raw = shops(disk).raw
        start = shops(disk).disk.partition(kind).start
        slot = next(
            line.split(":")[0]
            for line in stock("mmls IMAGE", raw).stdout.decode().splitlines()
            if re.match(rf"\d+:  \S+ +0*{start} ", line)
        )
        inode = {
            name: stock(f"ifind -o {start} -n {name} IMAGE", raw).stdout.decode().strip()
            for name in ("big.bin", "small.txt")
        }
        blocks = first_blocks(
            stock(f"istat -o {start} IMAGE {inode['big.bin']}", raw).stdout.decode()
        )
        deleted = re.search(r"\* (\d+)", stock(f"fls -r -d -o {start} IMAGE", raw).stdout.decode())[
            1
        ]
        return {
            "start": start,
            "slot": slot,
            "big": inode["big.bin"],
            "small": inode["small.txt"],
            "block": blocks[0],
            "deleted": deleted,
        }

    return of


def first_blocks(istat):
    """The block addresses that istat lists first."""
    line = next(line for line in istat.splitlines() if re.fullmatch(r"(\d+ )+", line))
    return [int(word) for word in line.split()]


def run_command(command, images, image_type, dropin=True):
    """Run a command line in which IMAGE stands for the image names, telling the tool the image
    type."""
    tool, *words = command.split()
    chosen = ["-i", image_type] if image_type and tool not in WITHOUT_TYPE_OPTION else []
    at = words.index("IMAGE")
    return normalised(
        tools.run(tool, *chosen, *words[:at], *images, *words[at + 1 :], dropin=dropin), images
    )


def normalised(result, images):
    """Hide what may differ between two runs: the clock, the image's name, fiwalk's use of the
    machine."""
    stdout = re.sub(rb"(?m)^((?:ils|blkls)\|[^|]*\|[^|]*\|)\d+", rb"\1NOW", result.stdout)
    if tools.path("ils") in result.command:
        stdout = stdout.replace(b"<%s-" % os.fsencode(os.path.basename(images[0])), b"<IMAGE-")
    if tools.path("fiwalk") in result.command:
        for image in images:
            stdout = stdout.replace(f"<image_filename>{image}<".encode(), b"<image_filename>IMAGE<")
        stdout = re.sub(rb"<(command_line|start_time)>.*</\1>", rb"<\1/>", stdout)
        stdout = re.sub(rb"<!-- (clock|stop_time): .*-->", rb"<!-- \1 -->", stdout)
        stdout = re.sub(rb"(?s)<rusage>.*</rusage>", rb"<rusage/>", stdout)
    return tools.Result(result.command, result.returncode, stdout, result.stderr)


# ---- Every tool, on every file system --------------------------------------------

DISK_COMMANDS = [
    "mmls IMAGE",
    "mmls -a -B IMAGE",
    "mmls -r IMAGE",
    "mmstat IMAGE",
    "img_cat -s 2049 -e 4000 IMAGE",
    "tsk_imageinfo IMAGE",
    "tsk_gettimes IMAGE",
    "tsk_gettimes -m IMAGE",
    "fiwalk -x IMAGE",
    "fiwalk -m IMAGE",
    "sigfind -o 510 -l 55AA IMAGE",
    "sigfind -t ntfs IMAGE",
    "fls -r IMAGE",  # no file system at offset 0
]
FILESYSTEM_COMMANDS = [
    "mmcat IMAGE {slot}",
    "fls -r -p -o {start} IMAGE",
    "fls -r -d -l -o {start} IMAGE",
    "fls -r -m / -o {start} IMAGE",
    "fls -D -a -o {start} IMAGE",
    "icat -o {start} IMAGE {big}",
    "icat -s -o {start} IMAGE {small}",
    "icat -r -o {start} IMAGE {deleted}",
    "fcat -o {start} big.bin IMAGE",
    "fcat -o {start} no-such-file IMAGE",
    "fsstat -o {start} IMAGE",
    "fsstat -t -o {start} IMAGE",
    "istat -o {start} IMAGE {big}",
    "istat -o {start} IMAGE {deleted}",
    "istat -o {start} IMAGE 999999999",
    "ils -e -o {start} IMAGE",
    "ils -m -A -o {start} IMAGE",
    "ifind -n big.bin -o {start} IMAGE",
    "ifind -d {block} -o {start} IMAGE",
    "ffind -a -o {start} IMAGE {big}",
    "ffind -d -o {start} IMAGE {deleted}",
    "blkls -o {start} IMAGE",
    "blkls -e -o {start} IMAGE",
    "blkls -s -o {start} IMAGE",
    "blkls -l -o {start} IMAGE",
    "blkstat -o {start} IMAGE {block}",
    "blkcat -o {start} IMAGE {block} 7",
    "blkcat -h -o {start} IMAGE {block}",
    "blkcat -s -o {start} IMAGE",
    "blkcalc -u 5 -o {start} IMAGE",
    "blkcalc -d {block} -o {start} IMAGE",
]
SOME_FILESYSTEMS_COMMANDS = [
    ("ext4", "jls -o {start} IMAGE"),
    ("ext4", "jcat -o {start} IMAGE 0"),
    ("ext4", "jcat -o {start} IMAGE 2"),
    ("ntfs", "icat -o {start} IMAGE 0"),  # the MFT
]
MEANT_TO_FAIL = [
    "fls -r IMAGE",
    "fcat -o {start} no-such-file IMAGE",
    "istat -o {start} IMAGE 999999999",
]
# Two variants, and the raw disk itself, which the drop-in must leave alone. Sanitizers see each
# tool's reads in one of them, and some tools read every variant (further below).
SUBJECTS = ["deflate"] if SANITIZERS else ["plain", "deflate", "raw"]


def subject_names(subject, disk, shops, evidence):
    return (
        ("raw", [shops(disk).raw])
        if subject == "raw"
        else ("qcow2", evidence(disk, subject).images)
    )


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("disk", disks.MAKE)
@pytest.mark.parametrize("command", DISK_COMMANDS)
def test_disk_tool_gives_the_same(command, disk, subject, shops, evidence, check):
    image_type, images = subject_names(subject, disk, shops, evidence)
    check(command, images, image_type, shops(disk).raw)


@pytest.mark.parametrize(
    "filesystem, subject",
    [
        (filesystem, subject)
        for filesystem in FILESYSTEMS
        for subject in SUBJECTS
        if subject != "raw" or filesystem in GPT_FILESYSTEMS
    ],
)
@pytest.mark.parametrize("command", FILESYSTEM_COMMANDS)
def test_filesystem_tool_gives_the_same(
    command, filesystem, subject, shops, evidence, check, facts
):
    disk = filesystem.split("-")[0]
    image_type, images = subject_names(subject, disk, shops, evidence)
    command = command.format(**facts(filesystem))
    check(command, images, image_type, shops(disk).raw)


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("disk", disks.MAKE)
@pytest.mark.parametrize(
    "kind, command", SOME_FILESYSTEMS_COMMANDS, ids=lambda word: word.split()[0]
)
def test_one_filesystems_tool_gives_the_same(
    kind, command, disk, subject, shops, evidence, check, facts
):
    image_type, images = subject_names(subject, disk, shops, evidence)
    command = command.format(**facts(f"{disk}-{kind}"))
    check(command, images, image_type, shops(disk).raw)


def test_the_commands_have_something_to_show(shops, stock, facts):
    """Comparing two empty outputs proves nothing: on some raw disk each prints something, or is
    meant to fail."""
    silent = set()
    for filesystem in GPT_FILESYSTEMS:
        own = [command for kind, command in SOME_FILESYSTEMS_COMMANDS if filesystem.endswith(kind)]
        for command in FILESYSTEM_COMMANDS + own + DISK_COMMANDS:
            if not stock(command.format(**facts(filesystem)), shops("gpt").raw).stdout:
                silent.add((command, filesystem))
    meant = {(command, filesystem) for command in MEANT_TO_FAIL for filesystem in GPT_FILESYSTEMS}
    # An MFT entry never used.
    assert silent == meant | {("icat -r -o {start} IMAGE {deleted}", "gpt-ntfs")}


# ---- Tools that write files ------------------------------------------------------


def tree_hash(folder):
    """One hash of all names and contents below a folder, and the number of files."""
    digest, count = hashlib.sha256(), 0
    for path in sorted(Path(folder).rglob("*")):
        digest.update(os.fsencode(path.relative_to(folder)) + b"\0")
        if path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
            count += 1
    return digest.hexdigest(), count


@pytest.fixture
def recover(tmp_path):
    """recover(images, type, start, options...): tsk_recover's words, and a hash of what it
    recovered."""

    def run(images, image_type, start, *options, dropin=True):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        result = tools.run(
            "tsk_recover", "-i", image_type, *options, "-o", start, *images, folder, dropin=dropin
        )
        assert result.returncode == 0, result.complaint
        found = tree_hash(folder)
        shutil.rmtree(folder)
        return result.stdout, found

    return run


@pytest.fixture(scope="session")
def recovered_raw():
    return {}


def check_recover(recover, cache, images, raw, start, option):
    if (raw, start, option) not in cache:
        cache[raw, start, option] = recover([raw], "raw", start, option, dropin=False)
    expected = cache[raw, start, option]
    assert expected[1][1] > 3  # files
    assert recover(images, "qcow2", start, option) == expected


@pytest.mark.parametrize("variant", ["plain", "deflate"])
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_tsk_recover_of_everything(filesystem, variant, shops, evidence, recover, recovered_raw):
    disk, kind = filesystem.split("-")
    made = evidence(disk, variant)
    check_recover(
        recover, recovered_raw, made.images, made.raw, shops(disk).disk.partition(kind).start, "-e"
    )


def database_content(path, image):
    """All rows of a TSK case database, with the image's name and type apart."""
    database = sqlite3.connect(path)
    tables = [
        name
        for (name,) in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        )
    ]
    content = {
        name: database.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall() for name in tables
    }
    (names,), (image_type,) = (
        database.execute("SELECT name FROM tsk_image_names").fetchall(),
        database.execute("SELECT type FROM tsk_image_info").fetchone(),
    )
    columns = [column[1] for column in database.execute("PRAGMA table_info(tsk_image_info)")]
    database.close()
    del content["tsk_image_names"]
    info = dict(zip(columns, content.pop("tsk_image_info")[0]))
    del info["type"]
    return {**content, "tsk_image_info": info}, names[0], image_type


@pytest.mark.parametrize("variant", ["plain", "deflate"])
@pytest.mark.parametrize("disk", disks.MAKE)
def test_tsk_loaddb(disk, variant, evidence, tmp_path):
    made = evidence(disk, variant)
    loaded = {}
    for image_type, image, dropin in (("raw", made.raw, False), ("qcow2", made.images[0], True)):
        path = tmp_path / f"{image_type}.db"
        result = tools.run("tsk_loaddb", "-h", "-i", image_type, "-d", path, image, dropin=dropin)
        assert result.returncode == 0, result.complaint
        content, name, number = database_content(path, image)
        assert name == str(image)
        loaded[image_type] = content
        assert number == {"raw": 0x0001, "qcow2": 0x0800}[image_type]
    assert len(loaded["raw"]["tsk_files"]) > 500
    for table, rows in loaded["raw"].items():
        assert loaded["qcow2"][table] == rows, table
    assert loaded["qcow2"].keys() == loaded["raw"].keys()


@pytest.mark.parametrize("variant", ["plain", "deflate"])
@pytest.mark.parametrize("filesystem", FILESYSTEMS)
def test_tsk_comparedir(filesystem, variant, shops, evidence, tmp_path):
    disk, kind = filesystem.split("-")
    made = evidence(disk, variant)
    start = shops(disk).disk.partition(kind).start
    assert (
        tools.run("tsk_recover", "-a", "-o", start, made.raw, tmp_path, dropin=False).returncode
        == 0
    )
    (tmp_path / "small.txt").unlink()
    (tmp_path / "not-there.txt").write_text("only in the directory\n")
    expected = tools.run(
        "tsk_comparedir", "-i", "raw", "-o", start, made.raw, tmp_path, dropin=False
    )
    assert b"small.txt" in expected.stdout and b"not-there.txt" in expected.stdout
    assert_same(
        tools.run("tsk_comparedir", "-i", "qcow2", "-o", start, *made.images, tmp_path), expected
    )


# ---- The central tools, on every way of storing a disk ---------------------------


CASES = [("gpt", name) for name in VARIANTS]
CASES += [("mbr", name) for name in ("plain", "deflate", "chain", "changed-snapshot")]


def of_variants(cases):
    return pytest.mark.parametrize(
        "disk, variant", cases, ids=[f"{disk}-{name}" for disk, name in cases]
    )


of_every_variant = of_variants(CASES)


@pytest.mark.unsanitized("about QEMU")
@of_variants([case for case in CASES if case[1] != "chain-by-names"])  # QEMU takes one image name
def test_variant_is_what_qemu_says(disk, variant, evidence):
    """The test data itself: QEMU reads from the variant what we expect of it."""
    made = evidence(disk, variant)
    if made.snapshot:
        found = oracle.snapshot_sha256(made.images[0].removesuffix(f"@{SNAPSHOT}"), SNAPSHOT)
    else:
        found = oracle.convert(made.images[0])
    assert found == oracle.sha256(made.raw)


@of_every_variant
def test_img_cat_of_variant(disk, variant, evidence, tmp_path):
    made = evidence(disk, variant)
    with open(tmp_path / "out", "wb") as out:
        result = tools.run("img_cat", "-i", "qcow2", *made.images, stdout=out)
    if made.warning:
        result = without_warning(result, made.warning)
    assert (result.returncode, result.complaint) == (0, "")
    assert (tmp_path / "out").stat().st_size == made.raw.stat().st_size
    # So says QEMU: see above.
    assert oracle.sha256(tmp_path / "out") == oracle.sha256(made.raw)
    (tmp_path / "out").unlink()


@of_every_variant
@pytest.mark.parametrize("image_type", ["qcow2", None], ids=["told", "detected"])
def test_listings_of_variant(disk, variant, image_type, shops, evidence, stock, check):
    made = evidence(disk, variant)
    commands = ["mmls IMAGE"] + [
        f"fls -r -p -o {p.start} IMAGE" for p in shops(disk).disk.partitions
    ]
    for command in commands:
        expected = stock(command, made.raw)
        assert expected.stdout or not made.full_size
        check(command, made.images, image_type, made.raw, made.warning)


@of_every_variant
def test_files_of_variant(disk, variant, shops, evidence, stock, check, recover, recovered_raw):
    made = evidence(disk, variant)
    # The MD5 of every file.
    check("tsk_gettimes -m IMAGE", made.images, "qcow2", made.raw, made.warning)
    for partition in shops(disk).disk.partitions if made.full_size else ():
        if (
            partition.filesystem != "ext4"
        ):  # it has the most files; see test_tsk_recover_of_everything()
            check_recover(recover, recovered_raw, made.images, made.raw, partition.start, "-a")
        listing = stock(f"fls -r -p -o {partition.start} IMAGE", made.raw).stdout.decode()
        inodes = re.findall(r"^r/r (\d+)", listing, re.M)
        for inode in inodes[:: len(inodes) // 4]:
            command = f"icat -o {partition.start} IMAGE {inode}"
            check(command, made.images, "qcow2", made.raw, made.warning)


@of_every_variant
def test_img_stat_of_variant(disk, variant, evidence):
    made = evidence(disk, variant)
    for chosen in (["-i", "qcow2"], []):
        result = tools.run("img_stat", *chosen, "-t", *made.images)
        assert (result.returncode, result.stdout) == (0, b"qcow2\n"), result.complaint
        result = tools.run("img_stat", *chosen, *made.images)
        assert result.returncode == 0 and str(made.raw.stat().st_size) in result.stdout.decode()


@pytest.mark.skipif(bool(tools.NATIVE), reason="about the tools of the distribution")
@pytest.mark.parametrize("tool", tools.MUST_END)
def test_the_tool_of_this_system_ends(tool):
    if tools.way_to_the_end(tool):
        pytest.skip(
            f"the stock {tool} never ends here (docs/distributions.md). The tests take the way"
            " round."
        )


def test_the_way_round_is_documented():
    text = Path(SOURCE, "docs", "distributions.md").read_text()
    assert f"$ LD_PRELOAD={tools.undisturbed()['LD_PRELOAD']} " in text


# ---- Types, names, and what must stay as it was ----------------------------------


@pytest.mark.skipif(bool(tools.NATIVE), reason="these tools have no list without qcow2")
def test_type_list_has_qcow2_and_all_others():
    stock_list = tools.run("img_stat", "-i", "list", dropin=False).stderr.decode().splitlines()
    ours = tools.run("img_stat", "-i", "list").stderr.decode().splitlines()
    assert any(line.split()[0] == "ewf" for line in stock_list) and any(
        line.split()[0] == "raw" for line in stock_list
    )
    assert set(stock_list) <= set(ours)
    added = set(ours) - set(stock_list)
    assert [line.split()[0] for line in added] == ["qcow2"]


@pytest.mark.parametrize(
    "name",
    [
        "at@sign.qcow2",
        "com,ma.qcow2",
        "sp ace.qcow2",
        "all@of, them@.qcow2",
        "@first",
        "=x,backing=none",
        f"disk@{SNAPSHOT}",
    ],
)
@pytest.mark.parametrize("image_type", ["qcow2", None], ids=["told", "detected"])
def test_awkward_file_name(name, image_type, evidence, check, tmp_path):
    made = evidence("gpt", "changed-snapshot")
    shutil.copyfile(made.directory / "disk.qcow2", tmp_path / name)
    check("fls -r -o 2048 IMAGE", [tmp_path / f"{name}@{SNAPSHOT}"], image_type, made.raw)
    check(
        "fls -r -o 2048 IMAGE", [tmp_path / name], image_type, evidence("gpt", "changed-active").raw
    )


# TSK's name for it: what qemu-img shall write.
OTHER_FORMATS = {
    "vmdk": "vmdk",
    "vhd": "vpc",
    "raw": "qcow2",
}


@pytest.mark.parametrize("image_type", [*OTHER_FORMATS, "split raw"])
def test_other_images_are_read_as_before(image_type, shops, tmp_path):
    """Among them a qcow2 file read with -i raw: its own bytes."""
    images = [tmp_path / "disk.001"]
    if image_type == "split raw":
        disks.run(
            "split",
            "-b",
            "40M",
            "-d",
            "-a",
            "3",
            "--numeric-suffixes=1",
            shops("mbr").raw,
            tmp_path / "disk.",
        )
        images, image_type = sorted(tmp_path.iterdir()), "raw"
        assert len(images) == 3
    else:
        disks.run(
            "qemu-img",
            "convert",
            "-f",
            "raw",
            "-O",
            OTHER_FORMATS[image_type],
            shops("mbr").raw,
            images[0],
        )
    start = shops("mbr").disk.partition("ext4").start
    is_qcow2 = images[0].read_bytes()[:4] == b"QFI\xfb"
    for command in (
        "img_stat IMAGE",
        "img_stat -t IMAGE",
        "mmls IMAGE",
        f"fls -r -o {start} IMAGE",
        "img_cat -e 50000 IMAGE",
    ):
        expected = run_command(command, images, image_type, dropin=False)
        assert expected.returncode == 0 or is_qcow2
        assert_same(run_command(command, images, image_type), expected)
        if not is_qcow2:  # one name, as the user types it: the other segments are found
            assert_same(
                run_command(command, images[:1], None),
                run_command(command, images[:1], None, dropin=False),
            )
    for path in tmp_path.iterdir():
        path.unlink()


def test_raw_type_gives_the_qcow2_files_own_bytes(evidence):
    image = evidence("gpt", "deflate").images[0]
    whole = Path(image).read_bytes()
    given = tools.run("img_cat", "-i", "raw", image).stdout
    assert given[: len(whole) // 512 * 512] == whole[: len(whole) // 512 * 512]


def test_no_file_of_the_chain_is_opened_for_writing(evidence, tmp_path):
    made = evidence("gpt", "chain")
    log = tmp_path / "strace"
    trace = ["/usr/bin/strace", "-f", "-y", "-e", "trace=open,openat,openat2,creat", "-o", log]
    result = tools.run("fls", "-i", "qcow2", "-r", "-o", 2048, *made.images, prefix=trace)
    assert result.returncode == 0 and result.stdout
    opened = set()
    for line in log.read_text().splitlines():
        assert "creat(" not in line and not re.search(
            r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_TMPFILE", line
        ), line
        opened |= {
            path.name
            for path in made.directory.iterdir()
            if path.name in line and "= -1" not in line
        }
    assert opened == {"layer3.qcow2", "layer2.qcow2", "layer1.qcow2", "base.raw"}


# ---- Truncated evidence ----------------------------------------------------------


@pytest.fixture(scope="session")
def truncated(shops, evidence, facts, stock, tmp_path_factory):
    """The plain image, cut where the third cluster of big.bin on the FAT partition begins.

    Gives the image, the raw disk, and the guest offset of the first lost byte.
    """
    made, fact = evidence("gpt", "plain"), facts("gpt-fat")
    first_sector = fact["start"] + fact["block"]
    lost = (first_sector * 512 + 2 * 65536) // 65536 * 65536
    image = tmp_path_factory.mktemp("truncated") / "disk.qcow2"
    shutil.copyfile(made.images[0], image)
    extents = json.loads(disks.run("qemu-img", "map", "--output=json", image))
    stored = [extent for extent in extents if extent["data"]]
    cut = next(
        e["offset"] + lost - e["start"]
        for e in stored
        if e["start"] <= lost < e["start"] + e["length"]
    )
    first_lost = min(
        e["start"] + max(0, cut - e["offset"]) for e in stored if e["offset"] + e["length"] > cut
    )
    assert first_lost == lost
    os.truncate(image, cut)
    return image, made.raw, lost


def numbers(text):
    return {int(word, 0) for word in re.findall(r"\b(?:0x[0-9a-f]+|[1-9][0-9]*)\b", text, re.I)}


TRUNCATED_COMMANDS = {  # and what it is that their output begins with
    "img_cat IMAGE": "disk",
    "mmcat IMAGE {slot}": "partition",
    "icat -o {start} IMAGE {big}": "file",
    "blkcat -o {start} IMAGE {block} 500": "file",
    "fcat -o {start} big.bin IMAGE": "file",
}


@pytest.mark.parametrize("command", TRUNCATED_COMMANDS, ids=lambda command: command.split()[0])
def test_truncated_image_fails_and_names_the_guest_offset(command, truncated, facts):
    image, raw, lost = truncated
    fact = facts("gpt-fat")
    origin = {
        "disk": 0,
        "partition": fact["start"] * 512,
        "file": (fact["start"] + fact["block"]) * 512,
    }
    begin = origin[TRUNCATED_COMMANDS[command]]
    result = run_command(command.format(**fact), [image], "qcow2")
    assert result.returncode > 0
    assert "truncated" in result.complaint
    assert lost in numbers(result.complaint), result.complaint
    assert len(result.stdout) <= lost - begin
    with open(raw, "rb") as file:
        file.seek(begin)
        assert file.read(len(result.stdout)) == result.stdout, "made-up bytes"


@pytest.mark.parametrize(
    "command", ["istat -o {start} IMAGE {small}", "icat -o {start} IMAGE {small}"]
)
def test_lost_inode_is_not_made_up(command, shops, evidence, facts, stock, tmp_path):
    """The cluster with a file's inode is lost. TSK reads inodes in pieces of less than a sector,
    and its own tsk_img_read() turns the errors of such reads into success."""
    fact, raw = facts("gpt-ext4"), shops("gpt").raw
    layout = stock(f"fsstat -o {fact['start']} IMAGE", raw).stdout.decode()
    assert int(re.search(r"Inodes per group: (\d+)", layout)[1]) > int(fact["small"])
    table = int(re.search(r"Inode Table: (\d+)", layout)[1])
    inode = fact["start"] * 512 + table * 4096 + (int(fact["small"]) - 1) * 256
    lost = inode // 65536 * 65536
    image = lose_cluster(evidence("gpt", "plain").images[0], tmp_path, raw, lost)
    result = run_command(command.format(**fact), [image], "qcow2")
    assert_refused(result, "truncated")
    assert lost <= min(n for n in numbers(result.complaint) if n >= lost) <= inode, result.complaint


def lose_cluster(source, folder, raw, lost):
    """Copy a qcow2 image so that the cluster at guest offset `lost` alone is after the file's
    end."""
    image = folder / "disk.qcow2"
    shutil.copyfile(source, image)
    with open(raw, "rb") as file:
        file.seek(lost)
        (folder / "cluster").write_bytes(file.read(65536))
    disks.run("qemu-img", "snapshot", "-c", "so that a write takes a new cluster at the end", image)
    disks.run("qemu-io", "-f", "qcow2", "-c", f"write -s {folder}/cluster {lost} 64k", image)
    extents = json.loads(disks.run("qemu-img", "map", "--output=json", image))
    cut = max(extent["offset"] for extent in extents if extent["data"])
    assert next(extent["start"] for extent in extents if extent.get("offset") == cut) == lost
    os.truncate(image, cut)
    return image


def test_what_is_left_of_a_truncated_image_is_read(truncated, check):
    image, raw, _ = truncated
    for command in ("mmls IMAGE", "fls -r -p -o 2048 IMAGE", "fsstat -o 2048 IMAGE"):
        check(command, [image], "qcow2", raw, "truncated")


# ---- Last: after all of that -----------------------------------------------------


def test_evidence_is_unchanged(evidence):
    for variant in ("plain", "chain", "changed-snapshot", "data-file", "lazy-refcounts-dirty"):
        made = evidence("gpt", variant)
        assert run_command("fls -r -p -o 2048 IMAGE", made.images, "qcow2").returncode == 0
    for directory, before in evidence.seen.items():
        assert fingerprint(directory) == before, directory
