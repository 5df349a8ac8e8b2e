/* SPDX-License-Identifier: MIT */
/*
 * L2 entry -> cluster kind. Pure: no I/O.
 *
 *   standard entry       offset 0          offset != 0        bit 62 set
 *   bit 0 clear          UNALLOCATED (1)   NORMAL             COMPRESSED (3)
 *   bit 0 set (2)        ZERO              ZERO_ALLOCATED     COMPRESSED (3), (4)
 *
 *   extended entry       offset 0          offset != 0        bit 62 set
 *   neither bitmap bit   UNALLOCATED (1)   UNALLOCATED        COMPRESSED (3), the bitmap is ignored
 *   reads-zero bit       ZERO              ZERO_ALLOCATED     "
 *   allocated bit        INVALID (1)       NORMAL             "
 *   both bits            INVALID           INVALID            "
 *
 *   entry of version 1   0: UNALLOCATED    offset: NORMAL     bit 63 set: COMPRESSED (5)
 *
 *   (1) with an external data file offset 0 is an offset like any other: bit 63 says whether the
 *       cluster is allocated. So the disk's first cluster can be ZERO_ALLOCATED there, too.
 *   (2) invalid in version 2; has no meaning in extended entries.
 *   (3) invalid with an external data file.
 *   (4) bit 0 is part of the descriptor.
 *   (5) below bit 63, cluster_bits bits have the stream's length in bytes, the rest its offset.
 *   An offset that is not a multiple of the cluster size is INVALID. With an external data file, an
 *   offset that differs from the guest offset is INVALID, too.
 */
#ifndef QCOW2_FORMAT_CLUSTER_H
#define QCOW2_FORMAT_CLUSTER_H

#include "../base/bytes.h"
#include "geometry.h"

#define L2_ENTRY_COPIED (UINT64_C(1) << 63)
#define L2_ENTRY_COMPRESSED (UINT64_C(1) << 62)
#define L2_ENTRY_ZERO UINT64_C(1)
#define L2_ENTRY_COMPRESSED_V1 (UINT64_C(1) << 63)

/* One L2 entry as stored, in host byte order. */
struct qcow2_l2_entry {
  uint64_t descriptor;
  uint64_t subcluster_bitmap; /* 0 without extended L2 entries */
};

/* Part of one cluster that is of one kind. */
struct qcow2_cluster_part {
  enum qcow2_cluster_kind kind;
  uint32_t length;      /* guest bytes from the offset asked for, > 0, within the cluster */
  uint64_t host_offset; /* NORMAL, ZERO_ALLOCATED: of the first of those bytes. COMPRESSED: of the
                           stream. Else QCOW2_NO_OFFSET */
  uint32_t host_bytes;  /* COMPRESSED: the stream's upper bound in bytes; in version 1 its length.
                           Else 0 */
  const char *problem;  /* INVALID: why, as a clause in static storage. Else NULL */
};

/* Load the entry that is stored at `bytes`. */
static inline struct qcow2_l2_entry l2_entry_load(const struct qcow2_geometry *geometry,
                                                  const uint8_t *bytes)
{
  return (struct qcow2_l2_entry){
    .descriptor = be64_get(bytes),
    .subcluster_bitmap = geometry->extended_l2 ? be64_get(bytes + 8) : 0,
  };
}

/* Decode the entry that describes `guest_offset`. */
struct qcow2_cluster_part qcow2_l2_entry_decode(const struct qcow2_geometry *geometry,
                                                const struct qcow2_l2_entry *entry,
                                                uint64_t guest_offset);

/* The rules that qcow2_l2_entry_decode() applies, one by one. For entries that are not compressed:
   true if the entry has a host cluster. */
bool qcow2_l2_entry_is_allocated(const struct qcow2_geometry *geometry, uint64_t descriptor);

/* Each of these says why something is invalid, as a clause in static storage; NULL if it is valid.
   The host cluster offset of an L2 entry that is not compressed: */
const char *qcow2_l2_entry_offset_problem(const struct qcow2_geometry *geometry,
                                          uint64_t descriptor);
/* The bitmap of an extended L2 entry, or those of its bits that are not masked out: */
const char *qcow2_subcluster_bitmap_problem(uint64_t bitmap, bool is_allocated);
/* The L2 table offset of an L1 entry: */
const char *qcow2_l1_entry_problem(const struct qcow2_geometry *geometry, uint64_t l1_entry);

#endif
