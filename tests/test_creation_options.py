# SPDX-License-Identifier: MIT
"""Every option of qemu-img create that the installed QEMU offers, value by value.

Each image is written to, gets a snapshot, and reads and checks as QEMU says. Random histories
combine the options; the ciphers have test_encryption.py.
"""
import os
import re

import pytest

from lib.agreement import can_decrypt, check_top
from lib.history import SECRET, History, Qcow2, Raw
from lib.project import run_line

SIZE = 5 * 1024 * 1024 + 512
SWITCH = ["on", "off"]
# By option: its values, each with what it needs beside it. "?" is the data file's name.
VALUES = {
    "backing_file": [],
    "backing_fmt": [],  # see test_base()
    "cluster_size": [1 << bits for bits in range(9, 22)],
    "compat": ["0.10", "1.1", "v2", "v3"],
    "compression_type": ["zlib", "zstd"],
    "data_file": ["?"],
    "data_file_raw": [f"{value},data_file=?" for value in SWITCH],
    "keep_data_file": [
        "on,data_file=?,data_file_raw=on",
        "on,data_file=?,preallocation=metadata",
        "off,data_file=?",
    ],
    "encryption": SWITCH,
    "encrypt.format": ["aes", "luks"],
    "encrypt.key-secret": [],  # with each of the others
    "encrypt.cipher-alg": ["aes-128,encrypt.format=luks"],
    "encrypt.cipher-mode": ["cbc,encrypt.format=luks"],
    "encrypt.hash-alg": ["sha512,encrypt.format=luks"],
    "encrypt.iter-time": ["10,encrypt.format=luks"],
    "encrypt.ivgen-alg": ["plain,encrypt.format=luks"],
    "encrypt.ivgen-hash-alg": [
        "sha256,encrypt.ivgen-alg=essiv,encrypt.cipher-mode=cbc,encrypt.format=luks"
    ],
    "extended_l2": SWITCH,
    "lazy_refcounts": SWITCH,
    "nocow": SWITCH,
    "extent_size_hint": ["0", "1M"],
    "preallocation": ["off", "metadata", "falloc", "full"],
    "refcount_bits": [1 << bits for bits in range(7)],
    "size": [],  # all have one
}


def offered():
    """The names of the options, those for the file itself among them, for which a name is given."""
    text = run_line("qemu-img create -f qcow2 -o help x").stdout
    return re.findall(r"^  ([\w.-]+)=<", text, re.M)


def test_each_option_that_this_qemu_offers_is_tried():
    assert len(offered()) > 15
    assert set(offered()) <= set(
        VALUES
    ), "new in this QEMU: find out what it writes, and give it values here"


def made_by(tmp_path, text):
    """A history whose one image was made with these options, as words of -o."""
    history = History(1, tmp_path, encryption=True)
    history.prepare()
    options = dict(word.split("=", 1) for word in text.replace("?", "own.data").split(","))
    if options.get("encryption") == "on":
        options["encrypt.format"] = options.pop("encryption").replace("on", "aes")
        text = text.replace("encryption=on", "encryption=on,encrypt.key-secret=key")
    elif "encrypt.format" in options:
        text += ",encrypt.key-secret=key"
    image = Qcow2(tmp_path / "own.qcow2", options)
    history.layers[:] = [image]
    if "keep_data_file" in options:
        (tmp_path / "own.data").write_bytes(os.urandom(SIZE))
    words = [*SECRET] if image.encrypted else []
    words += ["-f", "qcow2", "-o", text.replace("?", "own.data"), image.name, SIZE]
    assert history.img("create", "create", *words), history.log[-1]
    return history


@pytest.mark.parametrize(
    "option, value", [(option, value) for option in VALUES for value in VALUES[option]]
)
def test_option(option, value, tmp_path, rng):
    if option not in offered():
        pytest.skip(f"this QEMU has no {option}")
    if option.startswith("encrypt") and value != "off" and not can_decrypt():
        pytest.skip("the library cannot read encrypted images")
    history = made_by(tmp_path, f"{option}={value}")
    check_top(history, rng)  # before anything is written: what was preallocated, or kept
    history.step_write()
    history.step_snapshot()
    history.step_resize()
    history.step_write()
    check_top(history, rng)


@pytest.mark.parametrize("backing_format", ["raw", "qcow2"])
def test_base(backing_format, tmp_path, rng):
    """backing_file and backing_fmt."""
    history = made_by(tmp_path, "compat=1.1")
    history.step_write()
    base = history.top
    if backing_format == "raw":
        assert history.img("convert", "convert", "-O", "raw", base.name, "base.raw")
        history.layers[:] = [Raw("base.raw")]
    overlay = Qcow2(tmp_path / "overlay.qcow2", {})
    words = f"backing_file={history.top.name},backing_fmt={backing_format}"
    done = history.img("create", "create", "-f", "qcow2", "-o", words, overlay.name)
    assert done, history.log[-1]
    history.layers.append(overlay)
    check_top(history, rng)
    history.step_write()
    check_top(history, rng)
