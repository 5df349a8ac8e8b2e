/* SPDX-License-Identifier: MIT */
/* tsk-qcow2 timeline: every state's names, each line once. */
#include "timeline.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "disk.h"
#include "event_lines.h"
#include "states.h"
#include "volumes.h"
#include "walk.h"
#include "../command/command.h"
#include "../command/progress.h"

struct timeline {
  const char *name;
  struct qcow2_disk *image;
  size_t *indices; /* of the snapshots; QCOW2_ACTIVE: the active disk */
  struct timeline_states states;
  struct events events;
  struct layout_budget budget;
  struct volumes volumes;
  struct progress progress;
  bool is_unreadable, is_incomplete, is_out_of_memory;
};

/* ---- Which states ---------------------------------------------------------------------- */

/* The name that a state is shown by: the snapshot's, or "#" and its place in the table if the name
   does not tell it from others. */
static void name_state(const struct qcow2_image *image, size_t index, char out[256])
{
  const struct qcow2_snapshot *snapshot = qcow2_snapshot_get(image, index), *other;
  bool is_unique = snapshot != NULL && snapshot->name_length > 0 && snapshot->name[0] != '#' &&
                   strcmp(snapshot->name, "active") != 0 && strcmp(snapshot->name, "all") != 0;

  if (snapshot == NULL) {
    snprintf(out, 256, "active");
    return;
  }
  for (size_t i = 0; is_unique && (other = qcow2_snapshot_get(image, i)) != NULL; i++)
    is_unique = i == index || other->name_length != snapshot->name_length ||
                memcmp(other->name, snapshot->name, other->name_length) != 0;
  if (is_unique)
    qcow2_text_escape(snapshot->name, snapshot->name_length, out, 256);
  else
    snprintf(out, 256, "#%zu", index);
}

static void add_state(struct timeline *timeline, const struct qcow2_image *image, size_t index)
{
  size_t count = timeline->states.count;

  timeline->indices[count] = index;
  name_state(image, index, timeline->states.names[count]);
  timeline->states.count++;
}

/* Find out which states there are: the snapshots in the order of the table, and the active disk.
   False: no memory. */
static bool find_states(struct timeline *timeline)
{
  const struct tsk_qcow2_opened *opened = tsk_qcow2_disk_opened(timeline->image);
  size_t count = qcow2_snapshot_count(opened->image) + 1;

  timeline->indices = calloc(count, sizeof(timeline->indices[0]));
  timeline->states.names = calloc(count, sizeof(timeline->states.names[0]));
  if (timeline->indices == NULL || timeline->states.names == NULL)
    return false;
  if (opened->snapshot_index != QCOW2_ACTIVE || opened->deleted_l1 != 0 || opened->is_abandoned) {
    add_state(timeline, opened->image, opened->snapshot_index);
    if (opened->deleted_l1 != 0)
      snprintf(timeline->states.names[0], sizeof(timeline->states.names[0]), "recovered");
    if (opened->is_abandoned)
      snprintf(timeline->states.names[0], sizeof(timeline->states.names[0]), "guessed");
    return true;
  }
  timeline->is_unreadable = qcow2_snapshot_lost_count(opened->image) > 0;
  for (size_t i = 0; i + 1 < count; i++)
    add_state(timeline, opened->image, i);
  add_state(timeline, opened->image, QCOW2_ACTIVE);
  return true;
}

/* ---- One state --------------------------------------------------------------------------- */

struct walker {
  struct event_source source;
  struct progress *progress;
};

static void add_name(void *context, TSK_FS_FILE *file, const struct entries *entries, size_t index)
{
  struct walker *walker = context;

  event_lines_add(&walker->source, file, entries, index);
  progress_show(walker->progress, index);
}

static void add_volume(struct timeline *timeline, const struct state *state, uint32_t index,
                       const struct volume *volume)
{
  struct entries entries = { .count = 0 };
  char prefix[32] = "";
  struct walker walker = { .source = { &timeline->events, index, prefix, false },
                           .progress = &timeline->progress };
  const struct walk_options options = { .state = state,
                                        .views = { state->view, NULL },
                                        .budget = &timeline->budget,
                                        .with_deleted = true,
                                        .with_virtual = true,
                                        .context = &walker,
                                        .visit = add_name };

  if (volume->sectors != 0)
    snprintf(prefix, sizeof(prefix), "/%" PRIu64, volume->start);
  progress_start_count(&timeline->progress, timeline->states.names[index], volume->fs->last_inum);
  if (!walk_file_system(volume->fs, &options, &entries) || walker.source.is_out_of_memory)
    timeline->is_out_of_memory = true;
  progress_hide(&timeline->progress);
  timeline->is_unreadable = timeline->is_unreadable || !entries_are_whole(&entries);
  timeline->is_incomplete = timeline->is_incomplete || entries.is_cut;
  entries_free(&entries);
}

static void add_volumes(struct timeline *timeline, const struct state *state, uint32_t index)
{
  struct volumes *volumes = &timeline->volumes;

  volumes_open(state, volumes);
  timeline->is_unreadable = timeline->is_unreadable || volumes->is_damaged;
  timeline->is_incomplete = timeline->is_incomplete || volumes->is_cut;
  for (size_t i = 0; i < volumes->count && !timeline->is_out_of_memory; i++) {
    const struct volume *volume = &volumes->list[i];

    timeline->is_unreadable = timeline->is_unreadable || volume->is_damaged;
    if (volume->fs != NULL)
      add_volume(timeline, state, index, volume);
    else
      complain_failed("%s: nothing is listed of the partition at sector %" PRIu64 ": %s",
                      timeline->states.names[index], volume->start, volume->problem);
  }
  volumes_close(volumes);
}

static void add_states(struct timeline *timeline)
{
  for (size_t i = 0; i < timeline->states.count && !timeline->is_out_of_memory; i++) {
    struct state state;
    uint64_t failures;

    if (!state_open_index(timeline->image, timeline->name, timeline->indices[i], &state)) {
      timeline->is_unreadable = true;
      continue;
    }
    failures = state_failures(&state);
    add_volumes(timeline, &state, (uint32_t) i);
    timeline->is_unreadable = timeline->is_unreadable || state_failures(&state) != failures;
    state_close(&state);
  }
}

/* ---- The whole ------------------------------------------------------------------------------ */

static int print(struct timeline *timeline, const struct timeline_options *options)
{
  bool is_done;

  if (timeline->is_out_of_memory)
    return complain_failed("out of memory");
  is_done = options->is_csv ? timeline_print_csv(&timeline->events, &timeline->states)
                            : timeline_print_body(&timeline->events, &timeline->states);
  if (!is_done)
    return complain_failed("out of memory");
  if (timeline->is_unreadable) {
    complain_failed("some of it could not be read: the timeline is not complete");
    return EXIT_DAMAGED;
  }
  if (timeline->is_incomplete || timeline->events.is_cut) {
    complain_failed("there is more than is listed: the timeline is not complete");
    return EXIT_INCOMPLETE;
  }
  return EXIT_OK;
}

static void tell_change(void *context, const char *sentence)
{
  (void) context;
  complain_failed("warning: %s", sentence);
}

static int run(struct timeline *timeline, const struct timeline_options *options)
{
  const struct tsk_qcow2_opened *opened;
  struct qcow2_error error;

  if (tsk_qcow2_disk_open_chain(timeline->name, &timeline->image, &error) != 0)
    return complain_failed("%s", error.message);
  opened = tsk_qcow2_disk_opened(timeline->image);
  if (opened->is_residue)
    return complain_usage("timeline lists the files of an image's states, and the residue is none: "
                          "name the image without \",residue\"");
  complain_warnings(opened);
  tsk_qcow2_disk_report_changes(timeline->image, tell_change, NULL);
  if (!find_states(timeline))
    return complain_failed("out of memory");
  add_states(timeline);
  return print(timeline, options);
}

int states_timeline(const char *name, const struct timeline_options *options)
{
  struct timeline *timeline = calloc(1, sizeof(*timeline));
  int status;

  if (timeline == NULL)
    return complain_failed("out of memory");
  timeline->name = name;
  status = run(timeline, options);
  qcow2_disk_close(timeline->image);
  events_free(&timeline->events);
  free(timeline->states.names);
  free(timeline->indices);
  free(timeline);
  return status;
}
