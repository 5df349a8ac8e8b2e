#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Lay out the C as .clang-format says, and the Python as black does, with lines of at most 100
# columns:
#   scripts/format.sh [--check]
# --check changes nothing, and ends with 1 if something would be changed. Formatters change with
# their versions: those of Debian 12 decide (clang-format 14, black 23).
set -eu
cd "$(dirname "$0")/.."

clang_options=-i
black_options=--quiet
if [ "${1-}" = --check ]; then
  clang_options='--dry-run --Werror'
  black_options='--check --quiet --diff'
fi

# files_of_python: those whose names end in .py, and programs whose first line names Python.
files_of_python() {
  git ls-files '*.py'
  git grep -lIE '^#!/usr/bin/(env )?python3' -- ':!*.py'
}

status=0
# shellcheck disable=SC2046,SC2086  # no name has spaces; options are several words
{
  clang-format $clang_options $(git ls-files '*.c' '*.h') || status=1
  black --line-length 100 $black_options $(files_of_python | sort) || status=1
}
exit "$status"
