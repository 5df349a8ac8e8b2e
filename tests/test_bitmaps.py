# SPDX-License-Identifier: MIT
"""Persistent dirty bitmaps, compared with what QEMU exports over NBD."""
import json
import os
import subprocess
import time

import pytest
from lib.project import COMMAND, run, run_line


def dirty(image, name):
    """Our dirty ranges as (start, length)."""
    ranges = json.loads(run(COMMAND, "bitmap", "--json", image, name).stdout)
    lines = run(COMMAND, "bitmap", image, name).stdout.splitlines()
    assert [f"{r['start']} {r['length']}" for r in ranges] == lines
    return [(r["start"], r["length"]) for r in ranges]


def dirty_by_qemu(image, name, directory):
    """QEMU's dirty ranges: qemu-nbd exports the bitmap, and qemu-img map shows dirty blocks as not
    data."""
    socket = os.path.join(directory, "nbd.sock")
    server = subprocess.Popen(
        ["qemu-nbd", "-r", "-f", "qcow2", "-B", name, "-k", socket, str(image)]
    )
    try:
        while not os.path.exists(socket):
            assert server.poll() is None, "qemu-nbd has ended"
            time.sleep(0.05)
        options = (
            f"driver=nbd,server.type=unix,server.path={socket}"
            f",x-dirty-bitmap=qemu:dirty-bitmap:{name}"
        )
        extents = json.loads(run_line("qemu-img map --output=json --image-opts", options).stdout)
    finally:
        server.terminate()
        server.wait()
    ranges = []
    for extent in extents:
        if extent["data"]:
            continue
        if ranges and sum(ranges[-1]) == extent["start"]:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + extent["length"])
        else:
            ranges.append((extent["start"], extent["length"]))
    return ranges


@pytest.mark.parametrize(
    "size, cluster, granularity",
    [
        (100 << 20, 65536, 65536),
        (1 << 20, 512, 512),
        (3 << 20, 4096, 1 << 20),
        (64 << 20, 2 << 20, 4096),
        ((1 << 20) + 512, 65536, 1 << 16),
        (300 << 20, 512, 512),
    ],
)
def test_dirty_ranges_are_qemus(tmp_path, rng, size, cluster, granularity):
    image = tmp_path / "disk.qcow2"
    run_line(f"qemu-img create -q -f qcow2 -o cluster_size={cluster}", image, size)
    run_line("qemu-img bitmap --add -g", granularity, image, "bits")
    for _ in range(3):
        writes = []
        for _ in range(20):
            start = rng.randrange(size // 512) * 512
            length = min(rng.choice([512, 4096, 70 * 512, 1 << 20]), size - start)
            writes += ["-c", f"write -q {start} {length}"]
        run("qemu-io", *writes, image)
        assert dirty(image, "bits") == dirty_by_qemu(image, "bits", tmp_path) != []


def test_all_ones_and_all_zeros(tmp_path):
    image = tmp_path / "disk.qcow2"
    run_line("qemu-img create -q -f qcow2", image, "8M")
    run_line("qemu-img bitmap --add -g 64k", image, "bits")
    assert dirty(image, "bits") == []
    run("qemu-io", "-c", "write -q 0 8M", image)
    assert dirty(image, "bits") == [(0, 8 << 20)] == dirty_by_qemu(image, "bits", tmp_path)
    # The same as a table entry that says "all ones" without a cluster of bits.
    table = [b.table_offset for b in bitmaps(image)][0]
    with open(image, "r+b") as file:
        file.seek(table)
        file.write((1).to_bytes(8, "big"))
    assert dirty(image, "bits") == [(0, 8 << 20)]
    with open(image, "r+b") as file:
        file.seek(table)
        file.write(bytes(8))
    assert dirty(image, "bits") == []


def bitmaps(path):
    from lib import core

    with core.Image(path, no_chain=True) as image:
        return image.bitmaps


def test_info_lists_what_qemu_lists(tmp_path):
    image = tmp_path / "disk.qcow2"
    run_line("qemu-img create -q -f qcow2", image, "8M")
    run_line("qemu-img bitmap --add -g 32k", image, "first")
    run_line("qemu-img bitmap --add --disable", image, "sec,ond\n")
    run("qemu-io", "-c", "write -q 1M 64k", image)
    theirs = json.loads(run_line("qemu-img info --output=json", image).stdout)["format-specific"][
        "data"
    ]["bitmaps"]
    ours = json.loads(run(COMMAND, "info", "--json", image).stdout)["bitmaps"]
    assert [(b["granularity"], "auto" in b["flags"]) for b in theirs] == [
        (b["granularity"], b["auto"]) for b in ours
    ]
    assert [b["name"] for b in ours] == ["first", "sec,ond\\x0a"]
    assert [b["dirty_bytes"] for b in ours] == [65536, 0]
    assert all(b["consistent"] for b in ours)
    text = run(COMMAND, "info", image).stdout
    assert (
        'Bitmap: name "first", granularity 32768 bytes, consistent, auto, 65536 bytes dirty' in text
    )


@pytest.fixture()
def marked(tmp_path):
    image = tmp_path / "disk.qcow2"
    run_line("qemu-img create -q -f qcow2", image, "8M")
    run_line("qemu-img bitmap --add", image, "bits")
    return image


def patch(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def extension_offset(path):
    from lib import core

    with core.Image(path, no_chain=True) as image:
        return next(e.host_offset for e in image.extensions(0) if e.type == 0x23852875)


def directory_offset(path):
    with open(path, "rb") as file:
        file.seek(extension_offset(path) + 16)
        return int.from_bytes(file.read(8), "big")


def test_inconsistent_when_in_use(marked):
    patch(marked, directory_offset(marked) + 12, (3).to_bytes(4, "big"))
    (bitmap,) = json.loads(run(COMMAND, "info", "--json", marked).stdout)["bitmaps"]
    assert not bitmap["consistent"] and bitmap["in_use"]
    assert "inconsistent" in run(COMMAND, "bitmap", marked, "bits").stderr


def test_inconsistent_when_a_program_without_bitmaps_wrote(marked):
    patch(marked, 88, bytes(8))  # the autoclear features
    (bitmap,) = json.loads(run(COMMAND, "info", "--json", marked).stdout)["bitmaps"]
    assert not bitmap["consistent"] and not bitmap["in_use"]


@pytest.mark.parametrize(
    "offset, data, words",
    [
        (0, (0).to_bytes(4, "big"), "not in 1..65535"),
        (0, (65536).to_bytes(4, "big"), "not in 1..65535"),
        (8, ((64 << 20) + 1).to_bytes(8, "big"), "larger than 64 MiB"),
        (16, (513).to_bytes(8, "big"), "multiple of the cluster size"),
        (16, (1 << 50).to_bytes(8, "big"), "truncated"),
        (-4, (23).to_bytes(4, "big"), "instead of 24"),
    ],
)
def test_bad_extension_is_a_warning_and_the_disk_reads(core, marked, offset, data, words):
    patch(marked, extension_offset(marked) + offset, data)
    if offset == -4:
        patch(marked, extension_offset(marked) + 24, bytes(8))
    with core.Image(marked) as image:
        assert image.bitmaps == [] and any(words in warning for warning in image.warnings)
        with image.view(core.ACTIVE) as view:
            assert view.read(0, 8 << 20) == bytes(8 << 20)


@pytest.mark.parametrize(
    "offset, data, words",
    [
        (17, b"\x08", "granularity"),
        (17, b"\x20", "granularity"),
        (18, b"\0\0", "name"),
        (18, b"\x04\0", "name"),
        (0, (512).to_bytes(8, "big"), "multiple of the cluster size"),
        (8, (8193).to_bytes(4, "big"), "larger than 512 MiB"),
        (20, b"\xff\xff\xff\xff", "ends inside"),
    ],
)
def test_bad_directory_entry_is_a_warning(core, marked, offset, data, words):
    patch(marked, directory_offset(marked) + offset, data)
    with core.Image(marked) as image:
        assert image.bitmaps == [] and any(words in warning for warning in image.warnings)


def test_table_too_small_or_cut_is_an_error(marked):
    patch(marked, directory_offset(marked) + 8, bytes(4))
    result = run(COMMAND, "bitmap", marked, "bits", check=False)
    assert result.returncode == 1 and "too small" in result.stderr
    patch(marked, directory_offset(marked), (1 << 40).to_bytes(8, "big") + (1).to_bytes(4, "big"))
    result = run(COMMAND, "bitmap", marked, "bits", check=False)
    assert result.returncode == 1 and "truncated" in result.stderr
    result = run(COMMAND, "info", "--json", marked, check=False)
    assert result.returncode == 4
    (bitmap,) = json.loads(result.stdout)["bitmaps"]
    assert bitmap["dirty_bytes"] is None


def test_unknown_bitmap_name_lists_those_there_are(marked):
    result = run(COMMAND, "bitmap", marked, "none", check=False)
    assert result.returncode == 1 and '"bits"' in result.stderr
