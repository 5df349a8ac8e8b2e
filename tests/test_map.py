# SPDX-License-Identifier: MIT
"""`tsk-qcow2 map`. That it gives what `qemu-img map` gives is tested by test_differential.py."""
import json
import re
from xml.etree import ElementTree
from pathlib import Path

from lib.builder import Image, pattern
from lib.project import SOURCE, run, tsk_qcow2

C = 4096


def command(*words, **options):
    return tsk_qcow2("map", *words, **options)


def runs(name, **options):
    """(start, length, kind, depth, host offset) of each run, as JSON has them and as text has."""
    found = [
        (run["start"], run["length"], run["kind"], run["depth"], run["host_offset"])
        for run in json.loads(command("--json", name, **options))
    ]
    lines = [line.split() for line in command(name, **options).splitlines()]
    table = [line for line in lines if len(line) >= 4 and line[0].isdigit()]
    assert [
        (int(start), int(length), kind, int(layer), int(host[0]) if host else None)
        for start, length, kind, layer, *host in table
    ] == found
    return found


def every_kind():
    image = Image(size=16 * C, cluster_bits=12)
    for cluster in (0, 1):
        image.disk.normal(cluster, pattern(cluster, C))
    image.disk.zero(2)
    image.disk.zero_allocated(3, pattern(3, C))
    image.disk.compressed(4, bytes(C))
    image.disk.compressed(5, bytes(C))
    return image


def test_each_kind(tmp_path):
    path = tmp_path / "image.qcow2"
    every_kind().write(path)
    (data, *rest) = runs(path)
    assert data[:4] == (0, 2 * C, "data", 0) and data[4] % C == 0
    assert path.read_bytes()[data[4] : data[4] + 2 * C] == pattern(0, C) + pattern(1, C)
    assert rest[0] == (2 * C, C, "zero", 0, None)
    assert rest[1][:4] == (3 * C, C, "zero-allocated", 0) and rest[1][4] is not None
    assert rest[2] == (4 * C, 2 * C, "compressed", 0, None)
    assert rest[3] == (6 * C, 10 * C, "unallocated", 0, None)
    uncovered = runs(f"{path},under-zeros")
    assert uncovered[2][:4] == (3 * C, C, "data", 0) and uncovered[2][4] == rest[1][4]


def test_of_the_facts_that_qemu_names(tmp_path):
    path = tmp_path / "image.qcow2"
    every_kind().write(path)
    theirs = json.loads(run("qemu-img", "map", "--output=json", path).stdout)
    ours = json.loads(command("--json", path))
    for run_of_ours, run_of_theirs in zip(ours, theirs, strict=True):
        for key, value in run_of_theirs.items():
            assert run_of_ours[key] == value, (key, run_of_ours, run_of_theirs)
        assert ("offset" in run_of_ours) == ("offset" in run_of_theirs)


def test_snapshots_and_chains(tmp_path):
    (tmp_path / "base.raw").write_bytes(pattern(1, 2 * C))
    image = Image(size=4 * C, cluster_bits=12, backing=b"base.raw", backing_format=b"raw")
    old = type(image.disk)(image, 4 * C)
    old.normal(1, pattern(2, C))
    image.snapshot(b"1", b"before", old)
    image.disk.normal(3, pattern(3, C))
    image.write(tmp_path / "top.qcow2")
    assert [one[:4] for one in runs(tmp_path / "top.qcow2")] == [
        (0, 2 * C, "data", 1),
        (2 * C, C, "unallocated", 0),
        (3 * C, C, "data", 0),
    ]
    assert [one[:4] for one in runs(f"{tmp_path}/top.qcow2@before")] == [
        (0, C, "data", 1),
        (C, C, "data", 0),
        (2 * C, 2 * C, "unallocated", 0),
    ]
    assert runs(f"{tmp_path}/top.qcow2@before,backing=none")[0] == (0, C, "unallocated", 0, None)


def test_damage_is_a_run(tmp_path):
    image = every_kind()
    image.disk.force(1, 1 << 63 | 513)  # not at a multiple of the cluster size
    image.write(tmp_path / "image")
    assert (C, C, "invalid", 0, None) in runs(tmp_path / "image", status=4)


def test_residue_is_no_disk(tmp_path):
    every_kind().write(tmp_path / "image")
    command(f"{tmp_path}/image,residue", status=2)


# ---- Pictures --------------------------------------------------------------------


def picture(name, *options, **more):
    """The root element of an SVG, and all text in it."""
    text = command("--svg" if not options else options[0], name, **more)
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    ids = [one.get("id") for one in root.iter() if one.get("id")]
    assert len(ids) == len(set(ids))
    allowed = set("svg title desc style defs pattern rect path text".split())
    assert {one.tag.split("}")[1] for one in root.iter()} <= allowed
    return root, "\n".join("".join(one.itertext()) for one in root.iter())


def squares(root, picture_id):
    """{class index: area in squares} that the paths of a picture fill."""
    found = {}
    for path in root.iter("{http://www.w3.org/2000/svg}path"):
        if (fill := path.get("fill") or "").startswith(f"url(#{picture_id}-"):
            parts = re.findall(r"M\d+ \d+h(\d+)v(\d+)h-\d+z", path.get("d"))
            found[int(fill[len(f"url(#{picture_id}-") : -1])] = sum(
                int(width) * int(height) for width, height in parts
            ) / (11 * 11)
    return found


def test_picture_of_the_disk(tmp_path):
    path = tmp_path / "image.qcow2"
    every_kind().write(path)
    root, text = picture(path, "--svg=disk")
    assert squares(root, "disk-kinds") == {0: 2, 1: 2, 2: 1, 3: 1, 5: 10}
    for words in (
        "stored data: 8 KiB, 12.5 %",
        "compressed data: 8 KiB",
        "unallocated: 40 KiB, 62.5 %",
        "A square is 4 KiB, a whole row 256 KiB",
    ):
        assert words in text
    assert "cross" not in text.replace(".cross", "")
    assert command("--svg=disk", path) == command("--svg=disk", path)


def test_picture_of_the_file(tmp_path):
    path = tmp_path / "image.qcow2"
    image = every_kind()
    image.snapshot(b"1", b"before", image.disk.copy())
    image.disk.normal(1, pattern(11, C))
    image.junk(pattern(20, C), leak=True)
    image.junk(pattern(21, C))
    image.write(path)
    root, text = picture(path, "--svg=file")
    found = squares(root, "image-file")
    assert (found[0], found[2], found[5], found[6]) == (1, 1, 1, 1)
    assert sum(found.values()) == path.stat().st_size / C
    assert "residue: free, but stored: 4 KiB" in text


def test_picture_of_a_chain(tmp_path):
    name = "a<b>&\"'c" + "x" * 80
    (tmp_path / name).write_bytes(pattern(1, 2 * C))
    image = Image(size=4 * C, cluster_bits=12, backing=name.encode(), backing_format=b"raw")
    image.disk.normal(3, pattern(3, C))
    image.write(tmp_path / "top.qcow2")
    root, text = picture(tmp_path / "top.qcow2")
    assert squares(root, "disk-layers") == {0: 1, 1: 2, 8: 1}
    assert "1: a<b>&\"'cxxxxx" in text and "x" * 40 not in text
    assert len(root) == 3  # kinds, layers, file


def test_damage_is_marked(tmp_path):
    image = every_kind()
    image.disk.force(1, 1 << 63 | 513)
    image.write(tmp_path / "image")
    root, text = picture(tmp_path / "image", status=4)
    crosses = [one for one in root.iter() if one.get("class") == "cross"]
    assert len(crosses) == 2 and "A cross marks" in text


def test_a_picture_has_a_bounded_size(tmp_path):
    """A disk of 64 TiB whose kinds change everywhere."""
    image = Image(size=64 << 40, cluster_bits=21)
    for cluster in range(0, 64 << 19, 20011):
        image.disk.zero(cluster)
    path = tmp_path / "image"
    image.write(path)
    text = command("--svg", path)
    assert len(text) < 600_000
    root, text = picture(path, "--svg=disk")
    assert sum(squares(root, "disk-kinds").values()) == 1024
    assert "A square is 64 GiB, a whole row 4 TiB" in text


def test_json_or_svg(tmp_path):
    every_kind().write(tmp_path / "image")
    command("--json", "--svg", tmp_path / "image", status=2)


def test_the_document_has_every_key_and_kind(tmp_path):
    every_kind().write(tmp_path / "image")
    text = Path(SOURCE, "docs", "map-json.md").read_text()
    named = set(re.findall(r"`([a-z_-]+)`", text))
    for one in json.loads(command("--json", tmp_path / "image")):
        assert set(one) | {one["kind"]} <= named
