/* SPDX-License-Identifier: MIT */
/* Finding out that two pieces of disks are equal without reading them: both are the same bytes of
   the same file. */
#ifndef QCOW2_SAMENESS_H
#define QCOW2_SAMENESS_H

#include "stack.h"

/* A piece that was found in a stack, at a guest offset of that stack. */
struct qcow2_placed_piece {
  const struct qcow2_stack *stack;
  struct qcow2_piece piece;
  uint64_t guest_offset;
};

/* True if both pieces have the same bytes, for the length of the shorter one: both read as zeros,
   or both are stored in the same bytes of one file. False for bytes that cannot be read because
   their entry is invalid or the file ends before them. */
bool qcow2_pieces_are_same(const struct qcow2_placed_piece *a, const struct qcow2_placed_piece *b);

/* The same from two guest offsets on, by the entries of the L2 tables of both topmost layers.
   Returns for how many of the next `length` bytes *is_same is true or false, as far as one slice of
   each table goes. 0: only qcow2_stack_find() can tell, because an entry or its table is missing,
   or a layer below has the bytes. */
uint64_t qcow2_entries_are_same(const struct qcow2_stack *a, uint64_t a_offset,
                                const struct qcow2_stack *b, uint64_t b_offset, uint64_t length,
                                bool *is_same);

#endif
