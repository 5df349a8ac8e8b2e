/* SPDX-License-Identifier: MIT */
/* What is in the file between clusters of which the places are known. */
#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../check/checker.h"
#include "../format/cluster.h"
#include "../format/refcount.h"
#include "../storage/storage.h"
#include "labels.h"

/* As in a walk for labels: 8 MiB for the states of clusters, 8 MiB for ranges. */
#define CLUSTERS_MAX (UINT64_C(32) << 20)
#define RANGES_MAX ((size_t) 1 << 19)

struct looking {
  struct qcow2_labels *labels;
  struct qcow2_gaps *gaps;
  struct qcow2_residue_window window;
  struct qcow2_residue_walk walk;
};

/* ---- Slots ---------------------------------------------------------------------- */

/* Find the slot of a cluster of the file. False: it is in no gap. */
static bool find_slot(const struct qcow2_gaps *gaps, uint64_t cluster, size_t *slot)
{
  size_t low = 0, high = gaps->count;
  const struct qcow2_gap *gap;

  while (low < high) {
    size_t middle = low + (high - low) / 2;

    if (gaps->gaps[middle].host <= cluster)
      low = middle + 1;
    else
      high = middle;
  }
  if (low == 0)
    return false;
  gap = &gaps->gaps[low - 1];
  *slot = gap->first_slot + (size_t) (cluster - gap->host);
  return cluster - gap->host < gap->host_count;
}

static void set_slot(const struct qcow2_gaps *gaps, uint64_t cluster, enum qcow2_gap_slot as)
{
  size_t slot;

  if (find_slot(gaps, cluster, &slot) && gaps->slots[slot] != GAP_TABLE)
    gaps->slots[slot] = (uint8_t) as;
}

static bool is_own_table(const struct qcow2_gaps *gaps, uint64_t cluster)
{
  size_t low = 0, high = gaps->table_count;

  while (low < high) {
    size_t middle = low + (high - low) / 2;

    if (gaps->tables[middle] < cluster)
      low = middle + 1;
    else
      high = middle;
  }
  return low < gaps->table_count && gaps->tables[low] == cluster;
}

/* QEMU allocates the refcount block for a part of the file where that part begins to be used, so
   between guest data. */
static void note_refcount_blocks(const struct qcow2_layer *layer, const struct qcow2_gaps *gaps,
                                 const struct qcow2_gap *gap)
{
  const struct qcow2_header *header = &layer->metadata.header;
  uint64_t per_block = qcow2_refcounts_per_block(header);
  uint64_t count = qcow2_refcount_table_bytes(header) / REFCOUNT_TABLE_ENTRY_BYTES;
  uint64_t last = (gap->host + gap->host_count - 1) / per_block;
  uint8_t word[REFCOUNT_TABLE_ENTRY_BYTES];

  if (layer->lost_header != NULL || !qcow2_refcount_table_fits(header))
    return;
  for (uint64_t i = gap->host / per_block; i <= last && i < count; i++)
    if (qcow2_storage_read(&layer->file.storage, header->refcount_table_offset + i * sizeof(word),
                           word, sizeof(word), NULL) == 0)
      set_slot(gaps, (be64_get(word) & REFCOUNT_TABLE_OFFSET_MASK) >> header->cluster_bits,
               GAP_TABLE);
}

static void note_tables(const struct qcow2_layer *layer, const struct qcow2_gaps *gaps)
{
  for (size_t i = 0; i < gaps->table_count; i++)
    set_slot(gaps, gaps->tables[i], GAP_TABLE);
  for (size_t i = 0; i < gaps->count; i++)
    note_refcount_blocks(layer, gaps, &gaps->gaps[i]);
}

/* ---- What old tables name --------------------------------------------------------- */

/* An old table names a cluster by the entry at `index`; GAP_DISPUTED - 1: as no cluster of a
   guest's. */
static void claim(const struct qcow2_gaps *gaps, uint64_t cluster, uint32_t index)
{
  size_t slot;

  if (find_slot(gaps, cluster, &slot))
    gaps->claims[slot] = gaps->claims[slot] == 0 || gaps->claims[slot] == index + 1 ? index + 1
                                                                                    : GAP_DISPUTED;
}

/* Note what the entries of the table in labels->cluster name. The state's own tables say of each
   cluster where it is; others only by which entry. */
static void note_claims(const struct looking *looking, uint64_t table)
{
  const struct qcow2_labels *labels = looking->labels;
  const struct qcow2_geometry *geometry = &labels->layer->geometry;
  bool is_own = is_own_table(looking->gaps, table);

  for (uint32_t index = 0; index < labels_entries(labels); index++) {
    struct qcow2_l2_entry entry =
        l2_entry_load(geometry, labels->cluster + (size_t) index * geometry->l2_entry_bytes);
    struct qcow2_cluster_part part = qcow2_l2_entry_decode(geometry, &entry, 0);
    uint64_t first = (entry.descriptor & TABLE_OFFSET_MASK) >> geometry->cluster_bits, last = first;
    bool is_stream = part.kind == QCOW2_CLUSTER_COMPRESSED;

    if (is_stream && part.host_bytes > 0) {
      first = part.host_offset >> geometry->cluster_bits;
      last = (part.host_offset + part.host_bytes - 1) >> geometry->cluster_bits;
    }
    for (uint64_t cluster = first; cluster <= last && cluster != 0; cluster++)
      claim(looking->gaps, cluster, is_own || is_stream ? GAP_DISPUTED - 1 : index);
  }
}

/* ---- The file --------------------------------------------------------------------- */

static bool is_own_l1_entry(void *context, const struct qcow2_checked_l1_entry *entry)
{
  (void) context;
  (void) entry;
  return false;
}

/* Each L2 table is looked at once. */
static bool wants_l2(void *context, const struct qcow2_checked_l1_entry *entry)
{
  struct looking *looking = context;
  struct qcow2_residue_map *map = &looking->window.map;
  uint64_t cluster = (entry->entry & TABLE_OFFSET_MASK) >> map->cluster_bits;

  if (qcow2_residue_map_is_walked(map, cluster))
    return false;
  qcow2_residue_map_set_walked(map, cluster);
  return true;
}

static bool is_own_l2_entry(void *context, const struct qcow2_checked_l2_entry *entry)
{
  (void) context;
  (void) entry;
  return false;
}

/* A cluster that nothing refers to, and that is stored. */
static void look_at_cluster(const struct looking *looking, uint64_t cluster)
{
  struct qcow2_labels *labels = looking->labels;
  uint32_t size = labels->layer->geometry.cluster_size;
  bool is_read = range_fits(cluster * size, size, labels->layer->file.storage.size) &&
                 qcow2_storage_read(&labels->layer->file.storage, cluster * size, labels->cluster,
                                    size, NULL) == 0;
  bool is_table = is_read && qcow2_residue_is_table(&labels->looks, labels->cluster, size / 8);
  size_t slot;

  if (is_table)
    note_claims(looking, cluster);
  if (find_slot(looking->gaps, cluster, &slot) &&
      (!is_read || is_table ||
       qcow2_residue_classify(&labels->looks, labels->cluster) != QCOW2_RESIDUE_DATA))
    set_slot(looking->gaps, cluster, GAP_OTHER);
}

static void look_at_part(const struct looking *looking)
{
  const struct qcow2_residue_map *map = &looking->window.map;
  const struct qcow2_storage *storage = &looking->labels->layer->file.storage;
  uint64_t data = 0;

  for (uint64_t cluster = map->first; cluster < map->end; cluster++) {
    uint64_t offset = cluster << map->cluster_bits, end = (cluster + 1) << map->cluster_bits;
    bool is_free = qcow2_residue_map_state(map, cluster) == RESIDUE_FREE;

    if (is_free && data < end)
      data = qcow2_storage_next_data(storage, offset);
    if (is_free && data < end)
      look_at_cluster(looking, cluster);
    else
      set_slot(looking->gaps, cluster, GAP_OTHER);
  }
}

static int look_at_file(struct looking *looking, struct qcow2_error *error)
{
  uint64_t clusters = qcow2_residue_window_file_clusters(&looking->window);
  int code = 0;

  for (uint64_t first = 0; code == 0 && first < clusters; first = looking->window.map.end) {
    code = qcow2_residue_window_move(&looking->window, first, &looking->walk, error);
    if (code != 0)
      break;
    looking->labels->has_gaps = looking->labels->has_gaps || looking->walk.has_gaps;
    look_at_part(looking);
  }
  return code;
}

int qcow2_labels_look_at_gaps(struct qcow2_labels *labels, struct qcow2_gaps *gaps,
                              struct qcow2_error *error)
{
  struct looking looking = { .labels = labels, .gaps = gaps };
  const struct qcow2_residue_own own = { .context = &looking,
                                         .l1_entry = is_own_l1_entry,
                                         .wants_l2 = wants_l2,
                                         .l2_entry = is_own_l2_entry };
  int code = qcow2_residue_window_make(&looking.window, labels->image, CLUSTERS_MAX, RANGES_MAX,
                                       error);

  looking.walk = (struct qcow2_residue_walk){ .work = RESIDUE_WORK_BYTES, .own = &own };
  note_tables(labels->layer, gaps);
  if (code == 0)
    code = look_at_file(&looking, error);
  qcow2_residue_window_free(&looking.window);
  return code;
}
