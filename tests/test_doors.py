# SPDX-License-Identifier: MIT
"""The same name gives the same answer through every door: the rows of door_names.py and
door_traps.py, through the doors of doors.py."""
import os

import pytest
from lib import (
    door_agreement,
    door_foreign,
    door_found,
    door_inside,
    door_names,
    door_traps,
    door_ways,
    doors,
)
from lib.history import History
from lib.project import BUILD, SANITIZERS


OF_EACH_KIND = (
    "C, qcow2names.h",
    "C, tsk_qcow2.h",
    "Python, qcow2core.open()",
    "img_cat -i qcow2",
    "tsk-qcow2 info --chain --json",
    "tsk-qcow2 check",
    "tsk-qcow2 map --json",
    "tsk-qcow2 verify --json",
    "tsk-qcow2 mount",
    "tsk-qcow2 selector",
)


@pytest.fixture
def case(tmp_path, monkeypatch):
    """An empty working directory, whose user has a home directory and no variables of ours."""
    home = tmp_path / "home of the user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("QCOW2CORE_LIBRARY", os.path.join(BUILD, "core/.libs/libqcow2core.so"))
    for name in ("TSK_QCOW2_SEARCH", "TSK_QCOW2_KEY_FILE", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "case"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def all_doors(request):
    """With those of the installed command. With sanitizers, which are slow, one door of each
    kind."""
    if SANITIZERS:
        return [door for door in door_ways.DOORS if door.title in OF_EACH_KIND]
    return [*door_ways.DOORS, door_ways.installed_run(request.getfixturevalue("command"))]


@pytest.mark.parametrize(
    "group",
    [
        *door_names.GROUPS,
        *door_traps.GROUPS,
        *door_foreign.GROUPS,
        *door_found.GROUPS,
        *door_inside.GROUPS,
    ],
    ids=lambda group: group.__name__,
)
def test_every_name_through_every_door(group, core, case, all_doors, monkeypatch, record_property):
    rows, pairs, wrong = group(), 0, []
    for row in rows:
        with monkeypatch.context() as patch:
            for name, value in row.environment.items():
                patch.setenv(name, value)
            pairs += doors.ask_all(row, all_doors, wrong)
    for name, count in (("names", len(rows)), ("doors", len(all_doors)), ("pairs", pairs)):
        record_property(name, count)
    assert not wrong, f"{len(wrong)} of {pairs} pairs are wrong:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    "check, seed",
    [("chain", 3), ("chain", 7), ("chain", 35), ("damage", 15), ("damage", 132), ("damage", 172)],
)
def test_random_chains_through_every_door(check, seed, core, case):
    """tests/differential --doors asks for as many as one has time for."""
    history = History(seed, case, encryption=True)
    history.run(lambda *_: None)
    history.check(getattr(door_agreement, f"check_{check}"))
    assert history.counts["pairs"] > 0
