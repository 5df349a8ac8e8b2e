#!/bin/sh
# SPDX-License-Identifier: MIT
# Install what is missing through apt: install-packages.sh GROUP...    (ends with 3 if apt cannot)
#   build  to build tsk-qcow2          demo  to make and examine the demonstration disk
#   tools  The Sleuth Kit's programs   test  to run the tests
#   autopsy  Autopsy 2.24 and a browser to drive it, for its tests
#   package  to build the Debian packages          clean-root  to try them in a new root
#   lint   to look for bugs in the source          bench  to run the benchmark
#   portability  to build and test the core for other machines
set -eu

packages=
for group in "$@"; do
  case $group in
  build) packages="$packages gcc libc6-dev make autoconf automake libtool pkg-config binutils
    libtsk-dev zlib1g-dev libzstd-dev libdeflate-dev libgcrypt20-dev libjansson-dev
    libfuse3-dev fuse3" ;;
  tools) packages="$packages sleuthkit" ;;
  package) packages="$packages dh-python build-essential debhelper dpkg-dev lintian fakeroot" ;;
  clean-root) packages="$packages debootstrap" ;;
  bench) packages="$packages python3 gcc pkg-config libdeflate-dev libzstd-dev libnbd-dev libnbd-bin
    libfuse3-dev fuse3 libgcrypt20-dev libssl-dev openssl e2fsprogs ntfs-3g fdisk qemu-utils
    util-linux" ;;
  demo) packages="$packages e2fsprogs fdisk qemu-utils" ;;
  test) packages="$packages python3 python3-pytest python3-pytest-xdist python3-tsk g++ e2fsprogs
    fdisk qemu-utils qemu-system-x86 sleuthkit ntfs-3g mtools dosfstools strace util-linux ewf-tools
    afflib-tools valgrind groff-base testdisk" ;;
  autopsy) packages="$packages autopsy chromium chromium-driver" ;;
  portability) packages="$packages python3 qemu-utils clang musl-tools gcc-i686-linux-gnu
    libc6-dev-i386-cross gcc-s390x-linux-gnu libc6-dev-s390x-cross qemu-user-static
    gcc-mingw-w64-x86-64-posix mingw-w64-x86-64-dev libz-mingw-w64-dev libgcrypt-mingw-w64-dev
    libgpg-error-mingw-w64-dev wine64 dpkg-dev" ;;
  lint) packages="$packages git python3 clang clang-tidy cppcheck shellcheck
    clang-format black flake8" ;;
  *) echo "install-packages.sh: there is no group $group" >&2; exit 2 ;;
  esac
done

missing=
for package in $packages; do
  status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [ "$status" = "install ok installed" ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=
[ "$(id -u)" = 0 ] || as_root=sudo
if [ -n "$as_root" ] && ! command -v sudo >/dev/null; then
  echo "Packages are missing, and there is no sudo here. As root:" >&2
  echo "  apt-get install --no-install-recommends$missing" >&2
  exit 3
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
echo "Installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # lists of words
{
  $as_root apt-get update -q
  $as_root apt-get install -y -q --no-install-recommends $missing
} >"$log" 2>&1 || { cat "$log" >&2; exit 3; }
