/* SPDX-License-Identifier: MIT */
/*
 * L2 tables that have no place, placed by their order in the file.
 *
 * Who writes a disk from its start to its end, as qemu-img convert does, allocates each table right
 * before the clusters that it names, and these in ascending order. So where tables and clusters lie
 * like this, and between two tables that have a place there are as many as fit, each has one.
 */
#ifndef QCOW2_RESIDUE_ORDER_H
#define QCOW2_RESIDUE_ORDER_H

#include "../image/layer.h"
#include "placed.h"

/* Place tables of a disk of `end_index` L1 entries. None is placed if those that have a place do
   not ascend. Errors: NOMEM. */
int qcow2_order_place(const struct qcow2_layer *layer, struct qcow2_placed *placed,
                      uint64_t end_index, struct qcow2_error *error);

#endif
