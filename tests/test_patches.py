# SPDX-License-Identifier: MIT
"""patches/: their form; and that they apply to the source trees named by TSK_SOURCE_4_11_1 and its
like."""
import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest
from lib.project import SOURCE, run

FOLDER = Path(SOURCE, "patches")
PATCHES = sorted(FOLDER.glob("*/*.patch"))
RELEASES = sorted({path.parent.name for path in PATCHES})
NOTHING = "0" * 40


def files(patch):
    """(path, blob before, blob after, the diff's lines) of each file of a patch."""
    parts = re.split(r"(?m)^diff --git a/(\S+) b/\S+\n", patch.read_text())
    for path, part in zip(parts[1::2], parts[2::2]):
        before, after = re.search(r"^index ([0-9a-f]{40})\.\.([0-9a-f]{40})", part, re.M).groups()
        yield path, before, after, part.splitlines()


def blob(data):
    """git's name for a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def test_every_release_is_there():
    assert RELEASES == ["4.11.1", "4.12.1", "4.13.0", "4.14.0", "develop-2025-04-02"]


@pytest.mark.parametrize("patch", PATCHES, ids=lambda path: "-".join(path.parts[-2:]))
def test_form(patch):
    """Nothing of upstream's but what is changed: no context, neither in hunks nor after their
    headers."""
    assert patch.read_text().startswith("SPDX-License-Identifier: MIT\n")
    for path, before, _, lines in files(patch):
        for line in lines:
            assert re.match(
                r"(index|new file mode|---|\+\+\+) |[-+]|@@ -\d+(,\d+)? \+\d+(,\d+)? @@$", line
            ), (path, line)
        if before == NOTHING:
            assert any("SPDX-License-Identifier: MIT" in line for line in lines[:8]), path


@pytest.mark.parametrize("release", RELEASES)
def test_readme_tells_of(release):
    source = re.compile(r"^(commit [0-9a-f]{40}|sha256 [0-9a-f]{64})", re.M)
    sources = {source.search(path.read_text())[1] for path in FOLDER.glob(f"{release}/*")}
    (source,) = sources
    kind, number = source.split()
    (row,) = [
        line for line in (FOLDER / "README.md").read_text().splitlines() if f"[{release}]" in line
    ]
    assert f"{kind} `{number[:12]}`" in row
    for path in FOLDER.glob(f"{release}/*.patch"):
        assert f"`{path.stem}`" in row


@pytest.mark.parametrize("release", RELEASES)
def test_applies(release, tmp_path):
    """Each file is the one that the patch was made for, and becomes what the patch's author
    built."""
    variable = "TSK_SOURCE_" + re.sub("[.-]", "_", release).upper()
    tree = os.environ.get(variable)
    if not tree:
        pytest.skip(f"{variable} does not name the source tree of this release")
    patches = sorted(FOLDER.glob(f"{release}/*.patch"))
    changes = {
        path: (before, after) for patch in patches for path, before, after, _ in files(patch)
    }
    for path, (before, _) in changes.items():
        if before == NOTHING:
            assert not os.path.exists(os.path.join(tree, path)), f"{path} is there already"
            continue
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(os.path.join(tree, path), tmp_path / path)
        assert blob((tmp_path / path).read_bytes()) == before, f"{path} is not that of {release}"
    for patch in patches:
        run(
            "git",
            "apply",
            "--unidiff-zero",
            patch,
            cwd=tmp_path,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)},
        )
    for path, (_, after) in changes.items():
        assert blob((tmp_path / path).read_bytes()) == after, path


@pytest.mark.parametrize("text", sorted(FOLDER.glob("upstream/*.md")), ids=lambda path: path.stem)
def test_text_for_others_says_what_why_and_how_it_was_tested(text):
    words = text.read_text()
    for part in (r"Title:\*\* \S", r"What( happens)?\W", r"(Why|The change)\.", r"Tested\*\*"):
        assert re.search(rf"^\*\*{part}", words, re.M), part
    assert f"upstream/{text.name}" in (FOLDER / "README.md").read_text()
