/* SPDX-License-Identifier: MIT */
/*
 * Reads all that is stored in an image, to be compared with what another build of the library reads:
 *   digest IMAGE [BACKING...]
 * For the active disk and each snapshot it prints the size, how many bytes are stored, where they begin and end, and a checksum over them and
 * their places. The passphrase, if one is needed, is "secret". What fails is printed by its code, and ends the program with 1.
 */
#ifndef __USE_MINGW_ANSI_STDIO
#define __USE_MINGW_ANSI_STDIO 1
#endif
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "../../core/qcow2core.h"

#define PIECE_BYTES 65536u

struct sum {
  uint64_t stored, first, end; /* bytes */
  uLong checksum;
};

static void add_piece(struct sum *sum, uint64_t offset, const unsigned char *bytes, uint64_t length)
{
  unsigned char place[8];

  for (unsigned i = 0; i < 8; i++)
    place[i] = (unsigned char) (offset >> (8 * i));
  sum->checksum = crc32(sum->checksum, place, sizeof(place));
  sum->checksum = crc32(sum->checksum, bytes, (uInt) length);
  if (sum->stored == 0)
    sum->first = offset;
  sum->stored += length;
  sum->end = offset + length;
}

/* Add what is stored of the view; zeros and holes are skipped. */
static int add_view(struct sum *sum, struct qcow2_view *view, struct qcow2_error *error)
{
  static unsigned char bytes[PIECE_BYTES];
  uint64_t size = qcow2_view_size(view), at = 0;
  struct qcow2_extent extent;
  int code = 0;

  while (code == 0 && at < size) {
    code = qcow2_view_map(view, at, size - at, &extent, error);
    if (code != 0)
      return code;
    if (extent.kind == QCOW2_CLUSTER_NORMAL || extent.kind == QCOW2_CLUSTER_COMPRESSED ||
        extent.kind == QCOW2_CLUSTER_INVALID) {
      if (extent.length > PIECE_BYTES)
        extent.length = PIECE_BYTES;
      code = qcow2_view_read(view, at, bytes, (size_t) extent.length, error);
      if (code == 0)
        add_piece(sum, at, bytes, extent.length);
    }
    at += extent.length;
  }
  return code;
}

static int print_view(struct qcow2_image *image, size_t index, struct qcow2_error *error)
{
  struct sum sum = { 0 };
  struct qcow2_view *view;
  int code = qcow2_view_open(image, index, &view, error);

  if (code != 0)
    return code;
  code = add_view(&sum, view, error);
  if (code == 0)
    printf("%" PRIu64 " bytes, %" PRIu64 " stored from %" PRIu64 " to %" PRIu64 ": %08lx\n", qcow2_view_size(view),
           sum.stored, sum.first, sum.end, (unsigned long) sum.checksum);
  qcow2_view_close(view);
  return code;
}

int main(int argc, char *argv[])
{
  static const struct qcow2_passphrase passphrase = { "secret", 6 };
  struct qcow2_open_options options = { .struct_size = sizeof(options) };
  struct qcow2_error error = { .message = "" };
  struct qcow2_image *image;
  int code;

  if (argc < 2)
    return 2;
  options.backing_paths = (const char *const *) argv + 2;
  options.backing_count = (size_t) argc - 2;
  code = qcow2_image_open(argv[1], &options, &image, &error);
  if (code == QCOW2_ERROR_KEY) {
    options.passphrases = &passphrase;
    options.passphrase_count = 1;
    code = qcow2_image_open(argv[1], &options, &image, &error);
  }
  if (code == 0) {
    code = print_view(image, QCOW2_ACTIVE, &error);
    for (size_t i = 0; code == 0 && i < qcow2_snapshot_count(image); i++)
      code = print_view(image, i, &error);
    qcow2_image_close(image);
  }
  if (code != 0) {
    printf("%s\n", qcow2_status_name(code));
    fprintf(stderr, "%s\n", error.message);
  }
  return code == 0 ? 0 : 1;
}
