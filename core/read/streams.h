/* SPDX-License-Identifier: MIT */
/* Guessing what will be read next, from the order in which a disk was read. Pure: no I/O. */
#ifndef QCOW2_READ_STREAMS_H
#define QCOW2_READ_STREAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The number of streams: regions of the disk in which a reader moves forward by turns. A walk over
   a file system reads its directories and its inodes by turns. */
#define STREAMS 4u
/* The number of units for which it is remembered which unit came next. */
#define STEPS 65536u
/* The most units that are guessed from these. */
#define STEPS_AHEAD 16u
/* The most units that are guessed at once. */
#define UNITS_GUESSED_MAX 32u

/* A region in which the disk is read in ascending order. Units are parts of the disk of equal size,
   counted from 0. */
struct qcow2_stream {
  uint64_t last;  /* the unit that was reached last */
  uint64_t used;  /* the clock at that time; 0: never */
  unsigned score; /* how probable it is that the reader moves on */
  unsigned whole; /* units in a row that were entered at their first byte */
};

/* The unit that came after a unit. These are the low 32 bits of the numbers: if they are wrong,
   only the guess is. */
struct qcow2_step {
  uint32_t from, to;
};

/* All zero at first. */
struct qcow2_streams {
  struct qcow2_stream stream[STREAMS];
  uint64_t clock; /* the number of units that were reached */
  uint64_t last;  /* the unit that was reached last */
  bool is_sure;   /* that unit was part of a long run, so the guess is almost certain */
  struct qcow2_step step[STEPS];
};

/* The most units to guess, not above UNITS_GUESSED_MAX. */
struct qcow2_window {
  unsigned copying; /* if the reader copies: it enters one unit after the other at the first byte */
  unsigned walking; /* else: it will need other units meanwhile */
};

/* Note that the reader reached a unit, at its first byte or not, and guess which units it will read
   after it. Writes their numbers to `guessed`, the next one first, and returns how many. Most of
   them were guessed before. Some may be past the end of the disk. */
size_t qcow2_streams_note(struct qcow2_streams *streams, uint64_t unit, bool at_first_byte,
                          const struct qcow2_window *window, uint64_t guessed[UNITS_GUESSED_MAX]);

#endif
