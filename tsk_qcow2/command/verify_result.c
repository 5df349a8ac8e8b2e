/* SPDX-License-Identifier: MIT */
#include "verify_result.h"

#include <inttypes.h>
#include <string.h>

#include "json_value.h"
#include "recovered.h"

static const struct qcow2_snapshot *snapshot_of(const struct verify_state *state)
{
  if (state->verify->opened.deleted_l1 != 0)
    return state->view == NULL ? NULL : qcow2_view_deleted(state->view);
  return qcow2_snapshot_get(state->verify->opened.image, state->index);
}

/* `snapshot` is NULL if it cannot be read. */
static void set_deleted_title(struct verify_state *state, const struct qcow2_snapshot *snapshot,
                              const char *more)
{
  const char *what = state->is_vm_state ? "VM state of deleted snapshot" : "Deleted snapshot";
  char id[64], name[VERIFY_TITLE_BYTES - 192];

  if (snapshot == NULL)
    snprintf(state->title, sizeof(state->title), "%s, recovered%s", what, more);
  else
    snprintf(state->title, sizeof(state->title), "%s ID %s \"%s\", recovered%s", what,
             qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
             qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name)), more);
}

void verify_result_set_title(struct verify_state *state)
{
  const struct tsk_qcow2_opened *opened = &state->verify->opened;
  const struct qcow2_snapshot *snapshot = snapshot_of(state);
  char id[64], name[VERIFY_TITLE_BYTES - 192], more[80];

  snprintf(more, sizeof(more), "%s%s",
           opened->under_zeros ? ", with what is stored under zeros" : "",
           opened->is_in_recovered ? ", inside a disk that is recovered" : "");
  if (opened->is_residue)
    snprintf(state->title, sizeof(state->title), "Residue%s", more);
  else if (opened->deleted_l1 != 0)
    set_deleted_title(state, snapshot, more);
  else if (opened->is_abandoned)
    snprintf(state->title, sizeof(state->title), "Abandoned state, recovered by guess%s", more);
  else if (snapshot == NULL)
    snprintf(state->title, sizeof(state->title), "Active disk%s", more);
  else
    snprintf(state->title, sizeof(state->title), "%s ID %s \"%s\"%s",
             state->is_vm_state ? "VM state of snapshot" : "Snapshot",
             qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
             qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name)), more);
}

json_t *verify_result_range(const struct qcow2_error *range)
{
  return json_pack("{s:o, s:o, s:o, s:o, s:s, s:s}", "start", json_number(range->guest_offset),
                   "length", json_number(range->guest_length), "host_offset",
                   json_offset(range->host_offset), "table_offset",
                   json_offset(range->table_offset), "code", qcow2_status_name(range->code),
                   "reason", range->message);
}

void verify_result_print_range(FILE *out, const struct verify_state *state, bool is_bad,
                               const struct qcow2_error *range)
{
  if (is_bad)
    fprintf(out, "%s: cannot read %" PRIu64 " bytes at guest offset %" PRIu64 ": %s\n",
            state->title, range->guest_length, range->guest_offset, range->message);
  else
    fprintf(out, "%s: %" PRIu64 " bytes at guest offset %" PRIu64 " may be damaged: %s\n",
            state->title, range->guest_length, range->guest_offset, range->message);
}

static void print_read(const struct verify_state *state)
{
  const struct verify_ranges *bad = &state->bad, *doubtful = &state->doubtful;

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

void verify_result_print(const struct verify_state *state)
{
  const char *failure = verify_result_failure(state);

  if (failure != NULL)
    printf("%s: cannot be read: %s\n", state->title, failure);
  else
    print_read(state);
}

static json_t *digits_value(const struct verify_state *state, bool with_zeros)
{
  bool is_it = state->digits[0] != '\0' && (state->bad.count > 0) == with_zeros;

  return is_it ? json_string(state->digits) : json_null();
}

json_t *verify_result_value(const struct verify_state *state)
{
  const char *failure = verify_result_failure(state);
  const struct qcow2_snapshot *snapshot = snapshot_of(state);
  const struct tsk_qcow2_opened *opened = &state->verify->opened;
  bool is_deleted = opened->deleted_l1 != 0;
  const char *kind = opened->is_residue                 ? "residue"
                     : is_deleted && state->is_vm_state ? "deleted_vm_state"
                     : is_deleted                       ? "deleted_snapshot"
                     : opened->is_abandoned             ? "abandoned"
                     : snapshot == NULL                 ? "active"
                     : state->is_vm_state               ? "vm_state"
                                                        : "snapshot";

  return json_pack(
      "{s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:O, s:o, s:o, s:O, s:s?, s:O}",
      "state", kind, "under_zeros", opened->under_zeros, "recovered",
      tsk_qcow2_opened_is_recovered(opened), "labels", recovered_view_labels(state->view), "index",
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
