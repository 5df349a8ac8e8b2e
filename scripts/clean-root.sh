#!/bin/sh
# SPDX-License-Identifier: MIT
# shellcheck disable=SC1091,SC2016  # in single quotes: for apt, awk, the shell inside the root
#
# Clean Debian roots, for packaging/test-deb.sh and scripts/distributions.sh, which source this.
# Needs root, debootstrap, and a package mirror, which is taken from this machine's own apt.

# Print the mirror and the suite of this machine: "http://deb.debian.org/debian/ trixie".
# os-release alone does not show whether it is sid or testing.
own_mirror_and_suite() {
  apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(CODENAME)' 'Identifier: Packages' |
    awk -v own="$(. /etc/os-release && echo "$VERSION_CODENAME")" \
      '$1 ~ /^(Debian|Ubuntu)$/ && $3 !~ /-/ && (!found || $3 == own) { found = $2 " " $3 }
       END { print found }'
}

# clean_root_make ROOT SUITE MIRROR
clean_root_make() {
  debootstrap --variant=minbase "$2" "$1" "$3"
  chmod 755 "$1" # for users inside
  for file in /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf; do
    [ -f "$file" ] && cp "$file" "$1/etc/apt/apt.conf.d/99-${file##*/}"
  done
  # A mirror may have stopped at some day on purpose.
  echo 'Acquire::Check-Valid-Until "false";' >"$1/etc/apt/apt.conf.d/99-frozen-mirrors"
  clean_root_run "$1" apt-get update -q
}

# clean_root_run ROOT COMMAND...: as root of ROOT, in namespaces of its own: the mounts, and what
# was left running, end with the command. ROOT is moved to the place of the old one, because the
# kernel refuses user namespaces under a mere chroot.
clean_root_run() {
  unshare --mount --pid --fork --kill-child sh -c '
    set -eu
    cd "$1"
    shift
    mount --bind . .
    cd "$PWD"
    mount --rbind /dev dev
    mount -t proc proc proc
    mount -t sysfs -o ro sysfs sys
    mount --move . /
    exec chroot . env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
      HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"' clean-root "$@"
}
