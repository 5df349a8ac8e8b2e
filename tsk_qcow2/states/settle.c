/* SPDX-License-Identifier: MIT */
#include "settle.h"

#include <stdlib.h>
#include <string.h>

/* Calls of qcow2_view_same() for a pair of file systems: a run takes one or a few, so only file
   systems that were made to keep a reader busy need more. */
#define CALLS_MAX UINT64_C(50000000)
/* Bytes that are read to compare contents, in disks: files that share runs can take any number. */
#define DISKS_READ_MAX 4

/* ---- Answers ---------------------------------------------------------------------------- */

enum diff_answer settle_worse(enum diff_answer a, enum diff_answer b)
{
  return a > b ? a : b;
}

static enum diff_answer answer_of(enum content_answer content)
{
  switch (content) {
  case CONTENT_SAME: return DIFF_SAME;
  case CONTENT_DIFFERS: return DIFF_DIFFERENT;
  case CONTENT_UNREADABLE: return DIFF_UNREADABLE;
  case CONTENT_OVER_BUDGET: return DIFF_INCOMPLETE;
  }
  return DIFF_INCOMPLETE;
}

/* ---- Contents ----------------------------------------------------------------------------- */

/* Read both files as far as that is needed, and correct what the change says of the content. */
static void settle_content(struct content *content, struct diff_volume *volume, size_t index)
{
  struct change *change = &volume->changes.list[index];
  struct diff_detail *detail = &volume->details[index];
  TSK_FS_FILE *a = tsk_fs_file_open_meta(volume->pair->a->fs, NULL,
                                         volume->entries[0].list[change->a].inode);
  TSK_FS_FILE *b = tsk_fs_file_open_meta(volume->pair->b->fs, NULL,
                                         volume->entries[1].list[change->b].inode);
  enum content_answer answer = CONTENT_UNREADABLE;

  if (a != NULL && b != NULL)
    answer = content_compare(content, a, b, detail->stream, sizeof(detail->stream));
  if (answer != CONTENT_DIFFERS)
    change->aspects &= ~(unsigned) ASPECT_CONTENT;
  if (answer == CONTENT_UNREADABLE)
    detail->content = DIFF_CONTENT_UNREADABLE;
  else if (answer == CONTENT_OVER_BUDGET)
    detail->content = DIFF_CONTENT_OVER_BUDGET;
  if (answer != CONTENT_DIFFERS)
    volume->answer = settle_worse(volume->answer, answer_of(answer));
  tsk_fs_file_close(a);
  tsk_fs_file_close(b);
}

/* A pair of files of which nothing changed after all. */
static bool is_nothing(const struct diff_volume *volume, size_t index)
{
  const struct change *change = &volume->changes.list[index];

  return change->kind == CHANGE_CHANGED && change->aspects == 0 &&
         volume->details[index].content == DIFF_CONTENT_KNOWN;
}

static void settle_contents(struct settle *settle, struct diff_volume *volume)
{
  size_t kept = 0;

  progress_start_count(&settle->progress, "Comparing contents", volume->changes.count);
  for (size_t i = 0; i < volume->changes.count; i++) {
    if ((volume->changes.list[i].aspects & ASPECT_CONTENT) != 0)
      settle_content(&settle->content, volume, i);
    progress_show(&settle->progress, i);
    if (is_nothing(volume, i))
      continue;
    volume->changes.list[kept] = volume->changes.list[i];
    volume->details[kept++] = volume->details[i];
  }
  volume->changes.count = kept;
  progress_hide(&settle->progress);
}

/* ---- Counting ------------------------------------------------------------------------------- */

static enum diff_count count_of(const struct change *change)
{
  switch (change->kind) {
  case CHANGE_CREATED: return COUNT_CREATED;
  case CHANGE_DELETED: return COUNT_DELETED;
  case CHANGE_REPLACED: return COUNT_REPLACED;
  case CHANGE_UNKNOWN: return COUNT_UNKNOWN;
  case CHANGE_REMNANT: return COUNT_REMNANTS;
  case CHANGE_REMNANT_GONE: return COUNT_REMNANTS_GONE;
  case CHANGE_CHANGED:
  case CHANGE_KINDS: break;
  }
  if ((change->aspects & (ASPECT_MOVED | ASPECT_RENAMED)) != 0)
    return COUNT_MOVED;
  return (change->aspects & ASPECT_CONTENT) != 0 ? COUNT_CONTENT : COUNT_METADATA;
}

static void count_changes(struct diff_volume *volume)
{
  for (size_t i = 0; i < volume->changes.count; i++) {
    const struct change *change = &volume->changes.list[i];
    bool is_settled = volume->details[i].content == DIFF_CONTENT_KNOWN;

    if (change->kind == CHANGE_CHANGED && change->aspects == 0 && !is_settled)
      volume->counts[COUNT_UNKNOWN]++;
    else
      volume->counts[count_of(change)]++;
    volume->counts[COUNT_INODES_REUSED] += change->relation_a == RELATION_REUSED ||
                                           change->relation_b == RELATION_REUSED;
    volume->answer = settle_worse(volume->answer, change->kind == CHANGE_UNKNOWN ? DIFF_UNREADABLE
                                                                                 : DIFF_DIFFERENT);
  }
}

/* ---- One volume ------------------------------------------------------------------------------ */

/* Files of a file system that moved have other bytes below the same runs. */
static void touch_all(struct entries *entries)
{
  for (size_t i = 0; i < entries->count; i++)
    entries->list[i].flags |= ENTRY_TOUCHED;
}

static enum compare_identity identity_of(const struct volume_pair *pair)
{
  if (!pair->is_same_fs)
    return IDENTITY_NONE;
  if (TSK_FS_TYPE_ISFAT(pair->a->fs->ftype))
    return IDENTITY_PLACE;
  return (pair->a->fs->flags & TSK_FS_INFO_FLAG_HAVE_SEQ) != 0 ? IDENTITY_SEQUENCE : IDENTITY_BIRTH;
}

/* How many reads of the two states have failed. */
static uint64_t count_failures(const struct settle *settle)
{
  return state_failures(settle->content.states[0]) + state_failures(settle->content.states[1]);
}

static bool compare_files(struct settle *settle, struct diff_volume *volume)
{
  struct entries *entries = volume->entries;
  uint64_t failures = count_failures(settle);

  volume->is_by_files = true;
  settle->budget.calls = CALLS_MAX;
  settle->content.bytes_left = DISKS_READ_MAX * (uint64_t) settle->content.states[0]->img->size;
  if (!settle->record(settle->context, volume))
    return false;
  if (volume->pair->fate == VOLUME_MOVED)
    touch_all(&entries[0]);
  if (!compare_entries(&entries[0], &entries[1], identity_of(volume->pair), &volume->changes))
    return false;
  volume->details = calloc(volume->changes.count + 1, sizeof(volume->details[0]));
  if (volume->details == NULL)
    return false;
  if (entries[0].is_cut || entries[1].is_cut)
    volume->answer = DIFF_INCOMPLETE;
  settle_contents(settle, volume);
  if (volume->changes.has_unread || count_failures(settle) != failures)
    volume->answer = DIFF_UNREADABLE;
  count_changes(volume);
  return true;
}

/* A volume without a file system that libtsk reads, in either state. */
static void compare_bytes(struct settle *settle, struct diff_volume *volume)
{
  const struct volume *a = volume->pair->a, *b = volume->pair->b;
  uint64_t length = a->length < b->length ? a->length : b->length;

  volume->answer = answer_of(content_compare_disks(&settle->content, a->offset, length));
  if (volume->answer == DIFF_SAME && a->length != b->length)
    volume->answer = DIFF_DIFFERENT;
  if (a->is_damaged || b->is_damaged)
    volume->answer = DIFF_UNREADABLE;
}

/* A file system that can be opened in one state only. */
static void compare_with_nothing(struct diff_volume *volume)
{
  volume->answer = volume->pair->a->is_damaged || volume->pair->b->is_damaged ? DIFF_UNREADABLE
                                                                              : DIFF_INCOMPLETE;
}

bool settle_volume(struct settle *settle, struct diff_volume *volume)
{
  const struct volume_pair *pair = volume->pair;

  settle->content.views.other = pair->fate == VOLUME_STAYED ? settle->content.states[1]->view
                                                            : NULL;
  if (pair->a == NULL || pair->b == NULL) {
    volume->answer = pair->is_unsure ? DIFF_UNREADABLE : DIFF_DIFFERENT;
    return true;
  }
  if (pair->fate == VOLUME_MOVED)
    volume->answer = DIFF_DIFFERENT;
  if (pair->a->fs != NULL && pair->b->fs != NULL)
    return compare_files(settle, volume);
  if (pair->a->fs == NULL && pair->b->fs == NULL)
    compare_bytes(settle, volume);
  else
    compare_with_nothing(volume);
  return true;
}

/* ---- All of them --------------------------------------------------------------------------- */

bool settle_start(struct settle *settle, const struct state *a, const struct state *b)
{
  settle->content = (struct content){ .states = { a, b },
                                      .views = { a->view, b->view },
                                      .budget = &settle->budget,
                                      .buffers = { malloc(CONTENT_BUFFER_BYTES),
                                                   malloc(CONTENT_BUFFER_BYTES) } };
  return settle->content.buffers[0] != NULL && settle->content.buffers[1] != NULL;
}

void settle_end(struct settle *settle)
{
  for (int side = 0; side < 2; side++)
    free(settle->content.buffers[side]);
}

void settle_add(struct diff_totals *totals, const struct diff_volume *volume)
{
  totals->volume_count++;
  totals->volumes_only_a += volume->pair->fate == VOLUME_ONLY_A;
  totals->volumes_only_b += volume->pair->fate == VOLUME_ONLY_B;
  totals->volumes_moved += volume->pair->fate == VOLUME_MOVED;
  for (int i = 0; i < DIFF_COUNTS; i++)
    totals->counts[i] += volume->counts[i];
  totals->answer = settle_worse(totals->answer, volume->answer);
}
