# SPDX-License-Identifier: MIT
"""Do all doors give the same of random chains, and of random damage, and what QEMU gives where it
is right?

A history (history.py) makes the chain; check_chain() or check_damage() is what its end is checked
with, in the chain's directory.
"""
import os
import struct
from pathlib import Path

from . import core, door_ways, doors
from .agreement import MIB, check_warnings, expect, oracles, qemu_img, whole_sectors
from .doors import CHAIN, GOOD, HEADER, REFUSED, VIEW, Row
from .history import chance

VIEW_BYTES_MAX = 6 * MIB  # larger disks are left out: each of the doors reads all of it
VIEWS_MAX = 2  # of each chain
VERDICTS = (0, 4, 5, 6)  # of a check, and of verify: what QEMU leaves behind is not always clean
SECTOR, SAME_MAX = 512, 20


# ---- Names -----------------------------------------------------------------------


def draw_snapshot(snapshots, identifier, rng):
    """One of the ways to name it."""
    names = list(snapshots.values())
    ways = [f"@id={identifier}", f"@index={list(snapshots).index(identifier)}"]
    if str(identifier) not in names:
        ways.append(f"@{identifier}")
    if names.count(snapshots[identifier]) == 1:
        ways.append(f"@name={snapshots[identifier]}")
    return rng.choice(ways)


def draw_names(history, rng, snapshot=""):
    """Image names that mean the chain as it stands: its files named or not, in one name or several,
    options in any order."""
    below = [layer.name for layer in reversed(history.layers[:-1])]
    below = below[: rng.randint(0, len(below))] if chance(rng, 0.6) else []
    options = ["search=."] if chance(rng, 0.3) else []
    options += ["errors=zero"] if chance(rng, 0.3) else []
    options += ["key-file=key"] if history.encrypted_chain() else []
    if history.top.data_file and chance(rng, 0.3):
        options.append(f"data-file={history.top.data_file}")
    further = below if below and chance(rng, 0.3) else []
    paths = [] if further else [f"backing={name}" for name in below]
    for option in options:  # in any order, but the backing files in theirs
        paths.insert(rng.randint(0, len(paths)), option)
    return (",".join([history.top.name + snapshot, *paths]), *further)


def ask(row, history):
    """Ask all doors; raises Difference with what is wrong."""
    Path("home").mkdir(exist_ok=True)
    wrong = []
    history.counts["pairs"] += doors.ask_all(row, door_ways.DOORS, wrong)
    history.counts["names"] += 1
    expect(not wrong, f"{len(wrong)} pairs are wrong:\n  " + "\n  ".join(wrong[:SAME_MAX]))


# ---- Chains ----------------------------------------------------------------------


def check_chain(history, rng):
    """Each view as QEMU reads it."""
    os.environ["HOME"] = str(history.folder / "home")
    with oracles(history) as expected:
        views = [
            oracle for oracle in expected if oracle.size <= VIEW_BYTES_MAX and not oracle.damage
        ]
        history.counts["views left out"] += len(expected) - len(views)
        for oracle in views if len(views) <= VIEWS_MAX else rng.sample(views, VIEWS_MAX):
            snapshot = (
                draw_snapshot(history.top.snapshots, oracle.snapshot, rng)
                if oracle.snapshot
                else ""
            )
            names = draw_names(history, rng, snapshot)
            row = described(
                Row(
                    f"a view of seed {history.seed}",
                    names,
                    snapshot=bool(snapshot),
                    filesystem=False,
                    checked=VERDICTS,
                )
            )
            row.content = oracle.raw.read_bytes()[: oracle.size]
            row.zeros = "errors=zero" in names[0]
            row.verified = VERDICTS
            with core.Named(*names) as opened:
                check_warnings(opened, history)
            ask(row, history)


def without_path(sentence):
    """Doors reach a file by other paths through a selector."""
    return sentence.partition(' (file "')[0]


def described(row):
    """Fill in which warnings there are, and what is refused, as the first doors say: the others
    must say the same."""
    reference = door_ways.names_library(row)
    one = Row(row.title, row.names[:1], environment=row.environment)
    early = door_ways.info_json()(one)
    row.warnings = tuple(map(without_path, reference.warnings or ()))
    row.early = row.warnings if early.kind == REFUSED else tuple(map(without_path, early.warnings))
    if reference.kind == REFUSED:
        row.refused = (without_path(reference.words),)
        row.at = (
            HEADER
            if early.kind == REFUSED
            else CHAIN
            if door_ways.info("--chain")(one).kind == REFUSED
            else VIEW
        )
    return row


# ---- Damage ----------------------------------------------------------------------


def damage(history, rng):
    """Hurt the topmost image, or a file of its chain. Returns what was done."""
    layer = rng.choice(
        [history.top, history.top, *(layer for layer in history.layers if layer.format == "qcow2")]
    )
    kind = rng.choice(
        [cut, cut, hurt_header, hurt_table, hurt_table, hurt_table, hurt_snapshots, wipe, flip_bits]
    )
    return f"{kind.__name__} {layer.name}: {kind(layer, rng)}"


def cut(layer, rng):
    size = layer.path.stat().st_size
    end = (
        rng.randrange(1, size)
        if chance(rng, 0.3)
        else rng.randrange(size // 2, size) // SECTOR * SECTOR
    )
    os.truncate(layer.path, end)
    return end


def poke(layer, offset, data):
    with open(layer.path, "r+b") as file:
        file.seek(offset)
        file.write(data)
    return f"{data[:16].hex()} at {offset}"


HEADER_FIELDS = {
    8: ">Q",
    16: ">I",
    36: ">I",
    40: ">Q",
    48: ">Q",
    56: ">I",
    60: ">I",
    64: ">Q",
    72: ">Q",
    96: ">I",
    100: ">I",
}


def hurt_header(layer, rng):
    """A field that is a little, or wholly, another."""
    offset, what = rng.choice(list(HEADER_FIELDS.items()))
    value, bits = layer.header(what, offset), struct.calcsize(what) * 8
    value = rng.choice(
        [
            0,
            value ^ 1 << rng.randrange(bits),
            value + layer.cluster_size,
            value + 1,
            rng.randrange(1 << bits),
        ]
    )
    return poke(layer, offset, struct.pack(what, value % (1 << bits)))


def hurt_table(layer, rng):
    """An entry of the L1 table, or of an L2 table that it names."""
    offset, size = layer.header(">Q", 40), layer.header(">I", 36)
    if size == 0:
        return "nothing to hurt"
    at = offset + rng.randrange(min(size, 8)) * 8
    l2_offset = layer.header(">Q", at) & 0x00FFFFFFFFFFFE00
    if (
        l2_offset
        and l2_offset < layer.path.stat().st_size - layer.cluster_size
        and chance(rng, 0.8)
    ):
        at = l2_offset + rng.randrange(min(layer.cluster_size, 1024) // 8) * 8
    entry = layer.header(">Q", at)
    end = layer.path.stat().st_size
    entry = rng.choice(
        [
            entry ^ 1 << rng.randrange(64),
            entry + SECTOR,
            entry + layer.cluster_size,
            end + rng.randrange(1 << 30) & ~0x1FF,
            entry | 1 << 62,
            1,
            0,
            rng.randrange(1 << 64),
        ]
    )
    return poke(layer, at, struct.pack(">Q", entry % (1 << 64)))


def hurt_snapshots(layer, rng):
    """The snapshot table: zeros in it, or a count that is not true."""
    offset, count = layer.header(">Q", 64), layer.header(">I", 60)
    if count == 0:
        return hurt_table(layer, rng)
    if chance(rng, 0.3):
        return poke(layer, 60, struct.pack(">I", count + rng.randint(1, 200)))
    length = rng.choice([8, 40, 512])
    return poke(
        layer,
        offset + rng.randrange(64),
        bytes(length) if chance(rng, 0.6) else rng.randbytes(length),
    )


def wipe(layer, rng):
    """A sector of zeros, anywhere."""
    return poke(
        layer, rng.randrange(max(1, layer.path.stat().st_size // SECTOR)) * SECTOR, bytes(SECTOR)
    )


def flip_bits(layer, rng):
    done = []
    for _ in range(rng.randint(1, 20)):
        at = rng.randrange(layer.path.stat().st_size)
        done.append(poke(layer, at, bytes([layer.header(">B", at) ^ 1 << rng.randrange(8)])))
    return "; ".join(done)


def check_damage(history, rng):
    """Damage the chain once; then all doors say the same, and the same as QEMU of what can be
    read."""
    os.environ["HOME"] = str(history.folder / "home")
    if history.top.size > VIEW_BYTES_MAX:
        history.counts["views left out"] += 1
        return
    snapshots = dict(history.top.snapshots)
    what = damage(history, rng)
    history.log.append(f"# damaged: {what}")
    chosen = rng.choice([0, 0, *snapshots])
    names = draw_names(history, rng, draw_snapshot(snapshots, chosen, rng) if chosen else "")
    row = of_damaged(
        Row(
            f"{what}; seed {history.seed}",
            names,
            snapshot=bool(chosen),
            filesystem=False,
            checked=VERDICTS,
        ),
        history,
    )
    history.counts[f"damage: {'refused' if row.refused else 'damaged' if row.bad else 'good'}"] += 1
    ask(row, history)
    if not row.refused:
        check_verdicts(row)
        if not chosen:
            compare_with_qemu(row, history, what)


def of_damaged(row, history):
    """What the first door says of it; the others must say the same."""
    row = described(row)
    row.zeros = "errors=zero" in row.names[0]
    if row.refused:
        row.verified = VERDICTS
        return row
    zeros = row if row.zeros else Row(row.title, (row.names[0] + ",errors=zero", *row.names[1:]))
    row.content = door_ways.names_library(zeros).content
    if len(row.content) > VIEW_BYTES_MAX:
        row.content = row.content[:0]
    listed = door_ways.verify_json(Row(row.title, (",backing=".join(row.names),)))
    read = door_ways.names_library(
        Row(row.title, (row.names[0].replace(",errors=zero", ""), *row.names[1:]))
    )
    row.bad = read.bad if listed.bad is None else listed.bad
    expect(
        doors.by_sectors(row.bad, len(row.content)) == read.bad,
        "verify lists",
        row.bad,
        "but reads fail at",
        read.bad,
    )
    row.verified = (4,) if row.bad or has_bad_state(row) else VERDICTS
    return row


def has_bad_state(row):
    """Whether another state of the image is damaged, which verify reads too, or the snapshot table
    is."""
    if row.snapshot:  # that state is judged by itself
        return False
    if any("snapshot" in warning and "cannot be" in warning for warning in row.warnings):
        return True
    if len(row.names) > 1:
        return False
    image, _, options = row.names[0].partition(",")
    options = "".join(
        f",{option}" for option in options.split(",") if option and option != "errors=zero"
    )
    with core.Image(image, no_chain=True) as opened:
        count = len(opened.snapshots)
    return any(
        door_ways.names_library(Row("a state", (f"{image}@index={index}{options}",))).kind != GOOD
        for index in range(count)
    )


def check_verdicts(row):
    """What verify lists as damaged a check does not call clean, unless it is what data, or another
    file, holds; and what a check does not call clean verify does not call good."""
    if len(row.names) > 1:
        return
    image = os.path.basename(row.names[0].split(",")[0].split("@")[0])
    verified = door_ways.verify_json(row)
    tables = [
        reason
        for reason in verified.words.splitlines()
        if f'/{image}")' in reason and "compressed" not in reason
    ]
    status, out, _ = door_ways.run_command(Row("a check", (image,)), "check")
    expect(
        not tables or status in (1, 4, 6),
        f"check ends with {status}: {out}, but verify lists",
        tables,
    )
    expect(
        status == 0 or verified.verdict != 0,
        f"verify says good, but check ends with {status}: {out}",
    )


def compare_with_qemu(row, history, what):
    """Of what we can read, QEMU reads the same, or says that it cannot."""
    if what.startswith("cut "):  # QEMU reads zeros there
        return
    raw = Path("salvaged.raw")
    with whole_sectors(history.top):
        clean = (
            qemu_img(history, "convert", *history.address(), "-O", "raw", raw.name).returncode == 0
        )
        if (
            not clean
            and qemu_img(
                history, "convert", "--salvage", *history.address(), "-O", "raw", raw.name
            ).returncode
            != 0
        ):
            history.counts["damage: QEMU does not open it"] += 1
            return
    theirs = raw.read_bytes().ljust(len(row.content), b"\0")
    bad = bytearray(len(row.content))
    for start, length in row.bad:
        bad[start : start + length] = b"\1" * length
    for at in range(0, len(row.content), SECTOR):
        end = min(at + SECTOR, len(row.content))
        if row.content[at:end] != theirs[at:end] and not any(bad[at:end]):
            expect(
                not clean and not theirs[at:end].strip(b"\0"),
                (
                    f"at {at} QEMU reads {theirs[at:at + 16].hex()}, not "
                    f"{row.content[at:at + 16].hex()}; after"
                ),
                what,
            )
    history.counts["damage: compared with QEMU"] += 1
