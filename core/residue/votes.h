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
#include "placed.h"

/* Find and place them. The caller frees with qcow2_placed_free(), also after an error. Errors:
   NOMEM, UNSUPPORTED (a bound is reached). */
int qcow2_votes_place(const struct qcow2_image *image, struct qcow2_placed *placed,
                      struct qcow2_error *error);

#endif
