# SPDX-License-Identifier: MIT
"""Random histories of images, read by us and by QEMU: a fixed choice of seeds that covers every
kind.

TSK_QCOW2_SEED adds one. tests/differential runs as many as one has time for.
"""
import faulthandler
import os
import shutil
from collections import Counter

import pytest

from lib.agreement import can_decrypt, check_top
from lib.history import History, save_log

SEEDS = (
    6,
    8,
    12,
    17,
    19,
    32,
    37,
    38,
    39,
    40,
    42,
    43,
    45,
    48,
    73,
    74,
    76,
    78,
    79,
    81,
    85,
    86,
    93,
    95,
    99,
    103,
    109,
    110,
    111,
    113,
    114,
    116,
    125,
    129,
    131,
    133,
    134,
    135,
    138,
    139,
)
SEEDS_ENCRYPTED = (32, 33)  # each takes seconds: qemu-img chooses key derivations that slow
SECONDS_MAX = 120  # a history takes one second; ends the whole run, since the library hangs

# How often, at least, the fixed seeds together must do each of these. They do about twice as much
# under QEMU 7.2; another version may refuse other steps.
COVERED = {
    "v2": 6,
    "v3": 30,
    "extended_l2": 10,
    "data_file": 7,
    "data_file_raw": 1,
    "lazy_refcounts": 7,
    "preallocation": 4,
    "raw base": 10,
    "chain of 3": 7,
    "chain of 4": 1,
    "backing file shorter": 9,
    "backing file longer": 8,
    "cluster size 512": 5,
    "cluster size 2097152": 1,
    "refcount bits 1": 4,
    "refcount bits 64": 2,
    "dirty": 1,
    "odd size": 4,
    "huge": 1,
    "compressed write": 45,
    "zero write": 55,
    "zero write, unmap": 45,
    "discard": 55,
    "vm state": 4,
    "snapshot": 12,
    "snapshot applied": 2,
    "snapshot deleted": 2,
    "grow": 5,
    "shrink": 5,
    "rebase": 3,
    "rebase -u": 5,
    "commit": 2,
    "amend compat": 1,
    "bitmap": 2,
    "views: active": 50,
    "views: snapshot": 15,
    "views: snapshot of another size": 6,
    "maps compared": 10,
    "ranges compared": 5,
    "ranges compared: differ": 3,
    "checked": 100,
    "checked: leaks": 1,
}


@pytest.fixture(scope="module")
def done():
    """{seed: counts} of the histories that ran."""
    return {}


def run_history(seed, folder, encryption=False):
    """Returns the counts. A history that reads well leaves nothing behind."""
    history = History(seed, folder, encryption)
    faulthandler.dump_traceback_later(SECONDS_MAX, exit=True)
    try:
        history.run(check_top)
    except BaseException:
        save_log(history, folder / "steps.sh")
        switch = "on" if encryption else "off"
        print(
            f"seed {seed}; again: tests/differential --rounds 1 --seed {seed} --encryption"
            f" {switch} --keep kept"
        )
        print(f"the files are in {folder}; steps.sh there makes them again in an empty folder")
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()
    shutil.rmtree(folder)
    return history.counts


@pytest.mark.parametrize("seed", SEEDS)
def test_every_view_reads_as_qemu_reads_it(core, tmp_path, done, seed):
    done[seed] = run_history(seed, tmp_path)


def test_the_seed_of_the_environment(core, tmp_path):
    run_history(int(os.environ["TSK_QCOW2_SEED"]), tmp_path)


@pytest.mark.skipif(not can_decrypt(), reason="the library cannot read encrypted images")
@pytest.mark.parametrize("seed", SEEDS_ENCRYPTED)
def test_encrypted_images(core, tmp_path, seed):
    counts = run_history(seed, tmp_path, encryption=True)
    assert any(kind.startswith("encrypted") for kind in counts)


def test_the_seeds_cover_every_kind(done):
    if set(done) != set(SEEDS):
        pytest.skip("not all of the histories ran")
    total = sum(done.values(), Counter())
    missing = {
        kind: (total[kind], wanted) for kind, wanted in COVERED.items() if total[kind] < wanted
    }
    assert not missing, f"(done, wanted): {missing}"
