#!/bin/sh
# SPDX-License-Identifier: MIT
# Print debian/changelog: the version stands in configure.ac, its date in NEWS.md. An argument is
# put after the version.
set -eu
source_dir=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n 's/^AC_INIT(\[tsk-qcow2\], \[\(.*\)\])$/\1/p' "$source_dir/configure.ac")
date=$(sed -n "s/^## \[$version\] - //p" "$source_dir/NEWS.md")
if [ -z "$date" ]; then
  echo "changelog.sh: NEWS.md has no dated entry for version $version" >&2
  exit 1
fi
cat <<CHANGELOG
tsk-qcow2 ($version${1-}) unstable; urgency=medium

  * See NEWS.md.

 -- tsk-qcow2 maintainers <maintainers@tsk-qcow2.invalid>  $(LC_ALL=C date -R -u -d "$date")
CHANGELOG
