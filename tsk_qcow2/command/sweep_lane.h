/* SPDX-License-Identifier: MIT */
/* One of the views that a sweep reads side by side. */
#ifndef TSK_QCOW2_SWEEP_LANE_H
#define TSK_QCOW2_SWEEP_LANE_H

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

#endif
