/* SPDX-License-Identifier: MIT */
/* What must be read of two disks to compare them, in pieces that a thread reads ahead. What both
   store in the same bytes of the same file is left out. */
#ifndef TSK_QCOW2_WINDOWS_H
#define TSK_QCOW2_WINDOWS_H

#include <qcow2core.h>
#include <stdbool.h>

/* The sides of a comparison. */
enum {
  SIDE_A,
  SIDE_B,
  SIDES
};

/* What a side cannot read of a window. */
struct losses {
  struct qcow2_error *list; /* in ascending order, clipped to the window */
  size_t count, room;
  bool is_out_of_memory;
};

/* A piece of both disks. What is between it and the one before it is the same. */
struct window {
  uint64_t start;
  size_t length;         /* bytes; 0: up to `start` all is the same, and no more is known yet */
  uint8_t *bytes[SIDES]; /* zeros where a side cannot be read */
  struct losses losses[SIDES];
};

struct windows;

/* Begin to read the views (borrowed) up to guest offset `end`, which both have. Needs at most some
   16 MiB of memory. NULL: no memory. The caller frees it with windows_free(). */
struct windows *windows_start(struct qcow2_view *const views[SIDES], uint64_t end);

/* The next window in ascending order, valid until the next call. NULL: there is none, and *code is
   0 or an error. Errors: those of qcow2_view_salvage(). */
const struct window *windows_next(struct windows *windows, int *code, struct qcow2_error *error);

/* Stop reading, and free all. NULL is allowed. */
void windows_free(struct windows *windows);

#endif
