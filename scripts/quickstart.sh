#!/bin/sh
# SPDX-License-Identifier: MIT
# Install what is missing, build, install and enable tsk-qcow2, then list and extract files with the
# plain Sleuth Kit tools:
#   scripts/quickstart.sh [IMAGE]
# IMAGE: any image name; without one, a demonstration disk is made.
set -eu
image=${1-}
source_dir=$(cd "$(dirname "$0")/.." && pwd)
build_dir=$source_dir/build/quickstart
demo_dir=$source_dir/build/demo
as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
if [ -n "$as_root" ] && ! command -v sudo >/dev/null; then
  echo "quickstart.sh installs programs, which needs root, and there is no sudo here. As root:" >&2
  echo "  bash '$source_dir/scripts/quickstart.sh'${image:+ \"$image\"}" >&2
  exit 1
fi

step() { printf '\n== %s\n' "$*"; }

# Run a command quietly; show what it said only if it fails.
quietly() {
  "$@" >"$build_dir/quickstart.log" 2>&1 || { cat "$build_dir/quickstart.log" >&2; exit 1; }
}

# Show a command as one would type it, then run it.
show() {
  printf '\n$ %s\n' "$*"
  "$@"
}

# The sectors at which an image's partitions start; nothing if it has no partition table.
partitions() {
  mmls -i qcow2 "$1" 2>/dev/null | awk '$2 ~ /^[0-9:]+$/ { print $3 + 0 }'
}

# List the root directory of the file system at sector $2 (none: at the image's start) of image $1,
# and extract the first file of the whole file system that has content.
examine() {
  show fls -i qcow2 ${2:+-o "$2"} "$1" || return 0
  fls -i qcow2 ${2:+-o "$2"} -F -r -u -p -l "$1" | awk -F '\t' '$7 > 0 { print $1 FS $2; exit }' |
    while IFS="$(printf '\t')" read -r entry name; do
      inode=${entry##* }
      printf '\nThe beginning of %s:\n$ icat -i qcow2 %s%s %s\n' \
        "$name" "${2:+-o $2 }" "$1" "${inode%:}"
      icat -i qcow2 ${2:+-o "$2"} "$1" "${inode%:}" 2>/dev/null | head -n 3 | cut -c 1-100 | cat -v
    done
}

examine_image() {
  starts=$(partitions "$1")
  [ -z "$starts" ] || show mmls -i qcow2 "$1"
  for start in ${starts:-0}; do
    examine "$1" "$start"
  done
}

examine_demo() {
  show mmls -i qcow2 demo.qcow2
  show fls -i qcow2 -o 2048 -r -p demo.qcow2
  printf '\nThe snapshot still has a file that was deleted later:\n'
  show fls -i qcow2 -o 2048 -r -p demo.qcow2@before-deletion
  inode=$(fls -i qcow2 -o 2048 -r -p demo.qcow2@before-deletion |
    sed -n 's/^r\/r \([0-9]*\):.*Documents\/secret-plan.txt$/\1/p')
  printf '\n'
  printf '$ %s > recovered.txt; cat recovered.txt\n' \
    "icat -i qcow2 -o 2048 demo.qcow2@before-deletion $inode"
  icat -i qcow2 -o 2048 demo.qcow2@before-deletion "$inode" >recovered.txt
  cat recovered.txt
}

step "Installing what is missing"
sh "$source_dir/scripts/install-packages.sh" build tools demo
mkdir -p "$build_dir"
PATH=$PATH:/usr/sbin:/sbin

step "Building"
[ -x "$source_dir/configure" ] || quietly sh "$source_dir/scripts/autogen.sh"
cd "$build_dir"
quietly "$source_dir/configure"
quietly make -j"$(nproc)"

step "Installing below /usr/local, and enabling"
quietly $as_root sh -c 'umask 022 && make install' # for every user, whatever the umask is
$as_root /usr/local/bin/tsk-qcow2 enable

if [ -n "$image" ]; then
  step "Examining $image"
  cd "$OLDPWD"
  img_stat -i qcow2 "$image" >/dev/null # or say why not, and end here
  examine_image "$image"
else
  step "Making a demonstration disk"
  rm -rf "$demo_dir"
  sh "$source_dir/scripts/demo-disk.sh" "$demo_dir"
  step "Examining it, in $demo_dir"
  cd "$demo_dir"
  examine_demo
fi

step "Done. To undo: ${as_root:+sudo }tsk-qcow2 disable"
