# SPDX-License-Identifier: MIT
"""A random history of files, checked."""
from collections import Counter

from . import file_oracle


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
    counts[history.kind] += 1
    return counts
