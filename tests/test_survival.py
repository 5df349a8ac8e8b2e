# SPDX-License-Identifier: MIT
"""What survives which operation: docs/residue.md says what the installed QEMU does."""
import re
from pathlib import Path

import pytest
from lib import survival
from lib.project import SOURCE

SECTION = Path(SOURCE, "docs", "residue.md").read_text().split("## What survives")[1]
TABLE = dict(re.findall(r"^\| ([^|]+) \| (.*) \|$", SECTION, re.MULTILINE))


def test_the_document_has_these_rows():
    assert set(survival.ROWS) == set(TABLE)


@pytest.mark.parametrize("column, discard", enumerate(survival.REACHES))
@pytest.mark.parametrize("row", survival.ROWS)
def test_what_survives(row, column, discard, tmp_path):
    if discard == "unmap" and not survival.can_punch(tmp_path):
        pytest.skip("no holes can be punched into files here")
    assert survival.measure(row, discard, tmp_path) == TABLE[row].split(" | ")[column]
