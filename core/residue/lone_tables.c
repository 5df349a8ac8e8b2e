/* SPDX-License-Identifier: MIT */
#include "lone_tables.h"

#include <string.h>

#include "../base/checked.h"
#include "../format/cluster.h"
#include "../storage/storage.h"
#include "disk_start.h"

/* As for layouts that have an L1 table. */
#define STREAMS_TRIED_MAX 8u
#define CHANCE_CLUSTERS 6u

struct lone {
  struct qcow2_trial *trial;
  struct qcow2_rebuilt *rebuilt;
  uint64_t offsets; /* all host offsets, by "or" */
  bool has_odd;     /* an entry of an odd index is in use: entries are not twice as long */
  enum qcow2_compression compression;
  struct qcow2_randomness_samples samples; /* of the clusters that are stored as they are */
  uint64_t size; /* of the disk, by its partition table; 0: none was found */
  uint64_t end;  /* of the last cluster in an external data file; else 0 */
  uint64_t used; /* clusters of that file which this file's own refcounts call used */
};

/* ---- The size ---------------------------------------------------------------------- */

/* Read the first bytes of the cluster that an entry names. */
static bool read_start(struct lone *lone, const struct qcow2_l2_entry *entry, uint8_t *out,
                       size_t length)
{
  struct qcow2_trial *trial = lone->trial;
  uint64_t offset = entry->descriptor & TABLE_OFFSET_MASK;

  if ((entry->descriptor & L2_ENTRY_COMPRESSED) == 0)
    return offset != 0 && qcow2_storage_read(trial->storage, offset, out, length, NULL) == 0;
  if (!qcow2_trial_decompress(trial, entry->descriptor, &lone->compression))
    return false;
  memcpy(out, trial->cluster, length);
  return true;
}

/* If the table in trial->bytes begins with the disk's partition table, that says how large the disk
   is, at least. */
static void look_for_size(struct lone *lone)
{
  const struct qcow2_geometry *geometry = &lone->trial->geometry;
  size_t piece = geometry->cluster_size < DISK_START_BYTES ? geometry->cluster_size
                                                           : DISK_START_BYTES;
  uint8_t bytes[DISK_START_BYTES] = { 0 };
  struct qcow2_disk_start start;
  uint64_t size = 0;

  for (size_t at = 0; at < sizeof(bytes); at += piece) {
    struct qcow2_l2_entry entry =
        l2_entry_load(geometry, lone->trial->bytes + at / piece * geometry->l2_entry_bytes);

    if (!read_start(lone, &entry, bytes + at, piece) && at == 0)
      return;
  }
  qcow2_disk_start_look(bytes, INT64_MAX, &start);
  if (start.kind == DISK_START_GPT && start.copy_offset < INT64_MAX)
    size = start.copy_offset + DISK_SECTOR_BYTES;
  for (uint32_t i = 0; i < start.count; i++)
    if (start.partitions[i].start + start.partitions[i].length > size)
      size = start.partitions[i].start + start.partitions[i].length;
  lone->size = size > lone->size ? size : lone->size;
}

/* ---- Counting ------------------------------------------------------------------------ */

static void count_stream(struct lone *lone, uint64_t descriptor)
{
  lone->rebuilt->compressed++;
  if (lone->rebuilt->streams_tried == STREAMS_TRIED_MAX)
    return;
  lone->rebuilt->streams_tried++;
  lone->rebuilt->streams_good += qcow2_trial_decompress(lone->trial, descriptor,
                                                        &lone->compression);
}

/* Count a cluster that is stored as it is. In an external data file it is where it is on the disk,
   so the disk is at least as large. */
static void count_stored(struct lone *lone, uint64_t host_offset)
{
  struct qcow2_trial *trial = lone->trial;
  uint64_t end = host_offset + trial->geometry.cluster_size;

  lone->rebuilt->clusters++;
  lone->offsets |= host_offset;
  if (!trial->geometry.has_data_file) {
    lone->rebuilt->bad_entries += host_offset >= trial->storage->size;
    qcow2_randomness_offer(&lone->samples, host_offset);
    return;
  }
  lone->end = end > lone->end ? end : lone->end;
  lone->used += qcow2_trial_is_own_cluster(trial, host_offset);
}

/* Count the table in trial->bytes. */
static void count_entries(struct lone *lone)
{
  const struct qcow2_trial *trial = lone->trial;
  const struct qcow2_geometry *geometry = &trial->geometry;

  for (uint32_t at = 0; at < geometry->cluster_size; at += geometry->l2_entry_bytes) {
    struct qcow2_l2_entry entry = l2_entry_load(geometry, trial->bytes + at);
    uint64_t offset = entry.descriptor & TABLE_OFFSET_MASK;

    if (entry.descriptor == 0)
      continue;
    lone->has_odd = lone->has_odd || at / geometry->l2_entry_bytes % 2 != 0;
    if ((entry.descriptor & L2_ENTRY_COMPRESSED) != 0)
      count_stream(lone, entry.descriptor);
    else if (qcow2_l2_entry_is_allocated(geometry, entry.descriptor))
      count_stored(lone, offset);
  }
}

static void count_tables(struct lone *lone)
{
  struct qcow2_trial *trial = lone->trial;

  for (size_t i = 0; i < trial->count; i++) {
    uint64_t offset = trial->tables[i] >> TRIAL_KIND_BITS << trial->geometry.cluster_bits;
    int64_t refcount;

    if ((trial->tables[i] & (TRIAL_L1 | TRIAL_L2 | TRIAL_REACHED)) != TRIAL_L2)
      continue;
    if (!qcow2_trial_read(trial, offset, trial->bytes))
      return;
    lone->rebuilt->l2_tables++;
    lone->offsets |= offset;
    refcount = qcow2_guessed_refcount(&trial->refcounts, offset);
    lone->rebuilt->tables_counted += refcount >= 0;
    lone->rebuilt->tables_in_use += refcount > 0;
    count_entries(lone);
    if (!trial->geometry.has_data_file)
      look_for_size(lone);
  }
}

bool qcow2_lone_tables_look(struct qcow2_trial *trial, struct qcow2_rebuilt *rebuilt)
{
  const struct qcow2_geometry *geometry = &trial->geometry;
  struct lone lone = { .trial = trial, .rebuilt = rebuilt };
  unsigned reach_bits = geometry->cluster_bits + geometry->l2_bits;

  *rebuilt = (struct qcow2_rebuilt){ .layout = { .cluster_bits = geometry->cluster_bits,
                                                 .flags = QCOW2_LAYOUT_NO_L1 } };
  count_tables(&lone);
  rebuilt->stray_tables = rebuilt->l2_tables;
  rebuilt->is_exact = (lone.offsets & geometry->cluster_size) != 0;
  rebuilt->size_source = lone.size > 0 ? QCOW2_REBUILT_BY_PARTITIONS : QCOW2_REBUILT_BY_TABLES;
  rebuilt->layout.size = lone.size > 0 ? lone.size : rebuilt->l2_tables << reach_bits;
  rebuilt->refcount_bits = qcow2_guessed_refcount_bits(&trial->refcounts);
  if (geometry->extended_l2)
    rebuilt->layout.flags |= QCOW2_LAYOUT_EXTENDED_L2;
  if (geometry->has_data_file) {
    rebuilt->layout.flags |= QCOW2_LAYOUT_DATA_FILE;
    rebuilt->layout.size = lone.end;
    if (lone.used * 2 >= rebuilt->clusters)
      return false;
  }
  if (rebuilt->compressed > 0 && lone.compression == QCOW2_COMPRESSION_ZSTD)
    rebuilt->layout.flags |= QCOW2_LAYOUT_ZSTD;
  if (!geometry->extended_l2 && geometry->cluster_bits >= CLUSTER_BITS_MIN_EXTENDED &&
      !lone.has_odd && rebuilt->compressed >= CHANCE_CLUSTERS)
    return false;
  if (rebuilt->clusters + rebuilt->compressed < CHANCE_CLUSTERS || !rebuilt->is_exact ||
      (rebuilt->streams_tried > 0 && rebuilt->streams_good == 0))
    return false;
  qcow2_trial_count_random(trial, &lone.samples, rebuilt);
  return true;
}
