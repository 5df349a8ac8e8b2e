/* SPDX-License-Identifier: MIT */
/* From a guest offset to a mapping, through one L1 table and its L2 tables. Only slices of tables
   are read, through a cache. */
#ifndef QCOW2_READ_MAPPING_H
#define QCOW2_READ_MAPPING_H

#include "../format/cluster.h"
#include "slices.h"

/* The tables of one disk: the active disk of a file, or that of a snapshot. Borrowed pointers. */
struct qcow2_tables {
  const struct qcow2_geometry *geometry;
  struct qcow2_slices slices; /* of the image file, which contains the tables */
  uint64_t l1_offset;         /* host offset, bytes */
  uint32_t l1_size;           /* entries */
};

/* Where a run of guest bytes is. A value: it owns nothing. */
struct qcow2_mapping {
  enum qcow2_cluster_kind kind;
  uint64_t guest_offset;
  uint64_t length; /* bytes of this kind from guest_offset on, > 0. COMPRESSED, INVALID: within one
                      cluster */
  uint64_t host_offset;  /* NORMAL, ZERO_ALLOCATED: of the first byte. COMPRESSED: of the stream.
                            Else QCOW2_NO_OFFSET */
  uint32_t host_bytes;   /* COMPRESSED: the most that the stream can be long, bytes. Else 0 */
  uint64_t table_offset; /* host offset of the L1 or L2 entry (of a run: of the first entry), or
                            QCOW2_NO_OFFSET */
  const char *problem;   /* INVALID: why, as a clause in static storage. Else NULL */
  const char *lost;      /* INVALID: the entry is valid, but what it names is lost; this is the name
                            of the label that says so, and `host_offset` is known. Else NULL */
};

/* Map `guest_offset`, for at most `length` bytes (> 0). An invalid entry is a mapping of the kind
   INVALID. A table that cannot be read is an error; then the mapping has the entry that is needed,
   and the number of bytes with this error, which may be more than `length`. Errors: IO, TRUNCATED,
   NOMEM, and CORRUPT for an L1 table at host offset 0, with the entry's host offset. */
int qcow2_mapping_find(const struct qcow2_tables *tables, uint64_t guest_offset, uint64_t length,
                       struct qcow2_mapping *mapping, struct qcow2_error *error);

/* The same through one L2 table, at the host offset `l2_offset`; `length` bytes must not go on past
   what it maps. */
int qcow2_mapping_find_in_l2(const struct qcow2_tables *tables, uint64_t l2_offset,
                             uint64_t guest_offset, uint64_t length, struct qcow2_mapping *mapping,
                             struct qcow2_error *error);

/* The L2 entries from that of a guest offset on, as far as one slice has them, which is pinned. */
struct qcow2_entries {
  const struct qcow2_tables *tables;
  uint64_t guest_offset;
  struct qcow2_slice slice;
  const uint8_t *bytes, *end; /* the entry of `guest_offset`, and where the last one ends */
};

/* Pin the entries. On success the caller unpins them. False: there is no L2 table, or it cannot be
   read. */
bool qcow2_entries_pin(const struct qcow2_tables *tables, uint64_t guest_offset,
                       struct qcow2_entries *entries);

void qcow2_entries_unpin(const struct qcow2_entries *entries);

/* Decode the entry of entries->guest_offset. False: it is not in the slice. */
bool qcow2_entries_decode(const struct qcow2_entries *entries, struct qcow2_cluster_part *part);

/* Go on by `length` bytes, at most to the end of the cluster. */
void qcow2_entries_advance(struct qcow2_entries *entries, uint64_t length);

#endif
