# SPDX-License-Identifier: MIT
"""Every bit of the first cluster flipped, and every truncation, of three kinds of image: right
bytes or an error.

tests/hostile/flips does the work, in memory. What each bit of a header may change is said here; of
every bit that is not named, the flip may change nothing.
"""
import struct
import subprocess

import pytest

from lib.builder import FEATURE_NAMES, Image, pattern, squeezable

BITMAPS = 0x23852875


def bits(first_byte, end_byte, what):
    return f"{first_byte * 8}-{end_byte * 8 - 1}={what}"


def bit(byte, number, what):
    return f"{byte * 8 + number}-{byte * 8 + number}={what}"


def deflate_image():
    """Version 3 with snapshots, a bitmap, feature names and an unknown extension."""
    image = Image(
        size=9 * 4096 - 700,
        cluster_bits=12,
        extensions=[(FEATURE_NAMES, struct.pack("BB46s", 1, 0, b"lazy") * 3)],
    )
    directory = (
        struct.pack(">QIIBBHI", image.allocate(struct.pack(">Q", 1)), 1, 2, 1, 16, 4, 0) + b"bits"
    )
    image.extensions += [
        (BITMAPS, struct.pack(">IIQQ", 1, 0, 32, image.allocate(directory.ljust(32, b"\0")))),
        (0x12345678, b"unknown extension"),
    ]
    image.autoclear |= 1
    image.disk.normal(0, pattern(1, 4096))
    image.disk.compressed(2, squeezable(2, 4096))
    image.snapshot(b"1", b"first")
    image.disk.zero(3)
    image.disk.zero_allocated(4, pattern(3, 4096))
    image.disk.normal(8, pattern(4, 4096))
    image.snapshot(b"2", b"second")
    return image


def backing_image():
    """Version 2 in small clusters, with a backing file that is not there."""
    image = Image(
        size=70 * 512, cluster_bits=9, version=2, backing=b"sub/base.raw", backing_format=b"raw"
    )
    for cluster in (0, 3, 68, 69):
        image.disk.normal(cluster, pattern(cluster, 512))
    image.disk.compressed(5, squeezable(5, 512))
    return image


def subcluster_image():
    """Extended L2 entries, and zstd as the compression type."""
    image = Image(size=4 * 16384, cluster_bits=14, extended_l2=True, compression=1)
    image.disk.subclusters(0, "DZ.D" * 8, pattern(1, 16384))
    image.disk.subclusters(1, "ZZZ." * 8, b"", host=False)
    image.disk.normal(3, pattern(3, 16384))
    return image


KINDS = {"deflate": deflate_image, "backing": backing_image, "subclusters": subcluster_image}

COMMON_RULES = [
    bits(0, 8, "error"),  # magic, version
    bits(8, 20, "fail"),  # the backing file's name
    bits(20, 23, "error"),
    bits(23, 24, "free"),  # cluster_bits
    bits(24, 32, "size"),
    bits(32, 36, "error"),  # crypt_method
    bits(36, 40, "fail"),
    bits(40, 48, "free"),  # the L1 table
]
VERSION_3_RULES = [
    bits(72, 80, "error"),
    bit(79, 0, "exact"),
    bit(79, 1, "exact"),  # incompatible features, dirty and corrupt
    bits(96, 100, "error"),
    *(bit(99, number, "exact") for number in range(3)),  # refcount_order: 4, or 5, 6, 0
    bits(100, 104, "fail"),  # header_length
    bits(104, 105, "error"),  # compression type
]
RULES = {
    "deflate": [
        *VERSION_3_RULES,
        bit(7, 0, "fail"),  # version 2 has no zero flag
        bits(8, 16, "fail"),
        bits(16, 20, "exact"),
    ],
    "backing": [bit(7, 0, "free")],
    # As version 2, or without extended L2 entries, the tables mean something else.
    "subclusters": [*VERSION_3_RULES, bit(7, 0, "free"), bit(79, 4, "free"), bits(16, 20, "exact")],
}


def length_fields(image):
    """The lengths of the header extensions: what follows is then read as something else."""
    at, rules = image.header_length, []
    for _, data in image.extensions:
        rules.append(bits(at + 4, at + 8, "fail"))
        at += 8 + (len(data) + 7) // 8 * 8
    return rules


def flips(build_directory, tmp_path, image, *words):
    """Run the program; the numbers that it prints, by name."""
    (tmp_path / "image").write_bytes(image.build())
    (tmp_path / "content").write_bytes(image.disk.model.read(0, image.disk.size))
    command = [
        build_directory / "tests/hostile/flips",
        tmp_path / "image",
        tmp_path / "content",
        *map(str, words),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    print(done.stdout)
    found = done.stdout.split()
    return dict(zip(found[::2], map(int, found[1::2])))


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_of_the_first_cluster(kind, build_directory, tmp_path):
    image = KINDS[kind]()
    tried = flips(
        build_directory, tmp_path, image, "flip", *COMMON_RULES, *RULES[kind], *length_fields(image)
    )
    assert sum(tried.values()) - tried["opened"] == image.cluster_size * 8
    assert 0 < tried["free"] <= 8 * 8 + 8 + 2, "the exceptions are few"


@pytest.mark.parametrize("kind, step", (("deflate", 512), ("backing", 1), ("subclusters", 512)))
def test_every_truncation(kind, step, build_directory, tmp_path):
    image = KINDS[kind]()
    tried = flips(build_directory, tmp_path, image, "truncate", step)
    assert tried["lengths"] >= 10 and tried["right"] > 0 and tried["failed"] > 0
