/* SPDX-License-Identifier: MIT */
/*
 * What makes reading a view faster. It changes no result: with this file covered up, view.c can be
 * followed as it stands.
 *
 * Small reads are answered from blocks of the view's bytes, which view.c reads as a whole
 * (read/blocks.h). And what needs decoding is decoded ahead of a sequential reader (read/ahead.h).
 */
#ifndef QCOW2_ACCELERATE_H
#define QCOW2_ACCELERATE_H

#include <stdatomic.h>

#include "image.h"
#include "../read/blocks.h"
#include "stack.h"

struct qcow2_accelerator {
  const struct qcow2_stack *stack;
  struct qcow2_blocks blocks;
  atomic_bool needs_decoding;    /* something was met that does: it is kept in small blocks */
  _Atomic uint64_t run, run_end; /* bytes that were read in ascending order, and where they end */
  uint32_t unit;                 /* decoded ahead at once, bytes */
  struct qcow2_ahead_reader *reader; /* NULL: nothing is decoded ahead */
};

/* Begin, for a view of `size` bytes that shows what `stack` has (borrowed, as is the image).
   `load` and its context read the view's bytes in the ordinary way. Works less well if memory is
   short. The caller ends it with qcow2_accelerator_stop(). */
void qcow2_accelerator_start(struct qcow2_accelerator *accelerator, struct qcow2_image *image,
                             const struct qcow2_stack *stack, uint64_t size,
                             qcow2_blocks_load *load, void *context);

/* Wait until nothing is done ahead any more. All zero is allowed. */
void qcow2_accelerator_stop(struct qcow2_accelerator *accelerator);

/* Read `length` bytes inside the view, if it is a small read that can be answered from blocks.
   Returns false if not: the caller reads in the ordinary way, and learns what is wrong. Any
   thread. */
bool qcow2_accelerator_read(struct qcow2_accelerator *accelerator, uint64_t view_offset,
                            void *buffer, size_t length);

/* Call this before the first *count bytes of a piece are read. If they need decoding, it waits
   until no thread is at them, may have the next ones decoded meanwhile, and lowers *count to what
   it waited for. Any thread. */
void qcow2_accelerator_wait_and_limit(struct qcow2_accelerator *accelerator,
                                      const struct qcow2_piece *piece, uint64_t guest_offset,
                                      size_t *count);

#endif
