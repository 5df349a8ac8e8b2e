# SPDX-License-Identifier: MIT
"""Rows of the table of doors: images as they are found. They do not begin where their file does,
or the file is packed."""
import io
import os
import struct
import tarfile
from pathlib import Path

from .builder import FEATURE_NAMES, Image, poke
from .door_foreign import packed
from .door_names import MIB, C, add_snapshot, disk, image, overlay, raw, store
from .doors import CHAIN, Row

XCP_NG = 0x76617465
PACKERS = {"gz": "gzip", "xz": "xz", "bz2": "bzip2", "zip": "zip"}


def archive(path, members, **options):
    """A tar archive of (name, bytes); the offset of each member's bytes."""
    with tarfile.open(path, "w", **options) as made:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            made.addfile(about, io.BytesIO(content))
    with tarfile.open(path) as made:
        return [member.offset_data for member in made]


def offsets():
    """The image begins at a byte of the file that is not its first."""
    _, data = image("whole.qcow2", disk(1), [(b"1", b"first", disk(2))])
    rows = []
    for start in (1, 512, 63 * 512, MIB, 5 * MIB + 512):
        name = f"at-{start}.raw"
        Path(name).write_bytes(bytes(start) + data + b"\xee" * 70001)
        rows += [
            Row(f"an image at byte {start}", (f"{name},offset={start}",), disk(1)),
            Row(
                f"a snapshot of an image at byte {start}",
                (f"{name}@first,offset={start}",),
                disk(2),
                snapshot=True,
            ),
        ]
        hint = (f"one begins at byte {start}", f"'{name},offset={start}'")
        is_found = start % 512 == 0 and start <= MIB
        rows.append(
            Row(
                f"a file with an image at byte {start}",
                (name,),
                refused=hint if is_found else ("not a qcow2 image", 'leave out "-i qcow2"'),
                detected="other",
            )
        )
    wrong = {
        "0": "above 0",
        "-512": "above 0",
        "0x200": "above 0",
        "512s": "above 0",
        "18446744073709551616": "above 0",
        "18446744073709551615": "a file that has",
        "513": "does not start with",
        "512,offset=512": "given twice",
    }
    rows += [
        Row(f"a wrong offset {value}", (f"at-512.raw,offset={value}",), refused=(word,))
        for value, word in wrong.items()
    ]
    return rows + offsets_of_chains()


def offsets_of_chains():
    """An offset is the image's own: its base is looked for beside the file, and begins at byte
    0."""
    raw("base.raw", 3)
    overlay("top.qcow2", "base.raw", mark=4)
    Path("disk.dd").write_bytes(bytes(4096) + Path("top.qcow2").read_bytes())
    content = disk(4)[:C] + disk(3)[C:]
    Path("twin.dd").write_bytes(bytes(4096) + overlay("x", "twin.dd", b"raw").read_bytes())
    return [
        Row("an overlay at an offset", ("disk.dd,offset=4096",), content),
        Row("the same with its base named", ("disk.dd,backing=base.raw,offset=4096",), content),
        Row("the same, the base by a further name", ("disk.dd,offset=4096", "base.raw"), content),
        Row(
            "an image whose backing file is the file that it lies in",
            ("twin.dd,offset=4096",),
            Path("twin.dd").read_bytes()[:MIB].ljust(MIB, b"\0"),
            filesystem=False,
        ),
    ]


def archives():
    """tar archives: the image in them is named. It ends where the archive says."""
    _, data = image("disk.qcow2", disk(1))
    other = image("other.qcow2", disk(2))[1]
    members = [("box.ovf", b"<xml/>"), ("disk.qcow2", bytes(data)), ("b/other.qcow2", bytes(other))]
    rows = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        name = f"box-{form}.ova"
        _, first, second = archive(name, members, format=form)
        rows += [
            Row(
                f"an archive of format {form}",
                (name,),
                refused=(f'"disk.qcow2" at byte {first}, "other.qcow2" at byte {second}',),
                detected="other",
            ),
            Row("its first image", (f"{name},offset={first}",), disk(1)),
            Row("its second image", (f"{name},offset={second}",), disk(2)),
        ]
    nothing = archive("nothing.tar", [("disk.raw", disk(3))])
    assert nothing == [512]
    whole = Path("box-1.ova").read_bytes()
    Path("short.tar").write_bytes(whole[: whole.index(b"QFI\xfb") + len(data) - C])
    return [
        *rows,
        Row(
            "an archive without an image",
            ("nothing.tar",),
            refused=("a tar archive: unpack it first", "tar --keep-old-files -xf 'nothing.tar'"),
            detected="other",
        ),
        Row("a cut archive", ("short.tar",), refused=('"disk.qcow2" at byte',), detected="other"),
        cut_member(),
    ]


def cut_member():
    """An image that was cut before it was put into the archive: what follows it is another
    member."""
    made = Image(size=2 * C, cluster_bits=12, metadata_clusters=8)
    hosts = [made.disk.normal(index, disk(7)[index * C :][:C]) for index in range(2)]
    data = made.build()
    assert len(data) == hosts[-1] + C
    (start, _) = archive("cut.tar", [("disk.qcow2", bytes(data[:-C])), ("z", b"\xee" * MIB)])
    return Row(
        "a cut image in an archive",
        (f"cut.tar,offset={start}",),
        disk(7)[:C] + bytes(C),
        bad=((C, C),),
        warnings=("truncated",),
        verified=(4,),
        checked=(4, 5, 6),
        filesystem=False,
    )


def packed_images():
    """Recognised by their first bytes. If the name says that it is a qcow2 image, autodetection
    leaves it to nobody else."""
    rows = []
    for name in packed():
        ending = name.rsplit(".", 1)[1]
        os.rename(name, f"disk.qcow2.{ending}")
        Path(f"{ending}.img").write_bytes(Path(f"disk.qcow2.{ending}").read_bytes())
        rows += [
            Row(
                f"packed by {PACKERS[ending]}",
                (f"disk.qcow2.{ending}",),
                refused=(f"compressed by {PACKERS[ending]}: unpack it first", "working directory"),
            ),
            Row(
                f"packed by {PACKERS[ending]}, with another name",
                (f"{ending}.img",),
                refused=(f"compressed by {PACKERS[ending]}: unpack it first",),
                detected="other",
            ),
        ]
    archive("disk.QCOW2.tar", [("disk.qcow2", bytes(image("disk.qcow2", disk(1))[1]))])
    raw("disk.qcow2.bak", 5)
    return [
        *rows,
        Row("an archive", ("disk.QCOW2.tar",), refused=('"disk.qcow2" at byte 512',)),
        Row("only the name", ("disk.qcow2.bak",), refused=("not a qcow2",), detected="other"),
    ]


# ---- Ways into images that break a rule ----------------------------------------


def names_outside():
    """The backing file's name is not in the first cluster."""
    raw("base.raw", 3)
    made = Image(size=MIB, cluster_bits=12, backing=b"x", backing_format=b"raw")
    made.disk.normal(0, disk(4)[:C])
    data = made.build()
    poke(poke(data, 8, "Q", len(data)), 16, "I", 8)
    Path("outside.qcow2").write_bytes(data + b"base.raw")
    content, warned = disk(4)[:C] + disk(3)[C:], {"warnings": ("first cluster",), "checked": (0, 5)}
    return [
        Row(
            "a name outside of the first cluster",
            ("outside.qcow2",),
            refused=("first cluster", "backing=PATH"),
            at=CHAIN,
            early=("first cluster",),
        ),
        Row("the same, named", ("outside.qcow2,backing=base.raw",), content, **warned),
        Row("the same, found", ("outside.qcow2,search=.",), content, **warned),
        Row(
            "the same, alone",
            ("outside.qcow2,backing=none",),
            disk(4)[:C].ljust(MIB, b"\0"),
            filesystem=False,
            **warned,
        ),
    ]


def header_lengths():
    """The header's length counts the extensions."""
    extensions = [(FEATURE_NAMES, bytes(96))]
    made, data = image("right.qcow2", disk(1), header_length=104, extensions=extensions)
    poke(data, 100, "I", 104 + len(made.extension_bytes()))
    Path("long.qcow2").write_bytes(data)
    warned = {"warnings": ("header's length",)}
    return [
        Row("an honest length", ("right.qcow2",), disk(1)),
        Row("a length that counts extensions", ("long.qcow2",), refused=("header-length=104",)),
        Row("the right length", ("long.qcow2,header-length=104",), disk(1), **warned),
        Row(
            "a length where none is needed",
            ("right.qcow2,header-length=104",),
            refused=("Leave out",),
            at=CHAIN,
        ),
        Row("too short a length", ("long.qcow2,header-length=72",), refused=("above 103",)),
    ]


def long_entries():
    """A snapshot has more extra data than is allowed."""
    made = Image(size=MIB, cluster_bits=12)
    for index in range(3):
        extra = struct.pack(">QQ", 0, MIB) + bytes(3000) if index == 1 else None
        add_snapshot(made, b"%d" % index, b"name%d" % index, disk(index), extra=extra)
    store(made.disk, disk(9))
    made.write("disk.qcow2")
    warned = {"warnings": ("extra data",), "verified": (4,), "checked": (4,)}
    return [Row("the active disk", ("disk.qcow2",), disk(9), **warned)] + [
        Row(
            f"snapshot {index}",
            (f"disk.qcow2@{index}",),
            disk(index),
            snapshot=True,
            **{**warned, "verified": (5,)},
        )
        for index in range(3)
    ]


# ---- Chains as other systems name them -------------------------------------------

NAMES = {
    "json": 'json:{"driver":"qcow2","file":{"driver":"file","filename":"/x/base.raw"}}',
    "windows": "C:\\Users\\me\\base.raw",
    "clone": "../9000/base.raw",
    "volume": "/dev/vg0/base.raw",
    "nova": "/var/lib/nova/instances/_base/base.raw",
}


def conventions():
    """Backing names of other systems: refused, and found by search=."""
    os.mkdir("bases")
    raw("bases/base.raw", 3)
    content = disk(4)[:C] + disk(3)[C:]
    rows = []
    for form, name in NAMES.items():
        overlay(f"{form}.qcow2", name, mark=4)
        rows += [
            Row(f"{form}, found", (f"{form}.qcow2,search=bases",), content),
            Row(f"{form}, named", (f"{form}.qcow2,backing=bases/base.raw",), content),
            Row(
                f"{form} alone",
                (f"{form}.qcow2",),
                refused=("base.raw", ",search=DIRECTORY"),
                at=CHAIN,
            ),
        ]
    overlay("nbd.qcow2", "nbd://localhost/base.raw", mark=4)
    return [
        *rows,
        Row(
            "nbd is not searched for",
            ("nbd.qcow2,search=bases",),
            refused=("nbd://localhost/base.raw", ",backing=PATH"),
            at=CHAIN,
        ),
        Row("nbd, named", ("nbd.qcow2,backing=bases/base.raw",), content),
    ]


def hypervisors():
    """XCP-ng's hidden copies; a copied volume, which is longer than its image."""
    extensions = [(XCP_NG, bytes([1]) + bytes(7))]
    image("hidden.qcow2", disk(1), extensions=extensions)
    overlay("top.qcow2", "hidden.qcow2", b"qcow2", mark=2)
    Path("volume").write_bytes(Path("hidden.qcow2").read_bytes() + b"\xee" * 70000)
    return [
        Row("a hidden image", ("hidden.qcow2",), disk(1)),
        Row("an image over a hidden one", ("top.qcow2",), disk(2)[:C] + disk(1)[C:]),
        Row("a volume", ("volume",), disk(1)),
    ]


GROUPS = [
    offsets,
    archives,
    packed_images,
    names_outside,
    header_lengths,
    long_entries,
    conventions,
    hypervisors,
]
