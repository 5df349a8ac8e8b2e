/* SPDX-License-Identifier: MIT */
/* The public functions about the bitmaps of an image, and the ranges that they mark. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"
#include "../storage/storage.h"
#include "image.h"

/* ---- The directory --------------------------------------------------------- */

size_t qcow2_bitmap_count(const struct qcow2_image *image)
{
  return image->bitmaps.count;
}

size_t qcow2_bitmap_lost_count(const struct qcow2_image *image)
{
  return image->bitmaps.lost_count;
}

const struct qcow2_bitmap *qcow2_bitmap_get(const struct qcow2_image *image, size_t index)
{
  return index < image->bitmaps.count ? &image->bitmaps.entries[index] : NULL;
}

int qcow2_bitmap_find(const struct qcow2_image *image, const char *name, size_t *index,
                      struct qcow2_error *error)
{
  char list[512] = "", item[128], quoted[TEXT_ESCAPED_BYTES];

  for (size_t i = 0; i < image->bitmaps.count; i++) {
    const struct qcow2_bitmap *bitmap = &image->bitmaps.entries[i];

    if (strlen(name) == bitmap->name_length &&
        memcmp(name, bitmap->name, bitmap->name_length) == 0) {
      *index = i;
      return 0;
    }
    qcow2_text_escape(bitmap->name, bitmap->name_length, item, sizeof(item));
    if (strlen(list) + strlen(item) + 5 < sizeof(list))
      snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s\"%s\"",
               list[0] == '\0' ? "" : ", ", item);
  }
  qcow2_text_quote(name, quoted);
  if (image->bitmaps.lost_count == 0)
    return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                           "there is no bitmap \"%s\"; the image has %s", quoted,
                           list[0] == '\0' ? "none" : list);
  return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                         "there is no such bitmap: \"%s\"; the image has %s%s", quoted,
                         list[0] == '\0' ? "a bitmap directory that cannot be read" : list,
                         list[0] == '\0' ? "" : ", and more that cannot be read");
}

/* ---- Dirty ranges ---------------------------------------------------------- */

/* A bitmap that is being read. Bits are counted from the start of the disk; each is for
   `granularity` bytes. */
struct bit_walk {
  const struct qcow2_layer *layer;
  const struct qcow2_bitmap *bitmap;
  uint64_t granularity; /* bytes */
  uint64_t bit_count;
};

/* A run of equal bits. */
struct bit_run {
  bool dirty;
  uint64_t length; /* bits, > 0 */
};

/* The run of equal bits that starts at bit `bit` of `bytes`, at most `limit` bits. */
static struct bit_run run_in_bytes(const uint8_t *bytes, uint64_t bit, uint64_t limit)
{
  bool dirty = (bytes[bit / 8] >> bit % 8 & 1) != 0;
  uint8_t whole = dirty ? 0xff : 0;
  uint64_t end = bit + 1, stop = bit + limit;

  while (end < stop) {
    if (end % 8 == 0 && stop - end >= 8 && bytes[end / 8] == whole)
      end += 8;
    else if (((bytes[end / 8] >> end % 8 & 1) != 0) == dirty)
      end++;
    else
      break;
  }
  return (struct bit_run){ dirty, end - bit };
}

/* Read an entry of the bitmap's table, and check it. */
static int read_entry(const struct bit_walk *walk, uint64_t index, uint64_t *entry,
                      struct qcow2_error *error)
{
  const struct qcow2_slices *slices = &walk->layer->tables.slices;
  uint64_t entry_offset = walk->bitmap->table_offset + index * BITMAP_TABLE_ENTRY_BYTES;
  struct qcow2_slice slice;
  const char *problem;
  int code = qcow2_slice_pin(slices, "a bitmap table", entry_offset, BITMAP_TABLE_ENTRY_BYTES,
                             &slice, error);

  if (code != 0)
    return code;
  *entry = be64_get(slice.bytes);
  qcow2_slice_unpin(slices, &slice);
  problem = qcow2_bitmap_table_entry_problem(*entry, slices->cluster_size);
  if (problem == NULL)
    return 0;
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, entry_offset,
                            "the bitmap table entry at host offset %" PRIu64 " %s: 0x%016" PRIx64,
                            entry_offset, problem, *entry);
}

/* Find the run that starts at `bit`. It ends at the end of the slice or of the table entry at the
   latest. */
static int next_run(const struct bit_walk *walk, uint64_t bit, struct bit_run *run,
                    struct qcow2_error *error)
{
  const struct qcow2_slices *slices = &walk->layer->tables.slices;
  uint64_t bits_per_cluster = (uint64_t) slices->cluster_size * 8;
  uint64_t in_cluster = bit % bits_per_cluster, host_offset;
  uint64_t left = min_u64(bits_per_cluster - in_cluster, walk->bit_count - bit);
  enum qcow2_bitmap_cluster kind;
  struct qcow2_slice slice;
  uint64_t entry = 0;
  int code = read_entry(walk, bit / bits_per_cluster, &entry, error);

  if (code != 0)
    return code;
  kind = qcow2_bitmap_table_entry_decode(entry, &host_offset);
  *run = (struct bit_run){ kind == BITMAP_ALL_ONES, left };
  if (kind != BITMAP_STORED)
    return 0;
  code = qcow2_slice_pin(slices, "a bitmap", host_offset + in_cluster / 8, 1, &slice, error);
  if (code != 0)
    return code;
  left = min_u64(left, (uint64_t) slice.length * 8 - in_cluster % 8);
  *run = run_in_bytes(slice.bytes, in_cluster % 8, left);
  qcow2_slice_unpin(slices, &slice);
  return 0;
}

/* Find the first run of dirty bits from `bit` on: [*first, *end). If there is none, both are
   bit_count. */
static int find_dirty(const struct bit_walk *walk, uint64_t bit, uint64_t *first, uint64_t *end,
                      struct qcow2_error *error)
{
  struct bit_run run = { false, 0 };
  bool found = false;

  *first = walk->bit_count;
  for (; bit < walk->bit_count; bit += run.length) {
    int code = next_run(walk, bit, &run, error);

    if (code != 0)
      return code;
    if (run.dirty && !found)
      *first = bit;
    if (!run.dirty && found)
      break;
    found = run.dirty;
  }
  *end = bit < walk->bit_count ? bit : walk->bit_count;
  return 0;
}

/* Prepare to read a bitmap. Errors: ARGUMENT, UNSUPPORTED, CORRUPT. */
static int walk_start(const struct qcow2_image *image, size_t index, struct bit_walk *walk,
                      struct qcow2_error *error)
{
  const struct qcow2_bitmap *bitmap = qcow2_bitmap_get(image, index);

  *walk = (struct bit_walk){ .layer = image->chain.layers[0], .bitmap = bitmap, .granularity = 1 };
  if (bitmap == NULL)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "bitmap index %zu: the image has %zu",
                           index, image->bitmaps.count);
  walk->granularity = bitmap->granularity;
  walk->bit_count = divide_up(walk->layer->size, bitmap->granularity);
  return qcow2_bitmap_check_entry(walk->layer, bitmap, error);
}

int qcow2_bitmap_next_dirty(const struct qcow2_image *image, size_t index, uint64_t guest_offset,
                            struct qcow2_range *range, struct qcow2_error *error)
{
  struct bit_walk walk;
  uint64_t first, end, from;
  int code = walk_start(image, index, &walk, error);

  if (code != 0)
    return code;
  /* The disk may end inside the last granule: an offset at its end is after the last bit. */
  from = guest_offset < walk.layer->size ? guest_offset / walk.granularity : walk.bit_count;
  code = find_dirty(&walk, from, &first, &end, error);
  if (code != 0)
    return code;
  range->guest_offset = min_u64(first * walk.granularity, walk.layer->size);
  range->length = min_u64(end * walk.granularity, walk.layer->size) - range->guest_offset;
  return 0;
}

int qcow2_bitmap_dirty_bytes(const struct qcow2_image *image, size_t index, uint64_t *runs,
                             uint64_t *bytes, struct qcow2_error *error)
{
  struct bit_walk walk;
  struct bit_run run;
  int code = walk_start(image, index, &walk, error);

  *bytes = 0;
  for (uint64_t bit = 0; code == 0 && bit<walk.bit_count && * runs> 0; bit += run.length) {
    code = next_run(&walk, bit, &run, error);
    if (code != 0)
      return code;
    if (run.dirty)
      *bytes += min_u64((bit + run.length) * walk.granularity, walk.layer->size) -
                bit * walk.granularity;
    --*runs;
  }
  return code;
}
