/* SPDX-License-Identifier: MIT */
/*
 * Data clusters that no table names, placed by their neighbours.
 *
 * A guest that writes on and on gets its clusters one after the other in the file, with the L2
 * tables between them. So if the places of two clusters on the disk are known, and between them
 * there is as much in the file as on the disk, then what nothing refers to in the file between them
 * most probably belongs between them on the disk.
 */
#ifndef QCOW2_RESIDUE_NEIGHBOURS_H
#define QCOW2_RESIDUE_NEIGHBOURS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Guest clusters, and the clusters of the file that belong there. */
struct qcow2_neighbours_run {
  uint64_t guest, host; /* the first of each, in clusters */
  uint64_t count;       /* > 0 */
};

struct qcow2_neighbours {
  struct qcow2_neighbours_run *runs; /* ascending by guest; no cluster of either sort twice */
  size_t count;
  bool has_more; /* a bound was reached: there may be more */
};

/* The run that has a guest cluster, or else the next one; NULL: there is none. */
static inline const struct qcow2_neighbours_run *neighbours_next(
    const struct qcow2_neighbours *neighbours, uint64_t guest)
{
  size_t low = 0, high = neighbours->count;

  while (low < high) {
    size_t middle = low + (high - low) / 2;

    if (neighbours->runs[middle].guest + neighbours->runs[middle].count <= guest)
      low = middle + 1;
    else
      high = middle;
  }
  return low < neighbours->count ? &neighbours->runs[low] : NULL;
}

/* ---- Where they are looked for ---------------------------------------------------- */

/* What is in a cluster of a gap. */
enum qcow2_gap_slot {
  GAP_DATA,  /* what looks like data, and nothing refers to it */
  GAP_TABLE, /* an L2 table of the state, or a refcount block */
  GAP_OTHER  /* zeros, what looks like something else, or something refers to it */
};
/* In `claims`: tables disagree about the cluster. */
#define GAP_DISPUTED UINT32_MAX

/* Between two clusters of which the places are known. All in clusters. */
struct qcow2_gap {
  uint64_t guest, host;             /* the first after the lower one */
  uint64_t guest_count, host_count; /* up to the upper one */
  size_t first_slot;
};

struct qcow2_gaps {
  struct qcow2_gap *gaps; /* ascending by host; no cluster of the file is in two */
  size_t count;
  uint8_t *slots;   /* (enum qcow2_gap_slot) for each cluster of the file in a gap */
  uint32_t *claims; /* for each: 1 + the index of the L2 entry by which an old table names it; 0:
                       none does */
  size_t slot_count;
  uint64_t *tables; /* clusters of the state's L2 tables, ascending */
  size_t table_count;
};

#endif
