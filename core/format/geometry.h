/* SPDX-License-Identifier: MIT */
/* How a checked header divides the disk and the file: clusters, subclusters, L2 tables. */
#ifndef QCOW2_FORMAT_GEOMETRY_H
#define QCOW2_FORMAT_GEOMETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "../qcow2core.h"

#define CLUSTER_BITS_MIN 9
#define CLUSTER_BITS_MAX 21
/* With extended L2 entries a cluster has 32 subclusters of at least 512 bytes. */
#define CLUSTER_BITS_MIN_EXTENDED 14
#define SUBCLUSTERS_PER_CLUSTER 32u

/* An L1 table is at most 32 MiB. This is QEMU's limit too; it is enough for 2 EiB with 2 MiB
   clusters. */
#define L1_ENTRY_BYTES 8u
#define L1_TABLE_BYTES_MAX (UINT64_C(32) << 20)
#define L1_ENTRIES_MAX (L1_TABLE_BYTES_MAX / L1_ENTRY_BYTES)

/* L1 and standard L2 entries hold a host offset in bits 9..55. */
#define TABLE_OFFSET_MASK UINT64_C(0x00fffffffffffe00)

struct qcow2_geometry {
  uint32_t version;
  bool extended_l2;
  bool has_data_file;
  unsigned cluster_bits;
  uint32_t cluster_size;    /* bytes */
  uint32_t subcluster_size; /* bytes; the cluster size without extended L2 entries */
  unsigned l2_entry_bytes;  /* 8 or 16 */
  unsigned l2_bits;         /* an L2 table has 1 << l2_bits entries */
};

/* The geometry that a checked header describes. */
struct qcow2_geometry qcow2_geometry_of(const struct qcow2_header *header);

/* The number of L1 entries that `size` guest bytes need. */
uint64_t qcow2_geometry_l1_entries(const struct qcow2_geometry *geometry, uint64_t size);

/* What is wrong with the offset or the size of an L1 table. */
enum qcow2_l1_problem {
  L1_FITS,
  L1_TOO_LARGE,  /* it is larger than L1_TABLE_BYTES_MAX */
  L1_UNALIGNED,  /* its offset is not a multiple of the cluster size; in version 1, of 8 */
  L1_TOO_FAR,    /* its offset is 2^63 or more: no file is so long */
  L1_OVER_HEADER /* it is at offset 0, where the header is, and has entries */
};

/* The first of these problems that a table of `l1_size` entries at the host offset `l1_offset`
   has. */
enum qcow2_l1_problem qcow2_geometry_l1_problem(const struct qcow2_geometry *geometry,
                                                uint64_t l1_offset, uint32_t l1_size);

static inline uint64_t geometry_l1_index(const struct qcow2_geometry *g, uint64_t guest_offset)
{
  return guest_offset >> (g->cluster_bits + g->l2_bits);
}

static inline uint32_t geometry_l2_index(const struct qcow2_geometry *g, uint64_t guest_offset)
{
  return (uint32_t) (guest_offset >> g->cluster_bits) & ((UINT32_C(1) << g->l2_bits) - 1);
}

static inline uint32_t geometry_l2_bytes(const struct qcow2_geometry *g)
{
  return (uint32_t) g->l2_entry_bytes << g->l2_bits;
}

/* True if an L1 entry refers to an L2 table. The rest of an entry is reserved; in version 1 it is
   all offset. */
static inline bool geometry_l1_entry_is_allocated(const struct qcow2_geometry *g, uint64_t l1_entry)
{
  return (g->version == 1 ? l1_entry : l1_entry & TABLE_OFFSET_MASK) != 0;
}

/* Guest bytes from `guest_offset` to the end of what its L2 table maps. */
static inline uint64_t geometry_l2_left(const struct qcow2_geometry *g, uint64_t guest_offset)
{
  uint64_t reach = UINT64_C(1) << (g->cluster_bits + g->l2_bits);

  return reach - (guest_offset & (reach - 1));
}

static inline uint32_t geometry_in_cluster(const struct qcow2_geometry *g, uint64_t guest_offset)
{
  return (uint32_t) guest_offset & (g->cluster_size - 1);
}

#endif
