# SPDX-License-Identifier: MIT
"""Random histories of an image that goes back to a snapshot where discards do not reach the file:
what each label of the abandoned state is worth.

The truth is the disk as it was right before. Every write has bytes of its own. A short history has
writes of up to 1 MiB, and clusters as people use them. A long one has small clusters, so that its
writes run through several L2 tables. A torn one is long, and some L2 tables of the abandoned state
are overwritten afterwards.
"""
import random
import shutil
import struct
from collections import Counter
from pathlib import Path

from . import core
from .project import run

KINDS = ("short", "long", "torn")
MIB = 1 << 20
OFFSET_MASK = 0x00FFFFFFFFFFFE00


class Machine:
    """An image whose file node ignores discards, as Proxmox sets up disks."""

    def __init__(self, path, size="64M", options=("cluster_size=4k",)):
        self.path = path
        words = [word for option in options for word in ("-o", option)]
        run("qemu-img", "create", "-q", "-f", "qcow2", *words, path, size)

    @property
    def node(self):
        return f"driver=qcow2,file.driver=file,file.filename={self.path},file.discard=ignore"

    def io(self, *steps):
        words = [word for step in steps for word in ("-c", step)]
        run("qemu-io", "--image-opts", *words, self.node)

    def snapshot(self, option, name):
        run("qemu-img", "snapshot", option, name, "--image-opts", self.node)

    def content(self):
        copy = self.path.with_suffix(".copy")
        shutil.copy(self.path, copy)
        with core.Image(copy) as image, image.view() as view:
            data = view.read(0, view.size)
        copy.unlink()
        return data

    def tables(self, snapshot=None):
        """{L1 index: host offset} of the L2 tables of the active disk, or of a snapshot."""
        with core.Image(self.path, no_chain=True) as image:
            state = image.header if snapshot is None else image.snapshots[snapshot]
        with open(self.path, "rb") as file:
            file.seek(state.l1_offset)
            words = struct.unpack(f">{state.l1_size}Q", file.read(8 * state.l1_size))
        return {index: word & OFFSET_MASK for index, word in enumerate(words) if word}

    def own_tables(self, snapshot=None):
        """Those that no other state has."""
        with core.Image(self.path, no_chain=True) as image:
            states = {None, *range(len(image.snapshots))} - {snapshot}
        others = {offset for state in states for offset in self.tables(state).values()}
        return {
            index: offset for index, offset in self.tables(snapshot).items() if offset not in others
        }


class AbandonedHistory:
    def __init__(self, seed, folder, kind=None):
        self.rng = random.Random(seed)
        self.kind = kind or KINDS[seed % len(KINDS)]
        self.folder, self.seed, self.written, self.last = Path(folder), seed, 0, 0
        bits = self.rng.choice((12, 14, 16) if self.kind == "short" else (9, 9, 10, 10, 12))
        self.cluster = 1 << bits
        self.reach = self.cluster * self.cluster // 8  # of an L2 table, bytes
        self.size = 24 * MIB if self.kind == "short" else 24 * self.reach
        self.piece = min(self.cluster, 4096)
        options = (f"cluster_size={self.cluster}",)
        self.machine = Machine(self.folder / f"{seed}.qcow2", str(self.size), options)

    # ---- What is done to the image ------------------------------------------------

    def span(self):
        """(offset, length) of one operation."""
        rng = self.rng
        if self.kind == "short":
            length = rng.choice((4, 8, 64, 256, 1024)) << 10
        else:
            length = int(self.reach * rng.choice((0.02, 0.1, 0.5, 1.5, 3, 5)))
        length = max(length // self.piece, 1) * self.piece
        at = self.last  # as a file is written on
        if self.kind == "short" or rng.random() < 0.5 or at + length > self.size:
            at = rng.randrange((self.size - length) // self.piece + 1) * self.piece
        self.last = at + length
        return at, length

    def step(self):
        at, length = self.span()
        kind = self.rng.random()
        if kind < 0.9:
            return self.write(at, length)
        return f"{'discard' if kind < 0.95 else 'write -z'} {at} {length}"

    def write(self, at, length):
        self.written += 1
        source = self.folder / f"{self.written}.source"
        source.write_bytes(self.rng.randbytes(length))
        return f"write -s {source} {at} {length}"

    def steps(self, count):
        self.machine.io(*(self.step() for _ in range(count)))
        for source in self.folder.glob("*.source"):
            source.unlink()

    def tear(self, tables):
        """Overwrite some L2 tables as if they had been reused."""
        with open(self.machine.path, "r+b") as file:
            for offset in self.rng.sample(tables, min(len(tables), self.rng.randrange(1, 4))):
                file.seek(offset)
                noise = self.rng.randbytes(self.cluster)
                file.write(self.rng.choice((bytes(self.cluster), noise)))

    def run(self, steps=12):
        rng = self.rng
        first = int(self.size * rng.choice((0, 0.05, 0.2, 0.7))) // self.piece * self.piece
        self.machine.io(self.write(0, max(first, self.piece)))
        self.steps(steps)
        self.machine.snapshot("-c", "then")
        names = ["then"]
        if rng.random() < 0.5:
            self.steps(steps)
            self.machine.snapshot("-c", "later")
            names.append("later")
        self.steps(steps)
        self.truth = self.machine.content()
        tables = sorted(self.machine.own_tables().values())
        self.machine.snapshot("-a", rng.choice(names))
        if self.kind == "torn":
            self.tear(tables)
        if rng.random() < 0.5:
            self.steps(rng.randrange(1, steps))

    # ---- What is left --------------------------------------------------------------

    def open_view(self, image, flags):
        return image.abandoned(flags)

    def pieces(self, flags=0):
        """[(label, its content or None)] of all pieces, or None if there is no such state."""
        found = []
        with core.Image(self.machine.path) as image:
            try:
                view = self.open_view(image, flags)
            except core.QcowError as error:
                assert error.code == "NOT_FOUND", error
                return None
            assert view.size >= self.size
            for run_ in view.label_all():
                for at in range(run_.guest_offset, run_.guest_offset + run_.length, self.piece):
                    found.append((run_.label, self.read(view, at)))
        return found

    def read(self, view, at):
        try:
            return view.read(at, self.piece)
        except core.QcowError as error:
            assert error.code == "CORRUPT", error
            return None

    def result(self, number, content):
        at = number * self.piece
        if content is None:
            return "lost"
        return "right" if content == self.truth[at : at + self.piece] else "wrong"

    def count(self, flags=0):
        """Counter of (label, "right", "wrong" or "lost"); None: there is no such state."""
        pieces = self.pieces(flags)
        return pieces and Counter(
            (label, self.result(number, content)) for number, (label, content) in enumerate(pieces)
        )

    def compare(self):
        """Counter of (result without, result with) of the pieces that are placed by neighbours;
        nothing else changes."""
        before, after = self.pieces(), self.pieces(core.VIEW_BY_NEIGHBOURS)
        counts = Counter()
        for number, (old, new) in enumerate(zip(before or (), after or ())):
            if new[0] == "by-neighbours":
                counts[self.result(number, old[1]), self.result(number, new[1])] += 1
            else:
                assert old == new, (number, old[0], new[0])
        return counts


class DeletedLongHistory(AbandonedHistory):
    """The same, but a snapshot is deleted."""

    def run(self, steps=12):
        rng = self.rng
        self.steps(steps)
        self.machine.snapshot("-c", "older")
        self.steps(steps)
        self.machine.snapshot("-c", "monday")
        self.truth = self.machine.content()
        self.steps(steps)
        tables = sorted(self.machine.own_tables(1).values())
        self.machine.snapshot("-d", "monday")
        if self.kind == "torn":
            self.tear(tables)
        if rng.random() < 0.5:
            self.steps(rng.randrange(1, steps))

    def open_view(self, image, flags):
        return image.deleted("monday", flags=flags)
