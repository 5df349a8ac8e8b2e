/* SPDX-License-Identifier: MIT */
/*
 * Reads all that is stored in an image, and checks it, to be compared with what images.py knows of
 * it:
 *   digest IMAGE [BACKING...]
 * For the active disk and each snapshot it prints the size, how many sectors are not all zeros,
 * where they begin and end, and a checksum over them and their offsets; then what a check finds.
 * The passphrase, if one is needed, is "secret". If something fails, its code is printed, and the
 * program ends with 1.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#ifdef _WIN32
#include <windows.h>
#include <shellapi.h> /* CommandLineToArgvW; needs windows.h */
#endif

#include "../../core/qcow2core.h"

#define PIECE_BYTES 65536u
#define SECTOR_BYTES 512u

struct sum {
  uint64_t sectors;
  uint64_t first, end; /* guest offsets */
  uLong checksum;
};

/* Add a sector, or the part of one at a disk's end, unless it is all zeros. */
static void add_sector(struct sum *sum, uint64_t guest_offset, const unsigned char *bytes,
                       size_t length)
{
  static const unsigned char zeros[SECTOR_BYTES];
  unsigned char place[8];

  if (memcmp(bytes, zeros, length) == 0)
    return;
  for (unsigned i = 0; i < 8; i++)
    place[i] = (unsigned char) (guest_offset >> (8 * i));
  sum->checksum = crc32(crc32(sum->checksum, place, sizeof(place)), bytes, (uInt) length);
  if (sum->sectors++ == 0)
    sum->first = guest_offset;
  sum->end = guest_offset + length;
}

/* Read a range, which may be large, and add its sectors. */
static int add_range(struct sum *sum, struct qcow2_view *view, uint64_t guest_offset,
                     uint64_t length, struct qcow2_error *error)
{
  static unsigned char bytes[PIECE_BYTES];
  int code = 0;

  while (code == 0 && length > 0) {
    size_t count = length < PIECE_BYTES ? (size_t) length : PIECE_BYTES;

    code = qcow2_view_read(view, guest_offset, bytes, count, error);
    for (size_t at = 0; code == 0 && at < count; at += SECTOR_BYTES)
      add_sector(sum, guest_offset + at, bytes + at,
                 count - at < SECTOR_BYTES ? count - at : SECTOR_BYTES);
    guest_offset += count;
    length -= count;
  }
  return code;
}

/* Add all of the view but what the map says is zeros. */
static int add_view(struct sum *sum, struct qcow2_view *view, struct qcow2_error *error)
{
  uint64_t size = qcow2_view_size(view);
  struct qcow2_extent extent;

  for (uint64_t at = 0; at < size; at += extent.length) {
    int code = qcow2_view_map(view, at, size - at, &extent, error);

    if (code == 0 &&
        (extent.kind == QCOW2_CLUSTER_NORMAL || extent.kind == QCOW2_CLUSTER_COMPRESSED ||
         extent.kind == QCOW2_CLUSTER_INVALID))
      code = add_range(sum, view, at, extent.length, error);
    if (code != 0)
      return code;
  }
  return 0;
}

static int print_view(struct qcow2_image *image, size_t index, struct qcow2_error *error)
{
  struct sum sum = { .sectors = 0 };
  struct qcow2_view *view;
  int code = qcow2_view_open(image, index, &view, error);

  if (code != 0)
    return code;
  code = add_view(&sum, view, error);
  if (code == 0)
    printf("size %" PRIu64 ", %" PRIu64 " sectors from %" PRIu64 " to %" PRIu64 ": %08lx\n",
           qcow2_view_size(view), sum.sectors, sum.first, sum.end, (unsigned long) sum.checksum);
  qcow2_view_close(view);
  return code;
}

static int print_image(struct qcow2_image *image, struct qcow2_error *error)
{
  struct qcow2_check_options options = { .struct_size = sizeof(options) };
  struct qcow2_check_result result;
  int code = print_view(image, QCOW2_ACTIVE, error);

  for (size_t i = 0; code == 0 && i < qcow2_snapshot_count(image); i++)
    code = print_view(image, i, error);
  if (code == 0)
    code = qcow2_image_check(image, &options, &result, error);
  if (code == 0)
    printf("%" PRIu64 " corruptions, %" PRIu64 " leaks, %" PRIu64 " defects%s\n",
           result.corruptions, result.leaks, result.defects,
           result.is_complete ? "" : ", not all checked");
  return code;
}

#ifdef _WIN32
/* Windows has them in UTF-16, the library takes UTF-8. They last until the program ends. */
static void fetch_arguments(int *argc, char *argv[])
{
  wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), argc);

  for (int i = 0; i < *argc; i++) {
    int size = WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, NULL, 0, NULL, NULL);

    argv[i] = malloc((size_t) size);
    if (argv[i] == NULL)
      exit(2);
    WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, argv[i], size, NULL, NULL);
  }
}
#else
static void fetch_arguments(int *argc, char *argv[])
{
  (void) argc;
  (void) argv;
}
#endif

int main(int argc, char *argv[])
{
  static const struct qcow2_passphrase passphrase = { "secret", 6 };
  struct qcow2_open_options options = { .struct_size = sizeof(options) };
  struct qcow2_error error = { .message = "" };
  struct qcow2_image *image;
  int code;

  fetch_arguments(&argc, argv);
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
    code = print_image(image, &error);
    qcow2_image_close(image);
  }
  if (code == 0)
    return 0;
  printf("%s\n", qcow2_status_name(code));
  fprintf(stderr, "%s\n", error.message);
  return 1;
}
