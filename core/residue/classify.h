/* SPDX-License-Identifier: MIT */
/* What an unreferenced cluster looks like, by its bytes alone. Pure: no I/O. */
#ifndef QCOW2_RESIDUE_CLASSIFY_H
#define QCOW2_RESIDUE_CLASSIFY_H

#include "../format/geometry.h"

/* What the bytes are compared with. */
struct qcow2_residue_looks {
  const struct qcow2_geometry *geometry;
  unsigned refcount_order;
  uint64_t file_size;
  uint64_t *scratch; /* as many words as a cluster has */
};

/* True if all are zeros. */
bool qcow2_residue_is_zero(const uint8_t *bytes, size_t length);

/* What the cluster looks like. Every table of offsets counts as an L2 table here: only what it
   points to tells which table it is. So the answer is never L1 or REFCOUNT_TABLE, nor HOLE. */
enum qcow2_residue_kind qcow2_residue_classify(const struct qcow2_residue_looks *looks,
                                               const uint8_t *cluster);

/* True if `count` words look like a table of offsets, not all of them zero. */
bool qcow2_residue_is_table(const struct qcow2_residue_looks *looks, const uint8_t *bytes,
                            size_t count);

/* True if a cluster that an L1 table names looks like an L2 table. It may have nothing but zero
   clusters, but it is not all zeros. */
bool qcow2_residue_is_l2(const struct qcow2_residue_looks *looks, const uint8_t *cluster);

/* The same, but some entry leads to a cluster. */
bool qcow2_residue_is_used_l2(const struct qcow2_residue_looks *looks, const uint8_t *cluster);

/* As qcow2_residue_is_table() for entries of `width` words, of which the first has the offset: 1,
   or 2 for extended L2 entries. */
bool qcow2_residue_is_table_of(const struct qcow2_residue_looks *looks, const uint8_t *bytes,
                               size_t count, unsigned width);

/* True if a word can be the first of an L2 entry for a cluster of an external data file, for which
   COPIED is set, or for none. */
bool qcow2_residue_can_lead_to_data(uint64_t word);

/* True if `count` words of entries of which that is true, of `width` words each, can be a part of
   an L2 table: each of its clusters is where, in the part of the disk that they map, the entry is.
   An external data file has each cluster where it is on the disk. False, too, if there is none. */
bool qcow2_residue_are_in_place(const uint8_t *bytes, size_t count, unsigned width,
                                unsigned cluster_bits);

/* If the `length` bytes begin with what looks like an entry of the snapshot table: the length of
   that entry in bytes, rounded up to a multiple of 8. Else 0. QEMU does not write the bytes after
   an entry up to that multiple: what was there before stays. */
size_t qcow2_residue_snapshot_entry(const struct qcow2_residue_looks *looks, const uint8_t *bytes,
                                    size_t length);

/* False if an entry that begins with these SNAPSHOT_FIXED_BYTES bytes cannot look like one. */
bool qcow2_residue_may_be_snapshot(const struct qcow2_residue_looks *looks, const uint8_t *bytes);

/* The same for an entry of the bitmap directory, and its BITMAP_FIXED_BYTES bytes. */
size_t qcow2_residue_bitmap_entry(const struct qcow2_residue_looks *looks, const uint8_t *bytes,
                                  size_t length);
bool qcow2_residue_may_be_bitmap(const struct qcow2_residue_looks *looks, const uint8_t *bytes);

#endif
