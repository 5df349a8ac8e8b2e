/* SPDX-License-Identifier: MIT */
/*
 * What makes reading a view faster. It changes no result, so view.c can be understood without it.
 *
 * Small reads are copied from larger blocks of the view's bytes (read/blocks.h). Clusters that need
 * decoding are decoded before the reader reaches them (read/ahead.h).
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
  atomic_bool needs_decoding;        /* a cluster that needs it was read: blocks are small */
  _Atomic uint64_t run, run_end;     /* bytes that were read in ascending order, and their end */
  uint32_t unit;                     /* the size of a unit that is decoded ahead, bytes */
  struct qcow2_ahead_reader *reader; /* NULL: nothing is decoded ahead */
};

/* Begin, for a view of `size` bytes of `stack` (borrowed, as is the image). `load` and its context
   read the view's bytes in the ordinary way. If there is not enough memory, nothing is decoded
   ahead. The caller ends it with qcow2_accelerator_stop(). */
void qcow2_accelerator_start(struct qcow2_accelerator *accelerator, struct qcow2_image *image,
                             const struct qcow2_stack *stack, uint64_t size,
                             qcow2_blocks_load *load, void *context);

/* Wait until no thread decodes for this view. All zero is allowed. */
void qcow2_accelerator_stop(struct qcow2_accelerator *accelerator);

/* Read `length` bytes inside the view from blocks. Returns false if the read is too large for that,
   or a block cannot be read. Then the caller reads in the ordinary way, and gets the error if there
   is one. Any thread. */
bool qcow2_accelerator_read(struct qcow2_accelerator *accelerator, uint64_t view_offset,
                            void *buffer, size_t length);

/* Call this before the first *count bytes of a piece are read. If they need decoding, it waits
   until no thread is decoding them, may decode other bytes meanwhile, and reduces *count to the
   bytes that it waited for. Any thread. */
void qcow2_accelerator_wait_and_limit(struct qcow2_accelerator *accelerator,
                                      const struct qcow2_piece *piece, uint64_t guest_offset,
                                      size_t *count);

#endif
