# SPDX-License-Identifier: MIT
"""Image names of every kind, with what they must give: the rows of the table of doors (doors.py).

Each function of GROUPS makes files in the working directory, and returns rows. The disks are file
systems of 1 MiB, distinguished by a mark in their boot block. Their content is known from what
wrote it, or from QEMU."""
import itertools
import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from . import deleted, encrypted, images
from .builder import OFFSET_MASK, ZERO, Image, pattern
from .doors import CHAIN, VIEW, Row
from .project import run_line

MIB, C = 1 << 20, 4096  # the disks' size, and the clusters' of images that are built here
MISSING = ("there is no such file", "backing=")


# ---- Disks and files -------------------------------------------------------------


@cache
def filesystem():
    """An ext4 file system with a file early.txt."""
    with TemporaryDirectory(prefix="doors") as folder:
        (Path(folder) / "files").mkdir()
        (Path(folder) / "files/early.txt").write_text("early\n")
        run_line(
            "mke2fs -q -F -t ext4 -O ^has_journal -d", f"{folder}/files", f"{folder}/raw", "1M"
        )
        return Path(folder, "raw").read_bytes()


def disk(mark):
    return pattern(mark, 512) + filesystem()[512:]


def store(target, content, kind="normal"):
    """Store content in a disk of the builder: what is not zeros."""
    size = target.image.cluster_size
    for at in range(0, len(content), size):
        piece = content[at : at + size].ljust(size, b"\0")
        if piece.strip(b"\0"):
            getattr(target, kind)(at // size, piece)


def image(path, content, snapshots=(), cluster_bits=12, kind="normal", **options):
    """Write an image of this content; `snapshots` are (ID, name, content). Returns the builder's
    image and the file's bytes."""
    made = Image(size=len(content), cluster_bits=cluster_bits, **options)
    for identifier, name, old in snapshots:
        add_snapshot(made, identifier, name, old)
    store(made.disk, content, kind)
    data = made.build()
    made.write(path, data)
    return made, data


def add_snapshot(made, identifier, name, content, **more):
    state = type(made.disk)(made, len(content))
    store(state, content)
    return made.snapshot(identifier, name, state, **more)


def overlay(path, backing, backing_format=b"raw", mark=None, **options):
    """An image over a backing file that stores its first cluster only, with a mark; None: nothing.
    It reads as `below` with the mark."""
    first = None if mark is None else disk(mark)[:C]
    return images.overlay(
        path, backing, backing_format, first, size=MIB, cluster_bits=12, **options
    )


def raw(path, mark):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(disk(mark))


def signature(path, name):
    """A selector file."""
    Path(path).write_bytes(b"TSK-QCOW2-SELECTOR 1\n" + os.fsencode(name) + b"\n")


# ---- Snapshots -------------------------------------------------------------------

SNAPSHOTS = [
    (b"1", b"first"),
    (b"2", b"before update"),
    (b"3", b"a@b"),
    (b"4", b"a,b"),
    (b"5", b"2"),
    (b"6", b"twice"),
    (b"7", b"twice"),
    (b"8", b""),
    (b"", b"without an ID"),
    (b"", b""),
    (b"11", b"x\ny"),
    (b"12", b"\xff\xfe"),
    (b"13", "Größe".encode()),
    (b"14", b"id=1"),
    (b"15", b" edges "),
    (b"16", b"backing=none"),
    (b"same", b"same"),
]
CHOICES = {
    "@1": 0,
    "@first": 0,
    "@id=1": 0,
    "@name=first": 0,
    "@index=0": 0,
    "@before update": 1,
    "@id=2": 1,
    "@name=2": 4,
    "@a@b": 2,
    "@a,,b": 3,
    "@name=a,,b": 3,
    "@id=6": 5,
    "@7": 6,
    "@index=5": 5,
    "@8": 7,
    "@index=7": 7,
    "@without an ID": 8,
    "@index=8": 8,
    "@index=9": 9,
    "@x\ny": 10,
    "@11": 10,
    "@\udcff\udcfe": 11,
    "@12": 11,
    "@Größe": 12,
    "@name=id=1": 13,
    "@ edges ": 14,
    "@name= edges ": 14,
    "@backing=none": 15,
    "@16,backing=none": 15,
    "@same": 16,
    "@1,errors=zero": 0,
}
NO_CHOICES = {
    "@nobody": "no such snapshot",
    "@": "name is empty",
    "@id=": "name is empty",
    "@name=": "name is empty",
    "@FIRST": "no such",
    "@first ": "no such",
    "@id=first": "no such",
    "@name=1": "no such",
    "@2": "several snapshots",
    "@twice": "several snapshots",
    "@index=17": "no snapshot of that index",
    "@index=-1": "no snapshot of that index",
    "@index=": "no snapshot of that index",
    "@index= 1": "no snapshot of that index",
    "@index=0x1": "no snapshot of that index",
    "@index=18446744073709551616": "no snapshot of that index",
    "@17": "no such snapshot",
}


def snapshots():
    image("disk.qcow2", disk(100), [(*key, disk(index)) for index, key in enumerate(SNAPSHOTS)])
    rows = [
        Row("the active disk", ("disk.qcow2",), disk(100)),
        Row("a path", ("./disk.qcow2",), disk(100)),
        Row("an absolute path", (os.path.abspath("disk.qcow2"),), disk(100)),
    ]
    rows += [
        Row(f"snapshot {choice!r}", (f"disk.qcow2{choice}",), disk(index), snapshot=True)
        for choice, index in CHOICES.items()
    ]
    rows += [
        Row(f"no snapshot {choice!r}", (f"disk.qcow2{choice}",), refused=(word,))
        for choice, word in NO_CHOICES.items()
    ]
    for size, title in ((2 * MIB, "grown"), (MIB // 2, "shrunk")):
        content = (disk(1) + bytes(MIB - 512) + pattern(2, 512))[:size]
        image(f"{title}.qcow2", content, [(b"1", b"then", disk(3))])
        rows += [
            Row(title, (f"{title}.qcow2",), content, filesystem=size > MIB),
            Row(f"before it was {title}", (f"{title}.qcow2@then",), disk(3), snapshot=True),
        ]
    image("one.qcow2", disk(5), [(b"2", b"2", disk(6))])
    image("none.qcow2", disk(7))
    return [
        *rows,
        Row("ID and name alike", ("one.qcow2@2",), disk(6), snapshot=True),
        Row("an image without snapshots", ("none.qcow2@1",), refused=("no snapshots",)),
    ]


def saved_memory():
    made = Image(size=MIB, cluster_bits=12)
    memory = pattern(77, 3 * C - 100)
    state = type(made.disk)(made, MIB)
    store(state, disk(1))
    for index in range(3):
        state.normal(512 + index, memory[index * C : (index + 1) * C])
    state.l1_entries = 2
    made.snapshot(b"1", b"live", state, vm_state_size=len(memory))
    add_snapshot(made, b"2", b"disk only", disk(2))
    store(made.disk, disk(3))
    made.write("disk.qcow2")
    memories = [
        Row(
            f"saved memory {name}",
            (f"disk.qcow2{name}",),
            memory,
            filesystem=False,
            vm_state=True,
            snapshot=True,
        )
        for name in (
            "@live,vmstate",
            "@1,vmstate",
            "@index=0,vmstate",
            "@live,vmstate,errors=zero",
            "@live,errors=zero,vmstate",
        )
    ]
    return [
        *memories,
        Row("its disk", ("disk.qcow2@live",), disk(1), snapshot=True),
        Row(
            "no saved memory",
            ("disk.qcow2@disk only,vmstate",),
            refused=("no VM state",),
            at=VIEW,
            snapshot=True,
        ),
        Row("memory of no snapshot", ("disk.qcow2,vmstate",), refused=("needs a snapshot",)),
    ]


# ---- Names of files --------------------------------------------------------------

FILE_NAMES = (
    "a@b.qcow2",
    "a,b.qcow2",
    "a@b,c=d.qcow2",
    "new\nline.qcow2",
    "\udcff\udcfe.qcow2",
    " edges .qcow2",
    "-dash.qcow2",
    "it's.qcow2",
    'quo"te.qcow2',
    "tab\there.qcow2",
    "@",
    ",",
    "Größe.qcow2",
    "$(x).qcow2",
    "json:{}",
    "a//b",
    "index=1",
    "100%s%n.qcow2",
)


def file_names():
    rows = []
    for mark, name in enumerate(FILE_NAMES):
        typed = f"./{name}" if name.startswith("-") else name
        Path(name).parent.mkdir(exist_ok=True)
        image(typed, disk(mark), [(b"1", b"first", disk(mark + 100))])
        unselectable = "line break" if "\n" in name else ""
        rows += [
            Row(f"the file {name!r}", (typed,), disk(mark), unselectable=unselectable),
            Row(
                f"a snapshot of the file {name!r}",
                (f"{typed}@first",),
                disk(mark + 100),
                snapshot=True,
                unselectable=unselectable,
            ),
        ]
    for mark, name in enumerate(("disk", "disk@first", "disk@first,backing=none")):
        image(name, disk(200 + mark), [(b"1", b"first", disk(210 + mark))])
        rows.append(Row(f"the longest name of a file, {name}", (name,), disk(200 + mark)))
    os.symlink("disk", "link")
    os.mkdir("directory")
    Path("empty").touch()
    raw("plain.raw", 1)
    nothing = {
        "missing.qcow2": "there is no file",
        "missing.qcow2@first": "there is no file",
        "directory": "is a directory",
        "disk/": "there is no file",
        "missing/disk": "there is no file",
        "": "there is no file",
        "x" * 300: "there is no file",
    }
    rows += [
        Row(f"nothing there: {name[:20]!r}", (name,), refused=(word,), detected="none")
        for name, word in nothing.items()
    ]
    return [
        *rows,
        Row("a symbolic link", ("link",), disk(200)),
        Row("past a directory", ("directory/../disk",), disk(200)),
        Row("an empty file", ("empty",), refused=("not a qcow2 image",), detected="other"),
        Row("a raw file", ("plain.raw",), refused=("not a qcow2 image",), detected="other"),
    ]


# ---- Options ---------------------------------------------------------------------

WRONG_OPTIONS = {
    ",": "unknown option",
    ",nonsense": "unknown option",
    ",Backing=none": "unknown option",
    ",nonsense=1": "unknown option",
    ",errors": "needs a value",
    ",errors=one": "takes the value",
    ",vmstate=1": "takes no value",
    ",under-zeros=1": "takes no value",
    ",residue=1": "takes no value",
    ",l1=": "needs a value",
    ",size=1k": "decimal number",
    ",cluster-bits=8": "9 to 21",
    ",extended-l2=1": "takes no value",
    ",compression=zlib": "takes the value",
    ",luks=-1": "decimal number",
    ",extended-l2": "has a header",
    ",backing=": "needs a value",
    ",backing": "needs a value",
    ",search=": "needs a value",
    ",key-file=": "needs a value",
    ",data-file=": "needs a value",
    ",data-file=a,data-file=b": "given twice",
    ",errors=zero@first": "@first,errors=zero",
    ",vmstate@first": "@first,vmstate",
    ",backing=none@first": "@first,backing=none",
    ",backing=key@first": "@first,backing=key",
    ",key-file=~/a,,b": "key-file=\"$HOME\"'/a,,b'",
    ",search=~/a": "search=\"$HOME\"'/a'",
}


def options():
    image("plain.qcow2", disk(1), [(b"1", b"first", disk(2))])
    raw("key", 3)
    rows = [
        Row(f"wrong option {option!r}", (f"plain.qcow2{option}",), refused=(word,))
        for option, word in WRONG_OPTIONS.items()
    ]
    rows += [
        Row(
            "a data file where none is needed",
            ("plain.qcow2,data-file=key",),
            refused=("no external data file",),
            at=CHAIN,
        ),
        Row(
            "a key where none is needed",
            ("plain.qcow2,key-file=key",),
            refused=("encrypted",),
            at=CHAIN,
        ),
        Row(
            "a backing file where none is needed",
            ("plain.qcow2,backing=key",),
            refused=("refers to none",),
            at=CHAIN,
        ),
        Row("backing=none where there is none", ("plain.qcow2,backing=none",), disk(1)),
        Row(
            "search= that is not needed",
            ("plain.qcow2,search=nowhere",),
            disk(1),
            unselectable="nowhere",
        ),
    ]
    return rows + orders()


def orders():
    """An encrypted snapshot over a base that was moved: each order of its options."""
    os.mkdir("moved")
    raw("moved/base.raw", 20)
    Path("pass word").write_bytes(b"secret\n")
    encrypted.create("locked.qcow2", MIB, options=["cluster_size=4k"], backing=("base.raw", "raw"))
    below = encrypted.raw_node("moved/base.raw")
    encrypted.write(encrypted.node("locked.qcow2", backing=below), [(0, disk(21)[:C])])
    encrypted.qemu(
        "qemu-img",
        "snapshot",
        "-c",
        "then",
        "--image-opts",
        (
            "driver=qcow2,encrypt.key-secret=s0,file.filename=locked.qcow2,"
            "backing.driver=raw,backing.file.filename=moved/base.raw"
        ),
        secrets=[b"secret"],
    )
    encrypted.write(encrypted.node("locked.qcow2", backing=below), [(0, disk(22)[:C])])
    given = ("backing=moved/base.raw", "search=moved", "key-file=pass word", "errors=zero")
    rows = [
        Row(
            f"order {order}",
            (f"locked.qcow2@then,{','.join(order)}",),
            disk(21)[:C] + disk(20)[C:],
            snapshot=True,
        )
        for order in itertools.permutations(given)
    ]
    return [
        *rows,
        Row(
            "key and search by variables",
            ("locked.qcow2",),
            disk(22)[:C] + disk(20)[C:],
            environment={"TSK_QCOW2_SEARCH": "moved", "TSK_QCOW2_KEY_FILE": "pass word"},
        ),
        Row(
            "the overlay alone",
            ("locked.qcow2,backing=none,key-file=pass word",),
            disk(22)[:C].ljust(MIB, b"\0"),
            filesystem=False,
        ),
    ]


# ---- Chains ----------------------------------------------------------------------


def chains():
    """top.qcow2 over middle.qcow2 over base.raw, here and scattered."""
    for folder in ("case", "one", "two", "com,ma"):
        os.mkdir(folder)
    overlay("case/top.qcow2", "middle.qcow2", b"qcow2", mark=1)
    overlay("one/middle.qcow2", "base.raw")
    raw("two/base.raw", 2)
    raw("com,ma/other.raw", 3)
    image("com,ma/other.qcow2", disk(4))
    overlay("whole.qcow2", "case/middle2.qcow2", b"qcow2", mark=5)
    overlay("case/middle2.qcow2", "base2.raw")
    raw("case/base2.raw", 6)
    scattered, other = disk(1)[:C] + disk(2)[C:], disk(1)[:C] + disk(3)[C:]
    top, middle, base = "case/top.qcow2", "one/middle.qcow2", "two/base.raw"
    found = [
        f"{top},backing={middle},backing={base}",
        f"{top},backing={middle},search=two",
        f"{top},search=one,search=two",
        f"{top},search=two,search=one",
        f"{top},search=two,backing={middle}",
        f"{top},search=com,,ma,search=one,search=two",
    ]
    rows = [Row(f"a chain by {name}", (name,), scattered) for name in found]
    rows += [
        Row("a chain by further names", (top, middle, base), scattered),
        Row("a chain by two names", (middle, base), disk(2)),
        Row("another base", (f"{top},backing={middle},backing=com,,ma/other.raw",), other),
        Row("another base by names", (top, middle, "com,ma/other.raw"), other),
        Row("another image", (f"{top},backing=com,,ma/other.qcow2",), disk(1)[:C] + disk(4)[C:]),
        Row(
            "no base",
            (f"{top},backing={middle},backing=none",),
            disk(1)[:C].ljust(MIB, b"\0"),
            filesystem=False,
        ),
        Row(
            "the overlay alone",
            (f"{top},backing=none",),
            disk(1)[:C].ljust(MIB, b"\0"),
            filesystem=False,
        ),
        Row("a chain that lies together", ("whole.qcow2",), disk(5)[:C] + disk(6)[C:]),
    ]
    for variable in ("one:two", "two:one", ":one::two:", "one:two:"):
        rows.append(
            Row(
                f"TSK_QCOW2_SEARCH={variable}",
                (top,),
                scattered,
                environment={"TSK_QCOW2_SEARCH": variable},
            )
        )
    refused = {
        top: MISSING,
        f"{top},backing={middle}": MISSING,
        f"{top},search=one": MISSING,
        f"{top},search=two": MISSING,
        f"{top},search=nowhere": ("nowhere",),
        f"{top},backing=missing": ("missing",),
        f"{top},backing={base}": ("format=raw",),
        f"{top},backing=none,backing={base}": ('"none" ends',),
        f"{top},backing={middle},backing={base},backing={base}": ("raw",),
        f"{top},backing={top}": ("loop",),
        f"{top},backing=one": ("directory",),
    }
    rows += [
        Row(f"refused: {name}", (name,), refused=words, at=CHAIN) for name, words in refused.items()
    ]
    rows += [
        Row("given twice", (f"{top},backing={middle}", base), refused=("given twice",)),
        Row("a further name that is missing", (top, "missing"), refused=("missing",), at=CHAIN),
        Row(
            "TSK_QCOW2_SEARCH that is gone",
            (top,),
            refused=("nowhere", "TSK_QCOW2_SEARCH"),
            at=CHAIN,
            environment={"TSK_QCOW2_SEARCH": "nowhere"},
        ),
        Row(
            "TSK_QCOW2_SEARCH that is gone, and not needed",
            (middle, base),
            disk(2),
            environment={"TSK_QCOW2_SEARCH": "nowhere"},
        ),
    ]
    return rows + left_over()


def left_over():
    """A directory to search that holds another file of the base's name than the one in the image's
    own place."""
    overlay("case/here.qcow2", "base2.raw", mark=7)
    raw("two/base2.raw", 8)
    warning = ("by searching the directory",)
    return [
        Row(
            "a search that hits another file",
            ("case/here.qcow2,search=two",),
            disk(7)[:C] + disk(8)[C:],
            warnings=warning,
            early=(),
        ),
        Row(
            "TSK_QCOW2_SEARCH that hits another file",
            ("case/here.qcow2",),
            disk(7)[:C] + disk(8)[C:],
            early=(),
            warnings=("unset TSK_QCOW2_SEARCH",),
            environment={"TSK_QCOW2_SEARCH": "two"},
        ),
        Row(
            "a directory to search that is gone, and not needed",
            ("case/here.qcow2,search=nowhere",),
            disk(7)[:C] + disk(6)[C:],
            warnings=("nowhere",),
            early=(),
            unselectable="nowhere",
        ),
        Row(
            "TSK_QCOW2_SEARCH that is gone, and another that is not",
            ("case/top.qcow2,search=one",),
            disk(1)[:C] + disk(2)[C:],
            warnings=('"nowhere" (from TSK_QCOW2_SEARCH)',),
            early=(),
            environment={"TSK_QCOW2_SEARCH": "nowhere:two"},
        ),
        Row(
            "a search that hits the same file",
            ("case/here.qcow2,search=case",),
            disk(7)[:C] + disk(6)[C:],
        ),
    ]


def data_files():
    for folder in ("case", "moved"):
        os.mkdir(folder)
    image("case/disk.qcow2", disk(1), data_file=b"guest.data")
    image("raw.qcow2", disk(2), data_file=b"raw.data", data_file_raw=True)
    image("moved.qcow2", disk(3), data_file=b"lost.data")
    os.rename("lost.data", "moved/lost.data")
    image("nameless.qcow2", disk(4), data_file=b"")[0].write(
        "nameless.qcow2", Path("nameless.qcow2").read_bytes()
    )
    nameless = Image(size=MIB, cluster_bits=12, data_file=b"")
    store(nameless.disk, disk(4))
    nameless.write("nameless.qcow2")
    Path("moved/nameless.data").write_bytes(nameless.external)
    return [
        Row("a data file", ("case/disk.qcow2",), disk(1)),
        Row("a raw data file", ("raw.qcow2",), disk(2)),
        Row("data-file=", ("moved.qcow2,data-file=moved/lost.data",), disk(3)),
        Row(
            "data-file= without a name in the image",
            ("nameless.qcow2,data-file=moved/nameless.data",),
            disk(4),
        ),
        Row("a data file that is searched for", ("moved.qcow2,search=moved",), disk(3)),
        Row(
            "a data file by the variable",
            ("moved.qcow2",),
            disk(3),
            environment={"TSK_QCOW2_SEARCH": "moved"},
        ),
        Row(
            "a data file that is lost",
            ("moved.qcow2",),
            refused=("data file", "data-file=PATH"),
            at=CHAIN,
        ),
        Row(
            "a data file without a name", ("nameless.qcow2",), refused=("data-file=PATH",), at=CHAIN
        ),
        Row(
            "data-file= that is missing",
            ("moved.qcow2,data-file=missing",),
            refused=("missing",),
            at=CHAIN,
        ),
        Row(
            "data-file= that is the image",
            ("moved.qcow2,data-file=moved.qcow2",),
            refused=("an image of the chain",),
            at=CHAIN,
        ),
    ]


# ---- Encryption ------------------------------------------------------------------


def encryption():
    for name, text in (
        ("key", b"secret\n"),
        ("crlf", b"secret\r\n"),
        ("wrong", b"sceret"),
        ("other", b"another"),
        ("empty", b""),
    ):
        Path(name).write_bytes(text)
    encrypted.create("base.qcow2", MIB, options=["cluster_size=4k"], secret=b"another")
    encrypted.write(encrypted.node("base.qcow2"), [(0, disk(1))], secrets=[b"another"])
    encrypted.create("top.qcow2", MIB, options=["cluster_size=4k"], backing=("base.qcow2", "qcow2"))
    encrypted.write(
        encrypted.node("top.qcow2", backing=encrypted.node("base.qcow2", secret=1)),
        [(0, disk(2)[:C])],
        secrets=[b"secret", b"another"],
    )
    encrypted.create("aes.qcow2", MIB, method="aes", options=["cluster_size=4k"])
    encrypted.write(encrypted.node("aes.qcow2", method="aes"), [(0, disk(3))])
    both = disk(2)[:C] + disk(1)[C:]
    aes = {"warnings": ("legacy AES",)}
    refused = {
        "top.qcow2": "passphrase",
        "top.qcow2,key-file=wrong": "passphrase",
        "top.qcow2,key-file=key": "file 2 of the chain",
        "top.qcow2,key-file=key,key-file=wrong": "file 2 of the chain",
        "top.qcow2,key-file=other,key-file=key": "file 1 of the chain",
        "top.qcow2,key-file=empty": "passphrase",
        "top.qcow2,key-file=missing": "missing",
        "aes.qcow2": "passphrase",
        "aes.qcow2,key-file=key,key-file=other": "2 passphrases",
    }
    rows = [
        Row(
            f"refused: {name}", (name,), refused=(word,), at=CHAIN, **(aes if "aes" in name else {})
        )
        for name, word in refused.items()
    ]
    return [
        *rows,
        Row("LUKS", ("base.qcow2,key-file=other",), disk(1)),
        Row("two keys", ("top.qcow2,key-file=key,key-file=other",), both),
        Row(
            "the end of a line is no part of a key",
            ("top.qcow2,key-file=crlf,key-file=other",),
            both,
        ),
        Row("the variable", ("base.qcow2",), disk(1), environment={"TSK_QCOW2_KEY_FILE": "other"}),
        Row(
            "the variable is wrong",
            ("base.qcow2",),
            refused=("TSK_QCOW2_KEY_FILE",),
            at=CHAIN,
            environment={"TSK_QCOW2_KEY_FILE": "wrong"},
        ),
        Row(
            "the variable leads nowhere",
            ("base.qcow2",),
            refused=("TSK_QCOW2_KEY_FILE",),
            at=CHAIN,
            environment={"TSK_QCOW2_KEY_FILE": "missing"},
        ),
        Row(
            "the variable is not needed",
            ("aes.qcow2,key-file=key",),
            disk(3),
            environment={"TSK_QCOW2_KEY_FILE": "missing"},
            **aes,
        ),
        Row("legacy AES", ("aes.qcow2,key-file=key",), disk(3), **aes),
    ]


# ---- Residue ---------------------------------------------------------------------


def under_zeros():
    """Disks that were zeroed, the clusters kept."""
    cleared = bytes(MIB)
    made = Image(size=MIB, cluster_bits=12)
    store(made.disk, disk(1), "zero_allocated")
    made.write("zeroed.qcow2")
    stored = sum(1 for at in range(0, MIB, C) if disk(1)[at : at + C].strip(b"\0")) * C
    late = {"late": (f" {stored} bytes that the image says are zeros",)}
    made = Image(size=MIB, cluster_bits=12)
    then = type(made.disk)(made, MIB)
    store(then, disk(2), "zero_allocated")
    for index in range(3):
        then.zero_allocated(512 + index, pattern(index, C))
    then.l1_entries = 2
    made.snapshot(b"1", b"then", then, vm_state_size=3 * C)
    made.write("later.qcow2")
    overlay("top.qcow2", "zeroed.qcow2", b"qcow2", mark=3)
    encrypted.create("locked.qcow2", MIB, options=["cluster_size=4k"])
    encrypted.write(encrypted.node("locked.qcow2"), [(0, disk(4)), "write -z 0 1M"])
    Path("key").write_bytes(b"secret")
    memory = b"".join(pattern(index, C) for index in range(3))
    memory_name = "later.qcow2@then,vmstate,under-zeros"
    return [
        Row("zeros as ever", ("zeroed.qcow2",), cleared, filesystem=False),
        Row("under zeros", ("zeroed.qcow2,under-zeros",), disk(1), **late),
        Row(
            "under zeros of a snapshot",
            ("later.qcow2@then,under-zeros,errors=zero",),
            disk(2),
            snapshot=True,
            **late,
        ),
        Row(
            "under zeros of saved memory",
            (memory_name,),
            memory,
            filesystem=False,
            vm_state=True,
            snapshot=True,
            late=(f" {3 * C} bytes that the image says are zeros",),
        ),
        Row(
            "under zeros of a backing file",
            ("top.qcow2,under-zeros",),
            disk(3)[:C] + disk(1)[C:],
            late=(f" {stored - C} bytes that the image says are zeros",),
        ),
        Row(
            "under zeros of LUKS",
            ("locked.qcow2,key-file=key,under-zeros",),
            disk(4),
            late=("1048576 bytes",),
        ),
    ]


def residue():
    """What nothing refers to: a file system in the file's last clusters, and what a snapshot's
    table leaves of its cluster."""
    os.mkdir("case")
    made = Image(size=MIB, cluster_bits=12)
    store(made.disk, disk(1), "zero_allocated")
    at = made.junk(disk(2))
    add_snapshot(made, b"1", b"first", disk(3))
    data = made.build()
    content = bytearray(len(data))
    content[at : at + MIB] = disk(2)
    for cluster, (descriptor, _) in made.disk.entries.items():
        host = descriptor & OFFSET_MASK
        content[host : host + C] = disk(1)[cluster * C :][:C]
    slack = made.snapshots_offset + made.snapshots_length
    data[slack : slack + 5] = content[slack : slack + 5] = b"older"
    made.write("case/disk.qcow2", data)
    made, data = image("base.qcow2", disk(4))
    overlay("top.qcow2", "base.qcow2", b"qcow2", mark=5)
    plain = {"filesystem": False}
    return [
        Row("residue", ("case/disk.qcow2,residue",), bytes(content), **plain),
        Row(
            "residue, errors=zero",
            ("case/disk.qcow2,errors=zero,residue",),
            bytes(content),
            **plain,
        ),
        Row("residue without any", ("base.qcow2,residue",), bytes(len(data)), **plain),
        Row(
            "residue of the topmost file",
            ("top.qcow2,residue",),
            bytes(os.path.getsize("top.qcow2")),
            **plain,
        ),
        Row(
            "residue of a snapshot",
            ("case/disk.qcow2@first,residue",),
            refused=("type 'case/disk.qcow2,residue'",),
        ),
        Row(
            "residue under zeros",
            ("case/disk.qcow2,residue,under-zeros",),
            refused=("type 'case/disk.qcow2,residue'",),
        ),
        Row(
            "saved memory of residue",
            ("case/disk.qcow2,residue,vmstate",),
            refused=("needs a snapshot",),
        ),
    ]


def left_behind(path, written, named, flags=0):
    """A disk, a snapshot of it, and an L2 table to which nothing leads: it has the clusters of
    `written` ({guest cluster: bytes}) that are `named`, with `flags` in their entries."""
    made = Image(size=MIB, cluster_bits=12)
    store(made.disk, disk(1))
    made.snapshot(b"1", b"then")
    table = {cluster: word for cluster, (word, _) in made.disk.entries.items()}
    hosts = {cluster: made.junk(data) for cluster, data in written.items()}
    table |= {cluster: host | flags for cluster, host in hosts.items() if cluster in named}
    words = [table.get(cluster, 0).to_bytes(8, "big") for cluster in range(C // 8)]
    made.junk(b"".join(words))
    made.write(path)


def abandoned():
    """The disk as it was before a snapshot was applied."""
    left_behind("left.qcow2", {0: disk(2)[:C]}, {0})
    left_behind("zeros.qcow2", {0: disk(2)[:C]}, {0}, flags=ZERO)
    row = {cluster: pattern(cluster, C) for cluster in (200, 201, 202)}
    left_behind("row.qcow2", row, {200, 202})
    between = disk(1)[: 200 * C] + b"".join(row.values()) + disk(1)[203 * C :]
    image("plain.qcow2", disk(3))
    image("named.qcow2", disk(4), [(b"1", b"abandoned", disk(5))])
    late = {"late": ("put together from 1 L2 tables", "as far as it is left")}
    before = disk(2)[:C] + disk(1)[C:]
    return [
        Row("an abandoned state", ("left.qcow2@abandoned",), before, snapshot=True, **late),
        Row(
            "only what is kept of it",
            ("left.qcow2@abandoned,only=kept,errors=zero",),
            before,
            snapshot=True,
            **late,
        ),
        Row(
            "under its zeros",
            ("zeros.qcow2@abandoned,under-zeros",),
            before,
            snapshot=True,
            late=(*late["late"], f"under-zeros: {C} bytes"),
        ),
        Row(
            "no abandoned state",
            ("plain.qcow2@abandoned",),
            refused=("there is no abandoned state",),
            at=VIEW,
            snapshot=True,
        ),
        Row("a snapshot of that name", ("named.qcow2@abandoned",), disk(5), snapshot=True),
        Row(
            "placed by neighbours",
            ("row.qcow2@abandoned,by-neighbours",),
            between,
            snapshot=True,
            late=(*late["late"], "4096 bytes are from clusters that no table of this state names"),
        ),
        Row(
            "neighbours, and only what is kept",
            ("row.qcow2@abandoned,by-neighbours,only=kept",),
            refused=("give one of them",),
        ),
        Row(
            "neighbours of the disk",
            ("row.qcow2,by-neighbours",),
            refused=("needs an abandoned state or a deleted snapshot",),
        ),
    ]


def deleted_snapshots():
    """A deleted snapshot of which everything is left, and one that lost a cluster."""
    made = Image(size=MIB, cluster_bits=12)
    store(made.disk, disk(2))
    add_snapshot(made, b"1", b"monday", disk(1), seconds=1000)
    made.write("disk.qcow2", deleted.delete(made, made.build()))
    made = Image(size=MIB, cluster_bits=12)
    store(made.disk, disk(2))
    then = add_snapshot(made, b"1", b"monday", disk(1), seconds=1000)
    host = then.entries[0][0] & OFFSET_MASK
    made.disk.force(255, 1 << 63 | host, kind="normal")
    made.write("reused.qcow2", deleted.delete(made, made.build()))
    made = Image(size=MIB, cluster_bits=12)
    store(made.disk, disk(3), "zero_allocated")
    made.snapshot(b"1", b"monday", made.disk.copy(), seconds=1000)
    for cluster in range(MIB // C):
        made.disk.clear(cluster)
    made.write("zeroed.qcow2", deleted.delete(made, made.build()))
    stored = sum(1 for at in range(0, MIB, C) if disk(3)[at : at + C].strip(b"\0")) * C
    damaged = bytes(C) + disk(1)[C:]
    plain = {"late": ("recovered",), "snapshot": True, "verified": (0, 5)}
    bad = {**plain, "verified": (4,), "filesystem": False, "bad": ((0, C),)}
    return [
        Row("a deleted snapshot", ("disk.qcow2@deleted=monday",), disk(1), **plain),
        Row("by its ID", ("disk.qcow2@deleted-id=1,only=kept",), disk(1), **plain),
        Row("reused in part", ("reused.qcow2@deleted=monday",), damaged, **bad),
        Row(
            "under the zeros of a deleted snapshot",
            ("zeroed.qcow2@deleted=monday,under-zeros",),
            disk(3),
            **{**plain, "late": ("recovered", f"under-zeros: {stored} bytes")},
        ),
        Row(
            "reused in part, errors=zero",
            ("reused.qcow2@deleted=monday,errors=zero",),
            damaged,
            zeros=True,
            **bad,
        ),
        Row(
            "no such deleted snapshot",
            ("disk.qcow2@deleted=tuesday",),
            refused=('those that can be read: ID 1 "monday"',),
        ),
        Row(
            "no deleted snapshot and only=kept",
            ("disk.qcow2,only=kept",),
            refused=("needs a deleted snapshot",),
        ),
    ]


# ---- Layouts that are given --------------------------------------------------------


def layouts():
    """Images without a header, and one whose L1 table was wiped."""
    made, data = image("lost.qcow2", disk(1))
    Path("lost.qcow2").write_bytes(bytes(C) + data[C:])
    name = f"lost.qcow2,l1={made.disk.l1_offset},cluster-bits=12,size={MIB}"
    guessed = {"warnings": ("without a header", "had a backing file"), "checked": (6,)}
    entry = bytes(4) + b"\x83" + bytes(3) + (8).to_bytes(4, "little") * 2
    table = bytes(446) + entry.ljust(64, b"\0")
    alone = table + b"\x55\xaa" + disk(4)[512:]
    made, data = image("alone.qcow2", alone)
    data[made.disk.l1_offset : made.disk.l1_offset + C] = bytes(C)
    Path("alone.qcow2").write_bytes(bytes(C) + data[C:])
    wiped, data = image("wiped.qcow2", disk(2), [(b"1", b"then", disk(3))])
    then = wiped.snapshots[0][0]
    data[wiped.disk.l1_offset : wiped.disk.l1_offset + 16] = bytes(16)
    Path("wiped.qcow2").write_bytes(data)
    return [
        Row("without a header", ("lost.qcow2",), refused=("not a qcow2",), detected="other"),
        Row("a layout for a lost header", (name,), disk(1), verified=(0, 6), **guessed),
        Row(
            "a layout, and no backing file",
            (f"{name},backing=none,errors=zero",),
            disk(1),
            verified=(0, 6),
            **guessed,
        ),
        Row("half a layout", ("lost.qcow2,cluster-bits=12",), refused=("must all be given",)),
        Row(
            "an L2 table without an L1 table",
            (f"alone.qcow2@abandoned,l1=none,cluster-bits=12,size={MIB}",),
            alone,
            snapshot=True,
            late=("put together from 1 L2 tables", "as far as it is left"),
            verified=(0, 6),
            **guessed,
        ),
        Row(
            "an L1 table for one that was wiped",
            (f"wiped.qcow2,l1={then.l1_offset}",),
            disk(3),
            warnings=("in place of what its header says",),
            checked=(6,),
            verified=(0, 6),
        ),
    ]


GROUPS = [
    snapshots,
    saved_memory,
    file_names,
    options,
    chains,
    data_files,
    encryption,
    under_zeros,
    residue,
    deleted_snapshots,
    layouts,
    abandoned,
]
