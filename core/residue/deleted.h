/* SPDX-License-Identifier: MIT */
/* The entries of snapshots that the image no longer has, and which of them can be believed. */
#ifndef QCOW2_RESIDUE_DELETED_H
#define QCOW2_RESIDUE_DELETED_H

#include "../image/image.h"

/* An entry of an old snapshot table. */
struct qcow2_deleted_entry {
  uint64_t host_offset, table_offset; /* of the entry, and of the table that it is in */
  uint64_t l1_offset;
  uint32_t l1_size;         /* entries */
  enum qcow2_residue_l1 l1; /* what is there now */
  uint64_t date;            /* seconds << 32 | nanoseconds */
};

struct qcow2_deleted_entries {
  size_t count;
  bool is_complete;                     /* the whole file was looked at */
  bool has_gaps;                        /* some of it could not be read, so there may be more */
  struct qcow2_deleted_entry entries[]; /* in ascending order of host offsets */
};

/* Find all entries, once for each image, which keeps them. Of those whose L1 tables have bytes in
   common, at most one can still have its table: the latest; the L1 tables of the others are GONE.
   So are those where an entry seems to begin: the first word of one, read as an L1 table, leads to
   a table, too. Any thread. Errors: NOMEM. */
int qcow2_deleted_entries(const struct qcow2_image *image,
                          const struct qcow2_deleted_entries **entries, struct qcow2_error *error);

/* Let qcow2_deleted_is_complete() be false. */
void qcow2_deleted_note_gaps(const struct qcow2_image *image);

/* True if its L1 table is there, as far as is known. */
static inline bool deleted_is_there(const struct qcow2_deleted_entry *entry)
{
  return entry->l1 == QCOW2_RESIDUE_L1_THERE || entry->l1 == QCOW2_RESIDUE_L1_UNKNOWN;
}

/* Decode the entry at a host offset. The caller frees with qcow2_snapshot_free(). Errors: IO,
   TRUNCATED, CORRUPT, NOMEM. */
int qcow2_deleted_decode(const struct qcow2_image *image, uint64_t host_offset,
                         struct qcow2_snapshot *snapshot, struct qcow2_error *error);

/* How many of the image's snapshots are older than that of an entry: those before it in its table.
   They are the first in the image's table, too, since new ones come last. Errors: NOMEM. */
int qcow2_deleted_count_older(const struct qcow2_image *image,
                              const struct qcow2_deleted_entry *entry, size_t *count,
                              struct qcow2_error *error);

#endif
