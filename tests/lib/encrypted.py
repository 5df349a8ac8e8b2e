# SPDX-License-Identifier: MIT
"""Encrypted images, made and read by QEMU.

QEMU measures for a second or more how many PBKDF2 iterations take the time that encrypt.iter-time
asks for. Here it runs with a clock that makes it believe so at once; the images are QEMU's own all
the same, with some thousand iterations.
"""
import functools
import json
import os
import subprocess
import tempfile
from pathlib import Path

from .project import BUILD

CLOCK = r"""
#include <string.h>
#include <sys/resource.h>
int getrusage(int who, struct rusage *usage)
{
  static long milliseconds;
  (void) who;
  memset(usage, 0, sizeof(*usage));
  milliseconds += 600;
  usage->ru_utime.tv_sec = milliseconds / 1000;
  usage->ru_utime.tv_usec = milliseconds % 1000 * 1000;
  return 0;
}
"""


def has_libgcrypt():
    """Whether the library can decrypt."""
    library = Path(BUILD, "core/.libs/libqcow2core.so")
    return not library.exists() or b"libgcrypt.so" in library.read_bytes()


def environment():
    """Without a sanitizer that is preloaded for Python."""
    return {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}


@functools.cache
def clock():
    """The library to preload, or None without a compiler: then QEMU takes its time."""
    folder = tempfile.TemporaryDirectory(prefix="clock")
    source, library = Path(folder.name, "clock.c"), Path(folder.name, "clock.so")
    source.write_text(CLOCK)
    try:
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-o", library, source],
            check=True,
            capture_output=True,
            env=environment(),
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    clock.folder = folder  # removed when Python ends
    return library


def clock_environment():
    """For QEMU's tools: with that clock. By the real one they fail at times to make a LUKS image on
    a busy machine."""
    return {**environment(), **({} if clock() is None else {"LD_PRELOAD": str(clock())})}


def qemu(*words, secrets=(), check=True):
    """Run a QEMU tool. secrets[n], a bytes object, is the secret "sN"."""
    with tempfile.TemporaryDirectory(prefix="secrets") as folder:
        objects = []
        for number, secret in enumerate(secrets):
            path = Path(folder, f"s{number}")
            path.write_bytes(secret)
            objects += ["--object", f"secret,id=s{number},file={path}"]
        tool, *rest = [str(word) for word in words]
        command = (
            [tool, *rest[:1], *objects, *rest[1:]]
            if tool == "qemu-img"
            else [tool, *objects, *rest]
        )
        done = subprocess.run(command, env=clock_environment(), capture_output=True, timeout=120)
    if check:
        assert done.returncode == 0, f"{command}: {done.stdout.decode()} {done.stderr.decode()}"
    return done


def create(
    path,
    size,
    method="luks",
    secret=b"secret",
    check=True,
    options=(),
    backing=None,
    driver="qcow2",
    **encrypt,
):
    """qemu-img create; `encrypt` are the encrypt.* options, with "_" for "-". Without a method, the
    image is not encrypted. Returns the path, or None if QEMU cannot."""
    words = [*options]
    if method:
        words += [f"encrypt.format={method}", "encrypt.key-secret=s0"]
    if method == "luks":
        words += ["encrypt.iter-time=100"]
    words += [f"encrypt.{name.replace('_', '-')}={value}" for name, value in encrypt.items()]
    more = ["-o", ",".join(words)] if words else []
    more += ["-u", "-F", backing[1], "-b", backing[0]] if backing else []
    done = qemu(
        "qemu-img",
        "create",
        "-q",
        "-f",
        driver,
        *more,
        path,
        size,
        secrets=[secret],
        check=check,
    )
    return path if done.returncode == 0 else None


def node(path, method="luks", secret=0, backing=None, **more):
    """QEMU's description of an encrypted image (method None: a plain one), for json_name()."""
    described = {"driver": "qcow2", "file": {"driver": "file", "filename": str(path)}, **more}
    if method is not None:
        described["encrypt"] = {"format": method, "key-secret": f"s{secret}"}
    if backing is not None:
        described["backing"] = backing
    return described


def raw_node(path):
    return {"driver": "raw", "file": {"driver": "file", "filename": str(path)}}


def json_name(described):
    return "json:" + json.dumps(described)


def write(described, writes, secrets=(b"secret",)):
    """qemu-io commands in order: (offset, bytes) writes, a string is a command of its own."""
    with tempfile.TemporaryDirectory(prefix="writes") as folder:
        commands = []
        for number, step in enumerate(writes):
            if not isinstance(step, str):
                Path(folder, str(number)).write_bytes(step[1])
                step = f"write -s {folder}/{number} {step[0]} {len(step[1])}"
            commands += ["-c", step]
        done = qemu("qemu-io", "-t", "unsafe", *commands, json_name(described), secrets=secrets)
        assert b"failed" not in done.stdout + done.stderr, done


def content(described, secrets=(b"secret",), options=()):
    """The guest content, by qemu-img convert."""
    with tempfile.TemporaryDirectory(prefix="oracle") as folder:
        raw = Path(folder, "raw")
        qemu(
            "qemu-img",
            "convert",
            "-t",
            "unsafe",
            *options,
            "-O",
            "raw",
            json_name(described),
            raw,
            secrets=secrets,
        )
        return raw.read_bytes()
