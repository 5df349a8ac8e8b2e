/* SPDX-License-Identifier: MIT */
#include "geometry.h"

#include "../base/checked.h"

struct qcow2_geometry qcow2_geometry_of(const struct qcow2_header *header)
{
  bool extended = (header->incompatible_features & QCOW2_INCOMPATIBLE_EXTENDED_L2) != 0;
  uint32_t cluster_size = UINT32_C(1) << header->cluster_bits;

  return (struct qcow2_geometry){
    .version = header->version,
    .extended_l2 = extended,
    .has_data_file = (header->incompatible_features & QCOW2_INCOMPATIBLE_DATA_FILE) != 0,
    .cluster_bits = header->cluster_bits,
    .cluster_size = cluster_size,
    .subcluster_size = extended ? cluster_size / SUBCLUSTERS_PER_CLUSTER : cluster_size,
    .l2_entry_bytes = extended ? 16 : 8,
    .l2_bits = header->version == 1 ? header->l2_bits : header->cluster_bits - (extended ? 4u : 3u),
  };
}

uint64_t qcow2_geometry_l1_entries(const struct qcow2_geometry *geometry, uint64_t size)
{
  return divide_up(size, UINT64_C(1) << (geometry->cluster_bits + geometry->l2_bits));
}

enum qcow2_l1_problem qcow2_geometry_l1_problem(const struct qcow2_geometry *geometry,
                                                uint64_t l1_offset, uint32_t l1_size)
{
  if ((uint64_t) l1_size * L1_ENTRY_BYTES > L1_TABLE_BYTES_MAX)
    return L1_TOO_LARGE;
  if (!is_aligned(l1_offset, geometry->version == 1 ? L1_ENTRY_BYTES : geometry->cluster_size))
    return L1_UNALIGNED;
  if (l1_offset > INT64_MAX)
    return L1_TOO_FAR;
  return l1_offset == 0 && l1_size > 0 ? L1_OVER_HEADER : L1_FITS;
}
