/* SPDX-License-Identifier: MIT */
/* tsk-qcow2 timeline: every state's names, each line once. */
#include "timeline.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "event_lines.h"
#include "states.h"
#include "volumes.h"
#include "walk.h"
#include "../command/command.h"
#include "../command/progress.h"

struct timeline {
  const char *name;
  struct qcow2_disk *image;
  struct timeline_states states;
  struct events events;
  struct layout_budget budget;
  struct volumes volumes;
  struct progress progress;
  bool is_unreadable, is_incomplete, is_out_of_memory;
};

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
  progress_start_count(&timeline->progress, timeline->states.list[index].name,
                       volume->fs->last_inum);
  if (!walk_file_system(volume->fs, &options, &entries) || walker.source.is_out_of_memory)
    timeline->is_out_of_memory = true;
  progress_hide(&timeline->progress);
  if (entries.is_cut)
    timeline->is_incomplete = true;
  else if (!entries_are_whole(&entries))
    timeline->is_unreadable = true;
  entries_free(&entries);
}

static void add_volumes(struct timeline *timeline, const struct state *state, uint32_t index)
{
  struct volumes *volumes = &timeline->volumes;
  uint64_t failures;

  volumes_open(state, volumes);
  failures = state_failures(state);
  timeline->is_unreadable = timeline->is_unreadable || volumes->is_damaged;
  timeline->is_incomplete = timeline->is_incomplete || volumes->is_cut;
  for (size_t i = 0; i < volumes->count && !timeline->is_out_of_memory; i++) {
    const struct volume *volume = &volumes->list[i];

    timeline->is_unreadable = timeline->is_unreadable || volume->is_damaged;
    if (volume->fs != NULL)
      add_volume(timeline, state, index, volume);
    else
      complain_failed("%s: nothing is listed of the partition at sector %" PRIu64 ": %s",
                      timeline->states.list[index].name, volume->start, volume->problem);
  }
  volumes_close(volumes);
  timeline->is_unreadable = timeline->is_unreadable || state_failures(state) != failures;
}

static void add_states(struct timeline *timeline)
{
  for (size_t i = 0; i < timeline->states.count && !timeline->is_out_of_memory; i++) {
    struct timeline_state *of_list = &timeline->states.list[i];
    struct state state;

    if (!state_open_one(timeline->image, timeline->name, &of_list->wanted, &state)) {
      timeline->is_unreadable = true;
      continue;
    }
    timeline_state_note(of_list, state.view);
    timeline->is_unreadable = timeline->is_unreadable ||
                              tsk_qcow2_opened_has_gaps(state_opened(&state), state.view);
    add_volumes(timeline, &state, (uint32_t) i);
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
  if (options->with_recovered && tsk_qcow2_opened_is_one(opened))
    return complain_usage("timeline: --recovered takes an image, not one of its states: name it "
                          "without \"@\"");
  if (!timeline_states_find(&timeline->states, timeline->image, options->with_recovered))
    return complain_failed("out of memory");
  timeline->is_unreadable = timeline->states.may_lack_some ||
                            (!tsk_qcow2_opened_is_one(opened) &&
                             qcow2_snapshot_lost_count(opened->image) > 0);
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
  timeline_states_free(&timeline->states);
  free(timeline);
  return status;
}
