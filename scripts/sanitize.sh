#!/bin/sh
# SPDX-License-Identifier: MIT
# Run the tests with builds that look for errors while they run: all that makes sense under
# AddressSanitizer and UndefinedBehaviorSanitizer, and those of threads under ThreadSanitizer.
# Arguments go to pytest, of the first run.
set -eu
source_dir=$(cd "$(dirname "$0")/.." && pwd)

sh "$source_dir/scripts/install-packages.sh" build tools test
[ -x "$source_dir/configure" ] || sh "$source_dir/scripts/autogen.sh"
# ThreadSanitizer of older compilers cannot live with addresses that are as random as those of newer
# kernels.
fixed_addresses="setarch $(uname -m) -R"
$fixed_addresses true 2>/dev/null || fixed_addresses=

# build LIST TARGET...: configure with these sanitizers, build the targets, and be there.
build() {
  printf '\n== %s\n' "$1"
  build_dir=$source_dir/build/sanitize-${1%%,*} # a comma in a path means something to the linker
  mkdir -p "$build_dir"
  cd "$build_dir"
  "$source_dir/configure" --enable-sanitizers="$1" --disable-static >configure.log ||
    { cat configure.log; exit 1; }
  shift
  for target in "$@"; do
    make -s -j"$(nproc)" "$target" >make.log || { cat make.log; exit 1; }
  done
}

# The arguments go through make and a shell; quote each.
quoted=
for argument in "$@"; do
  quoted="$quoted '$(printf %s "$argument" | sed "s/'/'\\\\''/g")'"
done

build address,undefined all check-programs
$fixed_addresses make check TESTS_ARGS="-q -n $(nproc) --dist loadfile $quoted"
build thread tests/threads/threads
$fixed_addresses make check-threads TESTS_ARGS=-q
