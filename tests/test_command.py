# SPDX-License-Identifier: MIT
"""The tsk-qcow2 command, installed into a prefix: run, enable, disable, status, info."""
import json
import os
import re
import struct

import pytest
from lib import tools
from lib.builder import Image
from lib.encrypted import create
from lib.namespace import CLEAN, in_namespace
from lib.project import COMMAND, SOURCE, can_change_user, json_keys, run, run_line


@pytest.fixture
def built():
    """The command as it is in the build, which needs no installation as long as it runs no tool."""
    return str(COMMAND)


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """An ext4 file system in a qcow2 with a snapshot."""
    directory = tmp_path_factory.mktemp("disk")
    files = directory / "files"
    files.mkdir()
    (files / "hello.txt").write_text("hello\n")
    run_line("mke2fs -q -F -t ext4 -d", files, directory / "disk.raw", "8M", env=CLEAN)
    run_line("qemu-img convert -f raw -O qcow2", directory / "disk.raw", directory / "disk.qcow2")
    run_line("qemu-img snapshot -c first", directory / "disk.qcow2")
    return directory / "disk.qcow2"


# ---- run -------------------------------------------------------------------------


def test_run_makes_a_tool_understand_qcow2(command, disk):
    plain = run("fls", "-i", "qcow2", disk, env={**CLEAN, **tools.stock()}, check=False)
    assert plain.returncode != 0 and "Unsupported image type" in plain.stderr
    assert (
        "hello.txt" in run(command, "run", "fls", "-i", "qcow2", f"{disk}@first", env=CLEAN).stdout
    )


def test_run_passes_on_status_and_arguments(command):
    assert run(command, "run", "sh", "-c", "exit 7", env=CLEAN, check=False).returncode == 7
    assert run(command, "run", "no-such-tool", env=CLEAN, check=False).returncode == 127
    assert run(command, "run", env=CLEAN, check=False).returncode == 2


def test_run_keeps_the_library_path(command):
    result = run(
        command,
        "run",
        "sh",
        "-c",
        "echo $LD_LIBRARY_PATH",
        env=dict(CLEAN, LD_LIBRARY_PATH="/opt/x"),
    )
    assert result.stdout.strip().endswith("/dropin:/opt/x")
    result = run(command, "run", "sh", "-c", "echo $LD_LIBRARY_PATH", env=CLEAN)
    assert result.stdout.strip().endswith("/dropin")


# ---- enable, disable, status: in a mount namespace with an /etc of its own -------

STATE = (
    "{ ls -l /etc/ld.so.conf.d | cut -d' ' -f1,5-; cat /etc/ld.so.conf.d/*; ldconfig -p; md5sum"
    " </etc/ld.so.cache; }"
)


def test_enable_then_plain_fls_then_disable(command, disk):
    result = in_namespace(
        f"""
        {STATE} > $etc/before
        {command} status > $etc/status || test $? = 3
        grep -q '^Enabled: *no' $etc/status
        {command} enable
        env -i /usr/bin/fls -i qcow2 {disk}@first
        env -i /usr/bin/fls {disk}
        env -i /usr/bin/tsk_recover -a {disk} $etc/recovered
        cat $etc/recovered/hello.txt
        {command} status
        {command} enable
        {command} disable
        {STATE} > $etc/after
        cmp $etc/before $etc/after
        env -i /usr/bin/fls -i qcow2 {disk} 2>&1 | grep Unsupported"""
    )
    assert result.stdout.count("hello.txt") == 2
    assert "\nhello\n" in result.stdout
    assert "Enabled:             yes" in result.stdout
    assert "Calls inside libtsk: reach the plugin" in result.stdout
    assert "Unsupported image type" in result.stdout


def test_enable_leaves_another_libtsk_of_the_same_soname_alone(command):
    """One below /usr/local, say: its programs need not work with the libtsk that the plugin
    loads."""
    result = in_namespace(
        f"""
        mkdir $etc/own
        cp $(ldconfig -p | sed -n 's/.*libtsk.so.[0-9]* .*=> //p' | head -n 1) $etc/own
        echo $etc/own > /etc/ld.so.conf.d/00-own.conf
        ldconfig
        ! {command} enable
        ls /etc/ld.so.conf.d"""
    )
    assert re.search(r"programs here load \S*/own/libtsk.so", result.stderr), result.stderr
    assert "tsk-qcow2" not in result.stdout


def test_status_asks_fls_itself(command, tmp_path):
    """It may load another libtsk: then it is as it was, and status says why it does not know
    qcow2."""
    (tmp_path / "fls").write_text("#!/bin/sh\nenv -i /usr/bin/fls -i list 2>&1 | grep -v qcow2\n")
    (tmp_path / "fls").chmod(0o755)
    result = in_namespace(
        f"{command} enable; {command} status; PATH={tmp_path}:$PATH {command} status; "
        f"PATH={tmp_path}/nowhere /bin/sh -c '{command} status'"
    )
    answers = [
        line.split(":")[1].strip() for line in result.stdout.splitlines() if line.startswith("fls:")
    ]
    assert len(answers) == 3 and answers[0] == "knows qcow2"
    assert answers[1].startswith("does not know qcow2") and answers[2].startswith("does not start")


def test_enable_is_not_fooled_by_the_library_path(command):
    """Another file that sorts before ours names libtsk's directory: enable must see that it does
    not help."""
    result = in_namespace(
        f"""
        dirname $(ldconfig -p | sed -n 's/.*libtsk.so.[0-9]* .*=> //p' | head -n 1) \\
            > /etc/ld.so.conf.d/00-aaa.conf
        ldconfig
        ! {command} run {command} enable
        ls /etc/ld.so.conf.d"""
    )
    assert "does not pick" in result.stderr and "tsk-qcow2" not in result.stdout


def test_enable_twice_keeps_it_whatever_the_library_path(command):
    result = in_namespace(
        f"""
        {command} enable
        LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu {command} enable
        {command} status"""
    )
    assert "Already enabled" in result.stdout and "Enabled:             yes" in result.stdout


def test_disable_when_not_enabled(command):
    in_namespace(f"{command} disable; {command} disable")


def test_enable_without_the_plugin_changes_nothing(command):
    (dropin,) = command.parents[1].glob("lib/tsk-qcow2/dropin")
    result = in_namespace(
        f"mount -t tmpfs none {dropin}; {STATE} > $etc/before; ! {command} enable; "
        f"{STATE} > $etc/after; cmp $etc/before $etc/after"
    )
    assert "not installed" in result.stderr


@pytest.mark.parametrize("word", ["enable", "disable"])
def test_without_root_it_says_so(command, word):
    if os.geteuid() == 0 and not can_change_user():
        pytest.skip("there is no user but root here")
    other = ["setpriv", "--reuid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    result = run(*other, command, word, env=CLEAN, check=False)
    assert result.returncode != 0
    assert "needs root" in result.stderr or "Permission denied" in result.stderr


# ---- info ------------------------------------------------------------------------


def test_info_agrees_with_qemu_img(built, disk):
    ours = json.loads(run(built, "info", "--json", disk).stdout)
    theirs = json.loads(run_line("qemu-img info --output=json", disk).stdout)
    assert ours["format"] == theirs["format"] == "qcow2"
    assert ours["header"]["virtual_size"] == theirs["virtual-size"]
    assert ours["header"]["cluster_size"] == theirs["cluster-size"]
    assert [(s["id"], s["name"], s["date_seconds"]) for s in ours["snapshots"]] == [
        (s["id"], s["name"], s["date-sec"]) for s in theirs["snapshots"]
    ]
    assert ours["warnings"] == []


def test_info_json_is_as_documented(built, disk, tmp_path):
    """Each key that is printed is documented, and each that is documented is printed."""
    locked = tmp_path / "locked.qcow2"
    create(locked, "1M")
    marked = tmp_path / "marked.qcow2"
    run_line("qemu-img create -q -f qcow2 -o lazy_refcounts=on", marked, "1M")
    run_line("qemu-img bitmap --add", marked, "bits")
    printed = set().union(
        *(
            json_keys(json.loads(run(built, "info", "--json", path).stdout))
            for path in (disk, locked, marked)
        )
    )
    with open(os.path.join(SOURCE, "docs", "info-json.md")) as file:
        text = file.read()
    values = {
        "qcow",
        "qcow2",
        "raw",
        "incompatible",
        "compatible",
        "autoclear",
        "deflate",
        "zstd",
        "none",
        "aes",
        "luks",
        "null",
    }
    whole, recovered = text.split("\n`recovered`:")  # test_recovered.py compares the latter
    documented = set(re.findall(r"`([a-z0-9_]+)`", whole))
    assert documented - values | {"luks"} == printed and "`in_recovered_disk`" in recovered


LARGEST = (1 << 64) - 1


def test_json_numbers_are_exact(built, tmp_path):
    """Also those that a signed integer of 64 bits cannot hold; and no text is taken for one."""
    image = Image(1 << 20, cluster_bits=12)
    names = [b"\x01123", b'"\x01123', b"\\u0001123", b'\\"\\u0001123"', b"123"]
    sizes = [LARGEST, LARGEST - 1, 1 << 63, (1 << 63) - 1, 0]
    for name, size in zip(names, sizes):
        image.snapshot(b"1", name, clock=size, extra=struct.pack(">QQ", size, size - 1 & LARGEST))
    path = image.write(tmp_path / "disk.qcow2")
    described = run(built, "info", "--json", path, check=False)
    assert described.returncode == 4, "such disks cannot be read"
    out = described.stdout
    found = json.loads(out)["snapshots"]
    assert [
        (one["vm_clock_nanoseconds"], one["vm_state_size"], one["disk_size"]) for one in found
    ] == [(size, size, size - 1 & LARGEST) for size in sizes]
    assert [one["name"] for one in found] == [
        r"\x01123",
        r'"\x01123',
        r"\x5cu0001123",
        r'\x5c"\x5cu0001123"',
        "123",
    ]
    unread = json.loads(run(built, "verify", "--json", "--no-hash", path, check=False).stdout)[
        "not_read"
    ]
    # The sum is more than that.
    assert unread == {
        "vm_states": 4,
        "vm_state_bytes": None,
        "other_disks": 0,
    }


def test_info_says_what_qemu_img_info_says(built, tmp_path):
    image = tmp_path / "disk.qcow2"
    options = (
        "compat=1.1,lazy_refcounts=on,refcount_bits=8,compression_type=zstd,extended_l2=on,"
        "data_file=disk.data,data_file_raw=on"
    )
    run_line(f"qemu-img create -q -f qcow2 -o {options}", image, "3M", cwd=tmp_path)
    theirs = json.loads(run_line("qemu-img info --output=json", image.name, cwd=tmp_path).stdout)
    ours = json.loads(run(built, "info", "--json", image).stdout)
    header, layer, data = ours["header"], ours["layers"][0], theirs["format-specific"]["data"]
    bits = {
        kind: {f["bit"] for f in header[f"{kind}_features"]}
        for kind in ("incompatible", "compatible", "autoclear")
    }
    assert header["virtual_size"] == theirs["virtual-size"]
    assert layer["allocated_size"] == theirs["actual-size"]
    assert (0 in bits["incompatible"]) == theirs["dirty-flag"]
    assert (1 in bits["incompatible"]) == data["corrupt"]
    assert (4 in bits["incompatible"]) == data["extended-l2"]
    assert (0 in bits["compatible"]) == data["lazy-refcounts"]
    assert (1 in bits["autoclear"]) == data["data-file-raw"]
    assert header["compression"] == data["compression-type"] == "zstd"
    assert header["refcount_bits"] == data["refcount-bits"] == 8
    assert header["data_file"] == data["data-file"]
    assert {"1.1": 3, "0.10": 2}[data["compat"]] == header["version"]


def test_info_opens_no_other_file(built, disk, tmp_path):
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -u -b /nonexistent/base.raw -F raw", overlay, "1M")
    assert "/nonexistent/base.raw" in run(built, "info", overlay).stdout
    failed = run(built, "info", "--chain", overlay, check=False)
    assert failed.returncode == 1 and "backing=" in failed.stderr


def test_info_chain_lists_the_files(built, disk, tmp_path):
    overlay = disk.parent / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b", disk.name, "-F", "qcow2", overlay)
    layers = json.loads(run(built, "info", "--chain", "--json", overlay).stdout)["layers"]
    assert [layer["path"] for layer in layers] == [str(overlay), str(disk)]


def test_info_escapes_hostile_names(built, tmp_path):
    image = tmp_path / "hostile.qcow2"
    run_line("qemu-img create -q -f qcow2", image, "1M")
    run_line("qemu-img snapshot -c", "a\x1b[2Jb\nc", image)
    text = run(built, "info", image).stdout
    assert "\x1b" not in text and "a\\x1b[2Jb\\x0ac" in text
    assert (
        json.loads(run(built, "info", "--json", image).stdout)["snapshots"][0]["name"]
        == "a\\x1b[2Jb\\x0ac"
    )


def test_info_reports_a_missing_file_and_bad_usage(built):
    result = run(built, "info", "/nonexistent", check=False)
    assert result.returncode == 1 and "there is no file" in result.stderr
    for arguments in ([], ["--wrong", "x"], ["a", "b"]):
        assert run(built, "info", *arguments, check=False).returncode == 2


def test_help_and_version(built):
    assert "Image names" in run(built, "--help").stdout
    assert run(built, "--version").stdout.startswith("tsk-qcow2 ")
    assert run(built, check=False).returncode == 2
    assert run(built, "nonsense", check=False).returncode == 2


# ---- snapshots -------------------------------------------------------------------


def test_snapshots_is_a_short_table(built, disk):
    lines = run(built, "snapshots", disk).stdout.splitlines()
    assert lines[0].split() == [
        "Index",
        "ID",
        "Date",
        "Disk",
        "size",
        "VM",
        "state",
        "size",
        "Name",
    ]
    assert (
        lines[1].split()[:2] == ["0", "1"]
        and lines[1].endswith("  first")
        and str(8 << 20) in lines[1]
    )


def test_snapshots_that_share_name_and_id_open_by_index(command, tmp_path):
    """An image's maker can give two snapshots the same ID and name, or none at all."""
    image = tmp_path / "twins.qcow2"
    run_line("qemu-img create -q -f qcow2", image, "1M")
    for name, pattern in (("twin", 0x11), ("tw2n", 0x22)):
        run("qemu-io", "-c", f"write -q -P {pattern} 0 1M", image)
        run_line("qemu-img snapshot -c", name, image)
    data = image.read_bytes()
    at = data.index(b"2tw2n")  # the ID and the name of the second
    image.write_bytes(data[:at] + b"1twin" + data[at + 5 :])
    failed = run(command, "run", "img_cat", f"{image}@twin", env=CLEAN, check=False)
    assert failed.returncode != 0 and "@index=N" in failed.stderr
    for index, byte in enumerate(("11", "22")):
        script = f"{command} run img_cat {image}@index={index} | head -c 4 | od -An -tx1"
        assert run("sh", "-c", script, env=CLEAN).stdout.split() == [byte] * 4
    for wrong in ("2", "-1", "x", ""):
        failed = run(command, "run", "img_cat", f"{image}@index={wrong}", env=CLEAN, check=False)
        assert failed.returncode != 0 and "no snapshot of that index" in failed.stderr
