# SPDX-License-Identifier: MIT
"""Images on block devices, as hypervisors keep them on logical volumes, and copies of such devices,
which are longer than the images. Loop devices and the device mapper need root."""
import os
import shutil
import subprocess
import uuid
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from lib import builder, images, tools
from lib.builder import Image, pattern
from lib.core import Image as Opened
from lib.core import Named
from lib.expect import refused
from lib.project import COMMAND, run, sanitized

pytestmark = pytest.mark.usefixtures("core")
SIZE, TAIL = 1 << 20, b"left behind " * 1000
BASE = pattern(1, SIZE)


@contextmanager
def loop(path):
    """A loop device over a file, read-only."""
    made = subprocess.run(
        ["losetup", "--read-only", "--find", "--show", path], capture_output=True, text=True
    )
    if made.returncode != 0:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    device = Path(made.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def group(devices):
    """A volume group's directory in /dev: a symbolic link for each volume, as LVM makes them."""
    folder = Path("/dev", f"tsk-qcow2-{uuid.uuid4()}")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no directory in /dev: {error}")
    try:
        for name, device in devices.items():
            (folder / name).symlink_to(os.path.relpath(device, folder))
        yield folder
    finally:
        shutil.rmtree(folder)


def on_volume(path):
    """The file as long as a volume of 4 MiB extents, whose rest has old data."""
    size = path.stat().st_size
    with open(path, "ab") as file:
        file.write(TAIL)
    os.truncate(path, builder.divide_up(size + len(TAIL), 4 << 20) * (4 << 20))
    return path


def base_image(path, content=BASE):
    made = Image(size=SIZE, cluster_bits=16)
    for cluster in range(SIZE >> 16):
        made.disk.normal(cluster, content[cluster << 16 :][: 1 << 16])
    return made.write(path)


def top_image(path, name):
    """An overlay with Proxmox's options, which stores its first subcluster only."""
    made = Image(
        size=SIZE,
        cluster_bits=17,
        extended_l2=True,
        backing=os.fsencode(name),
        backing_format=b"qcow2",
    )
    made.disk.subclusters(0, "D" + "." * 31, pattern(9, 1 << 17))
    return made.write(path)


TOP = pattern(9, 1 << 17)[:4096] + BASE[4096:]


@pytest.fixture
def volumes(tmp_path):
    """Two volumes, of which one backs the other: the devices, and their group's directory."""
    with ExitStack() as stack:
        snapshot = "snap_vm-100-disk-0_before.qcow2"
        base = stack.enter_context(loop(on_volume(base_image(tmp_path / "base"))))
        top = stack.enter_context(loop(on_volume(top_image(tmp_path / "top", snapshot))))
        names = {snapshot: base, "vm-100-disk-0.qcow2": top}
        yield top, base, stack.enter_context(group(names))


def test_image_on_a_device(volumes):
    _, base, folder = volumes
    for path in (base, folder / "snap_vm-100-disk-0_before.qcow2"):
        with Opened(path) as opened:
            assert opened.view().read(0, SIZE) == BASE and opened.warnings == []
        result = tools.run("img_cat", "-i", "qcow2", path)
        assert (result.returncode, result.stdout) == (0, BASE)
        result = tools.run("img_cat", path)
        assert (result.returncode, result.stdout) == (0, BASE), "by autodetection"


def test_chain_of_volumes(volumes):
    """Bare names, as Proxmox VE 9 writes them: a link in /dev needs the user's word."""
    top, base, folder = volumes
    image = folder / "vm-100-disk-0.qcow2"
    refused(image, "DENIED", "snap_vm-100-disk-0_before.qcow2", "search=", "backing=")
    for options in (
        {"search": [folder]},
        {"backing": [base]},
        {"backing": [folder / "snap_vm-100-disk-0_before.qcow2"]},
    ):
        with Opened(image, **options) as opened:
            assert opened.view().read(0, SIZE) == TOP
            assert [layer.is_raw for layer in opened.layers] == [0, 0]
    with Named(f"{top},search={folder}") as named:
        assert named.read(0, SIZE) == TOP


def test_chain_of_volumes_by_absolute_names(volumes, tmp_path):
    """As older versions wrote them: the name leads to this machine's own volume, so not by
    itself."""
    _, _, folder = volumes
    path = top_image(tmp_path / "copy.qcow2", folder / "snap_vm-100-disk-0_before.qcow2")
    refused(path, "DENIED", "absolute path", "search=")
    with Opened(path, search=[folder]) as opened:
        assert opened.view().read(0, SIZE) == TOP


def test_device_files_that_are_searched_for(tmp_path):
    """The device itself, in /dev."""
    with loop(on_volume(base_image(tmp_path / "base"))) as device:
        path = top_image(tmp_path / "top.qcow2", f"/dev/{device.name}")
        with Opened(path, search=["/dev"]) as opened:
            assert opened.view().read(0, SIZE) == TOP


def test_devices_that_came_with_evidence(volumes, tmp_path):
    """Device files and links outside of /dev may be a suspect's, also in a directory that is
    searched."""
    _, base, folder = volumes
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    path = top_image(tmp_path / "top.qcow2", "/x/base.qcow2")
    target = evidence / "base.qcow2"
    for make in (
        lambda: os.mknod(target, 0o60600, base.stat().st_rdev),
        lambda: target.symlink_to(base),
        lambda: target.symlink_to(folder / "snap_vm-100-disk-0_before.qcow2"),
    ):
        try:
            make()
        except PermissionError as error:
            pytest.skip(f"no device files: {error}")
        refused(path, "DENIED", "base.qcow2", search=[evidence])
        target.unlink()
    # Inside /dev, what is no block device there is refused, too.
    for name, goal in (("null", "/dev/null"), ("file", path), ("away", target)):
        (folder / name).symlink_to(goal)
        image = top_image(tmp_path / f"to-{name}.qcow2", f"/x/{name}")
        refused(image, "DENIED", name, search=[folder])
    os.mkfifo(folder / "fifo")
    refused(top_image(tmp_path / "to-fifo.qcow2", "/x/fifo"), "DENIED", "fifo", search=[folder])


def test_a_selector_may_not_name_a_directory_of_devices(volumes, tmp_path, monkeypatch):
    """Its directories are no word of the user."""
    _, _, folder = volumes
    monkeypatch.setenv("HOME", str(tmp_path))
    top_image(tmp_path / "top.qcow2", "/x/snap_vm-100-disk-0_before.qcow2")
    selector = folder / "evil.img"
    shutil.copy(tmp_path / "top.qcow2", folder / "top.qcow2")
    selector.write_bytes(b"TSK-QCOW2-SELECTOR 1\ntop.qcow2,search=.\n")
    result = tools.run("img_cat", selector, environment={"HOME": str(tmp_path)})
    assert result.returncode != 0 and "snap_vm-100-disk-0_before.qcow2" in result.complaint


def test_a_device_of_the_device_mapper(tmp_path):
    """As LVM makes volumes: a device over a part of another one, under /dev/mapper."""
    path = on_volume(base_image(tmp_path / "base"))
    name = f"tsk--qcow2-{uuid.uuid4().hex}"
    with loop(path) as device:
        table = f"0 {path.stat().st_size // 512} linear {device} 0"
        made = subprocess.run(
            ["dmsetup", "create", "--readonly", name, "--table", table],
            capture_output=True,
            text=True,
        )
        if made.returncode != 0:
            pytest.skip(f"no device mapper: {made.stderr.strip().splitlines()[-1]}")
        try:
            subprocess.run(["dmsetup", "mknodes", name], check=False)
            with Opened(f"/dev/mapper/{name}") as opened:
                assert opened.view().read(0, SIZE) == BASE
            top = top_image(tmp_path / "top.qcow2", f"/dev/mapper/{name}")
            for options in ({"search": ["/dev/mapper"]}, {"backing": [f"/dev/mapper/{name}"]}):
                with Opened(top, **options) as opened:
                    assert opened.view().read(0, SIZE) == TOP
        finally:
            subprocess.run(["dmsetup", "remove", "--retry", name], check=True)


def test_loops_are_found_by_the_device(tmp_path):
    """A device is the same by each of its files."""
    with loop(on_volume(top_image(tmp_path / "top", "/x/again"))) as device:
        with group({"again": device}) as folder:
            # By search, images of the chain are skipped; named by the user, it is a loop.
            refused(device, "DENIED", "again", search=[folder])
            refused(device, "CORRUPT", "loop", backing=[folder / "again"])
            os.mknod(folder / "twin", 0o60600, device.stat().st_rdev)
            refused(device, "CORRUPT", "loop", backing=[folder / "twin"])


# ---- Copies of devices -----------------------------------------------------------


def test_a_copy_that_is_longer_than_the_image(tmp_path):
    """info says how much follows, and ,residue has it."""
    path = base_image(tmp_path / "disk.qcow2")
    needed = path.stat().st_size
    on_volume(path)
    size = path.stat().st_size
    info = run(COMMAND, "info", path, env={**tools.CLEAN, **sanitized()}).stdout
    assert f"Bytes after that: {size - needed}, from host offset {needed} on" in info
    with Opened(path) as opened:
        layer = opened.layer(0)
        assert (layer.file_size, layer.needed_size) == (size, needed)
        assert opened.warnings == []
    with Named(f"{path},residue") as named:
        assert named.size == size
        assert named.read(needed, len(TAIL)) == TAIL


def test_nothing_is_said_of_a_file_that_ends_with_its_image(tmp_path):
    path = images.small_image().write(tmp_path / "disk.qcow2")
    info = run(COMMAND, "info", path, env={**tools.CLEAN, **sanitized()}).stdout
    assert "Bytes after that" not in info
