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
#include "recovered.h"
#include "sha256.h"
#include "sweep.h"
#include "verify.h"

/* With this many ranges to report, a state is not read on before its turn has come. */
#define KEPT_MAX 256u
#define TITLE_BYTES 640

/* Ranges that have the same fault. */
struct ranges {
  bool has_last; /* there is one that may go on: */
  struct qcow2_error last;
  uint64_t count, bytes;
  json_t *list;
};

struct state {
  struct verify *verify;
  size_t index; /* of the snapshot; QCOW2_ACTIVE: the active disk */
  bool is_vm_state;
  char title[TITLE_BYTES];
  struct qcow2_view *view; /* NULL: it cannot be read at all, because of this error: */
  struct qcow2_error failure;
  uint64_t size, position;        /* bytes; how many of them were read */
  bool is_parked;                 /* it is read on when its turn has come */
  struct sha256 *sha256;          /* NULL: no hash */
  char digits[SHA256_TEXT_BYTES]; /* "": no hash */
  bool is_its_turn;               /* its ranges are printed at once. Else they are kept: */
  FILE *kept;                     /* a stream into `kept_text`; NULL: nothing is kept */
  char *kept_text;
  size_t kept_bytes;
  bool is_out_of_memory;  /* a range could not be kept */
  struct ranges bad;      /* that cannot be read */
  struct ranges doubtful; /* that can be read, but may be damaged */
  json_t *warnings;
};

/* ---- Damage ------------------------------------------------------------------ */

static json_t *range_value(const struct qcow2_error *range)
{
  return json_pack("{s:o, s:o, s:o, s:o, s:s, s:s}", "start", json_number(range->guest_offset),
                   "length", json_number(range->guest_length), "host_offset",
                   json_offset(range->host_offset), "table_offset",
                   json_offset(range->table_offset), "code", qcow2_status_name(range->code),
                   "reason", range->message);
}

static void print_range(FILE *out, const struct state *state, bool is_bad,
                        const struct qcow2_error *range)
{
  if (is_bad)
    fprintf(out, "%s: cannot read %" PRIu64 " bytes at guest offset %" PRIu64 ": %s\n",
            state->title, range->guest_length, range->guest_offset, range->message);
  else
    fprintf(out, "%s: %" PRIu64 " bytes at guest offset %" PRIu64 " may be damaged: %s\n",
            state->title, range->guest_length, range->guest_offset, range->message);
}

/* Print the range, or keep the line. */
static void tell_range(struct state *state, bool is_bad, const struct qcow2_error *range)
{
  struct verify *verify = state->verify;

  if (state->is_its_turn) {
    pthread_mutex_lock(&verify->lock);
    progress_hide(&verify->progress);
    print_range(stdout, state, is_bad, range);
    pthread_mutex_unlock(&verify->lock);
    return;
  }
  if (state->kept == NULL)
    state->kept = open_memstream(&state->kept_text, &state->kept_bytes);
  if (state->kept == NULL)
    state->is_out_of_memory = true;
  else
    print_range(state->kept, state, is_bad, range);
}

/* Report and count the range that ends here. */
static void end_range(struct state *state, struct ranges *ranges)
{
  if (!ranges->has_last)
    return;
  ranges->has_last = false;
  ranges->count++;
  ranges->bytes += ranges->last.guest_length;
  if (ranges->count > state->verify->listed_max)
    return;
  if (state->verify->json)
    json_array_append_new(ranges->list, range_value(&ranges->last));
  else
    tell_range(state, ranges == &state->bad, &ranges->last);
}

/* True if the range belongs to the one before it: that was reported again for the next chunk, or
   goes on. */
static bool goes_on(const struct ranges *ranges, const struct qcow2_error *range)
{
  const struct tsk_qcow2_damaged_range known = tsk_qcow2_damaged_range_of(&ranges->last);
  const struct tsk_qcow2_damaged_range next = tsk_qcow2_damaged_range_of(range);

  return ranges->has_last && tsk_qcow2_damage_goes_on(&known, &next);
}

static void add_range(struct state *state, struct ranges *ranges, const struct qcow2_error *range)
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
  struct state *state = context;

  add_range(state, &state->bad, damage);
}

static void hear_doubt(void *context, const struct qcow2_error *doubt)
{
  struct state *state = context;

  add_range(state, &state->doubtful, doubt);
}

static bool hear_bytes(void *context, uint64_t guest_offset, const void *bytes, size_t length)
{
  struct state *state = context;
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

/* ---- One state ---------------------------------------------------------------- */

static const struct qcow2_snapshot *snapshot_of(const struct state *state)
{
  if (state->verify->opened.deleted_l1 != 0)
    return state->view == NULL ? NULL : qcow2_view_deleted(state->view);
  return qcow2_snapshot_get(state->verify->opened.image, state->index);
}

/* `snapshot` is NULL if it cannot be read. */
static void set_deleted_title(struct state *state, const struct qcow2_snapshot *snapshot,
                              const char *more)
{
  const char *what = state->is_vm_state ? "VM state of deleted snapshot" : "Deleted snapshot";
  char id[64], name[TITLE_BYTES - 128];

  if (snapshot == NULL)
    snprintf(state->title, sizeof(state->title), "%s, recovered%s", what, more);
  else
    snprintf(state->title, sizeof(state->title), "%s ID %s \"%s\", recovered%s", what,
             qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
             qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name)), more);
}

static void set_title(struct state *state)
{
  const struct tsk_qcow2_opened *opened = &state->verify->opened;
  const char *more = opened->under_zeros       ? ", with what is stored under zeros"
                     : opened->is_in_recovered ? ", inside a disk that is recovered"
                                               : "";
  const struct qcow2_snapshot *snapshot = snapshot_of(state);
  char id[64], name[TITLE_BYTES - 128];

  if (state->verify->opened.is_residue)
    snprintf(state->title, sizeof(state->title), "Residue");
  else if (state->verify->opened.deleted_l1 != 0)
    set_deleted_title(state, snapshot, more);
  else if (state->verify->opened.is_abandoned)
    snprintf(state->title, sizeof(state->title), "Abandoned state, recovered by guess");
  else if (snapshot == NULL)
    snprintf(state->title, sizeof(state->title), "Active disk%s", more);
  else
    snprintf(state->title, sizeof(state->title), "%s ID %s \"%s\"%s",
             state->is_vm_state ? "VM state of snapshot" : "Snapshot",
             qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
             qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name)), more);
}

static void print_state(const struct state *state)
{
  const struct ranges *bad = &state->bad, *doubtful = &state->doubtful;

  if (bad->count > state->verify->listed_max)
    printf("%s: and %" PRIu64 " more damaged ranges\n", state->title,
           bad->count - state->verify->listed_max);
  if (doubtful->count > state->verify->listed_max)
    printf("%s: and %" PRIu64 " more ranges that may be damaged\n", state->title,
           doubtful->count - state->verify->listed_max);
  printf("%s: %" PRIu64 " bytes", state->title, state->size);
  if (bad->count > 0)
    printf(", of which %" PRIu64 " cannot be read", bad->bytes);
  if (doubtful->count > 0)
    printf("%s %" PRIu64 " may be damaged", bad->count > 0 ? " and" : ", of which",
           doubtful->bytes);
  if (state->digits[0] != '\0')
    printf(", SHA-256%s %s", bad->count > 0 ? " with zeros there" : "", state->digits);
  else if (state->verify->hash)
    printf(", no SHA-256 in this build");
  printf("\n");
}

static json_t *digits_value(const struct state *state, bool with_zeros)
{
  bool is_it = state->digits[0] != '\0' && (state->bad.count > 0) == with_zeros;

  return is_it ? json_string(state->digits) : json_null();
}

/* The state as JSON; `failure` is why it cannot be read at all, or NULL. */
static json_t *state_value(struct state *state, const char *failure)
{
  const struct qcow2_snapshot *snapshot = snapshot_of(state);
  bool is_deleted = state->verify->opened.deleted_l1 != 0;
  const char *kind = state->verify->opened.is_residue     ? "residue"
                     : is_deleted && state->is_vm_state   ? "deleted_vm_state"
                     : is_deleted                         ? "deleted_snapshot"
                     : state->verify->opened.is_abandoned ? "abandoned"
                     : snapshot == NULL                   ? "active"
                     : state->is_vm_state                 ? "vm_state"
                                                          : "snapshot";

  return json_pack(
      "{s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O, s:o, s:o, s:O, s:s?, s:O}",
      "state", kind, "under_zeros", state->verify->opened.under_zeros, "recovered",
      tsk_qcow2_opened_is_recovered(&state->verify->opened), "labels",
      recovered_view_labels(state->view), "index",
      snapshot == NULL || is_deleted ? json_null() : json_number(state->index), "id",
      snapshot == NULL ? json_null() : json_text(snapshot->id, snapshot->id_length), "name",
      snapshot == NULL ? json_null() : json_text(snapshot->name, snapshot->name_length), "size",
      failure != NULL ? json_null() : json_number(state->size), "sha256",
      digits_value(state, false), "sha256_with_zeros", digits_value(state, true), "bad_range_count",
      json_number(state->bad.count), "bad_bytes", json_number(state->bad.bytes), "bad_ranges",
      state->bad.list, "doubtful_range_count", json_number(state->doubtful.count), "doubtful_bytes",
      json_number(state->doubtful.bytes), "doubtful_ranges", state->doubtful.list, "error", failure,
      "warnings", state->warnings);
}

/* Count the damage, and print the result. Returns an exit status, after complaining if it is not
   EXIT_OK. */
static int end_state(struct state *state)
{
  const char *failure = state->view == NULL ? state->failure.message : NULL;
  struct verify *verify = state->verify;
  bool is_first = verify->state_count == 0;

  verify->state_count++;
  verify->bad_state_count += failure != NULL || state->bad.count > 0;
  verify->closed_state_count += failure != NULL;
  verify->bad_range_count += state->bad.count;
  verify->bad_bytes += state->bad.bytes;
  verify->doubtful_range_count += state->doubtful.count;
  verify->doubtful_bytes += state->doubtful.bytes;
  if (verify->json && !json_print_item(state_value(state, failure), is_first))
    return complain_failed("cannot write the JSON: out of memory");
  if (!verify->json && failure != NULL)
    printf("%s: cannot be read: %s\n", state->title, failure);
  else if (!verify->json)
    print_state(state);
  return EXIT_OK;
}

/* ---- Opening and closing ---------------------------------------------------------- */

/* Say what is to be known of what the view shows. */
static void hear_warnings(struct state *state)
{
  const char *warning;

  for (size_t i = 0; (warning = qcow2_view_warning(state->view, i)) != NULL; i++) {
    state->verify->has_view_warnings = true;
    json_array_append_new(state->warnings, json_string(warning));
  }
}

static void print_view_warnings(const struct state *state)
{
  const char *warning;

  for (size_t i = 0; (warning = qcow2_view_warning(state->view, i)) != NULL; i++)
    printf("Warning: %s\n", warning);
}

/* Open the state's view, or note why that is not possible. Returns an exit status, after
   complaining if it is not EXIT_OK. */
static int start_state(struct state *state, struct verify *verify,
                       const struct verify_choice *choice)
{
  int code;

  *state = (struct state){ .verify = verify,
                           .index = choice->index,
                           .is_vm_state = choice->is_vm_state,
                           .bad.list = json_array(),
                           .doubtful.list = json_array(),
                           .warnings = json_array() };
  set_title(state);
  code = tsk_qcow2_open_state(&verify->opened, state->index, state->is_vm_state, &state->view,
                              &state->failure);
  if (code != 0) {
    state->view = NULL;
    return code == QCOW2_ERROR_NOMEM || verify->opened.is_residue
               ? complain_failed("%s", state->failure.message)
               : EXIT_OK;
  }
  set_title(state); /* only the view knows which deleted snapshot it is of */
  hear_warnings(state);
  state->size = qcow2_view_size(state->view);
  state->sha256 = verify->hash ? sha256_start() : NULL;
  return EXIT_OK;
}

static void stop_state(struct state *state)
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

static bool is_unread(const struct state *state)
{
  return state->view != NULL && state->position < state->size;
}

/* Choose what is read with the first state: all others that none was read of. */
static size_t choose_lanes(struct state *states, size_t count, struct sweep_lane *lanes)
{
  size_t lane_count = 0;

  for (size_t i = 0; i < count; i++)
    if (i == 0 || (states[0].position == 0 && states[i].position == 0 && is_unread(&states[i])))
      lanes[lane_count++] = (struct sweep_lane){ states[i].view, &states[i], hear_damage,
                                                 hear_doubt, hear_bytes };
  return lane_count;
}

/* Read the first state, and others with it. */
static int sweep(struct state *states, size_t count)
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
    const struct state *state = lanes[i].context;

    total += state->size;
    is_hashed = is_hashed || state->sha256 != NULL;
  }
  snprintf(title, sizeof(title), "%zu states", lane_count);
  verify->done = start;
  progress_start(&verify->progress, lane_count == 1 ? states[0].title : title, total);
  code = sweep_views(verify->opened.image, lanes, lane_count, start, !is_hashed, &error);
  progress_hide(&verify->progress);
  for (size_t i = 0; i < lane_count; i++) {
    struct state *state = lanes[i].context;

    if (!state->is_parked)
      state->position = state->size;
  }
  return code == 0 ? EXIT_OK : complain_failed("%s", error.message);
}

/* Print what was kept of the state, and let it print the rest at once. */
static int begin_turn(struct state *state)
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
static int report(struct state *states, size_t count)
{
  struct state *state = &states[0];
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
  struct state *states = calloc(count == 0 ? 1 : count, sizeof(*states));
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
