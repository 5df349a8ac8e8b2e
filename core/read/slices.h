/* SPDX-License-Identifier: MIT */
/* Slices of the tables of an image file (L1, L2, bitmaps), which are read through a cache. */
#ifndef QCOW2_READ_SLICES_H
#define QCOW2_READ_SLICES_H

#include <stdbool.h>

#include "cache.h"

/* Where the slices of an image file are read from. Borrowed pointers. */
struct qcow2_slices {
  const struct qcow2_storage *storage;
  struct qcow2_cache *cache;
  uint64_t cache_owner;  /* different for each file */
  uint32_t cluster_size; /* bytes */
};

/* A pinned part of a table, which begins with the entry that was asked for. */
struct qcow2_slice {
  struct qcow2_cache_block *block;
  const uint8_t *bytes;
  size_t length; /* bytes that could be read: at least the entry */
};

/* Pin the slice that contains the entry at `host_offset`. `bytes` is the size of the entry: a power
   of two, at most 512, which divides `host_offset`. `table` is what messages call the table ("an L2
   table"). On success the caller unpins the slice. If the operating system cannot read the whole
   slice, only entries in bad sectors are errors. Errors: TRUNCATED, IO, NOMEM, with the host
   offset. */
int qcow2_slice_pin(const struct qcow2_slices *slices, const char *table, uint64_t host_offset,
                    unsigned bytes, struct qcow2_slice *slice, struct qcow2_error *error);

void qcow2_slice_unpin(const struct qcow2_slices *slices, const struct qcow2_slice *slice);

#endif
