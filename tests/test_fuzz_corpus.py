# SPDX-License-Identifier: MIT
"""The fuzzers' corpora and findings, replayed (tests/fuzz/). What a target finds wrong aborts it;
the last file it named is the input."""
import os

import pytest
from fuzz.corpus import unpack
from fuzz.seeds import SEEDS, seeds
from lib.project import BUILD, run

REPLAY = os.path.join(BUILD, "tests", "fuzz", "replay")


def test_every_target_has_a_corpus():
    assert sorted(run(REPLAY).stdout.split()) == sorted(SEEDS)


@pytest.mark.parametrize("target", SEEDS)
def test_replay(target, tmp_path):
    unpack(tmp_path, [target])
    files = sorted((tmp_path / target).iterdir())
    assert len(files) >= 10
    assert run(REPLAY, target, *files, timeout=120).stdout == f"{len(files)} inputs\n"


def test_the_luks_seed_opens(core, tmp_path):
    """With its key material of zeros, which the seeds' own arithmetic has to get right."""
    path = tmp_path / "luks.qcow2"
    path.write_bytes(dict(seeds("image"))["luks"])
    with core.Image(path, passphrases=[b"secret"]) as image:
        assert len(image.view().read(0, 512)) == 512
    with pytest.raises(core.QcowError) as caught:
        core.Image(path, passphrases=[b"wrong"])
    assert caught.value.code == "KEY"
