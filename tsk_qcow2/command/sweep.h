/* SPDX-License-Identifier: MIT */
/* Reading several views side by side, once each, with all cores. Damaged ranges are skipped. */
#ifndef TSK_QCOW2_SWEEP_H
#define TSK_QCOW2_SWEEP_H

#include <qcow2core.h>
#include <stdbool.h>

/* The most views that are read side by side. */
#define SWEEP_LANES_MAX 32u

/* A view, and what hears of it. The callbacks are called by any thread, but by one at a time for
   each lane, in the order of guest offsets. */
struct sweep_lane {
  struct qcow2_view *view;
  void *context;
  /* A damaged range. It comes before the chunk that has zeros for it. If it continues after the
     chunk, it comes again with the next one. */
  void (*damage)(void *context, const struct qcow2_error *damage);
  /* A range that was read but may be damaged, in the same way. */
  void (*doubt)(void *context, const struct qcow2_error *doubt);
  /* The bytes at `guest_offset`. Returns false to leave the sweep: no more is heard then. */
  bool (*bytes)(void *context, uint64_t guest_offset, const void *bytes, size_t length);
};

/* How many views of the image's chain can be read side by side within the bound of memory: 10 to
   SWEEP_LANES_MAX. */
size_t sweep_lanes_max(const struct qcow2_image *image);

/* Read the views (at least one, at most sweep_lanes_max()), from guest offset `start` on. Bytes
   that several of them store in the same bytes of the same file are read once. With `skip_zeros`,
   what reads as zeros without any data in a file is left out. Buffers take 40 MiB at most. Errors:
   those of qcow2_view_examine(). */
int sweep_views(const struct qcow2_image *image, const struct sweep_lane *lanes, size_t lane_count,
                uint64_t start, bool skip_zeros, struct qcow2_error *error);

#endif
