#!/bin/sh
# SPDX-License-Identifier: MIT
#
# demo-disk.sh DIR: make DIR/demo.qcow2, a small virtual machine disk to try the tools on.
#
# It has a partition table and one ext4 partition with some files. A snapshot inside the image,
# "before-deletion", was taken while /Documents/secret-plan.txt still existed. After that the file
# was wiped and deleted.
#
# Needs e2fsprogs, fdisk and qemu-utils. Works as any user: nothing is mounted.
set -eu

if [ $# -ne 1 ]; then
  echo "usage: $0 DIR" >&2
  exit 2
fi
PATH=$PATH:/usr/sbin:/sbin # sfdisk, mke2fs and debugfs live there
mkdir -p "$1"
target=$(cd "$1" && pwd)/demo.qcow2
if [ -e "$target" ]; then
  echo "$0: $target is already there" >&2
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# The files. Real ones from this machine, and a few of our own.
files=$work/files
mkdir -p "$files/Documents" "$files/Pictures" "$files/Licenses"
cp -L /usr/share/common-licenses/GPL-3 /usr/share/common-licenses/Apache-2.0 "$files/Licenses"
for package in bash coreutils tar; do
  if [ -r "/usr/share/doc/$package/copyright" ]; then
    cp -L "/usr/share/doc/$package/copyright" "$files/Documents/$package-copyright.txt"
  fi
done
find /usr/share -name '*.png' -type f -size -64k 2>/dev/null | LC_ALL=C sort | head -n 5 |
  while read -r picture; do cp "$picture" "$files/Pictures"; done
printf 'P3 2 2 255\n255 0 0  0 255 0\n0 0 255  255 255 0\n' >"$files/Pictures/four-colours.ppm"
echo 'Buy milk, and two new disks.' >"$files/Documents/shopping.txt"
echo 'Meet at the old mill at midnight. Bring the second ledger.' \
  >"$files/Documents/secret-plan.txt"
echo 'Two weeks by the sea.' >"$work/holiday"

# A raw disk of 64 MiB: a GPT, and an ext4 file system that starts at 1 MiB.
raw=$work/demo.raw
image=$work/demo.qcow2
offset=1048576
truncate -s 64M "$raw"
printf 'label: gpt\nstart=2048, size=126976, type=linux, name=data\n' | sfdisk -q "$raw"
# The features are named, for defaults differ between versions, and with them the inodes of the
# files.
features=none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg
features=$features,metadata_csum,sparse_super,large_file,huge_file,dir_nlink,extra_isize
mke2fs -q -F -t ext4 -O "$features" -L demo -E "offset=$offset,root_owner=0:0" \
  -d "$files" "$raw" 63488k

# The snapshot holds the disk as it is now.
qemu-img create -q -f qcow2 "$image" 64M
qemu-img convert -n -f raw -O qcow2 "$raw" "$image"
qemu-img snapshot -c before-deletion "$image"

# Then the plan is overwritten with zeros and deleted. A new file takes its inode and, as its name
# is just long enough, its place in the directory.
debugfs -w -f - "$raw?offset=$offset" >"$work/log" 2>&1 <<COMMANDS
zap_block -f /Documents/secret-plan.txt 0
rm /Documents/secret-plan.txt
cd /Documents
write $work/holiday holiday-plan.txt
COMMANDS
if grep -q -e 'midnight' -e 'secret-plan' "$raw"; then
  echo "$0: the plan could not be wiped:" >&2
  cat "$work/log" >&2
  exit 1
fi
qemu-img convert -n -f raw -O qcow2 "$raw" "$image"
mv "$image" "$target"

echo "Made $target: a GPT disk of 64 MiB, one ext4 partition at sector 2048,"
echo "and the snapshot before-deletion, in which /Documents/secret-plan.txt still exists."
