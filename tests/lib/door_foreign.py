# SPDX-License-Identifier: MIT
"""Rows of the table of doors: backing and data files in other formats, and files that are not what
their names, or the images, say."""
import bz2
import gzip
import lzma
import os
import shutil
import zipfile
from pathlib import Path

from . import encrypted, version_1
from .builder import Image
from .door_names import MIB, C, disk, image, overlay, raw
from .doors import CHAIN, VIEW, Row
from .project import run, run_line

BASE, OVER = disk(1), disk(2)[:C] + disk(1)[C:]  # of the base, and of what is over it


def converted(form, name, *options):
    run_line("qemu-img convert -f raw -O", form, *options, "base.raw", name)


def make_ewf():
    with open("base.raw", "rb") as source:
        run("ewfacquirestream", "-q", "-t", "base", "-f", "encase6", stdin=source)
    return "base.E01"


def make_aff():
    run("affconvert", "-q", "base.raw")
    return "base.aff"


def make_split():
    Path("split.001").write_bytes(BASE[: MIB // 2])
    Path("split.002").write_bytes(BASE[MIB // 2 :])
    return "split.001"


def make_vmdk():
    converted("vmdk", "base.vmdk")
    return "base.vmdk"


def make_vhd():
    converted("vpc", "base.vhd", "-o", "force_size=on")
    return "base.vhd"


MAKERS = {"vmdk": make_vmdk, "vhd": make_vhd, "split": make_split}
if shutil.which("ewfacquirestream"):
    MAKERS["ewf"] = make_ewf
if shutil.which("affconvert"):
    MAKERS["aff"] = make_aff


def foreign():
    """Whatever the image declares: the user names a base in each format that libtsk reads."""
    raw("base.raw", 1)
    for declared in ("raw", "qcow2", "vmdk", "vpc", "vdi", "luks"):
        overlay(f"{declared}.qcow2", f"lost.{declared}", declared.encode(), mark=2)
    overlay("undeclared.qcow2", "lost", None, mark=2)
    rows = []
    for form, make in MAKERS.items():
        name = make()
        rows += [
            Row(
                f"{form} under one declared as {declared}",
                (f"{declared}.qcow2,backing={name}",),
                OVER,
            )
            for declared in ("raw", "undeclared", *(() if form == "split" else ("qcow2", "vdi")))
        ]
        rows += [
            Row(f"{form} by further names", ("raw.qcow2", name), OVER),
            Row(
                f"{form} in two segments",
                ("raw.qcow2", name, "base.raw"),
                refused=("name the first only",),
                at=CHAIN,
            ),
        ]
        rows.append(
            Row(
                f"{form} over a base of its own",
                (f"raw.qcow2,errors=zero,backing={name}",),
                OVER,
                zeros=True,
            )
        )
        if form == "split":
            rows.append(Row("split, by format=", (f"qcow2.qcow2,backing={name},format=raw",), OVER))
        else:
            rows += renamed(form, name)
    return rows + converted_bases() + declared_files()


def renamed(form, name):
    """A name that says nothing of the format."""
    os.makedirs("renamed", exist_ok=True)
    shutil.copy(name, f"renamed/{form}.img")
    as_told = f"raw.qcow2,backing=renamed/{form}.img,format={form}"
    cannot = form == "vmdk"  # it is looked for by the name that it gives itself
    return [
        (
            Row(f"{form} with format=", (as_told,), refused=("cannot open",), at=CHAIN)
            if cannot
            else Row(f"{form} with format=", (as_told,), OVER)
        ),
        Row(
            f"{form} that nothing calls so",
            (f"raw.qcow2,backing=renamed/{form}.img",),
            refused=("starts as", f"format={form}"),
            at=CHAIN,
        ),
        Row(
            f"{form}, and no base below it",
            (f"raw.qcow2,backing={name},backing=base.raw",),
            refused=("has none",),
            at=CHAIN,
        ),
        Row(
            f"{form} alone",
            (name,),
            refused=("not a qcow2 image", "starts as", 'leave out "-i qcow2"'),
            detected="other",
        ),
    ]


def converted_bases():
    """The image declares another format than the base has by now."""
    rows = [
        Row(f"raw under one declared as {declared}", (f"{declared}.qcow2,backing=base.raw",), OVER)
        for declared in ("vmdk", "vpc", "vdi", "luks")
    ]
    image("base.qcow2", BASE)
    rows += [
        Row(
            f"qcow2 under one declared as {declared}",
            (f"{declared}.qcow2,backing=base.qcow2",),
            OVER,
        )
        for declared in ("raw", "vmdk", "vdi", "luks")
    ]
    raw("not.vmdk", 1)
    return [
        *rows,
        Row(
            "raw that its name calls VMDK",
            ("raw.qcow2,backing=not.vmdk",),
            refused=("format=",),
            at=CHAIN,
        ),
        Row("raw, by format=", ("raw.qcow2,backing=not.vmdk,format=raw",), OVER),
        Row("a format for nothing", ("raw.qcow2,format=raw",), refused=("format",)),
        Row(
            "an unknown format",
            ("raw.qcow2,backing=base.raw,format=nonsense",),
            refused=("nonsense",),
        ),
    ]


def declared_files():
    """Files that the image itself leads to."""
    overlay("to-vhd.qcow2", "base.vhd", b"vpc", mark=2)
    overlay("to-vmdk.qcow2", "base.vmdk", b"vmdk", mark=2)
    overlay("to-undeclared.qcow2", "base.vmdk", None, mark=2)
    return [
        Row("a VHD that the image declares", ("to-vhd.qcow2",), OVER),
        Row(
            "a VMDK that the image declares",
            ("to-vmdk.qcow2",),
            refused=("backing=PATH",),
            at=CHAIN,
        ),
        Row(
            "a VMDK that nobody declares",
            ("to-undeclared.qcow2",),
            refused=("backing=PATH",),
            at=CHAIN,
        ),
    ]


# ---- Files that are something else -----------------------------------------------


def packed():
    Path("base.img.gz").write_bytes(gzip.compress(BASE))
    Path("base.img.xz").write_bytes(lzma.compress(BASE))
    Path("base.img.bz2").write_bytes(bz2.compress(BASE))
    with zipfile.ZipFile("base.img.zip", "w") as archive:
        archive.writestr("base.img", BASE)
    return ["base.img.gz", "base.img.xz", "base.img.bz2", "base.img.zip"]


def pretenders():
    """What is neither raw nor qcow2 nor read by libtsk, under an image that declares raw: never
    silently raw."""
    raw("base.raw", 1)
    overlay("top.qcow2", "lost.raw", mark=2)
    overlay("honest.qcow2", "pretender.raw", mark=2)
    files = packed()
    for form in ("vdi", "vhdx", "qed"):
        converted(form, f"base.{form}.img")
        files.append(f"base.{form}.img")
    rows = []
    for name in files:
        content = disk(2)[:C] + Path(name).read_bytes()[C:MIB].ljust(MIB - C, b"\0")
        rows += [
            Row(
                f"{name} as a base",
                (f"top.qcow2,backing={name}",),
                refused=("starts so", "format=raw"),
                at=CHAIN,
            ),
            Row(
                f"{name} as a raw base",
                (f"top.qcow2,backing={name},format=raw",),
                content,
                filesystem=False,
            ),
            Row(f"{name} alone", (name,), refused=("not a qcow2 image",), detected="other"),
        ]
    return rows + short_bases()


def short_bases():
    """Shorter than the overlay: legal, and what an incomplete copy looks like."""
    Path("short.raw").write_bytes(BASE[: MIB // 2])
    made = Image(size=MIB, cluster_bits=12, backing=b"short.raw", backing_format=b"raw")
    made.write("short.qcow2")
    return [
        Row(
            "a base that is short",
            ("short.qcow2",),
            BASE[: MIB // 2].ljust(MIB, b"\0"),
            filesystem=False,
        )
    ]


# ---- qcow version 1 --------------------------------------------------------------


def of_version_1(title, name, content=b"", **more):
    return Row(title, (name,), content, uncheckable="has no refcounts", **more)


def qcow_version_1():
    Path("key").write_bytes(b"secret")
    raw("base.raw", 1)
    version_1.make("plain.qcow", MIB, [(0, BASE)])
    version_1.make("locked.qcow", MIB, [(0, BASE)], encrypt=True)
    run_line("qemu-img convert -c -f raw -O qcow base.raw packed.qcow", check=False)
    below = encrypted.raw_node("base.raw")
    version_1.make("top.qcow", MIB, [(0, OVER[:C])], backing=("base.raw", "raw", below))
    for declared in (b"qcow", b"raw", b"qcow2"):
        overlay(f"{declared.decode()}.qcow2", "plain.qcow", declared, mark=2)
    whole = Path("plain.qcow").read_bytes()
    Path("cut.qcow").write_bytes(whole[: len(whole) - C])
    lost = (MIB - C, C)
    aes = ("legacy AES",)
    return [
        of_version_1("version 1", "plain.qcow", BASE),
        of_version_1("version 1, compressed", "packed.qcow", BASE),
        of_version_1("version 1, encrypted", "locked.qcow,key-file=key", BASE, warnings=aes),
        of_version_1("version 1 over raw", "top.qcow", OVER),
        of_version_1("version 1 over raw by hand", "top.qcow,backing=base.raw,format=raw", OVER),
        of_version_1(
            "version 1, cut", "cut.qcow", BASE[:-C] + bytes(C), bad=(lost,), warnings=("truncated",)
        ),
        of_version_1(
            "residue of version 1", "plain.qcow,residue", refused=("neither snapshots",), at=VIEW
        ),
        of_version_1("a snapshot of version 1", "plain.qcow@1", refused=("no snapshots",)),
        Row("version 1 under qcow2", ("qcow.qcow2",), OVER),
        Row("version 1 by hand", ("qcow.qcow2,backing=plain.qcow",), OVER),
        Row("version 1 by format=", ("raw.qcow2,backing=plain.qcow,format=qcow",), OVER),
        Row("version 1 declared as qcow2", ("qcow2.qcow2",), refused=("should be",), at=CHAIN),
        Row(
            "version 1 declared as raw, by hand",
            ("raw.qcow2,backing=plain.qcow",),
            refused=("format=qcow", "format=raw"),
            at=CHAIN,
        ),
    ]


GROUPS = [foreign, pretenders, qcow_version_1]
