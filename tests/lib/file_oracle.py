# SPDX-License-Identifier: MIT
"""What `tsk-qcow2 diff` must say, from two raw disks: tsk_loaddb records and hashes all files of
each, and the difference is computed here by the rules of docs/diff-json.md."""
import json
import re
import sqlite3
import subprocess
from collections import Counter, defaultdict, namedtuple
from pathlib import Path

from . import tools
from .project import COMMAND

FILES, ALLOCATED, DIRECTORY, REGULAR, SYMBOLIC_LINK = 0, 1, 2, 1, 6  # tsk_loaddb's numbers
VIRTUAL = (10, 11)
TIMES = ("modified", "accessed", "inode_changed", "born")

File = namedtuple("File", "path inode sequence type size times mode owner streams layout first")


class Difference(AssertionError):
    """The command and the oracle do not agree."""


# ---- What stock tools say ------------------------------------------------------------


def files_of(raw):
    """{path: File} of all allocated names, and the type of the file system."""
    database = Path(f"{raw}.db")
    database.unlink(missing_ok=True)
    done = tools.run("tsk_loaddb", "-h", "-i", "raw", "-d", str(database), str(raw), dropin=False)
    assert done.returncode == 0, done.complaint
    with sqlite3.connect(database) as connection:
        connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
        found = connection.execute("select fs_type, img_offset from tsk_fs_info").fetchone()
        assert found, f"tsk_loaddb finds no file system in {raw}: {done.complaint}"
        kind, offset = found
        layouts = defaultdict(list)  # a file's runs are those of its slack, where it has some
        for path, *run in connection.execute(
            "select f.parent_path || case f.type when 7 then substr(f.name, 1, length(f.name) - 6)"
            " else f.name end, byte_start, byte_len from tsk_file_layout l"
            " join tsk_files f on f.obj_id = l.obj_id where f.dir_flags = 1"
            " order by l.obj_id, sequence"
        ):
            layouts[path].append(tuple(run))
        rows = connection.execute(
            "select name, parent_path, meta_addr, meta_seq, meta_type, dir_type, size,"
            " mtime, atime, ctime, crtime, mode, uid, gid, md5 from tsk_files"
            " where type = 0 and dir_flags = 1 and name not in ('', '.', '..')"
        ).fetchall()
    database.unlink()
    files = collect(rows, layouts, kind == 1)
    for file in files.values():
        if file.type == SYMBOLIC_LINK:
            file.layout["link"] = file.streams["link"] = link_of(raw, offset // 512, file.inode)
    return files, kind


def link_of(raw, start, inode):
    """Where a symbolic link leads to, which tsk_loaddb does not record."""
    told = tools.run("istat", "-i", "raw", "-o", str(start), raw, str(inode), dropin=False)
    return re.search(r"symbolic link to: (.*)", told.stdout.decode())[1]


def is_fat(kind):
    return kind != 1 and bool(kind & 0xE)


def collect(rows, layouts, is_ntfs):
    found = {}
    for name, parent, inode, sequence, kind, of_name, size, *rest in rows:
        if of_name in VIRTUAL:
            continue
        times, (mode, user, group, md5) = rest[:4], rest[4:]
        runs = layouts[parent + name]
        name, _, stream = name.partition(":") if is_ntfs else (name, "", "")
        path = parent + name
        known = found.get(path)
        if known is None or not stream:
            streams = dict(known.streams) if known else {}
            layout = dict(known.layout) if known else {}
            first = runs[0][0] if runs else 0
            found[path] = File(
                path,
                inode,
                sequence,
                kind,
                size,
                tuple(times),
                mode,
                (user, group),
                streams,
                layout,
                first,
            )
        if kind != DIRECTORY:
            found[path].streams[stream] = (size, md5)
            found[path].layout[stream] = (size, runs)
    return found


# ---- The rules -------------------------------------------------------------------------


def name_of(path):
    return path.rsplit("/", 1)[1]


def parent_of(path):
    return path.rsplit("/", 1)[0]


class Expectation:
    """Pairs files of two states, and says what changed."""

    def __init__(self, a, b, kind):
        self.a, self.b = a, b
        self.is_fat, self.is_ntfs = is_fat(kind), kind == 1
        self.mates, self.back = {}, {}  # path in B -> path in A, and the way back
        self.pair()

    def is_same(self, a, b, is_same_name):
        if a.type != b.type:
            return False
        if self.is_ntfs:
            return (a.inode, a.sequence) == (b.inode, b.sequence)
        if self.is_fat:
            start = a.first != 0 and a.first == b.first
            born = a.times[3] == b.times[3]
            if is_same_name:
                return start or born
            return start and born and self.looks_same(a, b)
        if a.inode != b.inode or (a.times[3] and b.times[3] and a.times[3] != b.times[3]):
            return False
        return is_same_name or self.looks_same(a, b)

    @staticmethod
    def looks_same(a, b):
        return (
            a.layout == b.layout
            and a.size == b.size
            or (a.size, a.times[0]) == (b.size, b.times[0])
            or name_of(a.path) == name_of(b.path)
        )

    def old_path(self, path):
        """Where in A a path of B would be; None: its directory is not there."""
        parent = parent_of(path)
        if parent and parent not in self.mates:
            return None
        return (self.mates[parent] if parent else "") + "/" + name_of(path)

    def marry(self, a, b):
        self.mates[b], self.back[a] = a, b

    def pair(self):
        by_inode = defaultdict(list)
        for path, file in self.a.items():
            by_inode[file.first if self.is_fat else file.inode].append(path)
        for path in sorted(self.b, key=lambda path: path.count("/")):
            file, old = self.b[path], self.old_path(path)
            if old in self.a and old not in self.back and self.is_same(self.a[old], file, True):
                self.marry(old, path)
            elif file.type == DIRECTORY:
                self.pair_by_inode(file, by_inode)
        for is_wanted in (
            lambda old, new: name_of(old) == name_of(new),
            lambda old, new: parent_of(old) == parent_of(self.old_path(new) or "nowhere"),
            lambda old, new: True,
        ):
            for path in sorted(self.b, key=lambda path: path.count("/")):
                if path not in self.mates:
                    self.pair_by_inode(self.b[path], by_inode, is_wanted)

    def pair_by_inode(self, file, by_inode, is_wanted=lambda old, new: True):
        for old in by_inode[file.first if self.is_fat else file.inode]:
            if (
                old not in self.back
                and is_wanted(old, file.path)
                and self.is_same(self.a[old], file, False)
            ):
                self.marry(old, file.path)
                return

    def aspects(self, old, new):
        a, b = self.a[old], self.b[new]
        found = {name for name, x, y in zip(TIMES, a.times, b.times) if x != y}
        found |= {
            name
            for name, x, y in (
                ("mode", a.mode, b.mode),
                ("owner", a.owner, b.owner),
                ("size", a.size, b.size),
                ("content", (a.type, a.streams), (b.type, b.streams)),
                ("renamed", name_of(old), name_of(new)),
            )
            if x != y
        }
        if self.old_path(new) is None or parent_of(self.old_path(new)) != parent_of(old):
            found.add("moved")
        return found

    def changes(self):
        """{(path in A or None, path in B or None): (kind, aspects)}."""
        found = {}
        for new, old in self.mates.items():
            if aspects := self.aspects(old, new):
                found[old, new] = ("changed", aspects)
        for new in set(self.b) - set(self.mates):
            old = self.old_path(new)
            is_replaced = (
                old in self.a
                and old not in self.back
                and DIRECTORY not in (self.a[old].type, self.b[new].type)
            )
            if is_replaced:
                found[old, new] = ("replaced", self.aspects(old, new))
            else:
                found[None, new] = ("created", set())
        told = {old for old, _ in found}
        for old in set(self.a) - set(self.back) - told:
            found[old, None] = ("deleted", set())
        return found


# ---- What the command says ---------------------------------------------------------------


def ask(*words, timeout=120):
    """(exit status, [line as JSON], stderr)."""
    done = subprocess.run(
        [COMMAND, "diff", "--json", *map(str, words)],
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    return (
        done.returncode,
        [json.loads(line) for line in done.stdout.splitlines()],
        done.stderr.decode(errors="replace"),
    )


def said(lines):
    """The changes in the form of Expectation.changes()."""
    found = {}
    for line in lines:
        if line["type"] != "file":
            continue
        a, b = line["a"], line["b"]
        aspects = set(line["aspects"]) - {"links"}  # tsk_loaddb does not record it
        for name in TIMES if a and b else ():  # tsk_loaddb has seconds
            if a[name] and b[name] and seconds(a[name]) == seconds(b[name]):
                aspects.discard(name)
        kind = line["status"] if line["status"] in ("created", "deleted", "replaced") else "changed"
        if kind == "changed" and not aspects:
            continue
        pair = (a and a["path"], b and b["path"])
        assert pair not in found, f"{pair} is told twice"
        found[pair] = (kind, aspects)
    return found


def seconds(text):
    return text.split(".")[0].rstrip("Z")


def check(name_a, name_b, raw_a, raw_b):
    """Compare what the command says of two states with what it must. Returns what was counted."""
    (a, kind), (b, _) = files_of(raw_a), files_of(raw_b)
    expectation = Expectation(a, b, kind)
    expected = {
        tuple(path and escaped(path) for path in pair): what
        for pair, what in expectation.changes().items()
    }
    status, lines, complaint = ask(name_a, name_b)
    found = said(lines)
    if status != 0 or found != expected:
        raise Difference(describe(name_a, name_b, status, complaint, found, expected))
    check_facts(lines, a, b)
    check_inodes(lines, a, b, expectation)
    return Counter(kind for kind, _ in expected.values()) + Counter(
        aspect for _, aspects in expected.values() for aspect in aspects
    )


def escaped(path):
    """As the command prints it: no name of the histories needs more than this."""
    return path


def describe(name_a, name_b, status, complaint, found, expected):
    wrong = [f"diff {name_a} {name_b}: exit status {status} {complaint}"]
    for pair in sorted({*found, *expected}, key=str):
        if found.get(pair) != expected.get(pair):
            wrong.append(f"{pair}: {found.get(pair)}, not {expected.get(pair)}")
    return "\n".join(wrong)


def check_facts(lines, a, b):
    """Inodes, sizes, modes and owners of both sides are those that stock tools say."""
    for line in lines:
        for side, files in (("a", a), ("b", b)) if line["type"] == "file" else ():
            if not line[side]:
                continue
            said_of, file = line[side], files[line[side]["path"]]
            facts = (said_of["inode"], said_of["size"], said_of["uid"], said_of["gid"])
            if facts != (file.inode, file.size, *file.owner):
                raise Difference(f"{said_of} is not {file}")


def check_inodes(lines, a, b, expectation):
    """Where the inode of a file that went is another file's, and the way back."""
    if expectation.is_fat:
        return
    for line in lines:
        if line["type"] != "file" or line["status"] not in ("created", "deleted", "replaced"):
            continue
        for side, files, others, key in (
            ("a", a, b, "inode_reused_by"),
            ("b", b, a, "inode_reused_from"),
        ):
            if not line[side]:
                continue
            own = files[line[side]["path"]]
            same = [path for path, file in others.items() if file.inode == own.inode]
            is_reused = bool(same) and not any(
                expectation.is_same(*(own, others[path])[:: 1 if side == "a" else -1], False)
                for path in same
            )
            if bool(line[key]) != is_reused or (line[key] and line[key] not in same):
                raise Difference(f"{key} of {line}: {same}")
