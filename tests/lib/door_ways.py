# SPDX-License-Identifier: MIT
"""The doors: every way in which a program opens image names, as a function from a Row to an Answer
(doors.py)."""
import ctypes
import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import qcow2core

from . import core, mounted, project, tools
from .doors import CHAIN, DAMAGED, GOOD, HEADER, REFUSED, SECTOR, VIEW, Answer, Door, Wrong
from .project import COMMAND

COUNTED = re.compile(r"(\d+) damaged ranges? \((\d+) bytes\)")
OF_A_FILE = re.compile(r"(?:((?:\w+/)?[\w.-]+\.(?:raw|qevm)): )?(.*)")
MOUNTED = Path("mounted")  # of the mount, in the working directory
SELECTORS = Path("selectors")  # of the selector doors, in the working directory
PIECES = (65536, 4096, SECTOR)  # a piece that cannot be read is read in smaller ones


# ---- Libraries -------------------------------------------------------------------


def read_all(size, read, failure):
    """(content with zeros where read() fails, the ranges where it does)."""
    content, bad = bytearray(size), []

    def take(start, length, finer):
        try:
            content[start : start + length] = read(start, length)
        except failure:
            if finer:
                for at in range(start, start + length, finer[0]):
                    take(at, min(finer[0], start + length - at), finer[1:])
            elif bad and sum(bad[-1]) == start:
                bad[-1] = (bad[-1][0], bad[-1][1] + length)
            else:
                bad.append((start, length))

    for at in range(0, size, PIECES[0]):
        take(at, min(PIECES[0], size - at), PIECES[1:])
    return bytes(content), tuple(bad)


def counted(told):
    """(ranges, bytes) of the sentence that counts the damage; None without one."""
    for sentence in told:
        if found := COUNTED.search(sentence):
            return int(found[1]), int(found[2])
    return None


def of_library(size, content, bad, warnings, told):
    met = counted(told)
    return Answer(
        DAMAGED if met else GOOD, "\n".join(told), size, content, None, bad, met, warnings
    )


def names_library(row, names=None):
    try:
        opened = core.Named(*(names or row.names))
    except core.QcowError as error:
        return Answer(REFUSED, error.message)
    with opened:
        size, warnings = opened.size, opened.warnings
        content, bad = read_all(size, opened.read, core.QcowError)
    return of_library(size, content, bad, warnings, opened.told)


def python_module(row, names=None):
    told = []
    try:
        disk = qcow2core.open(*(names or row.names), on_damage=told.append)
    except qcow2core.Error as error:
        return Answer(REFUSED, error.message)
    with disk:
        size, warnings = disk.size, disk.warnings
        content, bad = read_all(size, disk.read_at, qcow2core.Error)
    return of_library(size, content, bad, warnings, told)


class TskInfo(ctypes.Structure):
    """The beginning of TSK_IMG_INFO, which is the same in all versions."""

    _fields_ = [
        ("tag", ctypes.c_uint32),
        ("itype", ctypes.c_int),
        ("size", ctypes.c_int64),
        ("num_img", ctypes.c_int),
        ("sector_size", ctypes.c_uint),
    ]


TSK_TELL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)


@cache
def tsk_library():
    library = ctypes.CDLL(str(Path(project.BUILD, "tsk_qcow2/.libs/libtsk_qcow2.so")))
    info = ctypes.POINTER(TskInfo)
    for name, (result, *arguments) in {
        "tsk_qcow2_open": (info, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p), ctypes.c_uint),
        "tsk_qcow2_read": (
            ctypes.c_ssize_t,
            info,
            ctypes.c_int64,
            ctypes.c_char_p,
            ctypes.c_size_t,
        ),
        "tsk_qcow2_owns": (ctypes.c_int, info),
        "tsk_qcow2_warning": (ctypes.c_char_p, info, ctypes.c_size_t),
        "tsk_qcow2_report_damage": (None, info, TSK_TELL, ctypes.c_void_p),
        "tsk_img_close": (None, info),
        "tsk_error_get": (ctypes.c_char_p,),
    }.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def backend_library(row):
    library, told = tsk_library(), []
    img = library.tsk_qcow2_open(len(row.names), core.encode_all(row.names), 0)
    if not img:
        return Answer(REFUSED, library.tsk_error_get().decode())
    tell = TSK_TELL(lambda _context, sentence: told.append(sentence.decode()))
    library.tsk_qcow2_report_damage(img, tell, None)

    def read(offset, length):
        buffer = ctypes.create_string_buffer(length)
        if library.tsk_qcow2_read(img, offset, buffer, length) != length:
            raise OSError(library.tsk_error_get().decode())
        return buffer.raw

    size, warnings = img.contents.size, []
    while (text := library.tsk_qcow2_warning(img, len(warnings))) is not None:
        warnings.append(text.decode())
    content, bad = read_all(size, read, OSError)
    library.tsk_img_close(img)
    return of_library(size, content, bad, warnings, told)


def pytsk3_info(row):
    """The file system, through pytsk3. None if there is no file system, or no such module."""
    try:
        import pytsk3
        from qcow2core.tsk import ImgInfo
    except ImportError:
        return None
    told = []
    try:
        image = ImgInfo(*row.names, on_damage=told.append)
    except qcow2core.Error as error:
        return Answer(REFUSED, error.message)
    content, bad = read_all(image.get_size(), image.read, qcow2core.Error)
    size, warnings = image.get_size(), image.disk.warnings
    if row.filesystem and not row.bad:
        try:
            filesystem = pytsk3.FS_Info(image)  # pytsk3 needs it kept as long as what is made of it
        except OSError as error:
            raise Wrong(error) from error
        listed = [entry.info.name.name for entry in filesystem.open_dir("/")]
        if b"early.txt" not in listed:
            raise Wrong(f"pytsk3 lists {listed}")
    image.close()
    return of_library(size, content, bad, warnings, told)


# ---- The Sleuth Kit's tools, with the drop-in ------------------------------------


def ours(complaint, word):
    """The sentences of one weight that the drop-in printed."""
    return [
        line.split(": ", 2)[2]
        for line in complaint.splitlines()
        if line.startswith(f"tsk-qcow2: {word}: ")
    ]


def of_tool(result, **facts):
    told = ours(result.complaint, "error")
    met = counted(told)
    if result.returncode < 0:
        raise Wrong(f"{result.command} died: {result.returncode}")
    kind = DAMAGED if met else REFUSED if result.returncode else GOOD
    return Answer(
        kind, result.complaint, met=met, warnings=ours(result.complaint, "warning"), **facts
    )


def run_tool(row, tool, *options, names=None, **more):
    return tools.run(
        tool,
        *options,
        *map(os.fsdecode, names or row.names),
        environment=tool_variables(row),
        **more,
    )


def variables(row):
    return {"HOME": os.environ["HOME"], **row.environment}


def tool_variables(row):
    """A selector, or `tsk-qcow2 run`, does not show that an E01 is opened."""
    return {**variables(row), **(tools.way_round_e01() if tools.names_e01(row.names) else {})}


def img_stat(*options):
    def answer(row):
        result = run_tool(row, "img_stat", *options)
        size = re.search(rb"^Size in bytes: (\d+)$", result.stdout, re.MULTILINE)
        return of_tool(result, size=int(size[1]) if size else None)

    return answer


def of_img_cat(result, row):
    """If it fails at damage, it has given the bytes before that."""
    answer = of_tool(result)
    if answer.kind == GOOD or row.zeros and answer.kind == DAMAGED:
        answer.content = result.stdout
        if result.returncode != 0:
            raise Wrong(f"img_cat ended with {result.returncode}")
    elif answer.kind == DAMAGED:
        answer.met = None
        first = row.bad[0][0] if row.bad else 0
        if (
            result.returncode == 0
            or len(result.stdout) > first
            or not row.content.startswith(result.stdout)
        ):
            raise Wrong(
                f"img_cat gave {len(result.stdout)} bytes of damage, and ended with"
                f" {result.returncode}"
            )
    return answer


def img_cat(*options):
    return lambda row, names=None: of_img_cat(run_tool(row, "img_cat", *options, names=names), row)


def fls(row):
    """It must list what fls lists for the raw content."""
    result = run_tool(row, "fls", "-r", "-p", "-i", "qcow2")
    if row.refused:
        return of_tool(result)
    if not row.filesystem or row.bad:
        return None
    Path("content.raw").write_bytes(row.content)
    expected = tools.run("fls", "-r", "-p", "-i", "raw", "content.raw", dropin=False)
    if (
        expected.returncode
        or (result.stdout, result.returncode) != (expected.stdout, 0)
        or b"early.txt" not in result.stdout
    ):
        raise Wrong(f"fls lists {result.stdout}, not {expected.stdout}: {result.complaint}")
    return of_tool(result)


def installed_run(command):
    """A door through the installed `tsk-qcow2 run`."""

    def answer(row):
        done = subprocess.run(
            [command, "run", tools.path("img_cat"), "-i", "qcow2", *row.names],
            capture_output=True,
            check=False,
            env={**tools.CLEAN, **tool_variables(row)},
            timeout=60,
        )
        return of_img_cat(
            tools.Result(tuple(done.args), done.returncode, done.stdout, done.stderr), row
        )

    return Door("tsk-qcow2 run img_cat", VIEW, answer)


# ---- tsk-qcow2 -------------------------------------------------------------------

KINDS = {0: GOOD, 1: REFUSED, 2: REFUSED, 4: DAMAGED, 5: GOOD, 6: GOOD}
RESULTS = {0: "good", 4: "damaged", 5: "readable", 6: "incomplete"}


def run_command(row, *words, names=None):
    done = subprocess.run(
        [COMMAND, *words, *(names or row.names)],
        capture_output=True,
        check=False,
        timeout=60,
        env={**tools.CLEAN, **variables(row), **project.sanitized()},
    )
    if done.returncode not in (0, 1, 2, 4, 5, 6):
        raise Wrong(f"{done.args} ended with {done.returncode}: {done.stderr}")
    return done.returncode, done.stdout.decode(), done.stderr.decode(errors="surrogateescape")


def stated(text):
    """The warnings among lines of text."""
    return [
        line.removeprefix("Warning: ") for line in text.splitlines() if line.startswith("Warning: ")
    ]


def info(*options):
    def answer(row):
        status, out, complaint = run_command(row, "info", *options)
        if status not in (0, 4):  # 4: it says what it can
            return Answer(KINDS[status], complaint)
        chosen = re.search(
            r"disk of (\d+) bytes.*?VM state of (\d+) bytes.*<- this one is open"
            r"|^Residue: a stream of (\d+) bytes",
            out,
            re.MULTILINE,
        )
        size = int(
            chosen[3] or chosen[1 + row.vm_state]
            if chosen
            else re.search(r"Virtual size in bytes: (\d+)", out)[1]
        )
        return Answer(GOOD, complaint, size, warnings=stated(out))

    return answer


def info_json(*options):
    def answer(row):
        status, out, complaint = run_command(row, "info", "--json", *options)
        if status not in (0, 4):
            return Answer(KINDS[status], complaint)
        return Answer(GOOD, complaint, warnings=json.loads(out)["warnings"])

    return answer


def snapshots(row):
    status, _, complaint = run_command(row, "snapshots")
    if status not in (0, 4):
        return Answer(KINDS[status], complaint)
    return Answer(GOOD, complaint, warnings=ours(complaint, "warning"))


def disk_map(row):
    """The runs reach to the end of the disk. What has no disk is refused (test_map.py)."""
    if any(",residue" in name for name in row.names):
        return None
    status, out, complaint = run_command(row, "map", "--json")
    if status in (1, 2):
        return Answer(REFUSED, complaint)
    runs = json.loads(out)
    if [run["start"] for run in runs[1:]] != [run["start"] + run["length"] for run in runs[:-1]]:
        raise Wrong(f"map leaves gaps: {out}")
    size = runs[-1]["start"] + runs[-1]["length"] if runs else 0
    return Answer(GOOD, complaint, size=size, warnings=ours(complaint, "warning"))


def report(row):
    """Only its facts. It is about a whole image, so a name that chooses a state is refused
    (test_report.py); a selector may choose one."""
    if row.selector or any("@" in name or ",residue" in name for name in row.names):
        return None
    status, out, complaint = run_command(row, "report", "--json", "--sections", "facts")
    if status in (1, 2):
        return Answer(REFUSED, complaint)
    return Answer(GOOD, out + complaint)


def verify(row, names=None):
    status, out, complaint = run_command(row, "verify", names=names)
    if KINDS[status] == REFUSED:
        return Answer(REFUSED, complaint)
    found = re.search(
        (
            r"^(?:Active disk.*|Snapshot .*|VM state .*|Residue): (\d+) bytes.*"
            r"SHA-256(?: with zeros there)? (\w+)$"
        ),
        out,
        re.MULTILINE,
    )
    if (
        RESULTS[status]
        != re.search(r"^(Good|Damaged|Readable|Incomplete)", out, re.MULTILINE)[1].lower()
    ):
        raise Wrong(f"verify ends with {status} and says {out}")
    return Answer(
        KINDS[status],
        out,
        int(found[1]) if found else None,
        digest=found[2] if found else None,
        warnings=stated(out),
        verdict=status,
    )


def verify_json(row, names=None):
    status, out, complaint = run_command(row, "verify", "--json", names=names)
    if KINDS[status] == REFUSED:
        return Answer(REFUSED, complaint)
    found = json.loads(out)
    state = found["states"][0]
    if found["result"] != RESULTS[status]:
        raise Wrong(f"verify --json ends with {status} and says {found['result']}")
    bad = tuple((one["start"], one["length"]) for one in state["bad_ranges"])
    reasons = [one["reason"] for one in state["bad_ranges"]] + [state.get("error") or ""]
    return Answer(
        KINDS[status],
        "\n".join(reasons),
        state["size"],
        digest=state["sha256"] or state["sha256_with_zeros"],
        bad=bad,
        met=(state["bad_range_count"], state["bad_bytes"]),
        warnings=found["warnings"] + state["warnings"],
        verdict=status,
    )


def check(*options):
    """Counts the exit status as good if it is one of those that the row expects. It refuses a name
    that chooses a snapshot."""

    def answer(row):
        status, out, complaint = run_command(row, "check", *options)
        if status in (1, 2):
            return Answer(REFUSED, complaint)
        expected = row.checked or ((4,) if row.bad else (0,))
        if status not in expected:
            raise Wrong(f"check ends with {status}, not {expected}: {out}")
        return Answer(
            GOOD, complaint, warnings=json.loads(out)["warnings"] if options else stated(out)
        )

    return answer


def bitmap(row):
    """No image of the table has a bitmap "none such": it is refused, with the warnings, or as the
    name is."""
    status, out, complaint = run_command(row, "bitmap", names=(*row.names, "none such"))
    if status == 0 or out:
        raise Wrong(f"bitmap finds {out}")
    return Answer(
        GOOD if '"none such"' in complaint else REFUSED,
        complaint,
        warnings=ours(complaint, "warning"),
    )


def selector(row):
    """Writes a selector, and opens it through every kind of door."""
    shutil.rmtree(SELECTORS, ignore_errors=True)
    SELECTORS.mkdir()
    status, out, complaint = run_command(row, "selector", "--directory", SELECTORS)
    written = os.listdir(SELECTORS)
    if status == 0 and len(row.names) > 1:  # for it these are several images
        for name in written:
            os.remove(SELECTORS / name)
        return None
    if len(written) != (status == 0):
        raise Wrong(f"selector ended with {status} and wrote {written}: {out} {complaint}")
    if status != 0:
        return Answer(REFUSED, complaint)
    return Answer(GOOD, complaint, warnings=ours(complaint, "warning"))


def through_selector(answer):
    """The selector that `selector` wrote, if any, through another door."""

    def through(row):
        written = tuple(map(str, SELECTORS.iterdir()))
        return answer(row, names=written) if written else None

    return through


# ---- tsk-qcow2 mount ---------------------------------------------------------------


def mount(row, names=None):
    """The state that the name chooses, read without the page cache, which has only whole pages."""
    if mounted.missing():
        return None
    name, *more = names or row.names
    file = None
    with mounted.Mount(name, MOUNTED, names=more, variables=row.environment) as door:
        if door.is_mounted and (file := chosen_file(door.files())):
            size, content, bad = read_directly(door.path(file))
    if file is None:
        return Answer(REFUSED, door.complaint)
    told = ours(door.complaint, "error")
    if door.status != (4 if told else 0):
        raise Wrong(f"mount ended with {door.status}: {door.complaint}")
    about = [OF_A_FILE.match(line).groups() for line in ours(door.complaint, "warning")]
    warnings = [sentence for path, sentence in about if path in (None, file)]
    met = counted(told)
    return Answer(DAMAGED if met else GOOD, door.complaint, size, content, None, bad, met, warnings)


def chosen_file(files):
    """The active disk, or the only state; None: what the name chooses is not there."""
    states = [file for file in files if file.endswith((".raw", ".qevm"))]
    if "active.raw" in files:
        return "active.raw"
    return states[0] if len(states) == 1 else None


def read_directly(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        size = os.fstat(descriptor).st_size
        return size, *read_all(
            size, lambda start, length: os.pread(descriptor, length, start), OSError
        )
    finally:
        os.close(descriptor)


DOORS = [
    Door("C, qcow2names.h", VIEW, names_library),
    Door("C, tsk_qcow2.h", VIEW, backend_library),
    Door("Python, qcow2core.open()", VIEW, python_module),
    Door("Python, qcow2core.tsk.ImgInfo", VIEW, pytsk3_info),
    Door("img_stat -i qcow2", VIEW, img_stat("-i", "qcow2"), reads=False),
    Door("img_stat", VIEW, img_stat(), reads=False, detects=True),
    Door("img_cat -i qcow2", VIEW, img_cat("-i", "qcow2")),
    Door("img_cat", VIEW, img_cat(), detects=True),
    Door("fls -i qcow2", VIEW, fls),
    Door("tsk-qcow2 info", HEADER, info(), reads=False, one_name=True),
    Door("tsk-qcow2 info --json", HEADER, info_json(), reads=False, one_name=True),
    Door("tsk-qcow2 info --chain", CHAIN, info("--chain"), reads=False, one_name=True),
    Door("tsk-qcow2 info --chain --json", CHAIN, info_json("--chain"), reads=False, one_name=True),
    Door("tsk-qcow2 snapshots", HEADER, snapshots, reads=False, one_name=True),
    Door("tsk-qcow2 bitmap", HEADER, bitmap, reads=False, one_name=True),
    Door("tsk-qcow2 check", HEADER, check(), reads=False, one_name=True),
    Door("tsk-qcow2 check --json", HEADER, check("--json"), reads=False, one_name=True),
    Door("tsk-qcow2 map --json", VIEW, disk_map, reads=False, one_name=True),
    Door("tsk-qcow2 report --json", CHAIN, report, reads=False, one_name=True),
    Door("tsk-qcow2 verify", VIEW, verify, one_name=True),
    Door("tsk-qcow2 verify --json", VIEW, verify_json, one_name=True),
    Door("tsk-qcow2 mount", VIEW, mount, one_name=True),
    Door("tsk-qcow2 selector", HEADER, selector, reads=False, one_name=True),
    Door("a selector, through img_cat", VIEW, through_selector(img_cat())),
    Door("a selector, through verify --json", VIEW, through_selector(verify_json)),
    Door("a selector, through mount", VIEW, through_selector(mount)),
    Door("a selector, through Python", VIEW, through_selector(python_module)),
    Door("a selector, through C", VIEW, through_selector(names_library)),
]
