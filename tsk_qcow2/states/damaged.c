/* SPDX-License-Identifier: MIT */
#include "damaged.h"

#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "../command/json_value.h"

/* ---- Ranges ----------------------------------------------------------------------------- */

static uint64_t number_of(const json_t *object, const char *key)
{
  return (uint64_t) json_integer_value(json_object_get(object, key));
}

bool damaged_start(struct damaged *damaged, const json_t *verified_state)
{
  const json_t *list = json_object_get(verified_state, "bad_ranges");
  size_t count = json_array_size(list);

  *damaged = (struct damaged){ .ranges = calloc(count + 1, sizeof(damaged->ranges[0])),
                               .files = json_array() };
  if (damaged->ranges == NULL || damaged->files == NULL)
    return false;
  for (size_t i = 0; i < count; i++) {
    const json_t *range = json_array_get(list, i);
    uint64_t start = number_of(range, "start");

    damaged->ranges[i] = (struct damaged_range){ start, start + number_of(range, "length") };
  }
  damaged->range_count = count;
  damaged->is_cut = number_of(verified_state, "bad_range_count") > count;
  return true;
}

void damaged_free(struct damaged *damaged)
{
  free(damaged->ranges);
  json_decref(damaged->files);
  memset(damaged, 0, sizeof(*damaged));
}

/* How many bytes of [start, end) cannot be read. */
static uint64_t bytes_in(const struct damaged *damaged, uint64_t start, uint64_t end)
{
  size_t low = 0, high = damaged->range_count;
  uint64_t bytes = 0;

  while (low < high) { /* find the first range that ends after the start */
    size_t middle = low + (high - low) / 2;

    if (damaged->ranges[middle].end <= start)
      low = middle + 1;
    else
      high = middle;
  }
  for (; low < damaged->range_count && damaged->ranges[low].start < end; low++) {
    uint64_t from = damaged->ranges[low].start, to = damaged->ranges[low].end;

    bytes += (to < end ? to : end) - (from > start ? from : start);
  }
  return bytes;
}

/* ---- Files -------------------------------------------------------------------------------- */

static void note(struct damaged *damaged, const struct entries *entries, size_t index,
                 const char *prefix, const char *what, uint64_t bytes)
{
  char path[ENTRY_PATH_BYTES];

  if (damaged->file_count++ >= DAMAGED_LISTED_MAX)
    return;
  json_array_append_new(
      damaged->files,
      json_pack("{s:o, s:o, s:s, s:o}", "path",
                json_sprintf("%s%s", prefix,
                             index == ENTRY_NONE ? "/" : entry_path(entries, index, path)),
                "inode",
                index == ENTRY_NONE ? json_null() : json_number(entries->list[index].inode), "what",
                what, "bytes", bytes == 0 ? json_null() : json_number(bytes)));
}

static uint64_t bytes_of_run(const struct damaged *damaged, const TSK_FS_INFO *fs,
                             const TSK_FS_ATTR_RUN *run)
{
  uint64_t offset, length;

  if ((run->flags & (TSK_FS_ATTR_RUN_FLAG_SPARSE | TSK_FS_ATTR_RUN_FLAG_FILLER)) != 0 ||
      __builtin_mul_overflow(run->addr, (uint64_t) fs->block_size, &offset) ||
      __builtin_add_overflow(offset, (uint64_t) fs->offset, &offset) ||
      __builtin_mul_overflow(run->len, (uint64_t) fs->block_size, &length) ||
      offset + length < offset)
    return 0;
  return bytes_in(damaged, offset, offset + length);
}

void damaged_add_file(struct damaged *damaged, TSK_FS_FILE *file, const struct entries *entries,
                      size_t index, const char *prefix)
{
  uint64_t bytes = 0;

  if (damaged->range_count == 0 || file == NULL || file->meta == NULL)
    return;
  for (const TSK_FS_ATTR *attr = layout_first_stream(file); attr != NULL;
       attr = layout_next_stream(attr))
    if ((attr->flags & TSK_FS_ATTR_NONRES) != 0)
      for (const TSK_FS_ATTR_RUN *run = attr->nrd.run; run != NULL; run = run->next)
        bytes += bytes_of_run(damaged, file->fs_info, run);
  if (bytes > 0)
    note(damaged, entries, index, prefix, "content", bytes);
}

void damaged_add_unread(struct damaged *damaged, const struct entries *entries, const char *prefix)
{
  if (entries->is_root_incomplete)
    note(damaged, entries, ENTRY_NONE, prefix, "names", 0);
  for (size_t i = 0; i < entries->count; i++) {
    if ((entries->list[i].flags & ENTRY_INCOMPLETE) != 0)
      note(damaged, entries, i, prefix, "names", 0);
    if ((entries->list[i].flags & ENTRY_META_UNSURE) != 0)
      note(damaged, entries, i, prefix, "metadata", 0);
  }
}
