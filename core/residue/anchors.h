/* SPDX-License-Identifier: MIT */
/*
 * L2 tables that have no place, placed by what the clusters to which they lead contain.
 *
 * A partition table is at the start of the disk, and says where file systems begin; the beginning
 * of a file system says where in it landmarks are (volumes.h). Each table that has no place is read
 * as if it were the one of that part of the disk. If the landmark is there, it is.
 */
#ifndef QCOW2_RESIDUE_ANCHORS_H
#define QCOW2_RESIDUE_ANCHORS_H

#include "../image/layer.h"
#include "placed.h"

/* A state of which some L2 tables are placed. Where none is, it may have one of the base. */
struct qcow2_anchored {
  const struct qcow2_layer *layer;
  struct qcow2_placed *placed;
  uint64_t size, end_index; /* of the disk: bytes, and L1 entries */
  uint64_t base_l1_offset;
  uint32_t base_l1_size; /* 0: there is no base */
};

/* Place tables. Two that contain the same landmark, and one that contains landmarks of two places,
   stay without a place. Errors: NOMEM. */
int qcow2_anchors_place(const struct qcow2_anchored *anchored, struct qcow2_error *error);

#endif
