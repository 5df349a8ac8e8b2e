/* SPDX-License-Identifier: MIT */
/* The entries of old snapshot tables and bitmap directories. */
#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../format/bitmap.h"
#include "../format/snapshot.h"
#include "inventory.h"

/* How much is read at once, unless an entry is longer. */
#define READ_BYTES ((size_t) 16 << 10)
/* The work of looking at one more entry that was seen, as in a check. */
#define SEEN_WORK_BYTES 8u

/* Entries one after another. */
struct table {
  struct qcow2_inventory *inventory;
  enum qcow2_residue_kind kind;
  uint64_t start, at; /* of the first entry, and of the next one */
  uint64_t date;      /* of the last entry */
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

/* True if the entry is new, and not one of too many. Hashes that were made to collide cost work. */
static bool is_new(struct qcow2_inventory *inventory, uint64_t hash)
{
  size_t slots = 2 * INVENTORY_ENTRIES_MAX, slot = (size_t) (hash % slots);

  for (; inventory->seen[slot] != 0 && inventory->seen[slot] != hash; slot = (slot + 1) % slots) {
    if (inventory->walk.work < SEEN_WORK_BYTES) {
      inventory->result->is_complete = 0;
      return false;
    }
    inventory->walk.work -= SEEN_WORK_BYTES;
  }
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
  uint64_t first = snapshot->l1_offset >> map->cluster_bits;
  uint64_t last = (snapshot->l1_offset + bytes - 1) >> map->cluster_bits;

  if (!qcow2_residue_map_is_free(map, first, last + 1))
    return QCOW2_RESIDUE_L1_REUSED;
  if (first < map->first || last >= map->end)
    return QCOW2_RESIDUE_L1_UNKNOWN;
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

/* ---- Reading ------------------------------------------------------------------------------ */

/* The first byte of [offset, end) that is in use, or `end`. */
static uint64_t free_end(const struct qcow2_inventory *inventory, uint64_t offset, uint64_t end)
{
  const struct qcow2_residue_map *map = &inventory->window.map;
  uint64_t start = map->first << map->cluster_bits;

  if (offset >= inventory->free_from && offset < start)
    offset = min_u64(start, end);
  return qcow2_residue_map_free_end(map, offset, end);
}

const uint8_t *qcow2_inventory_peek(struct qcow2_inventory *inventory, uint64_t host_offset,
                                    size_t wanted, size_t *length)
{
  struct qcow2_entry_buffer *buffer = &inventory->buffer;
  size_t skip = (size_t) (host_offset - buffer->offset);

  if (host_offset < buffer->offset || skip > buffer->length ||
      (wanted > buffer->length - skip && !buffer->is_last)) {
    uint64_t most = wanted > READ_BYTES ? wanted : READ_BYTES;
    uint64_t end = min_u64(host_offset + most, inventory->storage->size);

    end = host_offset < end ? free_end(inventory, host_offset, end) : host_offset;
    buffer->offset = host_offset;
    buffer->length = (size_t) (end - host_offset);
    buffer->is_last = buffer->length < most;
    qcow2_inventory_read(inventory, host_offset, buffer->bytes, buffer->length);
    skip = 0;
  }
  *length = buffer->length - skip;
  return buffer->bytes + skip;
}

/* ---- Tables ------------------------------------------------------------------------------- */

/* The snapshot's entry at table->at, or 0. *bytes are those of the entry. */
static size_t snapshot_entry(struct table *table, const uint8_t **bytes)
{
  const struct qcow2_residue_looks *looks = &table->inventory->looks;
  struct qcow2_snapshot_lengths lengths;
  size_t left;

  *bytes = qcow2_inventory_peek(table->inventory, table->at, SNAPSHOT_FIXED_BYTES, &left);
  if (left < SNAPSHOT_FIXED_BYTES || !qcow2_residue_may_be_snapshot(looks, *bytes) ||
      qcow2_snapshot_measure(*bytes, table->at, &lengths, NULL) != 0)
    return 0;
  *bytes = qcow2_inventory_peek(table->inventory, table->at,
                                SNAPSHOT_FIXED_BYTES + (size_t) lengths.extra + lengths.id +
                                    lengths.name + 7,
                                &left);
  return qcow2_residue_snapshot_entry(looks, *bytes, left);
}

static size_t bitmap_entry(struct table *table, const uint8_t **bytes)
{
  const struct qcow2_residue_looks *looks = &table->inventory->looks;
  size_t left;

  *bytes = qcow2_inventory_peek(table->inventory, table->at, BITMAP_FIXED_BYTES, &left);
  if (left < BITMAP_FIXED_BYTES || !qcow2_residue_may_be_bitmap(looks, *bytes))
    return 0;
  *bytes = qcow2_inventory_peek(table->inventory, table->at,
                                BITMAP_FIXED_BYTES + (size_t) be16_get(*bytes + 18) + 7, &left);
  return qcow2_residue_bitmap_entry(looks, *bytes, left);
}

/* Report the entry at table->at, whose length is *length then. 0: there is none, or one of another
   table: a snapshot's entry that is earlier than that before it. */
static int report_next(struct table *table, size_t *length, struct qcow2_error *error)
{
  const uint8_t *bytes;
  uint64_t date;

  if (table->kind == QCOW2_RESIDUE_BITMAP_DIRECTORY) {
    *length = bitmap_entry(table, &bytes);
    return *length == 0 ? 0 : report_bitmap(table, bytes, *length, table->at, error);
  }
  *length = snapshot_entry(table, &bytes);
  date = *length == 0 ? 0 : be64_get(bytes + 16); /* seconds, nanoseconds */
  if (date < table->date)
    *length = 0;
  table->date = date;
  return *length == 0 ? 0 : report_snapshot(table, bytes, table->at, error);
}

static int report_table(struct table *table, struct qcow2_error *error)
{
  int code = 0;

  for (size_t length = 1; code == 0 && length > 0;) {
    code = report_next(table, &length, error);
    table->at += code == 0 ? length : 0;
  }
  return code == QCOW2_ERROR_CORRUPT ? 0 : code;
}

int qcow2_inventory_entries(struct qcow2_inventory *inventory, uint64_t host_offset, uint64_t *end,
                            struct qcow2_error *error)
{
  struct table table = { .inventory = inventory,
                         .kind = QCOW2_RESIDUE_SNAPSHOT_TABLE,
                         .start = host_offset,
                         .at = host_offset };
  int code;

  if (inventory->seen_count == 0)
    see_live(inventory);
  code = report_table(&table, error);
  if (code == 0 && table.at == host_offset && !inventory->snapshots_only) {
    table.kind = QCOW2_RESIDUE_BITMAP_DIRECTORY;
    code = report_table(&table, error);
  }
  *end = (table.at + 7) & ~UINT64_C(7);
  return code;
}
