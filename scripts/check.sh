#!/bin/sh
# SPDX-License-Identifier: MIT
# Install what the tests need, build, and run all of them. Arguments go to pytest: scripts/check.sh -k snapshot
set -eu
source_dir=$(cd "$(dirname "$0")/.." && pwd)
build_dir=$source_dir/build/check

sh "$source_dir/scripts/install-packages.sh" build tools test
[ -x "$source_dir/configure" ] || sh "$source_dir/scripts/autogen.sh"
mkdir -p "$build_dir"
cd "$build_dir"
"$source_dir/configure" --enable-developer --prefix="$build_dir/prefix"
make -j"$(nproc)"
make check TESTS_ARGS="$*"
