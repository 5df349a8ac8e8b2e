/* SPDX-License-Identifier: MIT */
/* The layers of a view, and finding the layer that has a piece of the disk. */
#ifndef QCOW2_STACK_H
#define QCOW2_STACK_H

#include <stdatomic.h>

#include "chain.h"

/* Finds a piece of the topmost layer, in place of qcow2_layer_map(): for tables that are not those
   of a disk of the image. Any thread calls it. */
typedef int qcow2_stack_top(void *context, uint64_t guest_offset, uint64_t length,
                            struct qcow2_mapping *mapping, struct qcow2_error *error);

/* Guest offsets count from the start of what the L1 table maps, as in the format: a VM state is
   after the disk. */
struct qcow2_stack {
  struct qcow2_layer *const *layers; /* a part of the chain: [0] is the topmost that is read */
  size_t layer_count;                /* how many are read: for a VM state, only one */
  struct qcow2_tables tables; /* of the first layer: those of its active disk or of a snapshot */
  qcow2_stack_top *top;       /* NULL: `tables` are used */
  void *top_context;          /* passed to it */
  uint64_t end;               /* where the topmost layer ends, bytes */
  bool under_zeros;           /* clusters of the kind ZERO_ALLOCATED read as stored */
  _Atomic uint64_t *known;    /* what is remembered between reads, see stack.c; NULL: nothing */
};

/* A run of guest bytes, and the layer that has them. */
struct qcow2_piece {
  size_t layer;
  struct qcow2_mapping mapping;
};

/* What is known during one read: the guest offset up to which each layer has nothing, so that the
   layer below it is read. So a long hole above a fragmented backing file is looked up once, and not
   once for each fragment. */
struct qcow2_holes {
  uint64_t end[CHAIN_DEPTH_MAX];
};

/* Begin to remember between reads which layers have holes, if there are so many layers that this
   saves time. Call it after `tables` and `end` are set. Without enough memory nothing is
   remembered. The caller frees this with qcow2_stack_forget(). */
void qcow2_stack_remember(struct qcow2_stack *stack);
void qcow2_stack_forget(struct qcow2_stack *stack);

/* Begin a read: nothing is known. */
void qcow2_holes_clear(struct qcow2_holes *holes, const struct qcow2_stack *stack);

/* Add what is remembered about the region at `guest_offset`, or find it out and remember it. */
void qcow2_holes_recall(struct qcow2_holes *holes, const struct qcow2_stack *stack,
                        uint64_t guest_offset);

/* Find the layer that has the bytes from `guest_offset` on, and how many bytes it has there: at
   most `length` (> 0). On an error the piece contains the layer that failed, and the number of
   bytes with this error. Errors: those of qcow2_mapping_find(). */
int qcow2_stack_find(const struct qcow2_stack *stack, struct qcow2_holes *holes,
                     uint64_t guest_offset, uint64_t length, struct qcow2_piece *piece,
                     struct qcow2_error *error);

#endif
