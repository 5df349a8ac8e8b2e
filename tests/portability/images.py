# SPDX-License-Identifier: MIT
"""Images for digest.c, and what it must print of them: from what the builder put there, never from
our C code.

make(FOLDER) returns a list of Case. None of them needs more than some MiB of a disk that has holes.
"""
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.builder import (  # noqa: E402
    SUBCLUSTERS,
    Image,
    Model,
    Piece,
    RawModel,
    pattern,
    squeezable,
)
from lib.encrypted import qemu  # noqa: E402

GIB = 1 << 30
UNICODE_NAME = "Bücher 雪.qcow2"
CLEAN = "0 corruptions, 0 leaks, 0 defects"


@dataclass(frozen=True)
class Case:
    arguments: tuple  # of digest, in the folder
    lines: list  # that it prints
    windows_lines: list = None  # where they differ there
    is_encrypted: bool = False


# ---- What is expected ------------------------------------------------------------


def stored_ranges(model):
    """Where anything but zeros can be, in ascending order: (start, end). Ranges may meet, but not
    overlap."""
    if isinstance(model, RawModel):
        return [(0, model.size)]
    own = [(index * model.granule, (index + 1) * model.granule) for index in model.pieces]
    below = stored_ranges(model.backing) if model.backing else []
    bounds = sorted({bound for range_ in own + below for bound in range_})
    return [
        (start, min(end, model.size))
        for start, end in zip(bounds, bounds[1:])
        if any(first <= start < last for first, last in own + below) and start < model.size
    ]


def disk_line(model):
    """What digest says of a disk."""
    sectors = first = last = checksum = 0
    for start, end in stored_ranges(model):
        data = model.read(start, end - start)
        for at in range(0, len(data), 512):
            sector = data[at : at + 512]
            if not any(sector):
                continue
            place = start + at
            checksum = zlib.crc32(sector, zlib.crc32(place.to_bytes(8, "little"), checksum))
            first = first if sectors else place
            sectors, last = sectors + 1, place + len(sector)
    return f"size {model.size}, {sectors} sectors from {first} to {last}: {checksum:08x}"


def expected(image, check=CLEAN):
    return [
        disk_line(disk.model) for disk in [image.disk] + [disk for disk, _, _ in image.snapshots]
    ] + [check]


# ---- The images ------------------------------------------------------------------


def mixed(cluster_bits=16, **options):
    """All kinds of clusters, and a size that ends within one."""
    image = Image(size=(64 << cluster_bits) - 512, cluster_bits=cluster_bits, **options)
    for cluster in range(0, 60, 5):
        image.disk.normal(cluster, pattern(cluster, image.cluster_size))
        image.disk.compressed(cluster + 1, squeezable(cluster, image.cluster_size))
        if image.version > 2:
            image.disk.zero(cluster + 2)
    image.disk.normal(63, pattern(63, image.cluster_size))
    return image


def snapshots(**options):
    image = mixed(**options)
    image.snapshot(b"1", b"before")
    image.disk.normal(3, pattern(99, image.cluster_size))
    image.disk.zero(0)
    image.snapshot(b"2", b"after")
    image.disk.resize(40 << 16)
    return image


def subclusters():
    image = Image(size=16 << 16, extended_l2=True)
    image.disk.subclusters(0, "DZ." * 10 + "DD", pattern(1, 65536))
    image.disk.subclusters(9, "." * (SUBCLUSTERS - 1) + "D", pattern(2, 65536))
    image.disk.compressed(10, squeezable(3, 65536))
    return image


def far():
    """Guest and host offsets beyond 4 GiB. Their low 32 bits alone would lead to other clusters,
    which hold other bytes."""
    image = Image(size=1 << 45)
    for number, guest in enumerate((0, 5 << 32, (7 << 32) + 65536 * 2, 1 << 44)):
        image.disk.normal(
            guest >> 16, pattern(number, 65536), at=(number + 1 << 32) + 65536 * number
        )
        image.disk.compressed(
            (guest >> 16) + 1, squeezable(number, 65536), at=(number + 10 << 32) + 12345
        )
    return image


FAR_CHECK = "8 corruptions, 0 leaks, 0 defects"  # the far clusters have no refcounts


def overlay(folder):
    base = pattern(20, 16 << 16)
    (folder / "base.raw").write_bytes(base)
    image = Image(
        size=16 << 16, backing=b"base.raw", backing_format=b"raw", backing_model=RawModel(base)
    )
    image.disk.normal(5, pattern(5, 65536))
    image.disk.zero(6)
    return image


def far_overlay(folder):
    """A raw backing file with bytes beyond 4 GiB."""
    base = Model(6 * GIB, 1 << 21)
    with open(folder / "far.raw", "wb") as file:
        file.truncate(base.size)
        for cluster in (1, 5 * GIB >> 21):
            data = pattern(cluster, 1 << 21)
            base.pieces[cluster] = Piece("normal", data, cluster << 21)
            file.seek(cluster << 21)
            file.write(data)
    image = Image(
        size=base.size,
        cluster_bits=21,
        backing=b"far.raw",
        backing_format=b"raw",
        backing_model=base,
    )
    for cluster in range(base.size >> 21):
        if cluster not in base.pieces:
            image.disk.zero(cluster)
    return image


def encrypt(folder):
    """base.raw as an image that qemu-img encrypts."""
    qemu(
        "qemu-img",
        "convert",
        "-q",
        "-f",
        "raw",
        "-O",
        "qcow2",
        "-o",
        "encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=100",
        folder / "base.raw",
        folder / "encrypted.qcow2",
        secrets=[b"secret"],
    )
    return [disk_line(RawModel((folder / "base.raw").read_bytes())), CLEAN]


def make(folder):
    folder = Path(folder)
    images = {
        "mixed": mixed(),
        "small-clusters": mixed(9),
        "large-clusters": mixed(21),
        "version-2": mixed(version=2),
        "zstd": mixed(compression=1),
        "snapshots": snapshots(),
        "refcounts-2": snapshots(refcount_order=1),
        "refcounts-64": snapshots(refcount_order=6),
        "far": far(),
        "subclusters": subclusters(),
        "overlay": overlay(folder),
        "far-overlay": far_overlay(folder),
    }
    for name, image in images.items():
        image.write(folder / f"{name}.qcow2")
    cases = [
        Case(
            (f"{name}.qcow2", *([image.backing.decode()] if image.backing else [])),
            expected(image, FAR_CHECK if name == "far" else CLEAN),
        )
        for name, image in images.items()
    ]
    # Named by the image alone.
    cases.append(Case(("overlay.qcow2",), expected(images["overlay"]), ["DENIED"]))
    cases.append(Case(("missing.qcow2",), ["IO"]))
    images["mixed"].write(folder / UNICODE_NAME, bytes(images["mixed"].host))
    cases.append(Case((UNICODE_NAME,), expected(images["mixed"])))
    cases.append(Case(("encrypted.qcow2",), encrypt(folder), is_encrypted=True))
    return cases
