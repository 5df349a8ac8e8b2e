/* SPDX-License-Identifier: MIT */
#include "layouts.h"

#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../format/cluster.h"
#include "../format/snapshot.h"
#include "../storage/storage.h"
#include "lone_tables.h"

/* Compressed clusters that are decompressed as a trial, for each layout. */
#define STREAMS_TRIED_MAX 8u
/* So many host offsets do not have a larger cluster size in common by chance. */
#define CHANCE_CLUSTERS 6u
/* Zero clusters that can be inside an L1 table. */
#define GAP_CLUSTERS_MAX 16u
/* With clusters this large, an L1 table that ends with zeros is taken to end there. */
#define SMALL_TABLE_BITS 14u
/* The bits in which the L2 tables of an L1 table are noted, by hash: 128 KiB. */
#define NOTED_BITS 20u
/* The most clusters of an L1 table: with clusters of 512 bytes, those of the largest one. */
#define CHAIN_CLUSTERS_MAX 65536u
#define ENTRIES_BYTES ((size_t) 256 << 10)
#define SECTOR_BYTES 512u

/* An L1 table that is looked at. */
struct candidate {
  struct qcow2_trial *trial;
  struct qcow2_rebuilt rebuilt;
  uint64_t l1_entries;
  uint64_t offsets;  /* all host offsets in its tables, by "or" */
  uint64_t clusters; /* of the disk, to the last one that the tables have */
  uint64_t used;     /* of the stored ones, those that this file's own refcounts call used */
  bool has_odd;      /* an entry of an odd index is in use: entries are not twice as long */
  enum qcow2_compression compression;
  struct qcow2_randomness_samples samples; /* of the stored ones */
  uint8_t *l1;                             /* a cluster of the L1 table */
};

/* ---- Making ------------------------------------------------------------------------- */

int qcow2_layouts_make(struct qcow2_layouts *layouts, struct qcow2_error *error)
{
  *layouts = (struct qcow2_layouts){
    .items = malloc(LAYOUTS_MAX * sizeof(layouts->items[0])),
    .snapshots = malloc(LAYOUT_SNAPSHOTS_MAX * sizeof(layouts->snapshots[0])),
  };
  return layouts->items == NULL || layouts->snapshots == NULL ? qcow2_error_set_nomem(error) : 0;
}

void qcow2_layouts_free(struct qcow2_layouts *layouts)
{
  for (size_t i = 0; i < layouts->snapshot_count; i++)
    qcow2_snapshot_free(&layouts->snapshots[i]);
  free(layouts->snapshots);
  free(layouts->items);
  memset(layouts, 0, sizeof(*layouts));
}

/* ---- Counting ----------------------------------------------------------------------- */

static void count_refcount(struct candidate *candidate, uint64_t host_offset)
{
  int64_t refcount = qcow2_guessed_refcount(&candidate->trial->refcounts, host_offset);

  candidate->rebuilt.tables_counted += refcount >= 0;
  candidate->rebuilt.tables_in_use += refcount > 0;
}

static void count_stream(struct candidate *candidate, uint64_t descriptor)
{
  candidate->rebuilt.compressed++;
  if (candidate->rebuilt.streams_tried == STREAMS_TRIED_MAX)
    return;
  candidate->rebuilt.streams_tried++;
  candidate->rebuilt.streams_good += qcow2_trial_decompress(candidate->trial, descriptor,
                                                            &candidate->compression);
}

/* Count the entry of a cluster that is stored as it is. In an external data file, the cluster is
   where it is on the disk. */
static void count_stored(struct candidate *candidate, uint64_t guest_offset, uint64_t host_offset)
{
  struct qcow2_trial *trial = candidate->trial;

  candidate->rebuilt.clusters++;
  candidate->offsets |= host_offset;
  if (!trial->geometry.has_data_file) {
    candidate->rebuilt.bad_entries += host_offset >= trial->storage->size ||
                                      host_offset == candidate->rebuilt.layout.l1_offset;
    qcow2_randomness_offer(&candidate->samples, host_offset);
    return;
  }
  candidate->rebuilt.bad_entries += host_offset != guest_offset;
  candidate->used += qcow2_trial_is_own_cluster(trial, host_offset);
}

/* Count the L2 table in trial->bytes, the one of that index. */
static void count_entries(struct candidate *candidate, uint64_t l1_index)
{
  const struct qcow2_trial *trial = candidate->trial;
  const struct qcow2_geometry *geometry = &trial->geometry;

  for (uint32_t at = 0; at < geometry->cluster_size; at += geometry->l2_entry_bytes) {
    struct qcow2_l2_entry entry = l2_entry_load(geometry, trial->bytes + at);
    uint64_t number = (l1_index << geometry->l2_bits) + at / geometry->l2_entry_bytes;

    if (entry.descriptor == 0 && entry.subcluster_bitmap == 0)
      continue;
    candidate->has_odd = candidate->has_odd || number % 2 != 0;
    candidate->clusters = number + 1;
    if ((entry.descriptor & L2_ENTRY_COMPRESSED) != 0)
      count_stream(candidate, entry.descriptor);
    else if (qcow2_l2_entry_is_allocated(geometry, entry.descriptor))
      count_stored(candidate, number << geometry->cluster_bits,
                   entry.descriptor & TABLE_OFFSET_MASK);
  }
}

/* Count the tables that the L1 table leads to. False: the limit of work is reached. */
static bool count_tables(struct candidate *candidate)
{
  struct qcow2_trial *trial = candidate->trial;
  uint64_t per_cluster = trial->geometry.cluster_size / 8;

  for (uint64_t index = 0; index < candidate->l1_entries; index++) {
    uint64_t at = candidate->rebuilt.layout.l1_offset + index * 8, word;

    if (index % per_cluster == 0 && !qcow2_trial_read(trial, at, candidate->l1))
      return false;
    if (index % per_cluster == 0)
      count_refcount(candidate, at);
    word = be64_get(candidate->l1 + index % per_cluster * 8) & TABLE_OFFSET_MASK;
    if (word == 0)
      continue;
    candidate->offsets |= word;
    if (!qcow2_trial_read(trial, word, trial->bytes))
      return false;
    if ((qcow2_trial_kind(trial, word) & TRIAL_L2) == 0 &&
        !qcow2_residue_is_l2(&trial->looks, trial->bytes)) {
      candidate->rebuilt.lost_l2_tables++;
      continue;
    }
    candidate->rebuilt.l2_tables++;
    qcow2_trial_reach(trial, word);
    count_refcount(candidate, word);
    count_entries(candidate, index);
  }
  return true;
}

/* ---- The size ------------------------------------------------------------------------- */

/* Read a sector of the disk from one of its first clusters. */
static bool read_sector(struct candidate *candidate, uint64_t guest_offset, uint8_t *sector)
{
  struct qcow2_trial *trial = candidate->trial;
  const struct qcow2_geometry *geometry = &trial->geometry;
  uint32_t inside = geometry_in_cluster(geometry, guest_offset);
  struct qcow2_l2_entry entry;
  uint64_t word;

  if (geometry->has_data_file ||
      !qcow2_trial_read(trial, candidate->rebuilt.layout.l1_offset, candidate->l1))
    return false;
  word = be64_get(candidate->l1) & TABLE_OFFSET_MASK;
  if ((qcow2_trial_kind(trial, word) & TRIAL_L2) == 0 ||
      !qcow2_trial_read(trial, word, trial->bytes))
    return false;
  entry = l2_entry_load(geometry,
                        trial->bytes + (size_t) geometry_l2_index(geometry, guest_offset) *
                                           geometry->l2_entry_bytes);
  if ((entry.descriptor & L2_ENTRY_COMPRESSED) == 0)
    return (entry.descriptor & TABLE_OFFSET_MASK) != 0 &&
           qcow2_storage_read(trial->storage, (entry.descriptor & TABLE_OFFSET_MASK) + inside,
                              sector, SECTOR_BYTES, NULL) == 0;
  if (!qcow2_trial_decompress(trial, entry.descriptor, &candidate->compression))
    return false;
  memcpy(sector, trial->cluster + inside, SECTOR_BYTES);
  return true;
}

/* The size that the disk's GPT says, by the sector of its copy, which is the last one; 0: none. */
static uint64_t size_by_partitions(struct candidate *candidate)
{
  uint8_t sector[SECTOR_BYTES];
  uint64_t last;

  if (!read_sector(candidate, SECTOR_BYTES, sector) || memcmp(sector, "EFI PART", 8) != 0)
    return 0;
  last = le64_get(sector + 32);
  return last > UINT32_MAX * UINT64_C(1024) ? 0 : (last + 1) * SECTOR_BYTES;
}

/* The largest size of a snapshot of this trial's that fits; 0: none. */
static uint64_t size_by_others(const struct candidate *candidate,
                               const struct qcow2_layouts *layouts, size_t first_snapshot,
                               uint64_t used, uint64_t most)
{
  uint64_t size = 0;

  for (size_t i = first_snapshot; i < layouts->snapshot_count; i++) {
    uint64_t other = layouts->snapshots[i].disk_size;

    if (other > size && other <= most &&
        divide_up(other, candidate->trial->geometry.cluster_size) *
                candidate->trial->geometry.cluster_size >=
            used)
      size = other;
  }
  return size;
}

static void set_size(struct candidate *candidate, const struct qcow2_layouts *layouts,
                     size_t first_snapshot)
{
  const struct qcow2_geometry *geometry = &candidate->trial->geometry;
  struct qcow2_rebuilt *rebuilt = &candidate->rebuilt;
  uint64_t used = candidate->clusters << geometry->cluster_bits;
  uint64_t in_table = divide_up(candidate->l1_entries, UINT64_C(1)
                                                           << (geometry->cluster_bits - 3)) *
                      (geometry->cluster_size / 8);
  uint64_t most = in_table << (geometry->cluster_bits + geometry->l2_bits), size;

  if (rebuilt->snapshot != NULL) {
    rebuilt->layout.size = rebuilt->snapshot->disk_size;
    rebuilt->size_source = QCOW2_REBUILT_BY_SNAPSHOT;
    return;
  }
  rebuilt->size_source = QCOW2_REBUILT_BY_PARTITIONS;
  size = size_by_partitions(candidate);
  if (size < used || size > most) {
    rebuilt->size_source = QCOW2_REBUILT_BY_OTHERS;
    size = size_by_others(candidate, layouts, first_snapshot, used, most);
  }
  if (size == 0) {
    rebuilt->size_source = QCOW2_REBUILT_BY_TABLES;
    size = used;
  }
  rebuilt->layout.size = size;
}

/* ---- A layout ------------------------------------------------------------------------- */

/* True if this cannot be how the file is to be read. */
static bool is_out(const struct candidate *candidate)
{
  const struct qcow2_rebuilt *rebuilt = &candidate->rebuilt;
  const struct qcow2_geometry *geometry = &candidate->trial->geometry;

  if (!geometry->extended_l2 && geometry->cluster_bits >= CLUSTER_BITS_MIN_EXTENDED &&
      !candidate->has_odd && rebuilt->compressed >= CHANCE_CLUSTERS)
    return true;
  if (geometry->has_data_file &&
      (rebuilt->clusters == 0 || rebuilt->bad_entries * 2 >= rebuilt->clusters ||
       candidate->used * 2 >= rebuilt->clusters))
    return true;
  return rebuilt->l2_tables == 0 || rebuilt->layout.size == 0 ||
         (rebuilt->streams_tried > 0 && rebuilt->streams_good == 0) ||
         (!rebuilt->is_exact && rebuilt->clusters + rebuilt->l2_tables >= CHANCE_CLUSTERS);
}

static void add(struct qcow2_layouts *layouts, const struct qcow2_rebuilt *rebuilt)
{
  layouts->found++;
  if (layouts->count < LAYOUTS_MAX)
    layouts->items[layouts->count++] = *rebuilt;
}

/* Look at an L1 table of so many entries, and add its layout. */
static void look_at_l1(struct qcow2_layouts *layouts, struct candidate *candidate,
                       size_t first_snapshot)
{
  const struct qcow2_geometry *geometry = &candidate->trial->geometry;
  struct qcow2_rebuilt *rebuilt = &candidate->rebuilt;

  rebuilt->layout.cluster_bits = geometry->cluster_bits;
  if (!count_tables(candidate))
    return;
  rebuilt->is_exact = (candidate->offsets & geometry->cluster_size) != 0;
  set_size(candidate, layouts, first_snapshot);
  if (geometry->extended_l2)
    rebuilt->layout.flags |= QCOW2_LAYOUT_EXTENDED_L2;
  if (geometry->has_data_file)
    rebuilt->layout.flags |= QCOW2_LAYOUT_DATA_FILE;
  rebuilt->refcount_bits = qcow2_guessed_refcount_bits(&candidate->trial->refcounts);
  if (rebuilt->compressed > 0 && candidate->compression == QCOW2_COMPRESSION_ZSTD)
    rebuilt->layout.flags |= QCOW2_LAYOUT_ZSTD;
  if (is_out(candidate))
    return;
  qcow2_trial_count_random(candidate->trial, &candidate->samples, rebuilt);
  add(layouts, rebuilt);
}

/* ---- Snapshots -------------------------------------------------------------------------- */

static int keep_snapshot(struct qcow2_layouts *layouts, const struct qcow2_trial *trial,
                         const uint8_t *bytes, struct qcow2_error *error)
{
  struct qcow2_snapshot_lengths lengths;
  int code = qcow2_snapshot_measure(bytes, 0, &lengths, error);

  if (code != 0 || layouts->snapshot_count == LAYOUT_SNAPSHOTS_MAX ||
      (qcow2_trial_kind(trial, be64_get(bytes)) & TRIAL_L1) == 0 || lengths.extra < 16)
    return 0;
  code = qcow2_snapshot_decode(bytes, bytes + SNAPSHOT_FIXED_BYTES, &lengths, 0,
                               &layouts->snapshots[layouts->snapshot_count], error);
  layouts->snapshot_count += code == 0;
  return code;
}

/* Keep the entries of the snapshot tables that begin at a cluster's start and lead to L1 tables. */
static int find_snapshots(struct qcow2_layouts *layouts, struct qcow2_trial *trial,
                          struct qcow2_error *error)
{
  const struct qcow2_marks *marks = trial->marks;
  uint8_t *bytes = malloc(ENTRIES_BYTES);
  int code = bytes == NULL ? qcow2_error_set_nomem(error) : 0;

  for (size_t i = 0; code == 0 && i < marks->entry_count; i++) {
    uint64_t offset = marks->entries[i];
    size_t length = (size_t) min_u64(ENTRIES_BYTES, trial->storage->size - offset), at = 0, entry;

    if (!is_aligned(offset, trial->geometry.cluster_size) || *trial->work < length ||
        qcow2_storage_read(trial->storage, offset, bytes, length, NULL) != 0)
      continue;
    *trial->work -= length;
    while (code == 0 &&
           (entry = qcow2_residue_snapshot_entry(&trial->looks, bytes + at, length - at)) > 0) {
      code = keep_snapshot(layouts, trial, bytes + at, error);
      at += entry;
    }
  }
  free(bytes);
  return code;
}

static const struct qcow2_snapshot *snapshot_at(const struct qcow2_layouts *layouts, size_t first,
                                                uint64_t l1_offset)
{
  for (size_t i = first; i < layouts->snapshot_count; i++)
    if (layouts->snapshots[i].l1_offset == l1_offset)
      return &layouts->snapshots[i];
  return NULL;
}

static void look_at_snapshots(struct qcow2_layouts *layouts, struct qcow2_trial *trial,
                              size_t first, uint8_t *l1)
{
  for (size_t i = first; i < layouts->snapshot_count; i++) {
    const struct qcow2_snapshot *snapshot = &layouts->snapshots[i];
    struct candidate candidate = {
      .trial = trial,
      .rebuilt = { .layout = { .l1_offset = snapshot->l1_offset }, .snapshot = snapshot },
      .l1_entries = qcow2_geometry_l1_entries(&trial->geometry, snapshot->disk_size),
      .l1 = l1
    };

    if (snapshot_at(layouts, first, snapshot->l1_offset) == snapshot)
      look_at_l1(layouts, &candidate, first);
  }
}

/* ---- L1 tables -------------------------------------------------------------------------- */

/* L2 tables that an L1 table leads to, by a bit for each hash. */
struct noted {
  uint8_t bits[(UINT32_C(1) << NOTED_BITS) / 8];
};

static uint32_t hash_offset(uint64_t offset)
{
  return (uint32_t) (offset * UINT64_C(0x9e3779b97f4a7c15) >> (64 - NOTED_BITS));
}

/* True if most of the words in the cluster are noted: it is of another L1 table then. */
static bool is_noted(const struct noted *noted, const uint8_t *bytes, uint32_t size)
{
  size_t words = 0, known = 0;

  for (uint32_t at = 0; at < size; at += 8) {
    uint64_t offset = be64_get(bytes + at) & TABLE_OFFSET_MASK;
    uint32_t hash = hash_offset(offset);

    words += offset != 0;
    known += offset != 0 && (noted->bits[hash / 8] >> hash % 8 & 1) != 0;
  }
  return known * 2 > words;
}

static void note(struct noted *noted, const uint8_t *bytes, uint32_t size)
{
  for (uint32_t at = 0; at < size; at += 8) {
    uint32_t hash = hash_offset(be64_get(bytes + at) & TABLE_OFFSET_MASK);

    noted->bits[hash / 8] |= (uint8_t) (1u << hash % 8);
  }
}

/* The number of clusters from `cluster` on, of which the last belongs to the L1 table that the
   noted clusters before it begin; 0: the table ends before. The cluster is left in `l1`. */
static uint64_t continuation(struct qcow2_trial *trial, const struct noted *noted, uint64_t cluster,
                             uint8_t *l1)
{
  uint32_t size = trial->geometry.cluster_size;

  for (uint64_t gap = 0; gap < GAP_CLUSTERS_MAX; gap++) {
    uint64_t offset = (cluster + gap) * size;
    bool is_l1 = (qcow2_trial_kind(trial, offset) & TRIAL_L1) != 0;

    if (offset >= trial->storage->size || !qcow2_trial_read(trial, offset, l1))
      return 0;
    if (is_l1)
      return is_noted(noted, l1, size) ? 0 : gap + 1;
    if (!qcow2_residue_is_zero(l1, size))
      return 0;
  }
  return 0;
}

/* The clusters of the L1 table that begins there. */
static uint64_t chain_length(struct qcow2_trial *trial, const struct qcow2_layouts *layouts,
                             size_t first_snapshot, uint64_t cluster, uint8_t *l1)
{
  struct noted *noted = calloc(1, sizeof(*noted));
  uint32_t size = trial->geometry.cluster_size;
  uint64_t length = 1, more = noted != NULL;

  if (!qcow2_trial_read(trial, cluster * size, l1))
    more = 0;
  while (more > 0 && length < CHAIN_CLUSTERS_MAX) {
    bool is_full = be64_get(l1 + size - 8) != 0;

    note(noted, l1, size);
    more = 0;
    if ((is_full || trial->geometry.cluster_bits < SMALL_TABLE_BITS) &&
        snapshot_at(layouts, first_snapshot, (cluster + length) * size) == NULL)
      more = continuation(trial, noted, cluster + length, l1);
    length += more;
  }
  free(noted);
  return length;
}

static void look_at_chains(struct qcow2_layouts *layouts, struct qcow2_trial *trial,
                           size_t first_snapshot, uint8_t *l1)
{
  uint64_t next = 0;

  for (size_t i = 0; i < trial->count && !trial->is_bounded; i++) {
    uint64_t cluster = trial->tables[i] >> TRIAL_KIND_BITS;
    uint64_t offset = cluster << trial->geometry.cluster_bits, length;
    struct candidate candidate = { .trial = trial,
                                   .rebuilt = { .layout = { .l1_offset = offset } },
                                   .l1 = l1 };

    if ((trial->tables[i] & TRIAL_L1) == 0 || cluster < next || cluster == 0 ||
        snapshot_at(layouts, first_snapshot, offset) != NULL)
      continue;
    length = chain_length(trial, layouts, first_snapshot, cluster, l1);
    next = cluster + length;
    candidate.l1_entries = length * (trial->geometry.cluster_size / 8);
    look_at_l1(layouts, &candidate, first_snapshot);
  }
}

int qcow2_layouts_add(struct qcow2_layouts *layouts, struct qcow2_trial *trial,
                      struct qcow2_error *error)
{
  size_t first_snapshot = layouts->snapshot_count, first = layouts->count;
  uint8_t *l1 = malloc(trial->geometry.cluster_size);
  struct qcow2_rebuilt lone;
  int code = l1 == NULL ? qcow2_error_set_nomem(error) : find_snapshots(layouts, trial, error);

  if (code == 0) {
    look_at_snapshots(layouts, trial, first_snapshot, l1);
    look_at_chains(layouts, trial, first_snapshot, l1);
  }
  for (size_t i = first; i < layouts->count; i++)
    layouts->items[i].stray_tables = qcow2_trial_strays(trial);
  if (code == 0 && layouts->count == first && qcow2_trial_strays(trial) > 0 &&
      qcow2_lone_tables_look(trial, &lone))
    add(layouts, &lone);
  free(l1);
  return code;
}
