# SPDX-License-Identifier: MIT
"""Does our reader agree with QEMU on an image: every view's size, bytes and map, and what the
header says?

The oracle of a snapshot is a copy of the image in which QEMU applied that snapshot, because
`qemu-img convert -l` cuts or extends a snapshot to the active disk's size.
"""
import inspect
import json
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from lib import byte_ranges, core, residue
from lib.history import CORRUPT, DIRTY, HUGE, MIB, PASSPHRASE, SECTOR, chance, patch

AUTOCLEAR = 88  # offset in the header
READ_MAX = 2 * MIB
FACTS = ("depth", "present", "data", "compressed")  # of qemu-img map
HOLDS_ZEROS = ("unallocated", "zero", "zero allocated")


class Difference(AssertionError):
    """Our reader and QEMU do not agree."""


def expect(condition, *about):
    if not condition:
        raise Difference(" ".join(map(str, about)))


def check_top(history, rng):
    """Compare every view of the topmost image of a history's chain, and what a check says of each
    image."""
    image = history.top
    check_consistency(history)
    with oracles(history) as expected, open_ours(history, rng) as ours:
        check_warnings(ours, history)
        views = [view_of(ours, image, oracle) for oracle in expected]
        if any(oracle.damage for oracle in expected):
            check_damage(views, expected)
            history.counts["damaged by QEMU"] += 1
            return
        pairs = list(zip(views, expected))
        for _ in range(rng.randint(0, 60)):  # from the cold, from view to view
            check_random_read(*rng.choice(pairs), image.cluster_size, rng)
        for view, oracle in pairs:
            extents = check_view(view, oracle, ours, rng)
            if chance(rng, 0.2):
                check_qemu_map(history, oracle, extents)
            history.counts["views: snapshot" if oracle.snapshot else "views: active"] += 1
            history.counts["views: snapshot of another size"] += view.size != views[0].size
        if chance(rng, 0.3):
            check_facts(ours, history)
        if len(pairs) > 1 and chance(rng, 0.5):
            check_ranges(history, *rng.sample(pairs, 2))
        check_residue(ours, history)


def check_consistency(history):
    """The numbers of corruptions and leaks must be those of qemu-img check. An image that QEMU made
    has no other defects, unless it is corrupt, or guest data were overwritten."""
    for index, layer in enumerate(history.layers):
        if layer.format != "qcow2":
            continue
        done = qemu_img(history, "check", "--output=json", *history.address(index))
        expect(
            done.returncode in (0, 2, 3),
            "the oracle failed: qemu-img check",
            layer.name,
            done.stderr,
        )
        theirs = json.loads(done.stdout)
        with core.Image(layer.path, no_chain=True) as ours:
            result, found = ours.check(report_max=5, memory_bytes=4096)
        expect(
            (result.corruptions, result.leaks)
            == (theirs.get("corruptions", 0), theirs.get("leaks", 0)),
            layer.name,
            found,
            done.stderr,
        )
        others = [one for one in found if one.weight == "defect" and not is_packed_into_data(one)]
        expect(result.is_complete and (result.corruptions or not others), layer.name, others)
        history.counts["checked: overwritten by QEMU"] += any(map(is_packed_into_data, found))
        history.counts["checked"] += 1
        history.counts["checked: leaks"] += result.leaks > 0
        history.counts["checked: corrupt"] += result.corruptions > 0


def is_packed_into_data(finding):
    """QEMU 7.2 goes on writing compressed data into the cluster that it used last for them, even if
    that cluster was freed and has guest data now."""
    return finding.kind == "overlap" and "compressed data" in finding.sentence


def check_damage(views, expected):
    """QEMU 7.2 can destroy a compressed cluster when refcounts overflow. If QEMU cannot read a
    view, we must not be able to, either."""
    for view, oracle in zip(views, expected):
        try:
            for at in range(0, view.size, READ_MAX):
                view.read(at, min(READ_MAX, view.size - at))
        except core.QcowError as error:
            expect(oracle.damage, f"snapshot {oracle.snapshot}:", error)
        else:
            expect(
                not oracle.damage,
                f"snapshot {oracle.snapshot}: read without an error, but:",
                oracle.damage,
            )


def check_warnings(ours, history):
    """One warning for each bit that says that something is wrong: QEMU 7.2 sets the corrupt bit
    after some compressed writes."""
    features = [layer.incompatible_features for layer in history.layers if layer.format == "qcow2"]
    for bit, word in ((DIRTY, "dirty"), (CORRUPT, "corrupt")):
        found = sum(f"marked {word}" in warning for warning in ours.warnings)
        expect(found == sum(bits & bit != 0 for bits in features), "warnings:", ours.warnings)
    others = [warning for warning in ours.warnings if "marked" not in warning]
    aes = sum(
        layer.options.get("encrypt.format") == "aes"
        for layer in history.layers
        if layer.format == "qcow2"
    )
    # A warning for each: the passphrase cannot be checked.
    expect(len(others) == aes, "warnings:", ours.warnings)


def check_residue(ours, history):
    """Every byte of the file is either referred to or residue, as an independent walk has it."""
    if history.top.path.stat().st_size > HUGE:
        history.counts["residue: too large"] += 1
        return
    with ours.residue() as view:
        try:
            used, left = residue.check(history.top.path, view, not history.top.encrypted)
        except AssertionError as error:
            raise Difference(f"residue: {error}") from error
    history.counts["residue"] += left > 0
    history.counts["residue: bytes"] += left
    history.counts["residue: bytes in use"] += used


def check_ranges(history, first, second):
    """`tsk-qcow2 diff --ranges` finds the bytes that differ, and no others."""
    (a, of_a), (b, of_b) = first, second
    names = [state_name(history, oracle) for oracle in (of_a, of_b)]
    with open(of_a.raw, "rb") as raw_a, open(of_b.raw, "rb") as raw_b:
        parts = sorted({*data_ranges(raw_a, 0, a.size), *data_ranges(raw_b, 0, b.size)})
        expected = byte_ranges.expected_ranges(
            a.size, b.size, reader(raw_a), reader(raw_b), disjoint(parts)
        )
    status, found, _, complaint = byte_ranges.diff_ranges(*names, cwd=history.folder)
    found = byte_ranges.as_tuples(found)
    expect(status == 0, "diff --ranges", names, complaint)
    differing = next((pair for pair in zip_longest(found, expected) if len(set(pair)) > 1), None)
    expect(differing is None, "diff --ranges", names, "says, and should say:", differing)
    history.counts["ranges compared"] += 1
    history.counts["ranges compared: differ"] += bool(expected)


def state_name(history, oracle):
    """The name that a user types for the view."""
    snapshot = f"@id={oracle.snapshot}" if oracle.snapshot else ""
    key = ""
    if history.encrypted_chain():
        (history.folder / "passphrase").write_bytes(PASSPHRASE)
        key = ",key-file=passphrase"
    return f"{history.top.name}{snapshot}{key}"


def reader(raw):
    def read(offset, length):
        raw.seek(offset)
        return raw.read(length).ljust(length, b"\0")

    return read


def disjoint(parts):
    """The parts in order, with overlapping ones merged."""
    merged = []
    for start, end in parts:
        if merged and start <= merged[-1][1]:
            start, end = merged[-1][0], max(end, merged.pop()[1])
        merged.append((start, end))
    return merged


def open_ours(history, rng):
    options = {"cache_bytes": 1} if chance(rng, 0.5) else {}
    if history.encrypted_chain():
        options["passphrases"] = [PASSPHRASE]  # serves all layers
    return core.Image(history.top.path, **options)


def can_decrypt():
    """Whether the library reads encrypted images."""
    return "passphrases" in inspect.signature(core.open_options).parameters


# ---- The oracle ------------------------------------------------------------------


@dataclass
class Oracle:
    """What QEMU says of one view. `address` names to QEMU the image with this view as its active
    disk."""

    snapshot: int  # ID; 0 for the active disk
    raw: Path  # the view's bytes
    size: int
    address: list
    damage: str = ""  # what QEMU said if it could not read the view: then `raw` is of no use


@contextmanager
def oracles(history):
    """One Oracle for each view: the active disk first, then the snapshots, as they stand in the
    table."""
    made, files = [], []
    try:
        with whole_sectors(history.top):
            made.append(convert(history, 0, history.top.name, files))
            for snapshot in history.top.snapshots:
                if (copy := copy_with(history, snapshot, files)) is not None:
                    made.append(convert(history, snapshot, copy, files))
        made[0].size = history.top.size
        yield made
    finally:
        for path in files:
            path.unlink(missing_ok=True)


def convert(history, snapshot, name, files):
    raw = history.folder / f"oracle{snapshot}.raw"
    files.append(raw)
    address = history.address(name=name)
    done = qemu_img(history, "convert", *address, "-O", "raw", raw.name)
    expect(
        done.returncode == 0 or "error while reading" in done.stderr,
        "the oracle failed:",
        name,
        done.stderr,
    )
    return Oracle(
        snapshot, raw, raw.stat().st_size, address, done.stderr if done.returncode else ""
    )


@contextmanager
def whole_sectors(image):
    """QEMU ignores the bytes of a size beyond whole sectors; make it read them."""
    size = image.size
    image.set_size(-(-size // SECTOR) * SECTOR)
    try:
        yield
    finally:
        image.set_size(size)


def copy_with(history, snapshot, files):
    """A copy of the topmost image, beside it, with the snapshot applied. Returns its name; None if
    QEMU cannot apply it: the references to a cluster may not fit in its refcount, and version 2
    grows over no longer backing file.
    """
    copy = history.folder / f"applied{snapshot}.qcow2"
    files.append(copy)
    copy_sparse(history.top.path, copy)
    if history.top.version >= 3:
        patch(copy, ">Q", AUTOCLEAR, 0)  # no bitmaps: QEMU applies no snapshot where there are some
    done = qemu_img(
        history, "snapshot", "-q", "-a", str(snapshot), *history.address(name=copy.name)
    )
    if done.returncode != 0:
        history.refused["views: snapshot"] += 1
        return None
    return copy.name


def run(history, *words):
    done = qemu_img(history, *words)
    expect(done.returncode == 0, "the oracle failed: qemu-img", words, done.stderr)
    return done.stdout


def qemu_img(history, *words):
    return subprocess.run(
        ["qemu-img", *words],
        cwd=history.folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def copy_sparse(source, target):
    with open(source, "rb") as file, open(target, "wb") as copy:
        for start, end in data_ranges(file, 0, os.fstat(file.fileno()).st_size):
            file.seek(start)
            copy.seek(start)
            copy.write(file.read(end - start))
        copy.truncate(os.fstat(file.fileno()).st_size)


def data_ranges(file, start, end):
    """The parts of [start, end) of an open file that are not holes."""
    while start < end:
        try:
            start = file.seek(start, os.SEEK_DATA)
        except OSError:  # nothing but a hole follows
            return
        stop = file.seek(start, os.SEEK_HOLE)
        if start < end:
            yield start, min(stop, end)
        start = stop


# ---- Bytes -----------------------------------------------------------------------


def view_of(ours, image, oracle):
    index = core.ACTIVE
    if oracle.snapshot:
        identifiers = [snapshot.id for snapshot in ours.snapshots]
        expect(
            identifiers == [b"%d" % number for number in image.snapshots],
            "snapshots:",
            identifiers,
            image.snapshots,
        )
        index = ours.find(b"%d" % oracle.snapshot, core.BY_ID)
    view = ours.view(index)
    expect(
        view.size == oracle.size, f"snapshot {oracle.snapshot}: size {view.size}, not {oracle.size}"
    )
    return view


def check_view(view, oracle, ours, rng):
    """Compare all bytes of a view, and its extents, which are returned."""
    extents = view.map_all()
    with open(oracle.raw, "rb") as raw:
        ranges = [(0, view.size)] if view.size < HUGE else data_ranges(raw, 0, view.size)
        for start, end in ranges:
            check_range(view, oracle, raw, start, end, rng)
        check_extents(oracle, raw, extents, ours)
    for _ in range(10 if view.size else 0):
        check_part_of_map(view, extents, rng)
    return extents


def check_range(view, oracle, raw, start, end, rng):
    """All bytes from start to end, in reads of one length."""
    step = rng.choice([65_536, MIB, 777_777, READ_MAX])
    for at in range(start, end, step):
        compare(view, oracle, raw, at, min(step, end - at))


def check_random_read(view, oracle, cluster_size, rng):
    at = rng.randrange(view.size + 1)
    if chance(rng, 0.3):
        at = at // cluster_size * cluster_size
    length = min(
        rng.choice([1, 511, 512, 4096, rng.randint(0, 3 * cluster_size)]), view.size - at, READ_MAX
    )
    with open(oracle.raw, "rb") as raw:
        compare(view, oracle, raw, at, length)


def compare(view, oracle, raw, at, length):
    raw.seek(at)
    wanted = raw.read(length)
    try:
        got = view.read(at, length)
    except core.QcowError as error:
        raise Difference(f"snapshot {oracle.snapshot}: read {at} {length}: {error}") from error
    if got != wanted:
        first = next(i for i, (a, b) in enumerate(zip(got, wanted)) if a != b)
        raise Difference(
            f"snapshot {oracle.snapshot}: read {at} {length}: at {at + first} "
            f"{got[first:first + 16].hex()}, not {wanted[first:first + 16].hex()}; "
            f"{view.map(at + first, view.size - at - first)}"
        )


# ---- The map ---------------------------------------------------------------------


def check_extents(oracle, raw, extents, ours):
    """The extents' bytes: zeros where the map says so, those in the layer's file where it is stored
    plainly."""
    for extent in extents:
        about = (f"snapshot {oracle.snapshot}:", extent)
        expect(extent.kind != "invalid", *about)
        end = extent.guest_offset + extent.length
        if extent.kind in HOLDS_ZEROS:
            expect(is_zero(raw, extent.guest_offset, end), *about, "but QEMU reads data there")
        if extent.kind == "normal":
            check_host_bytes(raw, extent, ours, about)


def is_zero(raw, start, end):
    for at, stop in data_ranges(raw, start, end):
        raw.seek(at)
        if raw.read(stop - at).count(0) != stop - at:
            return False
    return True


def check_host_bytes(raw, extent, ours, about):
    layer = ours.layer(extent.layer)
    if layer.header and layer.header.crypt_method:
        return
    length = min(extent.length, READ_MAX)
    raw.seek(extent.guest_offset)
    with open(layer.data_path or layer.path, "rb") as file:
        file.seek(extent.host_offset)
        expect(
            file.read(length) == raw.read(length),
            *about,
            "but the layer's file holds other bytes there",
        )


def check_part_of_map(view, extents, rng):
    """A map of any part says the same as the map of the whole."""
    at = rng.randrange(view.size)
    whole = next(extent for extent in extents if at < extent.guest_offset + extent.length)
    part = view.map(at, rng.randint(1, view.size - at))
    delta = at - whole.guest_offset if whole.kind in ("normal", "zero allocated") else 0
    host_offset = None if whole.host_offset is None else whole.host_offset + delta
    expect(
        (part.kind, part.layer, part.host_offset, part.host_bytes)
        == (whole.kind, whole.layer, host_offset, whole.host_bytes),
        part,
        "is not within",
        whole,
    )
    expect(part.guest_offset == at and part.length > 0, part, "does not start at", at)


def check_qemu_map(history, oracle, extents):
    """qemu-img map knows which layer answers, and where it stores plain bytes. QEMU 7.2's crashes
    on some sizes."""
    done = qemu_img(history, "map", "--output=json", *oracle.address)
    if "Assertion" in done.stderr:
        history.refused["views: map"] += 1
        return
    expect(done.returncode == 0, "the oracle failed: qemu-img map", done.stderr)
    theirs = json.loads(done.stdout)
    check_map_command(history, oracle, theirs)
    mine = iter(extents)
    extent = next(mine, None)
    for entry in theirs:
        while extent and extent.guest_offset < entry["start"] + entry["length"]:
            expect(
                agrees(extent, entry),
                f"snapshot {oracle.snapshot}:",
                extent,
                "qemu-img map:",
                entry,
            )
            if extent.guest_offset + extent.length > entry["start"] + entry["length"]:
                break
            extent = next(mine, None)


def check_map_command(history, oracle, theirs):
    """`tsk-qcow2 map --json` gives the same facts in the same runs."""
    name = state_name(history, oracle)
    done = subprocess.run(
        [byte_ranges.COMMAND, "map", "--json", name],
        cwd=history.folder,
        capture_output=True,
        check=False,
    )
    expect(done.returncode == 0, "map", name, done.stderr)
    ours = json.loads(done.stdout)
    ends = [sum(run["length"] for run in runs) for runs in (ours, theirs)]
    expect(0 <= ends[0] - ends[1] < SECTOR, "map", name, "ends at", *ends)
    size = min(ends)
    keys = set(theirs[0]) if theirs else set()
    pairs = zip_longest(*(runs_by_facts(runs, size, keys) for runs in (ours, theirs)))
    differing = next((pair for pair in pairs if pair[0] != pair[1]), None)
    expect(differing is None, "map", name, "says, and qemu-img map says:", differing)
    history.counts["maps compared"] += 1


def runs_by_facts(runs, size, keys):
    """The runs of equal facts, up to a size that QEMU rounds, in whole sectors. QEMU also calls
    data zeros that are in a hole of a preallocated file."""
    found = []
    for run in runs:
        ends = run["start"], min(run["start"] + run["length"], size)
        start, end = (-(-end // SECTOR) * SECTOR for end in ends)
        facts = [(key, run[key]) for key in FACTS if key in keys]
        facts.append(("zero", run["zero"] and not run["data"]))
        place = run["offset"] - run["start"] if "offset" in run and run["present"] else None
        if found and found[-1][1:] == [start, facts, place]:
            found[-1][1] = end
        elif end > start:
            found.append([start, end, facts, place])
    return found


def agrees(extent, entry):
    """Where two extents overlap, they must say the same."""
    if extent.kind in HOLDS_ZEROS:
        return entry["zero"]
    same_place = extent.kind == "normal" and "offset" in entry
    return entry["depth"] == extent.layer and (
        not same_place
        or entry["offset"] - entry["start"] == extent.host_offset - extent.guest_offset
    )


# ---- Facts -----------------------------------------------------------------------


def check_facts(ours, history):
    """What qemu-img info says of the header and the snapshot table."""
    theirs = json.loads(run(history, "info", "--output=json", history.top.name))
    header, data = ours.header, theirs["format-specific"]["data"]
    pairs = [
        (header.size // SECTOR * SECTOR, theirs["virtual-size"]),
        (1 << header.cluster_bits, theirs["cluster-size"]),
        ({2: "0.10", 3: "1.1"}[header.version], data["compat"]),
        (["zlib", "zstd"][header.compression], data["compression-type"]),
        (1 << header.refcount_order, data["refcount-bits"]),
        (bool(header.incompatible_features & 1 << 4), data.get("extended-l2", False)),
        (bool(header.incompatible_features & 1), theirs["dirty-flag"]),
        (text(header.backing_file), theirs.get("backing-filename")),
        (text(header.backing_format), theirs.get("backing-filename-format")),
        (text(header.data_file), data.get("data-file")),
    ]
    pairs.append(
        (
            [snapshot_facts(snapshot) for snapshot in ours.snapshots],
            [qemu_snapshot_facts(snapshot) for snapshot in theirs.get("snapshots", [])],
        )
    )
    for mine, other in pairs:
        expect(mine == other, "info:", mine, "not", other)


def text(name):
    return None if name is None else name.decode()


def snapshot_facts(snapshot):
    return (
        snapshot.id.decode(),
        snapshot.name.decode(),
        snapshot.date_seconds,
        snapshot.date_nanoseconds,
        snapshot.vm_state_size,
    )


def qemu_snapshot_facts(snapshot):
    return (
        snapshot["id"],
        snapshot["name"],
        snapshot["date-sec"],
        snapshot["date-nsec"],
        snapshot["vm-state-size"],
    )
