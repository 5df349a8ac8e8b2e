/* SPDX-License-Identifier: MIT */
/*
 * damage IMAGE FLIPS: what anyone can notice of a damaged compressed cluster. Flips single bits at
 * random in the image's deflate streams (in memory), each in one stream, and prints how many of
 * them which rule notices.
 */
#include <err.h>
#include <inttypes.h>
#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "streams.h"

#define SECTOR_BYTES 512

static struct compressed_image image;

static struct {
  unsigned long flips, refused, unended, early, same, wrong, deviations;
} found;

/* What zlib makes of a stream. */
struct outcome {
  int is_read;   /* it gives a whole cluster */
  int has_ended; /* and ends with it */
  size_t length; /* of what was used of it */
};

static struct outcome inflate_one(z_stream *zlib, const uint8_t *input, size_t length,
                                  uint8_t *output)
{
  size_t cluster_size = (size_t) 1 << image.header.cluster_bits;
  int status;

  inflateReset(zlib);
  zlib->next_in = (Bytef *) (uintptr_t) input;
  zlib->avail_in = (uInt) length;
  zlib->next_out = output;
  zlib->avail_out = (uInt) cluster_size;
  status = inflate(zlib, Z_FINISH);
  return (struct outcome){ .is_read = (status == Z_STREAM_END || status == Z_BUF_ERROR) &&
                                      zlib->avail_out == 0,
                           .has_ended = status == Z_STREAM_END,
                           .length = length - zlib->avail_in };
}

static uint64_t random_below(uint64_t limit)
{
  return (((uint64_t) random() << 31) ^ (uint64_t) random()) % limit;
}

/* Flip one bit of a stream's own bytes, and count what is noticed. */
static void flip_one(z_stream *zlib, struct libdeflate_decompressor *libdeflate, uint8_t *input,
                     uint8_t *output, uint8_t *original)
{
  const struct qcow2_extent *stream = &image.streams[random_below(image.count)];
  size_t cluster_size = (size_t) 1 << image.header.cluster_bits, length = stream->host_bytes;
  struct outcome whole, flipped;
  uint64_t bit;

  if (length > image.file_bytes - stream->host_offset)
    length = image.file_bytes - stream->host_offset;
  memcpy(input, image.file + stream->host_offset, length);
  whole = inflate_one(zlib, input, length, original);
  if (!whole.is_read || !whole.has_ended || length - whole.length >= SECTOR_BYTES)
    errx(1, "the stream at host offset %" PRIu64 " is damaged already", stream->host_offset);
  bit = random_below(8 * (uint64_t) whole.length);
  input[bit / 8] ^= (uint8_t) (1 << bit % 8);
  flipped = inflate_one(zlib, input, length, output);
  found.flips++;
  found.refused += !flipped.is_read;
  found.unended += flipped.is_read && !flipped.has_ended;
  found.early += flipped.is_read && flipped.has_ended && length - flipped.length >= SECTOR_BYTES;
  if (flipped.is_read && flipped.has_ended) {
    found.same += memcmp(output, original, cluster_size) == 0;
    found.wrong += memcmp(output, original, cluster_size) != 0;
  }
  found.deviations += !flipped.is_read &&
                      libdeflate_deflate_decompress(libdeflate, input, length, output, cluster_size,
                                                    NULL) == LIBDEFLATE_SUCCESS;
}

static void print(unsigned long count, const char *what)
{
  printf("%8lu  %7.3f %%  %s\n", count, 100.0 * (double) count / (double) found.flips, what);
}

int main(int argc, char *argv[])
{
  struct libdeflate_decompressor *libdeflate = libdeflate_alloc_decompressor();
  z_stream zlib = { .next_in = NULL };
  uint8_t *input, *output, *original;

  if (argc != 3)
    errx(2, "usage: damage IMAGE FLIPS");
  image = compressed_image_open(argv[1]);
  if (image.header.compression != QCOW2_COMPRESSION_DEFLATE)
    errx(1, "%s: its compression is not deflate", argv[1]);
  input = malloc((size_t) 2 << image.header.cluster_bits);
  output = malloc((size_t) 1 << image.header.cluster_bits);
  original = malloc((size_t) 1 << image.header.cluster_bits);
  if (inflateInit2(&zlib, -15) != Z_OK || libdeflate == NULL || input == NULL || output == NULL ||
      original == NULL)
    err(1, "memory");
  srandom(1);
  while (found.flips < strtoul(argv[2], NULL, 10))
    flip_one(&zlib, libdeflate, input, output, original);
  print(found.flips, "single bits flipped, each in one of the streams");
  print(found.refused, "zlib refuses the stream: reading is an error");
  print(found.unended, "zlib reads it, but it does not end with its cluster: may be damaged");
  print(found.wrong, "it ends with its cluster, and other bytes are read: not noticed");
  print(found.same, "the same bytes are read");
  print(found.early, "of these two, the stream ends before its last sector");
  print(found.deviations, "libdeflate reads to the end what zlib refuses");
  free(original);
  free(output);
  free(input);
  inflateEnd(&zlib);
  libdeflate_free_decompressor(libdeflate);
  return 0;
}
