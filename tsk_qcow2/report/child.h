/* SPDX-License-Identifier: MIT */
/* Runs a program, and takes what it prints. */
#ifndef TSK_QCOW2_REPORT_CHILD_H
#define TSK_QCOW2_REPORT_CHILD_H

#include <stdbool.h>
#include <stddef.h>

#define CHILD_OUTPUT_MAX ((size_t) 32 << 20)
#define CHILD_COMPLAINT_BYTES 2048u

struct child {
  int status;       /* its exit status; -1: it could not be run, or a signal ended it */
  char *output;     /* what it printed on stdout, with a NUL; never NULL after success */
  size_t length;    /* bytes of it */
  bool is_too_long; /* there were more than CHILD_OUTPUT_MAX; the rest was read and forgotten */
  char complaint[CHILD_COMPLAINT_BYTES]; /* the start of what it printed on stderr */
};

/* Run `path` with the arguments, and `input` on its stdin (NULL: nothing). False: no memory,
   or no process. The caller frees with child_free(). */
bool child_run(const char *path, const char *const argv[], const char *input, struct child *child);

void child_free(struct child *child);

#endif
