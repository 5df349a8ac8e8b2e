# SPDX-License-Identifier: MIT
"""Backing and data files in formats of others: VMDK, VHD, E01, AFF, raw in parts; and files whose
format is not clear."""
import gzip
import hashlib
import json
import lzma
import os
import random
import shutil

import pytest
import qcow2core
from lib import oracle, tools
from lib.namespace import without_libtsk
from lib.project import BUILD, COMMAND, run, run_line


SIZE = 12 << 20


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A raw disk of random and zero parts."""
    path = tmp_path_factory.mktemp("foreign") / "base.raw"
    chooser = random.Random(5)
    path.write_bytes(
        b"".join(
            chooser.randbytes(65536) if chooser.random() < 0.6 else bytes(65536)
            for _ in range(SIZE // 65536)
        )
    )
    return path


def overlay_over(base, name, declared, directory):
    """An overlay over `name`, which has the base's content, with some bytes of its own; and the
    content of both."""
    overlay, expected = directory / "overlay.qcow2", directory / "expected.raw"
    run_line("qemu-img create -q -f qcow2 -b", name, "-F", declared, overlay, SIZE)
    shutil.copy(base, expected)
    for target, form in ((overlay, "qcow2"), (expected, "raw")):
        run(
            "qemu-io",
            "-f",
            form,
            "-c",
            "write -P 0x77 1M 64k",
            "-c",
            "write -P 0x78 4M 1000",
            target,
        )
    return overlay, expected


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("QCOW2CORE_LIBRARY", f"{BUILD}/core/.libs/libqcow2core.so")
    return tmp_path / "home"


def by_tool(*names, environment=None):
    result = tools.run(
        "img_cat",
        "-i",
        "qcow2",
        *names,
        environment={"HOME": os.environ["HOME"], **(environment or {})},
    )
    assert result.returncode == 0 and result.complaint == "", result.complaint
    return hashlib.sha256(result.stdout).hexdigest()


def by_command(name):
    result = run(COMMAND, "verify", "--json", name)
    return json.loads(result.stdout)["states"][0]["sha256"]


def by_python(*names):
    with qcow2core.open(*names) as disk:
        assert disk.warnings == []
        return hashlib.sha256(disk.read()).hexdigest()


def by_selector(name, folder, environment=None):
    """A selector that the command writes into the folder."""
    folder.mkdir()
    run(COMMAND, "selector", "--directory", folder, name)
    (path,) = folder.iterdir()
    return by_tool(path, environment=environment)


def sha256(*names, environment=None):
    """What every way in says, without complaint. `environment` is for the tool."""
    found = {by_tool(*names, environment=environment), by_python(*names)}
    if len(names) == 1:
        found.add(by_command(names[0]))
    (only,) = found
    return only


def refused_every_way(name, *words):
    """By every way in, with the same words."""
    tools.assert_refused(tools.run("img_cat", "-i", "qcow2", name), *words)
    result = run(COMMAND, "verify", name, check=False)
    assert result.returncode == 1 and result.stdout == "", result.stdout
    assert all(word in result.stderr for word in words), result.stderr
    with pytest.raises(qcow2core.Error) as caught:
        qcow2core.open(name)
    assert all(word in str(caught.value) for word in words)


def convert(base, form, name, directory):
    run_line("qemu-img convert -f raw -O", form, base, directory / name)


def test_declared_vhd_opens_by_itself(base, tmp_path):
    run_line("qemu-img convert -f raw -O vpc -o force_size=on", base, tmp_path / "base.vhd")
    overlay, expected = overlay_over(base, "base.vhd", "vpc", tmp_path)
    assert sha256(overlay) == oracle.sha256(expected) == oracle.convert(overlay)


def test_declared_vmdk_needs_the_users_word(base, tmp_path):
    """A VMDK can name further files, so one that only the image names is not opened."""
    convert(base, "vmdk", "base.vmdk", tmp_path)
    overlay, expected = overlay_over(base, "base.vmdk", "vmdk", tmp_path)
    refused_every_way(overlay, "vmdk", "backing=PATH")
    assert (
        sha256(f"{overlay},backing={tmp_path}/base.vmdk")
        == oracle.sha256(expected)
        == oracle.convert(overlay)
    )
    assert sha256(overlay, tmp_path / "base.vmdk") == oracle.sha256(expected)


def acquire(disk, target, *options):
    """An E01 of a raw disk."""
    if shutil.which("ewfacquirestream") is None:
        pytest.skip("ewfacquirestream (ewf-tools) is not installed")
    with open(disk, "rb") as source:
        run_line("ewfacquirestream -q -f encase6 -t", target, *options, stdin=source)


@pytest.fixture()
def e01(base, tmp_path):
    """An E01 of the base, in several segments."""
    acquire(base, tmp_path / "base", "-S", "2MiB")
    assert (tmp_path / "base.E02").exists()  # in several segments
    return tmp_path / "base.E01"


@pytest.mark.parametrize("declared", ["raw", "qcow2", None])
def test_e01_that_the_user_names(base, e01, tmp_path, declared):
    """Whatever the image declares, which was true of the machine that used it: the name that the
    user typed decides."""
    original = tmp_path / ("base.qcow2" if declared == "qcow2" else "base.raw")
    convert(base, declared or "raw", original.name, tmp_path)
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b", original.name, "-F", declared or "raw", overlay)
    run("qemu-io", "-c", "write -P 0x77 1M 64k", "-c", "write -P 0x78 4M 1000", overlay)
    expected = oracle.convert(overlay)
    if declared is None:
        drop_backing_format(overlay)
    os.remove(original)
    assert sha256(f"{overlay},backing={e01}") == sha256(overlay, e01) == expected


def drop_backing_format(image):
    """Turn the backing format extension into an unknown one."""
    data = image.read_bytes()
    at = data.index(bytes.fromhex("e2792aca"), 0, 65536)
    image.write_bytes(data[:at] + bytes.fromhex("12345678") + data[at + 4 :])


def test_aff_that_the_user_names(base, tmp_path):
    if shutil.which("affconvert") is None:
        pytest.skip("affconvert (afflib-tools) is not installed")
    shutil.copy(base, tmp_path / "base.raw")
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b base.raw -F raw", overlay)
    run("qemu-io", "-c", "write -P 0x77 1M 64k", overlay)
    expected = oracle.convert(overlay)
    run("affconvert", "-q", tmp_path / "base.raw")
    os.remove(tmp_path / "base.raw")
    assert sha256(f"{overlay},backing={tmp_path}/base.aff") == expected


def starts_as(tmp_path, start, name="disk.img", declared="raw"):
    """A raw disk that starts with these bytes, and an overlay over it that declares its format, or
    not."""
    disk, overlay = tmp_path / name, tmp_path / "overlay.qcow2"
    disk.write_bytes(start + bytes(SIZE - len(start)))
    run_line("qemu-img create -q -f qcow2 -b", name, "-F", declared or "raw", "-u", overlay, SIZE)
    if declared is None:
        drop_backing_format(overlay)
    return disk, overlay


QCOW2 = b"QFI\xfb\0\0\0\3"
SIGNATURES = {  # first bytes, and the format= that the error offers besides raw
    "VMDK": (b'# Disk DescriptorFile\nversion=1\nRW 2048 FLAT "/etc/passwd" 0\n', "vmdk"),
    "sparse VMDK": (b"KDMV\1\0\0\0", "vmdk"),
    "VHD": (b"conectix\0\0\0\2", "vhd"),
    "EWF": (b"EVF\t\r\n\xff\0\1\1\0", "ewf"),
    "AFF": (b"AFF10\r\n\0", "aff"),
    "qcow2": (QCOW2, "qcow2"),
    "qcow version 1": (b"QFI\xfb\0\0\0\1", "qcow"),
    "VHDX": (b"vhdxfile", None),
    "VDI": (b"<<< Oracle VM VirtualBox Disk Image >>>", None),
    "QED": (b"QED\0", None),
    "gzip": (gzip.compress(b"disk"), None),
    "xz": (lzma.compress(b"disk"), None),
    "bzip2": (b"BZh91AY&SY", None),
    "zstd": (b"\x28\xb5\x2f\xfd", None),
    "zip": (b"PK\3\4", None),
    "7-Zip": (b"7z\xbc\xaf\x27\x1c", None),
}


@pytest.mark.parametrize("title", SIGNATURES)
def test_bytes_that_contradict_the_declaration(title, tmp_path):
    """A guest can write such bytes into its raw disk: what only the image names is read as it
    declares. What the user names may be another copy than the machine had, so the user is asked."""
    start, offered = SIGNATURES[title]
    disk, overlay = starts_as(tmp_path, start)
    name = f"{overlay},backing={disk}"
    assert sha256(overlay) == oracle.sha256(disk)
    words = {None: "cannot be read here"} | {
        each: "is compressed by" for each in ("gzip", "xz", "bzip2", "zstd", "zip", "7-Zip")
    }
    refused_every_way(
        name,
        title.split()[-1] if title == "sparse VMDK" else title,
        f",format={offered}" if offered else words.get(title, words[None]),
        '",backing=PATH,format=raw"',
    )
    assert sha256(f"{name},format=raw") == oracle.sha256(disk)
    assert by_selector(f"{name},format=raw", tmp_path / "cases") == oracle.sha256(disk)


@pytest.mark.parametrize("title", SIGNATURES)
def test_bytes_without_a_declaration(title, tmp_path):
    """They are not taken for raw either; but for qcow2, which then is trusted with nothing."""
    start, _ = SIGNATURES[title]
    disk, overlay = starts_as(tmp_path, start, declared=None)
    for name in (overlay, f"{overlay},backing={disk}"):
        refused_every_way(name, *([] if title.startswith("qcow") else ["format=raw"]))
    assert sha256(f"{overlay},backing={disk},format=raw") == oracle.sha256(disk)


def test_a_guest_that_encrypts_its_disk(tmp_path):
    disk, overlay = starts_as(tmp_path, b"LUKS\xba\xbe\0\1")
    assert sha256(overlay) == sha256(f"{overlay},backing={disk}") == oracle.sha256(disk)


def test_a_footer_counts(tmp_path):
    """A VHD of fixed size begins with the disk, and ends with its mark."""
    disk, overlay = starts_as(tmp_path, b"")
    with open(disk, "ab") as file:
        file.write(b"conectix" + bytes(504))
    refused_every_way(f"{overlay},backing={disk}", "VHD", "format=vhd", "format=raw")


@pytest.mark.parametrize("declared", ["vmdk", "vpc", "vdi", "luks", "qed", "parallels"])
@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_converted_base(base, declared, form, tmp_path):
    """The user's copy is raw or qcow2 though the machine had another: the name or the content says
    so."""
    convert(base, form, f"base.{form}", tmp_path)
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b base.old -F", declared, "-u", overlay, SIZE)
    assert sha256(f"{overlay},backing={tmp_path}/base.{form}") == oracle.sha256(base)
    (tmp_path / f"base.{form}").rename(tmp_path / "base.img")
    if form == "qcow2":
        assert sha256(f"{overlay},backing={tmp_path}/base.img") == oracle.sha256(base)
    else:
        refused_every_way(
            f"{overlay},backing={tmp_path}/base.img",
            "format=" if declared == "vpc" or declared == "vmdk" else "format=raw",
        )
    assert sha256(f"{overlay},backing={tmp_path}/base.img,format={form}") == oracle.sha256(base)


def test_a_base_that_became_qcow2(base, tmp_path):
    """The overlay declares raw; the user's file is named as qcow2 and is qcow2."""
    convert(base, "qcow2", "base.qcow2", tmp_path)
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b base.img -F raw -u", overlay, SIZE)
    assert sha256(f"{overlay},backing={tmp_path}/base.qcow2") == oracle.sha256(base)


@pytest.mark.parametrize("name, word", [("base.qcow2", ""), ("base.img", ",format=qcow2")])
def test_a_name_that_the_bytes_contradict(name, word, tmp_path):
    disk, overlay = starts_as(tmp_path, b"plain", name)
    assert sha256(overlay) == oracle.sha256(disk)
    refused_every_way(f"{overlay},backing={disk}{word}", "qcow2", "format=raw")


def test_a_renamed_vmdk(base, tmp_path):
    """Its content and the declaration agree; or the user says it."""
    convert(base, "vmdk", "base.img", tmp_path)
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b base.img -F vmdk", overlay)
    name = f"{overlay},backing={tmp_path}/base.img"
    assert sha256(name) == sha256(f"{name},format=vmdk") == oracle.sha256(base)


# ---- Data files ------------------------------------------------------------------


@pytest.fixture
def apart(base, tmp_path):
    """An image whose data file is the base."""
    image, data = tmp_path / "apart.qcow2", tmp_path / "guest.data"
    run_line(
        "qemu-img convert -f raw -O qcow2 -o data_file=guest.data,data_file_raw=on",
        base,
        image.name,
        cwd=tmp_path,
    )
    return image, data


def test_a_data_file_as_e01(base, apart, e01, tmp_path):
    image, data = apart
    os.remove(data)
    assert sha256(f"{image},data-file={e01}") == oracle.sha256(base)
    environment = tools.way_round_e01()  # a selector's name does not show it
    assert by_selector(
        f"{image},data-file={e01}", tmp_path / "cases", environment
    ) == oracle.sha256(base)
    refused_every_way(
        f"{image},data-file={e01.rename(tmp_path / 'base.data')}",
        "EWF",
        "data-file=PATH,format=ewf",
    )


def test_a_data_file_that_starts_as_qcow2(apart):
    image, data = apart
    with open(data, "r+b") as file:
        file.write(QCOW2)
    assert sha256(image) == oracle.sha256(data)
    refused_every_way(f"{image},data-file={data}", "qcow2", "data-file=PATH,format=raw")
    assert sha256(f"{image},data-file={data},format=raw") == oracle.sha256(data)


# ---- Raw disks in several parts --------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("d.001", "d.002", "d.003"),
        ("d.000", "d.001"),
        ("d_01", "d_02"),
        ("d.aa", "d.ab"),
        ("xaaa", "xaab"),
        ("d.dmg", "d.002.dmgpart"),
        ("d.bin", "d(2).bin"),
    ],
)
def test_parts_of_a_raw_disk_are_joined(base, names, tmp_path):
    """As The Sleuth Kit does."""
    overlay, data = tmp_path / "overlay.qcow2", base.read_bytes()
    step = SIZE // len(names)
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(data[i * step : (i + 1) * step])
    run_line("qemu-img create -q -f qcow2 -b whole.raw -F raw -u", overlay, SIZE)
    name = f"{overlay},backing={tmp_path}/{names[0]}"
    assert sha256(name) == sha256(f"{name},format=raw") == oracle.sha256(base)
    assert by_selector(name, tmp_path / "cases") == oracle.sha256(base)
    assert hashlib.sha256(
        tools.run("img_cat", "-i", "raw", tmp_path / names[0]).stdout
    ).hexdigest() == oracle.sha256(base)


def test_a_first_part_alone_is_raw(base, tmp_path):
    shutil.copy(base, tmp_path / "d.001")
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b d.raw -F raw -u", overlay, SIZE)
    assert sha256(f"{overlay},backing={tmp_path}/d.001") == oracle.sha256(base)


def test_an_image_names_one_part(base, tmp_path):
    """The machine read this file and no other."""
    (tmp_path / "d.001").write_bytes(base.read_bytes()[: SIZE // 2])
    (tmp_path / "d.002").write_bytes(base.read_bytes()[SIZE // 2 :])
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b d.001 -F raw", overlay, SIZE)
    assert sha256(overlay) == oracle.convert(overlay)


# ---- Selectors -------------------------------------------------------------------


@pytest.mark.parametrize("make", ["vmdk", "vpc", "E01", "parts"])
def test_a_selector_beside_the_image(base, make, request, tmp_path):
    """All lies below its directory, but libtsk may be led further by such files: the selector is
    signed, and one that is not is refused."""
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b base.raw -F raw -u", overlay, SIZE)
    environment = {}
    if make == "E01":
        name = request.getfixturevalue("e01").name
        environment = tools.way_round_e01()  # a selector's name does not show it
    elif make == "parts":
        name = "base.001"
        (tmp_path / name).write_bytes(base.read_bytes()[: SIZE // 2])
        (tmp_path / "base.002").write_bytes(base.read_bytes()[SIZE // 2 :])
    else:
        name = "base." + {"vpc": "vhd"}.get(make, make)
        run_line(
            "qemu-img convert -f raw -O",
            make,
            *(["-o", "force_size=on"] if make == "vpc" else []),
            base,
            tmp_path / name,
        )
    run(COMMAND, "selector", "--directory", ".", f"overlay.qcow2,backing={name}", cwd=tmp_path)
    written = tmp_path / "overlay-active.img"
    assert by_tool(written, environment=environment) == oracle.sha256(base)
    unsigned = tmp_path / "unsigned.img"
    unsigned.write_text(f"TSK-QCOW2-SELECTOR 1\n./overlay.qcow2,backing=./{name}\n")
    result = tools.run("img_cat", unsigned)
    tools.assert_refused(result, "only if you name it", "tsk-qcow2 selector '")
    command = result.complaint[result.complaint.index("tsk-qcow2 selector '") :].rstrip(")\n")
    (tmp_path / "case").mkdir()
    # What it says works.
    run("sh", "-c", command.replace("tsk-qcow2", str(COMMAND), 1), cwd=tmp_path / "case")
    assert by_tool(tmp_path / "case/overlay-active.img", environment=environment) == oracle.sha256(
        base
    )


# ---- Damaged E01 -----------------------------------------------------------------


def over_e01(e01):
    overlay = e01.parent / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b base.raw -F raw -u", overlay, SIZE)
    return f"{overlay},backing={e01}"


def test_e01_with_a_missing_segment(base, e01):
    """libewf gives zeros and success for what is lost; here it is an error, reported at once and
    where it is read."""
    name = over_e01(e01)
    os.remove(e01.with_suffix(".E02"))
    expected = base.read_bytes()
    with qcow2core.open(name) as disk:
        assert "segments of this EWF image are missing" in disk.warnings[0]
        lost = 0
        for offset in range(0, SIZE, 65536):
            try:
                assert disk.read_at(offset, 65536) == expected[offset : offset + 65536]
            except qcow2core.Error as error:
                assert error.code == "IO" and "base.E01" in error.message
                lost += 1
        assert 0 < lost < SIZE // 65536
    result = run(COMMAND, "verify", name, check=False)
    assert result.returncode == 4 and "Good" not in result.stdout
    result = tools.run("img_cat", "-i", "qcow2", name)
    assert result.returncode != 0 and "segments of this EWF image are missing" in result.complaint


def test_much_of_an_e01_is_missing(tmp_path):
    """libewf loses memory for each missing byte that it is asked for, so after 64 MiB of them
    nothing more is asked."""
    start, size = random.Random(7).randbytes(4 << 20), 100 << 20
    (tmp_path / "disk.raw").write_bytes(start + bytes(size - len(start)))
    acquire(tmp_path / "disk.raw", tmp_path / "base", "-S", "2MiB")
    for segment in sorted(tmp_path.glob("base.E*"))[2:]:
        segment.unlink()
    run_line("qemu-img create -q -f qcow2 -b base.raw -F raw -u", tmp_path / "overlay.qcow2", size)
    with qcow2core.open(f"{tmp_path}/overlay.qcow2,backing={tmp_path}/base.E01") as disk:
        assert disk.read_at(1 << 20, 512) == start[1 << 20 :][:512]
        for offset in range(5 << 20, size, 1 << 20):
            with pytest.raises(qcow2core.Error):
                disk.read_at(offset, 1 << 20)
        with pytest.raises(qcow2core.Error):
            disk.read_at(2 << 20, 512)


def test_e01_with_a_wrong_checksum(base, e01):
    name, segment = over_e01(e01), e01.with_suffix(".E02")
    with open(segment, "r+b") as file:
        file.seek(segment.stat().st_size // 2)
        file.write(b"\xa5" * 50)
    result = run(COMMAND, "verify", "--json", name, check=False)
    (state,) = json.loads(result.stdout)["states"]
    assert result.returncode == 4 and 0 < state["bad_bytes"] <= 65536
    zeros = tools.run("img_cat", "-i", "qcow2", f"{name},errors=zero")
    place = state["bad_ranges"][0]["start"]
    assert zeros.returncode == 0 and len(zeros.stdout) == SIZE
    assert zeros.stdout[:place] == base.read_bytes()[:place] and zeros.stdout[
        place : place + 512
    ] == bytes(512)


def test_a_renamed_e01(base, e01, tmp_path):
    """Its first segment alone is found then: the others are missing, which is reported."""
    with open(base, "rb") as disk:
        run("ewfacquirestream", "-q", "-t", tmp_path / "whole", "-f", "encase6", stdin=disk)
    (tmp_path / "whole.E01").rename(tmp_path / "whole.data")
    overlay = over_e01(e01).split(",")[0]
    assert by_command(f"{overlay},backing={tmp_path}/whole.data,format=ewf") == oracle.sha256(base)
    e01.rename(tmp_path / "base.data")
    with qcow2core.open(f"{overlay},backing={tmp_path}/base.data,format=ewf") as disk:
        assert "segments of this EWF image are missing" in disk.warnings[0]


def test_what_is_no_e01(tmp_path):
    disk, overlay = starts_as(tmp_path, b"nothing of the kind", "base.E01")
    refused_every_way(f"{overlay},backing={disk}", "libewf cannot open", "base.E01")


def test_damaged_vhd_is_an_error(base, tmp_path):
    (tmp_path / "base.vhd").write_bytes(b"nothing of the kind" * 1000)
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -u -b base.vhd -F vpc", overlay, SIZE)
    refused_every_way(overlay, "vhd", "base.vhd")


def test_format_that_libtsk_does_not_know(base, tmp_path):
    convert(base, "vdi", "base.vdi", tmp_path)
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b base.vdi -F vdi", overlay)
    for name in (overlay, f"{overlay},backing={tmp_path}/base.vdi"):
        refused_every_way(name, "vdi" if name == overlay else "VDI", "raw")


def test_img_stat_names_the_format(base, tmp_path):
    convert(base, "vmdk", "base.vmdk", tmp_path)
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b base.vmdk -F vmdk", overlay)
    assert (
        b"Layer 1: vmdk"
        in tools.run("img_stat", "-i", "qcow2", overlay, tmp_path / "base.vmdk").stdout
    )


# ---- Without the libraries -------------------------------------------------------


@pytest.mark.unsanitized("a Python that is started with a clean environment loads the library")
def test_without_libtsk_it_is_refused_by_name(base, tmp_path):
    """The command and the module load it; where they cannot, the error says which format that is
    and what can read it."""
    convert(base, "vmdk", "base.vmdk", tmp_path)
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b base.vmdk -F vmdk", overlay)
    name = f"{overlay},backing={tmp_path}/base.vmdk"
    result = without_libtsk(
        f"""
        {COMMAND} verify '{name}' || echo status $?
        in_python '{name}' || :
        {COMMAND} verify '{overlay},backing=none' | tail -n 1
        """
    )
    assert "status 1\n" in result.stdout and result.stdout.endswith(
        "Good: all of it can be read.\n"
    ), result.stdout
    for words in ('format "vmdk"', "libtsk, which cannot be loaded", "img_cat", "base.vmdk"):
        assert result.stderr.count(words) >= 2, result.stderr


# ---- What is worth knowing though nothing is wrong -------------------------------


def notes(name):
    """By info, in text and JSON, and img_stat; they agree."""
    listed = [
        note
        for layer in json.loads(run(COMMAND, "info", "--chain", "--json", name).stdout)["layers"]
        for note in layer["notes"]
    ]
    for text in (
        run(COMMAND, "info", "--chain", name).stdout,
        tools.run("img_stat", "-i", "qcow2", name).stdout.decode(),
    ):
        assert [
            line.split("note: ")[1] for line in text.splitlines() if line.startswith("  note: ")
        ] == listed
    return listed


@pytest.mark.parametrize("cut", [0, 512, SIZE - 65536])
def test_a_short_raw_base_is_noted(base, cut, tmp_path):
    """It may be a copy that was broken off: zeros beyond its end are right, but the user
    must know."""
    (tmp_path / "short.raw").write_bytes(base.read_bytes()[: SIZE - cut])
    overlay = tmp_path / "overlay.qcow2"
    run_line("qemu-img create -q -f qcow2 -b short.raw -F raw", overlay, SIZE)
    assert sha256(overlay) == oracle.convert(overlay)
    said = notes(overlay)
    assert len(said) == (cut > 0) and all(
        f"{cut} bytes shorter" in note and "incomplete copy" in note for note in said
    )


def test_a_short_qcow2_base_is_none(tmp_path):
    """Its header says how long its disk is."""
    run_line("qemu-img create -q -f qcow2", tmp_path / "base.qcow2", "1M")
    run_line("qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2", tmp_path / "overlay.qcow2", SIZE)
    assert notes(tmp_path / "overlay.qcow2") == []


def test_an_e01_is_noted(e01):
    """Its file's size is not its disk's; and checking it whole is the work of its own tools."""
    name = over_e01(e01)
    assert len(notes(name)) == 1 and "ewfverify" in notes(name)[0]
    layer = json.loads(run(COMMAND, "info", "--chain", "--json", name).stdout)["layers"][1]
    assert (layer["format"], layer["file_size"], layer["virtual_size"]) == (
        "ewf",
        e01.stat().st_size,
        SIZE,
    )
