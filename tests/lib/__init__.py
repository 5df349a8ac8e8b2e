# SPDX-License-Identifier: MIT
"""What tests share. The Python module qcow2core is found from here on."""
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tsk_qcow2" / "python"))
if "address" in os.environ.get("TSK_QCOW2_SANITIZERS", ""):
    from . import watched

    watched.watch()
