#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Do in clean roots of Debian's releases what a newcomer does there, and print a table of what came
# of it:
#   scripts/distributions.sh [--fresh] [--every | --only STEP[,STEP]...] [-k EXPRESSION] [NAME...]
#
# NAME    bookworm (12), trixie (13), testing, sid; without one, all four
# STEP    quickstart/user  quickstart.sh, as an ordinary user who may use sudo
#         enabled/user     check.sh, with the plugin enabled
#         packages/user    build-deb.sh with the plugin enabled; test-deb.sh: the packages are
#                          installed, used, upgraded, removed
#         quickstart/root  as above, as root
#         disabled/root    check.sh, with the plugin disabled
#         Without --only these are done, in this order. There are also disabled/user, enabled/root
#         and rpm/user: build-rpm.sh, as far as Debian's tools go. --every does these too.
# -k      only these tests of the suite, as pytest has it
#
# What is tried is the last commit of this checkout. The roots are kept below $TSK_QCOW2_ROOTS
# (/var/cache/tsk-qcow2-roots; 5 GB each), brought up to date and used again; --fresh makes new
# ones. The logs of all steps and the packages of each release are kept there too.
# Needs root, debootstrap, and a mirror of Debian, which is taken from this machine's apt. A root
# takes about half an hour on two cores.
# Ends with 1 if anything failed, else with 3 if a root could not be made or packages for it not be
# had.
# shellcheck disable=SC1091,SC2016  # in single quotes: for the shell inside the root
set -eu
source_dir=$(cd "$(dirname "$0")/.." && pwd)
. "$source_dir/scripts/clean-root.sh"
roots=${TSK_QCOW2_ROOTS:-/var/cache/tsk-qcow2-roots}
all_names="bookworm trixie testing sid"
usual_steps="quickstart/user enabled/user packages/user quickstart/root disabled/root"
all_steps="quickstart/user enabled/user disabled/user packages/user quickstart/root enabled/root
disabled/root rpm/user"

complain() {
  echo "distributions.sh: $1" >&2
  exit 2
}

# ---- What is asked for -------------------------------------------------------------

names=
steps=$usual_steps
expression=
fresh=no

# check_choice WORD LIST KIND: complain if the word is not in the list.
check_choice() {
  case " $(echo "$2" | tr '\n' ' ') " in
  *" $1 "*) ;;
  *) complain "there is no $3 $1; there are: $2" ;;
  esac
}

while [ $# -gt 0 ]; do
  case $1 in
  --fresh) fresh=yes ;;
  --every) steps=$all_steps ;;
  --only)
    [ $# -gt 1 ] || complain "--only needs steps: $all_steps"
    steps=$(echo "$2" | tr , ' ')
    for step in $steps; do check_choice "$step" "$all_steps" step; done
    shift
    ;;
  -k)
    [ $# -gt 1 ] || complain "-k needs an expression, as pytest has it"
    expression=$2
    shift
    ;;
  -h | --help) sed -n 's/^# \{0,1\}//; 4,/^Ends/p' "$0" && exit ;;
  -*) complain "there is no option $1" ;;
  *)
    name=$(echo "$1" | sed 's/^12$/bookworm/; s/^13$/trixie/; s/^unstable$/sid/')
    check_choice "$name" "$all_names" release
    names="$names $name"
    ;;
  esac
  shift
done
[ "$(id -u)" = 0 ] || complain "this needs root: sudo sh scripts/distributions.sh"
names=${names:-$all_names}
commit=$(git -C "$source_dir" rev-parse --short HEAD) || complain "this is no checkout"
[ -z "$(git -C "$source_dir" status --porcelain)" ] ||
  echo "distributions.sh: what is not committed is not tried" >&2
sh "$source_dir/scripts/install-packages.sh" clean-root
mirror_and_suite=$(own_mirror_and_suite)
mirror=${mirror_and_suite% *}
mkdir -p "$roots/log"

# ---- Roots -------------------------------------------------------------------------

# make_root: $root, a system as one has it before one knows of us: a user who may use sudo, and git.
make_root() {
  [ "$fresh" = no ] || rm -rf --one-file-system "$root"
  if [ ! -d "$root" ]; then
    rm -rf --one-file-system "$root.new"
    clean_root_make "$root.new" "$name" "$mirror" &&
      clean_root_run "$root.new" sh -c 'set -eu
        apt-get install -y -q --no-install-recommends sudo git
        useradd -m -s /bin/bash examiner
        echo "examiner ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/examiner
        echo "127.0.0.1 localhost $(hostname)" >/etc/hosts' &&
      mv "$root.new" "$root"
  else
    clean_root_run "$root" sh -c '
      apt-get update -q && apt-get dist-upgrade -y -q --no-install-recommends'
  fi
}

# as user|root COMMAND: in the checkout of that user.
as() {
  if [ "$1" = user ]; then
    clean_root_run "$root" su -l examiner -c "cd tsk-qcow2 && $2"
  else
    clean_root_run "$root" sh -c "cd /root/tsk-qcow2 && $2"
  fi
}

# clone user|root
clone() {
  home=/root
  [ "$1" = root ] || home=/home/examiner
  rm -rf "$root$home/tsk-qcow2"
  git clone -q --no-hardlinks "$source_dir" "$root$home/tsk-qcow2" &&
    clean_root_run "$root" chown -R --reference="$home" "$home/tsk-qcow2"
}

# ---- Steps: each gets user or root -------------------------------------------------

run_quickstart() {
  as "$1" 'bash scripts/quickstart.sh' &&
    as "$1" 'grep "Bring the second ledger" build/demo/recovered.txt'
}

run_suite() {
  chosen=
  [ -z "$expression" ] || chosen="-k '$(printf %s "$expression" | sed "s/'/'\\\\''/g")'"
  # What a run leaves in /tmp is kept only where something failed: it is 8 GB.
  as "$1" "bash scripts/check.sh -q -rs $chosen" && rm -rf "$root"/tmp/pytest-of-*
}

# The packages are kept.
run_packages() {
  as "$1" 'bash packaging/build-deb.sh' &&
    rm -rf "$roots/deb/$name" && mkdir -p "$roots/deb" &&
    cp -r "$root/home/examiner/tsk-qcow2/build/deb" "$roots/deb/$name" &&
    clean_root_run "$root" sh /home/examiner/tsk-qcow2/packaging/test-deb.sh
}

# switch enable|disable user|root: the plugin, which is there since a quickstart.
switch() {
  clean_root_run "$root" sh -c 'command -v tsk-qcow2' || run_quickstart "$2" || return
  clean_root_run "$root" tsk-qcow2 "$1"
}

# run_step STEP user|root
run_step() {
  clone "$2" || return
  case $1 in
  quickstart) run_quickstart "$2" ;;
  enabled) switch enable "$2" && run_suite "$2" ;;
  disabled) switch disable "$2" && run_suite "$2" ;;
  packages) switch enable "$2" && run_packages "$2" ;;
  rpm)
    clean_root_run "$root" apt-get install -y -q --no-install-recommends rpm rpmlint || return 3
    as "$2" 'bash packaging/build-rpm.sh --nodeps'
    ;;
  esac
}

# ---- The table ---------------------------------------------------------------------

# Print how many tests passed, failed, were skipped; nothing if the step ran none.
numbers() {
  sed -n 's/^=* *\([0-9].*\(passed\|failed\|error\).*\) in [0-9].*/  \1/p' "$1" |
    sed 's/, [0-9]* warnings*//' | tail -n 1
}

# Print the reasons for which tests were skipped, each with how many.
skips() {
  sed -n 's/^SKIPPED \[\([0-9]*\)\] [^ ]*: \(.*\)/\1 \2/p' "$1" |
    awk '{ number = $1; $1 = ""; count[$0] += number }
         END { for (reason in count) printf "    %4d %s\n", count[reason], reason }' | sort
}

versions() {
  clean_root_run "$root" sh -c '
    qemu=$(qemu-img --version | sed -n "s/.*version \([0-9.]*\).*/\1/p")
    libtsk=$(pkg-config --modversion tsk)
    echo "libtsk $libtsk, QEMU $qemu, gcc $(gcc -dumpfullversion)"' 2>/dev/null ||
    echo "not all is installed"
}

status=0
table=$(mktemp)
trap 'rm -f "$table"' EXIT
trap 'exit 1' INT TERM
for name in $names; do
  root=$roots/$name
  echo "== $name"
  if ! make_root >"$roots/log/$name-root.log" 2>&1 </dev/null; then
    [ "$status" = 1 ] || status=3
    printf '%s\n  the root could not be made, or brought up to date: %s\n' \
      "$name" "$roots/log/$name-root.log" >>"$table"
    continue
  fi
  : >"$table.root"
  for step in $steps; do
    who=${step#*/}
    log=$roots/log/$name-${step%/*}-$who.log
    echo "   $step"
    code=0
    run_step "${step%/*}" "$who" >"$log" 2>&1 </dev/null || code=$?
    case $code in
    0) result=ok ;;
    3) result="not done: packages cannot be had, see $log" && [ "$status" = 1 ] || status=3 ;;
    *) result="FAILED, see $log" && status=1 && tail -n 20 "$log" >&2 ;;
    esac
    printf '  %-16s %s%s\n' "$step" "$result" "$(numbers "$log")" >>"$table.root"
    skips "$log" >>"$table.root"
  done
  { printf '%s: %s\n' "$name" "$(versions)" && cat "$table.root"; } >>"$table"
  rm "$table.root"
done
printf '\nCommit %s, %s\n' "$commit" "$(date -u +%F)"
cat "$table"
exit "$status"
