/* SPDX-License-Identifier: MIT */
#include "streams.h"

#include <err.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void find_streams(const char *path, struct compressed_image *found)
{
  struct qcow2_error error;
  struct qcow2_image *image;
  struct qcow2_view *view;
  struct qcow2_layer_info info;
  struct qcow2_extent extent;

  if (qcow2_image_open(path, NULL, &image, &error) != 0 ||
      qcow2_view_open(image, QCOW2_ACTIVE, &view, &error) != 0 ||
      qcow2_layer_get(image, 0, &info, &error) != 0)
    errx(1, "%s", error.message);
  found->header = *info.header;
  found->file_bytes = info.file_size;
  found->streams = calloc((info.header->size >> info.header->cluster_bits) + 1,
                          sizeof(found->streams[0]));
  if (found->streams == NULL)
    err(1, "memory");
  for (uint64_t at = 0; at < qcow2_view_size(view); at += extent.length) {
    if (qcow2_view_map(view, at, qcow2_view_size(view) - at, &extent, &error) != 0)
      errx(1, "%s", error.message);
    if (extent.kind == QCOW2_CLUSTER_COMPRESSED)
      found->streams[found->count++] = extent;
  }
  qcow2_view_close(view);
  qcow2_image_close(image);
  if (found->count == 0)
    errx(1, "%s: it has no compressed cluster", path);
}

struct compressed_image compressed_image_open(const char *path)
{
  struct compressed_image found = { .count = 0 };
  int descriptor;

  find_streams(path, &found);
  descriptor = open(path, O_RDONLY);
  found.file = mmap(NULL, found.file_bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, descriptor, 0);
  if (descriptor < 0 || found.file == MAP_FAILED)
    err(1, "%s", path);
  close(descriptor);
  return found;
}
