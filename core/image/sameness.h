/* SPDX-License-Identifier: MIT */
/* Whether two pieces of disks are the same bytes of the same file, so that neither has to be
   read. */
#ifndef QCOW2_SAMENESS_H
#define QCOW2_SAMENESS_H

#include "stack.h"

/* A piece that was found in a stack, at a guest offset of that stack. */
struct qcow2_placed_piece {
  const struct qcow2_stack *stack;
  struct qcow2_piece piece;
  uint64_t guest_offset;
};

/* True if both pieces begin with the same bytes, as far as both go, because both read as zeros or
   both are stored in the same bytes of one file. Never true of what cannot be read because its
   entry is invalid or the file ends before it. */
bool qcow2_pieces_are_same(const struct qcow2_placed_piece *a, const struct qcow2_placed_piece *b);

#endif
