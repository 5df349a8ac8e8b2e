# SPDX-License-Identifier: MIT
"""The manual pages say what the programs and headers say."""
import re
import shutil
from pathlib import Path

import pytest
from lib.project import BUILD, COMMAND, SOURCE, run

PAGES = sorted(Path(BUILD, "man").glob("*.[1-8]"))


def page(name):
    """A manual page's text without its markup."""
    text = Path(BUILD, "man", name).read_text()
    text = re.sub(r'^\.\\".*\n', "", text, flags=re.M)
    text = re.sub(r"\\f[BRIP]", "", text).replace("\\-", "-").replace("\\(en", "-")
    text = re.sub(r"^\.[A-Z]+ ?", "", text, flags=re.M)
    return text.replace('"', "")


def words(text):
    """Without spaces, because markup leaves some."""
    return re.sub(r"\s+", "", text)


def help_on(*topic):
    return run(COMMAND, "help", *topic).stdout


def synopses():
    """{command: synopsis} of the overview."""
    return {
        line.split()[0]: re.split(r"  +", line.strip())[0]
        for line in help_on().split("Image names")[0].splitlines()
        if re.match(r"  [a-z]", line)
    }


def test_there_are_pages():
    assert {path.name for path in PAGES} >= {
        "tsk-qcow2.1",
        "tsk-qcow2-image-names.7",
        "qcow2core.3",
        "libtsk_qcow2.3",
    }


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_page_is_well_formed(path):
    assert run("groff", "-man", "-ww", "-z", "-Tutf8", path).stderr == ""


def test_every_command_and_option_is_in_the_page():
    text = page("tsk-qcow2.1")
    assert len(synopses()) >= 8
    for command, synopsis in synopses().items():
        if command not in ("enable", "disable", "status"):  # on one line of the synopsis
            assert words("tsk-qcow2 " + synopsis) in words(text), synopsis
        details = help_on(command)
        assert details.startswith(f"usage: tsk-qcow2 {synopsis}")
        for option in set(re.findall(r"--[a-z-]+", synopsis)):
            assert re.search(
                rf"^{option} ", details, re.M
            ), f"help {command} does not explain {option}"
            assert text.count(option) >= 2, f"the page does not explain {option} of {command}"


def test_the_page_has_no_option_that_is_not_there():
    known = set(re.findall(r"--[a-z-]+", " ".join([help_on(), *map(help_on, synopses())])))
    assert set(re.findall(r"--[a-z-]+", page("tsk-qcow2.1"))) <= known


def test_image_name_options_are_in_the_page():
    text = page("tsk-qcow2-image-names.7")
    listed = set(re.findall(r"^  ([a-z-]+(?:=none|=zero|=)?)", help_on("image-names"), re.M))
    assert listed >= {
        "backing=",
        "backing=none",
        "search=",
        "data-file=",
        "key-file=",
        "vmstate",
        "errors=zero",
    }
    for option in listed:
        assert re.search(rf"^{option}", text, re.M), option
    complaint = run(COMMAND, "info", f"{__file__},nonsense", check=False).stderr
    for option in listed:
        assert option in complaint, option


@pytest.mark.parametrize(
    "name, headers, mark",
    [
        ("qcow2core.3", ["core/qcow2core.h", "tsk_qcow2/qcow2names.h"], "QCOW2_API"),
        ("libtsk_qcow2.3", ["tsk_qcow2/tsk_qcow2.h"], "TSK_QCOW2_API"),
    ],
)
def test_functions_are_those_of_the_headers(name, headers, mark):
    text = "".join(Path(SOURCE, header).read_text() for header in headers)
    declared = set(re.findall("^" + mark + r" [^;{(]*?\b(\w+)\(", text, re.M))
    prefix = "tsk_qcow2_" if "tsk" in mark.lower() else "qcow2_"
    described = set(re.findall(rf"\b{prefix}\w+", page(name))) - {"tsk_qcow2_damage_sentence"}
    structures = {"qcow2_image", "qcow2_view", "qcow2_error", "qcow2_status", "qcow2_snapshot"}
    assert declared and described - structures == declared


def test_help_of_unknown_topics():
    assert run(COMMAND, "help", "nonsense", check=False).returncode == 2
    for words, topic in ((["verify", "--no"], "help verify"), (["nonsense"], "--help")):
        done = run(COMMAND, *words, check=False)
        assert done.returncode == 2 and done.stderr.endswith(f"Try: tsk-qcow2 {topic}\n")
    assert run(COMMAND, "verify", "--help").stdout == help_on("verify")
