/* SPDX-License-Identifier: MIT */
/*
 * What of a file something refers to, as far as any state of the image can show it or any table
 * needs it:
 *   - the header with its extensions and the backing file's name; the L1 tables, and the snapshot
 *     table, bitmap directory and bitmap tables, to their last entry; the L2 tables, the refcount
 *     table and its blocks, the bitmaps' clusters, the LUKS header, as a whole;
 *   - of guest data, what reading the active disk, a snapshot's disk or its VM state can give: not
 *     what lies after the end of these, nor what is zero or unallocated, nor what an invalid entry
 *     names;
 *   - compressed streams to their last byte.
 * Everything else is residue. The tables are walked as a check walks them.
 */
#ifndef QCOW2_RESIDUE_REFERENCES_H
#define QCOW2_RESIDUE_REFERENCES_H

#include "../image/image.h"
#include "map.h"

/* Enough for any image that was not made to keep a reader busy: see struct qcow2_check_options. */
#define RESIDUE_WORK_BYTES (UINT64_C(64) << 30)

/* Why nothing reads bytes of a cluster that an L2 entry names. */
enum qcow2_residue_hidden {
  HIDDEN_NOT,
  HIDDEN_UNDER_ZEROS,
  HIDDEN_SUBCLUSTERS, /* some are unallocated or zero */
  HIDDEN_PAST_DISK    /* the disk ends before them */
};

struct qcow2_checked_l1_entry;
struct qcow2_checked_l2_entry;

/* References that do not count, because they are what something else is compared with. */
struct qcow2_residue_own {
  void *context; /* passed to all of these */
  /* True if this L1 entry's reference to its L2 table does not count. */
  bool (*l1_entry)(void *context, const struct qcow2_checked_l1_entry *entry);
  /* True if the entries of this L2 table are wanted. */
  bool (*wants_l2)(void *context, const struct qcow2_checked_l1_entry *entry);
  /* True if this entry's reference does not count. It is of the table that was wanted last. */
  bool (*l2_entry)(void *context, const struct qcow2_checked_l2_entry *entry);
};

/* A walk: what it may cost and, afterwards, how far it came. */
struct qcow2_residue_walk {
  uint64_t work;   /* left, as in struct qcow2_check_options */
  uint8_t *hidden; /* NULL, or enum qcow2_residue_hidden for each cluster of the map, two bits
                      each, zero before the walk */
  const struct qcow2_residue_own *own; /* NULL, or what does not count. Then whatever an entry names
                                          counts as a whole, even if nothing reads it */
  uint64_t last_used; /* the last cluster that something refers to, whether or not the map has it */
  bool is_bounded;    /* the bound of work was reached: the map is of no use */
  bool has_gaps;      /* a table could not be read, or a snapshot or bitmap is lost: what only that
                         refers to counts as residue */
};

/* The length in bytes of the shortest stream that can give a cluster. */
uint32_t qcow2_residue_shortest_stream(const struct qcow2_layer *layer);

/* Add everything that the topmost file's tables refer to to a map that was moved, and finish it.
   Errors: NOMEM. */
int qcow2_residue_collect(const struct qcow2_image *image, struct qcow2_residue_map *map,
                          struct qcow2_residue_walk *walk, struct qcow2_error *error);

/* What walk->hidden says of the cluster at an index from the map's first on. */
enum qcow2_residue_hidden qcow2_residue_hidden_get(const uint8_t *hidden, uint64_t index);

#endif
