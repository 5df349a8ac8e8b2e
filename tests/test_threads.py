# SPDX-License-Identifier: MIT
"""Many threads on one image and on several views of it, with the smallest caches
(tests/threads/threads.c). A build with --enable-sanitizers=thread runs these for longer."""
import os
import re

import pytest
from lib.builder import Image, RawModel, pattern, squeezable
from lib.project import BUILD, SANITIZERS, run

THREADS = os.path.join(BUILD, "tests", "threads", "threads")
SECONDS = 5 if "thread" in SANITIZERS else 1.5
MIB = 1 << 20


def write_model(model, path):
    """The bytes that a view must give, holes left out."""
    with open(path, "wb") as file:
        file.truncate(model.size)
        for index in sorted(model.pieces):
            start = index * model.granule
            length = min(model.granule, model.size - start)
            file.seek(start)
            file.write(model.read(start, length))
    return path


def compressed_image(folder, compression):
    """Decoded, its clusters are four times as many as the cache holds. Three snapshots, over a raw
    backing file."""
    base = pattern(1, 5 * MIB + 1000)
    (folder / "base.raw").write_bytes(base)
    image = Image(
        12 * MIB,
        cluster_bits=16,
        compression=compression,
        backing=b"base.raw",
        backing_format=b"raw",
        backing_model=RawModel(base),
    )
    models = []
    for number in range(4):
        for cluster in range(number, 192, 4):
            data = squeezable(1000 * number + cluster, 65536)
            if cluster % 3 == 0:
                image.disk.normal(cluster, data)
            else:
                image.disk.compressed(cluster, data)
        image.disk.zero(number * 7 + 2)
        if number < 3:
            models.append(image.snapshot(b"%d" % number, b"snapshot").model)
    path = image.write(folder / "disk.qcow2")
    expected = []
    for number, model in enumerate([image.disk.model, *models]):
        expected.append(folder / f"expected-{number}")
        expected[-1].write_bytes(model.read(0, model.size))
    return [path, *expected]


def many_tables(folder):
    """More L2 tables than the cache holds, each with a little in it."""
    image = Image(768 * MIB, cluster_bits=12)
    for table in range(384):
        for cluster in (0, 1, table % 512, 511):
            image.disk.normal(table * 512 + cluster, pattern(table * 4 + cluster, 4096))
    image.disk.zero(512 * 200 + 300)
    return [image.write(folder / "disk.qcow2"), write_model(image.disk.model, folder / "expected")]


IMAGES = {
    "deflate": lambda folder: compressed_image(folder, 0),
    "zstd": lambda folder: compressed_image(folder, 1),
    "many tables": many_tables,
}


@pytest.mark.parametrize("kind", IMAGES)
def test_threads(kind, tmp_path):
    paths = IMAGES[kind](tmp_path)
    result = run(THREADS, SECONDS, os.environ["TSK_QCOW2_SEED"], *paths)
    print(result.stdout)
    assert re.fullmatch(r"\d+ reads, \d+ maps, \d+ opens, \d+ forks\n", result.stdout)
