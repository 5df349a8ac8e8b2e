# SPDX-License-Identifier: MIT
"""The table of doors. A door is a way in which a program opens an image name.

    ask_all(Row("a snapshot", ("disk.qcow2@first",), content), DOORS, wrong)

DOORS is in door_ways.py. A row's names are opened from the working directory. What is expected of
it comes from what wrote the files, never from another door; but sentences (warnings, refusals,
damage) must be the same through all of them.
"""
import hashlib
from dataclasses import dataclass, field

GOOD, DAMAGED, REFUSED = "good", "damaged", "refused"
# How far a door opens: the image itself, its chain, and one of its disks.
HEADER, CHAIN, VIEW = 1, 2, 3
SECTOR = 512


class Wrong(AssertionError):
    """A door gives another answer than it must."""


@dataclass
class Row:
    """Image names, and what they must give. A word in `refused` or `warnings` stands for the
    sentence that has it."""

    title: str
    names: tuple
    content: bytes = b""  # with zeros where it is damaged
    bad: tuple = ()  # the damaged ranges: (start, length)
    zeros: bool = False  # the name says errors=zero
    warnings: tuple = ()  # a word of each warning, in order
    late: tuple = ()  # a word of each warning besides, where a view is opened
    early: tuple = None  # those that are there before the chain is opened; None: all
    refused: tuple = ()  # words of the refusal
    at: int = HEADER  # the first depth that is refused
    environment: dict = field(default_factory=dict)
    filesystem: bool = True
    vm_state: bool = False
    snapshot: bool = False  # the name chooses one
    selector: bool = False  # the name is one
    unselectable: str = ""  # a word of why no selector can stand for the name
    verified: tuple = None  # exit statuses of verify; None: 0, or 4 where the state is damaged
    checked: tuple = None  # exit statuses of a check; None: 0, or 4 where the state is damaged
    uncheckable: str = ""  # a word of why a check is refused
    # what autodetection makes of it: ours; other: libtsk reads it as something else; none: libtsk
    # refuses it
    detected: str = "ours"

    def kind(self, depth):
        if self.refused and self.at <= depth:
            return REFUSED
        return DAMAGED if self.bad and depth >= CHAIN else GOOD


@dataclass
class Answer:
    """The answer of a door for a row. None: the door does not show that fact."""

    kind: str
    words: str = ""  # all that it printed, or the error's message
    size: int = None
    content: bytes = None
    digest: str = None
    bad: tuple = None
    met: tuple = None  # damaged ranges and bytes, as counted at the end
    warnings: list = None
    verdict: int = None  # verify's exit status


@dataclass(frozen=True)
class Door:
    title: str
    depth: int
    answer: object  # Row -> Answer, or None: it cannot be asked
    reads: bool = True  # all bytes, so that it meets the damage
    detects: bool = False  # the type qcow2 is not given to it
    one_name: bool = False  # it takes no further names for the backing chain

    def kind_of(self, row):
        """The kind of answer that the door must give."""
        kind = row.kind(self.depth)
        return GOOD if kind == DAMAGED and not self.reads else kind


def sha256(content):
    return hashlib.sha256(content).hexdigest()


# ---- What they must answer -------------------------------------------------------


def must(condition, *about):
    if not condition:
        raise Wrong(" ".join(map(str, about)))


def expected_refusal(door, row):
    """Words of the error with which the door must refuse the row. None: it must not refuse it."""
    if door.one_name and len(row.names) > 1:
        return () if row.refused else ("backing=NEXT",)
    if door.title == "tsk-qcow2 selector" and (row.selector or row.unselectable):
        return (row.unselectable or "is a selector file itself",)
    if door.kind_of(row) == REFUSED:
        return row.refused
    if row.snapshot and door.title.startswith("tsk-qcow2 check"):
        return ("without",)
    if row.uncheckable and door.title.startswith("tsk-qcow2 check"):
        return (row.uncheckable,)
    return None


def compare(door, row, answer, reference):
    """Raises Wrong unless the door gives the right answer. `reference` has the sentences of the
    first door."""
    if door.detects and row.detected != "ours":
        must(
            answer.kind == (GOOD if row.detected == "other" else REFUSED), answer.kind, answer.words
        )
        return
    refusal = expected_refusal(door, row)
    if (
        refusal is None
        and answer.kind == REFUSED
        and row.refused
        and door.title == "tsk-qcow2 selector"
    ):
        return  # it looks for the files that the name leads to
    must((answer.kind == REFUSED) == (refusal is not None), "it is", answer.kind, answer.words)
    if refusal is not None:
        check_refusal(door, row, answer, reference, refusal)
        return
    if answer.verdict is None:
        must(answer.kind == door.kind_of(row), "it is", answer.kind, answer.words)
    else:
        must(
            answer.verdict in (row.verified or ((4,) if row.bad else (0,))),
            "the verdict is",
            answer.verdict,
            answer.words,
        )
    check_warnings(door, row, answer, reference)
    for name in FACTS if not row.refused else ():
        check_fact(row, answer, name)


def check_refusal(door, row, answer, reference, words):
    for word in words:
        must(word in answer.words, f"no {word!r} in:", answer.words)
    if (
        words is row.refused
        and reference.kind == REFUSED
        and not door.title.startswith("a selector")
    ):
        same = without_libbfio(reference.words) in without_libbfio(answer.words)
        must(same, answer.words, "instead of", reference.words)


def without_libbfio(words):
    """libtsk's own error messages have a line of libbfio if the program has loaded that."""
    return "\n".join(line for line in words.splitlines() if not line.startswith("libbfio_"))


def check_warnings(door, row, answer, reference):
    if answer.warnings is None:
        return
    expected = row.early if door.depth == HEADER and row.early is not None else row.warnings
    expected = (*expected, *row.late) if door.depth == VIEW else expected
    must(len(expected) == len(answer.warnings), "warnings:", answer.warnings, "not", expected)
    for word, sentence in zip(expected, answer.warnings):
        must(word in sentence, f"no {word!r} in:", sentence)
        if reference.kind != REFUSED and not door.title.startswith(
            "a selector"
        ):  # its paths are absolute
            must(sentence in reference.warnings, sentence, "is not among", reference.warnings)


def by_sectors(ranges, size):
    """The ranges as reads of sectors find them: adjacent ranges are one."""
    out = []
    for start, length in ranges:
        end = min(size, -(-(start + length) // SECTOR) * SECTOR)
        start = start // SECTOR * SECTOR
        if out and sum(out[-1]) >= start:
            start = out.pop()[0]
        out.append((start, end - start))
    return tuple(out)


def bad_ranges(row, answer):
    """The damaged ranges that the answer must have."""
    if answer.content is None:
        return row.bad
    return () if row.zeros else by_sectors(row.bad, len(row.content))


def content_with_zeros(row, answer):
    content = bytearray(row.content)
    for start, length in bad_ranges(row, answer):
        content[start : start + length] = bytes(length)
    return content


FACTS = {
    "size": lambda row, _: len(row.content),
    "content": content_with_zeros,
    "digest": lambda row, _: sha256(row.content),
    "bad": bad_ranges,
    "met": lambda row, _: (len(row.bad), sum(length for _, length in row.bad)),
}


def check_fact(row, answer, name):
    """Every fact in the answer must be that of the row."""
    given = getattr(answer, name)
    if given is None:
        return
    expected = FACTS[name](row, answer)
    about = (given, "is not", expected)
    if given != expected and name == "content":
        about = map(sha256, (given, expected))
    must(given == expected, name, *about)


def ask_all(row, doors, wrong):
    """Ask all doors for a row. Appends what is wrong to `wrong`; returns the number of answers."""
    reference, answers = doors[0].answer(row), 0
    for door in doors:
        try:
            answer = reference if door is doors[0] else door.answer(row)
            if answer is not None:
                answers += 1
                compare(door, row, answer, reference)
        except Wrong as error:
            wrong.append(f"{row.title} {row.names}, {door.title}: {str(error).strip()}")
    return answers
