# SPDX-License-Identifier: MIT
"""Makes images for digest.c: images.py FOLDER. Prints, a line each, what to read: an image, and its backing files if it is to be told them."""
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lib.builder import Image, RawModel, pattern, squeezable  # noqa: E402


def mixed(cluster_bits, **options):
    """All kinds of clusters."""
    image = Image(size=(64 << cluster_bits) - 512, cluster_bits=cluster_bits, **options)
    for cluster in range(0, 60, 5):
        image.disk.normal(cluster, pattern(cluster, image.cluster_size))
        image.disk.compressed(cluster + 1, squeezable(cluster, image.cluster_size))
        image.disk.zero(cluster + 2)
    return image


def snapshots():
    image = mixed(16)
    image.snapshot(b"1", b"before")
    image.disk.normal(3, pattern(99, image.cluster_size))
    image.disk.zero(0)
    return image


def far():
    """Guest and host offsets far beyond 4 GiB, at clusters of which the low 32 bits name others."""
    image = Image(size=1 << 45, cluster_bits=16)
    for number, guest in enumerate((0, 5 << 32, (7 << 32) + 65536, 1 << 44)):
        image.disk.normal(guest >> 16, pattern(number, 65536), at=(number + 1 << 32) + 65536 * number)
        image.disk.compressed((guest >> 16) + 1, squeezable(number, 65536), at=(number + 10 << 32) + 12345)
    return image


def subclusters():
    image = Image(size=16 << 16, cluster_bits=16, extended_l2=True)
    image.disk.subclusters(0, "DZ." * 10 + "DD", pattern(1, 65536))
    image.disk.subclusters(9, "." * 31 + "D", pattern(2, 65536))
    image.disk.compressed(10, squeezable(3, 65536))
    return image


def overlay(folder):
    base = pattern(20, 16 << 16)
    (folder / "base.raw").write_bytes(base)
    image = Image(size=16 << 16, cluster_bits=16, backing=b"base.raw", backing_format=b"raw", backing_model=RawModel(base))
    image.disk.normal(5, pattern(5, 65536))
    image.disk.zero(6)
    return image


def main(folder):
    folder = Path(folder)
    images = {"mixed": mixed(16), "small-clusters": mixed(9), "large-clusters": mixed(21), "version-2": Image(size=1 << 20, version=2),
              "zstd": mixed(16, compression=1), "snapshots": snapshots(), "far": far(), "subclusters": subclusters(),
              "overlay": overlay(folder)}
    for name, image in images.items():
        image.write(folder / f"{name}.qcow2")
        print(f"{name}.qcow2", *(["base.raw"] if name == "overlay" else []))
    subprocess.run(["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", "--object", "secret,id=key,data=secret", "-o",
                    "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10", "base.raw", "encrypted.qcow2"],
                   cwd=folder, check=True)
    print("encrypted.qcow2")


if __name__ == "__main__":
    main(sys.argv[1])
