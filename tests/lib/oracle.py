# SPDX-License-Identifier: MIT
"""What QEMU says an image's content is."""
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path


def sha256(path):
    """The SHA-256 of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def convert(path, *options):
    """The SHA-256 of an image's guest content, by `qemu-img convert`.

    Not to be trusted for snapshots of another size than the image's (see snapshot_sha256()), nor
    for truncated images. Runs in the image's directory: QEMU looks for data files in the working
    directory.
    """
    path = Path(path)
    with tempfile.TemporaryDirectory(prefix="oracle") as folder:
        raw = Path(folder, "raw")
        subprocess.run(
            ["qemu-img", "convert", *options, "-O", "raw", f"./{path.name}", str(raw)],
            cwd=path.parent,
            check=True,
            timeout=300,
        )
        return sha256(raw)


def snapshot_sha256(image, snapshot):
    """The SHA-256 of an internal snapshot's disk, in the snapshot's own size.

    `qemu-img convert -l` gives the active disk's size instead, so the snapshot is applied to a
    copy. The copy lies beside the image for a moment, because its backing file is found from there.
    """
    image = Path(image)
    with tempfile.NamedTemporaryFile(dir=image.parent, suffix=".qcow2") as copy:
        shutil.copyfile(image, copy.name)
        subprocess.run(
            ["qemu-img", "snapshot", "-q", "-a", snapshot, copy.name], check=True, timeout=300
        )
        return convert(copy.name)
