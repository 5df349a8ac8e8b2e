# SPDX-License-Identifier: MIT
"""Images mounted by `tsk-qcow2 mount`.

    with Mount(name, directory) as mount:
        mount.path("active.raw").read_bytes()
    mount.status, mount.complaint
"""
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from . import tools
from .project import BUILD, COMMAND, run, sanitized

PROGRAM = Path(BUILD, "tsk_qcow2", "tsk-qcow2-mount")


def missing():
    """Why nothing can be mounted here; "": it can."""
    if not PROGRAM.exists():
        return "it was built without libfuse3"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse cannot be used here"
    return ""


needed = pytest.mark.skipif(bool(missing()), reason=missing() or "nothing is missing")


def environment(**more):
    return {**tools.CLEAN, "HOME": os.environ["HOME"], **more, **sanitized(leaks=True)}


def unmount(directory):
    """As a user does. Someone may still look at it for a moment."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if not os.path.ismount(directory):
            return
        done = subprocess.run(["fusermount3", "-u", directory], capture_output=True, check=False)
        if done.returncode != 0:
            time.sleep(0.02)
    raise AssertionError(f"{directory} stays mounted")


SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def heed_signals():
    """In the child. What runs under nohup, or in a script's background, ignores some signals, and
    its children ignore them too."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


class Mount:
    """A name mounted in the foreground. If that fails, `process` has ended when it is entered."""

    def __init__(self, name, directory, *options, variables=None, names=(), prefix=()):
        self.directory = Path(directory)
        self.directory.mkdir(exist_ok=True)
        command = [COMMAND, "mount", "--foreground", *options, name, *names, self.directory]
        self.words = [*prefix, *command]
        self.variables = environment(**(variables or {}))
        self.complaint = ""

    def __enter__(self):
        heeded = all(signal.getsignal(number) != signal.SIG_IGN for number in SIGNALS)
        self.process = subprocess.Popen(
            list(map(os.fsencode, self.words)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self.variables,
            preexec_fn=None if heeded else heed_signals,  # which makes starting it expensive
        )
        end = time.monotonic() + 120
        while not os.path.ismount(self.directory) and self.process.poll() is None:
            assert time.monotonic() < end, "it neither mounts nor ends"
            time.sleep(0.002)
        return self

    def __exit__(self, *_):
        try:
            unmount(self.directory)
        finally:
            try:
                self.complaint = self.process.communicate(timeout=120)[1].decode(errors="replace")
            except subprocess.TimeoutExpired:
                self.process.kill()
                raise

    @property
    def status(self):
        return self.process.returncode

    @property
    def is_mounted(self):
        return os.path.ismount(self.directory)

    def path(self, name):
        return self.directory / name

    def files(self):
        """All files, by their paths below the directory."""
        return sorted(
            str(path.relative_to(self.directory))
            for path in self.directory.rglob("*")
            if path.is_file()
        )


def in_background(name, directory, *options, **more):
    """Mount as a user does; returns when it is mounted, or not."""
    Path(directory).mkdir(exist_ok=True)
    return run(COMMAND, "mount", *options, name, directory, env=environment(), **more)
