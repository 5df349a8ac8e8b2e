/* SPDX-License-Identifier: MIT */
#include "refcount.h"

#include "../base/checked.h"

static uint64_t cluster_size(const struct qcow2_header *header)
{
  return UINT64_C(1) << header->cluster_bits;
}

uint64_t qcow2_refcount_table_bytes(const struct qcow2_header *header)
{
  return (uint64_t) header->refcount_table_clusters << header->cluster_bits;
}

bool qcow2_refcount_table_fits(const struct qcow2_header *header)
{
  uint64_t bytes = qcow2_refcount_table_bytes(header);

  return bytes <= REFCOUNT_TABLE_BYTES_MAX &&
         range_fits(header->refcount_table_offset, bytes, INT64_MAX) &&
         is_aligned(header->refcount_table_offset, cluster_size(header));
}

bool qcow2_refcount_block_fits(const struct qcow2_header *header, uint64_t host_offset)
{
  return is_aligned(host_offset, cluster_size(header)) && host_offset <= INT64_MAX;
}

uint64_t qcow2_refcounts_per_block(const struct qcow2_header *header)
{
  return cluster_size(header) * 8 >> header->refcount_order;
}
