# SPDX-License-Identifier: MIT
"""Unit tests in C of the pure functions and the cache (tests/unit/), each as a test of its
own."""
import os
import subprocess

import pytest

BUILD = os.environ.get(
    "TSK_QCOW2_BUILD", os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)
UNIT = os.path.join(BUILD, "tests", "unit", "unit")


def names():
    return subprocess.run([UNIT], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("name", names())
def test_unit(name):
    result = subprocess.run([UNIT, name], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_there_are_unit_tests():
    assert len(names()) >= 10
