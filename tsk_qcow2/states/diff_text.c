/* SPDX-License-Identifier: MIT */
/* The result for people. */
#include <inttypes.h>
#include <stdio.h>

#include "diff_result.h"
#include "moment.h"
#include "../command/recovered.h"

/* ---- Volumes ---------------------------------------------------------------------------- */

static bool start(const struct state states[2])
{
  const struct tsk_qcow2_opened *const opened[2] = { state_opened(&states[0]),
                                                     state_opened(&states[1]) };

  recovered_print_sides(opened);
  return true;
}

static const char *fs_name(const struct volume *volume)
{
  const char *name = volume == NULL || volume->fs == NULL ? NULL
                                                          : tsk_fs_type_toname(volume->fs->ftype);

  return name == NULL ? "no file system that libtsk reads" : name;
}

static void print_title(const struct volume_pair *pair)
{
  const struct volume *known = pair->b != NULL ? pair->b : pair->a;

  if (known->sectors == 0)
    printf("Disk without partitions");
  else
    printf("Partition at sector %" PRIu64 "%s%s", known->start,
           known->description[0] == '\0' ? "" : ", ", known->description);
  printf(" (%s)", fs_name(known->fs == NULL && pair->a != NULL ? pair->a : known));
}

static void print_fate(const struct volume_pair *pair, const char *mark)
{
  switch (pair->fate) {
  case VOLUME_ONLY_A:
    printf(": only in A%s%s\n", pair->is_unsure ? ", as far as B can be read" : "", mark);
    return;
  case VOLUME_ONLY_B:
    printf(": only in B%s%s\n", pair->is_unsure ? ", as far as A can be read" : "", mark);
    return;
  case VOLUME_MOVED: printf(", at sector %" PRIu64 " in A", pair->a->start); break;
  case VOLUME_STAYED: break;
  }
  if (pair->a->length != pair->b->length)
    printf(", %" PRIu64 " -> %" PRIu64 " bytes", pair->a->length, pair->b->length);
  if (pair->a->fs != NULL && pair->b->fs != NULL && !pair->is_same_fs)
    printf(", another file system (%s) in A", fs_name(pair->a));
}

static void print_counts(const struct diff_volume *volume)
{
  static const struct {
    enum diff_count count;
    const char *words;
  } WORDS[] = {
    { COUNT_CREATED, "created" },
    { COUNT_DELETED, "deleted" },
    { COUNT_REPLACED, "replaced by another file" },
    { COUNT_MOVED, "renamed or moved" },
    { COUNT_CONTENT, "with other content" },
    { COUNT_METADATA, "with other metadata only" },
    { COUNT_REMNANTS, "more deleted names" },
    { COUNT_REMNANTS_GONE, "deleted names gone" },
    { COUNT_INODES_REUSED, "with an inode that is another file's in the other state" },
    { COUNT_UNKNOWN, "that cannot be compared" },
  };
  bool is_first = true;

  for (size_t i = 0; i < sizeof(WORDS) / sizeof(WORDS[0]); i++)
    if (volume->counts[WORDS[i].count] > 0) {
      printf("%s%" PRIu64 " %s", is_first ? ": " : ", ", volume->counts[WORDS[i].count],
             WORDS[i].words);
      is_first = false;
    }
  if (is_first)
    printf(volume->answer == DIFF_SAME || volume->answer == DIFF_DIFFERENT
               ? ": no file differs"
               : ": no file is known to differ");
  puts(recovered_mark(volume->is_recovered));
}

static void print_bytes_answer(const struct diff_volume *volume)
{
  const struct volume_pair *pair = volume->pair;

  if (pair->a->fs == NULL && pair->b->fs == NULL)
    printf(": compared by bytes, %s", volume->answer == DIFF_SAME ? "the same"
                                      : volume->answer == DIFF_DIFFERENT
                                          ? "different (diff --ranges shows where)"
                                          : "not all can be read");
  else
    printf(": not compared, for the file system cannot be opened in %s: %s",
           pair->a->fs == NULL ? "A" : "B",
           pair->a->fs == NULL ? pair->a->problem : pair->b->problem);
  puts(recovered_mark(volume->is_recovered));
}

/* ---- Files ---------------------------------------------------------------------------------- */

static const struct entry *entry_of(const struct diff_volume *volume, int side, uint32_t index)
{
  return index == ENTRY_NONE ? NULL : &volume->entries[side].list[index];
}

static void print_inodes(const struct entry *a, const struct entry *b)
{
  char text[48];

  if (a != NULL && b != NULL && a->inode != b->inode)
    snprintf(text, sizeof(text), "%" PRIu64 "->%" PRIu64, a->inode, b->inode);
  else
    snprintf(text, sizeof(text), "%" PRIu64, a != NULL ? a->inode : b->inode);
  printf("%-10s ", text);
}

static void print_path(const struct diff_volume *volume, const struct change *change)
{
  char path[ENTRY_PATH_BYTES];

  if (change->a != ENTRY_NONE && change->b != ENTRY_NONE &&
      (change->aspects & (ASPECT_MOVED | ASPECT_RENAMED)) != 0)
    printf("%s -> ", entry_path(&volume->entries[0], change->a, path));
  if (change->b != ENTRY_NONE)
    printf("%s", entry_path(&volume->entries[1], change->b, path));
  else
    printf("%s", entry_path(&volume->entries[0], change->a, path));
}

static void print_size(const struct entry *a, const struct entry *b)
{
  if (a != NULL && b != NULL && a->size != b->size)
    printf("; %" PRId64 " -> %" PRId64 " bytes", a->size, b->size);
  else
    printf("; %" PRId64 " bytes", a != NULL ? a->size : b->size);
}

static void print_time(const char *word, enum entry_time time, const struct entry *a,
                       const struct entry *b)
{
  char text[MOMENT_BYTES];

  printf("; %s", word);
  if (a != NULL)
    printf(" %s", moment_text(a->times[time], a->nanoseconds[time], text));
  if (a != NULL && b != NULL)
    printf(" ->");
  if (b != NULL)
    printf(" %s", moment_text(b->times[time], b->nanoseconds[time], text));
}

static void print_times(const struct entry *a, const struct entry *b, unsigned aspects)
{
  static const char *const WORDS[ENTRY_TIMES] = { "modified", "accessed", "inode changed", "born" };
  bool is_pair = a != NULL && b != NULL;

  for (int time = 0; time < ENTRY_TIMES; time++) {
    bool has_changed = (aspects & (unsigned) ASPECT_MODIFIED << time) != 0;

    if (has_changed)
      print_time(WORDS[time], (enum entry_time) time, a, b);
    else if (time == TIME_MODIFIED)
      print_time(WORDS[time], TIME_MODIFIED, is_pair ? NULL : a, b);
  }
}

static void print_other_meta(const struct entry *a, const struct entry *b, unsigned aspects)
{
  if ((aspects & ASPECT_MODE) != 0)
    printf("; mode %04o -> %04o", a->mode, b->mode);
  if ((aspects & ASPECT_OWNER) != 0)
    printf("; owner %" PRIu32 ":%" PRIu32 " -> %" PRIu32 ":%" PRIu32, a->uid, a->gid, b->uid,
           b->gid);
  if ((aspects & ASPECT_LINKS) != 0)
    printf("; links %" PRIu32 " -> %" PRIu32, a->links, b->links);
}

static void print_relations(const struct diff_volume *volume, const struct change *change)
{
  char path[ENTRY_PATH_BYTES];

  if (change->relation_a != RELATION_NONE)
    printf("; %s %s", change->relation_a == RELATION_LINK ? "still is" : "its inode now is",
           entry_path(&volume->entries[1], change->other_of_a, path));
  if (change->relation_b != RELATION_NONE)
    printf("; %s %s", change->relation_b == RELATION_LINK ? "was there as" : "its inode was",
           entry_path(&volume->entries[0], change->other_of_b, path));
  if (change->name_remains)
    printf("; the deleted name is still there");
}

static void print_detail(const struct diff_detail *detail)
{
  if (detail->stream[0] != '\0')
    printf("; stream %s", detail->stream);
  if (detail->content == DIFF_CONTENT_UNREADABLE)
    printf("; its content cannot be read, and so not be compared");
  if (detail->content == DIFF_CONTENT_OVER_BUDGET)
    printf("; its content was not compared: that takes too much reading");
}

static void print_change(const struct diff_volume *volume, size_t index)
{
  const struct change *change = &volume->changes.list[index];
  const struct entry *a = entry_of(volume, 0, change->a), *b = entry_of(volume, 1, change->b);
  char status[DIFF_STATUS_BYTES];

  diff_status(change, status);
  printf("%-16s ", status[0] != '\0' ? status : "unknown");
  print_inodes(a, b);
  print_path(volume, change);
  print_size(a, b);
  print_times(a, b, change->aspects);
  print_other_meta(a, b, change->aspects);
  print_relations(volume, change);
  print_detail(&volume->details[index]);
  puts(recovered_mark(volume->is_recovered));
}

static bool print_volume(const struct diff_volume *volume)
{
  print_title(volume->pair);
  print_fate(volume->pair, recovered_mark(volume->is_recovered));
  if (volume->is_by_files)
    print_counts(volume);
  else if (volume->pair->a != NULL && volume->pair->b != NULL)
    print_bytes_answer(volume);
  for (size_t i = 0; i < volume->changes.count; i++)
    print_change(volume, i);
  return true;
}

static bool print_totals(const struct diff_totals *totals)
{
  bool is_recovered = totals->is_recovered[0] || totals->is_recovered[1];

  switch (totals->answer) {
  case DIFF_SAME: printf("Same: no file differs."); break;
  case DIFF_DIFFERENT: printf("Different."); break;
  case DIFF_INCOMPLETE: printf("Not all of it was compared."); break;
  case DIFF_UNREADABLE:
    printf("Not all of it can be compared, because some of it cannot be read.");
    break;
  }
  puts(is_recovered ? " What is recovered may not be what the state had: see the first lines."
                    : "");
  return true;
}

const struct diff_format diff_format_text = { start, print_volume, print_totals };
