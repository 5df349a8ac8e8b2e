# SPDX-License-Identifier: MIT
"""Images that several test files read, made by the builder."""
import os

from .builder import Image, RawModel, pattern, squeezable

SOME_CLUSTER_BITS = (9, 12, 16, 21)


def small_image(**options):
    """Four clusters of 4 KiB, one of each common kind."""
    image = Image(**{"size": 16384, "cluster_bits": 12, **options})
    image.disk.normal(0, pattern(1, 4096))
    image.disk.compressed(2, squeezable(2, 4096))
    if image.version >= 3:
        image.disk.zero(3)
    return image


def mixed_image(cluster_bits, **options):
    """Every ordinary kind of cluster, in two L2 tables, an L1 hole, and an odd end."""
    cluster = 1 << cluster_bits
    reach = cluster // (16 if options.get("extended_l2") else 8)  # clusters of one L2 table
    image = Image(size=3 * reach * cluster - cluster + 512, cluster_bits=cluster_bits, **options)
    disk = image.disk
    disk.normal(0, pattern(1, cluster))
    disk.normal(1, pattern(2, cluster))
    disk.compressed(2, squeezable(3, cluster))
    disk.compressed(3, squeezable(4, cluster))
    disk.normal(5, pattern(5, cluster))
    disk.compressed(reach - 1, squeezable(6, cluster))
    disk.normal(reach, pattern(7, cluster))
    disk.normal(reach + 1, pattern(8, cluster))
    disk.normal(3 * reach - 1, pattern(9, cluster))
    if image.version >= 3:
        disk.zero(6)
        disk.zero_allocated(7, pattern(10, cluster))
        disk.zero_allocated(8, pattern(11, cluster))
    return image


def over_raw(folder, content, **options):
    """An image over base.raw, which is written into the folder with this content."""
    (folder / "base.raw").write_bytes(content)
    return Image(
        backing=b"base.raw", backing_format=b"raw", backing_model=RawModel(content), **options
    )


def extended_over_raw(folder, cluster_bits, clusters=6):
    """An image with extended L2 entries over a raw file of the same size."""
    return over_raw(
        folder,
        pattern(20, clusters << cluster_bits),
        size=clusters << cluster_bits,
        cluster_bits=cluster_bits,
        extended_l2=True,
    )


def truncatable(**options):
    """All tables first, then data. Returns the image, its bytes, and the host offsets of two data
    clusters."""
    image = Image(**{"size": 8 * 65536, "metadata_clusters": 8, **options})
    hosts = [image.disk.normal(cluster, pattern(cluster, 65536)) for cluster in (1, 2)]
    data = image.build()
    assert len(data) == hosts[-1] + 65536
    return image, data, hosts


def overlay(path, backing, backing_format=b"raw", first=None, **options):
    """Write an image over a backing file. It stores nothing, or `first` as its first cluster."""
    name = None if backing is None else os.fsencode(backing)
    image = Image(backing=name, backing_format=backing_format, **options)
    if first is not None:
        image.disk.normal(0, first)
    return image.write(path)
