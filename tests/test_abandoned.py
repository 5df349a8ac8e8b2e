# SPDX-License-Identifier: MIT
"""@abandoned: the state that was left when a snapshot was applied, put together from L2 tables that
nothing leads to. A copy that was made before is the truth."""
import json
import struct
import subprocess
from collections import Counter

import pytest
from lib import core
from lib.abandoned_history import AbandonedHistory, Machine
from lib.builder import Image, pattern, poke
from lib.project import COMMAND, tsk_qcow2

MIB = 1 << 20


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


def written_since_a_snapshot(path):
    """(a machine whose disk was written in part since its snapshot "then"; its content)."""
    machine = Machine(path, "8M")
    machine.io("write -P 65 0 8M")
    machine.snapshot("-c", "then")
    machine.io("write -P 67 1M 4M")
    return machine, machine.content()


def test_a_wiped_l1_table(tmp_path):
    """The active disk's L1 table is zeros, so nothing leads to its L2 tables either."""
    machine, truth = written_since_a_snapshot(tmp_path / "disk.qcow2")
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
    for option in ("only=kept", "by-neighbours"):
        with pytest.raises(core.QcowError) as caught:
            core.Named(f"{path}@abandoned,{option}")
        assert f'"{option}" does not go with a snapshot that the image has' in caught.value.message


def test_vmstate_does_not_go_with_it(tmp_path):
    path = Image(size=64 * 4096, cluster_bits=12).write(tmp_path / "image")
    with pytest.raises(core.QcowError) as caught:
        core.Named(f"{path}@abandoned,vmstate")
    assert '"vmstate" does not go with an abandoned state' in caught.value.message


@pytest.mark.parametrize("more", ("", ",only=kept"))
def test_what_is_stored_under_its_zeros(more, tmp_path):
    """Zeros of the state's own, and (not kept) of the snapshot to which the machine went back."""
    machine = Machine(tmp_path / "disk.qcow2", "8M")
    machine.io("write -P 65 0 8M", "write -z 6M 64k")
    machine.snapshot("-c", "then")
    machine.io("write -P 67 1M 2M", "write -z 1M 1M")
    machine.snapshot("-a", "then")
    pieces, warnings = abandoned(machine.path, f",under-zeros{more}")
    truth = b"A" * MIB + b"C" * 2 * MIB + b"A" * 5 * MIB
    counts = compare(pieces, truth)
    assert counts["wrong"] == 0 and counts["right"] == (4 if more else 8) * 256
    shown = 0 if more else 65536
    assert f"under-zeros: {shown + MIB} bytes that the state says are zeros" in warnings[2]


def test_a_table_that_leads_to_a_data_file(tmp_path):
    """It says itself where it belongs; the first cluster has the offset 0, as has no cluster."""
    image = Image(size=1024 * 4096, cluster_bits=12, data_file=b"guest.data")
    image.disk.normal(513, pattern(1, 4096))
    image.put_data_file(0, pattern(2, 8192))
    image.junk(struct.pack(">3Q", 1 << 63, 1 << 63 | 4096, 0).ljust(4096, b"\0"))
    path = image.write(tmp_path / "image")
    kinds = json.loads(tsk_qcow2("residue", "--json", path))["kinds"]
    assert (kinds["l2"], kinds["data"]) == (4096, 0)
    pieces, warnings = abandoned(path)
    assert pieces[:3] == [pattern(2, 8192)[:4096], pattern(2, 8192)[4096:], bytes(4096)]
    assert pieces[513] == pattern(1, 4096) and "1 by what they contain" in warnings[0]
    assert "kept 8192, shared-active 2097152, absent" in warnings[1]


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


# ---- Clusters that no table names ------------------------------------------------

C = 512
PLAIN, MORE = 0, core.VIEW_BY_NEIGHBOURS


def pieces_of(path, flags):
    """[(label, content or None)] of each cluster of the abandoned state."""
    found = []
    with core.Image(path) as image, image.abandoned(flags) as view:
        for at in range(0, view.size, C):
            try:
                found.append((view.label(at, C).label, view.read(at, C)))
            except core.QcowError as error:
                assert error.code == "CORRUPT", error
                found.append((view.label(at, C).label, None))
        return found, view.warnings


class Left:
    """Clusters of 512 bytes, so that an L2 table maps 32 KiB. The state that was left has written
    8 to 72 KiB, at once, and three L2 tables; the one in the middle shares nothing."""

    def __init__(self, path):
        self.machine = Machine(path, "128k", (f"cluster_size={C}",))
        source = path.with_suffix(".source")
        source.write_bytes(pattern(1, 64 << 10))
        self.machine.io("write -P 65 0 80k")
        self.machine.snapshot("-c", "then")
        self.machine.io(f"write -s {source} 8k 64k")
        self.truth = self.machine.content()
        self.tables = self.machine.own_tables()
        self.machine.snapshot("-a", "then")
        self.data = bytearray(path.read_bytes())
        self.first = self.tables[1] + C  # what the middle table mapped begins after it
        assert self.data[self.first : self.first + C] == self.truth[32 << 10 : (32 << 10) + C]

    def put(self, offset, content):
        self.data[offset : offset + len(content)] = content

    def entry(self, table, index, word):
        self.put(self.tables[table] + index * 8, struct.pack(">Q", word))

    def pieces(self, flags):
        self.machine.path.write_bytes(self.data)
        return pieces_of(self.machine.path, flags)

    def entry_of_the_disk(self, host):
        """Let the disk have this cluster at 95 KiB: by the last of its L2 tables, of which that
        part is not used."""
        with core.Image(self.machine.path) as image:
            l1 = image.header.l1_offset
        table = struct.unpack_from(">Q", self.data, l1 + 16)[0] & 0x00FFFFFFFFFFFE00
        self.put(table + 63 * 8, struct.pack(">Q", 1 << 63 | host))

    def is_true(self, pieces, cluster):
        return pieces[cluster][1] == self.truth[cluster * C : (cluster + 1) * C]


@pytest.fixture
def left(tmp_path):
    return Left(tmp_path / "disk.qcow2")


@pytest.mark.parametrize("fate", ("zeros", "noise", "without a place", "reused"))
def test_between_neighbours(fate, left):
    if fate in ("zeros", "noise"):
        left.put(left.tables[1], bytes(C) if fate == "zeros" else pattern(9, C))
    elif fate == "reused":
        left.entry_of_the_disk(left.tables[1])
    before, after = left.pieces(PLAIN)[0], left.pieces(MORE)
    assert {number for number, piece in enumerate(after[0]) if piece[0] == "by-neighbours"} == set(
        range(64, 128)
    )
    assert all(left.is_true(after[0], cluster) for cluster in range(64, 128))
    assert not any(left.is_true(before, cluster) for cluster in range(64, 128))
    assert after[0][:64] + after[0][128:] == before[:64] + before[128:]
    assert "32768 bytes are from clusters that no table" in after[1][2]
    assert "by-neighbours 32768" in after[1][1]


@pytest.mark.parametrize("what", ("zeros", "table", "header", "named", "its own", "reused"))
def test_what_is_not_data_is_not_shown(what, left):
    """One cluster between the neighbours: it stays what it is without the option."""
    left.put(left.tables[1], bytes(C))
    host = left.first + 10 * C
    if what == "zeros":
        left.put(host, bytes(C))
    elif what == "table":  # it names the others, too, but by the right entries
        left.put(host, struct.pack(">64Q", *(left.first + at * C for at in range(64))))
    elif what == "header":
        left.put(host, left.data[:104])
    elif what == "named":  # by another entry of an old table
        left.put(len(left.data), struct.pack(">64Q", *[0] * 11, host, *[0] * 52))
    elif what == "its own":  # the state has it elsewhere
        left.entry(2, 10, 1 << 63 | host)
    else:
        left.entry_of_the_disk(host)
    before, after = left.pieces(PLAIN)[0], left.pieces(MORE)[0]
    placed = {number for number, piece in enumerate(after) if piece[0] == "by-neighbours"}
    assert after[74] == before[74] and placed == set(range(64, 128)) - {74}
    assert all(left.is_true(after, cluster) for cluster in placed)


def test_neighbours_that_disagree(left):
    left.put(left.tables[1], bytes(C))
    left.entry(2, 0, 1 << 63 | left.first + 70 * C)
    before, after = left.pieces(PLAIN), left.pieces(MORE)
    assert before[0] == after[0] and "guessed: 0 bytes" in after[1][2]


def test_beside_what_was_zeroed(left):
    """What was zeroed after a gap was probably zeroed in it, too."""
    left.put(left.tables[1], bytes(C))
    left.entry(2, 0, 1)
    before, after = left.pieces(PLAIN), left.pieces(MORE)
    assert before[0] == after[0] and "guessed: 0 bytes" in after[1][2]


def test_between_two_pairs_of_neighbours(left):
    """Two entries that the table of the state does not have, written before it was; then another
    pair of neighbours has the same clusters between them."""
    first = left.tables[2] + C
    for index in (1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15):
        left.entry(2, index, 0)
    after = left.pieces(MORE)[0]
    placed = ["by-neighbours"] * 2
    assert [piece[0] for piece in after[128:132]] == ["kept", *placed, "kept"]
    assert all(left.is_true(after, cluster) for cluster in range(128, 132))
    left.entry(2, 10, 1 << 63 | first + C)
    left.entry(2, 13, 1 << 63 | first + 4 * C)
    after = left.pieces(MORE)[0]
    assert "by-neighbours" not in [piece[0] for piece in after[128:]]


def test_extended_entries(tmp_path):
    machine = Machine(tmp_path / "disk.qcow2", "4M", ("cluster_size=16k", "extended_l2=on"))
    machine.io("write -P 65 0 1M")
    machine.snapshot("-c", "then")
    machine.io("write -P 66 512k 64k")
    machine.snapshot("-a", "then")
    with core.Named(f"{machine.path}@abandoned,by-neighbours") as disk:
        assert "with extended L2 entries" in disk.warnings[-1]


def test_neighbours_of_a_deleted_snapshot(tmp_path):
    """Its L1 table says where the table was that is lost."""
    left = Machine(tmp_path / "disk.qcow2", "128k", (f"cluster_size={C}",))
    source = tmp_path / "source"
    source.write_bytes(pattern(1, 96 << 10))
    left.io(f"write -s {source} 0 96k")
    table = left.own_tables()[1]
    left.snapshot("-c", "monday")
    left.io("write -P 66 0 96k")
    left.snapshot("-d", "monday")
    with open(left.path, "r+b") as file:
        file.seek(table)
        file.write(bytes(C))
    with core.Image(left.path) as image:
        with image.deleted("monday") as view, pytest.raises(core.QcowError):
            view.read(32 << 10, C)
        with image.deleted("monday", flags=MORE) as view:
            assert view.label(32 << 10, 1 << 20).label == "by-neighbours"
            assert view.read(0, 96 << 10) == pattern(1, 96 << 10)
            assert "by-neighbours 32768" in view.warnings[0]


@pytest.mark.parametrize(
    "rest, words",
    [
        (",by-neighbours", "IMAGE@abandoned,by-neighbours"),
        ("@then,by-neighbours", "needs an abandoned state or a deleted snapshot"),
        ("@abandoned,only=kept,by-neighbours", "give one of them"),
        ("@abandoned,by-neighbours,only=kept", "give one of them"),
        ("@abandoned,by-neighbours=1", "takes no value"),
    ],
)
def test_names_that_make_no_sense(rest, words, tmp_path):
    path = Image(size=64 * 4096, cluster_bits=12).write(tmp_path / "image")
    with pytest.raises(core.QcowError) as caught:
        core.Named(f"{path}{rest}")
    assert words in caught.value.message


def test_flags_that_make_no_sense(tmp_path):
    path = Image(size=64 * 4096, cluster_bits=12).write(tmp_path / "image")
    with core.Image(path) as image:
        for flags in (core.VIEW_ONLY_KEPT | MORE, core.VIEW_VM_STATE, 64):
            with pytest.raises(core.QcowError) as caught:
                image.abandoned(flags)
            assert caught.value.code == "ARGUMENT"


# ---- Histories -------------------------------------------------------------------


# A short one; two in which clusters are placed; two in which the disk has reused an abandoned
# table's clusters in the same order. In the last one QEMU cleared COPIED in some entries of that.
@pytest.mark.parametrize("seed", (3, 67, 86, 107, 100159))
def test_random_histories(seed, tmp_path):
    """docs/residue.md has the rates of 500 of them."""
    history = AbandonedHistory(seed, tmp_path)
    history.run()
    for flags in (0, core.VIEW_ONLY_KEPT):
        counts = history.count(flags) or Counter()
        assert counts["kept", "wrong"] == 0 and (flags == 0 or not wrong(counts)), counts
    moved = history.compare()
    assert not [pair for pair in moved if pair[1] != "right"], moved
    assert moved or seed not in (67, 86)


def wrong(counts):
    return sum(count for (_, result), count in counts.items() if result == "wrong")
