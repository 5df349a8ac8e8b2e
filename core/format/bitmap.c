/* SPDX-License-Identifier: MIT */
#include "bitmap.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"
#include "geometry.h"

#define GRANULARITY_BITS_MIN 9
#define GRANULARITY_BITS_MAX 31
#define NAME_BYTES_MAX 1023

int qcow2_bitmaps_extension_decode(const struct qcow2_metadata *metadata,
                                   struct qcow2_bitmaps_extension *bitmaps,
                                   struct qcow2_error *error)
{
  const struct qcow2_extension *extension = &metadata->bitmaps;
  const uint8_t *bytes = metadata->bitmaps_data;
  uint32_t cluster_size = UINT32_C(1) << metadata->header.cluster_bits;
  const char *problem = NULL;

  if (extension->length != BITMAPS_EXTENSION_BYTES)
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, extension->host_offset,
                              "the bitmaps extension is %" PRIu32 " bytes long instead of 24",
                              extension->length);
  bitmaps->count = be32_get(bytes);
  bitmaps->directory_size = be64_get(bytes + 8);
  bitmaps->directory_offset = be64_get(bytes + 16);
  if (bitmaps->count == 0 || bitmaps->count > BITMAP_COUNT_MAX)
    problem = "the number of bitmaps is not in 1..65535";
  else if (bitmaps->directory_size > BITMAP_DIRECTORY_BYTES_MAX)
    problem = "the bitmap directory is larger than 64 MiB";
  else if (!is_aligned(bitmaps->directory_offset, cluster_size) || bitmaps->directory_offset == 0)
    problem = "the bitmap directory's offset is not a multiple of the cluster size, or 0";
  if (problem == NULL)
    return 0;
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, extension->host_offset,
                            "the bitmaps extension is not valid: %s", problem);
}

static int entry_error(uint64_t host_offset, const char *problem, struct qcow2_error *error)
{
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, host_offset,
                            "the bitmap directory's entry at host offset %" PRIu64
                            " is not valid: %s",
                            host_offset, problem);
}

/* Why an entry is not valid, as a clause; NULL if it is. */
static const char *entry_problem(const struct qcow2_bitmap *bitmap, unsigned granularity_bits,
                                 uint32_t cluster_size)
{
  if (granularity_bits < GRANULARITY_BITS_MIN || granularity_bits > GRANULARITY_BITS_MAX)
    return "its granularity is not 512 bytes to 2 GiB";
  if (bitmap->name_length == 0 || bitmap->name_length > NAME_BYTES_MAX)
    return "its name is not 1 to 1023 bytes long";
  if (!is_aligned(bitmap->table_offset, cluster_size) || bitmap->table_offset > INT64_MAX ||
      bitmap->table_offset == 0)
    return "its table's offset is not a multiple of the cluster size, or 0";
  if ((uint64_t) bitmap->table_size * cluster_size > BITMAP_BYTES_MAX)
    return "it is larger than 512 MiB";
  return NULL;
}

int qcow2_bitmap_decode(const uint8_t *bytes, uint64_t length, uint64_t host_offset,
                        uint32_t cluster_size, struct qcow2_bitmap *bitmap, uint64_t *used,
                        struct qcow2_error *error)
{
  uint64_t name_offset;
  const char *problem;

  if (length < BITMAP_FIXED_BYTES)
    return entry_error(host_offset, "the directory ends inside it", error);
  *bitmap = (struct qcow2_bitmap){ .table_offset = be64_get(bytes),
                                   .table_size = be32_get(bytes + 8),
                                   .flags = be32_get(bytes + 12),
                                   .type = bytes[16],
                                   .name_length = be16_get(bytes + 18),
                                   .extra_length = be32_get(bytes + 20) };
  problem = entry_problem(bitmap, bytes[17], cluster_size);
  if (problem != NULL)
    return entry_error(host_offset, problem, error);
  bitmap->granularity = UINT64_C(1) << bytes[17];
  name_offset = (uint64_t) BITMAP_FIXED_BYTES + bitmap->extra_length;
  if (!range_fits(name_offset, bitmap->name_length, length))
    return entry_error(host_offset, "the directory ends inside it", error);
  bitmap->name = qcow2_text_copy(bytes + name_offset, bitmap->name_length);
  if (bitmap->name == NULL)
    return qcow2_error_set_nomem(error);
  *used = (name_offset + bitmap->name_length + 7) & ~UINT64_C(7);
  return 0;
}

void qcow2_bitmap_free(struct qcow2_bitmap *bitmap)
{
  free((void *) (uintptr_t) bitmap->name);
  memset(bitmap, 0, sizeof(*bitmap));
}

const char *qcow2_bitmap_table_entry_problem(uint64_t entry, uint32_t cluster_size)
{
  uint64_t host_offset = entry & TABLE_OFFSET_MASK;

  if (!is_aligned(host_offset, cluster_size))
    return "has an offset that is not a multiple of the cluster size";
  if ((entry & BITMAP_TABLE_ENTRY_RESERVED) != 0 ||
      (host_offset != 0 && (entry & BITMAP_TABLE_ENTRY_ALL_ONES) != 0))
    return "has reserved bits set";
  return NULL;
}

enum qcow2_bitmap_cluster qcow2_bitmap_table_entry_decode(uint64_t entry, uint64_t *host_offset)
{
  *host_offset = entry & TABLE_OFFSET_MASK;
  if (*host_offset != 0)
    return BITMAP_STORED;
  return (entry & BITMAP_TABLE_ENTRY_ALL_ONES) != 0 ? BITMAP_ALL_ONES : BITMAP_ALL_ZEROS;
}
