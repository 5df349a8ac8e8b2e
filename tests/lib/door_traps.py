# SPDX-License-Identifier: MIT
"""More rows of the table of doors: damage, files in other formats, selectors, and images that lead
astray."""
import os
import shutil
from pathlib import Path

from .builder import COMPRESSED, OFFSET_MASK, pattern, poke
from .door_names import MIB, C, disk, image, overlay, raw, signature
from .door_ways import COMMAND
from .doors import CHAIN, Row
from .project import run

# ---- Damage ----------------------------------------------------------------------


def damaged(content, bad):
    """The content with zeros in the bad ranges."""
    out = bytearray(content)
    for start, length in bad:
        out[start : start + length] = bytes(length)
    return bytes(out)


def damaged_rows(title, name, content, bad, **more):
    """What is damaged, and the same with errors=zero."""
    content = damaged(content, bad)
    return [
        Row(title, (name,), content, bad=bad, **more),
        Row(
            f"{title}, errors=zero", (f"{name},errors=zero",), content, bad=bad, zeros=True, **more
        ),
    ]


def noise(mark):
    """A disk without a cluster of zeros."""
    return pattern(mark, MIB)


def unaligned_entry(made, data):
    poke(data, made.disk.entry_offset(5), "Q", (made.disk.entries[5][0] & OFFSET_MASK) + 512)
    return ((5 * C, C),)


def lost_table(made, data):
    poke(data, made.disk.l1_offset, "Q", len(data) + 8 * C)
    return ((0, MIB),)


def lost_clusters(made, data):
    for index in (3, 4):
        poke(data, made.disk.entry_offset(index), "Q", len(data) + index * C)
    return ((3 * C, 2 * C),)


def two_entries(made, data):
    """Side by side, each with a reason of its own."""
    for index in (7, 8):
        poke(
            data,
            made.disk.entry_offset(index),
            "Q",
            (made.disk.entries[index][0] & OFFSET_MASK) + 1024,
        )
    return ((7 * C, C), (8 * C, C))


def bad_stream(made, data):
    at = made.disk.entries[3][0] & (1 << made.compressed_shift) - 1
    data[at : at + 40] = b"\xff" * 40
    return ((3 * C, C),)


def lost_stream(made, data):
    poke(data, made.disk.entry_offset(4), "Q", COMPRESSED | len(data) + 5000)
    return ((4 * C, C),)


DAMAGES = {
    unaligned_entry: {},
    lost_table: {},
    lost_clusters: {},
    two_entries: {},
    bad_stream: {"kind": "compressed"},
    lost_stream: {"kind": "compressed"},
}


def damages():
    rows = []
    for number, (damage, options) in enumerate(DAMAGES.items()):
        content = noise(number) if options == {} else squeezed(number)
        for compression in (0, 1) if options else (0,):
            name = f"{damage.__name__}-{compression}.qcow2"
            made, data = image(name, content, compression=compression, **options)
            bad = damage(made, data)
            made.write(name, data)
            lost = ("the file is truncated",) if damage is lost_table else ()
            rows += damaged_rows(
                name,
                name,
                content,
                bad,
                filesystem=False,
                warnings=lost,
                checked=(0,) if damage is bad_stream else (4,),
            )
    return rows + damaged_states() + damaged_chains()


def squeezed(mark):
    return b"".join(pattern(mark * 1000 + at, C // 2).hex().encode() for at in range(MIB // C))


def damaged_states():
    """Of two snapshots and the active disk, one is damaged."""
    made, data = image("states.qcow2", disk(1), [(b"1", b"good", disk(2)), (b"2", b"bad", disk(3))])
    state = made.snapshots[1][0]
    poke(data, state.entry_offset(0), "Q", (state.entries[0][0] & OFFSET_MASK) + 512)
    made.write("states.qcow2", data)
    return [
        Row("a snapshot is damaged", ("states.qcow2",), disk(1), verified=(4,), checked=(4,)),
        Row("the other one", ("states.qcow2@good",), disk(2), verified=(5,), snapshot=True),
        *damaged_rows(
            "the damaged snapshot", "states.qcow2@bad", disk(3), ((0, C),), snapshot=True
        ),
    ]


def damaged_chains():
    """The base is damaged, or the data file is cut."""
    made, data = image("base.qcow2", disk(1))
    unaligned_entry(made, data)
    made.write("base.qcow2", data)
    overlay("top.qcow2", "base.qcow2", b"qcow2", mark=2)
    content = disk(2)[:C] + disk(1)[C:]
    made, data = image("split.qcow2", noise(4), data_file=b"split.data")
    made.write("split.qcow2", data)
    os.truncate("split.data", MIB // 2 + 512)
    cut = ((MIB // 2 + 512, MIB // 2 - 512),)
    return [
        *damaged_rows("a damaged base", "top.qcow2", content, ((5 * C, C),), checked=(0,)),
        *damaged_rows(
            "a cut data file",
            "split.qcow2",
            noise(4),
            cut,
            filesystem=False,
            checked=(0, 4),
            early=(),
            warnings=("data file is truncated",),
        ),
    ]


def truncations():
    """Files that end early: in data, in an L2 table, in the L1 table, in the header."""
    rows = []
    made, data = image("whole.qcow2", noise(1), metadata_clusters=8)
    ends = {cluster: made.disk.entries[cluster][0] & OFFSET_MASK for cluster in made.disk.entries}
    for cut in (C, C + 512, 100 * C, 200 * C + 1024):
        name = f"cut-{cut}.qcow2"
        made.write(name, data[:-cut])
        end = len(data) - cut
        bad = [
            (cluster * C + max(0, end - at), C - max(0, end - at))
            for cluster, at in sorted(ends.items())
            if at + C > end
        ]
        bad = ((bad[0][0], sum(length for _, length in bad)),) if bad else ()
        rows += damaged_rows(
            f"{cut} bytes are missing",
            name,
            noise(1),
            bad,
            filesystem=False,
            warnings=("truncated",),
            checked=(4,),
        )
    header, early = "header.qcow2", "early.qcow2"
    made.write(header, data[:100])
    made.write(early, data[:50])
    rows += [
        Row("cut in the header", (header,), refused=("header",)),
        Row("cut early in the header", (early,), refused=("header",)),
    ]
    return rows


def marks():
    """Bits and tables of the header that say that something is wrong, though the disk can be
    read."""
    rows = []
    for bit, word in ((1, "marked dirty"), (2, "marked corrupt")):
        image(f"marked-{bit}.qcow2", disk(bit), incompatible=bit)
        rows.append(Row(word, (f"marked-{bit}.qcow2",), disk(bit), warnings=(word,)))
    made, data = image("refcounts.qcow2", disk(3))
    made.write("refcounts.qcow2", poke(data, 48, "Q", made.refcount_table + 512))
    rows.append(
        Row(
            "a refcount table that is none",
            ("refcounts.qcow2",),
            disk(3),
            warnings=("refcount table",),
            verified=(5,),
            checked=(4,),
        )
    )
    made, data = image("unknown.qcow2", disk(4))
    made.write("unknown.qcow2", poke(data, 72, "Q", 1 << 40))
    rows.append(Row("an unknown feature", ("unknown.qcow2",), refused=("bit 40",)))
    return rows + lost_tables()


def lost_tables():
    """Snapshot tables that are not there, or hold zeros."""
    rows = []
    for title, damage in (
        ("gone", lambda made, data: poke(data, 64, "Q", len(data) + C)),
        (
            "wiped",
            lambda made, data: data.__setitem__(
                slice(made.snapshots_offset, made.snapshots_offset + C), bytes(C)
            ),
        ),
        ("raised", lambda made, data: poke(data, 60, "I", 198)),
    ):
        made, data = image(f"{title}.qcow2", disk(1), [(b"1", b"first", disk(2))])
        damage(made, data)
        made.write(f"{title}.qcow2", data)
        warnings = ("snapshot table",)
        rows.append(
            Row(
                f"a snapshot table that is {title}",
                (f"{title}.qcow2",),
                disk(1),
                warnings=warnings,
                verified=(4,),
                checked=(4,),
            )
        )
        if title == "raised":
            rows.append(
                Row(
                    "a snapshot in it",
                    ("raised.qcow2@first",),
                    disk(2),
                    warnings=warnings,
                    verified=(5,),
                    snapshot=True,
                )
            )
        else:
            rows += [
                Row(
                    f"a snapshot in it, {choice}",
                    (f"{title}.qcow2{choice}",),
                    refused=("cannot be read",),
                    warnings=warnings,
                )
                for choice in ("@first", "@1")
            ]
            rows.append(
                Row(
                    "a snapshot in it by its index",
                    (f"{title}.qcow2@index=0",),
                    refused=("no snapshot",),
                    warnings=warnings,
                )
            )
    return rows


# ---- Images that lead astray -----------------------------------------------------

ASTRAY = {
    "/etc/hostname": "absolute path",
    "../outside.raw": '".."',
    "sub/../outside.raw": '".."',
    'json:{"driver":"raw"}': "protocol",
    "nbd://localhost/x": "protocol",
    "file:outside.raw": "protocol",
    "link.raw": "symbolic link",
    "linked/outside.raw": "symbolic link",
    "fifo": "not a regular file",
    "sub": "directory",
    "missing.raw": "no such file",
    "/dev/null": "absolute path",
    "D:\\vm\\base.raw": "Windows machine",
}


def astray():
    os.makedirs("case/sub")
    raw("outside.raw", 1)
    os.symlink("../outside.raw", "case/link.raw")
    os.symlink("..", "case/linked")
    os.mkfifo("case/fifo")
    rows = []
    for number, (reference, word) in enumerate(ASTRAY.items()):
        name = f"case/{number}.qcow2"
        overlay(name, reference, mark=number)
        rows += [
            Row(f"leads to {reference!r}", (name,), refused=(word, "backing=PATH"), at=CHAIN),
            Row(
                f"leads to {reference!r}, but the user does not",
                (f"{name},backing=outside.raw",),
                disk(number)[:C] + disk(1)[C:],
            ),
        ]
    return rows + trusted_too_far() + loops()


def trusted_too_far():
    """An undeclared backing file may be qcow2, but what it refers to is opened only if the user
    names it."""
    overlay("case/undeclared.qcow2", "middle.qcow2", None, mark=3)
    overlay("case/middle.qcow2", "base.raw", mark=4)
    raw("case/base.raw", 5)
    return [
        Row(
            "a reference of a file that was probed",
            ("case/undeclared.qcow2",),
            refused=("not followed",),
            at=CHAIN,
        ),
        Row(
            "its base is named",
            ("case/undeclared.qcow2,backing=case/middle.qcow2,backing=case/base.raw",),
            disk(3)[:C] + disk(5)[C:],
        ),
        Row(
            "a file that was probed, alone",
            ("case/undeclared.qcow2,backing=case/middle.qcow2,backing=none",),
            disk(3)[:C].ljust(MIB, b"\0"),
            filesystem=False,
        ),
    ]


def loops():
    overlay("case/self.qcow2", "self.qcow2", b"qcow2")
    overlay("case/one.qcow2", "two.qcow2", b"qcow2")
    overlay("case/two.qcow2", "one.qcow2", b"qcow2")
    os.makedirs("other")
    overlay("other/outside.qcow2", "../case/outside.qcow2", b"qcow2", mark=6)
    image("case/outside.qcow2", disk(7))
    os.rename("case/outside.qcow2", "outside.qcow2")
    both = disk(6)[:C] + disk(7)[C:]
    return [
        Row("a loop of one", ("case/self.qcow2",), refused=("loop",), at=CHAIN),
        Row("a loop of two", ("case/one.qcow2",), refused=("loop",), at=CHAIN),
        Row(
            "a base of the same name",
            ("other/outside.qcow2",),
            refused=('".."', "backing=PATH"),
            at=CHAIN,
        ),
        Row(
            "a base of the same name, searched for",
            ("other/outside.qcow2,search=other,search=.",),
            both,
        ),
        Row(
            "a base of the same name, searched for in vain",
            ("other/outside.qcow2,search=other",),
            refused=('".."',),
            at=CHAIN,
        ),
    ]


# ---- Selectors -------------------------------------------------------------------


def selectors():
    """Written by hand, and by the command."""
    os.makedirs("case/sub")
    image("case/disk.qcow2", disk(1), [(b"1", b"first", disk(2))])
    overlay("case/top.qcow2", "/lost/base.raw", mark=3)
    raw("case/sub/base.raw", 4)
    raw("outside.raw", 5)
    image("outside.qcow2", disk(6))
    names = {
        "disk.qcow2": (disk(1), {}),
        "disk.qcow2@first": (disk(2), {"snapshot": True}),
        "./disk.qcow2@id=1": (disk(2), {"snapshot": True}),
        "disk.qcow2@index=0,errors=zero": (disk(2), {"snapshot": True}),
        "top.qcow2,backing=sub/base.raw": (disk(3)[:C] + disk(4)[C:], {}),
        "top.qcow2,search=sub": (disk(3)[:C] + disk(4)[C:], {}),
    }
    rows = []
    for number, (name, (content, more)) in enumerate(names.items()):
        signature(f"case/{number}.img", name)
        rows.append(
            Row(f"a selector of {name}", (f"case/{number}.img",), content, selector=True, **more)
        )
    return rows + refused_selectors() + written_selectors()


def refused_selectors():
    refused = {
        "nothing.qcow2": "no such file",
        "../outside.qcow2": '".."',
        os.path.abspath("outside.qcow2"): "absolute path",
        "disk.qcow2@nobody": "no such snapshot",
        "disk.qcow2,nonsense": "unknown option",
        "0.img": "another selector",
        "sub/base.raw": "not a qcow2 image",
    }
    later = {
        "top.qcow2,backing=../outside.raw": '".."',
        "top.qcow2,search=..": '".."',
        "top.qcow2": "absolute path",
    }
    rows = []
    for number, (name, word) in enumerate([*refused.items(), *later.items()], 20):
        signature(f"case/{number}.img", name)
        rows.append(
            Row(
                f"a selector of {name}",
                (f"case/{number}.img",),
                refused=(word,),
                selector=True,
                **({"at": CHAIN} if name in later else {}),
            )
        )
    Path("case/40.img").write_bytes(b"TSK-QCOW2-SELECTOR 2\ndisk.qcow2\n")
    return [
        *rows,
        Row("a selector of another version", ("case/40.img",), refused=("version",), selector=True),
        Row(
            "a selector with more after it",
            ("case/0.img@first",),
            refused=("nothing can be added",),
            selector=True,
        ),
        Row(
            "a selector with an option",
            ("case/0.img,errors=zero",),
            refused=("nothing can be added",),
            selector=True,
        ),
        Row(
            "a selector that is a base",
            ("case/top.qcow2,backing=case/0.img",),
            refused=("selector",),
            at=CHAIN,
        ),
    ]


def written_selectors():
    """Signed ones lead anywhere, as long as they stay as and where they were written."""
    os.mkdir("written")
    made = {}
    image("stale.qcow2", disk(8))
    for name in ("outside.qcow2", "case/top.qcow2,backing=outside.raw", "stale.qcow2"):
        done = run(COMMAND, "selector", "--directory", "written", name, env={**os.environ})
        made[name] = done.stdout.split("  ")[0]
    os.remove("stale.qcow2")
    first, second, stale = made.values()
    shutil.copy(first, "case/moved.img")
    Path("written/changed.img").write_bytes(
        Path(first).read_bytes().replace(b"outside.qcow2", b"outside.qcow2,errors=zero")
    )
    return [
        Row("a signed selector", (first,), disk(6), selector=True),
        Row("a signed selector with a base", (second,), disk(3)[:C] + disk(5)[C:], selector=True),
        Row(
            "a signed selector whose image is gone",
            (stale,),
            refused=("is stale", "stale.qcow2", "tsk-qcow2 selector IMAGE"),
            selector=True,
        ),
        Row(
            "a signed selector that was moved",
            ("case/moved.img",),
            refused=("absolute path", "tsk-qcow2 selector '"),
            selector=True,
        ),
        Row(
            "a signed selector that was changed",
            ("written/changed.img",),
            refused=("absolute path", "tsk-qcow2 selector '"),
            selector=True,
        ),
    ]


GROUPS = [damages, truncations, marks, astray, selectors]
