/* SPDX-License-Identifier: MIT */
/*
 * Changes images where it matters. libFuzzer's own changes to any bytes mostly hit data, or break
 * the first fields, after which nothing more is reached. Here most changes hit one field or table
 * entry of an image that stays readable up to there; entries get values that lead somewhere. Part
 * of the fuzzers of whole images only.
 */
#include <stdlib.h>
#include <string.h>

#include "../../core/base/bytes.h"
#include "fuzz.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

#define OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define HEADER_BYTES 112u

struct image {
  uint8_t *data;
  size_t size;
  uint64_t random;
  unsigned cluster_bits;
};

/* ---- Small things -------------------------------------------------------- */

/* A number below `limit` (xorshift64*). */
static uint64_t pick(struct image *image, uint64_t limit)
{
  image->random ^= image->random >> 12;
  image->random ^= image->random << 25;
  image->random ^= image->random >> 27;
  return limit == 0 ? 0 : (image->random * UINT64_C(2685821657736338717) >> 16) % limit;
}

static void put(struct image *image, uint64_t at, unsigned width, uint64_t value)
{
  if (at > image->size || image->size - at < width)
    return;
  for (unsigned i = width; i-- > 0; value >>= 8)
    image->data[at + i] = (uint8_t) value;
}

static uint64_t get(const struct image *image, uint64_t at, unsigned width)
{
  uint64_t value = 0;

  if (at > image->size || image->size - at < width)
    return 0;
  for (unsigned i = 0; i < width; i++)
    value = value << 8 | image->data[at + i];
  return value;
}

/* The host offset of some cluster, in the file or just after it. */
static uint64_t some_cluster(struct image *image)
{
  return pick(image, (image->size >> image->cluster_bits) + 2) << image->cluster_bits;
}

/* A number that is likely to be at a limit of something. */
static uint64_t some_number(struct image *image)
{
  static const uint64_t edges[] = { 0,
                                    1,
                                    2,
                                    7,
                                    8,
                                    16,
                                    511,
                                    512,
                                    1023,
                                    1024,
                                    65535,
                                    65536,
                                    INT32_MAX,
                                    UINT32_MAX,
                                    INT64_MAX,
                                    UINT64_MAX,
                                    UINT64_C(1) << 56 };
  uint64_t edge = edges[pick(image, sizeof(edges) / sizeof(edges[0]))];

  switch (pick(image, 4)) {
  case 0: return edge;
  case 1: return edge + pick(image, 5) - 2;
  case 2: return UINT64_C(1) << pick(image, 64);
  default: return pick(image, image->size * 2);
  }
}

/* ---- The header ------------------------------------------------------------ */

static void change_header(struct image *image)
{
  static const struct {
    uint8_t at, width;
  } fields[] = { { 4, 4 },  { 8, 8 },  { 16, 4 },  { 20, 4 },  { 24, 8 }, { 32, 4 }, { 36, 4 },
                 { 40, 8 }, { 48, 8 }, { 56, 4 },  { 60, 4 },  { 64, 8 }, { 72, 8 }, { 80, 8 },
                 { 88, 8 }, { 96, 4 }, { 100, 4 }, { 104, 1 }, { 105, 1 } };
  size_t field = pick(image, sizeof(fields) / sizeof(fields[0]));
  uint64_t old = get(image, fields[field].at, fields[field].width), value = 0;

  switch (pick(image, 4)) {
  case 0: value = some_number(image); break;
  case 1: value = old ^ UINT64_C(1) << pick(image, 8); break;
  case 2: value = old + pick(image, 5) - 2; break;
  default: value = some_cluster(image); break;
  }
  put(image, fields[field].at, fields[field].width, value);
}

/* Give a header extension, found by walking the list, another type or length; or start one where it
   ends. */
static void change_extension(struct image *image)
{
  static const uint32_t types[] = { 0xE2792ACA, 0x6803F857, 0x23852875, 0x0537BE77,
                                    0x44415441, 0,          0x12345678 };
  uint64_t at = get(image, 4, 4) == 2 ? 72 : get(image, 100, 4);

  for (uint64_t steps = pick(image, 4); steps > 0 && get(image, at, 4) != 0; steps--)
    at += 8 + (get(image, at + 4, 4) + 7) / 8 * 8;
  if (pick(image, 2) == 0)
    put(image, at, 4, types[pick(image, sizeof(types) / sizeof(types[0]))]);
  if (pick(image, 2) == 0)
    put(image, at + 4, 4, pick(image, 64));
  else
    put(image, at + 8 + 8 * pick(image, 3), 8,
        pick(image, 2) == 0 ? some_cluster(image) : some_number(image));
}

/* ---- L1 and L2 tables -------------------------------------------------------- */

/* Where the L1 table is: the active disk's, or that of one of the first snapshots. */
static uint64_t some_l1(struct image *image, uint64_t *entries)
{
  uint64_t at = get(image, 64, 8), count = get(image, 60, 4);

  *entries = get(image, 36, 4);
  if (count == 0 || pick(image, 2) == 0)
    return get(image, 40, 8);
  for (uint64_t steps = pick(image, count < 4 ? count : 4); steps > 0; steps--)
    at += (40 + get(image, at + 36, 4) + get(image, at + 12, 2) + get(image, at + 14, 2) + 7) / 8 *
          8;
  *entries = get(image, at + 8, 4);
  return get(image, at, 8);
}

static uint64_t some_index(struct image *image, uint64_t count)
{
  return pick(image, 4) == 0 ? pick(image, count) : pick(image, count < 6 ? count : 6);
}

static void change_l1(struct image *image)
{
  uint64_t entries, l1 = some_l1(image, &entries);
  uint64_t flags = pick(image, 2) << 63, value = some_cluster(image);

  if (pick(image, 6) == 0)
    value = some_number(image);
  put(image, l1 + 8 * some_index(image, entries), 8, value | flags);
}

/* An L2 entry that means something. */
static uint64_t some_descriptor(struct image *image)
{
  uint64_t sectors = pick(image, 3), shift = 62 - (image->cluster_bits - 8);

  switch (pick(image, 8)) {
  case 0: return pick(image, 2);
  case 1: return some_number(image);
  case 2: return some_cluster(image) | 1;
  case 3:
  case 4:
    return UINT64_C(1) << 62 | (sectors & ((UINT64_C(1) << (62 - shift)) - 1)) << shift |
           pick(image, image->size + 16);
  default: return UINT64_C(1) << 63 | some_cluster(image);
  }
}

static void change_l2(struct image *image)
{
  bool extended = get(image, 4, 4) == 3 && (get(image, 72, 8) & 16) != 0;
  uint64_t entry_bytes = extended ? 16 : 8, entries;
  uint64_t l1 = some_l1(image, &entries),
           l2 = get(image, l1 + 8 * some_index(image, entries), 8) & OFFSET_MASK;
  uint64_t at = l2 +
                entry_bytes * some_index(image, (UINT64_C(1) << image->cluster_bits) / entry_bytes);

  if (l2 == 0)
    change_l1(image);
  else if (extended && pick(image, 2) == 0)
    put(image, at + 8, 8,
        get(image, at + 8, 8) ^ (UINT64_C(1) << pick(image, 64) | UINT64_C(3) << pick(image, 63)));
  else if (pick(image, 4) == 0)
    put(image, at, 8, get(image, at, 8) ^ UINT64_C(1) << pick(image, 64));
  else
    put(image, at, 8, some_descriptor(image));
}

/* ---- Snapshots, bitmaps, LUKS ---------------------------------------------------- */

static void change_snapshot(struct image *image)
{
  static const uint8_t fields[] = { 0, 8, 12, 14, 32, 36, 40, 48, 56 },
                       widths[] = { 8, 4, 2, 2, 4, 4, 8, 8, 8 };
  uint64_t at = get(image, 64, 8), count = get(image, 60, 4);
  size_t field = pick(image, sizeof(fields));

  for (uint64_t steps = pick(image, count < 4 ? count : 4); steps > 0; steps--)
    at += (40 + get(image, at + 36, 4) + get(image, at + 12, 2) + get(image, at + 14, 2) + 7) / 8 *
          8;
  if (count == 0) {
    put(image, 60, 4, 1 + pick(image, 3));
    put(image, 64, 8, some_cluster(image));
  } else
    put(image, at + fields[field], widths[field],
        pick(image, 2) == 0 ? some_number(image)
        : field == 0        ? some_cluster(image)
                            : pick(image, 40));
}

/* Change a word of what the bitmaps or encryption extension points to, or of what that points
   to. */
static void change_behind_extension(struct image *image)
{
  uint64_t at = get(image, 4, 4) == 2 ? 72 : get(image, 100, 4), type = 0, place;

  for (int steps = 0; steps < 8; steps++) {
    type = get(image, at, 4);
    if (type == 0 || type == 0x23852875 || type == 0x0537BE77)
      break;
    at += 8 + (get(image, at + 4, 4) + 7) / 8 * 8;
  }
  place = get(image, at + (type == 0x23852875 ? 24 : 8), 8);
  if (type == 0x23852875 && pick(image, 2) == 0) {
    place = get(image, place, 8); /* the first bitmap's table */
    put(image, place + 8 * pick(image, 4), 8,
        pick(image, 3) == 0 ? pick(image, 2) : some_cluster(image));
  } else if (type != 0)
    put(image, place + 4 * pick(image, type == 0x23852875 ? 16 : 148), 4,
        pick(image, 2) == 0 ? some_number(image) : some_cluster(image));
}

/* Change an entry of the refcount table, or a refcount. */
static void change_refcount(struct image *image)
{
  uint64_t table = get(image, 48, 8), block = get(image, table + 8 * pick(image, 3), 8);

  if (pick(image, 4) == 0)
    put(image, table + 8 * pick(image, 4), 8,
        pick(image, 3) == 0 ? some_number(image) : some_cluster(image));
  else
    put(image, block + pick(image, 64), 1, pick(image, 3) == 0 ? pick(image, 256) : pick(image, 3));
}

/* ---- Whole clusters ------------------------------------------------------------------ */

static void copy_cluster(struct image *image)
{
  size_t length = (size_t) 1 << image->cluster_bits;
  uint64_t from = some_cluster(image), to = some_cluster(image);

  if (from + length <= image->size && to + length <= image->size)
    memmove(image->data + to, image->data + from, length);
}

/* Cut the file, or append zeros to it. */
static size_t change_size(struct image *image, size_t max_size)
{
  uint64_t size = some_cluster(image) + (pick(image, 2) == 0 ? 0 : pick(image, 600));

  if (size < HEADER_BYTES || size > max_size)
    return image->size;
  if (size > image->size)
    memset(image->data + image->size, 0, size - image->size);
  return size;
}

/* ---- The whole ----------------------------------------------------------------------- */

/* Keep what everything else depends on. */
static void repair_start(struct image *image)
{
  if (pick(image, 16) == 0)
    return;
  put(image, 0, 4, 0x514649fb);
  if (get(image, 4, 4) != 2)
    put(image, 4, 4, 3);
  image->cluster_bits = (unsigned) get(image, 20, 4);
  if (image->cluster_bits < 9 || image->cluster_bits > 21)
    put(image, 20, 4, 9 + pick(image, 8));
  if (pick(image, 4) != 0 && get(image, 4, 4) == 3 && get(image, 100, 4) != 104)
    put(image, 100, 4, 112);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
  struct image image = { .data = data,
                         .size = size,
                         .random = seed * UINT64_C(0x9e3779b97f4a7c15) + 1 };
  uint64_t changes;

  if (size < HEADER_BYTES || max_size < HEADER_BYTES)
    return LLVMFuzzerMutate(data, size, max_size);
  image.cluster_bits = (unsigned) get(&image, 20, 4);
  if (image.cluster_bits < 9 || image.cluster_bits > 21)
    image.cluster_bits = 9;
  for (changes = 1 + pick(&image, 3); changes > 0; changes--)
    switch (pick(&image, 13)) {
    case 0: change_header(&image); break;
    case 1: change_extension(&image); break;
    case 2: change_l1(&image); break;
    case 3:
    case 4:
    case 5: change_l2(&image); break;
    case 6: change_snapshot(&image); break;
    case 7: change_behind_extension(&image); break;
    case 8: copy_cluster(&image); break;
    case 9: image.size = change_size(&image, max_size); break;
    case 10: change_refcount(&image); break;
    default: image.size = LLVMFuzzerMutate(data, image.size, max_size); break;
    }
  repair_start(&image);
  return image.size;
}
