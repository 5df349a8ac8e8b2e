/* SPDX-License-Identifier: MIT */
/* The layers that a view looks through: which of them answers for a piece of the disk. */
#ifndef QCOW2_STACK_H
#define QCOW2_STACK_H

#include <stdatomic.h>

#include "chain.h"

/* Guest offsets count from the start of the L1 table's reach here, as in the format: a VM state
   lies behind the disk. */
struct qcow2_stack {
  struct qcow2_layer *const *layers; /* of the chain, the topmost that is looked at first */
  size_t layer_count; /* how many of them answer: a VM state, for one, has no backing file */
  struct qcow2_tables tables; /* in place of the topmost layer's own */
  uint64_t end;               /* where the topmost layer ends, bytes */
  bool under_zeros;           /* zero, allocated clusters show what is stored */
  _Atomic uint64_t *known;    /* see stack.c; NULL: nothing is remembered from read to read */
};

/* A run of guest bytes, and the layer that answers for them. */
struct qcow2_piece {
  size_t layer;
  struct qcow2_mapping mapping;
};

/* What one read has learnt: up to which guest offset each layer leaves everything to the layer
   below. So a long hole over a fragmented backing file is looked up once, not once for each
   fragment. */
struct qcow2_holes {
  uint64_t end[CHAIN_DEPTH_MAX];
};

/* Remember from read to read which layers have holes, if there are enough of them for that to pay.
   Call it once tables and end are set; it does no harm if memory is short. The caller frees it. */
void qcow2_stack_remember(struct qcow2_stack *stack);
void qcow2_stack_forget(struct qcow2_stack *stack);

/* Before a read: nothing is known. */
void qcow2_holes_clear(struct qcow2_holes *holes, const struct qcow2_stack *stack);

/* Add what earlier reads have found out about the place at `guest_offset`, or find it out. */
void qcow2_holes_recall(struct qcow2_holes *holes, const struct qcow2_stack *stack,
                        uint64_t guest_offset);

/* Find which layer answers for the bytes from `guest_offset` on, and for how many of at most
   `length` (> 0). On an error the piece tells which layer failed, and how far that reaches. Errors:
   those of qcow2_mapping_find(). */
int qcow2_stack_find(const struct qcow2_stack *stack, struct qcow2_holes *holes,
                     uint64_t guest_offset, uint64_t length, struct qcow2_piece *piece,
                     struct qcow2_error *error);

#endif
