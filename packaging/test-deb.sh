#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Try the Debian packages (made by packaging/build-deb.sh) in a new root of this release: installed,
# used, upgraded, removed. Needs root, debootstrap, qemu-utils, and a package mirror, which is taken
# from this machine's own apt.
# shellcheck disable=SC1091,SC2016,SC2046  # in single quotes: for apt, dpkg, the root's own shell
set -eu
source_dir=$(cd "$(dirname "$0")/.." && pwd)
debs=$source_dir/build/deb
[ -n "$(ls "$debs"/tsk-qcow2_*.deb 2>/dev/null)" ] || sh "$source_dir/packaging/build-deb.sh"
sh "$source_dir/scripts/install-packages.sh" demo build clean-root
. "$source_dir/scripts/clean-root.sh"

root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root" "$root.bare" "$root.log"' EXIT
trap 'exit 1' INT TERM

step() { printf '\n== %s\n' "$*"; }
inside() { clean_root_run "$root" "$@"; }
fail() { echo "$*" >&2; exit 1; }
quietly() { "$@" >"$root.log" 2>&1 || { cat "$root.log" >&2; exit 1; }; }
# The packages' paths inside the root.
deb() { for name in "$@"; do (cd "$debs" && echo "/tmp/$(ls "${name}"_*.deb)"); done; }
apt_get() { quietly inside apt-get -y -q --no-install-recommends "$@"; }

# Every file with its content, but for what package managers and caches keep of their own.
fingerprint() {
  inside find / -xdev \( -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache \
    -o -path /var/log -o -path /proc -o -path /sys -o -path /dev -o -path /root -o -path /tmp \
    -o -path /etc/ld.so.cache \) -prune \
    -o -type f -exec md5sum {} + -o -printf '%y %p %l\n' | sort
  inside ldconfig -p | sort
}

step "A new root"
mirror_and_suite=$(own_mirror_and_suite)
quietly clean_root_make "$root" "${mirror_and_suite#* }" "${mirror_and_suite% *}"
inside useradd -m examiner
cp -a "$root" "$root.bare"
apt_get install sleuthkit libjansson4 libdeflate0 libzstd1 libgcrypt20
sh "$source_dir/scripts/demo-disk.sh" "$root/tmp/demo" >/dev/null
chmod 755 "$root/tmp/demo"
fingerprint >"$root/root/before"
! inside fls -i qcow2 -o 2048 /tmp/demo/demo.qcow2 2>/dev/null ||
  fail "the new root understands qcow2 already"

listing() { inside fls -i qcow2 -o 2048 -r -p /tmp/demo/demo.qcow2@before-deletion; }
works() { listing 2>&1 | grep -q secret-plan.txt || fail "broken by $*"; }
libtsk=$(inside dpkg -S /usr/lib/\*/libtsk.so.\* | sed -n 's/:.*//p' | sort -u)
dropin() { inside dpkg -L tsk-qcow2 | grep '/dropin/libtsk'; }

step "Installed: works at once, for every user"
cp "$debs"/*.deb "$root/tmp"
apt_get install $(deb tsk-qcow2)
listing | grep secret-plan.txt
inside su examiner -c 'fls -i qcow2 -o 2048 -r -p /tmp/demo/demo.qcow2@before-deletion' |
  grep -q secret-plan.txt || fail "not for every user"
inside tsk-qcow2 status
inside tsk-qcow2 status | grep -q '^fls: *knows qcow2' || fail "status and fls do not agree"
inside sh -c 'tsk-qcow2 mount /tmp/demo/demo.qcow2 /mnt 2>&1' |
  grep -q 'apt-get install tsk-qcow2-fuse$' || fail "mount does not say which package it needs"

step "Upgraded"
apt_get install --reinstall $(deb tsk-qcow2)
works "an upgrade"
quietly inside dpkg --unpack $(deb tsk-qcow2)
works "an upgrade that is not yet configured"
quietly inside dpkg --configure tsk-qcow2
inside tsk-qcow2 disable >/dev/null
apt_get install --reinstall $(deb tsk-qcow2)
! listing >/dev/null 2>&1 || fail "an upgrade enabled what the user had disabled"
inside tsk-qcow2 enable >/dev/null
echo "works, and stays disabled if it was"

step "libtsk upgraded under it: the same soname, a later version in a file of another name"
quietly inside sh -c "cd /tmp && apt-get download $libtsk"
dpkg-deb -R "$root"/tmp/"$libtsk"_*.deb "$root/tmp/later"
sed -i 's/^Version: .*/&.later/' "$root/tmp/later/DEBIAN/control"
(
  cd "$root"/tmp/later/usr/lib/*/
  soname=$(basename "$(dropin)")
  mv "$(readlink "$soname")" "$soname.99.0"
  ln -sf "$soname.99.0" "$soname"
)
rm "$root/tmp/later/DEBIAN/md5sums" "$root"/tmp/"$libtsk"_*.deb
dpkg-deb --root-owner-group -b "$root/tmp/later" "$root/tmp/later.deb" >/dev/null
apt_get install /tmp/later.deb
inside dpkg-query -W "$libtsk"
works "a later libtsk"
apt_get install --allow-downgrades "$libtsk=$(inside dpkg-query -W -f '${Version}' sleuthkit)"
works "libtsk as it was before"

step "The Sleuth Kit with a libtsk of another soname: it is left alone"
# Made from this one, by a name of the same length in both.
old=$(basename "$(dropin)")
real=$(inside readlink -f "$(inside sh -c "echo /usr/lib/*/$old")")
sed "s/$old/libtsk.so.XX/g" "$root$real" >"$root/usr/lib/libtsk.so.XX"
mkdir "$root/tmp/other"
sed "s/$old/libtsk.so.XX/g" "$root/usr/bin/fls" >"$root/tmp/other/fls"
chmod 755 "$root/tmp/other/fls"
inside ldconfig
inside ldd /tmp/other/fls | grep libtsk
inside sh -c '/tmp/other/fls -i list 2>&1' | grep -q raw || fail "it does not start"
! inside sh -c '/tmp/other/fls -i list 2>&1' | grep qcow2 || fail "it is not left alone"
inside env PATH=/tmp/other:/usr/bin:/bin tsk-qcow2 status |
  grep '^fls: *does not know qcow2' || fail "status does not tell"
works "another libtsk"
rm -r "$root/usr/lib/libtsk.so.XX" "$root/tmp/other"
inside ldconfig

step "Removed: without a trace"
apt_get remove tsk-qcow2
fingerprint >"$root/root/after"
diff "$root/root/before" "$root/root/after" || fail "traces are left"
inside img_stat -i raw /tmp/demo/demo.qcow2 >/dev/null || fail "The Sleuth Kit is broken"
echo "none"

step "libtsk removed, and tsk-qcow2 with it"
apt_get install $(deb tsk-qcow2)

apt_get remove "$libtsk"
[ -z "$(inside sh -c 'ls /etc/ld.so.conf.d | grep tsk-qcow2')" ] || fail "traces are left"
apt_get install sleuthkit
fingerprint | diff "$root/root/before" - || fail "traces are left"
echo "none left"

step "The development packages: shared, static, and for programs with libtsk"
apt_get install gcc libc6-dev pkg-config \
  $(deb libqcow2core0 libqcow2core-dev libtsk-qcow2-0 libtsk-qcow2-dev)
example=/usr/share/doc/libqcow2core-dev/examples/hash-snapshots.c
inside sh -c 'gcc "$1" -o /tmp/hash $(pkg-config --cflags --libs qcow2core libgcrypt)' sh "$example"
inside /tmp/hash /tmp/demo/demo.qcow2 >"$root/tmp/shared"
cat "$root/tmp/shared"
quietly inside sh -c 'gcc -static "$1" -o /tmp/hash-static \
  $(pkg-config --static --cflags --libs qcow2core libgcrypt)' sh "$example"
inside /tmp/hash-static /tmp/demo/demo.qcow2 | cmp - "$root/tmp/shared" ||
  fail "static and shared do not agree"
cat >"$root/tmp/recognise.c" <<'RECOGNISE'
#include <tsk_qcow2.h>
int main(void) { return tsk_qcow2_probe("/tmp/demo/demo.qcow2") ? 0 : 1; }
RECOGNISE
inside sh -c 'gcc /tmp/recognise.c -o /tmp/recognise $(pkg-config --cflags --libs tsk_qcow2) &&
  /tmp/recognise'

step "As an ordinary user, after nothing but: apt install ./*.deb"
mv "$root/tmp/demo" "$root.bare/tmp"
rm -rf --one-file-system "$root"
mv "$root.bare" "$root"
cp "$debs"/*.deb "$root/tmp"
quietly inside sh -c 'apt-get install -y /tmp/*.deb'
cat >"$root/tmp/use.sh" <<'USE'
set -eu
cp /tmp/demo/demo.qcow2 ~
cd ~
snapshot=demo.qcow2@before-deletion
fls -i qcow2 -o 2048 -r -p $snapshot | grep secret-plan.txt
[ "$(fls -o 2048 -r -p $snapshot)" = "$(fls -i qcow2 -o 2048 -r -p $snapshot)" ]
img_stat -t $snapshot
tsk_recover -e -o 2048 $snapshot recovered
cat recovered/Documents/secret-plan.txt
inode=$(ifind -o 2048 -n Documents/holiday-plan.txt demo.qcow2)
[ "$(icat -o 2048 demo.qcow2 "$inode")" = "Two weeks by the sea." ]

mkdir mounted
if [ -w /dev/fuse ]; then
  tsk-qcow2 mount demo.qcow2 mounted
  tsk-qcow2 run img_cat demo.qcow2 | cmp - mounted/active.raw
  fusermount3 -u mounted
else
  echo "there is no /dev/fuse here: mount is not tried"
fi

# The stock tsk_loaddb may never end (docs/distributions.md); that is not ours.
truncate -s 64K empty.raw
stock=$(/sbin/ldconfig -p | sed -n 's,.* => \(/.*\)/libtsk.so.[0-9]*$,\1,p' | grep -v tsk-qcow2)
LD_LIBRARY_PATH=$stock timeout 20 tsk_loaddb -d empty.db empty.raw >/dev/null 2>&1 ||
[ $? -ne 124 ] || {
  echo "tsk_loaddb: the stock one never ends here; taken is the way round of docs/distributions.md"
  export LD_PRELOAD=libvslvm.so.1:libewf.so.2
}
tsk_loaddb -d case.db demo.qcow2 | tail -n 1
unset LD_PRELOAD
python3 - <<'PYTHON'
import sqlite3

import pytsk3
from qcow2core.tsk import ImgInfo

database = sqlite3.connect("case.db")
found = database.execute("SELECT name FROM tsk_files WHERE name LIKE '%-plan.txt' AND size > 0")
print("in the case database:", found.fetchall())
filesystem = pytsk3.FS_Info(ImgInfo("demo.qcow2@before-deletion"), offset=1048576)
names = [entry.info.name.name for entry in filesystem.open_dir("/Documents")]
print("pytsk3:", names)
assert b"secret-plan.txt" in names
PYTHON
USE
inside su -l examiner -c 'sh /tmp/use.sh' | tee "$root/use.log"
grep -q "^in the case database:.*holiday-plan" "$root/use.log" || fail "tsk_loaddb took it for raw"
grep -q '^pytsk3:.*secret-plan' "$root/use.log" || fail "not all of it works"
printf '\nAll is well.\n'
