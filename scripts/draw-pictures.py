#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Draws the pictures of docs/report.md: makes an image that has a bit of everything, and runs
`tsk-qcow2 map --svg` on it.

scripts/draw-pictures.py docs

The image is written byte by byte by the builder of the tests, so that every machine draws the same.
"""
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests"))
from lib.builder import Image, pattern  # noqa: E402

CLUSTERS, C = 12288, 4096  # a disk of 48 MiB
DELETED = 40  # clusters of a snapshot that was deleted


def areas(rng, count, longest):
    """Random runs of guest clusters."""
    for _ in range(count):
        start = rng.randrange(CLUSTERS - longest)
        yield range(start, start + rng.randint(1, longest))


def make(path):
    rng = random.Random(7)
    image = Image(size=CLUSTERS * C, cluster_bits=12)
    for run in areas(rng, 30, 60):
        for cluster in run:
            image.disk.normal(cluster, pattern(cluster, C))
    image.snapshot(b"1", b"installed", image.disk.copy())
    for run in areas(rng, 12, 50):
        for cluster in run:
            image.disk.normal(cluster, pattern(cluster + 1, C))
    for index in range(DELETED):
        image.junk(pattern(index, C), leak=index < DELETED // 4)
    for run in areas(rng, 6, 60):
        for cluster in run:
            image.disk.zero(cluster)
    for run in areas(rng, 4, 20):
        for cluster in run:
            image.disk.zero_allocated(cluster, pattern(cluster, C))
    for run in areas(rng, 4, 40):
        for cluster in run:
            image.disk.compressed(cluster, bytes(C))
    image.disk.force(rng.randrange(CLUSTERS), 1 << 63 | 513)  # not a multiple of the cluster size
    image.write(path)


def draw(directory):
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "disk.qcow2")
        make(image)
        for name in ("disk", "file"):
            done = subprocess.run(
                ["tsk-qcow2", "map", f"--svg={name}", image], check=False, capture_output=True
            )
            assert done.returncode in (0, 4), done
            Path(directory, f"picture-{name}.svg").write_bytes(done.stdout)


if __name__ == "__main__":
    draw(sys.argv[1])
