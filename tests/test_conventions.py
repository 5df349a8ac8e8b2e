# SPDX-License-Identifier: MIT
"""Chains as Proxmox VE, XCP-ng, Nova, Incus, libvirt and Windows name them, made with the options
that these systems use. docs/hypervisors.md says the same to an examiner who received one."""
import json
import os
import shutil
import struct

import pytest

from lib import images, tools
from lib.builder import Image, pattern
from lib.core import Image as Opened
from lib.core import Named
from lib.expect import refused
from lib.project import COMMAND, run, sanitized

pytestmark = pytest.mark.usefixtures("core")
PROXMOX = "-o extended_l2=on,cluster_size=128k"
MIB = 1 << 20


def create(path, *options, backing=None, backing_format="qcow2"):
    """By qemu-img, whatever the backing file's name leads to."""
    reference = ("-u", "-F", backing_format, "-b", backing) if backing else ()
    words = [word for option in options for word in option.split()]
    run("qemu-img", "create", "-q", "-f", "qcow2", *words, *reference, str(path), "1M")
    return path


def write(path, byte, start, length="64k"):
    """Without the backing file, which need not be where the image says."""
    run("qemu-io", "-c", f"write -q -P {byte} {start} {length}", image_options(path))


def image_options(path):
    return "json:" + json.dumps(
        {"driver": "qcow2", "file": {"driver": "file", "filename": str(path)}, "backing": None}
    )


def content(path, **options):
    with Opened(path, **options) as opened:
        return opened.view().read(0, MIB)


def expected(*pieces):
    """(byte, start, length)."""
    out = bytearray(MIB)
    for byte, start, length in pieces:
        out[start : start + length] = bytes([byte]) * length
    return bytes(out)


def info(*words, check=True):
    environment = {**tools.CLEAN, **sanitized()}
    return run(COMMAND, "info", *map(str, words), env=environment, check=check)


K = 1024


# ---- Proxmox VE ------------------------------------------------------------------


def test_proxmox_snapshots_on_a_directory(tmp_path):
    """`snap-NAME-vm-100-disk-0.qcow2` beside the disk: it opens as it is."""
    folder = tmp_path / "images" / "100"
    folder.mkdir(parents=True)
    old, disk = folder / "snap-before-vm-100-disk-0.qcow2", folder / "vm-100-disk-0.qcow2"
    create(old, PROXMOX)
    run("qemu-io", "-c", "write -q -P 1 0 256k", str(old))
    create(disk, PROXMOX, backing=old.name)
    run("qemu-io", "-c", "write -q -P 2 64k 64k", str(disk))
    assert content(disk) == expected((1, 0, 256 * K), (2, 64 * K, 64 * K))
    text = info("--chain", disk).stdout
    top, link, base = text[text.index("Chain, the oldest") :].splitlines()[1:4]
    assert top.startswith(f"  {disk.name}  (qcow2, ") and "written 20" in top
    assert link == f'    | is based on "{old.name}", found at "{old}"'
    assert base.startswith(f"  {old.name}  (qcow2, ") and "a disk of 1048576 bytes" in base


def test_proxmox_linked_clone(tmp_path):
    """`../9000/base-9000-disk-0.qcow2`: outside of the clone's own directory."""
    for number in ("9000", "101"):
        (tmp_path / number).mkdir()
    base, clone = tmp_path / "9000/base-9000-disk-0.qcow2", tmp_path / "101/vm-101-disk-0.qcow2"
    create(base, PROXMOX)
    run("qemu-io", "-c", "write -q -P 1 0 256k", str(base))
    create(clone, PROXMOX, backing=f"../9000/{base.name}")
    write(clone, 2, 0)
    refused(clone, "DENIED", '".."', "backing=", "search=")
    for options in ({"search": [base.parent]}, {"backing": [base]}):
        assert content(clone, **options) == expected((1, 0, 256 * K), (2, 0, 64 * K))


@pytest.mark.parametrize("prefix", ("/dev/vg0/", ""))
def test_proxmox_snapshots_on_volumes_received_as_files(prefix, tmp_path):
    """`snap_vm-100-disk-0_NAME.qcow2`, absolute in older versions; each volume was copied into a
    file of its name, and is longer than its image. test_devices.py has them on devices."""
    old = tmp_path / "snap_vm-100-disk-0_before.qcow2"
    disk = tmp_path / "vm-100-disk-0.qcow2"
    create(old, PROXMOX)
    run("qemu-io", "-c", "write -q -P 1 0 256k", str(old))
    create(disk, PROXMOX, backing=prefix + old.name)
    write(disk, 2, 0)
    for path in (old, disk):
        with open(path, "ab") as file:
            file.write(b"old data" * 8192)
        os.truncate(path, 4 * MIB)
    if prefix:
        error = refused(disk, "DENIED", "absolute path", "search=")
        assert f'A file named "{old.name}" lies beside it' in error.message
    assert content(disk, search=[tmp_path]) == expected((1, 0, 256 * K), (2, 0, 64 * K))
    assert content(disk, backing=[old]) == expected((1, 0, 256 * K), (2, 0, 64 * K))
    assert "Bytes after that" in info(disk).stdout


# ---- XCP-ng ----------------------------------------------------------------------

VATE = 0x76617465


@pytest.mark.parametrize("hidden", (True, False))
def test_xcp_ng_chain(hidden, tmp_path):
    """UUID.qcow2 under UUID.qcow2, and whether the base is an internal copy."""
    base_name = "0a7fbd13-6a1f-4b5d-9b5e-000000000001.qcow2"
    data = pattern(1, 65536)
    base = Image(size=MIB, extensions=[(VATE, bytes([hidden]) + bytes(7))])
    base.disk.normal(0, data)
    base.write(tmp_path / base_name)
    top = images.overlay(tmp_path / "top.qcow2", base_name, b"qcow2", size=MIB)
    with Opened(top) as opened:
        assert opened.view().read(0, 65536) == data
        assert [layer.is_hidden for layer in opened.layers] == [0, int(hidden)]
    text = info("--chain", top).stdout
    assert ("XCP-ng marks this image as hidden" in text) == hidden
    assert (f"{base_name}  (qcow2, hidden, " in text) == hidden
    report = json.loads(info("--chain", "--json", top).stdout)
    assert [layer["hidden"] for layer in report["layers"]] == [False, hidden]
    assert "0x76617465, 8 bytes" in info(tmp_path / base_name).stdout


def test_xcp_ng_long_chain(tmp_path):
    """30 files deep."""
    for number in range(30):
        image = Image(
            size=MIB,
            backing=b"%d.qcow2" % (number - 1) if number else None,
            backing_format=b"qcow2" if number else None,
        )
        if number < 16:
            image.disk.normal(number, bytes([number + 1]) * 65536)
        image.write(tmp_path / f"{number}.qcow2")
    pieces = [(number + 1, number * 65536, 65536) for number in range(16)]
    assert content(tmp_path / "29.qcow2") == expected(*pieces)
    text = info("--chain", tmp_path / "29.qcow2").stdout
    assert text.count("| is based on") == 29 and text.index("  29.qcow2") < text.index("  0.qcow2 ")


@pytest.mark.parametrize("cut", (0, 100, 65000))
def test_xcp_ng_killed_image(cut, tmp_path):
    """The L1 table zeroed, and the file cut behind it."""
    path = create(tmp_path / "killed.qcow2")
    run("qemu-io", "-c", "write -q -P 1 0 1M", str(path))
    data = bytearray(path.read_bytes())
    (l1_size,) = struct.unpack_from(">I", data, 36)
    (l1_offset,) = struct.unpack_from(">Q", data, 40)
    data[l1_offset : l1_offset + l1_size * 8] = bytes(l1_size * 8)
    path.write_bytes(data[: l1_offset + l1_size * 8 + cut])
    with Opened(path) as opened:
        killed, truncated = opened.warnings
        assert "was killed, as XCP-ng does" in killed and "truncated" in truncated
    assert (
        "Good"
        not in run(COMMAND, "verify", path, env={**tools.CLEAN, **sanitized()}, check=False).stdout
    )


def test_images_that_were_not_killed(tmp_path):
    """A new one is as short, and its L1 table is as empty; a wiped one is not cut there."""
    path = create(tmp_path / "new.qcow2")
    with Opened(path) as opened:
        assert opened.warnings == []
    run("qemu-io", "-c", "write -q -P 1 0 1M", str(path))
    data = bytearray(path.read_bytes())
    (l1_offset,) = struct.unpack_from(">Q", data, 40)
    for change in (data[: len(data) - 65536], data[:l1_offset] + bytes(8) + data[l1_offset + 8 :]):
        path.write_bytes(change)
        with Opened(path) as opened:
            assert not any("killed" in warning for warning in opened.warnings)


# ---- OpenStack Nova and Incus ----------------------------------------------------


def test_nova_instance(tmp_path):
    """`disk`, without an extension, over a raw `_base/SHA1` that is shorter."""
    name = "/var/lib/nova/instances/_base/3b5d5c3712955042212316173ccf37be8000ff4a"
    folders = tmp_path / "instances/5e3a", tmp_path / "instances/_base"
    for folder in folders:
        folder.mkdir(parents=True)
    base = folders[1] / os.path.basename(name)
    base.write_bytes(b"\x01" * 300 * K)
    disk = create(folders[0] / "disk", backing=name, backing_format="raw")
    write(disk, 2, 0)
    refused(disk, "DENIED", "absolute path", "backing=", "search=")
    whole = expected((1, 0, 300 * K), (2, 0, 64 * K))
    for options in ({"search": [folders[1]]}, {"backing": [base]}):
        assert content(disk, **options) == whole
    result = tools.run("img_cat", f"{disk},search={folders[1]}")
    assert (result.returncode, result.stdout) == (0, whole)
    text = info("--chain", f"{disk},backing={base}").stdout
    assert "shorter than that of the layer above" in text


def test_incus_export_without_its_base(tmp_path):
    """What there is, is read; what the base had is an error, until the user says otherwise."""
    disk = create(tmp_path / "root.qcow2", backing="/dev/incus/images_0123456789abcdef")
    write(disk, 2, 0)
    refused(disk, "DENIED", "images_0123456789abcdef", "backing=")
    assert content(disk, backing=["none"]) == expected((2, 0, 64 * K))
    assert info(disk).returncode == 0


# ---- libvirt ---------------------------------------------------------------------

BASE = "/var/lib/libvirt/images/base.qcow2"
DESCRIPTIONS = {
    "plain": {"driver": "qcow2", "file": {"driver": "file", "filename": BASE}},
    "dotted": {"driver": "qcow2", "file.driver": "file", "file.filename": BASE},
    "its own base": {
        "backing": {"driver": "raw", "file": {"driver": "file", "filename": "/x/other.raw"}},
        "driver": "qcow2",
        "file": {"driver": "file", "filename": BASE},
    },
    "dotted base": {"backing.file.filename": "/x/other.raw", "file.filename": BASE},
    "a device": {"driver": "qcow2", "file": {"driver": "host_device", "filename": BASE}},
}


def chain_under(tmp_path, name):
    """An overlay with that backing name, and base.qcow2 in another directory."""
    folder = tmp_path / "bases"
    folder.mkdir(exist_ok=True)
    create(folder / "base.qcow2")
    run("qemu-io", "-c", "write -q -P 1 0 256k", str(folder / "base.qcow2"))
    image = Image(size=MIB, backing=os.fsencode(name), backing_format=b"qcow2")
    image.disk.normal(0, b"\x02" * 65536)
    return image.write(tmp_path / "top.qcow2"), folder


WHOLE = expected((1, 0, 256 * K), (2, 0, 64 * K))


@pytest.mark.parametrize("how", DESCRIPTIONS)
@pytest.mark.parametrize("escaped", (False, True))
def test_libvirt_json_reference(how, escaped, tmp_path):
    """The file name in it is shown, and searched for. Nothing of it is followed."""
    text = json.dumps(DESCRIPTIONS[how])
    text = text.replace("/", "\\/") if escaped else text
    top, folder = chain_under(tmp_path, f"json:{text}")
    error = refused(top, "DENIED", "backing=", "search=")
    assert f'the file name in it is "{BASE}"' in error.message
    assert content(top, search=[folder]) == WHOLE
    assert content(top, backing=[folder / "base.qcow2"]) == WHOLE
    shutil.copy(folder / "base.qcow2", tmp_path / "base.qcow2")
    error = refused(top, "DENIED", 'A file named "base.qcow2" lies beside it')


@pytest.mark.parametrize(
    "text",
    (
        "",
        "{",
        "{}",
        '"',
        '{"filename',
        '{"filename":',
        '{"filename":"',
        '{"filename":1}',
        '{"filename":["base.qcow2"]}',
        '{"filename":"bases/.."}',
        '{"filename":"bases/"}',
        '{"filename":"\\u0000base.qcow2"}',
        '{"filename":"b\\u00e4se.qcow2"}',
        '{"filename":"nbd://host/base.qcow2"}',
        '{"a.filename":"base.qcow2","b.filename":"other.qcow2"}',
        '{"backing":{"file":{"filename":"base.qcow2"}}}',
        '{"data-file":{"filename":"base.qcow2"}}',
        '{"backing.filename":"base.qcow2"}',
        '{"file":"filename","x":"base.qcow2"}',
        "[" * 900,
        "}" * 900,
        '{"filename":"' + "\\" * 800,
    ),
    ids=lambda text: text[:40] or "nothing",
)
def test_json_references_without_a_file_name(text, tmp_path):
    """Nothing is guessed."""
    top, folder = chain_under(tmp_path, f"json:{text}")
    refused(top, "DENIED", search=[folder])
    refused(top, "DENIED", "backing=")


@pytest.mark.parametrize(
    "name", ("nbd://localhost:10809/drive-scsi0", "nbd:unix:/run/x:exportname=base.qcow2")
)
def test_libvirt_nbd_reference(name, tmp_path):
    """After a block job; no name of a file is in it."""
    top, folder = chain_under(tmp_path, name)
    refused(top, "DENIED", name, "protocol", "backing=")
    refused(top, "DENIED", search=[folder])
    assert content(top, backing=[folder / "base.qcow2"]) == WHOLE


# ---- Windows ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    (
        "C:\\Users\\me\\.android\\avd\\base.qcow2",
        "C:\\Users\\me\\.android/avd/base.qcow2",
        "d:/vm/base.qcow2",
        "\\\\server\\share\\base.qcow2",
        "..\\bases\\base.qcow2",
    ),
)
def test_windows_reference(name, tmp_path):
    """As the Android emulator writes them: the part after the last backslash is searched for."""
    top, folder = chain_under(tmp_path, name)
    error = refused(top, "DENIED", "Windows", "backing=", "search=")
    assert "base.qcow2" in error.message
    assert content(top, search=[folder]) == WHOLE
    with Named(f"{top},search={folder}") as named:
        assert named.read(0, MIB) == WHOLE
