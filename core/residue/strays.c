/* SPDX-License-Identifier: MIT */
#include "strays.h"

#include <stdlib.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../format/cluster.h"
#include "../storage/storage.h"
#include "classify.h"

/* 8 MiB of bits. */
#define CLUSTERS_MAX (UINT64_C(64) << 20)

struct strays {
  const struct qcow2_layer *layer;
  struct qcow2_residue_looks looks;
  uint64_t clusters; /* of the file */
  uint8_t *named;    /* a bit for each */
  uint8_t *bytes;    /* a cluster */
};

static void set_named(struct strays *strays, uint64_t host_offset, uint64_t length)
{
  unsigned bits = strays->layer->geometry.cluster_bits;
  uint64_t end = min_u64(((host_offset + length - 1) >> bits) + 1, strays->clusters);

  for (uint64_t cluster = host_offset >> bits; cluster < end; cluster++)
    strays->named[cluster / 8] |= (uint8_t) (1u << cluster % 8);
}

static bool read_cluster(struct strays *strays, uint64_t host_offset)
{
  uint32_t size = strays->layer->geometry.cluster_size;

  return range_fits(host_offset, size, strays->layer->file.storage.size) &&
         qcow2_storage_read(&strays->layer->file.storage, host_offset, strays->bytes, size, NULL) ==
             0;
}

/* Note what the table names, and itself. */
static void note_table(struct strays *strays, uint64_t l2_offset)
{
  const struct qcow2_geometry *geometry = &strays->layer->geometry;

  set_named(strays, l2_offset, geometry->cluster_size);
  if (!read_cluster(strays, l2_offset))
    return;
  for (uint32_t at = 0; at < geometry->cluster_size; at += geometry->l2_entry_bytes) {
    struct qcow2_l2_entry entry = l2_entry_load(geometry, strays->bytes + at);
    struct qcow2_cluster_part part = qcow2_l2_entry_decode(geometry, &entry, 0);

    if (part.kind == QCOW2_CLUSTER_COMPRESSED)
      set_named(strays, part.host_offset, part.host_bytes);
    else if ((entry.descriptor & TABLE_OFFSET_MASK) != 0 && !geometry->has_data_file)
      set_named(strays, entry.descriptor & TABLE_OFFSET_MASK, geometry->cluster_size);
  }
}

/* Count clusters that have content and no name, to the limit. */
static uint64_t count(struct strays *strays, uint64_t limit)
{
  const struct qcow2_storage *storage = &strays->layer->file.storage;
  unsigned bits = strays->layer->geometry.cluster_bits;
  uint64_t found = 0, data = 0;

  for (uint64_t cluster = 1; cluster < strays->clusters && found <= limit; cluster++) {
    uint64_t end = (cluster + 1) << bits;

    if ((strays->named[cluster / 8] >> cluster % 8 & 1) != 0)
      continue;
    if (data < end)
      data = qcow2_storage_next_data(storage, cluster << bits);
    if (data >= end)
      continue;
    if (!read_cluster(strays, cluster << bits) ||
        qcow2_residue_classify(&strays->looks, strays->bytes) == QCOW2_RESIDUE_DATA)
      found++;
  }
  return found;
}

int qcow2_strays_look(const struct qcow2_layer *layer, const struct qcow2_placed *placed,
                      uint64_t l1_clusters, bool *are_left, struct qcow2_error *error)
{
  const struct qcow2_geometry *geometry = &layer->geometry;
  struct strays strays = { .layer = layer,
                           .looks = { .geometry = geometry,
                                      .refcount_order = layer->metadata.header.refcount_order,
                                      .file_size = layer->file.storage.size },
                           .clusters = divide_up(layer->file.storage.size,
                                                 geometry->cluster_size) };
  int code = 0;

  *are_left = true;
  if (strays.clusters > CLUSTERS_MAX)
    return 0;
  strays.named = calloc((size_t) strays.clusters / 8 + 1, 1);
  strays.bytes = malloc(geometry->cluster_size);
  strays.looks.scratch = malloc(geometry->cluster_size);
  if (strays.named == NULL || strays.bytes == NULL || strays.looks.scratch == NULL)
    code = qcow2_error_set_nomem(error);
  else {
    for (size_t i = 0; i < placed->count; i++)
      note_table(&strays, placed->tables[i].l2_offset);
    for (size_t i = 0; i < placed->lost; i++)
      note_table(&strays, placed->lost_tables[i]);
    *are_left = count(&strays, l1_clusters) > l1_clusters;
  }
  free(strays.named);
  free(strays.bytes);
  free(strays.looks.scratch);
  return code;
}
