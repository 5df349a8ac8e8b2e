# SPDX-License-Identifier: MIT
"""Where the source and the build are, and running programs."""
import os
import subprocess

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("TSK_QCOW2_BUILD", SOURCE)


def run(*command, timeout=600, check=True, **more):
    """Run a command to its end; text output. With check, its output is in the error if it fails."""
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=timeout,
                            errors="surrogateescape", **more)
    if check:
        assert result.returncode == 0, f"{command} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}"
    return result
