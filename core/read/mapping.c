/* SPDX-License-Identifier: MIT */
#include "mapping.h"

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"

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

static uint64_t l1_entry_offset(const struct qcow2_tables *tables, uint64_t index)
{
  return tables->l1_offset + index * L1_ENTRY_BYTES;
}

/* True if the L1 table is at host offset 0. Its other problems were errors when the image or the
   view was opened. */
static bool l1_is_over_header(const struct qcow2_tables *tables)
{
  return qcow2_geometry_l1_problem(tables->geometry, tables->l1_offset, tables->l1_size) ==
         L1_OVER_HEADER;
}

/* Read the L1 entry at `index`. It is 0 past the end of the table: no L2 table is allocated. */
static int read_l1(const struct qcow2_tables *tables, uint64_t index, uint64_t *l1_entry,
                   struct qcow2_error *error)
{
  struct qcow2_slice slice;
  int code;

  *l1_entry = 0;
  if (index >= tables->l1_size)
    return 0;
  if (l1_is_over_header(tables))
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, 0,
                              "the L1 table is said to be at host offset 0, where the header is");
  code = qcow2_slice_pin(&tables->slices, "an L1 table", l1_entry_offset(tables, index),
                         L1_ENTRY_BYTES, &slice, error);
  if (code != 0)
    return code;
  *l1_entry = be64_get(slice.bytes);
  qcow2_slice_unpin(&tables->slices, &slice);
  return 0;
}

/* ---- L2 ----------------------------------------------------------------- */

/* True if `part`, which follows `mapping` on the disk, can be added to it. */
static bool part_continues(const struct qcow2_mapping *mapping,
                           const struct qcow2_cluster_part *part)
{
  if (part->kind != mapping->kind)
    return false;
  switch (part->kind) {
  case QCOW2_CLUSTER_UNALLOCATED:
  case QCOW2_CLUSTER_ZERO: return true;
  case QCOW2_CLUSTER_ZERO_ALLOCATED:
  case QCOW2_CLUSTER_NORMAL: return part->host_offset == mapping->host_offset + mapping->length;
  case QCOW2_CLUSTER_COMPRESSED:
  case QCOW2_CLUSTER_INVALID: return false;
  }
  return false;
}

static struct qcow2_mapping mapping_of_part(uint64_t guest_offset,
                                            const struct qcow2_cluster_part *part,
                                            uint64_t entry_offset)
{
  return (struct qcow2_mapping){ .kind = part->kind,
                                 .guest_offset = guest_offset,
                                 .length = part->length,
                                 .host_offset = part->host_offset,
                                 .host_bytes = part->host_bytes,
                                 .table_offset = entry_offset,
                                 .problem = part->problem };
}

/* Find the run that starts at `guest_offset`. [bytes, end) are L2 entries; the first of them
   describes that offset. */
static void collect_run(const struct qcow2_geometry *geometry, const uint8_t *bytes,
                        const uint8_t *end, uint64_t entry_offset, uint64_t guest_offset,
                        uint64_t length, struct qcow2_mapping *mapping)
{
  unsigned entry_bytes = geometry->l2_entry_bytes;
  uint64_t at = guest_offset;

  do {
    struct qcow2_l2_entry entry = l2_entry_load(geometry, bytes);
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

/* Map through the L2 table at `l2_offset`. If the table cannot be read, mapping->length is the
   number of bytes with this error. If the file ends before an entry, it ends before all later
   entries. */
int qcow2_mapping_find_in_l2(const struct qcow2_tables *tables, uint64_t l2_offset,
                             uint64_t guest_offset, uint64_t length, struct qcow2_mapping *mapping,
                             struct qcow2_error *error)
{
  const struct qcow2_geometry *geometry = tables->geometry;
  uint64_t entry_offset = l2_offset + (uint64_t) geometry_l2_index(geometry, guest_offset) *
                                          geometry->l2_entry_bytes;
  struct qcow2_slice slice;
  int code = qcow2_slice_pin(&tables->slices, "an L2 table", entry_offset, geometry->l2_entry_bytes,
                             &slice, error);

  if (code != 0) {
    *mapping = mapping_plain(QCOW2_CLUSTER_INVALID, guest_offset,
                             code == QCOW2_ERROR_TRUNCATED
                                 ? geometry_l2_left(geometry, guest_offset)
                                 : geometry->cluster_size -
                                       geometry_in_cluster(geometry, guest_offset));
    mapping->table_offset = entry_offset;
    return code;
  }
  collect_run(geometry, slice.bytes, slice.bytes + slice.length, entry_offset, guest_offset, length,
              mapping);
  qcow2_slice_unpin(&tables->slices, &slice);
  return 0;
}

/* The number of bytes from `guest_offset` on with the same error, if the L1 entry at `index` cannot
   be read: as in qcow2_mapping_find_in_l2(). */
static uint64_t l1_failure_length(const struct qcow2_tables *tables, uint64_t index,
                                  uint64_t guest_offset, int code)
{
  const struct qcow2_geometry *geometry = tables->geometry;
  bool is_all = code == QCOW2_ERROR_TRUNCATED || l1_is_over_header(tables);
  uint64_t further = is_all ? tables->l1_size - index - 1 : 0;
  uint64_t left = geometry_l2_left(geometry, guest_offset);

  if (further > (UINT64_MAX - left) >> (geometry->cluster_bits + geometry->l2_bits))
    return UINT64_MAX - guest_offset;
  return left + (further << (geometry->cluster_bits + geometry->l2_bits));
}

int qcow2_mapping_find(const struct qcow2_tables *tables, uint64_t guest_offset, uint64_t length,
                       struct qcow2_mapping *mapping, struct qcow2_error *error)
{
  const struct qcow2_geometry *geometry = tables->geometry;
  uint64_t l1_index = geometry_l1_index(geometry, guest_offset);
  uint64_t left = min_u64(length, geometry_l2_left(geometry, guest_offset));
  uint64_t l1_entry;
  int code = read_l1(tables, l1_index, &l1_entry, error);

  *mapping = mapping_plain(QCOW2_CLUSTER_UNALLOCATED, guest_offset, left);
  if (l1_index < tables->l1_size)
    mapping->table_offset = l1_entry_offset(tables, l1_index);
  if (code != 0) {
    mapping->kind = QCOW2_CLUSTER_INVALID;
    mapping->length = l1_failure_length(tables, l1_index, guest_offset, code);
    return code;
  }
  if (!geometry_l1_entry_is_allocated(geometry, l1_entry))
    return 0;
  mapping->problem = qcow2_l1_entry_problem(geometry, l1_entry);
  if (mapping->problem != NULL) {
    mapping->kind = QCOW2_CLUSTER_INVALID;
    return 0;
  }
  return qcow2_mapping_find_in_l2(tables, l1_entry & TABLE_OFFSET_MASK, guest_offset, left, mapping,
                                  error);
}

/* ---- Entry by entry ------------------------------------------------------- */

bool qcow2_entries_pin(const struct qcow2_tables *tables, uint64_t guest_offset,
                       struct qcow2_entries *entries)
{
  const struct qcow2_geometry *geometry = tables->geometry;
  unsigned entry_bytes = geometry->l2_entry_bytes;
  uint64_t index = geometry_l2_index(geometry, guest_offset), l1_entry, left;

  if (read_l1(tables, geometry_l1_index(geometry, guest_offset), &l1_entry, NULL) != 0 ||
      !geometry_l1_entry_is_allocated(geometry, l1_entry) ||
      qcow2_l1_entry_problem(geometry, l1_entry) != NULL ||
      qcow2_slice_pin(&tables->slices, "an L2 table",
                      (l1_entry & TABLE_OFFSET_MASK) + index * entry_bytes, entry_bytes,
                      &entries->slice, NULL) != 0)
    return false;
  left = min_u64(geometry_l2_bytes(geometry) - index * entry_bytes, entries->slice.length);
  entries->tables = tables;
  entries->guest_offset = guest_offset;
  entries->bytes = entries->slice.bytes;
  entries->end = entries->bytes + left;
  return true;
}

void qcow2_entries_unpin(const struct qcow2_entries *entries)
{
  qcow2_slice_unpin(&entries->tables->slices, &entries->slice);
}

bool qcow2_entries_decode(const struct qcow2_entries *entries, struct qcow2_cluster_part *part)
{
  const struct qcow2_geometry *geometry = entries->tables->geometry;
  struct qcow2_l2_entry entry;

  if (entries->end - entries->bytes < (ptrdiff_t) geometry->l2_entry_bytes)
    return false;
  entry = l2_entry_load(geometry, entries->bytes);
  *part = qcow2_l2_entry_decode(geometry, &entry, entries->guest_offset);
  return true;
}

void qcow2_entries_advance(struct qcow2_entries *entries, uint64_t length)
{
  const struct qcow2_geometry *geometry = entries->tables->geometry;

  entries->guest_offset += length;
  if (geometry_in_cluster(geometry, entries->guest_offset) == 0)
    entries->bytes += geometry->l2_entry_bytes;
}
