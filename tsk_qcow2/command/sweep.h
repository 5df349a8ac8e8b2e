/* SPDX-License-Identifier: MIT */
/* Reading a whole view once, with all cores, in the order of guest offsets. Damaged ranges are
   skipped. */
#ifndef TSK_QCOW2_SWEEP_H
#define TSK_QCOW2_SWEEP_H

#include <qcow2core.h>
#include <stdbool.h>

/* Gets what was read, chunk by chunk in ascending order. It is called in the thread that called
   sweep_view(). */
struct sweep_listener {
  void *context;
  /* A damaged range. It comes before the chunk that has zeros for it. If it continues after the
     chunk, it comes again with the next one. */
  void (*damage)(void *context, const struct qcow2_error *damage);
  /* A range that was read but may be damaged, in the same way. */
  void (*doubt)(void *context, const struct qcow2_error *doubt);
  /* The bytes at `guest_offset`. */
  void (*bytes)(void *context, uint64_t guest_offset, const void *bytes, size_t length);
};

/* Read the view. With `skip_zeros`, ranges that read as zeros without any data in a file are left
   out. Memory is some 50 MiB at most. Errors: those of qcow2_view_examine(), and NOMEM if no thread
   can be started. */
int sweep_view(struct qcow2_view *view, bool skip_zeros, const struct sweep_listener *listener,
               struct qcow2_error *error);

#endif
