#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the tests in C of a build, also of one that needs another program to run here:

    run.py BUILD [RUNNER...]     such as: run.py build/s390x qemu-s390x -L /usr/s390x-linux-gnu

These are the unit tests, the fuzzers' corpora, and images that the builder makes, read by digest.c.
Prints what failed, then a line that counts what ran. The status is 1 if anything failed.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fuzz.corpus import unpack  # noqa: E402
from portability.images import make  # noqa: E402

INPUTS_AT_ONCE = 200  # Windows has short command lines


class Build:
    def __init__(self, directory, runner):
        self.directory, self.runner = Path(directory).resolve(), runner
        self.is_windows = (self.directory / "tests/unit/unit.exe").exists()
        self.has_libgcrypt = "#define HAVE_LIBGCRYPT 1" in (self.directory / "config.h").read_text()
        self.failures = 0

    def run(self, program, *arguments, folder=None):
        path = self.directory / program
        if (
            self.is_windows
        ):  # beside it may be a program of libtool's that starts it through a shell
            path = path.parent / ".libs" / f"{path.name}.exe"
            path = path if path.exists() else self.directory / f"{program}.exe"
        return subprocess.run(
            [*self.runner, str(path), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=600,
            cwd=folder,
            errors="surrogateescape",
        )

    def expect(self, what, result, stdout, status=0):
        """Say and count it if a program ended with another status, or printed other things, than
        expected (None: anything)."""
        if result.returncode == status and stdout in (None, result.stdout):
            return
        self.failures += 1
        print(f"FAILED: {what}: status {result.returncode}, expected {status}")
        print(
            result.stdout
            + result.stderr[-2000:]
            + ("" if stdout is None else f"expected:\n{stdout}")
        )

    def units(self):
        names = self.run("tests/unit/unit").stdout.split()
        for name in names:
            self.expect(f"unit test {name}", self.run("tests/unit/unit", name), None)
        return f"{len(names)} unit tests", len(names) >= 10

    def corpora(self, folder):
        targets, count = self.run("tests/fuzz/replay").stdout.split(), 0
        unpack(folder, targets)
        for target in targets:
            files = sorted(path.name for path in (folder / target).iterdir())
            count += len(files)
            for at in range(0, len(files), INPUTS_AT_ONCE):
                some = files[at : at + INPUTS_AT_ONCE]
                result = self.run("tests/fuzz/replay", target, *some, folder=folder / target)
                self.expect(f"corpus of {target}", result, f"{len(some)} inputs\n")
        return f"{count} inputs of {len(targets)} fuzzers", len(targets) >= 6

    def images(self, folder):
        cases = make(folder)
        for case in cases:
            lines = case.lines
            if self.is_windows and case.windows_lines:
                lines = case.windows_lines
            if case.is_encrypted and not self.has_libgcrypt:
                lines = ["UNSUPPORTED"]
            result = self.run("tests/portability/digest", *case.arguments, folder=folder)
            self.expect(
                "digest " + " ".join(case.arguments),
                result,
                "".join(line + "\n" for line in lines),
                int(len(lines) == 1),
            )
        return f"{len(cases)} images", True


def main(directory, *runner):
    build, done = Build(directory, runner), []
    for test in (build.units, build.corpora, build.images):
        with tempfile.TemporaryDirectory() as folder:
            what, is_enough = test(*([] if test == build.units else [Path(folder)]))
        done.append(what)
        build.failures += not is_enough
    print(", ".join(done))
    return int(build.failures > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
