/* SPDX-License-Identifier: MIT */
/* tsk-qcow2 diff, by files. What --json prints is described in diff-json.md. */
#include <stdlib.h>
#include <string.h>

#include "settle.h"
#include "states.h"
#include "walk.h"
#include "../command/command.h"
#include "../command/progress.h"
#include "../command/recovered.h"

struct diff {
  const struct diff_options *options;
  const struct diff_format *format;
  struct state states[2];
  struct volumes volumes[2];
  struct volume_pair pairs[2 * VOLUMES_MAX];
  struct settle settle;
  struct diff_totals totals;
};

/* ---- One volume ------------------------------------------------------------------------------ */

static void show_names(void *context, size_t names)
{
  struct diff *diff = context;

  progress_show(&diff->settle.progress, names);
}

/* Record the names of one side. False: no memory. */
static bool walk_side(struct diff *diff, struct diff_volume *volume, int side)
{
  const struct volume *own = side == 0 ? volume->pair->a : volume->pair->b;
  /* Files of equal layouts lie in the same place, so it is enough to ask for those of A. */
  bool is_asked = side == 0 && volume->pair->fate == VOLUME_STAYED;
  const struct walk_options options = {
    .state = &diff->states[side],
    .views = { diff->states[side].view, is_asked ? diff->states[1].view : NULL },
    .budget = &diff->settle.budget,
    .with_deleted = diff->options->with_deleted,
    .with_layout = true,
    .progress = show_names,
    .context = diff,
  };
  bool is_done;

  progress_start_count(&diff->settle.progress,
                       side == 0 ? "Reading names of A" : "Reading names of B", own->fs->last_inum);
  is_done = walk_file_system(own->fs, &options, &volume->entries[side]);
  progress_hide(&diff->settle.progress);
  return is_done;
}

static bool record_names(void *context, struct diff_volume *volume)
{
  return walk_side(context, volume, 0) && walk_side(context, volume, 1);
}

static void volume_free(struct diff_volume *volume)
{
  entries_free(&volume->entries[0]);
  entries_free(&volume->entries[1]);
  changes_free(&volume->changes);
  free(volume->details);
}

/* ---- All volumes ------------------------------------------------------------------------- */

static bool compare_volumes(struct diff *diff)
{
  size_t count = volumes_match(&diff->volumes[0], &diff->volumes[1], diff->pairs);
  bool is_done = true;

  for (size_t i = 0; is_done && i < count; i++) {
    struct diff_volume volume = { .pair = &diff->pairs[i] };

    memcpy(volume.is_recovered, diff->totals.is_recovered, sizeof(volume.is_recovered));
    is_done = settle_volume(&diff->settle, &volume) && diff->format->volume(&volume);
    settle_add(&diff->totals, &volume);
    volume_free(&volume);
  }
  for (int side = 0; side < 2; side++) {
    if (diff->volumes[side].is_cut)
      diff->totals.answer = settle_worse(diff->totals.answer, DIFF_INCOMPLETE);
    if (diff->volumes[side].is_damaged ||
        tsk_qcow2_opened_has_gaps(state_opened(&diff->states[side]), diff->states[side].view))
      diff->totals.answer = DIFF_UNREADABLE;
  }
  return is_done && diff->format->totals(&diff->totals);
}

static int compare_states(struct diff *diff)
{
  bool is_done;

  for (int side = 0; side < 2; side++) {
    diff->totals.is_recovered[side] = tsk_qcow2_opened_is_recovered(
        state_opened(&diff->states[side]));
    volumes_open(&diff->states[side], &diff->volumes[side]);
  }
  diff->settle.record = record_names;
  diff->settle.context = diff;
  is_done = settle_start(&diff->settle, &diff->states[0], &diff->states[1]) &&
            diff->format->start(diff->states) && compare_volumes(diff);
  settle_end(&diff->settle);
  for (int side = 0; side < 2; side++)
    volumes_close(&diff->volumes[side]);
  if (!is_done)
    return complain_failed("out of memory");
  return diff->totals.answer == DIFF_UNREADABLE   ? EXIT_DAMAGED
         : diff->totals.answer == DIFF_INCOMPLETE ? EXIT_INCOMPLETE
                                                  : EXIT_OK;
}

int states_diff(const char *const names[2], const struct diff_options *options)
{
  struct diff *diff = calloc(1, sizeof(*diff));
  int status = EXIT_FAILED;

  if (diff == NULL)
    return complain_failed("out of memory");
  diff->options = options;
  diff->format = options->is_json   ? &diff_format_json
                 : options->is_body ? &diff_format_body
                                    : &diff_format_text;
  if (state_open(names[0], &diff->states[0]) && state_open(names[1], &diff->states[1]))
    status = compare_states(diff);
  state_close(&diff->states[0]);
  state_close(&diff->states[1]);
  free(diff);
  return status;
}
