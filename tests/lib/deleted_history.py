# SPDX-License-Identifier: MIT
"""Random histories of an image whose snapshots are deleted where discards do not reach the file:
what each label of a deleted snapshot is worth, counted by clusters.

The truth is what a snapshot read as before it was deleted. A calm history has a few deletions near
its end, and few writes after them. A busy one deletes and takes snapshots all the time, on a small
disk, so that freed clusters are reused and freed again.
"""
import random
import subprocess
from collections import Counter
from pathlib import Path

from . import core
from .project import run

LOST = ("reused", "lost-table", "punched")
SURE = ("kept", "shared-older", "absent")


class DeletedHistory:
    def __init__(self, seed, folder, kind=None):
        self.rng = random.Random(seed)
        self.kind = kind or ("calm", "busy")[seed % 2]
        self.path = Path(folder, f"{seed}.qcow2")
        self.live, self.truth, self.step, self.operations = [], {}, 0, 0
        self.under = {}  # the truth of what is under zeros

    # ---- What is done to the image ------------------------------------------------

    @property
    def node(self):
        return f"driver=qcow2,file.driver=file,file.discard=ignore,file.filename={self.path}"

    def create(self):
        bits = self.rng.choice((9, 10, 12, 12, 16, 16))
        self.extended = bits >= 14 and self.rng.random() < 0.3
        self.cluster = 1 << bits
        self.clusters = self.rng.choice((40, 150, 400) if self.kind == "busy" else (150, 400, 1000))
        options = [f"cluster_size={self.cluster}"]
        options += ["extended_l2=on"] * self.extended
        options += ["compression_type=zstd"] * (self.rng.random() < 0.3)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-o", ",".join(options), self.path,
            str(self.clusters * self.cluster))  # fmt: skip

    def operation(self):
        rng, size = self.rng, self.clusters * self.cluster
        at = rng.randrange(self.clusters)
        count = min(rng.choice((1, 1, 2, 3, 10, 30)), self.clusters - at)
        start, length, byte = at * self.cluster, count * self.cluster, rng.randrange(1, 255)
        kind = rng.random()
        if kind < 0.65:
            start += rng.randrange(0, self.cluster, 512) * (rng.random() < 0.3)
            return [f"write -P {byte} {start} {min(length, size - start)}"]
        if kind < 0.75 and not self.extended:
            return [
                f"write -c -P {byte} {start + i * self.cluster} {self.cluster}"
                for i in range(count)
            ]
        return [f"{rng.choice(('write -z', 'write -z -u', 'discard'))} {start} {length}"]

    def write(self, count):
        steps = [step for _ in range(count) for step in self.operation()]
        self.operations += count
        words = [word for step in steps for word in ("-c", step)]
        # A step that QEMU refuses, such as compressing over what is there, ends with status 1.
        subprocess.run(
            ["qemu-io", "--image-opts", self.node, *words],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def snapshot(self, option, name):
        run("qemu-img", "snapshot", "--image-opts", option, name, self.node)

    def take(self):
        name = f"s{self.step}"
        self.snapshot("-c", name)
        self.live.append(name)

    def delete(self):
        name = self.live.pop(self.rng.randrange(len(self.live)))
        with core.Image(self.path) as image:
            index = [entry.name for entry in image.snapshots].index(name.encode())
            with image.view(index) as view:
                self.truth[name.encode()] = view.read(0, view.size)
            with image.view(index, under_zeros=True) as view:
                self.under[name.encode()] = view.read(0, view.size)
        self.snapshot("-d", name)

    def run_busy(self):
        for self.step in range(self.rng.choice((6, 12, 25))):
            self.write(self.rng.randrange(1, 12))
            choice = self.rng.random()
            if choice < 0.5 and len(self.live) < 6:
                self.take()
            elif choice < 0.8 and self.live:
                self.delete()
            elif choice < 0.87 and self.live:
                self.snapshot("-a", self.rng.choice(self.live))

    def run_calm(self):
        for self.step in range(self.rng.randrange(2, 6)):
            self.write(self.rng.randrange(2, 12))
            self.take()
        self.write(self.rng.randrange(0, 6))
        for _ in range(self.rng.randrange(1, 3)):
            self.delete()
            self.write(self.rng.randrange(0, 4))

    def run(self):
        self.create()
        self.run_busy() if self.kind == "busy" else self.run_calm()

    # ---- What is left --------------------------------------------------------------

    def check_cluster(self, view, truth, label, offset, length):
        """Count one cluster as right or wrong; what is lost must be an error. So is a stream in
        which something was written that was freed, too."""
        try:
            found = view.read(offset, length)
        except core.QcowError as error:
            if label not in LOST and "compressed cluster" in str(error):
                return "damaged"
            assert label in LOST and f"({label})" in str(error), (label, error)
            return "error"
        assert label not in LOST, f"{label} was read at {offset}"
        return "right" if found == truth[offset : offset + length] else "wrong"

    def check_view(self, view, name):
        counts, truth = Counter(), self.truth[name]
        assert view.size == len(truth)
        for run_ in view.label_all():
            end = run_.guest_offset + run_.length
            for at in range(run_.guest_offset, end, self.cluster):
                length = min(self.cluster - at % self.cluster, end - at)
                result = self.check_cluster(view, truth, run_.label, at, length)
                counts[run_.label, result] += 1
        return counts

    def check_under_zeros(self, view, name):
        """The same of clusters that are zeros, over something else."""
        counts, truth, under = Counter(), self.truth[name], self.under[name]
        for at in range(0, len(truth), self.cluster):
            end = min(at + self.cluster, len(truth))
            if truth[at:end] != under[at:end]:
                label = view.label(at, end - at).label
                result = self.check_cluster(view, under, label, at, end - at)
                counts[f"{label} under zeros", result] += 1
        return counts

    def check(self):
        """Counter of (label, "right", "wrong", "damaged" or "error"), by clusters, and of ("entry",
        what is where its L1 table was)."""
        counts = Counter()
        with core.Image(self.path) as image:
            for name, _, l1_offset, there in image.old_entries():
                counts["entry", there] += 1
                if there != "there":
                    continue
                try:
                    view = image.deleted(str(l1_offset), core.DELETED_BY_L1)
                except core.QcowError as error:
                    assert error.code == "NOT_FOUND", error
                    counts["entry", "refused"] += 1
                    continue
                with view:
                    counts += self.check_view(view, name)
                key = (str(l1_offset), core.DELETED_BY_L1, core.VIEW_UNDER_ZEROS)
                with image.deleted(*key) as view:
                    counts += self.check_under_zeros(view, name)
        return counts
