# SPDX-License-Identifier: MIT
"""A random history of files, checked."""
from collections import Counter

from . import file_oracle, timeline_oracle
from .file_history import START


def check_history(history):
    """Compare pairs of its states, in both directions. Returns what was counted."""
    names, counts = list(history.raws), Counter()
    for a, b in zip(names, names[1:]):
        for first, second in ((a, b), (b, a)):
            counts += file_oracle.check(
                f"{history.image}{first}",
                f"{history.image}{second}",
                history.raws[first],
                history.raws[second],
            )
            counts["comparisons"] += 1
    counts["lines of timelines"] += timeline_oracle.check(
        history.image,
        {name[1:] or "active": raw for name, raw in history.raws.items()},
        START if history.has_table else None,
        history.folder / "body",
    )
    counts[history.kind] += 1
    return counts
