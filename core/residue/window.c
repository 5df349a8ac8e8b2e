/* SPDX-License-Identifier: MIT */
#include "window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../storage/storage.h"

/* ---- Making, and moving ---------------------------------------------------------- */

uint64_t qcow2_residue_window_file_clusters(const struct qcow2_residue_window *window)
{
  return divide_up(window->layer->file.storage.size, window->layer->geometry.cluster_size);
}

int qcow2_residue_window_make(struct qcow2_residue_window *window, const struct qcow2_image *image,
                              uint64_t clusters_max, size_t ranges_max, struct qcow2_error *error)
{
  size_t cluster_size = image->chain.layers[0]->geometry.cluster_size;
  uint64_t clusters;

  *window = (struct qcow2_residue_window){ .image = image, .layer = image->chain.layers[0] };
  if (window->layer->geometry.version == 1)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "an image of qcow version 1 has neither snapshots nor refcounts; what "
                           "nothing refers to in it is not looked for");
  clusters = min_u64(qcow2_residue_window_file_clusters(window), clusters_max);
  window->decompressor = qcow2_decompressor_new();
  window->packed = malloc(2 * cluster_size);
  window->cluster = malloc(cluster_size);
  if (!qcow2_residue_map_init(&window->map, window->layer->geometry.cluster_bits,
                              qcow2_residue_shortest_stream(window->layer), clusters, ranges_max) ||
      window->decompressor == NULL || window->packed == NULL || window->cluster == NULL)
    return qcow2_error_set_nomem(error);
  return 0;
}

void qcow2_residue_window_free(struct qcow2_residue_window *window)
{
  qcow2_residue_map_free(&window->map);
  qcow2_decompressor_free(window->decompressor);
  free(window->packed);
  free(window->cluster);
  memset(window, 0, sizeof(*window));
}

int qcow2_residue_window_move(struct qcow2_residue_window *window, uint64_t cluster,
                              struct qcow2_residue_walk *walk, struct qcow2_error *error)
{
  int code;

  qcow2_residue_map_move(&window->map, cluster, qcow2_residue_window_file_clusters(window));
  code = qcow2_residue_collect(window->image, &window->map, walk, error);
  if (code == 0 && walk->is_bounded)
    code = qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "the image's tables are more than can be looked through to find out "
                           "which bytes nothing refers to (64 GiB of them)");
  if (code == 0 && window->map.is_too_dense)
    code = qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "so much refers to parts of one cluster of the file that it cannot be "
                           "found out which of its bytes nothing refers to");
  if (code != 0)
    window->map.end = window->map.first;
  return code;
}

bool qcow2_residue_window_has(const struct qcow2_residue_window *window, uint64_t cluster)
{
  return cluster >= window->map.first && cluster < window->map.end;
}

/* ---- Compressed streams ----------------------------------------------------------- */

/* Find out where the stream ends. One that cannot be decoded ends where it can end at the latest:
   its L2 entry refers to all of that. Returns an errno value. */
static int find_end(const struct qcow2_residue_window *window, struct qcow2_residue_range *range)
{
  const struct qcow2_layer *layer = window->layer;
  struct qcow2_error error;
  struct qcow2_stream_end end = { .length = 0 };
  int code = qcow2_storage_read(&layer->file.storage, range->offset, window->packed, range->length,
                                &error);

  if (code != 0)
    return error.os_errno != 0 ? error.os_errno : EIO;
  code = qcow2_decompress(window->decompressor, layer->metadata.header.compression, window->packed,
                          range->length, window->cluster, layer->geometry.cluster_size, &end,
                          &error);
  if (code == QCOW2_ERROR_NOMEM)
    return ENOMEM;
  if (code == 0)
    range->length = (uint32_t) end.length;
  range->kind = RANGE_DECODED;
  return 0;
}

int qcow2_residue_window_clear(struct qcow2_residue_window *window, uint64_t offset,
                               uint8_t *buffer, size_t length)
{
  for (size_t i = qcow2_residue_map_find(&window->map, offset); i < window->map.range_count; i++) {
    struct qcow2_residue_range *range = &window->map.ranges[i];
    uint64_t start, end;

    if (range->offset >= offset + length)
      break;
    if (range->offset + range->length <= offset)
      continue;
    if (range->kind == RANGE_STREAM) {
      int os_errno = find_end(window, range);

      if (os_errno != 0)
        return os_errno;
    }
    start = range->offset > offset ? range->offset - offset : 0;
    end = range->offset + range->length;
    end = end > offset ? min_u64(end - offset, length) : 0;
    if (start < end)
      memset(buffer + start, 0, (size_t) (end - start));
  }
  return 0;
}

size_t qcow2_residue_window_old_stream(struct qcow2_residue_window *window, uint64_t offset,
                                       uint64_t length)
{
  const struct qcow2_layer *layer = window->layer;
  size_t count = (size_t) min_u64(length, 2 * layer->geometry.cluster_size);
  struct qcow2_stream_end end;

  if (count < window->map.shortest_stream ||
      qcow2_storage_read(&layer->file.storage, offset, window->packed, count, NULL) != 0 ||
      qcow2_decompress(window->decompressor, layer->metadata.header.compression, window->packed,
                       count, window->cluster, layer->geometry.cluster_size, &end, NULL) != 0)
    return 0;
  return end.has_ended ? end.length : 0;
}
