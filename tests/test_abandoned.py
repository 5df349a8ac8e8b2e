# SPDX-License-Identifier: MIT
"""@abandoned: the state that was left when a snapshot was applied, put together from L2 tables that
nothing leads to. A copy that was made before is the truth."""
import random
import shutil
import struct
import subprocess
from collections import Counter

import pytest
from lib import core
from lib.builder import Image, pattern, poke
from lib.project import COMMAND, run

MIB = 1 << 20


class Machine:
    """An image whose file node ignores discards, as Proxmox sets up disks."""

    def __init__(self, path, size="64M", options=("cluster_size=4k",)):
        self.path = path
        words = [word for option in options for word in ("-o", option)]
        run("qemu-img", "create", "-q", "-f", "qcow2", *words, path, size)

    @property
    def node(self):
        return f"driver=qcow2,file.driver=file,file.filename={self.path},file.discard=ignore"

    def io(self, *steps):
        words = [word for step in steps for word in ("-c", step)]
        run("qemu-io", "--image-opts", *words, self.node)

    def snapshot(self, option, name):
        run("qemu-img", "snapshot", option, name, "--image-opts", self.node)

    def content(self):
        copy = self.path.with_suffix(".copy")
        shutil.copy(self.path, copy)
        with core.Image(copy) as image, image.view() as view:
            data = view.read(0, view.size)
        copy.unlink()
        return data


def abandoned(path, more=""):
    """(content with None for lost clusters, in pieces of 4 KiB; warnings)."""
    pieces = []
    with core.Named(f"{path}@abandoned{more}") as disk:
        for at in range(0, disk.size, 4096):
            try:
                pieces.append(disk.read(at, min(4096, disk.size - at)))
            except core.QcowError as error:
                assert error.code == "CORRUPT", error
                pieces.append(None)
        return pieces, disk.warnings


def compare(pieces, truth):
    """Counts of right, wrong and lost pieces that were not zeros in truth, or are not shown so."""
    counts = Counter()
    for number, piece in enumerate(pieces):
        true = truth[number * 4096 : (number + 1) * 4096]
        if piece is None:
            counts["lost"] += 1
        elif piece == true:
            counts["right" if any(true) else "right zeros"] += 1
        else:
            counts["wrong"] += 1
    return counts


def test_nothing_was_written_since(tmp_path):
    machine = Machine(tmp_path / "disk.qcow2")
    machine.io("write -P 65 0 8M", "write -P 66 20M 2M")
    machine.snapshot("-c", "then")
    machine.io("write -P 67 1M 2M", "write -P 68 21M 64k", "write -P 69 40M 1M")
    truth = machine.content()
    machine.snapshot("-a", "then")
    pieces, warnings = abandoned(machine.path)
    counts = compare(pieces, truth)
    assert counts["right"] >= 10 * 256 and counts["wrong"] == 0
    # A table that shares nothing has no place. It may be that of every L1 entry without a table.
    assert counts["lost"] % 512 == 0 and counts["lost"] >= 512
    assert "guessed: this is a state that was left" in warnings[0] and "kept" in warnings[1]
    assert "1 tables have no place" in warnings[0]


def test_only_what_is_kept(tmp_path):
    """What only the snapshot's tables say of the state is left out; the rest is right."""
    machine = Machine(tmp_path / "disk.qcow2")
    machine.io("write -P 65 0 8M", "write -P 66 20M 2M")
    machine.snapshot("-c", "then")
    machine.io("write -P 67 1M 2M")
    truth = machine.content()
    machine.snapshot("-a", "then")
    counts = compare(abandoned(machine.path, ",only=kept")[0], truth)
    assert counts["right"] == 4 * 256 and counts["wrong"] == 0  # two L2 tables, of 2 MiB each
    assert compare(abandoned(machine.path)[0], truth) == Counter(
        {"right": 10 * 256, "right zeros": 54 * 256}
    )


def test_what_was_reused_is_an_error(tmp_path):
    machine = Machine(tmp_path / "disk.qcow2")
    machine.io("write -P 65 0 8M")
    machine.snapshot("-c", "then")
    machine.io("write -P 67 1M 2M")
    truth = machine.content()
    machine.snapshot("-a", "then")
    machine.io("write -P 70 6M 1M")
    pieces, _ = abandoned(machine.path, ",only=kept")
    assert all(piece is None or 70 not in piece for piece in pieces)
    assert compare(pieces, truth)["wrong"] == 0


def test_a_wiped_l1_table(tmp_path):
    """The active disk's L1 table is zeros, so nothing leads to its L2 tables either."""
    machine = Machine(tmp_path / "disk.qcow2", "8M")
    machine.io("write -P 65 0 8M")
    machine.snapshot("-c", "then")
    machine.io("write -P 67 1M 4M")
    truth = machine.content()
    with core.Image(machine.path) as image:
        l1 = image.header.l1_offset
    with open(machine.path, "r+b") as file:
        file.seek(l1)
        file.write(bytes(32))
    counts = compare(abandoned(machine.path)[0], truth)
    assert counts["right"] == 4 * 256 and counts["wrong"] == 0


def test_header_and_l1_table_are_lost(tmp_path):
    """Clusters of 512 bytes, the first 64 KiB overwritten: header, refcounts, and the active L1
    table. A snapshot's L1 table is found; what nothing leads to is placed beside it."""
    machine = Machine(tmp_path / "disk.qcow2", "4M", ("cluster_size=512",))
    machine.io("write -P 65 0 4M")
    machine.snapshot("-c", "then")
    machine.io(*(f"write -P 67 {at} 4k" for at in range(0, 4 * MIB, 16384)))
    truth = machine.content()
    with core.Image(machine.path) as image:
        then = image.snapshots[0].l1_offset
        assert image.header.l1_offset < 65536 < then
    with open(machine.path, "r+b") as file:
        file.write(b"log\n" * 16384)
    name = f"{machine.path}@abandoned,l1={then},cluster-bits=9,size={4 * MIB}"
    with core.Named(name) as disk:
        assert any("put together from" in sentence for sentence in disk.warnings)
        pieces = []
        for at in range(0, disk.size, 4096):
            try:
                pieces.append(disk.read(at, 4096))
            except core.QcowError:
                pieces.append(None)
    counts = compare(pieces, truth)
    assert counts["wrong"] == 0 and counts["right"] > 900, counts


def test_nothing_is_left(tmp_path):
    machine = Machine(tmp_path / "disk.qcow2")
    machine.io("write -P 65 0 1M")
    with pytest.raises(core.QcowError) as caught:
        core.Named(f"{machine.path}@abandoned")
    assert "no L2 table is left that nothing leads to" in caught.value.message
    image = Image(size=64 * 4096, cluster_bits=12)
    image.disk.normal(0, pattern(1, 4096))
    at = image.junk(pattern(2, 4096))
    image.junk((1 << 63 | at).to_bytes(8, "big").ljust(4096, b"\0"))
    path = image.write(tmp_path / "image")
    with pytest.raises(core.QcowError) as caught:
        core.Named(f"{path}@abandoned")
    assert "gives them a place" in caught.value.message


def test_a_snapshot_of_that_name_comes_first(tmp_path):
    image = Image(size=64 * 4096, cluster_bits=12)
    image.disk.normal(0, pattern(1, 4096))
    image.snapshot(b"1", b"abandoned")
    image.disk.normal(0, pattern(2, 4096))
    path = image.write(tmp_path / "image")
    for name in ("@abandoned", "@abandoned,under-zeros"):
        with core.Named(f"{path}{name}") as disk:
            assert disk.read(0, 4096) == pattern(1, 4096)


@pytest.mark.parametrize("option", ("vmstate", "under-zeros"))
def test_options_that_do_not_go_with_it(option, tmp_path):
    path = Image(size=64 * 4096, cluster_bits=12).write(tmp_path / "image")
    with pytest.raises(core.QcowError) as caught:
        core.Named(f"{path}@abandoned,{option}")
    assert f'"{option}" does not go with an abandoned state' in caught.value.message


def test_tables_and_votes_without_end(tmp_path):
    """20,000 tables with the same entries, for which every entry of a huge L1 table votes."""
    image = Image(size=64 * 512, cluster_bits=9)
    for cluster in range(64):
        image.disk.normal(cluster, pattern(cluster, 512))
    image.snapshot(b"1", b"then")
    data = image.build()
    table = struct.pack(">64Q", *(word for word, _ in image.disk.entries.values()))
    data += table * 20000
    l1 = len(data)
    l2 = struct.unpack_from(">Q", data, image.disk.l1_offset)[0]
    data += struct.pack(">Q", l2) * 200000
    poke(data, 36, "I", 200000)
    poke(data, 40, "Q", l1)
    path = image.write(tmp_path / "image", data)
    done = subprocess.run(
        [COMMAND, "verify", "--no-hash", f"{path}@abandoned"],
        capture_output=True,
        check=False,
        timeout=100,
    )
    assert done.returncode in (0, 1, 4, 6) and b"abandoned" in done.stdout + done.stderr


@pytest.mark.parametrize("seed", (1, 4, 8, 9))
def test_random_histories(seed, tmp_path):
    """docs/residue.md has the rates of a hundred of them."""
    counts = history(seed, tmp_path)
    assert counts is None or counts[1]["wrong"] == 0


def history(seed, folder, steps=12):
    """A random history. Returns the counts of compare(), of all and with only=kept, or None if
    nothing could be opened."""
    rng = random.Random(seed)
    machine = Machine(
        folder / f"{seed}.qcow2", "24M", (f"cluster_size={rng.choice((4, 16, 64))}k",)
    )

    def write(count):
        for _ in range(count):
            length = rng.choice((4, 8, 64, 256, 1024)) << 10
            at = rng.randrange((24 * MIB - length) >> 12) << 12
            byte = rng.randrange(1, 255)
            yield rng.choice((f"write -P {byte} {at} {length}",) * 9 + (f"discard {at} {length}",))

    machine.io(f"write -P {rng.randrange(1, 255)} 0 {rng.choice((1, 4, 16))}M", *write(steps))
    machine.snapshot("-c", "then")
    if rng.random() < 0.5:
        machine.io(*write(steps))
        machine.snapshot("-c", "later")
    machine.io(*write(steps))
    truth = machine.content()
    machine.snapshot(
        "-a", rng.choice(("then", "later") if "later" in names(machine) else ("then",))
    )
    if rng.random() < 0.5:
        machine.io(*write(rng.randrange(1, steps)))
    try:
        return [compare(abandoned(machine.path, more)[0], truth) for more in ("", ",only=kept")]
    except core.QcowError as error:
        assert error.code == "NOT_FOUND", error
        return None
    finally:
        machine.path.unlink()


def names(machine):
    with core.Image(machine.path, no_chain=True) as image:
        return [snapshot.name.decode() for snapshot in image.snapshots]
