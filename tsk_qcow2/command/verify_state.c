/* SPDX-License-Identifier: MIT */
/* States, each the active disk, a snapshot's disk, or a snapshot's VM state. They are read side by
   side, and reported one after the other: what is found in a state whose turn has not come is kept
   until then. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "damage.h"
#include "json_value.h"
#include "sweep.h"
#include "verify_result.h"

/* With this many ranges to report, a state is not read on before its turn has come. */
#define KEPT_MAX 256u

/* ---- Damage ------------------------------------------------------------------ */

/* Print the range, or keep the line. */
static void tell_range(struct verify_state *state, bool is_bad, const struct qcow2_error *range)
{
  struct verify *verify = state->verify;

  if (state->is_its_turn) {
    pthread_mutex_lock(&verify->lock);
    progress_hide(&verify->progress);
    verify_result_print_range(stdout, state, is_bad, range);
    pthread_mutex_unlock(&verify->lock);
    return;
  }
  if (state->kept == NULL)
    state->kept = open_memstream(&state->kept_text, &state->kept_bytes);
  if (state->kept == NULL)
    state->is_out_of_memory = true;
  else
    verify_result_print_range(state->kept, state, is_bad, range);
}

/* Report and count the range that ends here. */
static void end_range(struct verify_state *state, struct verify_ranges *ranges)
{
  if (!ranges->has_last)
    return;
  ranges->has_last = false;
  ranges->count++;
  ranges->bytes += ranges->last.guest_length;
  if (ranges->count > state->verify->listed_max)
    return;
  if (state->verify->json)
    json_array_append_new(ranges->list, verify_result_range(&ranges->last));
  else
    tell_range(state, ranges == &state->bad, &ranges->last);
}

/* True if the range belongs to the one before it: that was reported again for the next chunk, or
   goes on. */
static bool goes_on(const struct verify_ranges *ranges, const struct qcow2_error *range)
{
  const struct tsk_qcow2_damaged_range known = tsk_qcow2_damaged_range_of(&ranges->last);
  const struct tsk_qcow2_damaged_range next = tsk_qcow2_damaged_range_of(range);

  return ranges->has_last && tsk_qcow2_damage_goes_on(&known, &next);
}

static void add_range(struct verify_state *state, struct verify_ranges *ranges,
                      const struct qcow2_error *range)
{
  if (goes_on(ranges, range)) {
    uint64_t end = range->guest_offset + range->guest_length;

    if (end > ranges->last.guest_offset + ranges->last.guest_length)
      ranges->last.guest_length = end - ranges->last.guest_offset;
    return;
  }
  end_range(state, ranges);
  ranges->last = *range;
  ranges->has_last = true;
}

static void hear_damage(void *context, const struct qcow2_error *damage)
{
  struct verify_state *state = context;

  add_range(state, &state->bad, damage);
}

static void hear_doubt(void *context, const struct qcow2_error *doubt)
{
  struct verify_state *state = context;

  add_range(state, &state->doubtful, doubt);
}

static bool hear_bytes(void *context, uint64_t guest_offset, const void *bytes, size_t length)
{
  struct verify_state *state = context;
  struct verify *verify = state->verify;
  uint64_t end = guest_offset + length;

  if (state->sha256 != NULL)
    sha256_add(state->sha256, bytes, length);
  pthread_mutex_lock(&verify->lock);
  verify->done += end - state->position;
  progress_show(&verify->progress, verify->done);
  pthread_mutex_unlock(&verify->lock);
  state->position = end;
  state->is_parked = !state->is_its_turn && state->bad.count + state->doubtful.count >= KEPT_MAX;
  return !state->is_parked;
}

/* Count the damage, and print the result. Returns an exit status, after complaining if it is not
   EXIT_OK. */
static int end_state(struct verify_state *state)
{
  bool is_closed = verify_result_failure(state) != NULL;
  struct verify *verify = state->verify;
  bool is_first = verify->state_count == 0;

  verify->state_count++;
  verify->bad_state_count += is_closed || state->bad.count > 0;
  verify->closed_state_count += is_closed;
  verify->bad_range_count += state->bad.count;
  verify->bad_bytes += state->bad.bytes;
  verify->doubtful_range_count += state->doubtful.count;
  verify->doubtful_bytes += state->doubtful.bytes;
  if (!verify->json)
    verify_result_print(state);
  else if (!json_print_item(verify_result_value(state), is_first))
    return complain_failed("cannot write the JSON: out of memory");
  return EXIT_OK;
}

/* ---- Opening and closing ---------------------------------------------------------- */

/* Say what is to be known of what the view shows. */
static void hear_warnings(struct verify_state *state)
{
  const char *warning;

  state->verify->gap_state_count += tsk_qcow2_opened_has_gaps(&state->verify->opened, state->view);
  for (size_t i = 0; (warning = qcow2_view_warning(state->view, i)) != NULL; i++) {
    state->verify->has_view_warnings = true;
    json_array_append_new(state->warnings, json_string(warning));
  }
}

static void print_view_warnings(const struct verify_state *state)
{
  const char *warning;

  for (size_t i = 0; (warning = qcow2_view_warning(state->view, i)) != NULL; i++)
    printf("Warning: %s\n", warning);
}

/* Open the state's view, or note why that is not possible. Returns an exit status, after
   complaining if it is not EXIT_OK. */
static int start_state(struct verify_state *state, struct verify *verify,
                       const struct verify_choice *choice)
{
  int code;

  *state = (struct verify_state){ .verify = verify,
                                  .index = choice->index,
                                  .is_vm_state = choice->is_vm_state,
                                  .bad.list = json_array(),
                                  .doubtful.list = json_array(),
                                  .warnings = json_array() };
  verify_result_set_title(state);
  code = tsk_qcow2_open_state(&verify->opened, state->index, state->is_vm_state, &state->view,
                              &state->failure);
  if (code != 0) {
    state->view = NULL;
    return code == QCOW2_ERROR_NOMEM || verify->opened.is_residue
               ? complain_failed("%s", state->failure.message)
               : EXIT_OK;
  }
  verify_result_set_title(state); /* only the view knows which deleted snapshot it is of */
  hear_warnings(state);
  state->size = qcow2_view_size(state->view);
  state->sha256 = verify->hash ? sha256_start() : NULL;
  return EXIT_OK;
}

static void stop_state(struct verify_state *state)
{
  if (state->sha256 != NULL)
    sha256_finish(state->sha256, state->digits);
  if (state->kept != NULL)
    fclose(state->kept);
  free(state->kept_text);
  qcow2_view_close(state->view);
  json_decref(state->warnings);
  json_decref(state->doubtful.list);
  json_decref(state->bad.list);
}

/* ---- Reading side by side ----------------------------------------------------------- */

static bool is_unread(const struct verify_state *state)
{
  return state->view != NULL && state->position < state->size;
}

/* Choose what is read with the first state: all others that none was read of. */
static size_t choose_lanes(struct verify_state *states, size_t count, struct sweep_lane *lanes)
{
  size_t lane_count = 0;

  for (size_t i = 0; i < count; i++)
    if (i == 0 || (states[0].position == 0 && states[i].position == 0 && is_unread(&states[i])))
      lanes[lane_count++] = (struct sweep_lane){ states[i].view, &states[i], hear_damage,
                                                 hear_doubt, hear_bytes };
  return lane_count;
}

/* Read the first state, and others with it. */
static int sweep(struct verify_state *states, size_t count)
{
  struct verify *verify = states[0].verify;
  struct sweep_lane lanes[SWEEP_LANES_MAX];
  size_t lane_count = choose_lanes(states, count, lanes);
  uint64_t total = 0, start = states[0].position;
  struct qcow2_error error;
  bool is_hashed = false;
  char title[64];
  int code;

  for (size_t i = 0; i < lane_count; i++) {
    const struct verify_state *state = lanes[i].context;

    total += state->size;
    is_hashed = is_hashed || state->sha256 != NULL;
  }
  snprintf(title, sizeof(title), "%zu states", lane_count);
  verify->done = start;
  progress_start(&verify->progress, lane_count == 1 ? states[0].title : title, total);
  code = sweep_views(verify->opened.image, lanes, lane_count, start, !is_hashed, &error);
  progress_hide(&verify->progress);
  for (size_t i = 0; i < lane_count; i++) {
    struct verify_state *state = lanes[i].context;

    if (!state->is_parked)
      state->position = state->size;
  }
  return code == 0 ? EXIT_OK : complain_failed("%s", error.message);
}

/* Print what was kept of the state, and let it print the rest at once. */
static int begin_turn(struct verify_state *state)
{
  bool is_kept = true;

  state->is_its_turn = true;
  if (state->view != NULL && !state->verify->json)
    print_view_warnings(state);
  if (state->kept != NULL) {
    is_kept = fclose(state->kept) == 0;
    state->kept = NULL;
    if (is_kept)
      fwrite(state->kept_text, 1, state->kept_bytes, stdout);
  }
  return is_kept && !state->is_out_of_memory ? EXIT_OK : complain_failed("out of memory");
}

/* Report the first state, after reading what is unread of it, and reading others with it. */
static int report(struct verify_state *states, size_t count)
{
  struct verify_state *state = &states[0];
  int status = begin_turn(state);

  if (status == EXIT_OK && is_unread(state))
    status = sweep(states, count);
  end_range(state, &state->bad);
  end_range(state, &state->doubtful);
  if (state->sha256 != NULL)
    sha256_finish(state->sha256, state->digits);
  state->sha256 = NULL;
  return status == EXIT_OK ? end_state(state) : status;
}

size_t verify_states_max(const struct verify *verify)
{
  return sweep_lanes_max(verify->opened.image);
}

int verify_states(struct verify *verify, const struct verify_choice *choices, size_t count)
{
  struct verify_state *states = calloc(count == 0 ? 1 : count, sizeof(*states));
  int status = EXIT_OK;
  size_t started = 0;

  if (states == NULL)
    return complain_failed("out of memory");
  for (; started < count && status == EXIT_OK; started++)
    status = start_state(&states[started], verify, &choices[started]);
  for (size_t i = 0; i < count && status == EXIT_OK; i++)
    status = report(&states[i], count - i);
  for (size_t i = 0; i < started; i++)
    stop_state(&states[i]);
  free(states);
  return status;
}
