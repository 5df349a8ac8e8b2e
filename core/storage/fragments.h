/* SPDX-License-Identifier: MIT */
/* A storage over a file that lies in fragments of another storage. The public header has the
   functions that make one. */
#ifndef QCOW2_STORAGE_FRAGMENTS_H
#define QCOW2_STORAGE_FRAGMENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "../qcow2core.h"

/* The storage in which the fragments lie. NULL: the storage is not one of fragments. */
const struct qcow2_storage *qcow2_fragments_outer(const struct qcow2_storage *storage);

/* The first offset from `offset` on that is in a hole of the list, or is in none; or the size. The
   storage is one of fragments. */
uint64_t qcow2_fragments_next(const struct qcow2_storage *storage, uint64_t offset, bool in_hole);

/* After a read of these bytes failed: write to `out` a clause about where they are. The storage is
   one of fragments. */
void qcow2_fragments_explain(const struct qcow2_storage *storage, uint64_t offset, size_t length,
                             char *out, size_t out_size);

#endif
