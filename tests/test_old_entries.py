# SPDX-License-Identifier: MIT
"""Old entries after the end of tables: nothing pads a table, so what was there before goes on.

The oracle looks for the very bytes of each entry that the image ever had, in what nothing refers
to (lib/residue.py).
"""
import json
import random
import struct
import subprocess
from pathlib import Path

import pytest
from lib import core, residue
from lib.builder import Image, pattern, poke
from lib.deleted import delete
from lib.project import BUILD, run, sanitized

C = 4096
COMMAND = Path(BUILD, "tsk_qcow2", "tsk-qcow2")


def pad8(data):
    return data.ljust(-(-len(data) // 8) * 8, b"\0")


def snapshot_entry(l1_offset, id, name, seconds=0, disk_size=64 * C, l1_size=1):
    entry = struct.pack(">QIHHIIQII", l1_offset, l1_size, len(id), len(name), seconds, 0, 0, 0, 16)
    return pad8(entry + struct.pack(">QQ", 0, disk_size) + id + name)


def bitmap_entry(table_offset, name):
    return pad8(struct.pack(">QIIBBHI", table_offset, 1, 2, 1, 16, len(name), 0) + name)


def live_entries(path):
    """{(ID, name, seconds, nanoseconds): bytes} of the snapshot table."""
    walk = residue.Walk(path)
    entries, at = {}, walk.snapshots_at
    for _ in range(walk.snapshot_count):
        id_length, name, seconds, nanoseconds, extra = walk.get(">12xHHII12xI", at)
        length = 40 + extra + id_length + name
        entry = walk.read(at, length)
        texts = entry[40 + extra :]
        entries[texts[:id_length], texts[id_length:], seconds, nanoseconds] = entry
        at += -(-length // 8) * 8
    return entries


def in_residue(path, entry):
    """Whether these bytes are at a multiple of 8, where nothing refers to any of them."""
    data, used = path.read_bytes(), residue.references(path)
    at = data.find(entry)
    while at >= 0:
        if at % 8 == 0 and all(end <= at or start >= at + len(entry) for start, end in used):
            return True
        at = data.find(entry, at + 1)
    return False


def found_in(path):
    """The same keys, of what is found; with and without everything else."""
    with core.Image(path, no_chain=True) as image:
        result, _, _, found = image.find_residue()
        assert result.is_complete
        snapshots = [one for _, _, one, _, _ in found if one]
        names = sorted(one.name for one in snapshots)
        assert sorted(one[0] for one in image.old_entries()) == names
    keys = [(one.id, one.name, one.date_seconds, one.date_nanoseconds) for one in snapshots]
    assert len(set(keys)) == len(keys)
    return set(keys)


@pytest.mark.parametrize("cluster_size, seed", ((512, 1), (4096, 2), (65536, 3)))
def test_snapshots_of_qemus(cluster_size, seed, tmp_path):
    """Snapshots are taken and deleted all the time: every entry whose bytes are left is found."""
    rng, path = random.Random(seed), tmp_path / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster_size}", path, "1M")
    node = f"driver=qcow2,file.driver=file,file.discard=ignore,file.filename={path}"
    names, ever = [], {}
    for number in range(24):
        if len(names) > 2 and rng.random() < 0.45:
            run(
                *"qemu-img snapshot -d".split(),
                names.pop(rng.randrange(len(names))),
                "--image-opts",
                node,
            )
        else:
            names.append(f"{number}-" + "x" * rng.choice((1, 9, 40, 200)))
            run(*"qemu-img snapshot -c".split(), names[-1], "--image-opts", node)
        ever.update(live_entries(path))
    live = live_entries(path)
    left = {key for key, entry in ever.items() if key not in live and in_residue(path, entry)}
    assert left and found_in(path) == left
