/* SPDX-License-Identifier: MIT */
/*
 * The refcounts of a file whose header is lost: where their table is, and how wide they are.
 *
 * A refcount table looks like an L2 table. But it leads to a block that says of the table's own
 * cluster, and of the block's, that they are used once. With a wrong width it hardly ever does.
 */
#ifndef QCOW2_RESIDUE_GUESSED_REFCOUNTS_H
#define QCOW2_RESIDUE_GUESSED_REFCOUNTS_H

#include <stdbool.h>
#include <stddef.h>

#include "../format/geometry.h"

struct qcow2_guessed_refcounts {
  const struct qcow2_storage *storage;
  unsigned cluster_bits;
  uint64_t *work;        /* bytes that may still be read */
  uint8_t *block;        /* room for a cluster: the refcount block at `block_offset`; 0: nothing */
  uint64_t block_offset; /* host offset */
  uint64_t table_offset; /* host offset; 0: no refcount table is known */
  unsigned order;        /* a refcount has 1 << order bits */
  size_t in_use;         /* so many of the tables that were asked about are in use */
};

/* Take the cluster at `table_offset` as the refcount table if it can be it, and if it explains the
   `tables` (host offsets) better than the one that was taken before. Returns true if it is taken.
 */
bool qcow2_guessed_refcounts_try(struct qcow2_guessed_refcounts *refcounts, uint64_t table_offset,
                                 const uint64_t *tables, size_t count);

/* The width of a refcount in bits; 0: no refcount table is known. */
static inline uint32_t qcow2_guessed_refcount_bits(const struct qcow2_guessed_refcounts *refcounts)
{
  return refcounts->table_offset == 0 ? 0 : UINT32_C(1) << refcounts->order;
}

/* The refcount of the cluster at a host offset; -1: there is none. */
int64_t qcow2_guessed_refcount(struct qcow2_guessed_refcounts *refcounts, uint64_t host_offset);

#endif
