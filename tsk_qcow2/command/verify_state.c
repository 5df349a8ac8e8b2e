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

struct state {
  struct verify *verify;
  size_t index; /* of the snapshot; QCOW2_ACTIVE: the active disk */
  bool is_vm_state;
  char title[TITLE_BYTES];
  uint64_t size;
  struct sha256 *sha256;
  char digits[SHA256_TEXT_BYTES]; /* "": no hash */
  struct progress progress;
  bool has_damage; /* there is one that may go on: */
  struct qcow2_error damage;
  uint64_t bad_range_count, bad_bytes;
  json_t *bad_ranges, *warnings;
};

/* ---- Damage ------------------------------------------------------------------ */

static json_t *damage_value(const struct qcow2_error *damage)
{
  return json_pack("{s:o, s:o, s:o, s:o, s:s, s:s}", "start", json_number(damage->guest_offset),
                   "length", json_number(damage->guest_length), "host_offset",
                   json_offset(damage->host_offset), "table_offset",
                   json_offset(damage->table_offset), "code", qcow2_status_name(damage->code),
                   "reason", damage->message);
}

/* Report and count the damaged range that ends here. */
static void end_damage(struct state *state)
{
  const struct qcow2_error *damage = &state->damage;

  if (!state->has_damage)
    return;
  state->has_damage = false;
  state->bad_range_count++;
  state->bad_bytes += damage->guest_length;
  if (state->bad_range_count > LISTED_MAX)
    return;
  if (state->verify->json) {
    json_array_append_new(state->bad_ranges, damage_value(damage));
    return;
  }
  progress_hide(&state->progress);
  printf("%s: cannot read %" PRIu64 " bytes at guest offset %" PRIu64 ": %s\n", state->title,
         damage->guest_length, damage->guest_offset, damage->message);
}

/* True if the damage belongs to the range before it: that range was reported again for the next
   chunk, or goes on. */
static bool goes_on(const struct state *state, const struct qcow2_error *damage)
{
  const struct tsk_qcow2_damaged_range known = tsk_qcow2_damaged_range_of(&state->damage);
  const struct tsk_qcow2_damaged_range next = tsk_qcow2_damaged_range_of(damage);

  return state->has_damage && tsk_qcow2_damage_goes_on(&known, &next);
}

static void hear_damage(void *context, const struct qcow2_error *damage)
{
  struct state *state = context;

  if (goes_on(state, damage)) {
    uint64_t end = damage->guest_offset + damage->guest_length;

    if (end > state->damage.guest_offset + state->damage.guest_length)
      state->damage.guest_length = end - state->damage.guest_offset;
    return;
  }
  end_damage(state);
  state->damage = *damage;
  state->has_damage = true;
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
  if (state->bad_range_count > LISTED_MAX)
    printf("%s: and %" PRIu64 " more damaged ranges\n", state->title,
           state->bad_range_count - LISTED_MAX);
  printf("%s: %" PRIu64 " bytes", state->title, state->size);
  if (state->bad_range_count > 0)
    printf(", of which %" PRIu64 " cannot be read", state->bad_bytes);
  if (state->digits[0] != '\0')
    printf(", SHA-256%s %s", state->bad_range_count > 0 ? " with zeros there" : "", state->digits);
  else if (state->verify->hash)
    printf(", no SHA-256 in this build");
  printf("\n");
}

static json_t *digits_value(const struct state *state, bool with_zeros)
{
  bool is_it = state->digits[0] != '\0' && (state->bad_range_count > 0) == with_zeros;

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

  return json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O, s:s?, s:O}", "state",
                   kind, "under_zeros", state->verify->opened.under_zeros, "index",
                   snapshot == NULL ? json_null() : json_number(state->index), "id",
                   snapshot == NULL ? json_null() : json_text(snapshot->id, snapshot->id_length),
                   "name",
                   snapshot == NULL ? json_null()
                                    : json_text(snapshot->name, snapshot->name_length),
                   "size", failure != NULL ? json_null() : json_number(state->size), "sha256",
                   digits_value(state, false), "sha256_with_zeros", digits_value(state, true),
                   "bad_range_count", json_number(state->bad_range_count), "bad_bytes",
                   json_number(state->bad_bytes), "bad_ranges", state->bad_ranges, "error", failure,
                   "warnings", state->warnings);
}

/* Read the state. Errors: those of sweep_view(). */
static int sweep_state(struct state *state, struct qcow2_view *view, struct qcow2_error *error)
{
  const struct sweep_listener listener = { .context = state,
                                           .damage = hear_damage,
                                           .bytes = hear_bytes };
  int code;

  state->size = qcow2_view_size(view);
  state->sha256 = state->verify->hash ? sha256_start() : NULL;
  progress_start(&state->progress, state->title, state->size);
  code = sweep_view(view, state->sha256 == NULL, &listener, error);
  end_damage(state);
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
  verify->bad_state_count += failure != NULL || state->bad_range_count > 0;
  verify->closed_state_count += failure != NULL;
  verify->bad_range_count += state->bad_range_count;
  verify->bad_bytes += state->bad_bytes;
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
  state.bad_ranges = json_array();
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
  json_decref(state.bad_ranges);
  return status;
}
