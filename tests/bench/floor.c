/* SPDX-License-Identifier: MIT */
/*
 * floor IMAGE THREADS: inflate every compressed cluster of an image, and do nothing else. Prints
 * the seconds that this takes when where the clusters are is known already, and the file is in
 * memory: no reader of the whole disk can be faster.
 */
#include <err.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <time.h>
#include <zstd.h>

#include "qcow2core.h"

#define THREADS_MAX 64

struct stream {
  uint64_t host_offset, host_bytes;
};

static struct stream *streams;
static size_t stream_count;
static atomic_size_t next_stream;
static const uint8_t *file;
static uint64_t file_size;
static struct qcow2_header header;

static void find_streams(const char *path)
{
  struct qcow2_error error;
  struct qcow2_image *image;
  struct qcow2_view *view;
  struct qcow2_layer_info info;
  uint64_t at = 0;
  struct qcow2_extent extent;

  if (qcow2_image_open(path, NULL, &image, &error) != 0 ||
      qcow2_view_open(image, QCOW2_ACTIVE, &view, &error) != 0 ||
      qcow2_layer_get(image, 0, &info, &error) != 0)
    errx(1, "%s", error.message);
  header = *info.header;
  file_size = info.file_size;
  streams = calloc((header.size >> header.cluster_bits) + 1, sizeof(*streams));
  if (streams == NULL)
    err(1, "memory");
  for (; at < qcow2_view_size(view); at += extent.length) {
    if (qcow2_view_map(view, at, qcow2_view_size(view) - at, &extent, &error) != 0)
      errx(1, "%s", error.message);
    if (extent.kind == QCOW2_CLUSTER_COMPRESSED)
      streams[stream_count++] = (struct stream){ extent.host_offset, extent.host_bytes };
  }
  qcow2_view_close(view);
  qcow2_image_close(image);
}

static void load_file(const char *path)
{
  int descriptor = open(path, O_RDONLY);

  file = mmap(NULL, file_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, descriptor, 0);
  if (descriptor < 0 || file == MAP_FAILED)
    err(1, "%s", path);
  close(descriptor);
}

static void *inflate_streams(void *unused)
{
  size_t cluster_size = (size_t) 1 << header.cluster_bits, number, consumed;
  struct libdeflate_decompressor *inflater = libdeflate_alloc_decompressor();
  ZSTD_DCtx *zstd = ZSTD_createDCtx();
  void *cluster = malloc(cluster_size);

  (void) unused;
  if (inflater == NULL || zstd == NULL || cluster == NULL)
    err(1, "memory");
  while ((number = atomic_fetch_add(&next_stream, 1)) < stream_count) {
    const uint8_t *input = file + streams[number].host_offset;
    size_t left = file_size - streams[number].host_offset;
    size_t length = streams[number].host_bytes < left ? streams[number].host_bytes : left;

    if (header.compression == QCOW2_COMPRESSION_ZSTD)
      ZSTD_decompressDCtx(zstd, cluster, cluster_size, input,
                          ZSTD_findFrameCompressedSize(input, length));
    else
      libdeflate_deflate_decompress_ex(inflater, input, length, cluster, cluster_size, &consumed,
                                       NULL);
  }
  free(cluster);
  ZSTD_freeDCtx(zstd);
  libdeflate_free_decompressor(inflater);
  return NULL;
}

int main(int argc, char **argv)
{
  long count = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
  pthread_t threads[THREADS_MAX];
  struct timespec start, end;

  if (count < 1 || count > THREADS_MAX)
    errx(2, "usage: floor IMAGE THREADS");
  find_streams(argv[1]);
  load_file(argv[1]);
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (int i = 0; i < count; i++)
    if (pthread_create(&threads[i], NULL, inflate_streams, NULL) != 0)
      errx(1, "no thread");
  for (int i = 0; i < count; i++)
    pthread_join(threads[i], NULL);
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("%.6f\n",
         (double) (end.tv_sec - start.tv_sec) + 1e-9 * (double) (end.tv_nsec - start.tv_nsec));
  return 0;
}
