/* SPDX-License-Identifier: MIT */
#include "votes.h"

#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../check/checker.h"
#include "../format/cluster.h"
#include "../storage/storage.h"
#include "classify.h"
#include "window.h"

/* As in a walk for labels: 8 MiB for the states of clusters, 8 MiB for ranges. */
#define CLUSTERS_MAX (UINT64_C(32) << 20)
#define RANGES_MAX ((size_t) 1 << 19)
/* 3 MiB for tables, and 32 MiB for what is compared of them. */
#define ORPHANS_MAX 65536u
#define SAMPLES_MAX 32u
/* Votes that are counted: a second of work. Images that were not made to have more have one for
   each sample and state. */
#define VOTES_MAX (UINT64_C(1) << 28)
/* The bits for entries of tables that have no place: 16 MiB. */
#define LOST_BYTES_MAX ((size_t) 16 << 20)
/* Different places that a table can have votes for. */
#define PLACES_MAX 3u

struct orphan {
  uint64_t cluster;
  bool is_out; /* it is no L2 table, or an L1 table leads to it */
  struct {
    uint32_t l1_index, votes;
  } places[PLACES_MAX];
};

/* An entry of an orphan. */
struct sample {
  uint64_t descriptor; /* what it names */
  uint32_t index;
  uint32_t orphan; /* its number */
};

struct votes {
  const struct qcow2_layer *layer;
  struct qcow2_residue_window window;
  struct qcow2_residue_walk walk;
  struct qcow2_residue_looks looks;
  struct orphan *orphans; /* ascending */
  size_t orphan_count;
  struct sample *samples; /* ascending by index and descriptor */
  size_t sample_count;
  size_t of_old_l1;       /* orphans that belong to old L1 tables */
  uint64_t *of_snapshots; /* votes for each snapshot and, last, for the active disk */
  uint64_t votes_left;
  uint8_t *bytes; /* a cluster */
  bool is_complete;
};

/* ---- Tables that nothing refers to -------------------------------------------------- */

static bool read_cluster(struct votes *votes, uint64_t cluster)
{
  uint32_t size = votes->layer->geometry.cluster_size;

  return range_fits(cluster * size, size, votes->layer->file.storage.size) &&
         qcow2_storage_read(&votes->layer->file.storage, cluster * size, votes->bytes, size,
                            NULL) == 0;
}

static void look_at_cluster(struct votes *votes, uint64_t cluster)
{
  if (!read_cluster(votes, cluster) || !qcow2_residue_is_used_l2(&votes->looks, votes->bytes))
    return;
  if (votes->orphan_count == ORPHANS_MAX)
    votes->is_complete = false;
  else
    votes->orphans[votes->orphan_count++] = (struct orphan){ .cluster = cluster };
}

static void look_at_part(struct votes *votes)
{
  const struct qcow2_residue_map *map = &votes->window.map;
  const struct qcow2_storage *storage = &votes->layer->file.storage;
  uint64_t data = 0;

  for (uint64_t cluster = map->first; cluster < map->end; cluster++) {
    uint64_t offset = cluster << map->cluster_bits, end = (cluster + 1) << map->cluster_bits;

    if (qcow2_residue_map_state(map, cluster) != RESIDUE_FREE)
      continue;
    if (data < end)
      data = qcow2_storage_next_data(storage, offset);
    if (data < end)
      look_at_cluster(votes, cluster);
  }
}

static int find_orphans(struct votes *votes, struct qcow2_error *error)
{
  uint64_t clusters = qcow2_residue_window_file_clusters(&votes->window);
  int code = 0;

  for (uint64_t first = 0; code == 0 && first < clusters; first = votes->window.map.end) {
    code = qcow2_residue_window_move(&votes->window, first, &votes->walk, error);
    if (code == 0)
      look_at_part(votes);
  }
  return code;
}

static struct orphan *find_orphan(const struct votes *votes, uint64_t cluster)
{
  size_t low = 0, high = votes->orphan_count;

  while (low < high) {
    size_t middle = low + (high - low) / 2;

    if (votes->orphans[middle].cluster < cluster)
      low = middle + 1;
    else
      high = middle;
  }
  return low < votes->orphan_count && votes->orphans[low].cluster == cluster ? &votes->orphans[low]
                                                                             : NULL;
}

/* ---- Old L1 tables -------------------------------------------------------------------- */

/* True if most entries of the table in votes->bytes lead to orphans: it is an old L1 table. */
static bool is_old_l1(const struct votes *votes)
{
  const struct qcow2_geometry *geometry = &votes->layer->geometry;
  size_t leads = 0, others = 0;

  for (uint32_t at = 0; at < geometry->cluster_size; at += 8) {
    uint64_t word = be64_get(votes->bytes + at), offset = word & TABLE_OFFSET_MASK;

    if ((word & L2_ENTRY_COMPRESSED) != 0 || offset == 0)
      continue;
    if (find_orphan(votes, offset >> geometry->cluster_bits) != NULL)
      leads++;
    else
      others++;
  }
  return leads > others;
}

/* The tables that the L1 table in votes->bytes leads to belong to what it is of. */
static void leave_out_own(struct votes *votes)
{
  const struct qcow2_geometry *geometry = &votes->layer->geometry;

  for (uint32_t at = 0; at < geometry->cluster_size; at += 8) {
    struct orphan *own = find_orphan(votes, (be64_get(votes->bytes + at) & TABLE_OFFSET_MASK) >>
                                                geometry->cluster_bits);

    votes->of_old_l1 += own != NULL && !own->is_out;
    if (own != NULL)
      own->is_out = true;
  }
}

static void leave_out_l1(struct votes *votes)
{
  for (size_t i = 0; i < votes->orphan_count; i++)
    if (read_cluster(votes, votes->orphans[i].cluster) && is_old_l1(votes)) {
      votes->orphans[i].is_out = true;
      leave_out_own(votes);
    }
}

/* ---- What is compared ------------------------------------------------------------------ */

static uint64_t named_by(uint64_t descriptor)
{
  return (descriptor & L2_ENTRY_COMPRESSED) != 0 ? descriptor & ~L2_ENTRY_COPIED
                                                 : descriptor & TABLE_OFFSET_MASK;
}

/* Take entries from all over the table in votes->bytes. */
static void take_samples(struct votes *votes, uint32_t orphan)
{
  const struct qcow2_geometry *geometry = &votes->layer->geometry;
  uint32_t entries = UINT32_C(1) << geometry->l2_bits, used = 0, seen = 0, step;

  for (uint32_t index = 0; index < entries; index++)
    used += named_by(be64_get(votes->bytes + (size_t) index * geometry->l2_entry_bytes)) != 0;
  step = used <= SAMPLES_MAX ? 1 : used / SAMPLES_MAX + 1;
  for (uint32_t index = 0; index < entries; index++) {
    uint64_t entry = be64_get(votes->bytes + (size_t) index * geometry->l2_entry_bytes);

    if (named_by(entry) != 0 && seen++ % step == 0)
      votes->samples[votes->sample_count++] =
          (struct sample){ .descriptor = named_by(entry), .index = index, .orphan = orphan };
  }
}

static int compare_samples(const void *one, const void *other)
{
  const struct sample *a = one, *b = other;

  if (a->index != b->index)
    return a->index < b->index ? -1 : 1;
  return a->descriptor < b->descriptor ? -1 : a->descriptor > b->descriptor;
}

static int take_all_samples(struct votes *votes, struct qcow2_error *error)
{
  votes->samples = malloc((votes->orphan_count * SAMPLES_MAX + 1) * sizeof(votes->samples[0]));
  if (votes->samples == NULL)
    return qcow2_error_set_nomem(error);
  for (size_t i = 0; i < votes->orphan_count; i++)
    if (!votes->orphans[i].is_out && read_cluster(votes, votes->orphans[i].cluster))
      take_samples(votes, (uint32_t) i);
  qsort(votes->samples, votes->sample_count, sizeof(votes->samples[0]), compare_samples);
  return 0;
}

/* ---- Voting ------------------------------------------------------------------------------ */

static void vote(struct orphan *orphan, uint32_t l1_index)
{
  for (unsigned i = 0; i < PLACES_MAX; i++)
    if (orphan->places[i].votes == 0 || orphan->places[i].l1_index == l1_index) {
      orphan->places[i].l1_index = l1_index;
      orphan->places[i].votes++;
      return;
    }
}

static bool wants_l2(void *context, const struct qcow2_checked_l1_entry *entry)
{
  (void) context;
  (void) entry;
  return true;
}

static bool is_own_l1_entry(void *context, const struct qcow2_checked_l1_entry *entry)
{
  (void) context;
  (void) entry;
  return false;
}

/* An entry of a table that the image has: let it vote for those that have the same. What the active
   disk shares with an abandoned state is the snapshot's, too, so QEMU cleared COPIED there. If it
   is set, the cluster was reused. Or the snapshot was deleted since, but that cannot be told apart.
 */
static bool vote_by_entry(void *context, const struct qcow2_checked_l2_entry *checked)
{
  struct votes *votes = context;
  const struct qcow2_geometry *geometry = &votes->layer->geometry;
  const struct sample key = { named_by(checked->entry.descriptor),
                              geometry_l2_index(geometry, checked->guest_offset), 0 };
  size_t low = 0, high = votes->sample_count, snapshot = checked->disk->snapshot_index;

  if (snapshot == QCOW2_ACTIVE && (checked->entry.descriptor & L2_ENTRY_COPIED) != 0)
    return false;
  while (low < high) {
    size_t middle = low + (high - low) / 2;

    if (compare_samples(&votes->samples[middle], &key) < 0)
      low = middle + 1;
    else
      high = middle;
  }
  for (; low < votes->sample_count && compare_samples(&votes->samples[low], &key) == 0; low++) {
    if (votes->votes_left == 0) {
      votes->is_complete = false;
      return false;
    }
    votes->votes_left--;
    vote(&votes->orphans[votes->samples[low].orphan],
         (uint32_t) geometry_l1_index(geometry, checked->guest_offset));
    if (snapshot == QCOW2_ACTIVE)
      snapshot = votes->window.image->snapshots.count;
    votes->of_snapshots[snapshot]++;
  }
  return false;
}

static int let_all_vote(struct votes *votes, struct qcow2_error *error)
{
  const struct qcow2_residue_own own = {
    .context = votes, .l1_entry = is_own_l1_entry, .wants_l2 = wants_l2, .l2_entry = vote_by_entry
  };
  int code;

  votes->walk.own = &own;
  code = qcow2_residue_window_move(&votes->window, 0, &votes->walk, error);
  votes->walk.own = NULL;
  return code;
}

/* ---- Placing ------------------------------------------------------------------------------ */

/* The place with more than half of an orphan's votes. False: there is none. */
static bool choose(const struct orphan *orphan, uint32_t *l1_index, uint32_t *count)
{
  uint64_t all = 0;

  *count = 0;
  for (unsigned i = 0; i < PLACES_MAX; i++) {
    all += orphan->places[i].votes;
    if (orphan->places[i].votes > *count) {
      *count = orphan->places[i].votes;
      *l1_index = orphan->places[i].l1_index;
    }
  }
  return *count > 0 && *count * UINT64_C(2) > all;
}

static size_t choose_base(const struct votes *votes)
{
  size_t count = votes->window.image->snapshots.count, best = count;

  for (size_t i = 0; i < count; i++)
    if (votes->of_snapshots[i] > 0 &&
        (best == count ? votes->of_snapshots[i] >= votes->of_snapshots[best]
                       : votes->of_snapshots[i] > votes->of_snapshots[best]))
      best = i;
  return best == count ? QCOW2_ACTIVE : best;
}

/* Note which entries the tables that have no place use. */
static int note_lost(struct votes *votes, struct qcow2_placed *placed, struct qcow2_error *error)
{
  const struct qcow2_geometry *geometry = &votes->layer->geometry;
  uint32_t entries = UINT32_C(1) << geometry->l2_bits;
  uint8_t *bits;
  uint32_t unused, votes_of;

  if (placed->lost == 0 || placed->lost > LOST_BYTES_MAX / (entries / 8))
    return 0;
  bits = placed->lost_entries = calloc(placed->lost, entries / 8);
  if (bits == NULL)
    return qcow2_error_set_nomem(error);
  for (size_t i = 0; i < votes->orphan_count; i++) {
    if (votes->orphans[i].is_out || choose(&votes->orphans[i], &unused, &votes_of))
      continue;
    if (read_cluster(votes, votes->orphans[i].cluster))
      for (uint32_t index = 0; index < entries; index++)
        bits[index / 8] |= (uint8_t) (qcow2_placed_is_used(geometry, votes->bytes, index)
                                      << index % 8);
    bits += entries / 8;
  }
  return 0;
}

static int place(struct votes *votes, struct qcow2_placed *placed, struct qcow2_error *error)
{
  unsigned bits = votes->layer->geometry.cluster_bits;

  placed->tables = malloc((votes->orphan_count + 1) * sizeof(placed->tables[0]));
  placed->lost_tables = malloc((votes->orphan_count + 1) * sizeof(placed->lost_tables[0]));
  if (placed->tables == NULL || placed->lost_tables == NULL)
    return qcow2_error_set_nomem(error);
  for (size_t i = 0; i < votes->orphan_count; i++) {
    struct qcow2_placed_table table = { .l2_offset = votes->orphans[i].cluster << bits };

    if (votes->orphans[i].is_out)
      continue;
    if (choose(&votes->orphans[i], &table.l1_index, &table.votes))
      placed->tables[placed->count++] = table;
    else
      placed->lost_tables[placed->lost++] = table.l2_offset;
  }
  qcow2_placed_keep_best(placed);
  placed->of_old_l1 = votes->of_old_l1;
  placed->base = choose_base(votes);
  placed->is_complete = votes->is_complete;
  return note_lost(votes, placed, error);
}

/* ---- The whole ------------------------------------------------------------------------------ */

static int votes_make(struct votes *votes, const struct qcow2_image *image,
                      struct qcow2_error *error)
{
  const struct qcow2_layer *layer = image->chain.layers[0];
  int code = qcow2_residue_window_make(&votes->window, image, CLUSTERS_MAX, RANGES_MAX, error);

  votes->layer = layer;
  votes->walk = (struct qcow2_residue_walk){ .work = RESIDUE_WORK_BYTES };
  votes->votes_left = VOTES_MAX;
  votes->is_complete = true;
  if (code != 0)
    return code;
  votes->looks =
      (struct qcow2_residue_looks){ .geometry = &layer->geometry,
                                    .refcount_order = layer->metadata.header.refcount_order,
                                    .file_size = layer->file.storage.size,
                                    .scratch = malloc(layer->geometry.cluster_size) };
  votes->orphans = malloc(ORPHANS_MAX * sizeof(votes->orphans[0]));
  votes->of_snapshots = calloc(image->snapshots.count + 1, sizeof(votes->of_snapshots[0]));
  votes->bytes = malloc(layer->geometry.cluster_size);
  if (votes->looks.scratch == NULL || votes->orphans == NULL || votes->of_snapshots == NULL ||
      votes->bytes == NULL)
    return qcow2_error_set_nomem(error);
  return 0;
}

static void votes_free(struct votes *votes)
{
  qcow2_residue_window_free(&votes->window);
  free(votes->looks.scratch);
  free(votes->orphans);
  free(votes->samples);
  free(votes->of_snapshots);
  free(votes->bytes);
}

int qcow2_votes_place(const struct qcow2_image *image, struct qcow2_placed *placed,
                      struct qcow2_error *error)
{
  struct votes votes = { .layer = NULL };
  int code = votes_make(&votes, image, error);

  memset(placed, 0, sizeof(*placed));
  if (code == 0)
    code = find_orphans(&votes, error);
  if (code == 0) {
    if (!votes.layer->geometry.has_data_file) /* no orphan can be an L1 table then */
      leave_out_l1(&votes);
    code = take_all_samples(&votes, error);
  }
  if (code == 0)
    code = let_all_vote(&votes, error);
  if (code == 0)
    code = place(&votes, placed, error);
  votes_free(&votes);
  return code;
}
