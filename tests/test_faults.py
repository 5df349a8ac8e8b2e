# SPDX-License-Identifier: MIT
"""Each call that can fail does so in turn, over a whole open-describe-read-close
(tests/faults/faults.c): the n-th allocation, the n-th read of a file, the n-th call that opens
or examines one, once or from then on. Each answer is an error or right, and nothing is left
behind. Then reads of the file fail while the commands run: their statuses must say so.
"""
import json
import os
import re
import subprocess
from functools import partial

import pytest
from lib.builder import Image, RawModel, deflate, pattern, squeezable
from lib.encrypted import create, has_libgcrypt, node, write
from lib.project import BUILD, COMMAND, PRELOAD, SOURCE, run, run_line, sanitized

FAULTS = os.path.join(BUILD, "tests", "faults", "faults")
CLUSTER = 4096


def image(clusters=24, **options):
    return Image(**{"size": clusters * CLUSTER - 512, "cluster_bits": 12, **options})


def filled(made, compressed=False):
    """A disk with every kind of cluster, in several runs."""
    for cluster in (0, 1, 2, 5, 9, 23):
        made.disk.normal(cluster, pattern(cluster, CLUSTER))
    made.disk.zero(3)
    if compressed:
        for cluster in (6, 7, 8, 11):
            made.disk.compressed(cluster, squeezable(cluster, CLUSTER))
    return made


def plain(folder):
    return filled(image()).write(folder / "disk.qcow2")


def deflated(folder):
    """With streams for libdeflate, and one that does not end with its cluster: it goes to zlib."""
    made = filled(image(), compressed=True)
    data = squeezable(99, CLUSTER)
    made.disk.compressed(13, data, deflate(data + data[:9]))
    return made.write(folder / "disk.qcow2")


def zstd(folder):
    return filled(image(compression=1), compressed=True).write(folder / "disk.qcow2")


def extended_l2(folder):
    made = Image(size=24 * 16384, cluster_bits=14, extended_l2=True)
    made.disk.normal(0, pattern(1, 16384))
    made.disk.subclusters(2, "DD..ZZ.D" * 4, pattern(2, 16384))
    return made.write(folder / "disk.qcow2")


def snapshots(folder):
    """Snapshots of other contents and sizes, one with saved memory."""
    run_line("qemu-img create -q -f qcow2 -o cluster_size=4k", folder / "disk.qcow2", "100k")
    for name in ("one", "two", "three"):
        run("qemu-io", "-c", f"write -P {len(name)} 3000 70000", folder / "disk.qcow2")
        run_line("qemu-img snapshot -c", name, folder / "disk.qcow2")
    run_line("qemu-img resize -q", folder / "disk.qcow2", "200k")
    return folder / "disk.qcow2"


def vm_state(folder):
    made = filled(image())
    disk = made.disk.copy()
    disk.l1_entries = 2
    for cluster in range(512, 515):  # from the second L2 table on, after the disk
        disk.normal(cluster, pattern(cluster, CLUSTER))
    made.snapshot(b"1", b"live", disk=disk, vm_state_size=3 * CLUSTER)
    return made.write(folder / "disk.qcow2")


def encrypted(method):
    def make(folder):
        path = create(folder / "disk.qcow2", 100 * 1024, method)
        write(node(path, method), [(3000, pattern(1, 40000)), (90000, pattern(2, 2000))])
        (folder / "key").write_bytes(b"secret\n")
        return f"{path},key-file={folder}/key"

    return make


def chain(folder):
    """An overlay of an overlay of a raw file, of different sizes, the middle one found in another
    directory."""
    (folder / "elsewhere").mkdir()
    base = pattern(7, 17 * CLUSTER + 100)
    (folder / "elsewhere" / "base.raw").write_bytes(base)
    middle = image(20, backing=b"base.raw", backing_format=b"raw", backing_model=RawModel(base))
    middle.disk.normal(4, pattern(4, CLUSTER))
    middle.write(folder / "elsewhere" / "middle.qcow2")
    filled(
        image(
            backing=b"/nonexistent/middle.qcow2",
            backing_format=b"qcow2",
            backing_model=middle.disk.model,
        )
    ).write(folder / "top.qcow2")
    return f"{folder}/top.qcow2,search={folder}/elsewhere"


def undeclared(folder):
    """A backing file of no declared format, below the image's own directory."""
    (folder / "below").mkdir()
    (folder / "below" / "base").write_bytes(pattern(7, 17 * CLUSTER))
    return filled(image(backing=b"below/base")).write(folder / "top.qcow2")


def data_file(folder):
    return filled(image(data_file=b"disk.data")).write(folder / "disk.qcow2")


def bitmaps(folder):
    path = folder / "disk.qcow2"
    run_line("qemu-img create -q -f qcow2 -o cluster_size=4k", path, "2M")
    for name, granularity in (("fine", 512), ("coarse", 65536)):
        run_line("qemu-img bitmap --add -g", granularity, path, name)
    for at in (0, 300_000, 1_000_000):
        run("qemu-io", "-c", f"write -P 5 {at} 5000", path)
    return path


def looks_like_vmdk(folder):
    """Must be refused, whatever fails: its backing file is of no declared format, and starts as
    VMDK does."""
    (folder / "base").write_bytes(b"KDMV".ljust(9 * CLUSTER, b"\1"))
    return filled(image(backing=b"base")).write(folder / "top.qcow2")


def wrongly_declared(folder):
    """Must be refused: the backing file is no qcow2 image."""
    (folder / "base").write_bytes(bytes(9 * CLUSTER))
    return filled(image(backing=b"base", backing_format=b"qcow2")).write(folder / "top.qcow2")


def name_with_at(folder):
    """An image whose name continues the name of another one, as a snapshot's would: never that one
    instead."""
    made = filled(image())
    made.snapshot(b"1", b"old")
    made.write(folder / "disk")
    made = image()
    made.disk.normal(0, pattern(77, CLUSTER))
    return made.write(folder / "disk@old")


def selector(folder):
    """A selector that comes with the evidence: it leads to a snapshot beside it."""
    made = filled(image())
    made.snapshot(b"1", b"before")
    made.write(folder / "disk.qcow2")
    (folder / "disk.selector").write_text("TSK-QCOW2-SELECTOR 1\n./disk.qcow2@before\n")
    return folder / "disk.selector"


def deleted(folder, applied=False):
    """Deleted snapshot "monday", of which all is left; or, after an older snapshot was applied, the
    state of before."""
    path = folder / "disk.qcow2"
    node = f"driver=qcow2,file.driver=file,file.discard=ignore,file.filename={path}"
    run_line("qemu-img create -q -f qcow2 -o cluster_size=4k", path, "1M")
    steps = [
        ("-c", "first", ["write -P 1 0 40k", "write -c -P 2 64k 4k", "write -P 4 512k 8k"]),
        ("-c", "monday", ["write -P 5 8k 12k"]),
        ("-c", "last", ["write -P 6 8k 8k", "write -z 512k 4k", "write -c -P 9 72k 4k"]),
        ("-d", "monday", ["write -P 8 40k 4k"]),
    ]
    steps += [("-a", "last", ["write -P 10 100k 10k"])] if applied else []
    for option, name, writes in steps:
        run("qemu-io", "--image-opts", node, *(word for each in writes for word in ("-c", each)))
        run("qemu-img", "snapshot", option, name, "--image-opts", node)
    return path


IMAGES = {
    "selector": selector,
    "plain": plain,
    "deflate": deflated,
    "zstd": zstd,
    "extended L2": extended_l2,
    "snapshots": snapshots,
    "VM state": vm_state,
    "chain": chain,
    "undeclared": undeclared,
    "data file": data_file,
    "bitmaps": bitmaps,
    "name with @": name_with_at,
}
REFUSED = {"looks like VMDK": looks_like_vmdk, "wrongly declared": wrongly_declared}
ENCRYPTED = {"LUKS": encrypted("luks"), "legacy AES": encrypted("aes")}


def inject(name, *options):
    """Try every fault. Returns how many there were, and whether the image opens."""
    result = run(FAULTS, *options, name)
    print(result.stdout)
    count, verdict = re.fullmatch(r"(\d+) faults, (.*)\n", result.stdout).groups()
    return int(count), verdict


@pytest.mark.parametrize("kind", [*IMAGES, *(ENCRYPTED if has_libgcrypt() else ())])
def test_faults_in_the_core_and_in_the_backend(kind, tmp_path, record_property):
    name = {**IMAGES, **ENCRYPTED}[kind](tmp_path)
    for options in ((), ("-b",)):
        count, verdict = inject(name, *options)
        assert count > 100 and verdict == "opens"
        record_property("faults", count)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_must_be_refused_is_refused_whatever_fails(kind, tmp_path, record_property):
    count, verdict = inject(REFUSED[kind](tmp_path))
    assert count > 50 and verdict == "is refused"
    record_property("faults", count)


@pytest.mark.parametrize("applied", (False, True), ids=("deleted", "abandoned"))
def test_faults_in_what_is_left(applied, tmp_path, record_property):
    count, _ = inject(deleted(tmp_path, applied), "-l", "-e", "9")
    assert count > 150
    record_property("faults", count)


# ---- Commands ----------------------------------------------------------------------

COMMANDS = {
    deleted: (
        "info IMAGE",
        "info --json IMAGE@deleted=monday",
        "snapshots IMAGE",
        "check IMAGE",
        "map --svg=file IMAGE",
        "map IMAGE@deleted=monday",
        "verify IMAGE",
        "verify --json IMAGE@deleted=monday",
        "verify IMAGE,residue",
        "residue IMAGE",
        "residue --json IMAGE",
        "residue --map monday IMAGE",
        "selector --all --directory OUT IMAGE",
        "diff --ranges IMAGE@deleted=monday IMAGE",
        "diff IMAGE@deleted=monday IMAGE",
        "timeline --recovered IMAGE",
        "report IMAGE",
    ),
    partial(deleted, applied=True): ("verify IMAGE@abandoned", "map IMAGE@abandoned"),
    bitmaps: ("info IMAGE", "info --json IMAGE", "bitmap IMAGE fine"),
}


@pytest.fixture(scope="module")
def preload(tmp_path_factory):
    library = tmp_path_factory.mktemp("preload") / "preload.so"
    source = os.path.join(SOURCE, "tests/faults/preload.c")
    run("cc", "-shared", "-fPIC", "-o", library, source, "-ldl")
    return library


class FailingReads:
    """Runs a command while some reads of the image fail."""

    def __init__(self, preload, path, command):
        self.preload, self.path, self.command = preload, path, command
        self.runs = 0

    def run(self, first, count, ends=False):
        self.runs += 1
        out = self.path.parent / f"out{self.runs}"
        words = [
            word.replace("IMAGE", str(self.path)).replace("OUT", str(out))
            for word in self.command.split()
        ]
        if str(out) in words:
            out.mkdir()
        variables = {
            "FAULT_FILE": self.path,
            "FAULT_FIRST": first,
            "FAULT_COUNT": count,
            "FAULT_LOG": f"{out}.log",
            "LD_PRELOAD": f"{PRELOAD} {self.preload}",
            "HOME": self.path.parent,
            "PATH": "/usr/bin:/bin",
            **({"FAULT_ENDS": ""} if ends else {}),
            **sanitized(),
        }
        done = subprocess.run(
            [COMMAND, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={name: str(value) for name, value in variables.items()},
        )
        with open(f"{out}.log") as log:
            self.reads = max(int(line) for line in log)
        # A warning that something of no effect cannot be read is no part of the answer.
        lines = [line for line in done.stdout.splitlines() if not line.startswith("Warning: some")]
        return done.returncode, "\n".join(lines).replace(str(out), ""), done

    def check(self, right, first, count, ends=False):
        """The right answer, or a status of its own and a sentence that says why."""
        status, out, done = self.run(first, count, ends)
        if (status, out) == right[:2]:
            return
        assert 0 <= status < 120 and status not in (0, right[0]), (first, count, done)
        assert re.search("read|looked at|lost|wrong", done.stderr + done.stdout), (
            first,
            count,
            done,
        )
        if "--json" in self.command and status != 1:
            json.loads(done.stdout)


@pytest.mark.parametrize("make", COMMANDS, ids=("deleted", "abandoned", "bitmaps"))
def test_no_command_succeeds_with_less(make, preload, tmp_path):
    """A read fails, once or from then on, or gives nothing: the answer is right, or the status is
    neither 0 nor that of the right answer."""
    path = make(tmp_path)
    for command in COMMANDS[make]:
        failing = FailingReads(preload, path, command)
        right = failing.run(0, 0)
        assert right[0] == 0, right
        reads = failing.reads
        tried = 3 if command.split()[0] in ("diff", "timeline", "report") else 8
        points = sorted({reads * (2 * i + 1) // (2 * tried) for i in range(tried)})
        for i, first in enumerate(points):
            failing.check(right, first, 1, ends=i % 4 == 0)
            if i % 3 == 0:
                failing.check(right, first, 1 << 40)
