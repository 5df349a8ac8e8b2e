/* SPDX-License-Identifier: MIT */
/* The tables of an image file (L1, L2, bitmaps), read and cached in slices. */
#ifndef QCOW2_READ_SLICES_H
#define QCOW2_READ_SLICES_H

#include <stdbool.h>

#include "cache.h"

/* Where an image file's table slices come from. Borrowed pointers. */
struct qcow2_slices {
  const struct qcow2_storage *storage;
  struct qcow2_cache *cache;
  uint64_t cache_owner;  /* tells this file's slices from others' */
  uint32_t cluster_size; /* bytes */
};

/* A pinned part of a table, from the entry that was asked for on. */
struct qcow2_slice {
  struct qcow2_cache_block *block;
  const uint8_t *bytes;
  size_t length; /* bytes that can be used: at least those asked for */
};

/* Pin the slice that holds the `bytes` (a power of two, at most 512) at `host_offset`, a multiple
   of it. `table` names the table for messages ("an L2 table"). On success the caller unpins it.
   Where the operating system cannot read a slice as a whole, only those of its entries fail that
   lie in bad sectors. Errors: TRUNCATED, IO, NOMEM, with the host offset. */
int qcow2_slice_pin(const struct qcow2_slices *slices, const char *table, uint64_t host_offset,
                    unsigned bytes, struct qcow2_slice *slice, struct qcow2_error *error);

void qcow2_slice_unpin(const struct qcow2_slices *slices, const struct qcow2_slice *slice);

#endif
