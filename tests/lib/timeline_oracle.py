# SPDX-License-Identifier: MIT
"""What `tsk-qcow2 timeline` must print, from raw disks of all states: the lines of `fls -r -m`,
each once, and the rows that mactime makes of them."""
import csv
import io
import re
import subprocess
from collections import defaultdict

from . import tools
from .file_oracle import Difference
from .project import COMMAND

SEEN = re.compile(r" \[in (.*)\]$")
ZONE = "Europe/Berlin"


def ask(*words):
    done = subprocess.run(
        [COMMAND, "timeline", *map(str, words)], capture_output=True, timeout=120, check=False
    )
    return done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode()


def lines_of(raw, start):
    """The lines of fls; `start` is the partition's first sector, or None."""
    words = ["-o", str(start), "-m", f"/{start}"] if start else ["-m", "/"]
    done = tools.run("fls", "-r", "-i", "raw", *words, raw, dropin=False)
    assert done.returncode == 0, done.complaint
    return set(done.stdout.decode(errors="surrogateescape").splitlines())


def as_fls(line):
    """A line of ours without the states, and with what fls has for control characters; the
    states."""
    fields = line.split("|")
    seen = SEEN.search(fields[1])
    name = fields[1][: seen.start()].replace("%7C", "|").replace("%25", "%")
    fields[1] = re.sub(r"\\\\x[0-9a-f]{2}", "^", name)
    return "|".join(fields), seen[1]


def spelled_out(seen, names):
    """The states of a list such as "s0..s2, active"."""
    if seen == "all":
        return frozenset(names)
    found = set()
    for part in seen.split(", "):
        first, _, last = part.partition("..")
        found |= set(names[names.index(first) : names.index(last or first) + 1])
    return frozenset(found)


def check(image, raws, start, body_path):
    """Compare both forms with the oracle. `raws`: {state's name: raw disk}, in order."""
    expected = defaultdict(set)
    for name, raw in raws.items():
        for line in lines_of(raw, start):
            expected[line].add(name)
    status, body, complaint = ask(image)
    found = {}
    for line in body.splitlines():
        text, seen = as_fls(line)
        if text in found:
            raise Difference(f"twice: {text}")
        found[text] = spelled_out(seen, list(raws))
    if status != 0 or found != expected:
        wrong = [
            f"{line}: {found.get(line)}, not {expected.get(line)}"
            for line in sorted({*found, *expected})
            if found.get(line) != expected.get(line)
        ]
        raise Difference(f"timeline {image}: {status} {complaint}" + "\n".join(wrong))
    check_csv(image, body_path)
    return len(found)


def check_csv(image, body_path):
    """mactime's rows of our body file are those of --csv, in the same order. The zone is FAT's
    too."""
    _, body, _ = ask("--zone", ZONE, image)
    body_path.write_text(body, errors="surrogateescape")
    done = subprocess.run(
        ["mactime", "-d", "-b", body_path, "-z", ZONE], capture_output=True, timeout=60, check=True
    )
    theirs = rows(done.stdout)
    status, ours, _ = ask("--csv", "--zone", ZONE, image)
    mine = rows(ours.encode(errors="surrogateescape"))
    mine = [[*row[:7], f"{row[7]} [in {row[8]}]"] for row in mine[1:]]
    mine, theirs = (without_mixed(rows, mixed_names(body)) for rows in (mine, theirs[1:]))
    if status != 0 or mine != theirs:
        differing = next((pair for pair in zip(mine, theirs) if pair[0] != pair[1]), None)
        raise Difference(
            f"timeline --csv {image}: {len(mine)} rows and {len(theirs)}," f" {differing}"
        )


def mixed_names(body):
    """Names of several lines that have not the same size, mode and owner: mactime gives all of them
    those of the last."""
    facts = defaultdict(set)
    for line in body.splitlines():
        fields = line.split("|")
        facts[fields[1].replace("%7C", "|").replace("%25", "%")].add(tuple(fields[3:7]))
    return {name for name, found in facts.items() if len(found) > 1}


def without_mixed(table, names):
    return [[row[0], "", row[2], "", "", "", *row[6:]] if row[7] in names else row for row in table]


def rows(text):
    return list(csv.reader(io.StringIO(text.decode(errors="surrogateescape"))))
