#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Build the RPM packages, in build/rpm, from a release tarball of this tree:
#   packaging/build-rpm.sh [RPMBUILD-OPTION...]
# What it needs is named in packaging/rpm/tsk-qcow2.spec.in. On Debian, which has rpmbuild but no
# RPM packages, say --nodeps.
set -eu
source_dir=$(cd "$(dirname "$0")/.." && pwd)
out_dir=$source_dir/build/rpm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

[ -x "$source_dir/configure" ] || sh "$source_dir/scripts/autogen.sh"
mkdir "$work/build"
cd "$work/build"
"$source_dir/configure" >/dev/null
make -s dist
version=$(sed -n "s/^PACKAGE_VERSION='\(.*\)'$/\1/p" "$source_dir/configure")
date=$(sed -n "s/^## \[$version\] - //p" "$source_dir/NEWS.md")
date=$(LC_ALL=C date -u -d "$date" '+%a %b %d %Y')
rpm_dir=$source_dir/packaging/rpm
sed "s/@VERSION@/$version/; s/@DATE@/$date/" "$rpm_dir/tsk-qcow2.spec.in" >tsk-qcow2.spec
! command -v rpmlint >/dev/null || rpmlint -c "$rpm_dir/rpmlint.toml" tsk-qcow2.spec
# Only Fedora's rpm knows where Python keeps modules.
[ "$(rpm --eval '%{?python3_sitelib}')" ] ||
  set -- --define "python3_sitelib /usr/lib/python3/dist-packages" "$@"
rpmbuild -bb --define "_topdir $work" --define "_sourcedir $work/build" "$@" tsk-qcow2.spec
rm -rf "$out_dir"
mkdir -p "$out_dir"
cp "$work"/RPMS/*/*.rpm tsk-qcow2.spec "$out_dir"
echo "Made, in $out_dir:"
ls "$out_dir"/*.rpm
