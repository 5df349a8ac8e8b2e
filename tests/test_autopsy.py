# SPDX-License-Identifier: MIT
"""Autopsy 2.24, Debian's package, with the drop-in: its pages over qcow2 images, by HTTP and in a
browser."""
import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from lib import tools, webdriver
from lib.builder import pattern
from lib.disks import MIB, SECTOR, run
from lib.project import COMMAND, SOURCE, run_line

AUTOPSY = "/usr/bin/autopsy"
START, SECTORS = 2048, 14 * MIB // SECTOR  # of the partition
SECRET = b"".join(
    b"%4d  Meet at the old mill at midnight. Bring the second ledger.\r\n" % line
    for line in range(1, 601)
)
LETTER = b"Dear Alice,\nthe disks are in the cellar.\n"

pytestmark = [
    pytest.mark.skipif(not os.path.exists(AUTOPSY), reason="the package autopsy is not installed"),
    pytest.mark.unsanitized("it runs Autopsy's programs, not ours"),
]


# ---- The evidence ----------------------------------------------------------------


def make_raw(path):
    """A disk of 16 MiB with a FAT partition, on which two files were deleted."""
    path.touch()
    os.truncate(path, 16 * MIB)
    run(
        "sfdisk",
        "-q",
        path,
        input=f"label: dos\nlabel-id: 0xc0ffee00\nstart={START}, size={SECTORS}, type=e\n".encode(),
    )
    run("mkfs.fat", "-F", "16", "-i", "C0FFEE00", "--offset", START, path, SECTORS // 2)
    volume = ["-i", f"{path}@@{START * SECTOR}"]
    for name, content in (
        ("letter.txt", LETTER),
        ("secret-plan.txt", SECRET),
        ("ledger-2.csv", b"date;amount\r\n2026-05-01;1200\r\n"),
        ("photo.bin", pattern("photo", 9000)),
    ):
        (path.parent / name).write_bytes(content)
        run("mcopy", *volume, path.parent / name, f"::/{name}")
    run("mdel", *volume, "::/secret-plan.txt", "::/ledger-2.csv")


def overwrite_secret(path):
    """As what came later does: nothing of it is left on the disk."""
    data = path.read_bytes()
    at = data.index(SECRET)
    path.write_bytes(data[:at] + b"\xaa" * len(SECRET) + data[at + len(SECRET) :])


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    """evidence/ with disk.qcow2, whose snapshot "before cleanup" still has the deleted file;
    packed.qcow2, compressed; overlay.qcow2 over bases/base.qcow2."""
    work = tmp_path_factory.mktemp("autopsy")
    folder = work / "evidence"
    (folder / "bases").mkdir(parents=True)
    raw = work / "disk.raw"
    make_raw(raw)
    run_line("qemu-img convert -f raw -O qcow2", raw, folder / "disk.qcow2")
    run_line("qemu-img snapshot -c", "before cleanup", folder / "disk.qcow2")
    shutil.copy(raw, work / "before.raw")
    overwrite_secret(raw)
    run_line("qemu-img convert -n -f raw -O qcow2", raw, folder / "disk.qcow2")
    run_line("qemu-img convert -c -f raw -O qcow2", raw, folder / "packed.qcow2")
    run_line("qemu-img convert -f raw -O qcow2", work / "before.raw", folder / "bases/base.qcow2")
    run_line("qemu-img create -q -f qcow2 -b bases/base.qcow2 -F qcow2", folder / "overlay.qcow2")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def snapshot(evidence, home):
    """The selector of the snapshot, in a case folder of its own."""
    case = evidence.parent / "case"
    case.mkdir()
    run(
        COMMAND,
        "selector",
        "--all",
        evidence / "disk.qcow2",
        cwd=case,
        env={**tools.CLEAN, "HOME": str(home)},
    )
    return case / "disk-before_cleanup.img"


# ---- Autopsy ---------------------------------------------------------------------


class Autopsy:
    """A running Autopsy with an empty evidence locker."""

    def __init__(self, locker, port):
        self.locker = locker
        self.url = f"http://127.0.0.1:{port}/autopsy"

    def get(self, mod, view, **arguments):
        """A page's bytes. Autopsy wants a Referer."""
        query = urllib.parse.urlencode({"mod": mod, "view": view, **arguments})
        request = urllib.request.Request(f"{self.url}?{query}", headers={"Referer": self.url})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def page(self, mod, view, **arguments):
        return self.get(mod, view, **arguments).decode("latin-1")


@contextlib.contextmanager
def autopsy(program, locker, home):
    """Run it as a user would after `tsk-qcow2 run`: the drop-in is where the loader looks first."""
    port = webdriver.free_port()
    environment = {**tools.CLEAN, "HOME": str(home), "LD_LIBRARY_PATH": str(tools.DROPIN)}
    locker.mkdir()
    with open(locker.parent / f"{locker.name}.log", "wb") as log:
        process = subprocess.Popen(
            [program, "-C", "-d", str(locker), "-p", str(port), "127.0.0.1"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        webdriver.wait_for_port(port, process)
        yield Autopsy(locker, port)
    finally:
        webdriver.stop(process)


@pytest.fixture(scope="module")
def starts(home, tmp_path_factory):
    """Whether the Autopsy of this system does, or refuses its own PATH, as with newer Perls."""
    locker = tmp_path_factory.mktemp("starts") / "locker"
    try:
        with autopsy(AUTOPSY, locker, home):
            return True
    except AssertionError:
        assert "Insecure directory in $ENV{PATH}" in locker.with_suffix(".log").read_text()
        return False


@pytest.fixture(scope="module")
def program(starts, tmp_path_factory):
    """Autopsy, or if it does not start, a copy after the command of docs/distributions.md."""
    if starts:
        return AUTOPSY
    folder = tmp_path_factory.mktemp("autopsy-copy")
    shutil.copytree("/usr/share/autopsy", folder / "share")
    copy = folder / "autopsy"
    copy.write_text(Path(AUTOPSY).read_text().replace("/usr/share/autopsy/", f"{folder}/share/"))
    copy.chmod(0o755)
    text = Path(SOURCE, "docs", "distributions.md").read_text()
    (command,) = re.findall(r"^\$ sudo (sed .*ENV\{PATH\}.*)$", text, re.M)
    command = command.replace(AUTOPSY, str(copy)).replace("/usr/share/autopsy", f"{folder}/share")
    run("sh", "-c", command)
    return str(copy)


def test_the_autopsy_of_this_system_starts(starts):
    if not starts:
        pytest.skip(
            "Autopsy does not start here: this Perl refuses its PATH (docs/distributions.md). "
            "The tests take a mended copy."
        )


@pytest.fixture(scope="module")
def server(program, evidence, home):
    with autopsy(program, evidence.parent / "locker", home) as running:
        yield running


# ---- By HTTP ---------------------------------------------------------------------

CASEMAN, FILE = 0, 2  # modules
NEW_CASE, NEW_HOST, EXAMINE_IMAGE, ADD_IMAGE = 2, 8, 14, 15  # views of the first
DELETED_FILES, FILE_LIST, CONTENT, EXPORT = 5, 6, 7, 11  # views of the second
CALCULATE_MD5, SYMLINK = 2, 1


@pytest.fixture(scope="module")
def case(server):
    """A case with a host; the arguments that name it."""
    names = {"case": "By-HTTP", "inv": "inv"}
    assert "created" in server.page(CASEMAN, NEW_CASE, case="By-HTTP", desc="", inv1="inv")
    assert "created" in server.page(
        CASEMAN, NEW_HOST, host="vm", desc="", tz="UTC", ts=0, alert_db="", exclude_db="", **names
    )
    return {**names, "host": "vm"}


def add_image(server, case, path):
    """Add a disk's image as the pages do, with its first partition. Returns the volume's name, and
    the MD5 of the disk."""
    chosen = {"img_path": path, "sort": SYMLINK, **case}
    form = server.page(CASEMAN, EXAMINE_IMAGE, imgtype="disk", **chosen)
    fields = dict(
        re.findall(r'name="([\w-]+)"(?: size="6")? value="?([^">]*)', form),
        **{"ftype-1": re.search(r"selected>(\w+)", form)[1]},
    )
    fields.update(chosen, do_md5=CALCULATE_MD5)
    page = server.page(
        **{name: value for name, value in fields.items() if name not in ("mod", "view")},
        mod=CASEMAN,
        view=ADD_IMAGE,
    )
    found = re.search(
        r"Current MD5: <tt>(\w+)</tt>.*Volume image \(.*?\) added with ID <tt>(\w+)</tt>",
        page,
        re.S,
    )
    assert found, page
    return found[2], found[1].lower()


# Where it lies below the work directory, whose content that is, whether the deleted file is whole.
IMAGES = {
    "evidence/disk.qcow2": ("disk.raw", False),
    "evidence/packed.qcow2": ("disk.raw", False),
    "evidence/overlay.qcow2": ("before.raw", True),
    "case/disk-before_cleanup.img": ("before.raw", True),
}


@pytest.mark.parametrize("name", IMAGES)
def test_by_http(name, server, case, snapshot, evidence):
    """A disk, a compressed one, an overlay, and a snapshot by its selector: listed, read, exported;
    the deleted file found."""
    raw, is_whole = IMAGES[name]
    volume, md5 = add_image(server, case, evidence.parent / name)
    assert md5 == hashlib.md5((evidence.parent / raw).read_bytes()).hexdigest()
    place = {"vol": volume, "sort": 0, **case}
    listing = server.page(FILE, FILE_LIST, meta=2, dir="/", dirmode=2, **place)
    assert "letter.txt" in listing and "photo.bin" in listing
    letter = re.search(r"view=8&[^>]*meta=(\d+)[^>]*dir=%2Fletter\.txt", listing)[1]
    assert LETTER.decode() in server.page(
        FILE, CONTENT, meta=letter, dir="letter.txt", recmode=0, **place
    )
    deleted = server.page(FILE, DELETED_FILES, dir="", dirmode=2, **place)
    assert "C:/secret-plan.txt" in deleted and str(len(SECRET)) in deleted
    meta = re.search(r"meta=(\d+)[^>]*dir=secret-plan\.txt", deleted)[1]
    exported = server.get(FILE, EXPORT, meta=meta, dir="secret-plan.txt", recmode=1, **place)
    assert exported == (SECRET if is_whole else b"\xaa" * len(SECRET))


# ---- In a browser ----------------------------------------------------------------


def button(name):
    return f'//input[@alt="{name}"]'


def link(name):
    return f'//a[img[@alt="{name}"]]'


def make_case(browser):
    browser.click(link("New Case"))
    browser.type('//input[@name="case"]', "In-a-browser")
    browser.type('//input[@name="inv1"]', "Bob")
    browser.click(button("Create Case"))
    browser.click(button("Add New Host"))
    browser.click(button("Add Host"))
    browser.click(link("Add Image"))


def add_in_pages(browser, path):
    browser.click(button("Add Image"))
    browser.type('//input[@name="img_path"]', str(path))
    browser.click(button("Next Step"))
    browser.see("Win95 FAT16")
    browser.click(button("Add"))
    browser.see("added with ID")
    browser.click(f'({link("Ok")})[1]')


def choose_volume(browser, name):
    """In the host manager: the row of the partition."""
    browser.click(f'//tr[td/tt[starts-with(text(), "{name}-{START}-")]]//input[@name="vol"]')
    browser.click(button("Analyze"))


def wait_for_download(folder, seconds=120):
    """The one file that is downloaded there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        names = os.listdir(folder) if folder.exists() else []
        if (
            len(names) == 1
            and not names[0].endswith(".crdownload")
            and not names[0].startswith(".")
        ):
            return (folder / names[0]).read_bytes()
        time.sleep(0.1)
    raise AssertionError(f"downloaded: {names}")


@pytest.mark.skipif(
    not webdriver.is_installed(),
    reason="the packages chromium and chromium-driver are not installed",
)
def test_in_a_browser(server, snapshot, evidence, tmp_path):
    """As an examiner clicks: case, host, images, partition, files, a deleted file's content and
    export, image integrity."""
    with webdriver.browser(tmp_path) as browser:
        browser.open(server.url)
        make_case(browser)
        for path in (evidence / "disk.qcow2", snapshot):
            add_in_pages(browser, path)
        choose_volume(browser, snapshot.name)
        browser.click(link("File Analysis"))
        browser.see("letter.txt")
        browser.click(link("Show All Deleted Files"))
        browser.see("All Deleted Files")
        browser.click('//a[contains(., "secret-plan.txt")]')
        browser.see("Contents Of File: C:/secret-plan.txt")
        picture = browser.screenshot()
        browser.click('//a[text()="Export"]')
        assert wait_for_download(tmp_path / "downloads") == SECRET
        browser.click(link("Close Image"))
        browser.click(link("Image Integrity"))
        browser.see("Integrity checks for image type qcow2 not yet supported")
    if "TSK_QCOW2_PICTURES" in os.environ:
        Path(os.environ["TSK_QCOW2_PICTURES"], "autopsy.png").write_bytes(picture)
