#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Report lines that are not as .editorconfig says, in all files that git knows.

Lines are too long above max_line_length characters. These do not count, as they cannot be broken:
addresses, and in Markdown the targets of links, tables, and what stands between fences.
"""
import configparser
import functools
import re
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent


def pattern(glob):
    """The regular expression for the name of one of .editorconfig's sections."""
    meanings = {"**": ".*", "*": "[^/]*", "{": "(?:", "}": ")", ",": "|"}
    tokens = re.findall(r"\*\*|.", glob)
    anywhere = "" if "/" in glob else "(?:.*/)?"
    return re.compile(anywhere + "".join(meanings.get(token, re.escape(token)) for token in tokens))


def sections(source):
    """(pattern, settings) of each section, in order: later ones win."""
    parser = configparser.ConfigParser()
    parser.read_string("[preamble]\n" + (source / ".editorconfig").read_text())
    return [(pattern(name), dict(parser[name])) for name in parser.sections() if name != "preamble"]


def settings_for(name, all_sections):
    settings = {}
    for regex, values in all_sections:
        if regex.fullmatch(name):
            settings.update(values)
    return settings


def without_addresses(line):
    return re.sub(r"[a-z]+://[^\s)>\"']+", "", line)


def breakable_lines(name, lines):
    """(number, line without what cannot be broken) of the lines that could have been broken."""
    fenced = False
    for number, line in enumerate(lines, 1):
        if name.endswith(".md"):
            if re.match(r" *(```|~~~)", line):
                fenced = not fenced
            if fenced or line.lstrip().startswith("|"):
                continue
            line = re.sub(r"\]\([^)]*\)", "]", line)
        yield number, without_addresses(line)


def faults(name, content, settings):
    """(line number, what is wrong) of each fault in a file."""
    if b"\0" in content or settings.get("charset") == "unset":
        return
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        yield content.count(b"\n", 0, error.start) + 1, "is not UTF-8"
        return
    if text and not text.endswith("\n"):
        yield text.count("\n") + 1, "does not end with a newline"
    lines = text.removesuffix("\n").split("\n")
    for number, line in enumerate(lines, 1):
        if "\r" in line:
            yield number, "has a carriage return"
        if settings["trim_trailing_whitespace"] == "true" and re.search(r"[ \t]\r?$", line):
            yield number, "ends with a blank"
        if settings["indent_style"] == "space" and "\t" in line:
            yield number, "has a tab"
    if settings["max_line_length"] != "unset":
        longest = int(settings["max_line_length"])
        for number, line in breakable_lines(name, lines):
            if len(line) > longest:
                yield number, f"has {len(line)} characters, more than {longest}"


def check(source):
    """Print the faults of all files, and return how many there are."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=source, stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    find_settings = functools.partial(settings_for, all_sections=sections(source))
    count = 0
    for name in listing.split("\0")[:-1]:
        for number, fault in faults(name, (source / name).read_bytes(), find_settings(name)):
            print(f"{name}:{number}: {fault}")
            count += 1
    return count


if __name__ == "__main__":
    sys.exit(1 if check(SOURCE) else 0)
