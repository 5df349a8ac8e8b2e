/* SPDX-License-Identifier: MIT */
/* All states of an image in turn: their partitions and file systems, which files lie on unreadable
   ranges, and what changed since the state before, in numbers. Each state's names are read once: as
   the second side of one comparison, and then as the first of the next. What is printed is
   described in report-json.md. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "damaged.h"
#include "disk.h"
#include "settle.h"
#include "states.h"
#include "walk.h"
#include "../command/command.h"
#include "../command/json_value.h"

/* Calls of qcow2_view_same() for the names of one file system, and for one pair of disks. */
#define CALLS_MAX UINT64_C(50000000)
#define TITLE_BYTES 300

/* One state. */
struct side {
  size_t index; /* of the snapshot, or QCOW2_ACTIVE */
  bool is_open, is_unreadable, is_incomplete;
  char title[TITLE_BYTES];
  struct state state;
  struct volumes volumes;
  struct entries entries[VOLUMES_MAX];
  struct damaged damaged;
};

/* Two states, one after the other. */
struct neighbours {
  struct volume_pair pairs[2 * VOLUMES_MAX];
  size_t count;
};

struct survey {
  const char *name;
  struct qcow2_disk *image;
  const json_t *verified;                      /* what `verify --json` printed; NULL: nothing */
  struct side sides[3], *before, *now, *after; /* those are NULL where there is none */
  struct neighbours neighbours[2], *with_before, *with_after;
  struct layout_budget budget;
  struct settle settle;
  size_t printed;
  bool is_out_of_memory, is_unreadable, is_incomplete;
};

/* ---- Opening ------------------------------------------------------------------------------ */

static const struct qcow2_image *image_of(const struct survey *survey)
{
  return tsk_qcow2_disk_opened(survey->image)->image;
}

static const json_t *find_verified(const struct survey *survey, size_t index)
{
  const json_t *states = json_object_get(survey->verified, "states");

  for (size_t i = 0; i < json_array_size(states); i++) {
    const json_t *state = json_array_get(states, i);
    const json_t *own = json_object_get(state, "index");
    const char *kind = json_string_value(json_object_get(state, "state"));

    if (kind != NULL && strcmp(kind, index == QCOW2_ACTIVE ? "active" : "snapshot") == 0 &&
        (index == QCOW2_ACTIVE || (uint64_t) json_integer_value(own) == index))
      return state;
  }
  return NULL;
}

static void set_title(const struct survey *survey, struct side *side)
{
  const struct qcow2_snapshot *snapshot = qcow2_snapshot_get(image_of(survey), side->index);
  char id[40], name[200];

  if (snapshot == NULL)
    snprintf(side->title, TITLE_BYTES, "Active disk");
  else
    snprintf(side->title, TITLE_BYTES, "Snapshot ID %s \"%s\"",
             qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
             qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name)));
}

static struct side *open_side(struct survey *survey, struct side *side, size_t index)
{
  const struct tsk_qcow2_state wanted = { .snapshot_index = index };

  memset(side, 0, sizeof(*side));
  side->index = index;
  set_title(survey, side);
  if (!damaged_start(&side->damaged, find_verified(survey, index)))
    survey->is_out_of_memory = true;
  side->is_open = state_open_one(survey->image, survey->name, &wanted, &side->state);
  if (side->is_open) {
    volumes_open(&side->state, &side->volumes);
    side->is_unreadable = side->volumes.is_damaged;
    side->is_incomplete = side->volumes.is_cut || side->damaged.is_cut;
  } else
    side->is_unreadable = true;
  return side;
}

static void close_side(struct side *side)
{
  if (side == NULL)
    return;
  for (size_t i = 0; i < VOLUMES_MAX; i++)
    entries_free(&side->entries[i]);
  volumes_close(&side->volumes);
  state_close(&side->state);
  damaged_free(&side->damaged);
}

/* ---- Names ---------------------------------------------------------------------------------- */

/* What a walk of a volume needs to know of it. */
struct walker {
  struct side *side;
  struct progress *progress;
  char prefix[32];
};

static void see_name(void *context, TSK_FS_FILE *file, const struct entries *entries, size_t index)
{
  struct walker *walker = context;

  damaged_add_file(&walker->side->damaged, file, entries, index, walker->prefix);
  progress_show(walker->progress, index);
}

/* The view with which the volume's bytes are compared: that of the next state, if the volume lies
   in the same place there. */
static struct qcow2_view *find_other(const struct survey *survey, const struct volume *volume)
{
  const struct neighbours *with = survey->with_after;

  for (size_t i = 0; survey->after != NULL && i < with->count; i++)
    if (with->pairs[i].a == volume && with->pairs[i].fate == VOLUME_STAYED)
      return survey->after->state.view;
  return NULL;
}

static void walk_volume(struct survey *survey, size_t index)
{
  struct side *side = survey->now;
  const struct volume *volume = &side->volumes.list[index];
  struct walker walker = { .side = side, .progress = &survey->settle.progress, .prefix = "" };
  const struct walk_options options = { .state = &side->state,
                                        .views = { side->state.view, find_other(survey, volume) },
                                        .budget = &survey->budget,
                                        .with_layout = true,
                                        .context = &walker,
                                        .visit = see_name };

  if (volume->fs == NULL)
    return;
  if (volume->sectors != 0)
    snprintf(walker.prefix, sizeof(walker.prefix), "/%" PRIu64, volume->start);
  survey->budget.calls = CALLS_MAX;
  progress_start_count(walker.progress, side->title, volume->fs->last_inum);
  if (!walk_file_system(volume->fs, &options, &side->entries[index]))
    survey->is_out_of_memory = true;
  progress_hide(walker.progress);
  damaged_add_unread(&side->damaged, &side->entries[index], walker.prefix);
  side->is_unreadable = side->is_unreadable || volume->is_damaged || side->damaged.file_count > 0;
  side->is_incomplete = side->is_incomplete || side->entries[index].is_cut;
}

/* ---- Differences ------------------------------------------------------------------------------
 */

/* Lend the names that were recorded to a comparison. */
static bool lend_names(void *context, struct diff_volume *volume)
{
  const struct survey *survey = context;

  volume->entries[0] = survey->before->entries[volume->pair->a - survey->before->volumes.list];
  volume->entries[1] = survey->now->entries[volume->pair->b - survey->now->volumes.list];
  return true;
}

/* How many bytes two disks do not share: not even all of them need to differ. */
static uint64_t bytes_apart(const struct state *a, const struct state *b, bool *is_known)
{
  uint64_t size_a = qcow2_view_size(a->view), size_b = qcow2_view_size(b->view), run;
  uint64_t end = size_a < size_b ? size_a : size_b, apart = size_a + size_b - 2 * end;
  uint64_t calls = CALLS_MAX;
  int is_same;

  for (uint64_t at = 0; at < end; at += run) {
    *is_known = calls-- > 0 &&
                qcow2_view_same(a->view, b->view, at, end - at, &run, &is_same, NULL) == 0;
    if (!*is_known)
      break;
    if (!is_same)
      apart += run;
  }
  return apart;
}

static json_t *counts_value(const struct diff_totals *totals)
{
  json_t *value = json_object();

  for (int i = 0; i < DIFF_COUNTS; i++)
    if (i != COUNT_REMNANTS && i != COUNT_REMNANTS_GONE)
      json_object_set_new(value, diff_count_name((enum diff_count) i),
                          json_number(totals->counts[i]));
  return value;
}

/* Compare all volumes. False: no memory. */
static bool compare(struct survey *survey, struct diff_totals *totals)
{
  bool is_done = settle_start(&survey->settle, &survey->before->state, &survey->now->state);

  survey->settle.record = lend_names;
  survey->settle.context = survey;
  for (size_t i = 0; is_done && i < survey->with_before->count; i++) {
    struct diff_volume volume = { .pair = &survey->with_before->pairs[i] };

    is_done = settle_volume(&survey->settle, &volume);
    settle_add(totals, &volume);
    changes_free(&volume.changes);
    free(volume.details);
  }
  settle_end(&survey->settle);
  return is_done;
}

static json_t *difference_value(struct survey *survey)
{
  struct diff_totals totals = { .volume_count = 0 };
  bool is_known = true;
  uint64_t apart;

  if (survey->before == NULL || !survey->before->is_open || !survey->now->is_open)
    return json_null();
  if (!compare(survey, &totals))
    survey->is_out_of_memory = true;
  if (survey->before->volumes.is_damaged || survey->now->volumes.is_damaged)
    totals.answer = DIFF_UNREADABLE;
  survey->is_unreadable = survey->is_unreadable || totals.answer == DIFF_UNREADABLE;
  apart = bytes_apart(&survey->before->state, &survey->now->state, &is_known);
  return json_pack("{s:s, s:s, s:b, s:o, s:o, s:o, s:o, s:o}", "from", survey->before->title,
                   "result", diff_answer_name(totals.answer), "complete",
                   totals.answer == DIFF_SAME || totals.answer == DIFF_DIFFERENT, "bytes_apart",
                   is_known ? json_number(apart) : json_null(), "volumes_gone",
                   json_number(totals.volumes_only_a), "volumes_new",
                   json_number(totals.volumes_only_b), "volumes_moved",
                   json_number(totals.volumes_moved), "files", counts_value(&totals));
}

/* ---- Printing -----------------------------------------------------------------------------------
 */

static uint64_t count_directories(const struct entries *entries)
{
  uint64_t count = 0;

  for (size_t i = 0; i < entries->count; i++)
    count += (entries->list[i].flags & ENTRY_IS_DIRECTORY) != 0;
  return count;
}

static json_t *optional_text(const char *text)
{
  return text == NULL || text[0] == '\0' ? json_null() : json_string(text);
}

static json_t *volume_value(const struct volume *volume, const struct entries *entries)
{
  bool has_fs = volume->fs != NULL;
  uint64_t directories = count_directories(entries);

  return json_pack("{s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:b}", "start",
                   json_number(volume->start), "sectors", json_number(volume->sectors), "offset",
                   json_number(volume->offset), "bytes", json_number(volume->length), "description",
                   volume->description, "file_system",
                   has_fs ? optional_text(tsk_fs_type_toname(volume->fs->ftype)) : json_null(),
                   "problem", optional_text(volume->problem), "files",
                   has_fs ? json_number(entries->count - directories) : json_null(), "directories",
                   has_fs ? json_number(directories) : json_null(), "complete",
                   !volume->is_damaged && (!has_fs || entries_are_whole(entries)));
}

static json_t *side_value(struct survey *survey)
{
  struct side *side = survey->now;
  json_t *volumes = json_array();

  for (size_t i = 0; i < side->volumes.count; i++)
    json_array_append_new(volumes, volume_value(&side->volumes.list[i], &side->entries[i]));
  return json_pack("{s:s, s:o, s:b, s:b, s:b, s:o, s:b, s:o, s:O, s:o}", "state", side->title,
                   "index", side->index == QCOW2_ACTIVE ? json_null() : json_number(side->index),
                   "opened", side->is_open, "unreadable", side->is_unreadable, "incomplete",
                   side->is_incomplete, "volumes", volumes, "damaged_files_complete",
                   !side->damaged.is_cut, "damaged_file_count",
                   json_number(side->damaged.file_count), "damaged_files", side->damaged.files,
                   "difference", difference_value(survey));
}

/* ---- All states -------------------------------------------------------------------------------
 */

static void look_at_side(struct survey *survey)
{
  struct side *side = survey->now;

  survey->with_after->count = 0;
  if (survey->after != NULL && survey->after->is_open && side->is_open)
    survey->with_after->count = volumes_match(&side->volumes, &survey->after->volumes,
                                              survey->with_after->pairs);
  for (size_t i = 0; i < side->volumes.count; i++)
    walk_volume(survey, i);
  if (!json_print_item(side_value(survey), survey->printed++ == 0))
    survey->is_out_of_memory = true;
  survey->is_unreadable = survey->is_unreadable || side->is_unreadable;
  survey->is_incomplete = survey->is_incomplete || side->is_incomplete;
}

/* The snapshots in the order of the table, and then the active disk. */
static void look_at_all(struct survey *survey)
{
  size_t count = qcow2_snapshot_count(image_of(survey)) + 1;

  for (size_t i = 0; i < count && !survey->is_out_of_memory; i++) {
    struct neighbours *free_neighbours = survey->with_before;
    size_t next = i + 2 < count ? i + 1 : QCOW2_ACTIVE;

    if (i == 0)
      survey->now = open_side(survey, &survey->sides[0], count == 1 ? QCOW2_ACTIVE : 0);
    survey->after = i + 1 < count ? open_side(survey, &survey->sides[(i + 1) % 3], next) : NULL;
    look_at_side(survey);
    close_side(survey->before);
    survey->before = survey->now;
    survey->now = survey->after;
    survey->with_before = survey->with_after;
    survey->with_after = free_neighbours;
  }
  close_side(survey->before);
  close_side(survey->now);
}

static int print(struct survey *survey)
{
  survey->is_unreadable = qcow2_snapshot_lost_count(image_of(survey)) > 0;
  printf("{\n  \"libtsk\": \"%s\",\n  \"states\": [", tsk_version_get_str());
  look_at_all(survey);
  json_print_list_end(survey->printed == 0);
  json_print_member("unreadable", json_boolean(survey->is_unreadable));
  json_print_member("incomplete", json_boolean(survey->is_incomplete));
  printf("\n}\n");
  if (survey->is_out_of_memory)
    return complain_failed("out of memory");
  return survey->is_unreadable ? EXIT_DAMAGED : survey->is_incomplete ? EXIT_INCOMPLETE : EXIT_OK;
}

int states_survey(const char *name, bool has_verified)
{
  struct survey *survey = calloc(1, sizeof(*survey));
  struct qcow2_error error;
  json_t *verified = has_verified ? json_loadf(stdin, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
  int status;

  if (survey == NULL)
    return complain_failed("out of memory");
  survey->name = name;
  survey->verified = verified;
  survey->with_before = &survey->neighbours[0];
  survey->with_after = &survey->neighbours[1];
  if (tsk_qcow2_disk_open_chain(name, &survey->image, &error) != 0)
    status = complain_failed("%s", error.message);
  else
    status = print(survey);
  qcow2_disk_close(survey->image);
  json_decref(verified);
  free(survey);
  return status;
}
