# SPDX-License-Identifier: MIT
"""Shell scripts as root of a user namespace, with an /etc of their own."""
import sys

import pytest

from . import tools
from .project import BUILD, SOURCE, run

CLEAN = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}


def in_namespace(script, check=True):
    """Run a shell script as root of a user namespace whose /etc is a copy that it may change."""
    setup = (
        "set -eu; etc=$(mktemp -d); cp -a /etc/. $etc 2>/dev/null || true; mount --bind $etc /etc; "
        "rm -f /etc/ld.so.conf.d/*tsk-qcow2*; ldconfig; "
    )
    probe = run("unshare", "-rm", "true", env=CLEAN, check=False)
    if probe.returncode != 0:
        pytest.skip("user namespaces are not allowed here: " + probe.stderr)
    return run("unshare", "-rm", "sh", "-c", setup + script, env=CLEAN, check=check)


def without_libtsk(script):
    """in_namespace() where the system's libtsk cannot be loaded. In the script, `in_python NAME`
    opens an image name by the Python module."""
    libtsk = f"{tools.stock()['LD_LIBRARY_PATH']}/{next(tools.DROPIN.glob('libtsk.so.*')).name}"
    setup = f"""
        mount --bind /dev/null $(realpath {libtsk})
        export QCOW2CORE_LIBRARY={BUILD}/core/.libs/libqcow2core.so
        export PYTHONPATH={SOURCE}/tsk_qcow2/python
        in_python() {{
          {sys.executable} -c 'import sys, qcow2core; qcow2core.open(sys.argv[1])' "$1"
        }}
    """
    return in_namespace(setup + script)
