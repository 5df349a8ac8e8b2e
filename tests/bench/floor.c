/* SPDX-License-Identifier: MIT */
/*
 * floor IMAGE THREADS: inflate every compressed cluster of an image, and do nothing else. Prints
 * the seconds that this takes when where the clusters are is known already, and the file is in
 * memory: no reader of the whole disk can be faster.
 *
 * floor IMAGE times: print the guest offset of each such cluster, and the nanoseconds that it took.
 */
#include <err.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <time.h>
#include <zstd.h>

#include "qcow2core.h"

#define THREADS_MAX 64

struct stream {
  uint64_t guest_offset, host_offset, host_bytes;
  uint64_t nanoseconds;
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
      streams[stream_count++] = (struct stream){ at, extent.host_offset, extent.host_bytes, 0 };
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

static uint64_t now(void)
{
  struct timespec time;

  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t) time.tv_sec * 1000000000u + (uint64_t) time.tv_nsec;
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
    uint64_t start = now();

    if (header.compression == QCOW2_COMPRESSION_ZSTD)
      ZSTD_decompressDCtx(zstd, cluster, cluster_size, input,
                          ZSTD_findFrameCompressedSize(input, length));
    else
      libdeflate_deflate_decompress_ex(inflater, input, length, cluster, cluster_size, &consumed,
                                       NULL);
    streams[number].nanoseconds = now() - start;
  }
  free(cluster);
  ZSTD_freeDCtx(zstd);
  libdeflate_free_decompressor(inflater);
  return NULL;
}

static void print_times(void)
{
  for (size_t i = 0; i < stream_count; i++)
    printf("%" PRIu64 " %" PRIu64 "\n", streams[i].guest_offset, streams[i].nanoseconds);
}

int main(int argc, char **argv)
{
  bool prints_times = argc == 3 && strcmp(argv[2], "times") == 0;
  long count = prints_times ? 1 : argc == 3 ? strtol(argv[2], NULL, 10) : 0;
  pthread_t threads[THREADS_MAX];
  uint64_t start;

  if (count < 1 || count > THREADS_MAX)
    errx(2, "usage: floor IMAGE THREADS | floor IMAGE times");
  find_streams(argv[1]);
  load_file(argv[1]);
  start = now();
  for (int i = 0; i < count; i++)
    if (pthread_create(&threads[i], NULL, inflate_streams, NULL) != 0)
      errx(1, "no thread");
  for (int i = 0; i < count; i++)
    pthread_join(threads[i], NULL);
  if (prints_times)
    print_times();
  else
    printf("%.6f\n", (double) (now() - start) * 1e-9);
  return 0;
}
