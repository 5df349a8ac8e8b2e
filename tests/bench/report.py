# SPDX-License-Identifier: MIT
"""What comes of measured rounds: medians, ratios, bars, and the table of docs/comparison.md."""
import re
import statistics
from pathlib import Path

BEGIN, END = "<!-- measured by tests/bench/run --document -->\n", "<!-- end of that -->\n"
COLUMNS = {
    "plain": "plain qcow2",
    "zstd": "zstd",
    "zlib": "deflate",
    "zlib-2m": "deflate, 2 MiB",
    "luks": "LUKS",
}
# What a line says, its scenarios, and the contender whose times it shows.
LINES = (
    ("`fls -r -p` of all files, ext4", "fls {}", "ours"),
    ("the same, NTFS (48,000 files)", "fls ntfs-{}", "ours"),
    ("all files, `tsk_recover -a`", "tsk_recover {}", "ours"),
    ("the whole disk, `img_cat`", "img_cat {}", "ours"),
    ("the same by QEMU {qemu}", "img_cat {}", "QEMU"),
    ("SHA-256 of it, `tsk-qcow2 verify`", "verify {}", "ours"),
    ("the same by `qemu-nbd`, `nbdcopy` and `openssl`", "verify {}", "QEMU"),
)
# Of raw disks: the contender "raw" of the first such scenario, for the lines of `ours`.
RAW = {"verify {}": "openssl"}


def best(others, name, contenders):
    """Each round's time of a contender, or of the best of several."""
    names = contenders.get(name, (name,))
    return [min(runs) for runs in zip(*(others[one] for one in names))]


def evaluate(scenario, rounds):
    seconds = {name: [run["seconds"] for run in runs] for name, runs in rounds.items()}
    for name in scenario.groups:
        seconds[name] = best(seconds, name, scenario.groups)
    medians = {
        name: {
            key: statistics.median(run[key] for run in runs) for key in ("seconds", "cpu", "mib")
        }
        for name, runs in rounds.items()
    }
    # Each round's own ratio: what slows the machine down slows both.
    ratios = {
        name: statistics.median(mine / other for mine, other in zip(seconds["ours"], runs))
        for name, runs in seconds.items()
        if name != "ours"
    }
    mib = max(run["mib"] for run in rounds["ours"])
    ours = medians["ours"]["seconds"]
    bars = [bar(ratios[name], most, f"x {name}") for name, most in scenario.bars.items()]
    if scenario.seconds_max:
        unit, scale = ("ms", 1e3) if scenario.seconds_max >= 1e-4 else ("us", 1e6)
        bars.append(bar(ours * scale, scenario.seconds_max * scale, unit))
    if scenario.mib_max:
        bars.append(bar(mib, scenario.mib_max, "MiB"))
    return {
        "scenario": scenario.name,
        "medians": medians,
        "seconds": {name: statistics.median(runs) for name, runs in seconds.items()},
        "ratios": ratios,
        "bars": bars,
        "rounds": seconds,
    }


def bar(measured, at_most, unit):
    return {"measured": measured, "at_most": at_most, "unit": unit, "met": measured <= at_most}


# ---- Text ------------------------------------------------------------------------


def print_result(result):
    ours = result["medians"]["ours"]
    others = "  ".join(
        f"{name} {show(result['seconds'][name])} ({ratio:.2f})"
        for name, ratio in result["ratios"].items()
    )
    print(
        f"{result['scenario']:24} {show(ours['seconds'])} {ours['cpu']:6.2f}s"
        f" {ours['mib']:4.0f}M  {others}",
        flush=True,
    )


def print_bars(results):
    width = max(len(result["scenario"]) for result in results)
    for result in results:
        for one in result["bars"]:
            print(
                f"{result['scenario']:{width}}  bar: {one['at_most']:g} {one['unit']},"
                f" measured: {one['measured']:.3g}, {'met' if one['met'] else 'NOT MET'}"
            )


def show(seconds):
    return f"{seconds:6.2f}s" if seconds >= 0.1 else f"{seconds * 1e6:6.1f}us"


# ---- The table ---------------------------------------------------------------------


def table(document):
    """The lines of which all times were measured, as Markdown."""
    results = {result["scenario"]: result["seconds"] for result in document["results"]}
    lines = ["| | raw | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
    for title, pattern, contender in LINES:
        measured = {name: results.get(pattern.format(name), {}) for name in COLUMNS}
        if any(contender in seconds for seconds in measured.values()):
            raw = next(iter(measured.values())).get(RAW.get(pattern, "raw"), None)
            cells = [raw if contender == "ours" else None]
            cells += [seconds.get(contender) for seconds in measured.values()]
            title = title.format(qemu=document["qemu"])
            lines.append(f"| {title} | " + " | ".join(map(cell, cells)) + " |")
    shown = {pattern.format(name) for _, pattern, _ in LINES for name in COLUMNS}
    mib = max(
        result["medians"]["ours"]["mib"]
        for result in document["results"]
        if result["scenario"] in shown
    )
    machine = document["machine"]
    return (
        "\n".join(lines)
        + f"\n\nMedians of one run, {machine['date']}, on {machine['processors']} processors"
        + f" ({machine['model']}).\nNone of it took more than {mib:.0f} MiB of memory.\n"
    )


def cell(seconds):
    return "" if seconds is None else f"{seconds:.2f} s"


def put_into(path, text):
    """Replace what stands between the marks."""
    page = Path(path).read_text()
    pattern = re.escape(BEGIN) + ".*" + re.escape(END)
    if not re.search(pattern, page, re.DOTALL):
        raise SystemExit(f"{path} has no place for the table")
    Path(path).write_text(
        re.sub(pattern, lambda _: f"{BEGIN}\n{text}\n{END}", page, flags=re.DOTALL)
    )
