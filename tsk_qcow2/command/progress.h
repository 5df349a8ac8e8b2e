/* SPDX-License-Identifier: MIT */
/* A progress bar on stderr, where that is a terminal. */
#ifndef TSK_QCOW2_PROGRESS_H
#define TSK_QCOW2_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct progress {
  const char *title;            /* borrowed */
  uint64_t total;               /* bytes, or */
  bool is_count;                /* files */
  struct timespec start, shown; /* when it began; when it was last drawn */
  bool is_terminal, is_drawn;
};

void progress_start(struct progress *progress, const char *title, uint64_t total);

/* As progress_start(), but of files, about `total` of them. */
void progress_start_count(struct progress *progress, const char *title, uint64_t total);

/* Draw the bar, a few times a second at most. */
void progress_show(struct progress *progress, uint64_t done);

/* Remove the bar, so that something else can be printed. The next progress_show() draws it
   again. */
void progress_hide(struct progress *progress);

#endif
