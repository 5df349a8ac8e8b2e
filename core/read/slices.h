/* SPDX-License-Identifier: MIT */
/* The tables of an image file (L1, L2, bitmaps), read and cached in slices. */
#ifndef QCOW2_READ_SLICES_H
#define QCOW2_READ_SLICES_H

#include "cache.h"

/* Where an image file's table slices come from. Borrowed pointers. */
struct qcow2_slices {
  const struct qcow2_storage *storage;
  struct qcow2_cache *cache;
  uint64_t cache_space;  /* tells this file's slices from others' */
  uint32_t cluster_size; /* bytes */
};

/* Pin the slice that holds the `bytes` (a power of two, at most 512) at `host_offset`, a multiple of it, and find them in it. What
   follows them up to block->data + block->filled may be used too. `table` names the table for messages ("an L2 table"). On success the
   caller unpins the block. Errors: TRUNCATED, IO, NOMEM, with the host offset. */
int qcow2_slice_pin(const struct qcow2_slices *slices, const char *table, uint64_t host_offset,
                    unsigned bytes, struct qcow2_cache_block **block, const uint8_t **found,
                    struct qcow2_error *error);

#endif
