# SPDX-License-Identifier: MIT
"""tsk-qcow2 timeline. Random histories are compared with fls and mactime in test_diff_files.py."""
import csv
import io
import os
import re
import subprocess

from lib.builder import Image
from lib.project import COMMAND, run


def timeline(*words, **more):
    done = subprocess.run(
        [COMMAND, "timeline", *map(str, words)], capture_output=True, text=True, check=False, **more
    )
    return done.returncode, done.stdout, done.stderr


def test_the_story_of_the_demonstration_disk(demo):
    """One command shows both files, each in its state, with one inode."""
    status, out, err = timeline("--csv", demo)
    assert (status, err) == (0, "")
    rows = [row for row in csv.DictReader(io.StringIO(out)) if "-plan" in row["File Name"]]
    assert {(row["File Name"], row["States"]) for row in rows} == {
        ("/2048/Documents/secret-plan.txt", "before-deletion"),
        ("/2048/Documents/holiday-plan.txt", "active"),
    }
    assert len({row["Meta"] for row in rows}) == 1
    shopping = [row for row in csv.DictReader(io.StringIO(out)) if "shopping" in row["File Name"]]
    assert {row["States"] for row in shopping} == {"all"}


def test_one_state(demo):
    _, out, _ = timeline(f"{demo}@before-deletion")
    assert "secret-plan" in out and "holiday-plan" not in out
    assert {re.search(r"\[in (.*)\]\|", line)[1] for line in out.splitlines()} == {"all"}


def test_a_selector_stands_for_its_image(demo, tmp_path):
    run(
        os.path.join(os.path.dirname(COMMAND), "tsk-qcow2"),
        "selector",
        "--directory",
        tmp_path,
        demo,
    )
    (selector,) = tmp_path.iterdir()
    assert timeline(selector)[:2] == timeline(demo)[:2]


def test_states_of_one_name_are_told_apart(tmp_path):
    image = Image(1 << 20)
    for name in (b"same", b"same", b"active", b"", b"other"):
        image.snapshot(str(len(image.snapshots) + 1).encode(), name)
    path = image.write(tmp_path / "disk.qcow2")
    _, out, err = timeline(path)
    assert out == ""
    told = re.findall(r"^tsk-qcow2: (.*): nothing is listed", err, re.M)
    assert told == ["#0", "#1", "#2", "#3", "other", "active"]


def test_zones(demo):
    utc, berlin = (timeline("--csv", *words, demo)[1] for words in ([], ["--zone", "Etc/GMT-5"]))
    hours = [
        int(next(csv.reader([text.splitlines()[1]]))[0].split()[-1][:2]) for text in (utc, berlin)
    ]
    assert (hours[1] - hours[0]) % 24 == 5
    for zone in ("Nowhere/Land", "../../etc/passwd", "/etc/localtime", ""):
        assert timeline("--zone", zone, demo)[0] == 2


def test_more_than_is_listed_is_not_called_damage(tmp_path):
    """Directories deeper than the limit."""
    raw, image, nested = tmp_path / "raw", tmp_path / "image", tmp_path / "nested"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-N", "1200", raw, "8M")
    nested.write_text("mkdir d\ncd d\n" * 1010)
    run("debugfs", "-w", "-f", nested, raw)
    run("qemu-img", "convert", "-O", "qcow2", raw, image)
    status, out, err = timeline(image)
    assert status == 6 and "more than is listed" in err and "not be read" not in err
    assert max(line.split("|")[1].count("/d") for line in out.splitlines()) == 1000
    done = run(COMMAND, "diff", image, f"{image},errors=zero", check=False)
    assert done.returncode == 6 and "Same" not in done.stdout


def test_damage_that_no_file_has_leaves_it_whole(demo, tmp_path):
    """The image is cut short in space that is not in use, where libtsk looks for other file
    systems, though."""
    path = tmp_path / "cut.qcow2"
    path.write_bytes(demo.read_bytes()[: -3 * 65536])
    assert run(COMMAND, "verify", path, check=False).returncode == 4
    status, out, _ = timeline(path)
    assert status == 0 and out == timeline(demo)[1]


def test_bad_usage(demo):
    for words in ([], [demo, demo], ["--zone"], ["--nonsense", demo]):
        assert timeline(*words)[0] == 2
    assert timeline(f"{demo}@nonsense")[0] == 1
    status, out, err = timeline(f"{demo},residue")
    assert (status, out) == (2, "") and 'without ",residue"' in err


def test_what_is_stored_under_zeros_is_said_of_each_state(demo):
    status, out, err = timeline("--csv", f"{demo},under-zeros")
    assert (status, out) == timeline("--csv", demo)[:2]
    assert err.count("warning: under-zeros: ") == 2
