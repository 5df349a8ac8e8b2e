# SPDX-License-Identifier: MIT
"""What `tsk-qcow2 diff --ranges` must say of two disks whose bytes are known."""
import json
import re
import subprocess

from .project import COMMAND

PIECE = 1 << 16
UNEQUAL = re.compile(rb"[^\0]+")


def ranges_of(a, b):
    """[(kind, start, length)] of two byte strings."""
    return expected_ranges(
        len(a), len(b), lambda at, n: a[at : at + n], lambda at, n: b[at : at + n]
    )


def expected_ranges(size_a, size_b, read_a, read_b, parts=None):
    """The same for disks that are read by read(offset, length). `parts` are the (start, end), in
    order, outside which both have zeros."""
    found, end = [], min(size_a, size_b)
    for start, stop in parts or [(0, end)]:
        for at in range(start, min(stop, end), PIECE):
            length = min(PIECE, stop - at, end - at)
            for low, high in unequal(read_a(at, length), read_b(at, length)):
                add(found, at + low, high - low)
    if size_a != size_b:
        found.append(("only-in-a" if size_a > size_b else "only-in-b", end, abs(size_a - size_b)))
    return found


def unequal(a, b):
    """The (start, end) where two byte strings of one length differ."""
    assert len(a) == len(b)
    if a == b:
        return []
    difference = (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(len(a), "big")
    return [match.span() for match in UNEQUAL.finditer(difference)]


def add(found, start, length):
    if found and sum(found[-1][1:]) == start:
        start, length = found[-1][1], found.pop()[2] + length
    found.append(("differs", start, length))


def diff_ranges(*words, cwd=None, env=None, timeout=120):
    """(exit status, [range], summary, stderr) of the command."""
    done = subprocess.run(
        [COMMAND, "diff", "--ranges", "--json", *map(str, words)],
        capture_output=True,
        cwd=cwd,
        env=env,
        timeout=timeout,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    summary = lines.pop() if lines else None
    assert all(line["type"] == "range" for line in lines)
    assert summary is None or summary["type"] == "summary"
    return done.returncode, lines, summary, done.stderr.decode()


def as_tuples(lines):
    return [(line["kind"], line["start"], line["length"]) for line in lines]
