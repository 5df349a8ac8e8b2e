# SPDX-License-Identifier: MIT
"""tsk-qcow2 diff --ranges: exact ranges, no reading of what is stored in the same bytes, and
nothing said to be equal that cannot be read. Random histories are compared in agreement.py."""
import os
import re
import subprocess

import pytest
from lib import door_foreign, door_names, door_traps, encrypted, tools
from lib.builder import OFFSET_MASK, Image, pattern, poke
from lib.byte_ranges import as_tuples, diff_ranges, ranges_of
from lib.doors import REFUSED, VIEW
from lib.project import BUILD, COMMAND

C = 65536


def run(*words, **more):
    done = subprocess.run(
        [COMMAND, "diff", *map(str, words)], capture_output=True, text=True, check=False, **more
    )
    return done.returncode, done.stdout, done.stderr


def changed_since(**options):
    """An image whose snapshot "old" shares some clusters with the active disk, and differs in
    others. Returns it, and both states' bytes."""
    image = Image(size=20 * C + 700, cluster_bits=16, **options)
    disk = image.disk
    disk.normal(0, pattern(1, C))
    disk.normal(1, pattern(2, C))
    disk.compressed(2, bytes(C - 50) + b"x" * 50)
    disk.zero(3)
    disk.normal(4, bytes(C))
    disk.normal(20, pattern(5, C))
    image.snapshot(b"1", b"old")
    old = disk.model.read(0, disk.size)
    edited = bytearray(pattern(2, C))
    for at in (0, 7, 8, C - 1):
        edited[at] ^= 0xFF
    disk.normal(1, bytes(edited))
    disk.zero(4)
    disk.normal(3, b"y" + bytes(C - 1))
    disk.normal(7, pattern(6, C))
    disk.compressed(8, pattern(6, C - 9) + bytes(9))
    return image, old, disk.model.read(0, disk.size)


def test_exact_ranges(tmp_path):
    image, old, new = changed_since()
    path = image.write(tmp_path / "disk.qcow2")
    expected = ranges_of(old, new)
    assert expected[:4] == [
        ("differs", C, 1),
        ("differs", C + 7, 2),
        ("differs", 2 * C - 1, 1),
        ("differs", 3 * C, 1),
    ]
    status, found, summary, err = diff_ranges(f"{path}@old", path)
    assert (status, as_tuples(found), err) == (0, expected, "")
    assert summary == {
        "type": "summary",
        "result": "different",
        "size_a": len(old),
        "size_b": len(new),
        "range_count": len(expected),
        "bytes": sum(length for _, _, length in expected),
        "unreadable_bytes": 0,
        "recovered": [],
    }
    status, out, err = run("--ranges", f"{path}@old", path)
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[:-1] == [f"{start} {length} {kind}" for kind, start, length in expected]
    assert lines[-1] == (
        f"Different: {len(expected)} ranges, {summary['bytes']} bytes,"
        f" of disks of {len(old)} and {len(old)} bytes."
    )


def test_the_same(tmp_path):
    image, old, _ = changed_since()
    path = image.write(tmp_path / "disk.qcow2")
    for name in (path, f"{path}@old"):
        assert run("--ranges", name, name) == (0, f"Same: all {len(old)} bytes.\n", "")


def test_other_files_with_the_same_bytes(tmp_path):
    """Nothing is stored in the same place there: all is read."""
    image, old, new = changed_since()
    path = image.write(tmp_path / "disk.qcow2")
    twin = Image(size=len(new), cluster_bits=12, version=2)
    for i in range(0, len(new), 4096):
        if new[i : i + 4096].strip(b"\0"):
            twin.disk.normal(i // 4096, new[i : i + 4096].ljust(4096, b"\0"))
    other = twin.write(tmp_path / "twin.qcow2")
    assert diff_ranges(path, other)[2]["result"] == "same"
    assert as_tuples(diff_ranges(f"{path}@old", other)[1]) == ranges_of(old, new)


def test_sizes_differ(tmp_path):
    small, large = Image(size=3 * C), Image(size=5 * C + 512)
    small.disk.normal(1, pattern(1, C))
    large.disk.normal(1, pattern(1, C))
    a, b = small.write(tmp_path / "a.qcow2"), large.write(tmp_path / "b.qcow2")
    status, found, summary, _ = diff_ranges(a, b)
    assert status == 0 and as_tuples(found) == [("only-in-b", 3 * C, 2 * C + 512)]
    assert (summary["result"], summary["bytes"]) == ("different", 2 * C + 512)
    assert as_tuples(diff_ranges(b, a)[1]) == [("only-in-a", 3 * C, 2 * C + 512)]


# ---- What is not read ----------------------------------------------------------------


def bytes_read(folder, *words):
    """How many bytes the command reads of image files."""
    log = folder / "strace.log"
    traced = ["strace", "-f", "-o", log, "-e", "trace=pread64", COMMAND, "diff", "--ranges", *words]
    try:
        subprocess.run([str(word) for word in traced], capture_output=True, check=True, timeout=120)
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    return sum(int(count) for count in re.findall(r"pread64\(.* = (\d+)$", log.read_text(), re.M))


@pytest.mark.unsanitized("counts what the program reads")
def test_what_is_stored_in_the_same_bytes_is_not_read(tmp_path):
    image = Image(size=1000 * C, cluster_bits=16)
    for i in range(400):
        image.disk.normal(2 * i, pattern(i, C))
    image.snapshot(b"1", b"old")
    for i in range(4):
        image.disk.normal(200 * i, pattern(-i, C))
    path = image.write(tmp_path / "disk.qcow2")
    assert len(diff_ranges(f"{path}@old", path)[1]) > 3
    tables = 8 * C  # headers and tables, of both
    assert bytes_read(tmp_path, f"{path}@old", path) < 8 * C + tables
    assert bytes_read(tmp_path, path, path) < tables


def test_other_names_of_the_same_file_are_the_same_file(tmp_path):
    """A stream that cannot be decoded is the same as itself."""
    image, _, _ = changed_since()
    data = image.build()
    at = image.disk.entries[2][0] & (1 << image.compressed_shift) - 1
    data[at : at + 20] = b"\xff" * 20
    path = image.write(tmp_path / "disk.qcow2", data)
    os.link(path, tmp_path / "link.qcow2")
    assert diff_ranges(path, tmp_path / "link.qcow2")[0] == 0
    copy = image.write(tmp_path / "copy.qcow2", data)
    status, found, summary, _ = diff_ranges(path, copy)
    assert (status, summary["result"]) == (4, "incomplete")
    assert as_tuples(found) == [("unreadable", 2 * C, C)]


def test_a_chain_of_the_same_files(tmp_path):
    """Two overlays over one base: what the base has is the same."""
    (tmp_path / "base.raw").write_bytes(pattern(3, 8 * C))
    names = []
    for name in "ab":
        top = Image(size=8 * C, backing=b"base.raw", backing_format=b"raw")
        top.disk.normal(2, pattern(name, C))
        names.append(top.write(tmp_path / f"{name}.qcow2"))
    status, found, _, _ = diff_ranges(*names)
    assert status == 0
    assert as_tuples(found) == [
        (kind, 2 * C + start, length)
        for kind, start, length in ranges_of(pattern("a", C), pattern("b", C))
    ]


def test_one_image_over_two_bases(tmp_path):
    """What its own entries do not say is not the same because the entries are."""
    top = Image(size=8 * C, backing=b"a.raw", backing_format=b"raw")
    top.disk.normal(2, pattern(1, C))
    path = top.write(tmp_path / "top.qcow2")
    bases = [pattern(name, 8 * C) for name in "ab"]
    for name, base in zip("ab", bases):
        (tmp_path / f"{name}.raw").write_bytes(base)
    names = [f"{path},backing={tmp_path}/{name}.raw" for name in "ab"]
    status, found, _, _ = diff_ranges(*names)
    a, b = (base[: 2 * C] + bytes(C) + base[3 * C :] for base in bases)
    assert status == 0 and as_tuples(found) == ranges_of(a, b)


# ---- Damage --------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path):
    """The active disk lacks clusters 5 and 6, the snapshot 6 and 7, and the file ends before what
    both have as 9."""
    image = Image(size=12 * C, cluster_bits=16)
    for i in range(10):
        image.disk.normal(i, pattern(i, C))
    image.snapshot(b"1", b"old")
    image.disk.normal(1, pattern(77, C))
    data = image.build()
    old = image.snapshots[0][0]
    for state, clusters in ((image.disk, (5, 6)), (old, (6, 7))):
        for i in clusters:
            poke(data, state.entry_offset(i), "Q", (state.entries[i][0] & OFFSET_MASK) + 512)
    for state in (image.disk, old):
        poke(data, state.entry_offset(9), "Q", len(data) + C)
    return image.write(tmp_path / "disk.qcow2", data)


@pytest.mark.parametrize("option", ("", ",errors=zero"))
def test_damage_is_never_equal(damaged, option):
    """Not even by errors=zero, and not where both lack the same bytes."""
    status, found, summary, _ = diff_ranges(f"{damaged}@old{option}", f"{damaged}{option}")
    assert (status, summary["result"], summary["unreadable_bytes"]) == (4, "incomplete", 4 * C)
    lost = [line for line in found if line["kind"] == "unreadable"]
    assert as_tuples(lost) == [
        ("unreadable", 5 * C, C),
        ("unreadable", 6 * C, C),
        ("unreadable", 7 * C, C),
        ("unreadable", 9 * C, C),
    ]
    sides = [(line["reason_a"] is not None, line["reason_b"] is not None) for line in lost]
    assert sides == [(False, True), (True, True), (True, False), (True, True)]
    assert "table entry" in lost[0]["reason_b"]
    differing = [one for one in as_tuples(found) if one[0] == "differs"]
    assert differing == [
        (kind, C + start, length)
        for kind, start, length in ranges_of(pattern(1, C), pattern(77, C))
    ]
    status, out, _ = run("--ranges", f"{damaged}@old{option}", f"{damaged}{option}")
    assert status == 4 and f"\n{5 * C} {C} unreadable in B: " in out
    assert out.endswith(f" {4 * C} bytes cannot be compared.\n")


# ---- Encryption ------------------------------------------------------------------------


@pytest.mark.skipif(not encrypted.has_libgcrypt(), reason="this build has no libgcrypt")
def test_legacy_aes_with_two_passphrases(tmp_path):
    """Nothing proves a passphrase there: the same stored bytes are other bytes by another."""
    path = tmp_path / "disk.qcow2"
    encrypted.create(path, "1M", "aes")
    encrypted.write(encrypted.node(path, "aes"), [(0, pattern(1, C))])
    for name in ("secret", "other"):
        (tmp_path / name).write_text(name)
    names = [f"{path},key-file={tmp_path}/{name}" for name in ("secret", "other")]
    assert diff_ranges(names[0], names[0])[2]["result"] == "same"
    assert diff_ranges(*names)[2]["result"] == "different"


# ---- The command line ------------------------------------------------------------------


def test_bad_usage(tmp_path):
    path = changed_since()[0].write(tmp_path / "disk.qcow2")
    for words in ([path], [path, path, path], ["--nonsense", path, path]):
        assert run("--ranges", *words)[::2][0] == 2
    status, out, err = run("--ranges", path, f"{path}@nonsense")
    assert (status, out) == (1, "") and "nonsense" in err


@pytest.fixture
def case(tmp_path, monkeypatch):
    """An empty working directory, whose user has a home directory and no variables of ours."""
    home, folder = tmp_path / "home of the user", tmp_path / "case"
    home.mkdir()
    folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("QCOW2CORE_LIBRARY", os.path.join(BUILD, "core/.libs/libqcow2core.so"))
    for name in ("TSK_QCOW2_SEARCH", "TSK_QCOW2_KEY_FILE", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return folder


# ---- Every name -----------------------------------------------------------------------------


GROUPS = [*door_names.GROUPS, *door_traps.GROUPS, *door_foreign.GROUPS]
# What is peculiar in these names is how they are opened, not what is compared then.
ABOUT_OPENING = [
    door_names.file_names,
    door_names.options,
    door_names.chains,
    door_traps.astray,
    door_foreign.foreign,
    door_foreign.pretenders,
]
elsewhere = pytest.mark.unsanitized("test_doors.py opens these names with sanitizers")


@pytest.mark.parametrize(
    "group",
    [group for group in GROUPS if group not in ABOUT_OPENING]
    + [pytest.param(group, marks=elsewhere) for group in ABOUT_OPENING],
    ids=lambda group: group.__name__,
)
def test_every_name_is_the_same_as_itself(group, case, monkeypatch):
    """Or it is refused as through all other doors (test_doors.py); by ranges, and by files."""
    asked = 0
    for row in group():
        with monkeypatch.context() as patch:
            for name, value in row.environment.items():
                patch.setenv(name, value)
            for words in (["--ranges"], []):
                asked += check_row(row, words)
    assert asked > 0


def check_row(row, words):
    """Compare the row's name with itself; returns how many answers there were."""
    if len(row.names) > 1:  # the backing chain belongs to the name here
        return 0
    status, out, err = run(*words, *row.names, *row.names, env=door_variables(row))
    about = (row.title, row.names, words, status, out, err)
    if row.kind(VIEW) == REFUSED:
        assert status == 1 and out == "", about
        assert all(word in err for word in row.refused), about
        return 1
    assert status in ((0, 4, 6) if row.bad or not words else (0,)), about
    changes = re.findall(r"^(?:\d+ \d+ (?:differs|only)|Different|created|deleted).*", out, re.M)
    assert changes == [], about
    if status == 0:
        assert out.splitlines()[-1].startswith("Same: "), about
    for word in row.warnings:
        assert word in err, about
    return 1


def door_variables(row):
    """An E01 needs the way round of docs/distributions.md in a program that loads libtsk."""
    more = tools.way_round_e01() if tools.names_e01(row.names) else {}
    return {**tools.CLEAN, "HOME": os.environ["HOME"], **row.environment, **more}
