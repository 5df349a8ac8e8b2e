/* SPDX-License-Identifier: MIT */
/*
 * L2 tables that no L1 table leads to, and where they belong.
 *
 * A table that QEMU copies, because it is changed, keeps most entries of the one that it is copied
 * from. So an old table has entries in common with tables that the image still has: each of these
 * votes for its own place in the L1 table, and for the snapshot that it is of.
 */
#ifndef QCOW2_RESIDUE_VOTES_H
#define QCOW2_RESIDUE_VOTES_H

#include "../image/image.h"

/* A table that was placed. */
struct qcow2_placed_table {
  uint64_t l2_offset; /* host offset */
  uint32_t l1_index;
  uint32_t votes;
};

struct qcow2_placed {
  struct qcow2_placed_table *tables; /* ascending by l1_index, none twice */
  size_t count;
  size_t lost;           /* tables without votes, or whose votes disagree */
  uint8_t *lost_entries; /* for each of them: a bit for each entry that is in use. NULL: there are
                            too many */
  size_t contested;      /* tables for a place that another one has, with more votes */
  size_t base;           /* the snapshot that shares most with them, or QCOW2_ACTIVE */
  bool is_complete;
};

/* Find and place them. The caller frees with qcow2_placed_free(), also after an error. Errors:
   NOMEM, UNSUPPORTED (a bound is reached). */
int qcow2_votes_place(const struct qcow2_image *image, struct qcow2_placed *placed,
                      struct qcow2_error *error);

/* True if a table that has no place can belong where this L2 table is, which is in use: it is a
   copy of that, made to be changed, so it has all its entries and shares none of them. */
bool qcow2_votes_is_doubtful(const struct qcow2_placed *placed,
                             const struct qcow2_geometry *geometry, const uint8_t *l2_table);
void qcow2_placed_free(struct qcow2_placed *placed);

#endif
