/* SPDX-License-Identifier: MIT */
/* Clusters that no table names, though they have content: signs of tables that were overwritten. */
#ifndef QCOW2_RESIDUE_STRAYS_H
#define QCOW2_RESIDUE_STRAYS_H

#include "../image/layer.h"
#include "placed.h"

/* Find out if there are more such clusters than an image has that lost its header and its L1 table:
   the first one and the `l1_clusters` of that table may be anything. Also true if this cannot be
   found out. Errors: NOMEM. */
int qcow2_strays_look(const struct qcow2_layer *layer, const struct qcow2_placed *placed,
                      uint64_t l1_clusters, bool *are_left, struct qcow2_error *error);

#endif
