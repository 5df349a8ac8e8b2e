# SPDX-License-Identifier: MIT
"""Backing files in formats that libtsk reads: VMDK, VHD, E01, AFF."""
import hashlib
import os
import random
import shutil

import pytest
from lib import oracle, tools
from lib.project import run

SIZE = 12 << 20


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A raw disk of random and zero parts."""
    path = tmp_path_factory.mktemp("foreign") / "base.raw"
    chooser = random.Random(5)
    path.write_bytes(b"".join(chooser.randbytes(65536) if chooser.random() < 0.6 else bytes(65536)
                              for _ in range(SIZE // 65536)))
    return path


def overlay_over(base, name, declared, directory):
    """An overlay over `name`, which has the base's content, with some bytes of its own; and the content of both."""
    overlay, expected = directory / "overlay.qcow2", directory / "expected.raw"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", name, "-F", declared, overlay, SIZE)
    shutil.copy(base, expected)
    for target, form in ((overlay, "qcow2"), (expected, "raw")):
        run("qemu-io", "-f", form, "-c", "write -P 0x77 1M 64k", "-c", "write -P 0x78 4M 1000", target)
    return overlay, expected


def sha256(*names, environment=None):
    """Of what img_cat says, and that it said it without complaint."""
    result = tools.run("img_cat", "-i", "qcow2", *names, environment=environment)
    assert result.returncode == 0, result.complaint
    return hashlib.sha256(result.stdout).hexdigest()


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def convert(base, form, name, directory):
    run("qemu-img", "convert", "-f", "raw", "-O", form, base, directory / name)


def test_declared_vhd_opens_by_itself(base, tmp_path):
    run("qemu-img", "convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", base, tmp_path / "base.vhd")
    overlay, expected = overlay_over(base, "base.vhd", "vpc", tmp_path)
    assert sha256(overlay) == sha256_of(expected) == oracle.convert(overlay)


def test_declared_vmdk_needs_the_users_word(base, tmp_path):
    """A VMDK can name further files, so an image may not lead to one by itself."""
    convert(base, "vmdk", "base.vmdk", tmp_path)
    overlay, expected = overlay_over(base, "base.vmdk", "vmdk", tmp_path)
    tools.assert_refused(tools.run("img_cat", "-i", "qcow2", overlay), "vmdk", "backing=PATH")
    assert sha256(f"{overlay},backing={tmp_path}/base.vmdk") == sha256_of(expected) == oracle.convert(overlay)
    assert sha256(overlay, tmp_path / "base.vmdk") == sha256_of(expected)


@pytest.fixture()
def e01(base, tmp_path):
    if shutil.which("ewfacquirestream") is None:
        pytest.skip("ewfacquirestream (ewf-tools) is not installed")
    with open(base, "rb") as disk:
        run("ewfacquirestream", "-q", "-t", tmp_path / "base", "-f", "encase6", "-S", "2MiB", stdin=disk)
    assert (tmp_path / "base.E02").exists()  # in several segments
    return tmp_path / "base.E01"


@pytest.mark.parametrize("declared", ["raw", "qcow2", None])
def test_e01_that_the_user_names(base, e01, tmp_path, declared):
    """Whatever the image declares, which was true of the machine that used it: the name that the user typed decides."""
    original = tmp_path / ("base.qcow2" if declared == "qcow2" else "base.raw")
    convert(base, declared or "raw", original.name, tmp_path)
    overlay = tmp_path / "overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", original.name, "-F", declared or "raw", overlay)
    run("qemu-io", "-c", "write -P 0x77 1M 64k", "-c", "write -P 0x78 4M 1000", overlay)
    expected = oracle.convert(overlay)
    if declared is None:
        drop_backing_format(overlay)
    os.remove(original)
    environment = tools.way_round("img_stat", e01)  # some systems' own tools crash when they close an E01
    assert sha256(f"{overlay},backing={e01}", environment=environment) == expected
    assert sha256(overlay, e01, environment=environment) == expected


def drop_backing_format(image):
    """Turn the backing format extension into an unknown one."""
    data = image.read_bytes()
    at = data.index(bytes.fromhex("e2792aca"), 0, 65536)
    image.write_bytes(data[:at] + bytes.fromhex("12345678") + data[at + 4:])


def test_aff_that_the_user_names(base, tmp_path):
    if shutil.which("affconvert") is None:
        pytest.skip("affconvert (afflib-tools) is not installed")
    shutil.copy(base, tmp_path / "base.raw")
    overlay = tmp_path / "overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", overlay)
    run("qemu-io", "-c", "write -P 0x77 1M 64k", overlay)
    expected = oracle.convert(overlay)
    run("affconvert", "-q", tmp_path / "base.raw")
    os.remove(tmp_path / "base.raw")
    assert sha256(f"{overlay},backing={tmp_path}/base.aff") == expected


def test_raw_named_like_nothing_stays_raw(base, tmp_path):
    """A guest can write a VMDK descriptor into its raw disk; neither image nor name calls it VMDK, so it is not one."""
    descriptor = b"# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n" \
                 b"RW 2048 FLAT \"/etc/passwd\" 0\n"
    disk = tmp_path / "disk.img"
    disk.write_bytes(descriptor + bytes(SIZE - len(descriptor)))
    overlay = tmp_path / "overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "disk.img", "-F", "raw", overlay)
    assert sha256(f"{overlay},backing={disk}") == sha256(overlay) == sha256_of(disk)


def test_undeclared_format_is_never_probed_beyond_qcow2(base, tmp_path):
    """Nor is it read as raw unless the user says which file it is."""
    convert(base, "vmdk", "base.img", tmp_path)
    overlay = tmp_path / "overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.img", "-F", "raw", overlay)
    drop_backing_format(overlay)
    tools.assert_refused(tools.run("img_cat", "-i", "qcow2", overlay), "starts as VMDK does", "backing=PATH")
    result = tools.run("img_cat", "-i", "qcow2", f"{overlay},backing={tmp_path}/base.img")
    assert result.stdout[:65536] == (tmp_path / "base.img").read_bytes()[:65536]
    assert "starts as VMDK does" in result.complaint


def test_damaged_vhd_is_an_error(base, tmp_path):
    (tmp_path / "base.vhd").write_bytes(b"nothing of the kind" * 1000)
    overlay = tmp_path / "overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "base.vhd", "-F", "vpc", overlay, SIZE)
    tools.assert_refused(tools.run("img_cat", "-i", "qcow2", overlay), "vhd")


def test_format_that_libtsk_does_not_know(base, tmp_path):
    convert(base, "vdi", "base.vdi", tmp_path)
    overlay = tmp_path / "overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.vdi", "-F", "vdi", overlay)
    tools.assert_refused(tools.run("img_cat", "-i", "qcow2", overlay), "vdi", "raw and qcow2")


def test_img_stat_names_the_format(base, tmp_path):
    convert(base, "vmdk", "base.vmdk", tmp_path)
    overlay = tmp_path / "overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.vmdk", "-F", "vmdk", overlay)
    assert b"Layer 1: vmdk" in tools.run("img_stat", "-i", "qcow2", overlay, tmp_path / "base.vmdk").stdout
