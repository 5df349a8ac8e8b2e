/* SPDX-License-Identifier: MIT */
/* One state: the active disk, a snapshot's disk, or a snapshot's VM state. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "damage.h"
#include "json_value.h"
#include "progress.h"
#include "sha256.h"
#include "sweep.h"
#include "verify.h"

/* The most damaged ranges of a state that are listed. All are counted. */
#define LISTED_MAX 10000u
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
  uint64_t size;
  struct sha256 *sha256;
  char digits[SHA256_TEXT_BYTES]; /* "": no hash */
  struct progress progress;
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

/* Report and count the range that ends here. */
static void end_range(struct state *state, struct ranges *ranges)
{
  const struct qcow2_error *range = &ranges->last;

  if (!ranges->has_last)
    return;
  ranges->has_last = false;
  ranges->count++;
  ranges->bytes += range->guest_length;
  if (ranges->count > LISTED_MAX)
    return;
  if (state->verify->json) {
    json_array_append_new(ranges->list, range_value(range));
    return;
  }
  progress_hide(&state->progress);
  if (ranges == &state->bad)
    printf("%s: cannot read %" PRIu64 " bytes at guest offset %" PRIu64 ": %s\n", state->title,
           range->guest_length, range->guest_offset, range->message);
  else
    printf("%s: %" PRIu64 " bytes at guest offset %" PRIu64 " may be damaged: %s\n", state->title,
           range->guest_length, range->guest_offset, range->message);
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

static void hear_bytes(void *context, uint64_t guest_offset, const void *bytes, size_t length)
{
  struct state *state = context;

  if (state->sha256 != NULL)
    sha256_add(state->sha256, bytes, length);
  progress_show(&state->progress, guest_offset + length);
}

/* ---- One state ---------------------------------------------------------------- */

static const struct qcow2_snapshot *snapshot_of(const struct state *state)
{
  return qcow2_snapshot_get(state->verify->opened.image, state->index);
}

static void set_title(struct state *state)
{
  const char *more = state->verify->opened.under_zeros ? ", with what is stored under zeros" : "";
  const struct qcow2_snapshot *snapshot = snapshot_of(state);
  char id[64], name[TITLE_BYTES - 128];

  if (state->verify->opened.is_residue)
    snprintf(state->title, sizeof(state->title), "Residue");
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

  if (bad->count > LISTED_MAX)
    printf("%s: and %" PRIu64 " more damaged ranges\n", state->title, bad->count - LISTED_MAX);
  if (doubtful->count > LISTED_MAX)
    printf("%s: and %" PRIu64 " more ranges that may be damaged\n", state->title,
           doubtful->count - LISTED_MAX);
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
  const char *kind = state->verify->opened.is_residue ? "residue"
                     : snapshot == NULL               ? "active"
                     : state->is_vm_state             ? "vm_state"
                                                      : "snapshot";

  return json_pack(
      "{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O, s:o, s:o, s:O, s:s?, s:O}", "state",
      kind, "under_zeros", state->verify->opened.under_zeros, "index",
      snapshot == NULL ? json_null() : json_number(state->index), "id",
      snapshot == NULL ? json_null() : json_text(snapshot->id, snapshot->id_length), "name",
      snapshot == NULL ? json_null() : json_text(snapshot->name, snapshot->name_length), "size",
      failure != NULL ? json_null() : json_number(state->size), "sha256",
      digits_value(state, false), "sha256_with_zeros", digits_value(state, true), "bad_range_count",
      json_number(state->bad.count), "bad_bytes", json_number(state->bad.bytes), "bad_ranges",
      state->bad.list, "doubtful_range_count", json_number(state->doubtful.count), "doubtful_bytes",
      json_number(state->doubtful.bytes), "doubtful_ranges", state->doubtful.list, "error", failure,
      "warnings", state->warnings);
}

/* Read the state. Errors: those of sweep_view(). */
static int sweep_state(struct state *state, struct qcow2_view *view, struct qcow2_error *error)
{
  const struct sweep_listener listener = {
    .context = state, .damage = hear_damage, .doubt = hear_doubt, .bytes = hear_bytes
  };
  int code;

  state->size = qcow2_view_size(view);
  state->sha256 = state->verify->hash ? sha256_start() : NULL;
  progress_start(&state->progress, state->title, state->size);
  code = sweep_view(view, state->sha256 == NULL, &listener, error);
  end_range(state, &state->bad);
  end_range(state, &state->doubtful);
  progress_hide(&state->progress);
  if (state->sha256 != NULL)
    sha256_finish(state->sha256, state->digits);
  return code;
}

/* Say what is to be known of what the view shows. */
static void hear_warnings(struct state *state, const struct qcow2_view *view)
{
  const char *warning;

  for (size_t i = 0; (warning = qcow2_view_warning(view, i)) != NULL; i++) {
    state->verify->has_view_warnings = true;
    json_array_append_new(state->warnings, json_string(warning));
    if (!state->verify->json)
      printf("Warning: %s\n", warning);
  }
}

/* Count the damage, and print the result. Returns an exit status, after complaining if it is not
   EXIT_OK. */
static int end_state(struct state *state, const char *failure)
{
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

int verify_state(struct verify *verify, size_t index, bool is_vm_state)
{
  struct state state = { .verify = verify, .index = index, .is_vm_state = is_vm_state };
  struct qcow2_view *view;
  struct qcow2_error error;
  int code, status = EXIT_OK;

  set_title(&state);
  state.bad.list = json_array();
  state.doubtful.list = json_array();
  state.warnings = json_array();
  code = tsk_qcow2_open_state(&verify->opened, index, is_vm_state, &view, &error);
  if (code == 0) {
    hear_warnings(&state, view);
    code = sweep_state(&state, view, &error);
    qcow2_view_close(view);
    if (code == 0)
      status = end_state(&state, NULL);
    else
      status = complain_failed("%s", error.message);
  } else if (code == QCOW2_ERROR_NOMEM || verify->opened.is_residue)
    status = complain_failed("%s", error.message);
  else
    status = end_state(&state, error.message);
  json_decref(state.warnings);
  json_decref(state.doubtful.list);
  json_decref(state.bad.list);
  return status;
}
