/* SPDX-License-Identifier: MIT */
/* The same chunk of several views, read once as far as they store it in the same bytes. */
#ifndef TSK_QCOW2_SWEEP_ROW_H
#define TSK_QCOW2_SWEEP_ROW_H

#include "sweep_lane.h"

/* Something to report of a chunk. */
struct sweep_remark {
  bool is_doubt; /* false: damage */
  struct qcow2_error what;
};

/* A chunk of one view. */
struct sweep_piece {
  bool is_wanted;       /* else it has no bytes */
  uint64_t length;      /* bytes that the view has of the chunk, perhaps 0 */
  const uint8_t *bytes; /* in a buffer of the row; NULL: zeros, and nothing was read */
  struct sweep_remark *remarks;
  size_t remark_count, remark_room;
};

struct sweep_row {
  uint64_t guest_offset;
  uint64_t length; /* bytes of the chunk in the longest view */
  bool is_hole;    /* all of them are zeros; it may be many chunks */
  bool is_ready;
  struct sweep_piece pieces[SWEEP_LANES_MAX];
  uint8_t *buffers[SWEEP_LANES_MAX]; /* of a chunk each */
  size_t buffer_count, used;         /* buffers that it has, and those that were filled */
};

/* Read the chunk in all views that want it. The row has a buffer for each. Errors: those of
   qcow2_view_examine(). */
int sweep_row_fill(struct sweep_row *row, const struct sweep_lane *lanes, size_t lane_count,
                   struct qcow2_error *error);

/* How many of the next `length` bytes from `guest_offset` (below the view's size) on read as zeros,
   without any data in a file; 0: none does, or the tables are damaged. */
uint64_t sweep_zeros_length(struct qcow2_view *view, uint64_t guest_offset, uint64_t length);

void sweep_row_free(struct sweep_row *row);

#endif
