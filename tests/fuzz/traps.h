/* SPDX-License-Identifier: MIT */
/* A directory with an image in it, and traps around it: links out of it, a FIFO, files beside and
   above it. Made once for each process, and removed at its end. */
#ifndef TESTS_FUZZ_TRAPS_H
#define TESTS_FUZZ_TRAPS_H

#include <sys/stat.h>

#include "fuzz.h"

#define TRAP_PATH_BYTES 128

/* The path of something in the tree, such as "images/image.qcow2" or "search", in `out`. Returns
   `out`. */
const char *fuzz_trap_path(const char *name, char out[TRAP_PATH_BYTES]);

/* Whether an image in "images" may lead to this file; `searched`: "search" is searched. */
bool fuzz_trap_allows(const struct stat *file, bool searched);

#endif
