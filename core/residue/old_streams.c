/* SPDX-License-Identifier: MIT */
/*
 * Old compressed streams. Writers put streams one after another, across the borders of clusters
 * that they allocate in a row. So an old one begins where another ends, or where a cluster does. It
 * is believed only if it gives one cluster exactly and ends with it.
 */
#include <string.h>

#include "../base/checked.h"
#include "inventory.h"

/* Where the residue ends that goes on to `end`, which may be the end of a cluster: no stream is
   longer than what is in two. */
static uint64_t residue_end(const struct qcow2_inventory *inventory, uint64_t end)
{
  const struct qcow2_residue_map *map = &inventory->window.map;
  uint64_t next = end >> map->cluster_bits;

  if (!is_aligned(end, UINT64_C(1) << map->cluster_bits) ||
      !qcow2_residue_window_has(&inventory->window, next))
    return end;
  return min_u64(qcow2_residue_map_free_end(map, end, (next + 1) << map->cluster_bits),
                 inventory->storage->size);
}

static void report(struct qcow2_inventory *inventory, uint64_t host_offset, size_t length)
{
  struct qcow2_residue_stream stream = { .host_offset = host_offset,
                                         .length = length,
                                         .cluster = inventory->window.cluster,
                                         .cluster_size = inventory->looks.geometry->cluster_size };

  inventory->result->stream_count++;
  if (inventory->options.report_stream == NULL || inventory->has_enough_streams)
    return;
  inventory->has_enough_streams = inventory->options.report_stream(inventory->options.context,
                                                                   &stream) != 0;
}

/* Mark the streams in a row from `at` on in the cluster, where the gap ends at `gap_end`. */
static bool take_row(struct qcow2_inventory *inventory, uint64_t offset, size_t at, size_t gap_end)
{
  uint64_t end = residue_end(inventory, offset + gap_end);
  bool has_any = false;

  while (at < gap_end) {
    size_t length = qcow2_residue_window_old_stream(&inventory->window, offset + at,
                                                    end - (offset + at));

    if (length == 0)
      break;
    report(inventory, offset + at, length);
    memset(inventory->mask + at, MASK_STREAM, (size_t) min_u64(length, gap_end - at));
    at += length;
    inventory->streams_end = offset + at;
    has_any = true;
  }
  return has_any;
}

bool qcow2_inventory_streams(struct qcow2_inventory *inventory, uint64_t offset, size_t length)
{
  const uint8_t *mask = inventory->mask;
  size_t reached = inventory->streams_end <= offset
                       ? 0
                       : (size_t) min_u64(inventory->streams_end - offset, length);
  bool has_any = reached > 0;

  memset(inventory->mask, MASK_STREAM, reached);
  for (size_t at = reached; at < length;) {
    const uint8_t *end = memchr(mask + at, mask[at] == MASK_USED ? MASK_RESIDUE : MASK_USED,
                                length - at);
    size_t gap_end = end == NULL ? length : (size_t) (end - mask);

    if (mask[at] != MASK_USED)
      has_any = take_row(inventory, offset, at, gap_end) || has_any;
    at = gap_end;
  }
  return has_any;
}
