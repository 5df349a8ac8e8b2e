# SPDX-License-Identifier: MIT
"""The dearest images there can be: what they cost in memory stays below MEMORY_MAX, and in time
within reason.

tests/hostile/measure opens and reads each in a process of its own. The figures are printed (pytest
-rP); time is not asserted, beyond that there is an end.
"""
import json
import os
import re
import resource
import struct
import subprocess
import zlib

import pytest

from lib.builder import (
    COMPRESSED,
    COPIED,
    FEATURE_NAMES,
    Image,
    divide_up,
    pattern,
    poke,
    zstd,
    zstd_huge_window,
    zstd_skippable,
)
from lib.core import Image as Opened
from lib.core import QcowError
from lib.tools import DROPIN

pytestmark = [
    pytest.mark.usefixtures("core"),
    pytest.mark.unsanitized("measures memory, of which sanitizers need more"),
]

# As SECURITY.md says: for a program that reads with one thread, caches included.
MEMORY_MAX = 256 << 20
SECONDS_MAX = 120  # on a busy machine, too
MIB = 1 << 20
BITMAPS, UNKNOWN = 0x23852875, 0x7E577E57
SNAPSHOTS_MAX, BITMAPS_MAX = 65536, 65535


# ---- Measuring -------------------------------------------------------------------


def sanitized():
    return "asan" in os.environ.get("LD_PRELOAD", "") or "ASAN_OPTIONS" in os.environ


def measured(build_directory, name, *words):
    """Run tests/hostile/measure; returns what became of it."""
    command = [build_directory / "tests/hostile/measure", *map(str, words)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=True,
        errors="replace",
        env={**os.environ, "LD_LIBRARY_PATH": str(DROPIN), "LC_ALL": "C.UTF-8"},
    )
    peak, opened, total, outcome = done.stdout.strip().split(" ", 3)
    print(
        f"{name:44} {int(peak) / 1024:6.1f} MiB, {int(opened):6} ms to open, {int(total):6} ms in"
        f" all: {outcome:.60}"
    )
    print(done.stderr[-300:], end="")
    assert int(peak) << 10 < MEMORY_MAX or sanitized()
    return outcome


def cost(build_directory, path, read_bytes=64 * MIB, *passphrase):
    return measured(build_directory, path.name, "image", read_bytes, path, *passphrase)


def cost_of_command(build_directory, tmp_path, name, *command, status=0):
    """The same for a whole command. Returns what it printed, as a file."""
    output = tmp_path / "output"
    assert measured(build_directory, name, "run", output, *command) == str(status)
    print(f"{'':44} {output.stat().st_size / MIB:6.1f} MiB of output")
    return output


# ---- Making images ---------------------------------------------------------------


def write(path, size, pieces):
    """A sparse file."""
    with open(path, "wb") as file:
        for at, data in pieces.items():
            file.seek(at)
            file.write(data)
        file.truncate(max(size, file.seek(0, os.SEEK_END)))
    return path


def header(
    cluster_bits=16,
    size=0,
    l1=(0, 0),
    snapshots=(0, 0),
    incompatible=0,
    extensions=b"",
    backing=b"",
    crypt_method=0,
):
    """Cluster 0, as far as it is not zeros. `extensions` are bytes; the backing file's name follows
    them."""
    compression = 1 if incompatible & 8 else 0
    out = bytearray(
        struct.pack(
            ">IIQIIQIIQQIIQQQQIIB7x",
            0x514649FB,
            3,
            0,
            len(backing),
            cluster_bits,
            size,
            crypt_method,
            l1[1],
            l1[0],
            0,
            0,
            *snapshots,
            incompatible,
            0,
            1,
            4,
            112,
            compression,
        )
    )
    out += extensions
    if backing:
        poke(out, 8, "Q", len(out))
        out += backing
    assert len(out) <= 1 << cluster_bits
    return bytes(out)


def extension(kind, data):
    return struct.pack(">II", kind, len(data)) + data.ljust(divide_up(len(data), 8) * 8, b"\0")


def snapshot_entries(count, l1, size, entry_bytes=1024, letter=b"\x01"):
    """Entries whose names fill them."""
    name_bytes = entry_bytes - 40 - 16
    entry = (
        struct.pack(">QIHHIIQIIQQ", l1[0], l1[1], 0, name_bytes, 0, 0, 0, 0, 16, 0, size)
        + letter * name_bytes
    )
    return entry * count


def bitmap_entries(count, table, entry_bytes=1024, letter=b"\x01"):
    """Entries with one table, (offset, entries), whose names fill them."""
    name_bytes = min(1023, entry_bytes - 24)
    return (struct.pack(">QIIBBHI", *table, 0, 1, 9, name_bytes, 0) + letter * name_bytes) * count


def bitmaps_extension(count, directory_offset, directory_bytes):
    return extension(BITMAPS, struct.pack(">IIQQ", count, 0, directory_bytes, directory_offset))


def bitmaps_image(path, size, l1, count, table_entries):
    """An empty disk, and bitmaps that share a table. Its entries all lead to one cluster, in which
    every other bit is set."""
    directory = bitmap_entries(count, (131072, table_entries))
    extensions = bitmaps_extension(count, 1 << 20, len(directory))
    write(
        path,
        0,
        {
            0: header(16, size, l1, extensions=extensions),
            131072: struct.pack(">Q", 196608) * table_entries,
            196608: b"\xaa" * 65536,
            1 << 20: directory,
            l1[0]: bytes(8 * l1[1]),
        },
    )


def compressed_word(cluster_bits, at, sectors):
    return COMPRESSED | (sectors - 1) << 62 - (cluster_bits - 8) | at


def raw_deflate(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def compressed_image(path, streams, clusters, incompatible=0):
    """2 MiB clusters. `streams`: of 4 MiB at most; every entry leads to one of them, over and over,
    with other sector counts, so that each must be decoded anew."""
    cluster = 2 * MIB
    places = [4 * cluster + index * 2 * cluster for index in range(len(streams))]
    words = [
        compressed_word(21, places[index % len(places)], 8192 - index // len(places) % 4096)
        for index in range(clusters)
    ]
    return write(
        path,
        places[-1] + 2 * cluster,
        {
            0: header(21, clusters * cluster, (cluster, 1), incompatible=incompatible),
            cluster: struct.pack(">Q", COPIED | 2 * cluster),
            2 * cluster: struct.pack(f">{clusters}Q", *words),
            **dict(zip(places, streams)),
        },
    )


# ---- The dearest images ----------------------------------------------------------


def test_empty_disk_of_64_tib(build_directory, tmp_path):
    path = tmp_path / "64 TiB, empty"
    write(path, 2 * MIB, {0: header(16, 1 << 46, (65536, 131072))})
    assert cost(build_directory, path, 1 << 30) == "ok"


@pytest.mark.parametrize("cluster_bits", (9, 21))
def test_largest_l1_table(cluster_bits, build_directory, tmp_path):
    """All of its entries lead to L2 tables, and these to clusters."""
    path = tmp_path / f"L1 table of 32 MiB, clusters of 2^{cluster_bits}"
    cluster, entries = 1 << cluster_bits, 4194304
    l1 = 4 * MIB
    l2 = l1 + 32 * MIB
    size = entries * cluster * cluster // 8
    write(
        path,
        l2 + cluster,
        {
            0: header(cluster_bits, min(size, (1 << 63) - cluster), (l1, entries)),
            l1: struct.pack(">Q", COPIED | l2) * entries,
            l2: struct.pack(">Q", COPIED | l1) * (cluster // 8),
        },
    )
    assert cost(build_directory, path) == "ok"


def test_tables_that_share_a_bucket(build_directory, tmp_path):
    """L2 tables at multiples of 2^40, none of which is there: what is kept of them is found again,
    without a search."""
    path = tmp_path / "L2 tables at multiples of 2^40"
    entries = 32768
    words = struct.pack(f">{entries}Q", *(COPIED | (index + 1) << 40 for index in range(entries)))
    write(path, MIB, {0: header(9, entries * 64 * 512, (512, entries)), 512: words})
    assert cost(build_directory, path, 1 << 30) == "ok"


def test_most_snapshots(build_directory, tmp_path):
    path = tmp_path / "65,536 snapshots in 64 MiB"
    write(
        path,
        0,
        {
            0: header(16, 65536, (65536, 1), (SNAPSHOTS_MAX, 1 << 20)),
            65536: bytes(8),
            1 << 20: snapshot_entries(SNAPSHOTS_MAX, (65536, 1), 65536),
        },
    )
    assert cost(build_directory, path) == "ok"
    with Opened(path) as opened:
        assert len(opened.snapshots) == SNAPSHOTS_MAX and not any(
            "snapshot table" in warning for warning in opened.warnings
        )


def test_snapshots_with_names_of_64_kib(build_directory, tmp_path):
    path = tmp_path / "511 snapshots with names of 64 KiB"
    entries = snapshot_entries(511, (65536, 1), 65536, 65584)
    write(
        path,
        0,
        {0: header(16, 65536, (65536, 1), (511, 1 << 20)), 65536: bytes(8), 1 << 20: entries},
    )
    assert cost(build_directory, path) == "ok"


def test_most_bitmaps(build_directory, tmp_path):
    path = tmp_path / "65,535 fragmented bitmaps in 64 MiB"
    bitmaps_image(path, 1 << 28, (65536, 1), BITMAPS_MAX, 1)
    assert cost(build_directory, path) == "ok"
    with Opened(path) as opened:
        assert len(opened.bitmaps) == BITMAPS_MAX and not any(
            "directory" in warning for warning in opened.warnings
        )


def test_largest_bitmap(build_directory, tmp_path):
    """512 MiB of bits, every other one set."""
    path = tmp_path / "a bitmap of 512 MiB, fragmented"
    bitmaps_image(path, 1 << 41, (4 * MIB, 4096), 1, 8192)
    assert cost(build_directory, path) == "ok"


def test_feature_names_and_extensions_that_fill_a_cluster_of_2_mib(build_directory, tmp_path):
    room = 2 * MIB - 112
    for name, extensions in (
        (
            "a feature name table of 2 MiB",
            extension(FEATURE_NAMES, b"\1\1name".ljust(48, b"\1") * ((room - 16) // 48)),
        ),
        ("260,000 header extensions", struct.pack(">II", UNKNOWN, 0) * (room // 8)),
        ("260,000 feature name tables", extension(FEATURE_NAMES, b"") * (room // 8)),
        ("a backing format of 2 MiB", extension(0xE2792ACA, b"f" * (room - 16))),
        ("a data file name of 2 MiB", extension(0x44415441, b"f" * (room - 16))),
    ):
        path = tmp_path / name
        write(path, 4 * MIB, {0: header(21, 1 << 20, (2 * MIB, 1), extensions=extensions)})
        assert cost(build_directory, path) == "ok"


def test_streams_that_expand(build_directory, tmp_path):
    path = tmp_path / "256 clusters of 2 MiB in one deflate stream"
    compressed_image(path, [raw_deflate(bytes(2 * MIB))], 256)
    assert cost(build_directory, path, 1 << 29) == "ok"
    path = tmp_path / "256 clusters of 2 MiB in one zstd stream"
    compressed_image(path, [zstd(bytes(2 * MIB))], 256, incompatible=8)
    assert cost(build_directory, path, 1 << 29) == "ok"


def test_deflate_streams_that_never_end(build_directory, tmp_path):
    """4 MiB each: empty stored blocks; blocks with codes of their own for a few bytes each."""
    stored = b"\0\0\0\xff\xff" * (4 * MIB // 5)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    # 5: Z_BLOCK.
    small = b"".join(
        packer.compress(pattern(index, 40) * 2) + packer.flush(5) for index in range(20000)
    )
    path = tmp_path / "deflate: empty blocks, small blocks"
    compressed_image(path, [stored, small[: 4 * MIB]], 32)
    assert cost(build_directory, path, 1 << 26) == "ok"


def test_zstd_streams_that_cost(build_directory, tmp_path):
    """4 MiB each: skippable frames; empty frames; a huge window; a huge content size; runs of one
    byte that give too much."""
    empty = b"\x28\xb5\x2f\xfd\x20\0\1\0\0"
    run = b"\x28\xb5\x2f\xfd\0\x70" + (struct.pack("<I", 131072 << 3 | 2)[:3] + b"x") * 1000
    giant = (
        b"\x28\xb5\x2f\xfd\xe0"
        + struct.pack("<Q", 1 << 62)
        + struct.pack("<I", 131072 << 3 | 3)[:3]
        + b"x"
    )
    streams = [
        zstd_skippable(b"") * (4 * MIB // 8),
        empty * (4 * MIB // 9),
        zstd_huge_window(bytes(2 * MIB)),
        giant,
        run,
    ]
    path = tmp_path / "zstd: skippable, empty, huge frames"
    compressed_image(path, streams, 30, incompatible=8)
    assert cost(build_directory, path, 1 << 26) == "ok"


def test_damaged_stream_is_decoded_once(tmp_path):
    """However small the pieces are in which it is asked for."""
    image = Image(size=65536)
    stream = b"\0\0\0\xff\xff" * 6000
    image.disk.compressed(0, None, stream)
    data, reads = image.build(), []

    def read(offset, length):
        reads.append(offset)
        return bytes(data[offset : offset + length])

    with Opened.from_storage(read, len(data)) as opened:
        messages = set()
        for offset in range(0, 65536, 4096):
            with pytest.raises(QcowError) as caught:
                opened.view().read(offset, 512)
            assert (
                caught.value.code == "CORRUPT"
                and "deflate stream is damaged" in caught.value.message
            )
            messages.add(caught.value.message.split("(guest")[0])
            if offset == 0:
                before = len(reads)
        assert len(reads) == before and len(messages) == 1


# ---- Chains ----------------------------------------------------------------------


DECLARED_QCOW2 = extension(0xE2792ACA, b"qcow2")


def dear_chain(directory, depth, top):
    """`depth` files with clusters of 2 MiB that are full of names and extensions, most of which are
    zeros, so that the files are sparse; `top` makes the topmost file, given the name of the one
    below."""
    room = 2 * MIB - 112 - len(DECLARED_QCOW2) - 8 - 8
    fillings = [struct.pack(">II", kind, room) for kind in (FEATURE_NAMES, 0x44415441, UNKNOWN)]
    for number in range(depth - 1):
        filling = (
            struct.pack(">II", UNKNOWN, 0) * (room // 8)
            if number % 16 == 5
            else fillings[number % 3]
        )
        start = bytearray(header(21, 1 << 30, (2 * MIB, 1), extensions=DECLARED_QCOW2 + filling))
        pieces = {0: start}
        if number > 0:
            name = b"%d" % (number - 1)
            poke(poke(start, 8, "Q", 2 * MIB - 8), 16, "I", len(name))
            pieces[2 * MIB - 8] = name
        write(directory / str(number), 4 * MIB, pieces)
    return top(b"%d" % (depth - 2))


def test_deepest_chain(build_directory, tmp_path):
    path = tmp_path / "256 files with 2 MiB of names each"
    dear_chain(
        tmp_path,
        256,
        lambda backing: write(
            path,
            4 * MIB,
            {0: header(21, 1 << 39, (2 * MIB, 1), extensions=DECLARED_QCOW2, backing=backing)},
        ),
    )
    assert cost(build_directory, path) == "ok"
    with Opened(path) as opened:
        assert len(opened.layers) == 256


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """All of it in one image."""
    folder = tmp_path_factory.mktemp("everything")
    path, cluster, clusters = folder / "everything at once", 2 * MIB, 64
    directory = bitmap_entries(BITMAPS_MAX, (8 * MIB, 1), letter=b"n")
    snapshots, bitmaps = 16 * MIB, 96 * MIB

    def top(backing):
        extensions = (
            DECLARED_QCOW2
            + bitmaps_extension(BITMAPS_MAX, bitmaps, len(directory))
            + extension(UNKNOWN, b"u" * (MIB + MIB // 2))
            + extension(FEATURE_NAMES, b"\1\1name".ljust(48, b"\1") * 10000)
            + extension(UNKNOWN, b"") * 5000
        )
        words = [compressed_word(21, 10 * MIB, 8192 - index) for index in range(clusters)]
        return write(
            path,
            0,
            {
                0: header(
                    21,
                    1 << 39,
                    (cluster, 1),
                    (SNAPSHOTS_MAX, snapshots),
                    extensions=extensions,
                    backing=backing,
                ),
                cluster: struct.pack(">Q", COPIED | 2 * cluster),
                2 * cluster: struct.pack(f">{clusters}Q", *words),
                8 * MIB: struct.pack(">Q", 12 * MIB),
                12 * MIB: b"\xaa" * cluster,
                10 * MIB: raw_deflate(bytes(cluster)),
                snapshots: snapshot_entries(SNAPSHOTS_MAX, (cluster, 1), 1 << 39, letter=b"n"),
                bitmaps: directory,
            },
        )

    return dear_chain(folder, 256, top)


def test_everything_at_once(everything, build_directory):
    assert cost(build_directory, everything, 256 * MIB) == "ok"
    with Opened(everything) as opened:
        assert (len(opened.layers), len(opened.snapshots), len(opened.bitmaps)) == (
            256,
            SNAPSHOTS_MAX,
            BITMAPS_MAX,
        )


def test_everything_at_once_below_an_overlay(everything, build_directory, tmp_path):
    """verify checks each file of the chain, with its snapshots and bitmaps."""
    path = write(
        tmp_path / "overlay",
        4 * MIB,
        {0: header(21, MIB, (2 * MIB, 1), extensions=DECLARED_QCOW2, backing=b"base")},
    )
    output = tmp_path / "output"
    command = [
        build_directory / "tsk_qcow2/tsk-qcow2",
        "verify",
        "--no-hash",
        f"{path},backing={everything},backing=none",
    ]
    status = measured(build_directory, "verify of an overlay", "run", output, *command)
    text = output.read_text()
    assert status == "4" and f"Tables of {everything}: " in text and "Incomplete" not in text, (
        status,
        text[-3000:],
    )


def test_everything_at_once_through_the_tools(everything, build_directory, tmp_path):
    """What they print is bounded, too."""
    output = cost_of_command(
        build_directory, tmp_path, "img_stat", "/usr/bin/img_stat", "-i", "qcow2", everything
    )
    text = output.read_bytes()
    assert text.count(b"\nSnapshot: ") == SNAPSHOTS_MAX and text.count(b"\nBitmap: ") == BITMAPS_MAX
    assert len(text) < 192 * MIB
    del text
    command = build_directory / "tsk_qcow2/tsk-qcow2"
    output = cost_of_command(
        build_directory,
        tmp_path,
        "info --chain --json",
        command,
        "info",
        "--chain",
        "--json",
        everything,
        status=4,  # snapshots and bitmaps cannot be read
    )
    assert output.stat().st_size < 256 * MIB
    with open(output, "rb") as file:  # parsed as a whole it would take gigabytes
        start = file.read(4096)
        file.seek(-4096, os.SEEK_END)
        end = file.read()
    assert start.startswith(b'{\n  "format": "qcow2",\n  "header": {') and end.endswith(b"  ]\n}\n")


def test_json_of_several_snapshots_and_bitmaps(build_directory, tmp_path):
    """What is printed a piece at a time is JSON as a whole."""
    directory = bitmap_entries(3, (131072, 1), 64)
    path = write(
        tmp_path / "image",
        0,
        {
            0: header(
                16,
                65536,
                (65536, 1),
                (3, 1 << 20),
                extensions=bitmaps_extension(3, 2 << 20, len(directory)),
            ),
            65536: bytes(8),
            1 << 20: snapshot_entries(3, (65536, 1), 65536, 64),
            131072: bytes(8),
            2 << 20: directory,
        },
    )
    command = build_directory / "tsk_qcow2/tsk-qcow2"
    done = subprocess.run([command, "info", "--json", path], capture_output=True)
    assert done.returncode == 4  # they cannot be read
    found = json.loads(done.stdout)
    assert [snapshot["name"] for snapshot in found["snapshots"]] == ["\\x01" * 8] * 3
    assert [bitmap["name"] for bitmap in found["bitmaps"]] == ["\\x01" * 40] * 3


def call_graph(library):
    """Which functions call which, by address; and their names."""
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", library], capture_output=True, text=True, check=True
    ).stdout
    names = {
        int(start[1], 16): start[2]
        for start in re.finditer(r"^([0-9a-f]+) <(.*)>:$", text, re.MULTILINE)
    }
    addresses = {name: address for address, name in names.items()}
    calls, caller = {address: set() for address in names}, None
    for line in text.splitlines():
        if start := re.match(r"([0-9a-f]+) <.*>:$", line):
            caller = int(start[1], 16)
        elif target := re.search(r"\t(\w+)\s+([0-9a-f]+) <([^+>]+)>", line):
            called = (
                addresses.get(target[3].removesuffix("@plt"), -1)
                if "@plt" in target[3]
                else int(target[2], 16)
            )
            if called != caller or target[1] in ("call", "callq", "bl"):  # else it is a loop
                calls[caller].add(called)
    return names, calls


def test_no_function_calls_itself(build_directory):
    """Neither directly nor through others: nothing an image says makes the stack deeper."""
    names, calls = call_graph(build_directory / "core/.libs/libqcow2core.so")
    assert (
        len([name for name in names.values() if name.startswith("qcow2_")]) > 50
    ), "the symbols are there"
    for function in calls:
        reached, todo = set(), set(calls[function])
        while todo:
            called = todo.pop()
            reached.add(called)
            todo |= calls.get(called, set()) - reached
        assert function not in reached, f"{names[function]} calls itself"


def test_stack(everything, build_directory):
    """All of it opens with a stack of 128 KiB."""

    def small_stack():
        resource.setrlimit(resource.RLIMIT_STACK, (128 << 10, 128 << 10))

    command = [build_directory / "tests/hostile/measure", "image", str(8 * MIB), everything]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS_MAX, preexec_fn=small_stack
    )
    assert done.returncode == 0 and done.stdout.strip().endswith("ok"), done


# ---- What is kept of a header ----------------------------------------------------


def test_extensions_past_the_first_1024_are_understood_though_not_kept(tmp_path):
    """The bitmaps extension is the last one."""
    directory = bitmap_entries(1, (131072, 1), 64)
    extensions = extension(UNKNOWN, b"12345678") * 1500
    place = 112 + len(extensions) + 8
    extensions += bitmaps_extension(1, 1 << 20, len(directory))
    path = write(
        tmp_path / "image",
        0,
        {
            0: header(16, 65536, (65536, 1), extensions=extensions),
            65536: bytes(8),
            131072: bytes(8),
            1 << 20: directory,
        },
    )
    with Opened(path) as opened:
        assert [found.type for found in opened.extensions()] == [UNKNOWN] * 1024
        assert len(opened.bitmaps) == 1
        assert any("only the first 1024" in warning for warning in opened.warnings)
    data = poke(bytearray(path.read_bytes()), place - 4, "I", 23)
    with Opened.from_storage(bytes(data)) as opened:
        assert any("instead of 24" in warning for warning in opened.warnings)


def test_data_file_name_that_is_longer_than_any_path(tmp_path):
    """It counts as none, and not as the file that its beginning names."""
    (tmp_path / ("d" * 200)).write_bytes(pattern(1, 65536))
    name = b"d" * 200 + b"/" * 3896
    for length, code, word in ((4095, "DENIED", "directory"), (4096, "DENIED", "does not name it")):
        path = write(
            tmp_path / "image",
            0,
            {
                0: header(
                    16,
                    65536,
                    (65536, 1),
                    incompatible=4,
                    extensions=extension(0x44415441, name[:length]),
                ),
                65536: bytes(8),
            },
        )
        with pytest.raises(QcowError) as caught:
            Opened(path)
        assert caught.value.code == code and word in caught.value.message, caught.value
        with Opened(path, data_file=tmp_path / ("d" * 200)) as opened:
            assert opened.view().read(0, 512) == bytes(512)
