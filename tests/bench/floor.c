/* SPDX-License-Identifier: MIT */
/*
 * floor IMAGE THREADS: inflate every compressed cluster of an image, and do nothing else. Prints
 * the seconds that this takes when where the clusters are is known already, and the file is in
 * memory: no reader of the whole disk can be faster.
 *
 * floor IMAGE times: print the guest offset of each such cluster, and the nanoseconds that it took.
 */
#include <err.h>
#include <inttypes.h>
#include <libdeflate.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

#include "streams.h"

#define THREADS_MAX 64

static struct compressed_image image;
static uint64_t *nanoseconds; /* of each of its streams */
static atomic_size_t next_stream;

static uint64_t now(void)
{
  struct timespec time;

  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t) time.tv_sec * 1000000000u + (uint64_t) time.tv_nsec;
}

static void *inflate_streams(void *unused)
{
  size_t cluster_size = (size_t) 1 << image.header.cluster_bits, number, consumed;
  struct libdeflate_decompressor *inflater = libdeflate_alloc_decompressor();
  ZSTD_DCtx *zstd = ZSTD_createDCtx();
  void *cluster = malloc(cluster_size);

  (void) unused;
  if (inflater == NULL || zstd == NULL || cluster == NULL)
    err(1, "memory");
  while ((number = atomic_fetch_add(&next_stream, 1)) < image.count) {
    const struct qcow2_extent *stream = &image.streams[number];
    const uint8_t *input = image.file + stream->host_offset;
    size_t left = image.file_bytes - stream->host_offset;
    size_t length = stream->host_bytes < left ? stream->host_bytes : left;
    uint64_t start = now();

    if (image.header.compression == QCOW2_COMPRESSION_ZSTD)
      ZSTD_decompressDCtx(zstd, cluster, cluster_size, input,
                          ZSTD_findFrameCompressedSize(input, length));
    else
      libdeflate_deflate_decompress_ex(inflater, input, length, cluster, cluster_size, &consumed,
                                       NULL);
    nanoseconds[number] = now() - start;
  }
  free(cluster);
  ZSTD_freeDCtx(zstd);
  libdeflate_free_decompressor(inflater);
  return NULL;
}

static void print_times(void)
{
  for (size_t i = 0; i < image.count; i++)
    printf("%" PRIu64 " %" PRIu64 "\n", image.streams[i].guest_offset, nanoseconds[i]);
}

int main(int argc, char **argv)
{
  bool prints_times = argc == 3 && strcmp(argv[2], "times") == 0;
  long count = prints_times ? 1 : argc == 3 ? strtol(argv[2], NULL, 10) : 0;
  pthread_t threads[THREADS_MAX];
  uint64_t start;

  if (count < 1 || count > THREADS_MAX)
    errx(2, "usage: floor IMAGE THREADS | floor IMAGE times");
  image = compressed_image_open(argv[1]);
  nanoseconds = calloc(image.count, sizeof(*nanoseconds));
  if (nanoseconds == NULL)
    err(1, "memory");
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
