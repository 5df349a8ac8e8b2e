/* SPDX-License-Identifier: MIT */
/* The result in mactime's body format: a line for each side of a file that changed. */
#include <inttypes.h>
#include <stdio.h>

#include "body.h"
#include "diff_result.h"

static bool start(const struct state states[2])
{
  (void) states;
  return true;
}

static void print_side(const struct diff_volume *volume, int side, uint32_t index,
                       const char *status)
{
  const struct volume *own = side == 0 ? volume->pair->a : volume->pair->b;
  const struct entry *entry = &volume->entries[side].list[index];
  bool has_meta = (entry->flags & ENTRY_HAS_META) != 0;
  unsigned type = has_meta ? entry->type : 0;
  char path[ENTRY_PATH_BYTES], escaped[ENTRY_PATH_BYTES], mode[16], prefix[32] = "";

  body_mode(body_type(type), type, entry->mode, has_meta, mode);
  if (own->sectors != 0)
    snprintf(prefix, sizeof(prefix), "/%" PRIu64, own->start);
  body_escape(entry_path(&volume->entries[side], index, path), escaped, sizeof(escaped));
  printf("0|%s%s [%s in %s%s]|%" PRIu64 "|%s|%" PRIu32 "|%" PRIu32 "|%" PRId64, prefix, escaped,
         status, side == 0 ? "A" : "B", volume->is_recovered[side] ? ", recovered" : "",
         entry->inode, mode, entry->uid, entry->gid, entry->size);
  printf("|%" PRId64 "|%" PRId64 "|%" PRId64 "|%" PRId64 "\n", entry->times[TIME_ACCESSED],
         entry->times[TIME_MODIFIED], entry->times[TIME_CHANGED], entry->times[TIME_BORN]);
}

static bool print_volume(const struct diff_volume *volume)
{
  char status[DIFF_STATUS_BYTES];

  for (size_t i = 0; i < volume->changes.count; i++) {
    const struct change *change = &volume->changes.list[i];

    diff_status(change, status);
    if (change->a != ENTRY_NONE)
      print_side(volume, 0, change->a, status[0] != '\0' ? status : "unknown");
    if (change->b != ENTRY_NONE)
      print_side(volume, 1, change->b, status[0] != '\0' ? status : "unknown");
  }
  return true;
}

static bool print_totals(const struct diff_totals *totals)
{
  (void) totals;
  return true;
}

const struct diff_format diff_format_body = { start, print_volume, print_totals };
