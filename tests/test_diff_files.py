# SPDX-License-Identifier: MIT
"""tsk-qcow2 diff by files: random histories against stock tools, and what they do not make."""
import json
import os
import shutil
import subprocess

import pytest
from lib import file_oracle
from lib.builder import OFFSET_MASK
from lib.file_check import check_history
from lib.file_history import FileHistory
from lib.project import BUILD, COMMAND, run, run_line

MIB, C = 1 << 20, 4096
SEEDS = (
    ("ext4", 1),
    ("ext4", 1046),
    ("ext2", 1052),
    ("ntfs", 100),
    ("ntfs", 103),
    ("fat12", 8),
    ("fat16", 9),
    ("fat32", 3),
)


def diff(*words):
    """(exit status, text, stderr)."""
    done = subprocess.run([COMMAND, "diff", *map(str, words)], capture_output=True, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("kind, seed", SEEDS)
def test_random_histories(kind, seed, tmp_path):
    """tests/file-histories runs as many as one has time for."""
    history = FileHistory(seed, tmp_path, kind)
    print(f"seed {seed}, {kind}")
    history.run()
    assert check_history(history)["comparisons"] >= 2


def test_a_random_history_of_this_run(tmp_path):
    seed = int(os.environ["TSK_QCOW2_SEED"])
    print(f"seed {seed} (TSK_QCOW2_SEED)")
    history = FileHistory(f"run {seed}", tmp_path)
    history.run()
    check_history(history)


# ---- The demonstration disk -------------------------------------------------------------


def test_the_story_of_the_demonstration_disk(demo):
    """The plan was deleted, and another file was created with its inode."""
    status, out, err = diff(f"{demo}@before-deletion", demo)
    lines = out.splitlines()
    assert (status, err, len(lines)) == (0, "", 4)
    title = "Partition at sector 2048, data (ext4): 1 created, 1 deleted, 2 with"
    assert lines[0].startswith(title)
    plans = {line.split()[0]: line for line in lines[1:3]}
    assert "/Documents/holiday-plan.txt" in plans["created"]
    assert "its inode was /Documents/secret-plan.txt" in plans["created"]
    assert "/Documents/secret-plan.txt" in plans["deleted"]
    assert "its inode now is /Documents/holiday-plan.txt" in plans["deleted"]
    assert plans["created"].split()[1] == plans["deleted"].split()[1], "the same inode"
    assert lines[-1] == "Different."


def test_nothing_changed(demo):
    status, out, err = diff(demo, demo)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "Same: no file differs."


def test_mactime_reads_the_body(demo):
    _, body, _ = diff("--body", f"{demo}@before-deletion", demo)
    done = run("mactime", "-d", "-z", "UTC", input=body)
    names = {line.split(",")[-1] for line in done.stdout.splitlines()[1:]}
    assert names == {
        '"/2048/Documents/secret-plan.txt [deleted in A]"',
        '"/2048/Documents/holiday-plan.txt [created in B]"',
    }


def test_deleted_names(tmp_path):
    """A name that was deleted in between, and one that came and went."""
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    (tmp_path / "text").write_text("text\n")
    run("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal,^metadata_csum", raw, "4M")
    debugfs(raw, "write text kept", "write text gone-before", "rm gone-before", "write text plan")
    store(raw, image)
    run("qemu-img", "snapshot", "-c", "then", image)
    debugfs(raw, "rm plan", "write text short-lived", "rm short-lived", cwd=tmp_path)
    store(raw, image)
    lines = file_oracle.ask("--deleted", f"{image}@then", image)[1]
    found = {
        (line["status"], (line["b"] or line["a"])["path"]): line
        for line in lines
        if line["type"] == "file" and "OrphanFile" not in str(line)
    }
    assert ("deleted", "/plan") in found
    assert (
        any(status == "remnant" for status, _ in found) or found["deleted", "/plan"]["name_remains"]
    )
    plain = file_oracle.ask(f"{image}@then", image)[1]
    assert [line["status"] for line in plain if line["type"] == "file"] == ["deleted"]


def debugfs(raw, *commands, cwd=None):
    run("debugfs", "-w", "-f", "-", raw, input="\n".join(commands) + "\n", cwd=cwd or raw.parent)


def store(raw, image):
    if not image.exists():
        run("qemu-img", "create", "-q", "-f", "qcow2", image, os.path.getsize(raw))
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", raw, image)


# ---- Partitions ---------------------------------------------------------------------------


def partitioned(path, table, filesystems):
    """A raw disk of 16 MiB with file systems at these sectors."""
    with open(path, "wb") as file:
        file.truncate(16 * MIB)
    run("sfdisk", "-q", path, input="label: dos\n" + table)
    for start, label in filesystems:
        names = f"-U {uuid(label)} -L {label} -E offset={start * 512},hash_seed={uuid(label)}"
        run_line(f"mke2fs -q -F -t ext4 -O ^has_journal {names}", path, "3M")


def uuid(label):
    return "00000000-0000-0000-0000-" + label.encode().hex().zfill(12)


def test_partitions_that_came_and_went(tmp_path):
    a, b = tmp_path / "a.raw", tmp_path / "b.raw"
    partitioned(
        a,
        "start=2048, size=8192, type=83\nstart=10240, size=8192, type=83\n",
        [(2048, "one"), (10240, "two")],
    )
    partitioned(
        b,
        "start=2048, size=8192, type=83\nstart=20480, size=8192, type=83\n",
        [(2048, "one"), (20480, "three")],
    )
    for raw in (a, b):
        store(raw, raw.with_suffix(".qcow2"))
    status, lines, _ = file_oracle.ask(tmp_path / "a.qcow2", tmp_path / "b.qcow2")
    fates = {
        (line["a"] or line["b"])["start"]: line["fate"]
        for line in lines
        if line["type"] == "partition"
    }
    assert status == 0 and fates == {2048: "both", 10240: "only-in-a", 20480: "only-in-b"}
    assert lines[-1]["result"] == "different"
    assert (lines[-1]["partitions_only_in_a"], lines[-1]["partitions_only_in_b"]) == (1, 1)


def test_a_partition_that_moved(tmp_path):
    """Its files are compared, by what they hold, for nothing lies in the same place."""
    a, b = tmp_path / "a.raw", tmp_path / "b.raw"
    partitioned(a, "start=2048, size=8192, type=83\n", [(2048, "one")])
    for name, text in (("same", "same\n"), ("changed", "before\n")):
        (tmp_path / name).write_text(text)
        run("debugfs", "-w", "-R", f"write {tmp_path}/{name} {name}", f"{a}?offset={MIB}")
    content = a.read_bytes()
    partitioned(b, "start=12288, size=8192, type=83\n", [])
    moved = content[MIB : 5 * MIB].replace(b"before\n", b"after!\n")
    with open(b, "r+b") as file:
        file.seek(6 * MIB)
        file.write(moved)
    for raw in (a, b):
        store(raw, raw.with_suffix(".qcow2"))
    status, lines, _ = file_oracle.ask(tmp_path / "a.qcow2", tmp_path / "b.qcow2")
    assert status == 0 and lines[0]["fate"] == "moved"
    assert [(line["b"]["path"], line["aspects"]) for line in lines if line["type"] == "file"] == [
        ("/changed", ["content"])
    ]


def test_bytes_where_there_is_no_file_system(tmp_path):
    a = tmp_path / "a.raw"
    partitioned(a, "start=2048, size=8192, type=83\n", [])
    image = tmp_path / "disk.qcow2"
    store(a, image)
    run("qemu-img", "snapshot", "-c", "then", image)
    assert file_oracle.ask(f"{image}@then", image)[1][-1]["result"] == "same"
    run("qemu-io", "-c", "write -P 7 2M 1", image)
    status, lines, _ = file_oracle.ask(f"{image}@then", image)
    assert (status, lines[0]["compared"], lines[0]["result"]) == (0, "bytes", "different")


def test_a_file_system_that_is_in_one_state_only(demo, tmp_path):
    """It is not compared, and that is said with libtsk's reason."""
    path = tmp_path / "wiped.qcow2"
    shutil.copyfile(demo, path)
    run("qemu-io", "-c", "write -z 1M 64k", path)
    status, out, _ = diff(f"{path}@before-deletion", path)
    assert status == 6 and "Partition at sector 2048, data (ext4): not compared" in out
    assert "cannot be opened in B: " in out and "file system type" in out
    assert out.endswith("Not all of it was compared.\n")


def test_a_file_system_that_was_made_anew(tmp_path):
    """Files of one inode in both are other files."""
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    (tmp_path / "text").write_text("text\n")
    for index, label in enumerate(("one", "two")):
        raw.unlink(missing_ok=True)
        run("mke2fs", "-q", "-F", "-t", "ext4", "-U", uuid(label), raw, "4M")
        debugfs(raw, f"write text file{index}")
        store(raw, image)
        if index == 0:
            run("qemu-img", "snapshot", "-c", "then", image)
    status, lines, _ = file_oracle.ask(f"{image}@then", image)
    assert status == 0 and not lines[0]["same_file_system"]
    found = {(line["status"], (line["b"] or line["a"])["path"]) for line in lines[1:-1]}
    assert {("deleted", "/file0"), ("created", "/file1")} <= found


# ---- Damage and what was made to do harm -----------------------------------------------------


def damaged_copy(demo, folder, guest_offset):
    """A copy of the demonstration disk whose active disk cannot be read in one cluster."""
    path = folder / "damaged.qcow2"
    shutil.copyfile(demo, path)
    with open(path, "r+b") as file:
        header = file.read(104)
        l1 = int.from_bytes(header[40:48], "big")
        file.seek(l1)
        l2 = int.from_bytes(file.read(8), "big") & OFFSET_MASK
        file.seek(l2 + guest_offset // 65536 * 8)
        entry = int.from_bytes(file.read(8), "big")
        file.seek(-8, os.SEEK_CUR)
        file.write(((entry & OFFSET_MASK) + 512).to_bytes(8, "big"))
    return path


def offset_of(demo, path):
    """The first byte of a file of the demonstration disk, by istat."""
    raw = demo.with_suffix(".raw")
    if not raw.exists():
        run("qemu-img", "convert", "-O", "raw", demo, raw)
    blocks = run("debugfs", "-R", f"blocks {path}", f"{raw}?offset={MIB}").stdout.split()
    return MIB + int(blocks[0]) * 1024


@pytest.mark.parametrize("option", ("", ",errors=zero"))
def test_content_that_cannot_be_read(demo, tmp_path, option):
    path = damaged_copy(demo, tmp_path, offset_of(demo, "/Licenses/GPL-3"))
    status, out, err = diff(f"{path}@before-deletion{option}", f"{path}{option}")
    assert status == 4 and "table entry" in err
    assert "Not all of it can be compared" in out
    assert any("/Licenses/GPL-3" in line and "cannot be read" in line for line in out.splitlines())
    assert not any(line.startswith("deleted") and "GPL" in line for line in out.splitlines())


@pytest.mark.parametrize("option", ("", ",errors=zero"))
def test_a_directory_that_cannot_be_read(demo, tmp_path, option):
    """What it held is not called deleted."""
    path = damaged_copy(demo, tmp_path, offset_of(demo, "/Documents"))
    status, out, _ = diff("--json", f"{path}@before-deletion{option}", f"{path}{option}")
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 4 and lines[-1]["result"] == "incomplete"
    told = {line["status"] for line in lines if line["type"] == "file"}
    assert "deleted" not in told and "created" not in told


@pytest.mark.parametrize("option", ("", ",errors=zero"))
def test_a_directory_that_neither_state_can_read(demo, tmp_path, option):
    """Nothing that is listed differs, but it may have held anything."""
    path = damaged_copy(demo, tmp_path, offset_of(demo, "/Documents"))
    shutil.copyfile(path, tmp_path / "same.qcow2")
    status, out, _ = diff(f"{path}{option}", f"{tmp_path}/same.qcow2{option}")
    assert status == 4 and "Same" not in out and "no file differs" not in out
    _, out, _ = diff("--json", f"{path}{option}", f"{tmp_path}/same.qcow2{option}")
    assert [json.loads(line)["result"] for line in out.splitlines()] == ["incomplete"] * 2


def test_a_partition_table_that_cannot_be_read(demo, tmp_path):
    """No partition is called new because the other state's table, and its backup, are lost."""
    (tmp_path / "twice").mkdir()
    path = damaged_copy(damaged_copy(demo, tmp_path, 0), tmp_path / "twice", 64 * MIB - 1)
    status, out, _ = diff(f"{path}@before-deletion", path)
    assert status == 4 and "(ext4): only in A, as far as B can be read" in out
    _, out, _ = diff("--json", path, f"{path}@before-deletion")
    lines = [json.loads(line) for line in out.splitlines()]
    (partition,) = [line for line in lines if line.get("fate") == "only-in-b"]
    assert partition["result"] == "incomplete" == lines[-1]["result"]


def test_names_are_escaped(tmp_path):
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    (tmp_path / "text").write_text("text\n")
    run("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^metadata_csum", raw, "4M")
    store(raw, image)
    run("qemu-img", "snapshot", "-c", "then", image)
    debugfs(raw, "write text XYabcdefgh")
    content = raw.read_bytes()
    raw.write_bytes(content.replace(b"XYabcdefgh", b"\x1b[31m|%41\n"))
    store(raw, image)
    for words in ([], ["--json"], ["--body"], ["--deleted"]):
        _, out, _ = diff(*words, f"{image}@then", image)
        assert "\x1b" not in out and "x1b[31m" in out, words


def test_directories_in_a_circle(tmp_path):
    """A directory that holds itself, and names of it without end, are gone into once."""
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", raw, "4M")
    links = [f"link d d/again{i}" for i in range(30)]
    debugfs(raw, "mkdir d", "mkdir d/e", *links, "link d d/e/up", "link / d/root")
    store(raw, image)
    for words in ((image, image), ("--deleted", image, image)):
        status, out, _ = diff(*words)
        assert status == 0 and out.endswith("Same: no file differs.\n")
    done = run(COMMAND, "timeline", image, timeout=60)
    assert done.stdout.count("/d/again7") == 1


# ---- The command line ------------------------------------------------------------------------


def test_bad_usage(demo):
    for words in (["--json", "--body"], ["--ranges", "--deleted"], ["--ranges", "--body"]):
        status, out, err = diff(*words, demo, demo)
        assert (status, out) == (2, "") and "Try:" in err
    status, out, err = diff(demo, f"{demo}@nonsense")
    assert (status, out) == (1, "") and "nonsense" in err


def test_without_libtsk_it_is_refused(demo, tmp_path):
    """A library of that name that cannot be loaded."""
    (tmp_path / os.path.basename(next(iter_libraries()))).write_bytes(b"no library")
    done = subprocess.run(
        [COMMAND, "diff", demo, demo],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
    )
    assert done.returncode == 1 and "--ranges" in done.stderr


def iter_libraries():
    return iter(os.listdir(os.path.join(BUILD, "tsk_qcow2", "dropin")))
