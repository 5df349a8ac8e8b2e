/* SPDX-License-Identifier: MIT */
#include "bitmaps.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"
#include "../storage/storage.h"

/* ---- Reading the directory ------------------------------------------------ */

/* A bitmap is complete if the program that wrote the image last knew about bitmaps, and saved this
   one. */
static int is_consistent(const struct qcow2_header *header, const struct qcow2_bitmap *bitmap)
{
  return (header->autoclear_features & QCOW2_AUTOCLEAR_BITMAPS) != 0 &&
         (bitmap->flags & QCOW2_BITMAP_IN_USE) == 0;
}

/* Decode the entries of the directory, which must end with the last one. */
static int decode_directory(const struct qcow2_layer *layer, const uint8_t *bytes,
                            struct qcow2_bitmaps *bitmaps, struct qcow2_error *error)
{
  const struct qcow2_bitmaps_extension *place = &bitmaps->directory;
  uint64_t at = 0, used = 0;
  int code = 0;

  while (code == 0 && bitmaps->count < place->count) {
    struct qcow2_bitmap *bitmap = &bitmaps->entries[bitmaps->count];
    uint64_t left = at < place->directory_size ? place->directory_size - at : 0;

    code = qcow2_bitmap_decode(bytes + at, left, place->directory_offset + at,
                               layer->geometry.cluster_size, bitmap, &used, error);
    if (code != 0)
      break;
    bitmap->is_consistent = is_consistent(&layer->metadata.header, bitmap);
    bitmaps->count++;
    at += used;
  }
  bitmaps->lost_count = place->count - bitmaps->count;
  if (code != 0 || at >= place->directory_size)
    return code;
  bitmaps->lost_count = 1;
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, place->directory_offset,
                            "the bitmaps extension counts %" PRIu32 " bitmaps, which take %" PRIu64
                            " bytes, but the directory is %" PRIu64 " bytes long",
                            place->count, at, place->directory_size);
}

static int read_directory(const struct qcow2_layer *layer, struct qcow2_bitmaps *bitmaps,
                          struct qcow2_error *error)
{
  const struct qcow2_bitmaps_extension *place = &bitmaps->directory;
  uint8_t *bytes = malloc((size_t) place->directory_size + 1);
  int code;

  bitmaps->entries = calloc(place->count, sizeof(bitmaps->entries[0]));
  if (bytes == NULL || bitmaps->entries == NULL)
    code = qcow2_error_set_nomem(error);
  else
    code = qcow2_storage_read(&layer->file.storage, place->directory_offset, bytes,
                              (size_t) place->directory_size, error);
  if (code == 0)
    code = decode_directory(layer, bytes, bitmaps, error);
  free(bytes);
  return code;
}

/* There is no bitmaps extension: then the header must not say that there are bitmaps. */
static int check_absence(const struct qcow2_header *header, struct qcow2_bitmaps *bitmaps,
                         struct qcow2_error *error)
{
  if ((header->autoclear_features & QCOW2_AUTOCLEAR_BITMAPS) == 0)
    return 0;
  bitmaps->lost_count = 1;
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, 88,
                            "the header's autoclear bit 0 says that there are bitmaps, but the "
                            "bitmaps extension is missing");
}

int qcow2_bitmaps_read(const struct qcow2_layer *layer, struct qcow2_bitmaps *bitmaps,
                       struct qcow2_error *error)
{
  const struct qcow2_metadata *metadata = &layer->metadata;
  struct qcow2_bitmaps_extension place;
  int code;

  memset(bitmaps, 0, sizeof(*bitmaps));
  if (!metadata->has_bitmaps)
    return check_absence(&metadata->header, bitmaps, error);
  bitmaps->lost_count = 1;
  code = qcow2_bitmaps_extension_decode(metadata, &place, error);
  if (code != 0)
    return code;
  bitmaps->directory = place;
  bitmaps->lost_count = place.count;
  if (!range_fits(place.directory_offset, place.directory_size, layer->file.storage.size))
    return qcow2_error_set_at(
        error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, place.directory_offset,
        "the file is truncated: it ends before or inside the bitmap directory");
  return read_directory(layer, bitmaps, error);
}

void qcow2_bitmaps_free(struct qcow2_bitmaps *bitmaps)
{
  for (size_t i = 0; i < bitmaps->count; i++)
    qcow2_bitmap_free(&bitmaps->entries[i]);
  free(bitmaps->entries);
  memset(bitmaps, 0, sizeof(*bitmaps));
}

/* ---- Can they be read? ----------------------------------------------------- */

int qcow2_bitmap_check_entry(const struct qcow2_layer *layer, const struct qcow2_bitmap *bitmap,
                             struct qcow2_error *error)
{
  uint64_t bits_per_cluster = (uint64_t) layer->geometry.cluster_size * 8;
  uint64_t bits = divide_up(layer->size, bitmap->granularity);

  if (bitmap->type != QCOW2_BITMAP_DIRTY_TRACKING)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED, "the bitmap is of the unknown type %d",
                           bitmap->type);
  if (bitmap->table_size < divide_up(bits, bits_per_cluster))
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, bitmap->table_offset,
                              "the bitmap's table of %" PRIu32 " entries is too small for the disk",
                              bitmap->table_size);
  return 0;
}

int qcow2_bitmap_error(const struct qcow2_layer *layer, const struct qcow2_bitmap *bitmap,
                       struct qcow2_error *error)
{
  uint64_t file_size = layer->file.storage.size;
  int code = qcow2_bitmap_check_entry(layer, bitmap, error);

  if (code != 0 || range_fits(bitmap->table_offset,
                              (uint64_t) bitmap->table_size * BITMAP_TABLE_ENTRY_BYTES, file_size))
    return code;
  return qcow2_error_set_at(error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, bitmap->table_offset,
                            "the file ends at byte %" PRIu64
                            ", before the end of the bitmap's table at host offset %" PRIu64,
                            file_size, bitmap->table_offset);
}
