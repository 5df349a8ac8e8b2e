#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the fuzzers that fuzz.mk has built. What they find stays in the build directory: inputs that
reach more in found/TARGET/, those that fail in failures/, and what libFuzzer says in
logs/TARGET.log.
"""
import argparse
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from fuzz.corpus import unpack  # noqa: E402
from fuzz.seeds import SEEDS  # noqa: E402

# The longest inputs, in bytes: as much as reaches everything, and little more.
LONGEST = {
    "image": 120_000,
    "check": 120_000,
    "residue": 120_000,
    "labels": 120_000,
    "abandoned": 120_000,
    "volumes": 20_000,
    "order": 120_000,
    "mapping": 4096,
    "decompress": 8192,
    "luks": 3000,
    "tables": 8192,
    "reference": 600,
    "selector": 1000,
    "name": 600,
}
# A hang and a memory bomb are findings.
LIMITS = ["-timeout=10", "-rss_limit_mb=1024"]


def fuzz(build, target, seconds):
    """Run one fuzzer. Returns (executions, seconds, whether it failed)."""
    folders = [build / "found" / target, build / "corpus" / target]
    for folder in (folders[0], build / "failures", build / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    command = [
        build / f"fuzz-{target}",
        *LIMITS,
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST[target]}",
        f"-dict={HERE / 'qcow2.dict'}",
        f"-artifact_prefix={build / 'failures' / target}-",
        "-print_final_stats=1",
        *folders,
    ]
    log = build / "logs" / f"{target}.log"
    start = time.monotonic()
    with open(log, "wb") as out:
        status = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT).returncode
    done = re.search(rb"stat::number_of_executed_units: (\d+)", log.read_bytes())
    return int(done[1]) if done else 0, time.monotonic() - start, status != 0


def main():
    parser = argparse.ArgumentParser(description="Run the fuzzers.")
    parser.add_argument("--build", type=Path, required=True, help="where fuzz.mk built them")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--jobs", type=int, default=2, help="how many run at once")
    parser.add_argument("targets", nargs="*", default=list(SEEDS))
    options = parser.parse_args()
    targets = options.targets or list(SEEDS)
    unpack(options.build / "corpus")
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = list(pool.map(lambda target: fuzz(options.build, target, options.seconds), targets))
    for target, (executions, seconds, failed) in zip(targets, runs):
        print(
            f"{target:11} {executions:10} executions in {seconds:5.0f} s  "
            f" {'FAILED' if failed else 'ok'}   {options.build}/logs/{target}.log"
        )
    failed = any(run[2] for run in runs)
    if failed:
        print(
            f"The inputs that failed are in {options.build}/failures; tests/fuzz/README.md says how"
            " to reproduce them."
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
