#!/bin/sh
# SPDX-License-Identifier: MIT
# Look for bugs, and for lines that are not laid out as ours, without running anything: with
# check-lines.py, format.sh, flake8, shellcheck, clang's warnings, cppcheck and clang-tidy.
set -eu
source_dir=$(cd "$(dirname "$0")/.." && pwd)
build_dir=$source_dir/build/lint

sh "$source_dir/scripts/install-packages.sh" build lint
[ -x "$source_dir/configure" ] || sh "$source_dir/scripts/autogen.sh"
step() { printf '\n== %s\n' "$*"; }

# formatters: the major versions of those that scripts/format.sh runs.
formatters() {
  clang-format --version | sed -n 's/.*version \([0-9]*\).*/clang-format \1/p'
  black --version | sed -n '1s/black, \([0-9]*\).*/black \1/p'
}

cd "$source_dir"
step "lines"
python3 scripts/check-lines.py

step "layout"
case $(formatters | xargs) in
"clang-format 14 black 23") sh scripts/format.sh --check ;;
*) echo "Not checked: those of Debian 12 decide, and here are $(formatters | xargs)." ;;
esac

step "flake8"
git ls-files -z '*.py' | xargs -0 flake8
git grep -lIzE '^#!/usr/bin/(env )?python3' -- ':!*.py' | xargs -0 flake8

step "shellcheck"
find scripts packaging .ci tests -type f -exec grep -lEZ '^#!/bin/(ba)?sh' {} + |
  xargs -0 shellcheck

step "clang"
mkdir -p "$build_dir"
cd "$build_dir"
# Nothing of it is run: clang warns of the same without optimizing.
"$source_dir/configure" CC=clang CFLAGS=-O0 --enable-developer --disable-static >configure.log ||
  { cat configure.log; exit 1; }
make -s -j"$(nproc)"
make -s -j"$(nproc)" check-programs

cd "$source_dir"
step "cppcheck"
# The library's idea of mmap() is wrong: with MAP_ANONYMOUS the descriptor is -1. And loaded
# libraries stay loaded.
cppcheck -j"$(nproc)" --std=c11 --enable=warning,performance,portability \
  --inline-suppr --quiet --error-exitcode=1 --template=gcc \
  --library=posix -DHAVE_CONFIG_H -I"$build_dir" -Icore --suppress=missingIncludeSystem \
  --suppress=invalidFunctionArg:tsk_qcow2/plugin/backend.c \
  --suppress=invalidFunctionArg:tsk_qcow2/names/inner_image.c \
  --suppress=resourceLeak:tsk_qcow2/command/loader.c core tsk_qcow2 tests

step "clang-tidy"
# Left out are tests/jvm, which needs a Java development kit, and *_windows.c, which need Windows.
# Of the checks, left out is what asks for other habits than ours, or sees bugs where there are
# none: results of printf() are not looked at, snprintf(), memcpy() and strcat() are used with care,
# parameters may have like types, names like __wrap_malloc are the linker's.
checks='-*,clang-analyzer-*,bugprone-*,cert-*
,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling
,-clang-analyzer-security.insecureAPI.strcpy
,-clang-analyzer-optin.performance.Padding
,-bugprone-easily-swappable-parameters
,-bugprone-implicit-widening-of-multiplication-result
,-bugprone-macro-parentheses
,-bugprone-reserved-identifier
,-bugprone-sizeof-expression
,-cert-dcl37-c,-cert-dcl51-cpp,-cert-err33-c'
CHECKS=$(printf %s "$checks" | tr -d '\n')
for name in TSK_LIBRARY TSK_SONAME DROPIN_DIRECTORY COMPANION_DIRECTORY; do
  printf '#define %s ""\n' $name
done >"$build_dir/places.h"
FLAGS="-std=gnu11 -DHAVE_CONFIG_H -I$build_dir -Icore -Itsk_qcow2 -Itsk_qcow2/names
  -include $build_dir/places.h
  $(pkg-config --cflags tsk zlib libzstd libdeflate libgcrypt jansson fuse3)
  -DFUSE_USE_VERSION=31"
export CHECKS FLAGS
# shellcheck disable=SC2016  # the inner shell expands these
find core tsk_qcow2 tests -name '*.c' ! -path 'tests/jvm/*' ! -name '*_windows.c' -print0 |
  xargs -0 -P "$(nproc)" -n 1 sh -c '
    clang-tidy --quiet --warnings-as-errors="*" --checks="$CHECKS" "$1" -- $FLAGS 2>/dev/null' lint
printf '\nNo findings.\n'
