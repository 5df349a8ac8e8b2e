/* SPDX-License-Identifier: MIT */
/* Do the contents of two files differ? Only what the tables cannot answer is read. */
#ifndef TSK_QCOW2_STATES_CONTENT_H
#define TSK_QCOW2_STATES_CONTENT_H

#include "layout.h"
#include "state.h"

enum content_answer {
  CONTENT_SAME,
  CONTENT_DIFFERS,
  CONTENT_UNREADABLE, /* some of it cannot be read, and the rest is the same */
  CONTENT_OVER_BUDGET /* not known: it would have taken more reading than the budget allows */
};

/* What a comparison of one pair of file systems shares. */
struct content {
  const struct state *states[2];
  struct layout_views views; /* other: NULL if the file systems do not lie at the same offset */
  struct layout_budget *budget;
  uint64_t bytes_left; /* that may still be read */
  char *buffers[2];    /* CONTENT_BUFFER_BYTES each */
};
#define CONTENT_BUFFER_BYTES ((size_t) 1 << 18)

/* Compare all streams of two files. `stream` gets the name of the first alternate stream that
   differs or is not in both, "" otherwise. */
enum content_answer content_compare(struct content *content, TSK_FS_FILE *a, TSK_FS_FILE *b,
                                    char *stream, size_t stream_size);

/* Compare bytes of the disks at the same offset. */
enum content_answer content_compare_disks(struct content *content, uint64_t guest_offset,
                                          uint64_t length);

#endif
