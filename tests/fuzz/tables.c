/* SPDX-License-Identifier: MIT */
/*
 * A snapshot table and a bitmap directory, with a sound image made around them. The input:
 *   1 byte    number of snapshots in the header
 *   1 byte    number of bitmaps in the header extension
 *   2 bytes   length of the snapshot table; the rest is the bitmap directory
 *   1 byte    flags: autoclear features
 * What the reader finds must be what a second, simpler parser finds.
 */
#include <stdlib.h>
#include <string.h>

#include "../../core/base/bytes.h"
#include "../../core/base/checked.h"
#include "fuzz.h"

#define CLUSTER 512u
#define TABLES_AT (2 * CLUSTER) /* after the header and the L1 table */
#define DISK_BYTES (UINT64_C(1) << 20)
#define L1_ENTRIES (DISK_BYTES / CLUSTER / (CLUSTER / 8))
#define RANGES_MAX 64

struct tables {
  uint8_t *image;
  size_t length;
  uint32_t snapshot_count, bitmap_count;
  size_t snapshots_length, directory_at, directory_length;
};

/* ---- Making the image ----------------------------------------------------- */

static void be64_put(uint8_t *bytes, uint64_t value)
{
  be32_put(bytes, (uint32_t) (value >> 32));
  be32_put(bytes + 4, (uint32_t) value);
}

static void put_header(const struct tables *tables, unsigned autoclear)
{
  uint8_t *header = tables->image, *extension = header + 104;

  be32_put(header, UINT32_C(0x514649fb));
  be32_put(header + 4, 3);
  be32_put(header + 20, 9);
  be64_put(header + 24, DISK_BYTES);
  be32_put(header + 36, L1_ENTRIES);
  be64_put(header + 40, CLUSTER);
  be32_put(header + 60, tables->snapshot_count);
  be64_put(header + 64, TABLES_AT);
  header[95] = (uint8_t) autoclear;
  be32_put(header + 96, 4);
  be32_put(header + 100, 104);
  be32_put(extension, UINT32_C(0x23852875));
  be32_put(extension + 4, 24);
  be32_put(extension + 8, tables->bitmap_count);
  be64_put(extension + 16, tables->directory_length);
  be64_put(extension + 24, tables->directory_at);
}

static struct tables tables_make(struct fuzz_input input)
{
  struct tables tables = { .snapshot_count = (uint32_t) fuzz_take(&input, 1),
                           .bitmap_count = (uint32_t) fuzz_take(&input, 1) };
  size_t wanted = (size_t) fuzz_take(&input, 2);
  unsigned autoclear = (unsigned) fuzz_take(&input, 1);

  tables.snapshots_length = wanted < input.length ? wanted : input.length;
  tables.directory_length = input.length - tables.snapshots_length;
  tables.directory_at = (TABLES_AT + tables.snapshots_length + CLUSTER - 1) / CLUSTER * CLUSTER;
  tables.length = tables.directory_at + tables.directory_length;
  tables.image = calloc(1, tables.length);
  FUZZ_CHECK(tables.image != NULL);
  put_header(&tables, autoclear);
  if (input.length > 0) {
    memcpy(tables.image + TABLES_AT, input.bytes, tables.snapshots_length);
    memcpy(tables.image + tables.directory_at, input.bytes + tables.snapshots_length,
           tables.directory_length);
  }
  return tables;
}

/* ---- Snapshots -------------------------------------------------------------- */

/* Compare a snapshot with the `entry` it was read from. */
static void check_snapshot(const struct qcow2_snapshot *snapshot, const uint8_t *entry,
                           uint32_t extra)
{
  const uint8_t *id = entry + 40 + extra, *name = id + be16_get(entry + 12);

  FUZZ_CHECK(snapshot->l1_offset == be64_get(entry) && snapshot->l1_size == be32_get(entry + 8));
  FUZZ_CHECK(snapshot->id_length == be16_get(entry + 12) &&
             snapshot->name_length == be16_get(entry + 14));
  FUZZ_CHECK(memcmp(snapshot->id, id, snapshot->id_length) == 0 &&
             snapshot->id[snapshot->id_length] == '\0');
  FUZZ_CHECK(memcmp(snapshot->name, name, snapshot->name_length) == 0);
  FUZZ_CHECK(snapshot->name[snapshot->name_length] == '\0');
  FUZZ_CHECK(snapshot->vm_state_size == (extra >= 8 ? be64_get(entry + 40) : be32_get(entry + 32)));
  FUZZ_CHECK(snapshot->has_disk_size == (extra >= 16));
  FUZZ_CHECK(snapshot->disk_size == (extra >= 16 ? be64_get(entry + 48) : DISK_BYTES));
  FUZZ_CHECK(snapshot->unknown_extra_length == (extra > 24 ? extra - 24 : 0));
  FUZZ_CHECK(extra <= 24 || memcmp(snapshot->unknown_extra, entry + 64, extra - 24) == 0);
  fuzz_check_escape(snapshot->id, snapshot->id_length);
  fuzz_check_escape(snapshot->name, snapshot->name_length);
}

/* Find what can be found by its own name. */
static void check_find_snapshot(const struct qcow2_image *image, size_t index)
{
  const struct qcow2_snapshot *snapshot = qcow2_snapshot_get(image, index);
  const char *keys[] = { snapshot->id, snapshot->id, snapshot->name };
  size_t lengths[] = { snapshot->id_length, snapshot->id_length, snapshot->name_length };

  for (int by = QCOW2_BY_ID_OR_NAME; by <= QCOW2_BY_NAME; by++) {
    struct qcow2_error error = fuzz_error_fresh();
    size_t found = SIZE_MAX;
    int code = qcow2_snapshot_find(image, keys[by], (enum qcow2_snapshot_key) by, &found, &error);

    fuzz_check_result(code, &error);
    FUZZ_CHECK(code == 0 || code == QCOW2_ERROR_NOT_FOUND);
    if (code == 0 && strlen(keys[by]) == lengths[by])
      FUZZ_CHECK(found == index);
  }
}

static void open_views(struct qcow2_image *image, size_t index)
{
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_view *view = NULL;
  uint8_t bytes[16];
  int code = qcow2_view_open(image, index, &view, &error);

  fuzz_check_result(code, &error);
  if (code == 0 && qcow2_view_size(view) >= sizeof(bytes))
    qcow2_view_read(view, qcow2_view_size(view) - sizeof(bytes), bytes, sizeof(bytes), NULL);
  qcow2_view_close(view);
  view = NULL;
  error = fuzz_error_fresh();
  code = qcow2_view_open_vm_state(image, index, &view, &error);
  fuzz_check_result(code, &error);
  if (code == 0)
    qcow2_view_read(view, qcow2_view_size(view) - 1, bytes, 1, NULL);
  qcow2_view_close(view);
}

/* Whether an entry has a name, an ID, or an L1 table that can hold its disk. */
static bool is_entry(const uint8_t *entry, uint32_t extra)
{
  uint64_t l1_offset = be64_get(entry), l1_size = be32_get(entry + 8);
  uint64_t size = extra >= 16 ? be64_get(entry + 48) : DISK_BYTES;
  uint64_t reach = CLUSTER * (CLUSTER / 8);
  bool has_l1 = l1_offset > 0 && l1_offset % CLUSTER == 0 && l1_offset <= INT64_MAX &&
                l1_size <= (32u << 20) / 8;

  if (be16_get(entry + 12) > 0 || be16_get(entry + 14) > 0)
    return true;
  return has_l1 && (extra >= 16 ? divide_up(size, reach) <= l1_size : l1_size > 0);
}

/* What the library says of a snapshot that it lists must be what opening it comes to. */
static void check_lost(struct qcow2_image *image, size_t index)
{
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_view *view = NULL;
  int code = qcow2_snapshot_check(image, index, &error);

  fuzz_check_result(code, &error);
  if (code == 0) {
    FUZZ_CHECK(qcow2_view_open(image, index, &view, NULL) == 0);
    qcow2_view_close(view);
  }
  FUZZ_CHECK(code == 0 || qcow2_warning(image, 0) != NULL);
}

static void check_snapshots(struct qcow2_image *image, const struct tables *tables)
{
  size_t at = TABLES_AT, index = 0;

  for (; index < tables->snapshot_count && range_fits(at, 40, tables->length); index++) {
    const uint8_t *entry = tables->image + at;
    uint32_t extra = be32_get(entry + 36);
    size_t length = 40 + (size_t) extra + be16_get(entry + 12) + be16_get(entry + 14);

    if (extra > 1024 || !range_fits(at, length, tables->length) || !is_entry(entry, extra))
      break;
    FUZZ_CHECK(index < qcow2_snapshot_count(image));
    check_snapshot(qcow2_snapshot_get(image, index), entry, extra);
    at += (length + 7) / 8 * 8;
  }
  FUZZ_CHECK(qcow2_snapshot_count(image) == index && qcow2_snapshot_get(image, index) == NULL);
  FUZZ_CHECK(qcow2_snapshot_lost_count(image) == tables->snapshot_count - index);
  FUZZ_CHECK(index == tables->snapshot_count || qcow2_warning(image, 0) != NULL);
  for (size_t i = 0; i < index && i < 8; i++) {
    check_find_snapshot(image, i);
    check_lost(image, i);
    open_views(image, i);
  }
}

/* ---- Bitmaps ---------------------------------------------------------------- */

/* Whether a bit of the bitmap is set, found by its definition; -1: it is not in the file. */
static int bit_of(const struct tables *tables, const struct qcow2_bitmap *bitmap, uint64_t bit)
{
  uint64_t entry_at = bitmap->table_offset + bit / (CLUSTER * 8) * 8, at, entry;

  if (!range_fits(entry_at, 8, tables->length))
    return -1;
  entry = be64_get(tables->image + entry_at);
  at = entry & UINT64_C(0x00fffffffffffe00);
  if (at == 0)
    return (int) (entry & 1);
  at += bit % (CLUSTER * 8) / 8;
  return at < tables->length ? tables->image[at] >> bit % 8 & 1 : -1;
}

/* The bits of the dirty range must be set, and those between the ranges not. */
static void check_bits(const struct tables *tables, const struct qcow2_bitmap *bitmap, uint64_t at,
                       const struct qcow2_range *range)
{
  uint64_t end = range->length == 0 ? DISK_BYTES : range->guest_offset + range->length;

  for (uint64_t bit = divide_up(at, bitmap->granularity); bit * bitmap->granularity < end; bit++)
    FUZZ_CHECK(bit_of(tables, bitmap, bit) ==
               (range->length > 0 && bit * bitmap->granularity >= range->guest_offset));
}

/* The dirty ranges must ascend, lie on the disk, be those of the bits, and add up to what is
   counted. */
static void check_dirty(const struct qcow2_image *image, const struct tables *tables, size_t index)
{
  const struct qcow2_bitmap *bitmap = qcow2_bitmap_get(image, index);
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_range range = { 0, 0 };
  uint64_t runs = UINT64_MAX, counted, sum = 0, at = 0;
  int ranges = 0, code = qcow2_bitmap_dirty_bytes(image, index, &runs, &counted, &error);

  fuzz_check_result(code, &error);
  for (; code == 0 && ranges < RANGES_MAX; ranges++) {
    FUZZ_CHECK(qcow2_bitmap_next_dirty(image, index, at, &range, &error) == 0);
    check_bits(tables, bitmap, at, &range);
    if (range.length == 0)
      break;
    FUZZ_CHECK((ranges == 0 ? range.guest_offset >= at : range.guest_offset > at));
    FUZZ_CHECK(range_fits(range.guest_offset, range.length, DISK_BYTES));
    at = range.guest_offset + range.length;
    sum += range.length;
  }
  FUZZ_CHECK(code != 0 || (ranges < RANGES_MAX ? sum == counted : sum <= counted));
}

static void check_bitmap(const struct qcow2_bitmap *bitmap, const uint8_t *entry, uint32_t extra)
{
  FUZZ_CHECK(bitmap->table_offset == be64_get(entry) && bitmap->table_size == be32_get(entry + 8));
  FUZZ_CHECK(bitmap->flags == be32_get(entry + 12) && bitmap->type == entry[16]);
  FUZZ_CHECK(bitmap->granularity == UINT64_C(1) << entry[17]);
  FUZZ_CHECK(bitmap->name_length == be16_get(entry + 18) && bitmap->extra_length == extra);
  FUZZ_CHECK(memcmp(bitmap->name, entry + 24 + extra, bitmap->name_length) == 0);
  FUZZ_CHECK(bitmap->name[bitmap->name_length] == '\0');
}

static void check_find_bitmap(const struct qcow2_image *image, size_t index)
{
  const struct qcow2_bitmap *bitmap = qcow2_bitmap_get(image, index);
  struct qcow2_error error = fuzz_error_fresh();
  size_t found = SIZE_MAX;
  int code = qcow2_bitmap_find(image, bitmap->name, &found, &error);

  fuzz_check_result(code, &error);
  if (strlen(bitmap->name) == bitmap->name_length)
    FUZZ_CHECK(code == 0 && found <= index);
}

static void check_bitmaps(const struct qcow2_image *image, const struct tables *tables)
{
  size_t at = 0, index = 0;

  for (; index < tables->bitmap_count && range_fits(at, 24, tables->directory_length); index++) {
    const uint8_t *entry = tables->image + tables->directory_at + at;
    uint32_t extra = be32_get(entry + 20), name = be16_get(entry + 18);

    if (entry[17] < 9 || entry[17] > 31 || name == 0 || name > 1023 ||
        be64_get(entry) % CLUSTER != 0 || be64_get(entry) == 0 || be64_get(entry) > INT64_MAX ||
        be32_get(entry + 8) > (1 << 20) ||
        !range_fits(at + 24, (uint64_t) extra + name, tables->directory_length))
      break;
    FUZZ_CHECK(index < qcow2_bitmap_count(image));
    check_bitmap(qcow2_bitmap_get(image, index), entry, extra);
    at += (24 + (size_t) extra + name + 7) / 8 * 8;
  }
  FUZZ_CHECK(qcow2_bitmap_count(image) == index && qcow2_bitmap_get(image, index) == NULL);
  if (index < tables->bitmap_count || at < tables->directory_length)
    FUZZ_CHECK(qcow2_bitmap_lost_count(image) > 0 && qcow2_warning(image, 0) != NULL);
  for (size_t i = 0; i < index && i < 8; i++) {
    check_find_bitmap(image, i);
    check_dirty(image, tables, i);
  }
}

/* ---- The target --------------------------------------------------------------- */

void fuzz_tables(const uint8_t *data, size_t size)
{
  struct tables tables = tables_make((struct fuzz_input){ data, size });
  struct fuzz_input file = { tables.image, tables.length };
  struct qcow2_storage storage = fuzz_storage(&file);
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_image *image;
  int code = qcow2_image_open_storage(&storage, NULL, &image, &error);

  fuzz_check_result(code, &error);
  FUZZ_CHECK(code == 0); /* damage of these tables is a warning */
  check_snapshots(image, &tables);
  check_bitmaps(image, &tables);
  for (size_t i = 0; qcow2_warning(image, i) != NULL; i++)
    fuzz_check_printable(qcow2_warning(image, i));
  qcow2_image_close(image);
  free(tables.image);
}
