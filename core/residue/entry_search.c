/* SPDX-License-Identifier: MIT */
/*
 * Where old entries are looked for. Nothing pads a table: what was in its clusters before goes on
 * after its end. So entries are not only at the start of a cluster, but also after the end of
 * another table, be it in use or old, and then the first of them may be cut: those after it begin
 * at any multiple of 8 bytes.
 *
 * Tables that begin a cluster are read first, in one pass: they have the entries before an entry,
 * which are older. The other places are only noted.
 */
#include <string.h>

#include "../base/checked.h"
#include "../format/bitmap.h"
#include "../format/snapshot.h"
#include "../storage/storage.h"
#include "inventory.h"

#define ENTRY_ALIGNMENT 8u
/* How much of a cluster is searched that no old entry leads to. Entries further on are found after
   the end of others. */
#define SEARCHED_BYTES 4096u
#define SECTOR_BYTES 512u

static uint64_t cluster_size(const struct qcow2_inventory *inventory)
{
  return inventory->looks.geometry->cluster_size;
}

static uint64_t round_up(uint64_t offset, uint64_t to)
{
  return divide_up(offset, to) * to;
}

/* False if no entry begins with these bytes. */
static bool may_begin(const struct qcow2_inventory *inventory, const uint8_t *bytes, size_t length)
{
  const struct qcow2_residue_looks *looks = &inventory->looks;

  return (length >= SNAPSHOT_FIXED_BYTES && qcow2_residue_may_be_snapshot(looks, bytes)) ||
         (!inventory->snapshots_only && length >= BITMAP_FIXED_BYTES &&
          qcow2_residue_may_be_bitmap(looks, bytes));
}

/* ---- Clusters that nothing refers to ------------------------------------------------- */

static void note(struct qcow2_inventory *inventory, uint64_t host_offset)
{
  if (inventory->place_count < INVENTORY_PLACES_MAX)
    inventory->places[inventory->place_count++] = host_offset;
  else
    inventory->result->is_complete = 0;
}

/* The first place in [offset, end) where an entry may begin, or `end`. */
static uint64_t first_place(const struct qcow2_inventory *inventory, uint64_t offset, uint64_t end)
{
  uint8_t bytes[SEARCHED_BYTES + SNAPSHOT_FIXED_BYTES];
  uint64_t readable = qcow2_residue_map_free_end(&inventory->window.map, offset,
                                                 end + SNAPSHOT_FIXED_BYTES);
  size_t length = (size_t) (min_u64(readable, inventory->storage->size) - offset);

  qcow2_inventory_read(inventory, offset, bytes, length);
  for (size_t at = 0; offset + at < end && at < length; at += ENTRY_ALIGNMENT)
    if (may_begin(inventory, bytes + at, length - at))
      return offset + at;
  return end;
}

/* Report the entries of the old table that a cluster begins, and note where more may be. */
static int look_at_free(struct qcow2_inventory *inventory, uint64_t cluster,
                        struct qcow2_error *error)
{
  uint64_t start = cluster * cluster_size(inventory);
  uint64_t end = start + min_u64(cluster_size(inventory), SEARCHED_BYTES);
  uint64_t from = inventory->entries_end > start ? inventory->entries_end : start, place;
  int code;

  if (from >= min_u64(end, inventory->storage->size))
    return 0;
  place = first_place(inventory, from, end);
  if (place > start) {
    if (place < end)
      note(inventory, place);
    return 0;
  }
  code = qcow2_inventory_entries(inventory, start, &inventory->entries_end, error);
  note(inventory,
       inventory->entries_end > start ? inventory->entries_end : start + ENTRY_ALIGNMENT);
  return code;
}

/* ---- Everywhere else ------------------------------------------------------------------- */

/* How far to search after a place: to the end of its cluster, and not less than one piece. */
static uint64_t limit_after(const struct qcow2_inventory *inventory, uint64_t host_offset)
{
  uint64_t end = round_up(host_offset, cluster_size(inventory));

  return end > host_offset + SEARCHED_BYTES ? end : host_offset + SEARCHED_BYTES;
}

/* The next byte that is stored, unless that is the one at the offset. */
static uint64_t skip_hole(const struct qcow2_inventory *inventory, uint64_t host_offset)
{
  uint64_t next = qcow2_storage_next_data(inventory->storage, host_offset);

  return next > host_offset ? next / ENTRY_ALIGNMENT * ENTRY_ALIGNMENT : host_offset;
}

/* Report the entries that begin in [at, limit), and those after them, up to the next byte that is
   in use. */
static int search(struct qcow2_inventory *inventory, uint64_t at, uint64_t limit,
                  struct qcow2_error *error)
{
  int code = 0;

  at = round_up(at, ENTRY_ALIGNMENT);
  while (code == 0 && at < limit) {
    uint64_t end = at % SEARCHED_BYTES == 0 ? skip_hole(inventory, at) : at;
    const uint8_t *bytes;
    size_t length;

    if (end == at) {
      bytes = qcow2_inventory_peek(inventory, at, SNAPSHOT_FIXED_BYTES, &length);
      if (length < BITMAP_FIXED_BYTES)
        break;
      if (may_begin(inventory, bytes, length))
        code = qcow2_inventory_entries(inventory, at, &end, error);
      if (end != at && limit_after(inventory, end) > limit)
        limit = limit_after(inventory, end);
    }
    at = end == at ? at + ENTRY_ALIGNMENT : end;
  }
  inventory->searched_to = at;
  return code;
}

/* Where that ends which the range refers to. Finding out where a stream ends takes decoding it:
   this is only done if there may be an entry in its last sector, and no other range begins there.
 */
static uint64_t range_end(struct qcow2_inventory *inventory, size_t index)
{
  const struct qcow2_residue_map *map = &inventory->window.map;
  const struct qcow2_residue_range *range = &map->ranges[index];
  uint64_t end = range->offset + range->length;
  uint64_t from = range->length > SECTOR_BYTES ? end - SECTOR_BYTES : range->offset;
  uint8_t bytes[SECTOR_BYTES + SNAPSHOT_FIXED_BYTES];
  size_t length;

  from = round_up(from, ENTRY_ALIGNMENT);
  if (range->kind != RANGE_STREAM || from >= end ||
      (index + 1 < map->range_count && map->ranges[index + 1].offset <= end))
    return end;
  length = (size_t) (end - from);
  qcow2_inventory_read(inventory, from, bytes, length + SNAPSHOT_FIXED_BYTES);
  for (size_t at = 0; at < length; at += ENTRY_ALIGNMENT)
    if (may_begin(inventory, bytes + at, SNAPSHOT_FIXED_BYTES)) {
      qcow2_residue_window_clear(&inventory->window, from, bytes, 1);
      break;
    }
  return range->offset + range->length;
}

/* A cluster that is in use in part: all of it, if a table ends there. */
static int look_at_partly(struct qcow2_inventory *inventory, uint64_t cluster,
                          struct qcow2_error *error)
{
  const struct qcow2_residue_map *map = &inventory->window.map;
  enum qcow2_residue_where where = qcow2_inventory_where_partly(inventory, cluster);
  bool is_table = where == QCOW2_RESIDUE_TABLE_SLACK || where == QCOW2_RESIDUE_HEADER_SLACK;
  uint64_t start = cluster * cluster_size(inventory), used_end = start;
  uint64_t end = start + (is_table ? cluster_size(inventory)
                                   : min_u64(cluster_size(inventory), SEARCHED_BYTES));
  int code = 0;

  for (size_t i = qcow2_residue_map_find(map, start);
       code == 0 && i < map->range_count && map->ranges[i].offset < end; i++) {
    if (map->ranges[i].offset > used_end)
      code = search(inventory, used_end, map->ranges[i].offset, error);
    if (map->ranges[i].offset + map->ranges[i].length > used_end) {
      uint64_t exact = range_end(inventory, i);

      used_end = exact > used_end ? exact : used_end;
    }
  }
  if (code == 0 && used_end < end)
    code = search(inventory, used_end, is_table ? limit_after(inventory, used_end) : end, error);
  return code;
}

/* ---- All of it ------------------------------------------------------------------------- */

/* Note where that begins which nothing refers to at the end of this part of the file, as far as an
   entry that goes on in the next part can begin there. */
static void note_free_end(struct qcow2_inventory *inventory)
{
  const struct qcow2_residue_map *map = &inventory->window.map;
  uint64_t cluster = map->end, most = INVENTORY_BUFFER_BYTES >> map->cluster_bits;

  while (cluster > map->first && map->end - cluster <= most &&
         qcow2_residue_map_state(map, cluster - 1) == RESIDUE_FREE)
    cluster--;
  inventory->free_from = cluster << map->cluster_bits;
}

/* At the places that were noted, and at the end of the part before this one. */
static int look_at_places(struct qcow2_inventory *inventory, struct qcow2_error *error)
{
  uint64_t start = inventory->window.map.first * cluster_size(inventory);
  int code = search(inventory, inventory->free_from, start, error);

  for (size_t i = 0; code == 0 && i < inventory->place_count; i++) {
    uint64_t place = inventory->places[i], limit = limit_after(inventory, place);

    if (limit > inventory->searched_to)
      code = search(inventory, place > inventory->searched_to ? place : inventory->searched_to,
                    limit, error);
  }
  return code;
}

int qcow2_inventory_search(struct qcow2_inventory *inventory, struct qcow2_error *error)
{
  const struct qcow2_residue_map *map = &inventory->window.map;
  uint64_t next_data = 0;
  int code = 0;

  inventory->place_count = 0;
  inventory->buffer.length = 0;
  inventory->buffer.is_last = false;
  for (uint64_t cluster = map->first; code == 0 && cluster < map->end; cluster++) {
    uint64_t offset = cluster * cluster_size(inventory), end = offset + cluster_size(inventory);

    if (qcow2_residue_map_state(map, cluster) != RESIDUE_FREE)
      continue;
    if (next_data < end)
      next_data = qcow2_storage_next_data(inventory->storage, offset);
    if (next_data < end)
      code = look_at_free(inventory, cluster, error);
  }
  if (code == 0)
    code = look_at_places(inventory, error);
  for (uint64_t cluster = map->first; code == 0 && cluster < map->end; cluster++)
    if (qcow2_residue_map_state(map, cluster) == RESIDUE_PARTLY)
      code = look_at_partly(inventory, cluster, error);
  note_free_end(inventory);
  return code;
}
