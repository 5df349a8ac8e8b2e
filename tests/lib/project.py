# SPDX-License-Identifier: MIT
"""Where the source and the build are, and running programs."""
import json
import os
import subprocess
import sys
from pathlib import Path

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("TSK_QCOW2_BUILD", SOURCE)
COMMAND = Path(BUILD, "tsk_qcow2", "tsk-qcow2")
# The sanitizers that the build has, such as address,undefined.
SANITIZERS = os.environ.get("TSK_QCOW2_SANITIZERS", "")
# What a program must load before it can load sanitized libraries.
PRELOAD = os.environ.get("TSK_QCOW2_PRELOAD", "")


def sanitized(leaks=False):
    """Variables for a program that is sanitized, or loads what is. With `leaks`, it must free all
    that it allocates."""
    if not SANITIZERS:
        return {}
    given = {
        name: os.environ[name]
        for name in ("ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS")
    }
    if leaks and "address" in SANITIZERS:
        given["ASAN_OPTIONS"] += ":detect_leaks=1"
    return given


def can_change_user():
    """Whether this is root, and there is another user to become: in a user namespace there may be
    none."""
    with open("/proc/self/uid_map") as ranges:
        return os.geteuid() == 0 and sum(int(line.split()[2]) for line in ranges) > 65534


def run(*command, timeout=600, check=True, env=None, **more):
    """Run a command to its end; text output. With check, its output is in the error if it fails.
    Programs of the build must not leak."""
    command = [str(word) for word in command]
    if SANITIZERS and command[0].startswith(BUILD + os.sep):
        env = {**(os.environ if env is None else env), **sanitized(leaks=True)}
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        errors="surrogateescape",
        env=env,
        **more,
    )
    if check:
        assert (
            result.returncode == 0
        ), f"{command} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}"
    return result


def tsk_qcow2(*words, status=0, timeout=120, cwd=None, **environment):
    """Run `tsk-qcow2 WORDS...` in an environment of its own, with these variables. It must end with
    this status. Returns what it prints."""
    done = subprocess.run(
        [COMMAND, *words],
        capture_output=True,
        timeout=timeout,
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", **sanitized(), **environment},
    )
    assert done.returncode == status, done
    return done.stdout.decode()


def run_line(line, *words, **more):
    """run() of a command as it is typed: the words of `line`, and more that may have blanks."""
    return run(*line.split(), *words, **more)


def run_python(script, *arguments, prefix=(), timeout=120, **more):
    """Run a Python script, which finds `lib`, in a process of its own. Returns what it prints, of
    which each line is JSON."""
    setup = f"import sys; sys.path.insert(0, {os.path.join(SOURCE, 'tests')!r})\n"
    command = [*prefix, sys.executable, "-B", "-c", setup + script, *arguments]
    done = run(*command, stdin=subprocess.DEVNULL, timeout=timeout, **more)
    return [json.loads(line) for line in done.stdout.splitlines()]


def json_keys(value):
    """Every key in a JSON value, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(json_keys, value.values()))
    return set().union(*map(json_keys, value)) if isinstance(value, list) else set()
