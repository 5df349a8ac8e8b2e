/* SPDX-License-Identifier: MIT */
/*
 * decodes IMAGE BYTES: read the disk from the first byte to the last in pieces of so many bytes,
 * and print how many compressed clusters were decoded for that, by all threads. The linker sends
 * the reader's calls of qcow2_decompress() here (--wrap).
 */
#include <err.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../core/read/decompress.h"

static atomic_ulong decodes;

int __real_qcow2_decompress(struct qcow2_decompressor *decompressor,
                            enum qcow2_compression compression, const uint8_t *input,
                            size_t input_length, uint8_t *output, size_t output_length,
                            struct qcow2_stream_end *end, struct qcow2_error *error);
int __wrap_qcow2_decompress(struct qcow2_decompressor *decompressor,
                            enum qcow2_compression compression, const uint8_t *input,
                            size_t input_length, uint8_t *output, size_t output_length,
                            struct qcow2_stream_end *end, struct qcow2_error *error);

int __wrap_qcow2_decompress(struct qcow2_decompressor *decompressor,
                            enum qcow2_compression compression, const uint8_t *input,
                            size_t input_length, uint8_t *output, size_t output_length,
                            struct qcow2_stream_end *end, struct qcow2_error *error)
{
  atomic_fetch_add(&decodes, 1);
  return __real_qcow2_decompress(decompressor, compression, input, input_length, output,
                                 output_length, end, error);
}

int main(int argc, char *argv[])
{
  uint64_t piece = argc == 3 ? strtoull(argv[2], NULL, 10) : 0, size;
  struct qcow2_image *image;
  struct qcow2_view *view;
  struct qcow2_error error;
  char *buffer;

  if (piece == 0)
    errx(2, "usage: decodes IMAGE BYTES");
  buffer = malloc((size_t) piece);
  if (buffer == NULL)
    err(1, "memory");
  if (qcow2_image_open(argv[1], NULL, &image, &error) != 0 ||
      qcow2_view_open(image, QCOW2_ACTIVE, &view, &error) != 0)
    errx(1, "%s", error.message);
  size = qcow2_view_size(view);
  for (uint64_t at = 0; at < size; at += piece)
    if (qcow2_view_read(view, at, buffer, (size_t) (size - at < piece ? size - at : piece),
                        &error) != 0)
      errx(1, "%s", error.message);
  qcow2_view_close(view);
  qcow2_image_close(image);
  free(buffer);
  printf("%lu\n", atomic_load(&decodes));
  return 0;
}
