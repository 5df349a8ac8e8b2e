/* SPDX-License-Identifier: MIT */
#include "mapping.h"

#include "../base/bytes.h"
#include "../base/checked.h"

static struct qcow2_mapping mapping_plain(enum qcow2_cluster_kind kind, uint64_t guest_offset,
                                          uint64_t length)
{
  return (struct qcow2_mapping){ .kind = kind,
                                 .guest_offset = guest_offset,
                                 .length = length,
                                 .host_offset = QCOW2_NO_OFFSET,
                                 .table_offset = QCOW2_NO_OFFSET };
}

/* ---- L1 ----------------------------------------------------------------- */

/* Read the L1 entry at `index`. A cleared offset, or an index past the table, is an unallocated L2 table. */
static int read_l1(const struct qcow2_tables *tables, uint64_t index, uint64_t *l1_entry,
                   struct qcow2_error *error)
{
  struct qcow2_cache_block *block;
  const uint8_t *bytes;
  int code;

  *l1_entry = 0;
  if (index >= tables->l1_size)
    return 0;
  code = qcow2_slice_pin(&tables->slices, "an L1 table", tables->l1_offset + index * L1_ENTRY_BYTES,
                         L1_ENTRY_BYTES, &block, &bytes, error);
  if (code != 0)
    return code;
  *l1_entry = be64_get(bytes);
  qcow2_cache_unpin(tables->slices.cache, block);
  return 0;
}

/* ---- L2 ----------------------------------------------------------------- */

static struct qcow2_l2_entry l2_entry_get(const struct qcow2_geometry *geometry,
                                          const uint8_t *bytes)
{
  return (struct qcow2_l2_entry){
    .descriptor = be64_get(bytes),
    .subcluster_bitmap = geometry->extended_l2 ? be64_get(bytes + 8) : 0,
  };
}

/* True if `part`, whose bytes follow those of `mapping`, continues it. */
static bool part_continues(const struct qcow2_mapping *mapping,
                           const struct qcow2_cluster_part *part)
{
  if (part->kind != mapping->kind)
    return false;
  switch (part->kind) {
  case QCOW2_CLUSTER_UNALLOCATED:
  case QCOW2_CLUSTER_ZERO:
    return true;
  case QCOW2_CLUSTER_ZERO_ALLOCATED:
  case QCOW2_CLUSTER_NORMAL:
    return part->host_offset == mapping->host_offset + mapping->length;
  case QCOW2_CLUSTER_COMPRESSED:
  case QCOW2_CLUSTER_INVALID:
    return false;
  }
  return false;
}

static struct qcow2_mapping mapping_of_part(uint64_t guest_offset,
                                            const struct qcow2_cluster_part *part,
                                            uint64_t entry_offset)
{
  bool invalid = part->kind == QCOW2_CLUSTER_INVALID;

  return (struct qcow2_mapping){ .kind = part->kind,
                                 .guest_offset = guest_offset,
                                 .length = part->length,
                                 .host_offset = part->host_offset,
                                 .host_bytes = part->host_bytes,
                                 .table_offset = invalid ? entry_offset : QCOW2_NO_OFFSET,
                                 .problem = part->problem };
}

/* Collect the run that starts at `guest_offset`, from the L2 entries in [bytes, end), of which the first describes it. */
static void collect_run(const struct qcow2_geometry *geometry, const uint8_t *bytes,
                        const uint8_t *end, uint64_t entry_offset, uint64_t guest_offset,
                        uint64_t length, struct qcow2_mapping *mapping)
{
  unsigned entry_bytes = geometry->l2_entry_bytes;
  uint64_t at = guest_offset;

  do {
    struct qcow2_l2_entry entry = l2_entry_get(geometry, bytes);
    struct qcow2_cluster_part part = qcow2_l2_entry_decode(geometry, &entry, at);

    if (at == guest_offset)
      *mapping = mapping_of_part(at, &part, entry_offset);
    else if (part_continues(mapping, &part))
      mapping->length += part.length;
    else
      break;
    at += part.length;
    if (geometry_in_cluster(geometry, at) == 0)
      bytes += entry_bytes;
  } while (mapping->length < length && end - bytes >= (ptrdiff_t) entry_bytes);
  mapping->length = min_u64(mapping->length, length);
}

/* Map through the L2 table at `l2_offset`. */
static int map_in_l2(const struct qcow2_tables *tables, uint64_t l2_offset, uint64_t guest_offset,
                     uint64_t length, struct qcow2_mapping *mapping, struct qcow2_error *error)
{
  const struct qcow2_geometry *geometry = tables->geometry;
  uint64_t entry_offset =
      l2_offset + (uint64_t) geometry_l2_index(geometry, guest_offset) * geometry->l2_entry_bytes;
  struct qcow2_cache_block *block;
  const uint8_t *bytes;
  int code = qcow2_slice_pin(&tables->slices, "an L2 table", entry_offset,
                             geometry->l2_entry_bytes, &block, &bytes, error);

  if (code != 0)
    return code;
  collect_run(geometry, bytes, block->data + block->filled, entry_offset, guest_offset, length,
              mapping);
  qcow2_cache_unpin(tables->slices.cache, block);
  return 0;
}

int qcow2_mapping_find(const struct qcow2_tables *tables, uint64_t guest_offset, uint64_t length,
                       struct qcow2_mapping *mapping, struct qcow2_error *error)
{
  const struct qcow2_geometry *geometry = tables->geometry;
  uint64_t l1_index = geometry_l1_index(geometry, guest_offset);
  uint64_t l2_reach = UINT64_C(1) << (geometry->cluster_bits + geometry->l2_bits);
  uint64_t left = min_u64(length, l2_reach - (guest_offset & (l2_reach - 1)));
  uint64_t l1_entry;
  int code = read_l1(tables, l1_index, &l1_entry, error);

  if (code != 0)
    return code;
  *mapping = mapping_plain(QCOW2_CLUSTER_UNALLOCATED, guest_offset, left);
  if ((l1_entry & TABLE_OFFSET_MASK) == 0)
    return 0;
  mapping->problem = qcow2_l1_entry_problem(geometry, l1_entry);
  if (mapping->problem != NULL) {
    mapping->kind = QCOW2_CLUSTER_INVALID;
    mapping->table_offset = tables->l1_offset + l1_index * L1_ENTRY_BYTES;
    return 0;
  }
  return map_in_l2(tables, l1_entry & TABLE_OFFSET_MASK, guest_offset, left, mapping, error);
}
