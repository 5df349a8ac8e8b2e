# SPDX-License-Identifier: MIT
"""What survives which operation of QEMU's in a qcow2 file: measured, for docs/residue.md.

Each operation is done twice: where discards reach the file (as qemu-img does it, and `-drive`), and
where they do not (`-blockdev` with the file node's default, as Proxmox sets up disks).
"""
import os
import subprocess
import tempfile
from pathlib import Path

from . import core
from .project import run

KIB, MIB = 1 << 10, 1 << 20
REACHES = ("unmap", "ignore")  # the discard option of the file node


class Case:
    """An image in a folder of its own, whose file node has this discard option."""

    def __init__(self, folder, discard):
        self.path, self.discard = Path(folder, "disk.qcow2"), discard
        self.create()

    def create(self, *options):
        words = [word for option in options for word in ("-o", option)]
        run("qemu-img", "create", "-q", "-f", "qcow2", *words, self.path, "16M")

    @property
    def node(self):
        return (
            f"driver=qcow2,discard=unmap,file.driver=file,file.filename={self.path},"
            f"file.discard={self.discard}"
        )

    def io(self, *steps):
        words = [word for step in steps for word in ("-c", step)]
        run("qemu-io", "--image-opts", *words, self.node)

    def img(self, command, *words):
        run("qemu-img", command, *words, "--image-opts", self.node)

    def share(self, byte, total, under_zeros=False):
        """ "kept", "gone" or "in part": of `total` bytes, how many are in the residue, or are shown
        under zeros."""
        with core.Image(self.path) as image:
            with image.view(under_zeros=True) if under_zeros else image.residue() as view:
                found = view.read(0, view.size).count(bytes([byte]))
        return "kept" if found >= total else "gone" if found == 0 else "in part"


def deleted_snapshot(case):
    case.io("write -P 65 0 2M")
    case.img("snapshot", "-c", "then")
    case.io("write -P 66 0 2M")
    case.img("snapshot", "-d", "then")
    return case.share(65, 2 * MIB)


def entry_of_a_deleted_snapshot(case):
    deleted_snapshot(case)
    with core.Image(case.path) as image:
        found = [one for one in image.find_residue()[3] if one[2]]
    return "kept" if found and found[0][3] == "there" else "in part" if found else "gone"


def state_before_a_snapshot_was_applied(case):
    case.io("write -P 66 0 2M")
    case.img("snapshot", "-c", "then")
    case.io("write -P 65 0 2M")
    case.img("snapshot", "-a", "then")
    return case.share(65, 2 * MIB)


def zeros_written(case):
    case.io("write -P 65 0 2M", "write -z 0 2M")
    return case.share(65, 2 * MIB, under_zeros=True)


def zeros_written_with_unmap(case):
    case.io("write -P 65 0 2M", "write -z -u 0 2M")
    return case.share(65, 2 * MIB)


def subclusters_zeroed(case):
    case.create("extended_l2=on", "cluster_size=64k")
    case.io("write -P 65 0 2M")
    case.io(*(f"write -z {at} 32k" for at in range(0, 2 * MIB, 64 * KIB)))
    return case.share(65, MIB)


def old_table_after(case, offset, tool, *words):
    """Whether a table at a host offset is residue after a command, and not zeros."""
    run("qemu-img", tool, "-q", *words)
    with core.Image(case.path) as image, image.residue() as view:
        return "kept" if any(view.read(offset, 8)) else "gone"


def l1_of_a_smaller_disk(case):
    case.create("cluster_size=4k")
    case.io("write -P 65 0 2M")
    with core.Image(case.path) as image:
        offset = image.header.l1_offset
    return old_table_after(case, offset, "resize", "--image-opts", case.node, "16G")


def refcount_table_of_another_width(case):
    case.io("write -P 65 0 2M")
    with core.Image(case.path) as image:
        offset = image.header.refcount_table_offset
    return old_table_after(
        case, offset, "amend", "-o", "refcount_bits=32", "--image-opts", case.node
    )


def leaked(case):
    """Two megabytes that no table names, with refcounts: as after a kill before a flush."""
    case.io("write -P 65 0 2M")
    with core.Image(case.path) as image:
        l1 = image.header.l1_offset
    with open(case.path, "r+b") as file:
        file.seek(l1)
        file.write(bytes(8))


def leaked_clusters(case):
    leaked(case)
    return case.share(65, 2 * MIB)


def leaked_clusters_after_a_repair(case):
    leaked(case)
    run("qemu-img", "check", "-q", "-r", "leaks", "--image-opts", case.node)
    case.io("write -P 66 0 2M")
    return case.share(65, 2 * MIB)


def name_of_an_old_backing_file(case):
    bases = [case.path.parent / name for name in ("first-base.raw", "second.raw")]
    for base in bases:
        base.write_bytes(bytes(MIB))
    run("qemu-img", "rebase", "-q", "-u", "-F", "raw", "-b", bases[0], case.path)
    run("qemu-img", "rebase", "-q", "-u", "-F", "raw", "-b", bases[1], case.path)
    return "kept" if b"first-base" in case.path.read_bytes() else "gone"


def discarded(case):
    case.io("write -P 65 0 2M", "discard 0 2M")
    return case.share(65, 2 * MIB)


def compressed_and_rewritten(case):
    noise = case.path.parent / "noise"
    noise.write_bytes(os.urandom(32 * KIB) + bytes(32 * KIB))
    case.io(f"write -c -s {noise} 0 64k", f"write -c -s {noise} 64k 64k")
    case.io("write -P 66 0 64k")
    with core.Image(case.path) as image:
        return "kept" if image.find_residue()[2].get("compressed", 0) > 32 * KIB else "gone"


def cut_off_by_a_resize(case):
    case.io("write -P 65 8M 2M", "write -P 66 0 2M")  # not in the last clusters: those are cut off
    run("qemu-img", "resize", "-q", "--shrink", "--image-opts", case.node, "4M")
    return case.share(65, 2 * MIB)


def name_of_a_removed_bitmap(case):
    run("qemu-img", "bitmap", "--add", "--image-opts", case.node, "backup")
    run("qemu-img", "bitmap", "--remove", "--image-opts", case.node, "backup")
    with core.Image(case.path) as image:
        return "kept" if any(one[4] == b"backup" for one in image.find_residue()[3]) else "gone"


ROWS = {
    "a snapshot is deleted: its data": deleted_snapshot,
    "a snapshot is deleted: its entry, and its L1 table": entry_of_a_deleted_snapshot,
    "a snapshot is applied: the state that was left": state_before_a_snapshot_was_applied,
    "zeros are written (`,under-zeros`)": zeros_written,
    "zeros are written to subclusters of an extended L2 image": subclusters_zeroed,
    "zeros are written with unmap": zeros_written_with_unmap,
    "the guest discards": discarded,
    "a compressed cluster is rewritten: the old stream": compressed_and_rewritten,
    "the disk is shrunk: what was cut off": cut_off_by_a_resize,
    "the disk is enlarged: the old L1 table": l1_of_a_smaller_disk,
    "`qemu-img amend` changes the refcounts' width: the old table": refcount_table_of_another_width,
    "a bitmap is removed: its name": name_of_a_removed_bitmap,
    "the image is rebased: the old backing file's name": name_of_an_old_backing_file,
    "QEMU is killed: clusters that no table names": leaked_clusters,
    "the same, after `qemu-img check -r` and 2 MiB of writes": leaked_clusters_after_a_repair,
}


def measure(row, discard, parent=None):
    with tempfile.TemporaryDirectory(prefix="survival", dir=parent) as folder:
        return ROWS[row](Case(folder, discard))


def can_punch(folder):
    """Whether files there can get holes, as far as `fallocate` knows."""
    path = Path(folder, "holes")
    path.write_bytes(bytes([1]) * MIB)
    done = subprocess.run(
        ["fallocate", "--punch-hole", "-o", "0", "-l", str(MIB), path],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def table():
    """The table of docs/residue.md."""
    lines = ["| | discards reach the file | they do not |", "|---|---|---|"]
    for row in ROWS:
        cells = [measure(row, discard) for discard in REACHES]
        lines.append(f"| {row} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"
