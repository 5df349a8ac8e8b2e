#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Draws README's picture: runs its commands on the demonstration disk, and prints what a terminal
shows, as SVG.

sh scripts/demo-disk.sh demo && mv demo/demo.qcow2 disk.qcow2 && scripts/draw-session.py >
docs/session.svg

The directory is shown as /cases/7.
"""
import os
import subprocess
from xml.sax.saxutils import escape

COMMANDS = [
    "tsk-qcow2 snapshots disk.qcow2",
    "fls -i qcow2 -o 2048 -r -p disk.qcow2 | grep plan",
    "fls -i qcow2 -o 2048 -r -p disk.qcow2@before-deletion | grep plan",
    "icat -i qcow2 -o 2048 disk.qcow2@before-deletion 15",
    "tsk-qcow2 verify disk.qcow2",
]
CHARACTER, LINE, MARGIN = 7.83, 19, 16
STYLE = """
  rect { fill: #1d1f21; }
  text { font: 13px "DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace;
         fill: #c5c8c6; white-space: pre; }
  .prompt { fill: #7d8590; }
  .command { fill: #f0c674; font-weight: bold; }
"""


def session():
    """The lines of the screen, each as whether it is a command, and its text."""
    for command in COMMANDS:
        yield True, command
        for line in subprocess.run(
            command, shell=True, check=True, capture_output=True, text=True
        ).stdout.splitlines():
            yield False, line.replace(os.getcwd(), "/cases/7").expandtabs(8)


def draw(lines):
    width = max(len(text) + 2 * is_command for is_command, text in lines) * CHARACTER + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" viewBox="0'
        f' 0 {width:.0f} {height}">'
    )
    yield f'<style>{STYLE}</style>\n<rect width="100%" height="100%" rx="8"/>'
    for number, (is_command, text) in enumerate(lines):
        content = (
            f'<tspan class="prompt">$ </tspan><tspan class="command">{escape(text)}</tspan>'
            if is_command
            else escape(text)
        )
        yield (
            f'<text x="{MARGIN}" y="{MARGIN + number * LINE + 14}"'
            f' xml:space="preserve">{content}</text>'
        )
    yield "</svg>"


if __name__ == "__main__":
    print("\n".join(draw(list(session()))))
