#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The corpora: the seeds, and in corpus/TARGET.zip what the fuzzers found to reach more than those.

    corpus.py unpack DIRECTORY    write every target's inputs to DIRECTORY/TARGET/
    corpus.py merge BUILD         take into corpus/ what BUILD's fuzzers found, as far as it
                                  reaches more
"""
import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from fuzz.seeds import SEEDS, seeds  # noqa: E402

# Found inputs in a target's archive: the smallest ones, up to this many bytes in the archive.
ARCHIVE_BYTES_MAX = 240_000


def inputs(target):
    """All of a target's inputs: (name, bytes)."""
    yield from seeds(target)
    archive = HERE / "corpus" / f"{target}.zip"
    if archive.exists():
        with zipfile.ZipFile(archive) as packed:
            for name in packed.namelist():
                yield name, packed.read(name)
    for path in sorted((HERE / "findings" / target).glob("*")):
        yield f"finding-{path.name}", path.read_bytes()


def unpack(directory, targets=tuple(SEEDS)):
    for target in targets:
        folder = Path(directory, target)
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in inputs(target):
            (folder / name).write_bytes(data)


def pack(target, files):
    """Write an archive that is the same whenever the files are."""
    archive = HERE / "corpus" / f"{target}.zip"
    archive.parent.mkdir(exist_ok=True)
    found = {
        hashlib.sha1(data).hexdigest()[:16]: data for data in (path.read_bytes() for path in files)
    }
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name, data in sorted(found.items(), key=lambda item: (len(item[1]), item[0])):
            if packed.fp.tell() > ARCHIVE_BYTES_MAX:
                break
            packed.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, 9)
    return archive


def merge(build):
    for target in SEEDS:
        chosen, found = Path(build, "merge", target), Path(build, "found", target)
        shutil.rmtree(chosen, ignore_errors=True)
        chosen.mkdir(parents=True)
        known = list(inputs(target))
        old = Path(build, "merge", f"{target}-old")
        shutil.rmtree(old, ignore_errors=True)
        old.mkdir()
        for name, data in known:
            (old / name).write_bytes(data)
        for name, data in seeds(target):
            (chosen / name).write_bytes(data)
        subprocess.run(
            [
                Path(build, f"fuzz-{target}"),
                "-set_cover_merge=1",
                "-rss_limit_mb=2048",
                "-timeout=20",
                chosen,
                old,
                *([found] if found.exists() else []),
            ],
            check=True,
            capture_output=True,
        )
        names = {name for name, _ in seeds(target)}
        archive = pack(target, [path for path in chosen.iterdir() if path.name not in names])
        print(f"{archive.name}: {archive.stat().st_size} bytes")


if __name__ == "__main__":
    {"unpack": unpack, "merge": merge}[sys.argv[1]](sys.argv[2])
