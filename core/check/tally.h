/* SPDX-License-Identifier: MIT */
/* How often each cluster of a part of the file is referred to, and as what. Pure: no I/O. */
#ifndef QCOW2_CHECK_TALLY_H
#define QCOW2_CHECK_TALLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A tally's cell: the count in the low bits, then whose disks refer to the cluster, what is known
   of the stored refcount, and what the cluster is used as. */
#define TALLY_COUNT_MAX ((UINT32_C(1) << 19) - 1)
#define OF_ACTIVE (UINT32_C(1) << 19)
#define OF_SNAPSHOT (UINT32_C(1) << 20)
#define REFCOUNT_IS_ONE (UINT32_C(1) << 21)
#define REFCOUNT_IS_UNKNOWN (UINT32_C(1) << 22)
#define USE_HEADER (UINT32_C(1) << 23)
#define USE_REFCOUNTS (UINT32_C(1) << 24)
#define USE_L1 (UINT32_C(1) << 25)
#define USE_L2 (UINT32_C(1) << 26)
#define USE_SNAPSHOT_TABLE (UINT32_C(1) << 27)
#define USE_BITMAP (UINT32_C(1) << 28)
#define USE_LUKS (UINT32_C(1) << 29)
#define USE_DATA (UINT32_C(1) << 30)
#define USE_COMPRESSED (UINT32_C(1) << 31)
#define USE_SHIFT 23 /* to the public QCOW2_USE_... */
#define USE_MASK (~((UINT32_C(1) << USE_SHIFT) - 1))

struct qcow2_tally {
  uint32_t *cells; /* of the clusters from `first` on */
  size_t capacity; /* cells */
  uint64_t first;  /* cluster */
  uint64_t next;   /* the lowest cluster after these that was left out; UINT64_MAX: none */
  uint32_t limit;  /* no count is higher */
};

/* False if there is no memory. `limit` is at most TALLY_COUNT_MAX. Freed with
   qcow2_tally_free(). */
bool qcow2_tally_init(struct qcow2_tally *tally, size_t capacity, uint32_t limit);
void qcow2_tally_free(struct qcow2_tally *tally);

/* Clear the tally, which now has the clusters from `first` on. */
void qcow2_tally_move(struct qcow2_tally *tally, uint64_t first);

/* Cut the clusters [*first, *last] to those that the tally has now. If that leaves out clusters
   after the tally's last one, note the first of these in `next`. False: none are left. */
bool qcow2_tally_clip(struct qcow2_tally *tally, uint64_t *first, uint64_t *last);

/* True if the tally has the cluster now. */
static inline bool tally_has(const struct qcow2_tally *tally, uint64_t cluster)
{
  return cluster >= tally->first && cluster - tally->first < tally->capacity;
}

/* The cell of a cluster that the tally has now. */
static inline uint32_t *tally_cell(const struct qcow2_tally *tally, uint64_t cluster)
{
  return &tally->cells[cluster - tally->first];
}

/* Count one reference. False if the count is at its limit already. */
static inline bool tally_count(const struct qcow2_tally *tally, uint32_t *cell)
{
  if ((*cell & TALLY_COUNT_MAX) == tally->limit)
    return false;
  ++*cell;
  return true;
}

#endif
