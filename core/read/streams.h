/* SPDX-License-Identifier: MIT */
/* Guessing, from the order in which a disk is read, what will be read next. Pure. */
#ifndef QCOW2_READ_STREAMS_H
#define QCOW2_READ_STREAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* At how many places a reader is followed. A walk over a file system goes on in its directories and
   in its inodes by turns. */
#define STREAMS 4u
/* Of so many units it is remembered which came next. */
#define STEPS 65536u
/* So many steps are guessed from what came next the last time. */
#define STEPS_AHEAD 16u
/* No more units are guessed at once. */
#define UNITS_GUESSED_MAX 32u

/* A place from which on a disk is read in ascending order. Units are equal parts of the disk,
   counted from 0. */
struct qcow2_stream {
  uint64_t last;  /* the unit that was reached last */
  uint64_t used;  /* when it was used last; 0: never */
  unsigned score; /* how sure it is that the reader goes on */
};

/* The numbers' low halves, as they fit: a wrong guess does no harm. */
struct qcow2_step {
  uint32_t from, to;
};

/* All zero at first. */
struct qcow2_streams {
  struct qcow2_stream stream[STREAMS];
  uint64_t clock; /* units reached */
  uint64_t last;  /* the unit that was reached last */
  bool is_sure;   /* it was one of a long row: what is guessed will be read */
  struct qcow2_step step[STEPS];
};

/* Note that the reader reached a unit. Returns how many units are guessed to be read after it, at
   most `window` (which is not more than UNITS_GUESSED_MAX), and puts their numbers into `guessed`,
   the next one first; most of them were guessed before. They may lie past the disk's end. */
size_t qcow2_streams_note(struct qcow2_streams *streams, uint64_t unit, unsigned window,
                          uint64_t guessed[UNITS_GUESSED_MAX]);

#endif
