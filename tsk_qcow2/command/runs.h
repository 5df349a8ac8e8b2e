/* SPDX-License-Identifier: MIT */
/* A disk in runs: what each part of it is, and which file of the chain provides it. */
#ifndef TSK_QCOW2_RUNS_H
#define TSK_QCOW2_RUNS_H

#include <qcow2core.h>
#include <stdbool.h>

enum run_kind {
  RUN_DATA,
  RUN_COMPRESSED,
  RUN_ZERO,           /* reads as zeros, whatever the files below have */
  RUN_ZERO_ALLOCATED, /* the same; a cluster of the file is kept for it */
  RUN_HOLE,           /* of a raw file: reads as zeros */
  RUN_UNALLOCATED,    /* no file of the chain has it: reads as zeros */
  RUN_INVALID,        /* its table entry is invalid: cannot be read */
  RUN_UNREADABLE,     /* its table cannot be read */
  RUN_KINDS
};

struct run {
  enum run_kind kind;
  uint64_t start, length; /* guest bytes */
  size_t layer;           /* the file that provides it; UNALLOCATED: the lowest that could */
  uint64_t host_offset;   /* where its bytes are in that file; QCOW2_NO_OFFSET: nowhere, or, of
                             compressed data, in many streams */
  bool is_encrypted;      /* they are encrypted there */
};

/* The name of a kind, such as "zero-allocated". Static storage. */
const char *run_kind_name(enum run_kind kind);

/* True if the run reads as zeros. */
bool run_is_zero(const struct run *run);

struct runs_listener {
  void *context;
  /* Called in ascending order. Two runs that follow each other differ in kind, or layer, or do not
     lie behind each other in the file. False: no more is wanted. */
  bool (*run)(void *context, const struct run *run);
};

/* Find all runs of a view of the image. Tables are read, and no data. Errors: NOMEM. */
int runs_find(const struct qcow2_image *image, struct qcow2_view *view,
              const struct runs_listener *listener, struct qcow2_error *error);

#endif
