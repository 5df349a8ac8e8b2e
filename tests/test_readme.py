# SPDX-License-Identifier: MIT
"""What README and docs/ say: their commands, run as they stand on images like those they describe;
their links; and that they name every command and option."""
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from lib import encrypted, mounted, tools
from lib.builder import Image, pattern
from lib.project import BUILD, COMMAND, SOURCE, run, run_line

README = Path(SOURCE, "README.md").read_text()
WITH_COMMANDS = ["README.md", "docs/recipes.md", "docs/image-names.md"]
pytestmark = pytest.mark.unsanitized("its commands run in an environment of their own")
BASES = "/mnt/bases"  # where README's base.qcow2 is; here a folder beside the others
PLAN = "Meet at the old mill at midnight. Bring the second ledger.\n"


def blocks():
    """The lines after "$ " of each block of code, in order."""
    for path in WITH_COMMANDS:
        for block in re.findall(r"^```\n(.*?)^```", Path(SOURCE, path).read_text(), re.M | re.S):
            yield [line[2:] for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture(scope="module")
def folder(demo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    shutil.copyfile(demo, folder / "disk.qcow2")
    (folder / "bases").mkdir()
    run_line("qemu-img convert -O qcow2", folder / "disk.qcow2", folder / "bases" / "base.qcow2")
    run_line(
        "qemu-img create -q -u -f qcow2 -b /var/lib/machines/base.qcow2 -F qcow2",
        folder / "overlay.qcow2",
        "64M",
    )
    (folder / "passphrase.txt").write_bytes(b"correct horse\n")
    encrypted.create(folder / "locked.qcow2", "64M", secret=b"correct horse")
    encrypted.qemu(
        "qemu-img",
        "convert",
        "-n",
        "-f",
        "qcow2",
        "--target-image-opts",
        folder / "disk.qcow2",
        f"driver=qcow2,file.filename={folder}/locked.qcow2,encrypt.format=luks,"
        "encrypt.key-secret=s0",
        secrets=[b"correct horse"],
    )
    machine = Image(1 << 20)
    disk = machine.disk.copy()
    disk.l1_entries = 2
    disk.normal(8192, pattern("memory", 65536))
    machine.snapshot(b"1", b"suspended", disk=disk, vm_state_size=50000)
    machine.write(folder / "running.qcow2")
    yield folder
    mounted.unmount(folder / "mounted")  # where a recipe failed that had mounted it


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Of a user who has the plugin."""
    return {
        **tools.CLEAN,
        "LD_LIBRARY_PATH": str(tools.DROPIN),
        "PATH": f"{BUILD}/tsk_qcow2:/usr/bin:/bin",
        "HOME": str(tmp_path_factory.mktemp("home")),
    }


@pytest.fixture(scope="module")
def results(folder, environment):
    """What each command printed."""
    out = {}
    for block in blocks():
        # Without FUSE, no recipe that mounts can be run.
        if mounted.missing() and any("tsk-qcow2 mount" in command for command in block):
            continue
        where = folder
        for command in block:
            if command.startswith("cd "):
                where = folder / command[3:]
                continue
            words = command.replace(BASES, str(folder / "bases")).replace(
                "/mnt/evidence", str(folder)
            )
            done = subprocess.run(
                ["bash", "-c", words],
                cwd=where,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                errors="replace",
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            out[command] = done.stdout
    return out


def test_every_command_runs(results):
    assert len(results) > 12


def screen():
    """The commands of README's picture, each with the lines that it prints there."""
    image = re.search(r"\((docs/.*\.svg)\)", README)[1]
    commands = []
    for text in ElementTree.parse(Path(SOURCE, image)).iterfind(".//{*}text"):
        line = "".join(text.itertext())
        if line.startswith("$ "):
            commands.append((line[2:], []))
        else:
            commands[-1][1].append(line)
    return commands


@pytest.fixture(scope="module")
def pictured(demo, tmp_path_factory):
    """A folder where nothing else is."""
    folder = tmp_path_factory.mktemp("picture")
    shutil.copyfile(demo, folder / "disk.qcow2")
    return folder


@pytest.mark.parametrize(
    "command, lines", [pytest.param(*shown, id=shown[0]) for shown in screen()]
)
def test_the_picture_shows_what_is_printed(pictured, environment, command, lines):
    def timeless(text):
        return re.sub(r"[0-9a-f]{64}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "...", text.expandtabs(8))

    done = subprocess.run(
        command,
        shell=True,
        cwd=pictured,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    shown = timeless(done.stdout.replace(str(pictured.resolve()), "/cases/7"))
    assert lines and shown.splitlines() == [timeless(line) for line in lines]


def test_recovered_file(results, folder):
    assert (
        results["ifind -o 2048 -n Documents/secret-plan.txt disk.qcow2@before-deletion"] == "15\n"
    )
    assert (folder / "secret-plan.txt").read_text() == PLAN


def test_what_happened_between_two_states(results, folder):
    """Three commands tell it: one file is gone, and another has its inode."""
    out = results["tsk-qcow2 diff disk.qcow2@before-deletion disk.qcow2"]
    plans = {line.split()[0]: line for line in out.splitlines() if "-plan.txt" in line}
    assert "its inode was /Documents/secret-plan.txt" in plans["created"]
    assert "its inode now is /Documents/holiday-plan.txt" in plans["deleted"]
    assert "tsk-qcow2 timeline --csv disk.qcow2 > timeline.csv" in results


def test_timeline(results, folder):
    text = (folder / "timeline.csv").read_text()  # the last command that writes it: mactime
    for name, state in (("secret", "before-deletion"), ("holiday", "active")):
        assert re.search(rf"/2048/Documents/{name}-plan.txt \[in {state}\]", text)


def test_overlay_and_encrypted_image(results):
    for name in ("overlay.qcow2,backing", "overlay.qcow2,search", "locked.qcow2,key-file"):
        assert any(name in command and "Documents" in out for command, out in results.items()), name


def test_saved_memory(results, folder):
    assert (folder / "memory.qevm").read_bytes() == pattern("memory", 65536)[:50000]


def test_selector_files(results, folder):
    listing = results["fls -o 2048 disk-before-deletion.img"]
    assert "Documents" in listing and (folder / "my-case" / "disk-active.img").exists()


def test_verified(results):
    assert results["tsk-qcow2 verify disk.qcow2"].splitlines()[-1] == "Good: all of it can be read."


def test_python_example(folder):
    """It lists what the snapshot's root directory holds."""
    pytest.importorskip("pytsk3", reason="pytsk3 is not installed (Debian: python3-tsk)")
    text = Path(SOURCE, "docs/libraries.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    environment = {
        **tools.CLEAN,
        "PYTHONPATH": f"{SOURCE}/tsk_qcow2/python",
        "PYTHONDONTWRITEBYTECODE": "1",
        "QCOW2CORE_LIBRARY": f"{BUILD}/core/.libs/libqcow2core.so",
    }
    assert (
        "Documents"
        in run("/usr/bin/python3", "-c", example, cwd=folder, env=environment).stdout.split()
    )


def documents():
    """Every document that has links, from README to those in the folders."""
    paths = [*Path(SOURCE).glob("*.md")]
    for folder in ("docs", "packaging", "patches", "tests"):
        paths += Path(SOURCE, folder).rglob("*.md")
    return sorted(path for path in paths if "/." not in str(path.relative_to(SOURCE)))


def anchors(text):
    """The anchors that a web page of this text has, one for each heading."""
    for heading in re.findall(r"^#+ (.*)$", text, re.M):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", document.read_text())
    for path, anchor in links:
        target = document.parent / path if path else document
        assert target.exists(), path
        assert not anchor or anchor in anchors(target.read_text()), f"{path}#{anchor}"


def test_docs_name_every_command_and_every_option():
    def topic(name=""):
        return run(COMMAND, "help", *name.split()).stdout

    commands = re.findall(r"^  ([a-z]+)", topic().split("Image names")[0], re.M)
    page = Path(SOURCE, "docs/commands.md").read_text()
    named = set(re.findall(r"^tsk-qcow2 ([a-z]+)", page, re.M)) | {"disable", "help"}
    assert len(commands) > 8 and set(commands) == named
    options = re.findall(r"^  ([a-z-]+(?:=none|=zero|=)?)", topic("image-names"), re.M)
    names = Path(SOURCE, "docs/image-names.md").read_text()
    assert len(options) > 6 and [option for option in options if f",{option}" not in names] == []
