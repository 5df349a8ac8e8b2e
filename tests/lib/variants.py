# SPDX-License-Identifier: MIT
"""One raw disk as many qcow2 images: every way of storing the same bytes that qemu-img offers.

VARIANTS names them; Workshop.variant(NAME) makes one, in a directory of its own.
"""
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lib import disks
from lib.builder import pattern
from lib.disks import MIB, run

SNAPSHOT = "before the change"


@dataclass(frozen=True)
class Variant:
    name: str
    directory: Path  # holds the variant's files and nothing else
    images: tuple  # what to type: one image name, or a chain of them
    raw: Path  # a raw file of the expected content
    snapshot: str = ""  # the internal snapshot that `images` names
    full_size: bool = True  # False: `raw` is cut, its file systems are not whole
    warning: str = ""  # what the tools shall warn of on stderr


class Workshop:
    """Makes the variants of one disk, each once."""

    def __init__(self, disk, directory):
        self.disk = disk
        self.raw = disk.path
        self.size = self.raw.stat().st_size
        self.directory = Path(directory)
        self.changed = disks.change_disk(disk, self.directory / f"{disk.name}-changed.raw")
        self.made = {}

    def variant(self, name):
        if name not in self.made:
            folder = self.directory / name
            folder.mkdir()
            images, expected = VARIANTS[name](self, folder)
            self.made[name] = Variant(
                name, folder, tuple(str(folder / image) for image in images), **expected
            )
        return self.made[name]

    def expect(self, raw=None, **more):
        return {"raw": raw or self.raw, **more}

    def edited(self, name, edit):
        """A copy of the disk, kept beside the variants, that `edit` changes as an open file."""
        path = self.directory / f"{self.disk.name}-{name}.raw"
        if not path.exists():
            copy_sparse(self.raw, path)
            with open(path, "r+b") as file:
                edit(file)
        return path

    def state(self, stage):
        """The disk as it was before `stage` of 4 (0 to 4) changes, each of them spread over the
        whole disk."""

        def undo(file):
            for start in range(0, self.size - MIB + 1, MIB):
                if start // MIB % 4 >= stage:
                    file.seek(start + 12_800)
                    file.write(pattern(start, 61_952))

        return self.edited(f"state{stage}", undo)


def copy_sparse(source, target):
    run("cp", "--sparse=always", source, target)


def qemu_img(folder, *words):
    return run("qemu-img", *words, cwd=folder)


def qemu_io(folder, image, *commands):
    """Run qemu-io commands; it exits with 0 even when a write fails, so its words are looked at."""
    output = run(
        "qemu-io", *[word for command in commands for word in ("-c", command)], image, cwd=folder
    )
    assert b"failed" not in output and b"error" not in output.lower(), output
    return output


# ---- One file --------------------------------------------------------------------


def converted(*options):
    """The recipe: one image, written by qemu-img convert with these options."""

    def recipe(shop, folder):
        qemu_img(folder, "convert", "-f", "raw", "-O", "qcow2", *options, shop.raw, "disk.qcow2")
        return ["disk.qcow2"], shop.expect()

    return recipe


def left_dirty(shop, folder):
    """Lazy refcounts, and the machine lost power: the dirty bit stays set."""
    converted("-o", "lazy_refcounts=on")(shop, folder)
    subprocess.run(
        ["qemu-io", "-c", f"write -P 0 {shop.size - 6 * MIB} 512k", "-c", "abort", "disk.qcow2"],
        cwd=folder,
        capture_output=True,
        timeout=60,
        preexec_fn=no_core_file,
    )
    with open(folder / "disk.qcow2", "rb") as image:
        assert image.read(80)[79] & 1, "the dirty bit is not set"
    return ["disk.qcow2"], shop.expect(warning="dirty")


def no_core_file():
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# ---- Chains ----------------------------------------------------------------------


def overlay(folder, name, content, backing, *options, backing_format="qcow2"):
    """An image over `backing` that stores no more than makes it read as the raw file `content`."""
    option = ["-o", ",".join(options)] if options else []
    qemu_img(folder, "create", "-q", "-f", "qcow2", *option, "-b", content, "-F", "raw", name)
    qemu_img(folder, "rebase", "-q", "-b", backing, "-F", backing_format, name)


def chain(*options_of_layers):
    """The recipe: a raw base and as many overlays, each of which keeps a share of the changes."""

    def recipe(shop, folder):
        copy_sparse(shop.state(0), folder / "base.raw")
        lower, lower_format, count = "base.raw", "raw", len(options_of_layers)
        for number, options in enumerate(options_of_layers, 1):
            content = shop.raw if number == count else shop.state(4 * number // count)
            overlay(
                folder,
                f"layer{number}.qcow2",
                content,
                lower,
                *options,
                backing_format=lower_format,
            )
            lower, lower_format = f"layer{number}.qcow2", "qcow2"
        # A region after the last partition: zeros on the disk, random bytes in all layers but the
        # topmost.
        blank = ((shop.size // MIB - 8) // 4 * 4 + 3) * MIB
        qemu_io(folder, lower, f"write -z {blank} 64k", f"discard {blank + (64 << 10)} 64k")
        return [lower], shop.expect()

    return recipe


def chain_by_names(shop, folder):
    """A chain whose files were renamed, so that the user must name each."""
    chain([], [])(shop, folder)
    names = ["top of chain.qcow2", "middle,1.qcow2", "bottom.raw"]
    for old, new in zip(["layer2.qcow2", "layer1.qcow2", "base.raw"], names):
        os.rename(folder / old, folder / new)
    return names, shop.expect()


def shorter_base(shop, folder):
    """The base ends early, inside a sector; what the overlay does not store beyond it is zeros."""
    copy_sparse(shop.raw, folder / "base.raw")
    os.truncate(folder / "base.raw", shop.size * 2 // 5 // MIB * MIB + 70_001)
    overlay(folder, "disk.qcow2", shop.raw, "base.raw", backing_format="raw")
    return ["disk.qcow2"], shop.expect()


def longer_base(shop, folder):
    """The base goes on after the overlay's end."""
    copy_sparse(shop.state(2), folder / "base.raw")
    with open(folder / "base.raw", "ab") as base:
        base.write(pattern("excess", 3 * MIB))
    overlay(folder, "disk.qcow2", shop.raw, "base.raw", backing_format="raw")
    return ["disk.qcow2"], shop.expect()


# ---- Snapshots -------------------------------------------------------------------


def take_snapshot(folder):
    qemu_img(folder, "snapshot", "-q", "-c", SNAPSHOT, "disk.qcow2")


def snapshot_changed(view, *options, over_backing=False):
    """The recipe: the disk was changed after the snapshot."""

    def recipe(shop, folder):
        if over_backing:
            copy_sparse(shop.raw, folder / "base.raw")
            qemu_img(
                folder, "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "disk.qcow2"
            )
        else:
            converted(*options)(shop, folder)
        take_snapshot(folder)
        qemu_img(folder, "convert", "-n", "-f", "raw", "-O", "qcow2", shop.changed, "disk.qcow2")
        return choose(view, shop, shop.changed)

    return recipe


def snapshot_grown(view):
    """The recipe: after the snapshot the disk became larger, and was written to out there."""

    def recipe(shop, folder):
        converted()(shop, folder)
        take_snapshot(folder)
        qemu_img(folder, "resize", "-q", "disk.qcow2", "+16M")
        qemu_io(folder, "disk.qcow2", f"write -P 0x77 {shop.size} 192k")
        return choose(view, shop, shop.edited("grown", grow))

    def grow(file):
        file.seek(0, os.SEEK_END)
        file.write(b"\x77" * (192 << 10))
        file.truncate(file.tell() + 16 * MIB - (192 << 10))

    return recipe


def snapshot_shrunk(view):
    """The recipe: after the snapshot the disk became smaller."""

    def recipe(shop, folder):
        converted()(shop, folder)
        take_snapshot(folder)
        half = shop.size // 2 // MIB * MIB
        qemu_img(folder, "resize", "-q", "--shrink", "disk.qcow2", half)
        active = shop.edited("shrunk", lambda file: file.truncate(half))
        return choose(view, shop, active, full_size=False)

    return recipe


def choose(view, shop, active, **of_active):
    if view == "active":
        return ["disk.qcow2"], shop.expect(active, **of_active)
    return [f"disk.qcow2@{SNAPSHOT}"], shop.expect(snapshot=SNAPSHOT)


VARIANTS = {
    "plain": converted(),
    "v2": converted("-o", "compat=0.10"),
    "deflate": converted("-c"),
    "zstd": converted("-c", "-o", "compression_type=zstd"),
    "cluster-512": converted("-o", "cluster_size=512"),
    "cluster-4k": converted("-o", "cluster_size=4k"),
    "cluster-4k-deflate": converted("-c", "-o", "cluster_size=4k"),
    "cluster-2m": converted("-o", "cluster_size=2M"),
    "cluster-2m-zstd": converted("-c", "-o", "cluster_size=2M,compression_type=zstd"),
    "extended-l2": converted("-o", "extended_l2=on"),
    "extended-l2-deflate": converted("-c", "-o", "extended_l2=on,cluster_size=128k"),
    "data-file": converted("-o", "data_file=guest.data"),
    "data-file-raw": converted("-o", "data_file=guest.raw,data_file_raw=on"),
    "lazy-refcounts-dirty": left_dirty,
    "chain": chain([], [], []),
    "chain-mixed": chain(
        ["cluster_size=4k"],
        ["extended_l2=on", "cluster_size=128k"],
        ["compat=0.10"],
        ["extended_l2=on", "cluster_size=16k"],
    ),
    "chain-by-names": chain_by_names,
    "shorter-base": shorter_base,
    "longer-base": longer_base,
    "changed-active": snapshot_changed("active"),
    "changed-snapshot": snapshot_changed("snapshot"),
    "changed-snapshot-zstd": snapshot_changed("snapshot", "-c", "-o", "compression_type=zstd"),
    "changed-snapshot-over-backing": snapshot_changed("snapshot", over_backing=True),
    "grown-active": snapshot_grown("active"),
    "grown-snapshot": snapshot_grown("snapshot"),
    "shrunk-active": snapshot_shrunk("active"),
    "shrunk-snapshot": snapshot_shrunk("snapshot"),
}
