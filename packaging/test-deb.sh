#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Try the Debian packages (made by packaging/build-deb.sh) in a new root: installed, upgraded, removed. Needs root, debootstrap, qemu-utils, and a
# package mirror, which is taken from this machine's own configuration.
set -eu
source_dir=$(cd "$(dirname "$0")/.." && pwd)
debs=$source_dir/build/deb
[ -n "$(ls "$debs"/tsk-qcow2_*.deb 2>/dev/null)" ] || sh "$source_dir/packaging/build-deb.sh"
sh "$source_dir/scripts/install-packages.sh" demo build clean-root

root=$(mktemp -d)
finish() {
  umount "$root/proc" 2>/dev/null || true
  rm -rf "$root"
}
trap finish EXIT
trap 'exit 1' INT TERM

step() { printf '\n== %s\n' "$*"; }
inside() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
fail() { echo "$*" >&2; exit 1; }

# Every file with its content, but for what package managers and caches keep of their own.
fingerprint() {
  inside find / -xdev \( -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache -o -path /var/log -o -path /proc \
    -o -path /root -o -path /tmp -o -path /etc/ld.so.cache \) -prune -o -type f -exec md5sum {} + -o -printf '%y %p %l\n' | sort
  inside ldconfig -p | sort
}

step "A new root"
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirror=$(apt-get indextargets --format '$(REPO_URI) $(SUITE)' | awk -v suite="$suite" '$2 == suite || $2 == "stable" { print $1; exit }')
[ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(REPO_URI)' | head -n 1)
debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$root.log" 2>&1 || { cat "$root.log" >&2; exit 1; }
rm -f "$root.log"
chmod 755 "$root" # for users inside
for file in /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf; do
  [ -f "$file" ] && mkdir -p "$root/etc/apt/apt.conf.d" && cp "$file" "$root/etc/apt/apt.conf.d/99-${file##*/}"
done
mount -t proc proc "$root/proc"
inside apt-get update -q >/dev/null
inside apt-get install -y -q --no-install-recommends sleuthkit libjansson4 libdeflate0 libzstd1 libgcrypt20 >/dev/null 2>&1
inside useradd examiner
sh "$source_dir/scripts/demo-disk.sh" "$root/tmp/demo" >/dev/null
chmod 755 "$root/tmp/demo"
fingerprint >"$root/root/before"
! inside fls -i qcow2 -o 2048 /tmp/demo/demo.qcow2 2>/dev/null || fail "the new root understands qcow2 already"

listing() { inside fls -i qcow2 -o 2048 -r -p /tmp/demo/demo.qcow2@before-deletion; }

step "Installed: works at once, for every user"
cp "$debs"/*.deb "$root/tmp"
inside sh -c 'apt-get install -y -q /tmp/tsk-qcow2_*.deb' >/dev/null
listing | grep secret-plan.txt
inside su examiner -c 'fls -i qcow2 -o 2048 -r -p /tmp/demo/demo.qcow2@before-deletion' | grep -q secret-plan.txt || fail "not for every user"
inside tsk-qcow2 status

step "Upgraded: by itself, and libtsk under it"
inside sh -c 'apt-get install -y -q --reinstall /tmp/tsk-qcow2_*.deb' >/dev/null
listing | grep -q secret-plan.txt || fail "broken by an upgrade"
inside apt-get install -y -q --reinstall libtsk19 >/dev/null
listing | grep -q secret-plan.txt || fail "broken by an upgrade of libtsk"
inside tsk-qcow2 disable >/dev/null
inside sh -c 'apt-get install -y -q --reinstall /tmp/tsk-qcow2_*.deb' >/dev/null
! listing >/dev/null 2>&1 || fail "an upgrade enabled what the user had disabled"
inside tsk-qcow2 enable >/dev/null

step "Another libtsk, with another soname: the programs that load it are left alone"
cc -shared -nostdlib -x c /dev/null -Wl,-soname,libtsk.so.22 -o "$root/usr/lib/libtsk.so.22"
inside ldconfig
inside ldconfig -p | grep 'libtsk.so.22 .*=> /usr/lib/libtsk.so.22$'
listing | grep -q secret-plan.txt || fail "broken by another libtsk"
inside rm -f /usr/lib/libtsk.so.22
inside ldconfig

step "Removed: without a trace"
inside apt-get remove -y -q tsk-qcow2 >/dev/null
fingerprint >"$root/root/after"
diff "$root/root/before" "$root/root/after" || fail "traces are left"
inside img_stat -i raw /tmp/demo/demo.qcow2 >/dev/null || fail "The Sleuth Kit is broken"
echo "none"

step "The development packages"
inside sh -c 'apt-get install -y -q --no-install-recommends gcc libc6-dev pkg-config /tmp/lib*.deb' >/dev/null 2>&1
inside sh -c 'gcc /usr/share/doc/libqcow2core-dev/examples/hash-snapshots.c -o /tmp/hash $(pkg-config --cflags --libs qcow2core libgcrypt)'
inside /tmp/hash /tmp/demo/demo.qcow2
printf '\nAll is well.\n'
