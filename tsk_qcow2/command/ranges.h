/* SPDX-License-Identifier: MIT */
/* Which guest ranges of two disks differ. What both store in the same bytes of the same file is not
   read. */
#ifndef TSK_QCOW2_RANGES_H
#define TSK_QCOW2_RANGES_H

#include "windows.h"

enum range_kind {
  RANGE_DIFFERS, /* each byte of it differs */
  RANGE_ONLY_A,  /* the other disk ends before it */
  RANGE_ONLY_B,
  RANGE_UNREADABLE /* a side cannot be read, so it is not known whether they differ */
};

/* A range of guest bytes. Ranges of one kind neither overlap nor touch, except unreadable ones with
   different reasons. */
struct range {
  enum range_kind kind;
  uint64_t start, length;                  /* bytes */
  const struct qcow2_error *reason[SIDES]; /* UNREADABLE: why, for each side that cannot be read; or
                                              NULL */
};

struct ranges_listener {
  void *context;
  void (*range)(void *context, const struct range *range); /* in ascending order */
  void (*progress)(void *context, uint64_t guest_offset);
};

/* Compare the views byte by byte, and report every range that is not the same. Errors: those of
   qcow2_view_salvage(). */
int ranges_compare(struct qcow2_view *const views[SIDES], const struct ranges_listener *listener,
                   struct qcow2_error *error);

#endif
