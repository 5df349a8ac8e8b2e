# SPDX-License-Identifier: MIT
"""`tsk-qcow2 map`. That it gives what `qemu-img map` gives is tested by test_differential.py."""
import json
import re
import subprocess
from pathlib import Path

from lib.builder import Image, pattern
from lib.project import BUILD, SOURCE, run, sanitized

C = 4096
COMMAND = Path(BUILD, "tsk_qcow2", "tsk-qcow2")


def command(*words, status=0, cwd=None):
    done = subprocess.run(
        [COMMAND, "map", *words],
        capture_output=True,
        check=False,
        timeout=120,
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", **sanitized()},
    )
    assert done.returncode == status, done
    return done.stdout.decode()


def runs(name, **options):
    """(start, length, kind, depth, host offset) of each run, as JSON has them and as text has."""
    found = [
        (run["start"], run["length"], run["kind"], run["depth"], run["host_offset"])
        for run in json.loads(command("--json", name, **options))
    ]
    lines = [line.split() for line in command(name, **options).splitlines()]
    table = [line for line in lines if len(line) >= 4 and line[0].isdigit()]
    assert [
        (int(start), int(length), kind, int(layer), int(host[0]) if host else None)
        for start, length, kind, layer, *host in table
    ] == found
    return found


def every_kind():
    image = Image(size=16 * C, cluster_bits=12)
    for cluster in (0, 1):
        image.disk.normal(cluster, pattern(cluster, C))
    image.disk.zero(2)
    image.disk.zero_allocated(3, pattern(3, C))
    image.disk.compressed(4, bytes(C))
    image.disk.compressed(5, bytes(C))
    return image


def test_each_kind(tmp_path):
    path = tmp_path / "image.qcow2"
    every_kind().write(path)
    (data, *rest) = runs(path)
    assert data[:4] == (0, 2 * C, "data", 0) and data[4] % C == 0
    assert path.read_bytes()[data[4] : data[4] + 2 * C] == pattern(0, C) + pattern(1, C)
    assert rest[0] == (2 * C, C, "zero", 0, None)
    assert rest[1][:4] == (3 * C, C, "zero-allocated", 0) and rest[1][4] is not None
    assert rest[2] == (4 * C, 2 * C, "compressed", 0, None)
    assert rest[3] == (6 * C, 10 * C, "unallocated", 0, None)
    uncovered = runs(f"{path},under-zeros")
    assert uncovered[2][:4] == (3 * C, C, "data", 0) and uncovered[2][4] == rest[1][4]


def test_of_the_facts_that_qemu_names(tmp_path):
    path = tmp_path / "image.qcow2"
    every_kind().write(path)
    theirs = json.loads(run("qemu-img", "map", "--output=json", path).stdout)
    ours = json.loads(command("--json", path))
    for run_of_ours, run_of_theirs in zip(ours, theirs, strict=True):
        for key, value in run_of_theirs.items():
            assert run_of_ours[key] == value, (key, run_of_ours, run_of_theirs)
        assert ("offset" in run_of_ours) == ("offset" in run_of_theirs)


def test_snapshots_and_chains(tmp_path):
    (tmp_path / "base.raw").write_bytes(pattern(1, 2 * C))
    image = Image(size=4 * C, cluster_bits=12, backing=b"base.raw", backing_format=b"raw")
    old = type(image.disk)(image, 4 * C)
    old.normal(1, pattern(2, C))
    image.snapshot(b"1", b"before", old)
    image.disk.normal(3, pattern(3, C))
    image.write(tmp_path / "top.qcow2")
    assert [one[:4] for one in runs(tmp_path / "top.qcow2")] == [
        (0, 2 * C, "data", 1),
        (2 * C, C, "unallocated", 0),
        (3 * C, C, "data", 0),
    ]
    assert [one[:4] for one in runs(f"{tmp_path}/top.qcow2@before")] == [
        (0, C, "data", 1),
        (C, C, "data", 0),
        (2 * C, 2 * C, "unallocated", 0),
    ]
    assert runs(f"{tmp_path}/top.qcow2@before,backing=none")[0] == (0, C, "unallocated", 0, None)


def test_damage_is_a_run(tmp_path):
    image = every_kind()
    image.disk.force(1, 1 << 63 | 513)  # not at a multiple of the cluster size
    image.write(tmp_path / "image")
    assert (C, C, "invalid", 0, None) in runs(tmp_path / "image", status=4)


def test_residue_is_no_disk(tmp_path):
    every_kind().write(tmp_path / "image")
    command(f"{tmp_path}/image,residue", status=2)


def test_the_document_has_every_key_and_kind(tmp_path):
    every_kind().write(tmp_path / "image")
    text = Path(SOURCE, "docs", "map-json.md").read_text()
    named = set(re.findall(r"`([a-z_-]+)`", text))
    for one in json.loads(command("--json", tmp_path / "image")):
        assert set(one) | {one["kind"]} <= named
