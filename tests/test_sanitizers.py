# SPDX-License-Identifier: MIT
"""The sanitizers see: what a build with --enable-sanitizers must report is reported, and cannot be
swallowed by a test."""
import os
import subprocess
import sys

import pytest
from lib.project import BUILD, PRELOAD, SANITIZERS, SOURCE, run, sanitized

pytestmark = pytest.mark.skipif(not SANITIZERS, reason="this build has no sanitizers")

# What each sanitizer must see, and what it calls that. The second argument of volatile things is
# for the compiler, which must not see.
CANARIES = {
    "address": [
        (
            "heap-buffer-overflow",
            "volatile char *block = malloc(10); block[10] = 1; free((void *) block);",
        ),
        (
            "heap-use-after-free",
            "volatile char *block = malloc(10); free((void *) block); block[1] = 1;",
        ),
        ("detected memory leaks", "void *volatile block = malloc(10); block = NULL;"),
    ],
    "undefined": [
        ("__ubsan_handle_add_overflow", "volatile int most = 2147483647; most = most + 1;"),
        ("__ubsan_handle_shift_out_of_bounds", "volatile int many = 64; many = 1 << many;"),
    ],
    "thread": [
        (
            "data race",
            (
                "pthread_t thread; pthread_create(&thread, NULL, count, NULL); counter++;"
                " pthread_join(thread, NULL);"
            ),
        )
    ],
}
EXPECTED = (
    [canary for sanitizer in SANITIZERS.split(",") for canary in CANARIES[sanitizer]]
    if SANITIZERS
    else []
)
PROGRAM = """
#include <pthread.h>
#include <stdlib.h>
static int counter;
void *count(void *nothing);
void *count(void *nothing) { counter++; return nothing; }
int main(void) { %s return 0; }
"""


def watched(reports, *command):
    """Run a command as the tests are run: the exit status, and what is shown at the end."""
    result = subprocess.run(
        [os.path.join(SOURCE, "tests", "sanitized"), reports, PRELOAD, *command],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return result.returncode, result.stdout


@pytest.mark.parametrize("words, statements", EXPECTED)
def test_what_is_wrong_is_reported_though_the_test_passes(words, statements, tmp_path):
    source, binary = tmp_path / "canary.c", tmp_path / "canary"
    source.write_text(PROGRAM % statements)
    run(
        "gcc",
        f"-fsanitize={SANITIZERS}",
        "-fno-sanitize-recover=all",
        "-g",
        source,
        "-o",
        binary,
        "-lpthread",
    )
    leaks = "export ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=1; " if "leaks" in words else ""
    status, shown = watched(
        tmp_path / "reports", "sh", "-c", f"{leaks}{binary} && echo unseen; true"
    )
    assert status == 1 and words in shown and "unseen" not in shown


def test_what_is_right_is_not_reported(tmp_path):
    assert watched(tmp_path / "reports", "true") == (0, "")
    assert watched(tmp_path / "reports", "sh", "-c", "exit 7") == (7, "")


@pytest.mark.skipif("address" not in SANITIZERS, reason="for AddressSanitizer")
def test_the_library_in_python_is_watched(tmp_path):
    """A caller claims that a buffer is larger than it is."""
    script = (
        "import ctypes, sys; sys.path.insert(0, sys.argv[1]); from lib import core; "
        "core.library().qcow2_text_escape(b'x' * 99, 99, ctypes.create_string_buffer(99), 100)"
    )
    status, shown = watched(
        tmp_path / "reports", sys.executable, "-B", "-c", script, os.path.join(SOURCE, "tests")
    )
    assert status == 1 and "heap-buffer-overflow" in shown and "qcow2_text_escape" in shown


@pytest.mark.skipif("address" not in SANITIZERS, reason="for AddressSanitizer")
@pytest.mark.parametrize(
    "name",
    [
        "core/.libs/libqcow2core.so",
        "tsk_qcow2/.libs/libtsk_qcow2.so",
        "tsk_qcow2/dropin/libtsk.so.19",
        "tsk_qcow2/tsk-qcow2",
    ],
)
def test_what_is_tested_is_sanitized(name):
    assert "__asan_init" in run("nm", "-D", os.path.join(BUILD, name)).stdout
    assert sanitized(leaks=True)["ASAN_OPTIONS"].endswith("detect_leaks=1")
