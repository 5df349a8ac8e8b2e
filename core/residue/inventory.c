/* SPDX-License-Identifier: MIT */
/* All residue of a file: where it is, and what it looks like. A map (map.h) is made for a part of
   the file at a time; then its clusters are looked at, one by one. */
#include "inventory.h"
#include "randomness.h"

#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../base/options.h"
#include "../storage/storage.h"

/* Memory: 8 MiB for the states of clusters, 8 MiB for why they are not read, 8 MiB for ranges and
   as much again while these are sorted, 8 MiB for tables. */
#define CLUSTERS_MAX (UINT64_C(32) << 20)
#define RANGES_MAX ((size_t) 1 << 19)
#define SECTOR_BYTES 512u
/* The work of looking at the state of a cluster, as in a check. */
#define CLUSTER_WORK_BYTES 8u

const char *qcow2_residue_where_name(enum qcow2_residue_where where)
{
  static const char *const names[QCOW2_RESIDUE_WHERES] = { "unreferenced", "after-last",
                                                           "under-zeros",  "subclusters",
                                                           "past-disk",    "stream-gaps",
                                                           "table-slack",  "header-slack" };

  return (unsigned) where < QCOW2_RESIDUE_WHERES ? names[where] : "unknown";
}

const char *qcow2_residue_kind_name(enum qcow2_residue_kind kind)
{
  static const char *const names[QCOW2_RESIDUE_KINDS] = { "hole",
                                                          "zero",
                                                          "data",
                                                          "l1",
                                                          "l2",
                                                          "refcount-table",
                                                          "refcount-block",
                                                          "snapshot-table",
                                                          "bitmap-directory",
                                                          "header",
                                                          "compressed" };

  return (unsigned) kind < QCOW2_RESIDUE_KINDS ? names[kind] : "unknown";
}

void qcow2_inventory_report(const struct qcow2_inventory *inventory, enum qcow2_residue_kind kind,
                            uint64_t host_offset)
{
  struct qcow2_residue_found found = { .kind = kind,
                                       .host_offset = host_offset,
                                       .table_offset = host_offset };

  if (inventory->options.report != NULL)
    inventory->options.report(inventory->options.context, &found);
}

void qcow2_inventory_read(const struct qcow2_inventory *inventory, uint64_t host_offset,
                          uint8_t *buffer, size_t length)
{
  uint64_t size = inventory->storage->size;
  size_t there = host_offset < size ? (size_t) min_u64(length, size - host_offset) : 0;

  memset(buffer + there, 0, length - there);
  if (there == 0 || qcow2_storage_read(inventory->storage, host_offset, buffer, there, NULL) == 0)
    return;
  memset(buffer, 0, there);
}

/* ---- Counting -------------------------------------------------------------------- */

/* Count residue of `length` bytes, of which `data` are in sectors that are not all zeros. */
static void count(const struct qcow2_inventory *inventory, enum qcow2_residue_where where,
                  uint64_t length, uint64_t data)
{
  inventory->result->residue_bytes += length;
  inventory->result->where_bytes[where] += length;
  inventory->result->where_data_bytes[where] += data;
}

static uint64_t count_data(const uint8_t *bytes, uint64_t length)
{
  uint64_t data = 0;

  for (uint64_t at = 0; at < length; at += SECTOR_BYTES) {
    size_t sector = (size_t) min_u64(SECTOR_BYTES, length - at);

    data += qcow2_residue_is_zero(bytes + at, sector) ? 0 : sector;
  }
  return data;
}

static enum qcow2_residue_where where_is(const struct qcow2_inventory *inventory, uint64_t cluster,
                                         enum qcow2_residue_where otherwise)
{
  switch (qcow2_residue_hidden_get(inventory->walk.hidden, cluster - inventory->window.map.first)) {
  case HIDDEN_UNDER_ZEROS: return QCOW2_RESIDUE_UNDER_ZEROS;
  case HIDDEN_SUBCLUSTERS: return QCOW2_RESIDUE_SUBCLUSTERS;
  case HIDDEN_PAST_DISK: return QCOW2_RESIDUE_PAST_DISK;
  case HIDDEN_NOT: break;
  }
  return otherwise;
}

/* ---- One cluster ------------------------------------------------------------------ */

/* Count a cluster of this kind. */
static void count_cluster(struct qcow2_inventory *inventory, uint64_t cluster,
                          enum qcow2_residue_kind kind, uint64_t length)
{
  if (kind == QCOW2_RESIDUE_L2 && inventory->table_count < inventory->table_capacity) {
    inventory->tables[inventory->table_count++] = cluster; /* counted later */
    return;
  }
  inventory->result->kind_bytes[kind] += length;
  if (kind == QCOW2_RESIDUE_DATA &&
      qcow2_randomness_is_high(inventory->bytes, (size_t) min_u64(length, RANDOMNESS_BYTES_MAX)))
    inventory->result->random_bytes += length;
  if (kind == QCOW2_RESIDUE_HEADER || kind == QCOW2_RESIDUE_REFCOUNT_BLOCK)
    qcow2_inventory_report(inventory, kind, cluster << inventory->window.map.cluster_bits);
}

/* Count the bytes that the mask says are residue, by sectors. */
static void count_sectors(const struct qcow2_inventory *inventory, enum qcow2_residue_where where,
                          uint64_t length)
{
  uint64_t *kinds = inventory->result->kind_bytes;

  for (uint64_t at = 0; at < length; at += SECTOR_BYTES) {
    uint64_t end = min_u64(at + SECTOR_BYTES, length), residue = 0, streams = 0;
    bool is_data = false, is_other = false;

    for (uint64_t i = at; i < end; i++) {
      bool is_stream = inventory->mask[i] == MASK_STREAM;

      residue += inventory->mask[i] != MASK_USED;
      streams += is_stream;
      is_data = is_data || (inventory->mask[i] != MASK_USED && inventory->bytes[i] != 0);
      is_other = is_other || (inventory->mask[i] == MASK_RESIDUE && inventory->bytes[i] != 0);
    }
    count(inventory, where, residue, is_data ? residue : 0);
    kinds[QCOW2_RESIDUE_COMPRESSED] += streams;
    kinds[is_other ? QCOW2_RESIDUE_DATA : QCOW2_RESIDUE_ZERO] += residue - streams;
  }
}

/* True if a cluster that nothing refers to has old compressed streams, which are in the mask then.
   What is stored under zeros, or after the end of a disk, is no place for streams. */
static bool has_streams(struct qcow2_inventory *inventory, uint64_t cluster,
                        enum qcow2_residue_kind kind, uint64_t length)
{
  uint64_t offset = cluster << inventory->window.map.cluster_bits;

  if (inventory->streams_end <= offset &&
      (kind != QCOW2_RESIDUE_DATA ||
       where_is(inventory, cluster, QCOW2_RESIDUE_UNREFERENCED) != QCOW2_RESIDUE_UNREFERENCED))
    return false;
  memset(inventory->mask, MASK_RESIDUE, (size_t) length);
  return qcow2_inventory_streams(inventory, offset, (size_t) length);
}

/* A cluster that nothing reads. *next_data is where the next bytes are stored, if that lies after
   it. */
static void look_at_free(struct qcow2_inventory *inventory, uint64_t cluster, uint64_t *next_data)
{
  uint32_t size = inventory->looks.geometry->cluster_size;
  uint64_t offset = cluster * size;
  uint64_t length = min_u64(size, inventory->storage->size - offset);
  enum qcow2_residue_where where = where_is(inventory, cluster,
                                            cluster > inventory->walk.last_used
                                                ? QCOW2_RESIDUE_AFTER_LAST
                                                : QCOW2_RESIDUE_UNREFERENCED);
  enum qcow2_residue_kind kind;

  if (*next_data < offset + length)
    *next_data = qcow2_storage_next_data(inventory->storage, offset);
  if (*next_data >= offset + length) {
    count(inventory, where, length, 0);
    inventory->result->kind_bytes[QCOW2_RESIDUE_HOLE] += length;
    return;
  }
  qcow2_inventory_read(inventory, offset, inventory->bytes, size);
  kind = qcow2_residue_classify(&inventory->looks, inventory->bytes);
  if (has_streams(inventory, cluster, kind, length)) {
    count_sectors(inventory, where, length);
    return;
  }
  count(inventory, where, length, count_data(inventory->bytes, length));
  count_cluster(inventory, cluster, kind, length);
}

/* What else a cluster may be of which something reads a part. */
static enum qcow2_residue_where where_is_slack(const struct qcow2_inventory *inventory,
                                               uint64_t cluster)
{
  const struct qcow2_residue_map *map = &inventory->window.map;
  uint64_t start = cluster << map->cluster_bits, end = start + (UINT64_C(1) << map->cluster_bits);

  if (cluster == 0)
    return QCOW2_RESIDUE_HEADER_SLACK;
  for (size_t i = qcow2_residue_map_find(map, start);
       i < map->range_count && map->ranges[i].offset < end; i++)
    if (map->ranges[i].kind != RANGE_PLAIN && map->ranges[i].offset + map->ranges[i].length > start)
      return QCOW2_RESIDUE_STREAM_GAPS;
  return QCOW2_RESIDUE_TABLE_SLACK;
}

enum qcow2_residue_where qcow2_inventory_where_partly(const struct qcow2_inventory *inventory,
                                                      uint64_t cluster)
{
  return where_is(inventory, cluster, where_is_slack(inventory, cluster));
}

/* A cluster that is in use in part. */
static void look_at_partly(struct qcow2_inventory *inventory, uint64_t cluster)
{
  uint32_t size = inventory->looks.geometry->cluster_size;
  uint64_t offset = cluster * size;
  size_t length = (size_t) min_u64(size, inventory->storage->size - offset);
  enum qcow2_residue_where where = qcow2_inventory_where_partly(inventory, cluster);

  memset(inventory->mask, MASK_RESIDUE, size);
  if (qcow2_residue_window_clear(&inventory->window, offset, inventory->mask, length) != 0) {
    inventory->result->has_unreadable = 1;
    inventory->result->is_complete = 0;
    return;
  }
  qcow2_inventory_read(inventory, offset, inventory->bytes, size);
  if (where == QCOW2_RESIDUE_STREAM_GAPS)
    qcow2_inventory_streams(inventory, offset, length);
  count_sectors(inventory, where, length);
}

/* ---- All clusters ------------------------------------------------------------------- */

static void look_at_part(struct qcow2_inventory *inventory)
{
  const struct qcow2_residue_map *map = &inventory->window.map;
  uint64_t next_data = 0;

  inventory->table_count = 0;
  for (uint64_t cluster = map->first; cluster < map->end; cluster++)
    switch (qcow2_residue_map_state(map, cluster)) {
    case RESIDUE_FREE: look_at_free(inventory, cluster, &next_data); break;
    case RESIDUE_PARTLY: look_at_partly(inventory, cluster); break;
    case RESIDUE_USED:
    case RESIDUE_WALKED: break;
    }
  qcow2_inventory_tables(inventory);
}

/* Make the map for the next part. False: a bound is reached, or, with *code, there is an error. */
static bool next_part(struct qcow2_inventory *inventory, uint64_t first, int *code,
                      struct qcow2_error *error)
{
  struct qcow2_residue_map *map = &inventory->window.map;
  struct qcow2_error failure;
  uint64_t cost;

  memset(inventory->walk.hidden, 0, (size_t) (map->state_capacity / 4 + 1));
  *code = qcow2_residue_window_move(&inventory->window, first, &inventory->walk, &failure);
  if (*code == QCOW2_ERROR_UNSUPPORTED)
    *code = 0;
  else if (*code != 0 && error != NULL)
    *error = failure;
  cost = (map->end - first) * CLUSTER_WORK_BYTES;
  if (map->end == first || inventory->walk.work < cost)
    return false;
  inventory->walk.work -= cost;
  return true;
}

static int look_at_all(struct qcow2_inventory *inventory, struct qcow2_error *error)
{
  const struct qcow2_residue_map *map = &inventory->window.map;
  struct qcow2_residue_result *result = inventory->result;
  uint64_t clusters = qcow2_residue_window_file_clusters(&inventory->window);
  int code = 0;

  for (uint64_t first = 0; code == 0 && first < clusters; first = map->end) {
    if (!next_part(inventory, first, &code, error)) {
      result->is_complete = 0;
      break;
    }
    code = qcow2_inventory_search(inventory, error);
    if (code == 0 && !inventory->snapshots_only)
      look_at_part(inventory);
    result->checked_to = min_u64(map->end << map->cluster_bits, result->file_bytes);
  }
  return code;
}

/* ---- Making -------------------------------------------------------------------------- */

static void inventory_free(struct qcow2_inventory *inventory)
{
  qcow2_residue_window_free(&inventory->window);
  free(inventory->walk.hidden);
  free(inventory->looks.scratch);
  free(inventory->bytes);
  free(inventory->mask);
  free(inventory->tables);
  free(inventory->seen);
  free(inventory->buffer.bytes);
  free(inventory->places);
}

static int inventory_make(struct qcow2_inventory *inventory, struct qcow2_error *error)
{
  const struct qcow2_layer *layer = inventory->image->chain.layers[0];
  size_t size = layer->geometry.cluster_size;
  int code = qcow2_residue_window_make(&inventory->window, inventory->image, CLUSTERS_MAX,
                                       RANGES_MAX, error);

  if (code != 0)
    return code;
  inventory->storage = &layer->file.storage;
  inventory->walk.work = inventory->options.work_bytes == 0 ? RESIDUE_WORK_BYTES
                                                            : inventory->options.work_bytes;
  inventory->walk.hidden = malloc((size_t) (inventory->window.map.state_capacity / 4 + 1));
  inventory->looks =
      (struct qcow2_residue_looks){ .geometry = &layer->geometry,
                                    .refcount_order = layer->metadata.header.refcount_order,
                                    .file_size = inventory->storage->size,
                                    .scratch = malloc(size) };
  inventory->bytes = malloc(size);
  inventory->mask = malloc(size);
  inventory->table_capacity = (size_t) min_u64(inventory->window.map.state_capacity + 1,
                                               INVENTORY_TABLES_MAX);
  inventory->tables = malloc(inventory->table_capacity * sizeof(inventory->tables[0]));
  inventory->seen = calloc(2 * INVENTORY_ENTRIES_MAX, sizeof(inventory->seen[0]));
  inventory->buffer.bytes = malloc(INVENTORY_BUFFER_BYTES);
  inventory->places = malloc(INVENTORY_PLACES_MAX * sizeof(inventory->places[0]));
  if (inventory->walk.hidden == NULL || inventory->looks.scratch == NULL ||
      inventory->bytes == NULL || inventory->mask == NULL || inventory->tables == NULL ||
      inventory->seen == NULL || inventory->buffer.bytes == NULL || inventory->places == NULL)
    return qcow2_error_set_nomem(error);
  return 0;
}

static int look(const struct qcow2_image *image, const struct qcow2_residue_options *given,
                bool snapshots_only, struct qcow2_residue_result *result, struct qcow2_error *error)
{
  struct qcow2_inventory inventory = { .image = image,
                                       .result = result,
                                       .snapshots_only = snapshots_only };
  uint64_t failures = qcow2_storage_failures();
  int code = qcow2_options_take(given, &inventory.options, sizeof(inventory.options), error);

  memset(result, 0, sizeof(*result));
  if (code != 0)
    return code;
  result->is_complete = 1;
  result->file_bytes = image->chain.layers[0]->file.storage.size;
  code = inventory_make(&inventory, error);
  if (code == 0)
    code = look_at_all(&inventory, error);
  if (inventory.walk.has_gaps || qcow2_storage_failures() != failures) {
    result->has_unreadable = 1;
    result->is_complete = 0;
  }
  inventory_free(&inventory);
  return code;
}

int qcow2_image_residue(const struct qcow2_image *image, const struct qcow2_residue_options *given,
                        struct qcow2_residue_result *result, struct qcow2_error *error)
{
  return look(image, given, false, result, error);
}

int qcow2_inventory_snapshots(const struct qcow2_image *image,
                              const struct qcow2_residue_options *options,
                              struct qcow2_residue_result *result, struct qcow2_error *error)
{
  return look(image, options, true, result, error);
}
