#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Build the Debian packages, in build/deb, from a release tarball of this tree:
#   packaging/build-deb.sh
# Installs what that needs through apt. They are for the release that it runs on:
# packaging/README.md.
# shellcheck disable=SC1091
set -eu
source_dir=$(cd "$(dirname "$0")/.." && pwd)
out_dir=$source_dir/build/deb
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

sh "$source_dir/scripts/install-packages.sh" build package
[ -x "$source_dir/configure" ] || sh "$source_dir/scripts/autogen.sh"
mkdir "$work/build"
cd "$work/build"
"$source_dir/configure" >/dev/null
make -s dist
version=$(sed -n "s/^PACKAGE_VERSION='\(.*\)'$/\1/p" "$source_dir/configure")
tar xf "tsk-qcow2-$version.tar.gz" -C "$work"

cd "$work/tsk-qcow2-$version"
cp -R packaging/debian debian
release=$(. /etc/os-release && echo "${VERSION_ID:+~$ID$VERSION_ID}") # testing and sid have none
sh packaging/changelog.sh "$release" >debian/changelog
dpkg-buildpackage -b -us -uc
rm -rf "$out_dir"
mkdir -p "$out_dir"
cp ../*.deb ../*.buildinfo ../*.changes "$out_dir"
lintian --fail-on error,warning "$out_dir"/*.changes
echo "Made, in $out_dir:"
ls "$out_dir"/*.deb
