#!/bin/sh
# SPDX-License-Identifier: MIT
# Make ./configure from configure.ac. Needed once in a checkout; release tarballs have it.
set -eu
cd "$(dirname "$0")/.."
autoreconf -fi
# Autoconf's probes, and from 2.73 on its exit, remove a file "core", which a crashing compiler
# might leave. Here that is a directory, the removal fails, and other files stay behind.
sed -i '/rm -f/s/ core / /' configure
