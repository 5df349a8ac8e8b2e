/* SPDX-License-Identifier: MIT */
/*
 * Walks over the tables that the image still has, to find out what of the old tables these share,
 * and what they have reused. The first walk is for the old L2 tables themselves. The second is for
 * what their entries name; it does not look into tables that turned out to be lost.
 *
 * Each walk is made for a part of the file at a time, as far as a map (map.h) reaches.
 */
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../check/checker.h"
#include "../storage/storage.h"
#include "labels.h"

/* The map's memory: 8 MiB for the states of clusters, 8 MiB for ranges and as much again while
   these are sorted; and 8 MiB for claims. */
#define CLUSTERS_MAX (UINT64_C(32) << 20)
#define RANGES_MAX ((size_t) 1 << 19)
/* Where an old stream and what was written since are in the same sector, both are decoded to find
   out if they overlap. This much is decoded; more such streams count as reused. */
#define DECODED_BYTES_MAX (UINT64_C(4) << 30)
#define CLAIMS_PER_BYTE 4u

/* What the old tables name a cluster as. */
enum claim {
  CLAIM_NONE,
  CLAIM_ONCE,
  CLAIM_STREAMS,
  CLAIM_CONFLICT /* twice, or as two things */
};

/* Which L2 tables of the image were looked at for an old table: the last, for an older snapshot, a
   newer one, and the active disk. Most that follow each other share it. */
struct looked {
  uint64_t at[3];
};

struct label_walk {
  struct qcow2_labels *labels;
  bool is_for_entries; /* the second walk */
  struct qcow2_residue_window window;
  struct qcow2_residue_walk walk;
  uint8_t *claims;                 /* two bits for each cluster of the map */
  struct looked *looked;           /* for each table */
  struct qcow2_old_table *current; /* the old table with which a live one is compared; NULL: none */
  uint8_t *old;                    /* the bytes of an old table, */
  const struct qcow2_old_table *old_is; /* this one; NULL: none */
  uint8_t *mask;                        /* two clusters */
  uint64_t decoded_left;
};

/* ---- Old tables ---------------------------------------------------------------- */

/* Take work for reading or looking at so many bytes. False: the bound is reached. */
static bool pay(struct label_walk *walk, uint64_t bytes)
{
  walk->walk.is_bounded = walk->walk.is_bounded || walk->walk.work < bytes;
  if (!walk->walk.is_bounded)
    walk->walk.work -= bytes;
  return !walk->walk.is_bounded;
}

/* Get the bytes of an old table as far as they can be read, since its entries are read one by one
   later. */
static const uint8_t *load(struct label_walk *walk, const struct qcow2_old_table *table)
{
  const struct qcow2_layer *layer = walk->labels->layer;
  size_t size = layer->geometry.cluster_size;

  if (walk->old_is != table) {
    walk->old_is = table;
    if (pay(walk, size + CHECK_ENTRY_BYTES))
      qcow2_storage_read_what_is_there(&layer->file.storage, table->l2_offset, walk->old, size);
    else
      memset(walk->old, 0, size);
  }
  return walk->old;
}

static struct qcow2_l2_entry entry_of(struct label_walk *walk, const struct qcow2_old_table *table,
                                      uint32_t index)
{
  const struct qcow2_geometry *geometry = &walk->labels->layer->geometry;

  return l2_entry_load(geometry, load(walk, table) + (size_t) index * geometry->l2_entry_bytes);
}

/* ---- What the image shares with them ---------------------------------------------- */

static uint8_t sharer(const struct label_walk *walk, size_t snapshot_index)
{
  if (snapshot_index == QCOW2_ACTIVE)
    return MARK_ACTIVE;
  return snapshot_index < walk->labels->state.older_count ? MARK_OLDER : MARK_NEWER;
}

static struct qcow2_old_table *table_at(const struct label_walk *walk, uint64_t guest_offset)
{
  const struct qcow2_geometry *geometry = &walk->labels->layer->geometry;

  return qcow2_labels_table(walk->labels, geometry_l1_index(geometry, guest_offset));
}

static bool is_own_l1_entry(void *context, const struct qcow2_checked_l1_entry *checked)
{
  struct label_walk *walk = context;
  struct qcow2_old_table *table = table_at(walk, checked->guest_offset);

  if (table == NULL || table->l2_offset != (checked->entry & TABLE_OFFSET_MASK))
    return false;
  if (walk->is_for_entries)
    return !label_is_of_lost_table(table->label);
  table->sharing |= sharer(walk, checked->disk->snapshot_index);
  return true;
}

/* An L2 table that is compared with an old one is looked at for each sort of sharer, others once.
 */
static bool wants_l2(void *context, const struct qcow2_checked_l1_entry *checked)
{
  struct label_walk *walk = context;
  uint64_t l2_offset = checked->entry & TABLE_OFFSET_MASK;
  uint64_t cluster = l2_offset >> walk->window.map.cluster_bits;
  struct qcow2_old_table *table = table_at(walk, checked->guest_offset);
  bool is_compared = table != NULL && (walk->is_for_entries ? !label_is_of_lost_table(table->label)
                                                            : table->l2_offset == l2_offset);
  uint64_t *at;

  walk->current = is_compared && walk->is_for_entries ? table : NULL;
  if (!is_compared) {
    if (qcow2_residue_map_is_walked(&walk->window.map, cluster))
      return false;
    qcow2_residue_map_set_walked(&walk->window.map, cluster);
    return true;
  }
  at = &walk->looked[table - walk->labels->tables]
            .at[walk->is_for_entries ? sharer(walk, checked->disk->snapshot_index) / 2 : 0];
  if (*at == l2_offset)
    return false;
  *at = l2_offset;
  return true;
}

/* True if a live entry names what the old one names, and can have done so ever since if the disk is
   of an older snapshot. */
static bool is_same(const struct qcow2_labels *labels, const struct qcow2_l2_entry *old,
                    const struct qcow2_l2_entry *live, uint8_t mark)
{
  const struct qcow2_geometry *geometry = &labels->layer->geometry;
  bool is_uncovered = labels->state.under_zeros && (old->descriptor & L2_ENTRY_ZERO) != 0;
  uint32_t missing = (uint32_t) old->subcluster_bitmap & ~(uint32_t) live->subcluster_bitmap;

  if (((old->descriptor | live->descriptor) & L2_ENTRY_COMPRESSED) != 0)
    return (old->descriptor | L2_ENTRY_COPIED) == (live->descriptor | L2_ENTRY_COPIED);
  if (!qcow2_l2_entry_is_allocated(geometry, old->descriptor) ||
      !qcow2_l2_entry_is_allocated(geometry, live->descriptor) ||
      (old->descriptor & TABLE_OFFSET_MASK) != (live->descriptor & TABLE_OFFSET_MASK))
    return false;
  if (mark != MARK_OLDER)
    return true;
  if (geometry->extended_l2)
    return missing == 0;
  return is_uncovered || (live->descriptor & L2_ENTRY_ZERO) == 0;
}

static bool is_own_l2_entry(void *context, const struct qcow2_checked_l2_entry *checked)
{
  struct label_walk *walk = context;
  const struct qcow2_geometry *geometry = &walk->labels->layer->geometry;
  uint32_t index = geometry_l2_index(geometry, checked->guest_offset);
  uint8_t mark = sharer(walk, checked->disk->snapshot_index);
  struct qcow2_l2_entry old;

  if (walk->current == NULL)
    return false;
  old = entry_of(walk, walk->current, index);
  if (!is_same(walk->labels, &old, &checked->entry, mark))
    return false;
  labels_marks(walk->labels, walk->current)[index] |= mark;
  return true;
}

/* ---- Claims ------------------------------------------------------------------------ */

static enum claim claim_of(const struct label_walk *walk, uint64_t cluster)
{
  uint64_t index = cluster - walk->window.map.first;

  return (enum claim)(walk->claims[index / CLAIMS_PER_BYTE] >> index % CLAIMS_PER_BYTE * 2 & 3);
}

static void claim(struct label_walk *walk, uint64_t host_offset, uint64_t length, enum claim as)
{
  unsigned bits = walk->window.map.cluster_bits;
  uint64_t end = (host_offset + length - 1) >> bits;

  for (uint64_t cluster = host_offset >> bits; cluster <= end; cluster++) {
    uint64_t index = cluster - walk->window.map.first;
    enum claim before, now;

    if (!qcow2_residue_window_has(&walk->window, cluster))
      continue;
    before = claim_of(walk, cluster);
    now = before == CLAIM_NONE || (before == as && as == CLAIM_STREAMS) ? as : CLAIM_CONFLICT;
    walk->claims[index / CLAIMS_PER_BYTE] |= (uint8_t) ((unsigned) now
                                                        << index % CLAIMS_PER_BYTE * 2);
  }
}

/* Decode an entry at the start of its cluster. False: it names no bytes of this file that are read.
 */
static bool names_bytes(const struct label_walk *walk, const struct qcow2_l2_entry *entry,
                        struct qcow2_cluster_part *part)
{
  const struct qcow2_geometry *geometry = &walk->labels->layer->geometry;
  bool is_compressed = (entry->descriptor & L2_ENTRY_COMPRESSED) != 0;

  if (geometry->has_data_file || (!is_compressed && (entry->descriptor & TABLE_OFFSET_MASK) == 0))
    return false;
  *part = qcow2_l2_entry_decode(geometry, entry, 0);
  if (is_compressed)
    return part->kind == QCOW2_CLUSTER_COMPRESSED && part->host_bytes > 0;
  part->host_offset = entry->descriptor & TABLE_OFFSET_MASK;
  part->host_bytes = geometry->cluster_size;
  if (qcow2_l2_entry_offset_problem(geometry, entry->descriptor) != NULL)
    return false;
  if (geometry->extended_l2)
    return (uint32_t) entry->subcluster_bitmap != 0;
  return part->kind == QCOW2_CLUSTER_NORMAL ||
         (walk->labels->state.under_zeros && part->kind == QCOW2_CLUSTER_ZERO_ALLOCATED);
}

/* Call `visit` for all entries of valid old tables that name bytes. */
static void each_old_entry(struct label_walk *walk,
                           void (*visit)(struct label_walk *walk, struct qcow2_old_table *table,
                                         uint32_t index, const struct qcow2_cluster_part *part))
{
  struct qcow2_labels *labels = walk->labels;

  for (size_t i = 0; i < labels->table_count; i++)
    for (uint32_t index = 0;
         !label_is_of_lost_table(labels->tables[i].label) && index < labels_entries(labels);
         index++) {
      struct qcow2_l2_entry entry = entry_of(walk, &labels->tables[i], index);
      struct qcow2_cluster_part part;

      if (walk->walk.is_bounded)
        return;
      if (names_bytes(walk, &entry, &part))
        visit(walk, &labels->tables[i], index, &part);
    }
}

static void claim_entry(struct label_walk *walk, struct qcow2_old_table *table, uint32_t index,
                        const struct qcow2_cluster_part *part)
{
  (void) table;
  (void) index;
  claim(walk, part->host_offset, part->host_bytes,
        part->kind == QCOW2_CLUSTER_COMPRESSED ? CLAIM_STREAMS : CLAIM_ONCE);
}

static void claim_all(struct label_walk *walk)
{
  const struct qcow2_labels *labels = walk->labels;

  memset(walk->claims, 0, (size_t) (walk->window.map.state_capacity / CLAIMS_PER_BYTE + 1));
  if (labels->state.l1_bytes > 0)
    claim(walk, labels->state.l1_offset, labels->state.l1_bytes, CLAIM_ONCE);
  for (size_t i = 0; i < labels->table_count; i++)
    claim(walk, labels->tables[i].l2_offset, labels->layer->geometry.cluster_size, CLAIM_ONCE);
  each_old_entry(walk, claim_entry);
}

/* ---- Is it reused? -------------------------------------------------------------------- */

/* True if a range of the map has some of these bytes, as far as sectors go. */
static bool meets_range(const struct label_walk *walk, uint64_t offset, uint64_t length)
{
  const struct qcow2_residue_map *map = &walk->window.map;

  for (size_t i = qcow2_residue_map_find(map, offset);
       i < map->range_count && map->ranges[i].offset < offset + length; i++)
    if (map->ranges[i].offset + map->ranges[i].length > offset)
      return true;
  return false;
}

/* True if something else has bytes of an old stream, to its exact last byte; or if it is no whole
   stream. */
static bool is_stream_overwritten(struct label_walk *walk, uint64_t offset, uint64_t length)
{
  size_t size = walk->labels->layer->geometry.cluster_size, exact;

  if (walk->decoded_left < 4 * size)
    return true;
  walk->decoded_left -= 4 * size;
  length = min_u64(length, walk->labels->layer->file.storage.size - offset);
  exact = qcow2_residue_window_old_stream(&walk->window, offset, length);
  if (exact == 0)
    return true;
  memset(walk->mask, 1, exact);
  return qcow2_residue_window_clear(&walk->window, offset, walk->mask, exact) != 0 ||
         memchr(walk->mask, 0, exact) != NULL;
}

static bool is_reused(struct label_walk *walk, const struct qcow2_cluster_part *part,
                      enum qcow2_residue_state state)
{
  if (state == RESIDUE_FREE || part->kind != QCOW2_CLUSTER_COMPRESSED)
    return state != RESIDUE_FREE;
  if (state >= RESIDUE_USED)
    return true;
  return meets_range(walk, part->host_offset, part->host_bytes) &&
         is_stream_overwritten(walk, part->host_offset, part->host_bytes);
}

static void mark_entry(struct label_walk *walk, struct qcow2_old_table *table, uint32_t index,
                       const struct qcow2_cluster_part *part)
{
  uint8_t *mark = &labels_marks(walk->labels, table)[index];
  unsigned bits = walk->window.map.cluster_bits;
  uint64_t end = (part->host_offset + part->host_bytes - 1) >> bits;

  for (uint64_t cluster = part->host_offset >> bits; cluster <= end; cluster++) {
    enum qcow2_residue_state state;

    if (!qcow2_residue_window_has(&walk->window, cluster))
      continue;
    state = qcow2_residue_map_state(&walk->window.map, cluster);
    if ((*mark & MARK_REUSED) == 0 && is_reused(walk, part, state))
      *mark |= MARK_REUSED;
    if (claim_of(walk, cluster) == CLAIM_CONFLICT)
      *mark |= MARK_CONFLICT;
  }
}

/* ---- What the tables are now --------------------------------------------------------- */

static void label_table(struct label_walk *walk, struct qcow2_old_table *table)
{
  const struct qcow2_labels *labels = walk->labels;
  uint64_t cluster = table->l2_offset >> walk->window.map.cluster_bits;
  const uint8_t *bytes;

  if (!qcow2_residue_window_has(&walk->window, cluster))
    return;
  if (qcow2_residue_map_state(&walk->window.map, cluster) != RESIDUE_FREE)
    table->label = QCOW2_LABEL_LOST_TABLE;
  else if (table->sharing != 0)
    table->label = (table->sharing & MARK_OLDER) != 0   ? QCOW2_LABEL_SHARED_OLDER
                   : (table->sharing & MARK_NEWER) != 0 ? QCOW2_LABEL_SHARED_NEWER
                                                        : QCOW2_LABEL_SHARED_ACTIVE;
  else {
    bytes = load(walk, table);
    table->label = qcow2_residue_is_zero(bytes, labels->layer->geometry.cluster_size)
                       ? QCOW2_LABEL_PUNCHED
                   : qcow2_residue_is_l2(&labels->looks, bytes) ? QCOW2_LABEL_KEPT
                                                                : QCOW2_LABEL_LOST_TABLE;
  }
}

/* Look at the tables in this part of the file, and at the old L1 table. */
static void label_tables(struct label_walk *walk)
{
  struct qcow2_labels *labels = walk->labels;
  const struct qcow2_old_state *state = &labels->state;
  unsigned bits = walk->window.map.cluster_bits;

  for (size_t i = 0; i < labels->table_count && !walk->walk.is_bounded; i++)
    label_table(walk, &labels->tables[i]);
  for (uint64_t at = state->l1_offset >> bits;
       state->l1_bytes > 0 && at <= (state->l1_offset + state->l1_bytes - 1) >> bits; at++)
    if (qcow2_residue_window_has(&walk->window, at) &&
        qcow2_residue_map_state(&walk->window.map, at) != RESIDUE_FREE)
      labels->is_l1_reused = true;
}

/* ---- The walks ---------------------------------------------------------------------------- */

static int bound_error(struct qcow2_error *error)
{
  return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                         "the image's tables are more than can be looked through to find out what "
                         "is left of a deleted state (64 GiB of them)");
}

/* Walk for the part of the file that begins with `first`. */
static int walk_part(struct label_walk *walk, uint64_t first, struct qcow2_error *error)
{
  int code;

  memset(walk->looked, 0, (walk->labels->table_count + 1) * sizeof(walk->looked[0]));
  code = qcow2_residue_window_move(&walk->window, first, &walk->walk, error);
  if (code != 0)
    return code;
  walk->labels->has_gaps = walk->labels->has_gaps || walk->walk.has_gaps;
  if (walk->is_for_entries) {
    claim_all(walk);
    each_old_entry(walk, mark_entry);
  } else
    label_tables(walk);
  return walk->walk.is_bounded ? bound_error(error) : 0;
}

static int walk_file(struct label_walk *walk, bool is_for_entries, struct qcow2_error *error)
{
  uint64_t clusters = qcow2_residue_window_file_clusters(&walk->window), first = 0;
  int code = 0;

  walk->is_for_entries = is_for_entries;
  for (; code == 0 && first < clusters; first = walk->window.map.end)
    code = walk_part(walk, first, error);
  return code;
}

static int walk_make(struct label_walk *walk, struct qcow2_error *error)
{
  const struct qcow2_labels *labels = walk->labels;
  size_t size = labels->layer->geometry.cluster_size;
  int code = qcow2_residue_window_make(&walk->window, labels->image, CLUSTERS_MAX, RANGES_MAX,
                                       error);

  if (code != 0)
    return code;
  walk->claims = malloc((size_t) (walk->window.map.state_capacity / CLAIMS_PER_BYTE + 1));
  walk->looked = calloc(labels->table_count + 1, sizeof(walk->looked[0]));
  walk->old = malloc(size);
  walk->mask = malloc(2 * size);
  if (walk->claims == NULL || walk->looked == NULL || walk->old == NULL || walk->mask == NULL)
    return qcow2_error_set_nomem(error);
  return 0;
}

static void walk_free(struct label_walk *walk)
{
  qcow2_residue_window_free(&walk->window);
  free(walk->claims);
  free(walk->looked);
  free(walk->old);
  free(walk->mask);
}

int qcow2_labels_walk(struct qcow2_labels *labels, uint64_t *work, struct qcow2_error *error)
{
  struct label_walk walk = { .labels = labels, .decoded_left = DECODED_BYTES_MAX };
  const struct qcow2_residue_own own = {
    .context = &walk, .l1_entry = is_own_l1_entry, .wants_l2 = wants_l2, .l2_entry = is_own_l2_entry
  };
  int code = walk_make(&walk, error);

  walk.walk = (struct qcow2_residue_walk){ .work = *work, .own = &own };
  for (size_t i = 0; i < labels->table_count; i++) /* those after the end of the file stay so */
    labels->tables[i].label = QCOW2_LABEL_PUNCHED;
  if (code == 0)
    code = walk_file(&walk, false, error);
  if (code == 0)
    code = walk_file(&walk, true, error);
  *work = walk.walk.work;
  walk_free(&walk);
  return code;
}
