/* SPDX-License-Identifier: MIT */
/* The entries of old snapshot tables and bitmap directories. */
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../format/bitmap.h"
#include "../format/snapshot.h"
#include "inventory.h"

/* More than the longest entry, whose ID and name have 65,535 bytes each. */
#define BUFFER_BYTES ((size_t) 256 << 10)
#define ENTRY_BYTES_MAX ((size_t) 132 << 10)

/* A table that is read entry by entry. */
struct table {
  struct qcow2_inventory *inventory;
  enum qcow2_residue_kind kind;
  uint64_t start;       /* of the table */
  uint64_t offset, end; /* of the buffer, and of the clusters in a row that nothing refers to */
  uint8_t *buffer;
  size_t length, at; /* bytes in the buffer, and the entry's place */
};

/* ---- Which were there before --------------------------------------------------------- */

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t length)
{
  const uint8_t *at = bytes;

  for (size_t i = 0; i < length; i++)
    hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
  return hash;
}

static uint64_t hash_entry(uint64_t host_offset, uint64_t date, const char *id, size_t id_length,
                           const char *name, size_t name_length)
{
  uint64_t hash = UINT64_C(0xcbf29ce484222325);

  hash = hash_bytes(hash, &host_offset, sizeof(host_offset));
  hash = hash_bytes(hash, &date, sizeof(date));
  hash = hash_bytes(hash, &id_length, sizeof(id_length));
  hash = hash_bytes(hash, id, id_length);
  hash = hash_bytes(hash, name, name_length);
  return hash == 0 ? 1 : hash;
}

static uint64_t hash_snapshot(const struct qcow2_snapshot *snapshot)
{
  return hash_entry(snapshot->l1_offset,
                    (uint64_t) snapshot->date_seconds << 32 | snapshot->date_nanoseconds,
                    snapshot->id, snapshot->id_length, snapshot->name, snapshot->name_length);
}

static uint64_t hash_bitmap(const struct qcow2_bitmap *bitmap)
{
  return hash_entry(bitmap->table_offset, UINT64_MAX, "", 0, bitmap->name, bitmap->name_length);
}

/* True if the entry is new, and not one of too many. */
static bool is_new(struct qcow2_inventory *inventory, uint64_t hash)
{
  size_t slots = 2 * INVENTORY_ENTRIES_MAX, slot = (size_t) (hash % slots);

  while (inventory->seen[slot] != 0 && inventory->seen[slot] != hash)
    slot = (slot + 1) % slots;
  if (inventory->seen[slot] == hash)
    return false;
  if (inventory->seen_count == INVENTORY_ENTRIES_MAX) {
    inventory->result->is_complete = 0;
    return false;
  }
  inventory->seen[slot] = hash;
  inventory->seen_count++;
  return true;
}

/* Entries that the image still has count as seen. */
static void see_live(struct qcow2_inventory *inventory)
{
  const struct qcow2_image *image = inventory->image;

  for (size_t i = 0; i < image->snapshots.count && i < INVENTORY_ENTRIES_MAX / 2; i++)
    is_new(inventory, hash_snapshot(&image->snapshots.entries[i]));
  for (size_t i = 0; i < image->bitmaps.count && i < INVENTORY_ENTRIES_MAX / 2; i++)
    is_new(inventory, hash_bitmap(&image->bitmaps.entries[i]));
}

/* ---- Snapshots ------------------------------------------------------------------------- */

static enum qcow2_residue_l1 look_at_l1(const struct qcow2_inventory *inventory,
                                        const struct qcow2_snapshot *snapshot)
{
  const struct qcow2_residue_map *map = &inventory->window.map;
  uint64_t words = inventory->looks.geometry->cluster_size / 8;
  uint64_t bytes = (uint64_t) snapshot->l1_size * L1_ENTRY_BYTES;
  uint64_t last = (snapshot->l1_offset + bytes - 1) >> map->cluster_bits;

  for (uint64_t cluster = snapshot->l1_offset >> map->cluster_bits; cluster <= last; cluster++)
    if (!qcow2_residue_window_has(&inventory->window, cluster))
      return QCOW2_RESIDUE_L1_UNKNOWN;
    else if (qcow2_residue_map_state(map, cluster) != RESIDUE_FREE)
      return QCOW2_RESIDUE_L1_REUSED;
  words = min_u64(words, snapshot->l1_size);
  qcow2_inventory_read(inventory, snapshot->l1_offset, inventory->mask, (size_t) words * 8);
  return qcow2_residue_is_table(&inventory->looks, inventory->mask, (size_t) words)
             ? QCOW2_RESIDUE_L1_THERE
             : QCOW2_RESIDUE_L1_GONE;
}

static int report_snapshot(struct table *table, const uint8_t *bytes, uint64_t host_offset,
                           struct qcow2_error *error)
{
  struct qcow2_inventory *inventory = table->inventory;
  struct qcow2_snapshot_lengths lengths;
  struct qcow2_snapshot snapshot;
  struct qcow2_residue_found found = { .kind = table->kind,
                                       .host_offset = host_offset,
                                       .table_offset = table->start };
  int code = qcow2_snapshot_measure(bytes, host_offset, &lengths, error);

  if (code == 0)
    code = qcow2_snapshot_decode(bytes, bytes + SNAPSHOT_FIXED_BYTES, &lengths,
                                 inventory->image->chain.layers[0]->size, &snapshot, error);
  if (code != 0)
    return code;
  found.snapshot = &snapshot;
  if (is_new(inventory, hash_snapshot(&snapshot)) && inventory->options.report != NULL) {
    found.l1 = look_at_l1(inventory, &snapshot);
    inventory->options.report(inventory->options.context, &found);
  }
  qcow2_snapshot_free(&snapshot);
  return 0;
}

/* ---- Bitmaps ----------------------------------------------------------------------------- */

static int report_bitmap(struct table *table, const uint8_t *bytes, size_t length,
                         uint64_t host_offset, struct qcow2_error *error)
{
  struct qcow2_inventory *inventory = table->inventory;
  struct qcow2_residue_found found = { .kind = table->kind,
                                       .host_offset = host_offset,
                                       .table_offset = table->start };
  struct qcow2_bitmap bitmap;
  uint64_t used;
  int code = qcow2_bitmap_decode(bytes, length, host_offset,
                                 inventory->looks.geometry->cluster_size, &bitmap, &used, error);

  if (code != 0)
    return code;
  found.bitmap = &bitmap;
  if (is_new(inventory, hash_bitmap(&bitmap)) && inventory->options.report != NULL)
    inventory->options.report(inventory->options.context, &found);
  qcow2_bitmap_free(&bitmap);
  return 0;
}

/* ---- Tables ------------------------------------------------------------------------------- */

/* Let the buffer hold the entry's bytes, as far as the table can go on. */
static void fill(struct table *table)
{
  if (table->length - table->at >= ENTRY_BYTES_MAX || table->offset + table->length == table->end)
    return;
  table->offset += table->at;
  table->at = 0;
  table->length = (size_t) min_u64(BUFFER_BYTES, table->end - table->offset);
  qcow2_inventory_read(table->inventory, table->offset, table->buffer, table->length);
}

static int report_entries(struct table *table, struct qcow2_error *error)
{
  const struct qcow2_residue_looks *looks = &table->inventory->looks;
  int code = 0;

  while (code == 0) {
    const uint8_t *bytes;
    size_t length, left;

    fill(table);
    bytes = table->buffer + table->at;
    left = table->length - table->at;
    length = table->kind == QCOW2_RESIDUE_SNAPSHOT_TABLE
                 ? qcow2_residue_snapshot_entry(looks, bytes, left)
                 : qcow2_residue_bitmap_entry(looks, bytes, left);
    if (length == 0)
      return 0;
    code = table->kind == QCOW2_RESIDUE_SNAPSHOT_TABLE
               ? report_snapshot(table, bytes, table->offset + table->at, error)
               : report_bitmap(table, bytes, length, table->offset + table->at, error);
    table->at += length;
  }
  return code == QCOW2_ERROR_CORRUPT ? 0 : code;
}

/* The end of the clusters in a row, from this one on, that nothing refers to. */
static uint64_t free_end(const struct qcow2_inventory *inventory, uint64_t cluster)
{
  const struct qcow2_residue_map *map = &inventory->window.map;
  uint64_t end = min_u64(map->end, cluster + (SNAPSHOT_TABLE_BYTES_MAX >> map->cluster_bits) + 1);

  while (cluster < end && qcow2_residue_map_state(map, cluster) == RESIDUE_FREE)
    cluster++;
  return min_u64(cluster << map->cluster_bits, inventory->storage->size);
}

int qcow2_inventory_entries(struct qcow2_inventory *inventory, enum qcow2_residue_kind kind,
                            uint64_t cluster, struct qcow2_error *error)
{
  struct table table = { .inventory = inventory,
                         .kind = kind,
                         .start = cluster << inventory->window.map.cluster_bits,
                         .offset = cluster << inventory->window.map.cluster_bits,
                         .end = free_end(inventory, cluster),
                         .buffer = malloc(BUFFER_BYTES) };
  int code;

  if (table.buffer == NULL)
    return qcow2_error_set_nomem(error);
  if (inventory->seen_count == 0)
    see_live(inventory);
  code = report_entries(&table, error);
  free(table.buffer);
  return code;
}
