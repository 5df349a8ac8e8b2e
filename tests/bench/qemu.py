# SPDX-License-Identifier: MIT
"""Which QEMU is measured: the newest at hand, here or in the roots of scripts/distributions.sh."""
import os
import re
import subprocess
import sysconfig
from pathlib import Path

ROOTS = Path(os.environ.get("TSK_QCOW2_ROOTS", "/var/cache/tsk-qcow2-roots"))


class Qemu:
    """QEMU's programs in a root directory, run by that root's own loader and libraries."""

    def __init__(self, root):
        self.root = Path(root)

    def command(self, program):
        """The words that run it, or None."""
        path = self.root / "usr/bin" / program
        if self.root == Path("/"):
            return [program]
        loader = next(iter(sorted(self.root.glob("lib64/ld-linux-*.so.*"))), None)
        if loader is None or not path.exists():
            return None
        libraries = self.root / "usr/lib" / sysconfig.get_config_var("MULTIARCH")
        return [loader, "--library-path", libraries, path]

    def version(self):
        """As numbers; empty: it cannot be run."""
        command = self.command("qemu-img")
        try:
            done = subprocess.run([*command, "--version"], capture_output=True, text=True)
        except (OSError, TypeError):
            return ()
        found = re.search(r"version (\d+)\.(\d+)\.(\d+)", done.stdout)
        return tuple(map(int, found.groups())) if found else ()


def newest():
    return max(map(Qemu, ["/", *ROOTS.glob("*/")]), key=Qemu.version)
