#!/bin/sh
# SPDX-License-Identifier: MIT
# Build the core for other compilers, C libraries and machines, and run its tests there:
#   portability.sh [TARGET...]
# Without a target: gcc, clang, musl, i386 (32 bits), s390x (big-endian, under qemu-user), windows
# (mingw-w64, under wine).
#
# For Debian 12 on amd64. The compilers are installed; no foreign architecture is added to the
# system: the libraries are Debian's packages for i386 and s390x, unpacked below build/portability,
# and what Debian has for neither musl nor mingw-w64 is built there of its sources.
# What cannot run here is said, and is no failure.
set -eu
source_dir=$(cd "$(dirname "$0")/.." && pwd)
top_dir=$source_dir/build/portability
targets="gcc clang musl i386 s390x windows"

# ---- Debian's packages, without installing them ------------------------------------

# debian_apt FOLDER ARCHITECTURE ARGUMENTS...: apt-get with a state of its own.
debian_apt() {
  state=$1/apt
  architecture=$2
  shift 2
  mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
  : >"$state/status"
  apt-get -q -o "Dir::State=$state" -o "Dir::State::status=$state/status" \
    -o "Dir::Cache=$state/cache" -o APT::Sandbox::User= -o "APT::Architecture=$architecture" \
    -o "APT::Architectures=$architecture" -o Debug::NoLocking=1 "$@"
}

# unpack_libraries FOLDER ARCHITECTURE: what the core needs, to build and to run, into FOLDER.
unpack_libraries() {
  [ ! -e "$1/complete" ] || return 0
  rm -rf "$1"
  mkdir -p "$1/packages"
  # Of several servers, one may not answer; what is missing then, the next command says.
  debian_apt "$1" "$2" update || true
  (cd "$1/packages" && debian_apt "$1" "$2" download libc6 zlib1g zlib1g-dev libzstd1 libzstd-dev \
    libdeflate0 libdeflate-dev libgcrypt20 libgcrypt20-dev libgpg-error0 libgpg-error-dev)
  for package in "$1"/packages/*.deb; do dpkg -x "$package" "$1"; done
  touch "$1/complete"
}

# fetch_sources PACKAGE...: Debian's sources, into $top_dir/sources/PACKAGE.
fetch_sources() {
  mkdir -p "$top_dir/sources/lists.d"
  for list in /etc/apt/sources.list.d/*.sources; do
    sed 's/^Types:.*/Types: deb-src/' "$list" >"$top_dir/sources/lists.d/${list##*/}"
  done
  [ ! -e /etc/apt/sources.list ] ||
    sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >"$top_dir/sources/lists.d/main.list"
  set -- "$top_dir/sources" "$(dpkg --print-architecture)" -o Dir::Etc::SourceList=/dev/null \
    -o "Dir::Etc::SourceParts=$top_dir/sources/lists.d" "$@"
  for package in zlib libzstd; do
    [ ! -d "$top_dir/sources/$package" ] || continue
    (cd "$top_dir/sources" && { debian_apt "$@" update || true; } &&
      debian_apt "$@" source --download-only "$package" &&
      dpkg-source --no-check -x "$package"_*.dsc "$package")
  done
}

# build_zlib PREFIX, build_zstd PREFIX: static libraries by $CC and $AR.
build_zlib() {
  [ ! -e "$1/lib/libz.a" ] || return 0
  rm -rf "$1/zlib"
  cp -r "$top_dir/sources/zlib" "$1/zlib"
  (cd "$1/zlib" && CFLAGS="-O2 -fPIC" ./configure --static --prefix="$1" &&
    make -j"$(nproc)" libz.a && make install)
}
build_zstd() {
  [ ! -e "$1/lib/libzstd.a" ] || return 0
  rm -rf "$1/libzstd"
  cp -r "$top_dir/sources/libzstd" "$1/libzstd"
  make -C "$1/libzstd/lib" -j"$(nproc)" CFLAGS="-O2 -fPIC" ZSTD_NO_ASM=1 libzstd.a
  make -C "$1/libzstd/lib" PREFIX="$1" install-pc install-static install-includes
}

# ---- Building and testing ----------------------------------------------------------

# build ARGUMENTS...: configure with these, and build, in the current folder.
build() {
  [ -e Makefile ] || "$source_dir/configure" --enable-developer --without-tsk "$@"
  make -s -j"$(nproc)"
  make -s -j"$(nproc)" portability-programs
}

# run_tests RUNNER...
run_tests() {
  PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$source_dir/tests/portability/run.py" "$PWD" "$@"
}

# For the table.
say() { echo "$2" >"$1.txt"; }

make_native() {
  say built "64 bits, little-endian, glibc, by $("$1" --version | sed -n 1p)"
  build CC="$1" --with-libgcrypt --with-libdeflate
  run_tests
}

make_musl() {
  say built "64 bits, little-endian, musl, by musl-gcc; without libgcrypt and libdeflate"
  fetch_sources
  mkdir -p "$PWD/libraries"
  CC=musl-gcc AR=ar
  export CC AR
  build_zlib "$PWD/libraries"
  build_zstd "$PWD/libraries"
  PKG_CONFIG_LIBDIR=$PWD/libraries/lib/pkgconfig
  export PKG_CONFIG_LIBDIR
  build CC=musl-gcc --without-libgcrypt --without-libdeflate
  run_tests
}

# make_foreign ARCHITECTURE TRIPLET MULTIARCH
make_foreign() {
  libraries=$PWD/libraries
  unpack_libraries "$libraries" "$1"
  PKG_CONFIG_SYSROOT_DIR=$libraries
  PKG_CONFIG_LIBDIR=$libraries/usr/lib/$3/pkgconfig
  PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1
  PKG_CONFIG_ALLOW_SYSTEM_LIBS=1
  export PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_LIBDIR
  export PKG_CONFIG_ALLOW_SYSTEM_CFLAGS PKG_CONFIG_ALLOW_SYSTEM_LIBS
  build --host="$2" --with-libgcrypt --with-libdeflate \
    CPPFLAGS="-I$libraries/usr/include -I$libraries/usr/include/$3" \
    LDFLAGS="-L$libraries/usr/lib/$3 -Wl,-rpath-link,$libraries/usr/lib/$3:$libraries/lib/$3"
}

make_i386() {
  say built "32 bits, little-endian, glibc, by $(i686-linux-gnu-gcc --version | sed -n 1p)"
  make_foreign i386 i686-linux-gnu i386-linux-gnu
  loader=$libraries/lib/ld-linux.so.2
  if "$loader" --version >/dev/null 2>&1; then
    run_tests "$loader" --library-path \
      "$libraries/lib/i386-linux-gnu:$libraries/usr/lib/i386-linux-gnu"
  else # a kernel for 64 bits only
    run_tests qemu-i386-static -L "$libraries"
  fi
}

make_s390x() {
  say built "64 bits, big-endian, glibc, by $(s390x-linux-gnu-gcc --version | sed -n 1p)"
  make_foreign s390x s390x-linux-gnu s390x-linux-gnu
  run_tests qemu-s390x-static -L "$PWD/libraries"
}

make_windows() {
  compiler=$(x86_64-w64-mingw32-gcc-posix --version | sed -n 1p)
  say built "64 bits, little-endian, Windows, by $compiler; without libdeflate and image names"
  fetch_sources
  mkdir -p "$PWD/libraries"
  CC=x86_64-w64-mingw32-gcc-posix AR=x86_64-w64-mingw32-ar build_zstd "$PWD/libraries"
  PKG_CONFIG_LIBDIR=$PWD/libraries/lib/pkgconfig:/usr/x86_64-w64-mingw32/lib/pkgconfig
  export PKG_CONFIG_LIBDIR
  build --host=x86_64-w64-mingw32 --with-libgcrypt --without-libdeflate \
    CC=x86_64-w64-mingw32-gcc-posix
  WINEPREFIX=$PWD/wine
  WINEDEBUG=-all
  LC_ALL=C.UTF-8 # file names
  WINEPATH="Z:\\usr\\x86_64-w64-mingw32\\lib;Z:\\usr\\x86_64-w64-mingw32\\bin"
  WINEPATH="$WINEPATH;Z:\\usr\\lib\\gcc\\x86_64-w64-mingw32\\12-posix"
  export WINEPREFIX WINEDEBUG LC_ALL WINEPATH
  wine=$(command -v wine64 || echo /usr/lib/wine/wine64)
  if timeout 120 "$wine" cmd /c exit 0; then
    run_tests "$wine"
  else
    say cannot "compiled only: wine does not start here"
  fi
}

# ---- The targets -------------------------------------------------------------------

if [ "${1-}" = --here ]; then # in the target's folder, as a process of its own
  case $2 in
  gcc | clang) make_native "$2" ;;
  musl) make_musl ;;
  i386) make_i386 ;;
  s390x) make_s390x ;;
  windows) make_windows ;;
  esac
  exit
fi

for target in "$@"; do
  case " $targets " in
  *" $target "*) ;;
  *) echo "portability.sh: there is no target $target; there are $targets" >&2 && exit 2 ;;
  esac
done
# shellcheck disable=SC2086  # a list of words
[ $# -gt 0 ] || set -- $targets

sh "$source_dir/scripts/install-packages.sh" build portability
[ -x "$source_dir/configure" ] || sh "$source_dir/scripts/autogen.sh"
table=$(mktemp)
trap 'rm -f "$table"' EXIT
failed=0
for target in "$@"; do
  echo "== $target"
  mkdir -p "$top_dir/$target"
  cd "$top_dir/$target"
  rm -f ./*.txt
  if sh "$source_dir/scripts/portability.sh" --here "$target" >log 2>&1; then
    result=passed
    tests=$(tail -n 1 log)
    [ ! -e cannot.txt ] || { result=$(cat cannot.txt) && tests=none; }
  else
    failed=1
    result="FAILED, see $top_dir/$target/log"
    tests=$(grep FAILED log | head -n 3 || true)
    tail -n 20 log >&2
  fi
  printf '%s\n  built   %s\n  tests   %s\n  result  %s\n' \
    "$target" "$(cat built.txt)" "$tests" "$result" >>"$table"
done
printf '\n'
cat "$table"
exit "$failed"
