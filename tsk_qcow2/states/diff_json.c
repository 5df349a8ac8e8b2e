/* SPDX-License-Identifier: MIT */
/* The result for programs, as described in diff-json.md. */
#include <string.h>

#include "diff_result.h"
#include "moment.h"
#include "../command/json_value.h"
#include "../command/recovered.h"

static json_t *optional_text(const char *text)
{
  return text == NULL || text[0] == '\0' ? json_null() : json_string(text);
}

/* ---- Volumes ---------------------------------------------------------------------------- */

static json_t *counts_value(const uint64_t counts[DIFF_COUNTS])
{
  json_t *value = json_object();

  for (int i = 0; i < DIFF_COUNTS; i++)
    json_object_set_new(value, diff_count_name((enum diff_count) i), json_number(counts[i]));
  return value;
}

static json_t *volume_value(const struct volume *volume)
{
  if (volume == NULL)
    return json_null();
  return json_pack("{s:o, s:o, s:o, s:o, s:s, s:o, s:o}", "start", json_number(volume->start),
                   "sectors", json_number(volume->sectors), "offset", json_number(volume->offset),
                   "bytes", json_number(volume->length), "description", volume->description,
                   "file_system",
                   volume->fs == NULL ? json_null()
                                      : optional_text(tsk_fs_type_toname(volume->fs->ftype)),
                   "problem", optional_text(volume->problem));
}

static const char *fate_name(enum volume_fate fate)
{
  switch (fate) {
  case VOLUME_STAYED: return "both";
  case VOLUME_MOVED: return "moved";
  case VOLUME_ONLY_A: return "only-in-a";
  case VOLUME_ONLY_B: return "only-in-b";
  }
  return "";
}

static const char *compared_name(const struct diff_volume *volume)
{
  const struct volume_pair *pair = volume->pair;

  if (volume->is_by_files)
    return "files";
  return pair->a != NULL && pair->b != NULL && pair->a->fs == NULL && pair->b->fs == NULL ? "bytes"
                                                                                          : "no";
}

static json_t *partition_value(const struct diff_volume *volume)
{
  const struct volume_pair *pair = volume->pair;

  return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:b, s:o}", "type", "partition", "fate",
                   fate_name(pair->fate), "compared", compared_name(volume), "result",
                   diff_answer_name(volume->answer), "a", volume_value(pair->a), "b",
                   volume_value(pair->b), "counts", counts_value(volume->counts),
                   "same_file_system", pair->is_same_fs, "recovered",
                   recovered_mark_value(volume->is_recovered));
}

/* ---- Files ---------------------------------------------------------------------------------- */

static json_t *time_value(const struct entry *entry, enum entry_time time)
{
  char text[MOMENT_BYTES];

  if (entry->times[time] == 0 && entry->nanoseconds[time] == 0)
    return json_null();
  return json_string(moment_text(entry->times[time], entry->nanoseconds[time], text));
}

static json_t *side_value(const struct diff_volume *volume, int side, uint32_t index)
{
  const struct entry *entry;
  char path[ENTRY_PATH_BYTES];

  if (index == ENTRY_NONE)
    return json_null();
  entry = &volume->entries[side].list[index];
  return json_pack("{s:s, s:o, s:o, s:b, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "path",
                   entry_path(&volume->entries[side], index, path), "inode",
                   json_number(entry->inode), "sequence", json_number(entry->sequence),
                   "is_directory", (entry->flags & ENTRY_IS_DIRECTORY) != 0, "size",
                   (json_int_t) entry->size, "mode", json_number(entry->mode), "uid",
                   json_number(entry->uid), "gid", json_number(entry->gid), "links",
                   json_number(entry->links), "modified", time_value(entry, TIME_MODIFIED),
                   "accessed", time_value(entry, TIME_ACCESSED), "inode_changed",
                   time_value(entry, TIME_CHANGED), "born", time_value(entry, TIME_BORN));
}

static json_t *aspects_value(unsigned aspects)
{
  static const char *const NAMES[] = { "renamed",  "moved",         "content", "modified",
                                       "accessed", "inode_changed", "born",    "mode",
                                       "owner",    "size",          "links" };
  json_t *list = json_array();

  for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++)
    if ((aspects >> i & 1) != 0)
      json_array_append_new(list, json_string(NAMES[i]));
  return list;
}

/* The path of another file, if the inode's relation to it is this one. */
static json_t *related(const struct diff_volume *volume, int side, uint32_t other,
                       enum change_relation relation, enum change_relation wanted)
{
  char path[ENTRY_PATH_BYTES];

  return relation != wanted ? json_null()
                            : json_string(entry_path(&volume->entries[side], other, path));
}

static const char *content_name(const struct diff_volume *volume, size_t index)
{
  switch (volume->details[index].content) {
  case DIFF_CONTENT_UNREADABLE: return "unreadable";
  case DIFF_CONTENT_OVER_BUDGET: return "not-compared";
  case DIFF_CONTENT_KNOWN: break;
  }
  return (volume->changes.list[index].aspects & ASPECT_CONTENT) != 0 ? "different" : "same";
}

static json_t *file_value(const struct diff_volume *volume, size_t index)
{
  const struct change *change = &volume->changes.list[index];
  bool is_pair = change->a != ENTRY_NONE && change->b != ENTRY_NONE &&
                 change->kind != CHANGE_UNKNOWN;
  const struct volume_pair *pair = volume->pair;
  char status[DIFF_STATUS_BYTES];

  diff_status(change, status);
  return json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o}", "type",
                   "file", "partition",
                   json_number(pair->b != NULL ? pair->b->start : pair->a->start), "status",
                   status[0] != '\0' ? status : "unknown", "aspects",
                   aspects_value(change->aspects), "a", side_value(volume, 0, change->a), "b",
                   side_value(volume, 1, change->b), "content",
                   is_pair ? json_string(content_name(volume, index)) : json_null(), "stream",
                   optional_text(volume->details[index].stream), "inode_reused_by",
                   related(volume, 1, change->other_of_a, change->relation_a, RELATION_REUSED),
                   "inode_reused_from",
                   related(volume, 0, change->other_of_b, change->relation_b, RELATION_REUSED),
                   "still_is",
                   related(volume, 1, change->other_of_a, change->relation_a, RELATION_LINK), "was",
                   related(volume, 0, change->other_of_b, change->relation_b, RELATION_LINK),
                   "name_remains", change->name_remains, "recovered",
                   recovered_mark_value(volume->is_recovered));
}

static bool start(const struct state states[2])
{
  const struct tsk_qcow2_opened *const opened[2] = { state_opened(&states[0]),
                                                     state_opened(&states[1]) };

  return recovered_print_json_sides(opened);
}

static bool print_volume(const struct diff_volume *volume)
{
  bool is_done = json_print_line(partition_value(volume));

  for (size_t i = 0; is_done && i < volume->changes.count; i++)
    is_done = json_print_line(file_value(volume, i));
  return is_done;
}

static bool print_totals(const struct diff_totals *totals)
{
  return json_print_line(
      json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "type", "summary", "result",
                diff_answer_name(totals->answer), "partitions", json_number(totals->volume_count),
                "partitions_only_in_a", json_number(totals->volumes_only_a), "partitions_only_in_b",
                json_number(totals->volumes_only_b), "partitions_moved",
                json_number(totals->volumes_moved), "counts", counts_value(totals->counts),
                "recovered", recovered_mark_value(totals->is_recovered)));
}

const struct diff_format diff_format_json = { start, print_volume, print_totals };
