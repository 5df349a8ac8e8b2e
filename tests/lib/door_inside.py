# SPDX-License-Identifier: MIT
"""Rows of the table of doors: images inside a disk, OUTER//START/PATH."""
import os
from pathlib import Path

from . import door_names, inside
from .builder import Image, poke
from .door_foreign import MAKERS
from .door_names import MIB, C, disk, image, overlay, raw, signature
from .doors import CHAIN, Row
from .project import run_line

EXT4, NTFS = 2048, 20 * 2048


def host():
    """host.raw with an ext4 and an NTFS partition, which have the same images; the files are in
    the folder `files`."""
    Path("files/vm").mkdir(parents=True)
    os.chdir("files/vm")
    image("disk.qcow2", disk(1), [(b"1", b"first", disk(2))])
    overlay("top.qcow2", "base.raw", mark=3)
    raw("base.raw", 4)
    overlay("astray.qcow2", "/etc/passwd", mark=5)
    image("gone.qcow2", disk(6))
    os.chdir("../..")
    inside.partition_table("host.raw", 36, {EXT4: "83", NTFS: "7"})
    inside.ext4("host.raw", "files", EXT4, 16)
    flat = {path.name: path for path in sorted(Path("files/vm").iterdir())}
    inside.ntfs("host.raw", flat, NTFS, 16)
    number = inside.numbers("host.raw", NTFS)["gone.qcow2"]
    inside.Record("host.raw", NTFS, int(number.split("-")[0])).delete()
    return number


def inside_disks():
    number = host()
    ext4, ntfs = f"host.raw//{EXT4}/vm", f"host.raw//{NTFS}"
    chain, own = disk(3)[:C] + disk(4)[C:], disk(3)[:C] + disk(7)[C:]
    raw("own.raw", 7)
    signature("select.img", f"host.raw//{EXT4}/vm/disk.qcow2@first")
    first = inside.numbers("host.raw", EXT4)["vm/disk.qcow2"]
    rows = [
        Row("inside ext4", (f"{ext4}/disk.qcow2",), disk(1)),
        Row("a snapshot inside ext4", (f"{ext4}/disk.qcow2@first",), disk(2), snapshot=True),
        Row("inside NTFS", (f"{ntfs}/disk.qcow2@first",), disk(2), snapshot=True),
        Row("by number", (f"host.raw//{EXT4}/#{first}@first",), disk(2), snapshot=True),
        Row("a chain inside", (f"{ext4}/top.qcow2",), chain),
        Row("a deleted image", (f"{ntfs}/#{number}",), disk(6), warnings=("deleted",)),
        Row("a base of this machine", (f"{ext4}/top.qcow2,backing=own.raw",), own),
        Row("a base in another partition", (f"{ext4}/top.qcow2,backing=//{NTFS}/base.raw",), chain),
        Row("the same by further names", (f"{ext4}/top.qcow2", f"//{NTFS}/base.raw"), chain),
        Row("zeros for errors", (f"{ext4}/top.qcow2,errors=zero",), chain),
        Row("a selector of it", ("select.img",), disk(2), snapshot=True, selector=True),
        Row(
            "a base that the image may not name",
            (f"{ext4}/astray.qcow2",),
            refused=("/etc/passwd", "absolute path", "backing=//START/PATH"),
            at=CHAIN,
        ),
    ]
    wrong = {
        f"//{EXT4}/vm/none": 'no "none" in the directory "/vm"',
        f"//{EXT4}/vm": "it is a directory",
        "//63/vm/disk.qcow2": "partitions begin at sector 2048",
        "//x/vm/disk.qcow2": "START/PATH",
        "//": "START/PATH",
        f"@first//{EXT4}/vm/disk.qcow2": "not a qcow2 image",
        f"//{EXT4}/vm/base.raw": "Inside a disk, only qcow2",
        f"//{EXT4}/vm/disk.qcow2@none": "no such snapshot",
        f"//{EXT4}/vm/disk.qcow2,search=//{EXT4}/vm": "directory of this machine",
    }
    return rows + [
        Row(f"wrong {rest}", (f"host.raw{rest}",), refused=(word,)) for rest, word in wrong.items()
    ]


def inside_other_formats():
    """The disk around is qcow2, or what others read."""
    Path("files").mkdir()
    image("files/disk.qcow2", disk(1), [(b"1", b"first", disk(2))])
    inside.ext4("base.raw", "files", 0, 16)
    Path("part.001").write_bytes(Path("base.raw").read_bytes()[: 5 * MIB])
    Path("part.002").write_bytes(Path("base.raw").read_bytes()[5 * MIB :])
    rows = []
    for form, make in MAKERS.items():
        name = "part.001" if form == "split" else make()
        rows.append(
            Row(
                f"inside {form}",
                (f"{name}//0/disk.qcow2@first",),
                disk(2),
                snapshot=True,
                warnings=(),
            )
        )
    run_line("qemu-img convert -f raw -O qcow2 base.raw outer.qcow2")
    run_line("qemu-img snapshot -c then outer.qcow2")
    run_line("cp outer.qcow2 left.qcow2")
    node = "driver=qcow2,file.driver=file,file.discard=ignore,file.filename=left.qcow2"
    run_line("qemu-img snapshot -d then --image-opts", node)
    inside.ext4("deep.raw", None, 0, 32)
    inside.change_ext4("deep.raw", 0, ["write outer.qcow2 outer.qcow2"])
    return rows + [
        Row("inside a snapshot", ("outer.qcow2@then//0/disk.qcow2@first",), disk(2), snapshot=True),
        Row(
            "inside a deleted snapshot",
            ("left.qcow2@deleted=then//0/disk.qcow2@first",),
            disk(2),
            snapshot=True,
            warnings=("recovered: this is deleted snapshot",),
        ),
        Row("two deep", ("deep.raw//0/outer.qcow2@then//0/disk.qcow2",), disk(1)),
        Row("five deep", ("deep.raw" + 5 * "//0/outer.qcow2",), refused=("more than 4 disks",)),
    ]


def damaged_around():
    """The entry of a cluster of the disk around is invalid: a part of the image cannot be read."""
    noise = door_names.pattern(9, MIB)
    Path("files").mkdir()
    image("files/disk.qcow2", noise, cluster_bits=16)
    inside.ext4("plain.raw", "files", 0, 8)
    data = Path("plain.raw").read_bytes()
    middle = data.index(noise[MIB // 2 : MIB // 2 + 512])
    outer = Image(size=len(data), cluster_bits=12)
    door_names.store(outer.disk, data)
    built = outer.build()
    entry = outer.disk.entry_offset(middle // C)
    poke(built, entry, "Q", int.from_bytes(built[entry : entry + 8], "big") + 512)
    outer.write("outer.qcow2", built)
    bad = ((MIB // 2, C),)
    content = noise[: MIB // 2] + bytes(C) + noise[MIB // 2 + C :]
    return [
        Row(
            "damage around",
            ("outer.qcow2//0/disk.qcow2",),
            content,
            bad=bad,
            filesystem=False,
            checked=(0,),
        ),
        Row(
            "damage around, errors=zero inside",
            ("outer.qcow2//0/disk.qcow2,errors=zero",),
            content,
            bad=bad,
            zeros=True,
            filesystem=False,
            checked=(0,),
        ),
    ]


GROUPS = [inside_disks, inside_other_formats, damaged_around]
