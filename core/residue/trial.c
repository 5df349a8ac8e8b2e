/* SPDX-License-Identifier: MIT */
#include "trial.h"

#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../format/cluster.h"
#include "../storage/storage.h"

/* 8 MiB. */
#define TABLES_MAX ((size_t) 1 << 20)
#define KIND_MASK ((UINT64_C(1) << TRIAL_KIND_BITS) - 1)
/* An L2 table is recognised after so many entries that lead to no table. */
#define STRAYS_MAX 8u
/* L2 tables of which a refcount table must say that they are in use. */
#define SAMPLES_MAX 64u
/* Tables that were taken for the refcount table. */
#define REFCOUNT_TABLES_MAX 64u
/* What images have whose creator did not ask for another width. */
#define REFCOUNT_ORDER_USUAL 4u
/* A read costs at least as much as that of a page. */
#define READ_COST_MIN UINT64_C(4096)

bool qcow2_trial_read(struct qcow2_trial *trial, uint64_t host_offset, uint8_t *buffer)
{
  uint32_t size = trial->geometry.cluster_size;
  uint64_t left = host_offset < trial->storage->size ? trial->storage->size - host_offset : 0;
  size_t length = (size_t) min_u64(size, left);

  uint64_t cost = size < READ_COST_MIN ? READ_COST_MIN : size;

  if (*trial->work < cost) {
    trial->is_bounded = true;
    return false;
  }
  *trial->work -= cost;
  if (length > 0 && qcow2_storage_read(trial->storage, host_offset, buffer, length, NULL) != 0)
    length = 0;
  memset(buffer + length, 0, size - length);
  return true;
}

/* ---- Which clusters are tables --------------------------------------------------- */

/* True if the extended entries in trial->bytes are all compressed: they have no bitmaps, so they
   also look like standard ones. */
static bool is_compressed_only(const struct qcow2_trial *trial)
{
  for (uint32_t at = 0; at < trial->geometry.cluster_size; at += 16) {
    uint64_t word = be64_get(trial->bytes + at);

    if ((word != 0 && (word & L2_ENTRY_COMPRESSED) == 0) || be64_get(trial->bytes + at + 8) != 0)
      return false;
  }
  return true;
}

/* What the bytes in trial->bytes are. Extended entries with bitmaps look like no standard ones; but
   many a standard table looks like an extended one. */
static unsigned kind_of_table(const struct qcow2_trial *trial)
{
  size_t words = trial->geometry.cluster_size / 8;
  bool is_standard = qcow2_residue_is_table_of(&trial->looks, trial->bytes, words, 1);

  if (trial->geometry.has_data_file)
    return (is_standard ? TRIAL_TABLE : 0) |
           (qcow2_residue_is_used_l2(&trial->looks, trial->bytes) ? TRIAL_L2 : 0);
  if (!trial->geometry.extended_l2)
    return is_standard ? TRIAL_TABLE | TRIAL_L2 : 0;
  return (is_standard ? TRIAL_TABLE : 0) |
         ((!is_standard || is_compressed_only(trial)) &&
                  qcow2_residue_is_table_of(&trial->looks, trial->bytes, words, 2)
              ? TRIAL_L2
              : 0);
}

/* Note the cluster if it is a table. */
static bool look_at_cluster(struct qcow2_trial *trial, uint64_t cluster)
{
  const struct qcow2_geometry *geometry = &trial->geometry;
  unsigned kind;

  if (!qcow2_trial_read(trial, cluster << geometry->cluster_bits, trial->bytes))
    return false;
  kind = kind_of_table(trial);
  if (kind != 0 && trial->count == trial->capacity) {
    trial->is_bounded = true;
    return false;
  }
  if (kind != 0)
    trial->tables[trial->count++] = cluster << TRIAL_KIND_BITS | kind;
  return true;
}

/* True if the sectors can be of a table of this trial's. */
static bool can_be_of(const struct qcow2_trial *trial, const struct qcow2_run_of_marks *run)
{
  if (run->is_standard)
    return true;
  return trial->geometry.has_data_file ? run->is_to_data
                                       : trial->geometry.extended_l2 && run->is_extended;
}

static void find_tables(struct qcow2_trial *trial)
{
  uint64_t sectors = trial->geometry.cluster_size / MARK_SECTOR_BYTES, next = 1;

  for (size_t i = 0; i < trial->marks->count; i++) {
    const struct qcow2_run_of_marks *run = &trial->marks->runs[i];
    uint64_t first = run->first / sectors, last = (run->first + run->count - 1) / sectors;

    if (run->bits < trial->geometry.cluster_bits || !can_be_of(trial, run))
      continue;
    for (uint64_t cluster = first < next ? next : first; cluster <= last; cluster++)
      if (!look_at_cluster(trial, cluster))
        return;
    next = last + 1 > next ? last + 1 : next;
  }
}

static int compare_tables(const void *one, const void *other)
{
  uint64_t a = *(const uint64_t *) one >> TRIAL_KIND_BITS;
  uint64_t b = *(const uint64_t *) other >> TRIAL_KIND_BITS;

  return a < b ? -1 : a > b;
}

/* The table at a host offset; NULL: there is none. */
static uint64_t *find_table(const struct qcow2_trial *trial, uint64_t host_offset)
{
  uint64_t key = host_offset >> trial->geometry.cluster_bits << TRIAL_KIND_BITS;

  return trial->count == 0 || !is_aligned(host_offset, trial->geometry.cluster_size)
             ? NULL
             : bsearch(&key, trial->tables, trial->count, sizeof(key), compare_tables);
}

unsigned qcow2_trial_kind(const struct qcow2_trial *trial, uint64_t host_offset)
{
  const uint64_t *found = find_table(trial, host_offset);

  return found == NULL ? 0 : (unsigned) (*found & KIND_MASK);
}

bool qcow2_trial_is_own_cluster(struct qcow2_trial *trial, uint64_t offset)
{
  return offset < trial->storage->size && qcow2_trial_kind(trial, offset) == 0 &&
         qcow2_guessed_refcount(&trial->refcounts, offset) > 0;
}

void qcow2_trial_reach(struct qcow2_trial *trial, uint64_t host_offset)
{
  uint64_t *found = find_table(trial, host_offset);

  if (found != NULL)
    *found |= TRIAL_REACHED;
}

uint64_t qcow2_trial_strays(const struct qcow2_trial *trial)
{
  uint64_t strays = 0;

  for (size_t i = 0; i < trial->count; i++)
    strays += (trial->tables[i] & (TRIAL_L1 | TRIAL_L2 | TRIAL_REACHED)) == TRIAL_L2;
  return strays;
}

/* ---- Which of them are L1 tables ---------------------------------------------------- */

/* True if the table in trial->bytes leads to L2 tables, more than not. */
static bool leads_to_tables(const struct qcow2_trial *trial)
{
  size_t tables = 0, strays = 0;

  for (uint32_t at = 0; at < trial->geometry.cluster_size; at += 8) {
    uint64_t word = be64_get(trial->bytes + at);

    if ((word & ~(TABLE_OFFSET_MASK | L2_ENTRY_COPIED)) != 0 || strays > STRAYS_MAX + tables)
      return false;
    if (word == 0)
      continue;
    if ((qcow2_trial_kind(trial, word & TABLE_OFFSET_MASK) & TRIAL_L2) != 0)
      tables++;
    else
      strays++;
  }
  return tables > 0 && tables >= strays;
}

/* With an external data file, an L2 table can lead to offsets at which this file has tables, and
   look like an L1 table. False: the table in trial->bytes is such a one. The tables of an L1 table
   say themselves which of its entries they belong to. */
static bool is_l1_of_data_file(struct qcow2_trial *trial)
{
  const struct qcow2_geometry *geometry = &trial->geometry;
  uint32_t per_cluster = geometry->cluster_size / 8;

  if (!qcow2_residue_is_used_l2(&trial->looks, trial->bytes))
    return true;
  for (uint32_t index = 0; index < per_cluster; index++) {
    uint64_t word = be64_get(trial->bytes + (size_t) index * 8) & TABLE_OFFSET_MASK;

    if (word == 0 || (qcow2_trial_kind(trial, word) & TRIAL_L2) == 0)
      continue;
    if (!qcow2_trial_read(trial, word, trial->cluster))
      return false;
    for (uint32_t at = 0; at < geometry->cluster_size; at += geometry->l2_entry_bytes) {
      uint64_t descriptor = be64_get(trial->cluster + at);

      if (qcow2_l2_entry_is_allocated(geometry, descriptor))
        return geometry_l1_index(geometry, descriptor & TABLE_OFFSET_MASK) % per_cluster == index;
    }
  }
  return false;
}

/* Host offsets of L2 tables, from all over the file. Returns how many. */
static size_t sample_tables(const struct qcow2_trial *trial, uint64_t samples[SAMPLES_MAX])
{
  size_t step = trial->count / SAMPLES_MAX + 1, count = 0;

  for (size_t i = 0; i < trial->count; i += step)
    if ((trial->tables[i] & TRIAL_L2) != 0)
      samples[count++] = trial->tables[i] >> TRIAL_KIND_BITS << trial->geometry.cluster_bits;
  return count;
}

/* True if no word of the table in trial->bytes has a flag: those of a refcount table have none. */
static bool has_no_flags(const struct qcow2_trial *trial)
{
  for (uint32_t at = 0; at < trial->geometry.cluster_size; at += 8)
    if ((be64_get(trial->bytes + at) & ~TABLE_OFFSET_MASK) != 0)
      return false;
  return true;
}

static void tell_tables(struct qcow2_trial *trial)
{
  uint64_t samples[SAMPLES_MAX];
  size_t count = sample_tables(trial, samples), tries = REFCOUNT_TABLES_MAX;

  for (size_t i = 0; i < trial->count; i++) {
    uint64_t offset = trial->tables[i] >> TRIAL_KIND_BITS << trial->geometry.cluster_bits;
    bool leads;

    if ((trial->tables[i] & TRIAL_TABLE) == 0)
      continue;
    if (!qcow2_trial_read(trial, offset, trial->bytes))
      return;
    leads = leads_to_tables(trial);
    if (leads && (!trial->geometry.has_data_file || is_l1_of_data_file(trial)))
      trial->tables[i] |= TRIAL_L1;
    else if (!leads && tries > 0 && has_no_flags(trial) &&
             qcow2_guessed_refcounts_try(&trial->refcounts, offset, samples, count))
      tries--;
  }
  qcow2_trial_reach(trial, trial->refcounts.table_offset);
}

/* ---- Streams ------------------------------------------------------------------------ */

bool qcow2_trial_decompress(struct qcow2_trial *trial, uint64_t descriptor,
                            enum qcow2_compression *compression)
{
  const struct qcow2_l2_entry entry = { .descriptor = descriptor };
  struct qcow2_cluster_part part = qcow2_l2_entry_decode(&trial->geometry, &entry, 0);
  uint64_t size = trial->storage->size;
  enum qcow2_compression wanted = *compression;
  size_t length;

  if (part.kind != QCOW2_CLUSTER_COMPRESSED || part.host_offset >= size)
    return false;
  length = (size_t) min_u64(min_u64(part.host_bytes, 2 * (uint64_t) trial->geometry.cluster_size),
                            size - part.host_offset);
  if (qcow2_storage_read(trial->storage, part.host_offset, trial->packed, length, NULL) != 0)
    return false;
  for (unsigned i = 0; i < 2; i++) {
    struct qcow2_stream_end end = { .length = 0 };

    if (qcow2_decompress(trial->decompressor, wanted, trial->packed, length, trial->cluster,
                         trial->geometry.cluster_size, &end, NULL) == 0 &&
        end.has_ended) {
      *compression = wanted;
      return true;
    }
    wanted = wanted == QCOW2_COMPRESSION_ZSTD ? QCOW2_COMPRESSION_DEFLATE : QCOW2_COMPRESSION_ZSTD;
  }
  return false;
}

/* ---- Encryption ---------------------------------------------------------------------- */

void qcow2_trial_count_random(struct qcow2_trial *trial,
                              const struct qcow2_randomness_samples *samples,
                              struct qcow2_rebuilt *rebuilt)
{
  size_t length = (size_t) min_u64(trial->geometry.cluster_size, RANDOMNESS_BYTES_MAX);

  for (unsigned i = 0; i < samples->count; i++) {
    if (!qcow2_trial_read(trial, samples->offsets[i], trial->cluster))
      return;
    if (qcow2_residue_is_zero(trial->cluster, length))
      continue;
    rebuilt->clusters_tried++;
    rebuilt->clusters_random += qcow2_randomness_is_high(trial->cluster, length);
  }
}

/* ---- Making --------------------------------------------------------------------------- */

static int allocate(struct qcow2_trial *trial, struct qcow2_error *error)
{
  size_t size = trial->geometry.cluster_size;

  trial->capacity = (size_t) min_u64(trial->storage->size / size + 1, TABLES_MAX);
  trial->tables = calloc(trial->capacity, sizeof(trial->tables[0]));
  trial->looks.scratch = malloc(size);
  trial->bytes = malloc(size);
  trial->refcounts.block = malloc(size);
  trial->packed = malloc(2 * size);
  trial->cluster = malloc(size);
  trial->decompressor = qcow2_decompressor_new();
  if (trial->tables == NULL || trial->looks.scratch == NULL || trial->bytes == NULL ||
      trial->refcounts.block == NULL || trial->packed == NULL || trial->cluster == NULL ||
      trial->decompressor == NULL)
    return qcow2_error_set_nomem(error);
  return 0;
}

int qcow2_trial_make(const struct qcow2_storage *storage, const struct qcow2_marks *marks,
                     unsigned cluster_bits, uint64_t features, uint64_t *work,
                     struct qcow2_trial *trial, struct qcow2_error *error)
{
  const struct qcow2_header header = { .version = 3,
                                       .cluster_bits = cluster_bits,
                                       .incompatible_features = features };
  int code;

  *trial = (struct qcow2_trial){
    .storage = storage, .marks = marks, .geometry = qcow2_geometry_of(&header), .work = work
  };
  trial->refcounts = (struct qcow2_guessed_refcounts){ .storage = storage,
                                                       .cluster_bits = cluster_bits,
                                                       .work = work };
  trial->looks.geometry = &trial->geometry;
  trial->looks.refcount_order = REFCOUNT_ORDER_USUAL;
  trial->looks.file_size = storage->size;
  code = allocate(trial, error);
  if (code != 0)
    return code;
  find_tables(trial);
  tell_tables(trial);
  return 0;
}

void qcow2_trial_free(struct qcow2_trial *trial)
{
  qcow2_decompressor_free(trial->decompressor);
  free(trial->tables);
  free(trial->looks.scratch);
  free(trial->bytes);
  free(trial->refcounts.block);
  free(trial->packed);
  free(trial->cluster);
  memset(trial, 0, sizeof(*trial));
}
