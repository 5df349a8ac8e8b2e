#!/bin/sh
# SPDX-License-Identifier: MIT
# Install what the tests need, build, and run all of them. Arguments go to pytest:
#   scripts/check.sh -k snapshot
set -eu
source_dir=$(cd "$(dirname "$0")/.." && pwd)
build_dir=$source_dir/build/check

sh "$source_dir/scripts/install-packages.sh" build tools test
# Not every distribution has these; their tests are skipped without them.
sh "$source_dir/scripts/install-packages.sh" autopsy ||
  echo "Autopsy and Chromium are not available here" >&2
[ -x "$source_dir/configure" ] || sh "$source_dir/scripts/autogen.sh"
mkdir -p "$build_dir"
cd "$build_dir"
"$source_dir/configure" --enable-developer --prefix="$build_dir/prefix"
make -j"$(nproc)"
TSK_QCOW2_ENCRYPTION_TABLE=$build_dir/encryption.txt
export TSK_QCOW2_ENCRYPTION_TABLE
rm -f "$TSK_QCOW2_ENCRYPTION_TABLE"
# The arguments go through make and a shell; quote each.
quoted=
for argument in "$@"; do
  quoted="$quoted '$(printf %s "$argument" | sed "s/'/'\\\\''/g")'"
done
# Each file's tests stay together: they share what is costly to make.
make check TESTS_ARGS="-n $(nproc) --dist loadfile $quoted"
if [ -f "$TSK_QCOW2_ENCRYPTION_TABLE" ]; then
  printf '\nEncryption, each cipher that qemu-img can create here:\n'
  cat "$TSK_QCOW2_ENCRYPTION_TABLE"
fi
