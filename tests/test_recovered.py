# SPDX-License-Identifier: MIT
"""Deleted snapshots and abandoned states in what compares and lists states: each line that comes of
one says "recovered", and how much of it is left stands in the same output. The image is QEMU's."""
import csv
import io
import json
import re
import subprocess
import warnings
from pathlib import Path

import pytest
import qcow2core
from lib import tools
from lib.builder import Image, pattern
from lib.deleted import delete
from lib.project import BUILD, COMMAND, SOURCE, run, run_line, sanitized

KIB, CLUSTER = 1 << 10, 4096


@pytest.fixture(autouse=True)
def library(monkeypatch):
    monkeypatch.setenv("QCOW2CORE_LIBRARY", f"{BUILD}/core/.libs/libqcow2core.so")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Snapshots "first" and, deleted, "monday": then secret.txt was overwritten, in place."""
    folder = tmp_path_factory.mktemp("recovered")
    (folder / "files").mkdir()
    for number in range(4):
        (folder / "files" / f"file{number}").write_bytes(bytes([65 + number]) * 20 * KIB)
    (folder / "files/secret.txt").write_text("secret plan\n")
    raw, path = folder / "raw", folder / "disk.qcow2"
    run_line("mke2fs -q -F -t ext4 -O ^has_journal -b 4096 -d", folder / "files", raw, "4M")
    run("qemu-img", "convert", "-O", "qcow2", "-o", "cluster_size=4k", raw, path)
    node = f"driver=qcow2,file.driver=file,file.discard=ignore,file.filename={path}"
    secret = raw.read_bytes().index(b"secret plan") // CLUSTER * CLUSTER

    def write(byte):
        run("qemu-io", "--image-opts", node, "-c", f"write -P {byte} {secret} 4k")

    run("qemu-img", "snapshot", "-c", "first", "--image-opts", node)
    write(65)
    run("qemu-img", "snapshot", "-c", "monday", "--image-opts", node)
    write(66)
    run("qemu-img", "snapshot", "-d", "monday", "--image-opts", node)
    return path


@pytest.fixture(scope="module")
def left(image):
    """The same after "first" was applied: the state of before is abandoned."""
    path = image.parent / "left.qcow2"
    path.write_bytes(image.read_bytes())
    node = f"driver=qcow2,file.driver=file,file.discard=ignore,file.filename={path}"
    run("qemu-img", "snapshot", "-a", "first", "--image-opts", node)
    return f"{path}@abandoned"


def command(*words, statuses=(0,)):
    done = subprocess.run(
        [COMMAND, *map(str, words)],
        capture_output=True,
        check=False,
        timeout=120,
        env={**tools.CLEAN, **sanitized()},
    )
    assert done.returncode in statuses, done
    return done.stdout.decode(), done.stderr.decode()


def labels_of(image):
    (one,) = json.loads(command("residue", "--json", image)[0])["deleted"]
    return one["labels"]


def recovered_by(*words):
    """What a command's JSON says of the state that a name chooses; of diff, of side A."""
    out, _ = command(words[0], "--json", *words[1:], statuses=(0, 5))
    if words[0] != "diff":
        return json.loads(out)["recovered"]
    return json.loads(out.splitlines()[0])


def shares_of(image):
    """As texts have them."""
    labels = {label: count for label, count in labels_of(image).items() if count}
    assert {"kept", "shared-older"} <= set(labels)
    return ", ".join(f"{label} {count}" for label, count in labels.items()) + "; lost: nothing"


# ---- timeline -----------------------------------------------------------------------


def test_a_timeline_has_them_on_request(image):
    live, _ = command("timeline", image)
    assert "recovered" not in live and "[in all]" in live
    out, _ = command("timeline", "--recovered", image)
    lines = out.splitlines()
    assert len(lines) == len(live.splitlines())
    assert all("[in first..monday (recovered)]|" in line for line in lines)
    rows = list(csv.DictReader(io.StringIO(command("timeline", "--recovered", "--csv", image)[0])))
    assert {row["States"] for row in rows} == {"first..monday (recovered)"}
    assert {row["Recovered"] for row in rows} == {f"monday (recovered): {shares_of(image)}"}
    plain = list(csv.DictReader(io.StringIO(command("timeline", "--csv", image)[0])))
    assert len(plain) == len(rows) and "Recovered" not in plain[0]


def test_a_timeline_of_one(image, left):
    """Its lines are those of the whole disk, but do not say "all"."""
    out, _ = command("timeline", f"{image}@deleted=monday")
    assert out.replace("[in monday (recovered)]", "[in all]") == command("timeline", image)[0]
    out, _ = command("timeline", "--csv", left, statuses=(0, 4))
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["States"] for row in rows} == {"abandoned (recovered, guessed)"}
    assert all("abandoned (recovered, guessed): kept " in row["Recovered"] for row in rows)
    assert "takes an image" in command("timeline", "--recovered", f"{image}@1", statuses=(2,))[1]


def test_no_name_looks_recovered(tmp_path):
    """A snapshot that is called like a recovered one is shown by its place, and deleted ones of one
    name by their L1 tables. What has only an entry left is said."""
    made = Image(1 << 20)
    made.disk.normal(0, pattern(1, 65536))
    for number, name in enumerate((b"x (recovered)", b"same", b"same", b"gone"), 1):
        made.snapshot(b"%d" % number, name, seconds=number)
        made.disk.clear(0)
        made.disk.normal(0, pattern(number, 65536))
    data = delete(made, made.build(), keep=(0,))
    tables = [then.l1_offset for then, *_ in made.snapshots]
    data[tables[3] : tables[3] + 512] = pattern(1, 512)
    _, err = command("timeline", "--recovered", made.write(tmp_path / "disk.qcow2", data))
    told = re.findall(r"^tsk-qcow2: (.*): nothing is listed", err, re.M)
    names = [f"l1={table} (recovered)" for table in tables[1:3]]
    assert told == ["#0", "active", *names]
    assert 'cannot be read, because nothing but an entry is left: ID 4 "gone"' in err


# ---- diff -----------------------------------------------------------------------------


def test_a_diff_says_which_side(image):
    shares = shares_of(image)
    out, _ = command("diff", f"{image}@deleted=monday", image)
    header, partition, change, total = out.splitlines()
    assert re.fullmatch(
        rf'A is recovered: deleted snapshot ID 2 "monday" of .* \(UTC\); in bytes: {shares}', header
    )
    assert partition.endswith(": 1 with other content; A recovered")
    assert change.startswith("content ") and change.endswith("; A recovered")
    assert total.startswith("Different. What is recovered may not be")
    out, _ = command("diff", f"{image}@deleted=monday", f"{image}@deleted-id=2")
    assert [line.split(" ")[0] for line in out.splitlines()] == ["A", "B", "Disk", "Same:"]
    assert "no file differs; A and B recovered\n" in out
    out, _ = command("diff", f"{image}@1", image)
    assert "recovered" not in out
    out, _ = command("diff", "--body", f"{image}@1", f"{image}@deleted=monday")
    assert ["recovered" in line for line in out.splitlines()] == [False, True]
    assert "[content in B, recovered]" in out


@pytest.mark.parametrize("options", (["--json"], ["--json", "--ranges"]), ids=len)
def test_a_diff_for_programs(options, image, left):
    out, _ = command("diff", *options, image, f"{image}@deleted=monday")
    state, *lines = map(json.loads, out.splitlines())
    assert state["type"] == "state" and state["state"] == "deleted_snapshot"
    assert (state["side"], state["id"], state["name"]) == ("b", "2", "monday")
    assert state["labels"] == labels_of(image)
    assert len(lines) >= 2 and all(line["recovered"] == ["b"] for line in lines)
    text = Path(SOURCE, "docs", "diff-json.md").read_text()
    assert set(state) <= set(re.findall(r"`([a-z0-9_-]+)`", text))
    out, _ = command("diff", *options, image, f"{image}@1")
    assert all(json.loads(line)["recovered"] == [] for line in out.splitlines())
    out, _ = command("diff", *options, image, left, statuses=(0, 4))
    assert json.loads(out.splitlines()[0])["state"] == "abandoned"


def test_ranges_say_which_side(image):
    out, _ = command("diff", "--ranges", f"{image}@deleted=monday", image)
    header, line, total = out.splitlines()
    assert header.endswith(shares_of(image)) and line.endswith(" 4096 differs; A recovered")
    assert "What is recovered may not be" in total


# ---- verify, info, Python ---------------------------------------------------------------


def test_verify_and_info(image):
    name = f"{image}@deleted=monday"
    out, _ = command("verify", name, statuses=(0, 5))
    assert re.search(r'^Deleted snapshot ID 2 "monday", recovered: \d+ bytes, SHA-256', out, re.M)
    assert shares_of(image) in out
    (state,) = json.loads(command("verify", "--json", name, statuses=(0, 5))[0])["states"]
    assert state["recovered"] and state["labels"] == labels_of(image)
    assert "Not read: 2 other disks of the image" in out  # that of "first", and the active one
    (state, *_) = json.loads(command("verify", "--json", image, statuses=(0, 5))[0])["states"]
    assert not state["recovered"] and state["labels"] is None
    out, _ = command("map", name)
    assert re.search(
        f"^Recovered: deleted snapshot ID 2 .*; in bytes: {shares_of(image)}$", out, re.M
    )
    out, _ = command("info", name)
    assert re.search('^Deleted snapshot, recovered: ID 2, name "monday".*<- this one', out, re.M)
    (known,) = json.loads(command("residue", "--json", image)[0])["deleted"]
    assert recovered_by("info", name) == {
        "state": "deleted_snapshot",
        "date_seconds": recovered_by("diff", name, image)["date_seconds"],
        **{key: known[key] for key in ("id", "name", "l1_offset", "labels")},
    }
    text = Path(SOURCE, "docs", "info-json.md").read_text().split("\n`recovered`:")[1]
    assert set(recovered_by("info", name)) <= set(re.findall(r"`([a-z0-9_]+)`", text))
    assert recovered_by("info", f"{name},by-neighbours")["labels"] is None  # they would be others
    assert recovered_by("info", image) is None and recovered_by("check", image) is None


def test_a_map_has_one_label_in_each_run(image, left):
    for name in (f"{image}@deleted=monday", left):
        out, _ = command("map", "--json", name)
        runs, bytes_ = json.loads(out), {}
        for one in runs:
            assert one["recovered"]
            bytes_[one["label"]] = bytes_.get(one["label"], 0) + one["length"]
        with qcow2core.open(name) as disk:
            assert bytes_ == disk.labels and disk.recovered
        ends = [one["start"] + one["length"] for one in runs]
        assert [one["start"] for one in runs[1:]] == ends[:-1]
        for one, next_ in zip(runs, runs[1:]):  # else they were one run
            assert (
                one["label"] != next_["label"]
                or one["kind"] != next_["kind"]
                or (one["host_offset"] != next_["host_offset"])
            )
    for one in json.loads(command("map", "--json", image)[0]):
        assert not one["recovered"] and one["label"] is None


def test_python(image):
    with qcow2core.open(image) as disk:
        (one,) = disk.deleted_snapshots
        assert disk.labels is None and (one.id, one.name) == ("2", "monday")
        with pytest.raises(qcow2core.Error):
            disk.label_at(0)
    with qcow2core.open(f"{image}@deleted-l1={one.l1_offset}") as disk:
        assert disk.labels == one.labels and sum(disk.labels.values()) == disk.size
        at, labels = 0, set()
        while at < disk.size:
            run_ = disk.label_at(at, disk.size)
            assert run_.offset == at and (run_.host_offset is None) == (run_.label == "absent")
            labels.add(run_.label)
            at += run_.length
        assert labels == set(disk.labels)


@pytest.mark.parametrize("code", (-1, -5, -8))
def test_python_leaves_nothing_out_in_silence(code, image, monkeypatch):
    """-8, NOT_FOUND: the L1 table is something else. That it cannot be read is a warning."""
    library = qcow2core._library()

    class Failing:
        def __getattr__(self, name):
            return fail if name == "qcow2_deleted_label_bytes" else getattr(library, name)

    def fail(_image, _l1_offset, _labels, error):
        error._obj.code, error._obj.message = code, b"cannot be read"
        return code

    with qcow2core.open(image) as disk:
        monkeypatch.setattr(qcow2core, "_library", Failing)
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            assert disk.deleted_snapshots == []
        assert ["cannot be read" in str(one.message) for one in given] == [True] * (code != -8)
        monkeypatch.undo()


# ---- Inside a disk that is recovered -------------------------------------------------------


def test_an_image_inside_a_recovered_disk(image, tmp_path):
    """It is no less recovered than the disk around it."""
    inner, raw, outer = tmp_path / "inner.qcow2", tmp_path / "raw", tmp_path / "outer.qcow2"
    inner.write_bytes(image.read_bytes())
    (tmp_path / "files").mkdir()
    inner.rename(tmp_path / "files/inner.qcow2")
    options = ("-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", tmp_path / "files")
    run("mke2fs", *options, raw, "12M")
    run("qemu-img", "convert", "-O", "qcow2", "-o", "cluster_size=4k", raw, outer)
    node = f"driver=qcow2,file.driver=file,file.discard=ignore,file.filename={outer}"
    run("qemu-img", "snapshot", "-c", "then", "--image-opts", node)
    run("qemu-img", "snapshot", "-d", "then", "--image-opts", node)
    name = f"{outer}@deleted=then//0/inner.qcow2"
    assert "(recovered)" in command("timeline", name)[0]
    out, _ = command("diff", f"{name}@1", image)
    assert out.startswith("A is recovered: image inside a disk that is recovered\n")
    for options in ("", ",under-zeros", "@deleted=monday", ",residue"):
        out, _ = command("verify", "--no-hash", f"{name}{options}", statuses=(0, 5))
        assert ", inside a disk that is recovered: " in out
    assert "Inside a disk that is recovered" in command("info", name)[0]
    for of in ("info", "check", "residue"):
        inside = recovered_by(of, name)
        assert inside.pop("state") == "in_recovered_disk" and set(inside.values()) == {None}
    runs = json.loads(command("map", "--json", name)[0])
    assert {(one["recovered"], one["label"]) for one in runs} == {(True, None)}
    with qcow2core.open(name) as disk:
        assert disk.recovered and disk.labels is None
