# SPDX-License-Identifier: MIT
"""Programs that are not of The Sleuth Kit, or that the drop-in cannot reach, on a mounted image."""
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from lib import disks, mounted, oracle, tools
from lib.builder import pattern
from lib.mounted import Mount
from lib.project import run

pytestmark = mounted.needed
PAGE, SECTOR, MIB = 4096, 512, 1 << 20


@pytest.fixture(scope="module")
def evidence(raw_disk, tmp_path_factory):
    """(path, disk): a disk with an MBR, ext4, NTFS and FAT, compressed, of which a block of big.bin
    in ext4 was changed since a snapshot; the snapshot's file in a mount, and the raw disk."""
    folder = tmp_path_factory.mktemp("evidence")
    disk = raw_disk("mbr")
    image = folder / "disk.qcow2"
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", disk.path, image)
    run("qemu-img", "snapshot", "-c", "seized", image)
    changed = disk.path.read_bytes().index(pattern("ext4", disks.BIG_BYTES)[:PAGE])
    run("qemu-io", "-c", f"write -P 7 {changed} {PAGE}", image)
    with Mount(image, folder / "m") as mount:
        yield mount.path("snapshots/seized.raw"), disk


def active_of(path):
    """The active disk of the mount in which `path` is a snapshot."""
    return path.parent.parent / "active.raw"


def missing_tool(*names):
    absent = [name for name in names if shutil.which(name) is None]
    return pytest.mark.skipif(bool(absent), reason=f"{', '.join(absent)}: not installed")


def test_sha256sum_and_dd(evidence, tmp_path):
    path, disk = evidence
    digest = oracle.sha256(disk.path)
    assert run("sha256sum", path).stdout.split()[0] == digest
    for block in ("16M", "3000"):
        run("dd", f"if={path}", f"of={tmp_path}/copy", f"bs={block}", "status=none")
        assert oracle.sha256(tmp_path / "copy") == digest


def test_sleuth_kit_tools_as_raw(evidence):
    path, disk = evidence
    start = str(disk.partition("ntfs").start)
    for tool, words in (
        ("mmls", []),
        ("fls", ["-r", "-p", "-o", start]),
        ("fsstat", ["-o", start]),
    ):
        expected = tools.run(tool, "-i", "raw", *words, disk.path, dropin=False)
        assert expected.returncode == 0 and len(expected.stdout) > 500
        tools.assert_same(tools.run(tool, "-i", "raw", *words, path, dropin=False), expected)


@missing_tool("losetup")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_loop_device_and_ext4(evidence, tmp_path):
    """As the recipe has it; the kernel's own ext4 driver reads the files."""
    path, disk = evidence
    partition = disk.partition("ext4")
    offset = partition.start * SECTOR
    try:
        words = ["-r", "--show", "-f", "-o", offset, "--sizelimit", partition.sectors * SECTOR]
        device = run("losetup", *words, path).stdout.strip()
    except AssertionError as error:
        pytest.skip(f"no loop device can be had here: {error}")
    try:
        (tmp_path / "files").mkdir()
        words = ["-t", "ext4", "-o", "ro,noload", device, tmp_path / "files"]
        if run("mount", *words, check=False).returncode != 0:
            pytest.skip("this kernel mounts no ext4 here")
        try:
            found = (tmp_path / "files" / "big.bin").read_bytes()
            inode = (tmp_path / "files" / "big.bin").stat().st_ino
        finally:
            run("umount", tmp_path / "files")
    finally:
        run("losetup", "-d", device)
    words = ["-i", "raw", "-o", str(partition.start), disk.path, str(inode)]
    assert found == tools.run("icat", *words, dropin=False).stdout
    assert len(found) == disks.BIG_BYTES


@missing_tool("photorec")
def test_photorec(tmp_path):
    """Carves the same files as from the raw disk."""
    picture = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489"
        "0000000d49444154789c6360f8cfc0000003010100b5d5f8380000000049454e44ae426082"
    )
    raw = bytearray(pattern("noise", 4 * MIB))
    for at in (MIB, 2 * MIB + 4096):
        raw[at : at + len(picture)] = picture
    (tmp_path / "disk.raw").write_bytes(raw)
    run("qemu-img", "convert", "-c", "-O", "qcow2", tmp_path / "disk.raw", tmp_path / "disk.qcow2")

    def carve(name, path):
        orders = "partition_none,options,paranoid,fileopt,everything,disable,png,enable,search"
        words = ["/log", "/logname", tmp_path / f"{name}.log", "/d", tmp_path / name]
        done = run(
            "photorec",
            *words,
            "/cmd",
            path,
            orders,
            cwd=tmp_path,
            env={**mounted.environment(), "TERM": "dumb"},
            check=False,
        )
        found = tmp_path.glob(f"{name}.*/*.png")
        return done, sorted(oracle.sha256(path) for path in found)

    with Mount(tmp_path / "disk.qcow2", tmp_path / "m") as mount:
        expected, of_raw = carve("raw", tmp_path / "disk.raw")
        done, of_mounted = carve("mounted", mount.path("active.raw"))
    assert done.returncode == expected.returncode == 0, done.stdout + done.stderr
    assert of_mounted == of_raw and len(of_raw) == 2


def exported(path):
    """The SHA-256 of what an E01 holds."""
    words = ["-u", "-q", "-f", "raw", "-t", path.with_name("raw"), f"{path}.E01"]
    run("ewfexport", *words)
    return oracle.sha256(path.with_name("raw.raw"))


@missing_tool("ewfacquire", "ewfexport")
def test_ewfacquire(evidence, tmp_path):
    path, disk = evidence
    run("ewfacquire", "-u", "-q", "-t", tmp_path / "copy", path)
    assert exported(tmp_path / "copy") == oracle.sha256(disk.path)


@missing_tool("ewfacquirestream", "ewfexport")
def test_ewfacquirestream(evidence, tmp_path):
    path, disk = evidence
    with open(path, "rb") as stream:
        words = ["ewfacquirestream", "-q", "-t", str(tmp_path / "copy")]
        subprocess.run(words, stdin=stream, capture_output=True, check=True, timeout=120)
    assert exported(tmp_path / "copy") == oracle.sha256(disk.path)


def test_dfvfs(evidence):
    """The library below plaso's log2timeline: finds what is in a state, and reads a file of its
    ext4 partition."""
    pytest.importorskip("dfvfs", reason="python3-dfvfs is not installed")
    from dfvfs.helpers import source_scanner
    from dfvfs.path import factory
    from dfvfs.resolver import resolver

    path, _ = evidence
    before = pattern("ext4", disks.BIG_BYTES)
    for state, expected in ((path, before), (active_of(path), b"\7" * PAGE + before[PAGE:])):
        scanner = source_scanner.SourceScanner()
        context = source_scanner.SourceScannerContext()
        context.OpenSourcePath(str(state))
        scanner.Scan(context)
        assert context.source_type == "storage media image"
        found = [node.path_spec for node in context._scan_nodes.values()]
        kinds = {each.type_indicator for each in found}
        assert {"TSK_PARTITION", "EXT", "NTFS", "TSK"} <= kinds, kinds  # TSK: the FAT
        (partition,) = {each.parent for each in found if each.type_indicator == "EXT"}
        file = factory.Factory.NewPathSpec("EXT", location="/big.bin", parent=partition)
        assert resolver.Resolver.OpenFileObject(file).read() == expected


def plaso(tool):
    """What a program of plaso is called here: Debian puts the suite's name before it."""
    return next(
        (name for name in (f"plaso-{tool}", tool, f"{tool}.py") if shutil.which(name)), None
    )


@pytest.mark.skipif(plaso("log2timeline") is None, reason="plaso: not installed")
def test_log2timeline(evidence, tmp_path):
    """The same events of the snapshot as of the raw disk; the active disk has them too."""

    def events(path):
        case = tmp_path / f"{path.stem}.plaso"
        words = ["--quiet", "--status-view", "none", "--unattended", "--single-process"]
        words += ["--parsers", "filestat", "--partitions", "all", "--volumes", "none"]
        logs = ["--logfile", tmp_path / "log"]
        run(plaso("log2timeline"), *words, *logs, "--storage-file", case, path, cwd=tmp_path)
        words = ["--quiet", "--status-view", "none", "--unattended", "-o", "dynamic"]
        words += ["--fields", "datetime,timestamp_desc,inode,filename"]
        run(plaso("psort"), *words, *logs, "-w", f"{case}.csv", case, cwd=tmp_path)
        return Path(f"{case}.csv").read_text().splitlines()

    path, disk = evidence
    expected = events(disk.path)
    assert len(expected) > 500 and any(line.endswith(",/big.bin") for line in expected)
    assert events(path) == expected
    assert events(active_of(path)) == expected
