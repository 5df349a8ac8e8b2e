/* SPDX-License-Identifier: MIT */
/* What nothing refers to any more: residue, deleted snapshots, the abandoned state. Whatever fails,
   each answer is an error, or says that it has gaps, or is the one without faults. */
#include "leftovers.h"

#include <inttypes.h>
#include <string.h>

#include "examine.h"

/* The deleted snapshot of the test's image. */
#define DELETED_NAME "monday"

static bool has_gaps; /* the last answer says so */

/* ---- The questions --------------------------------------------------------------------- */

static void hear(void *context, const struct qcow2_residue_found *found)
{
  (void) context;
  say(&run.text, "%d %" PRIu64 " %d %s\n", (int) found->kind, found->host_offset, (int) found->l1,
      found->snapshot == NULL ? "" : found->snapshot->name);
}

static int step_residue(struct qcow2_error *error)
{
  struct qcow2_residue_options options = { .struct_size = sizeof(options), .report = hear };
  struct qcow2_residue_result result;
  int code = qcow2_image_residue(run.opened.image, &options, &result, error);

  for (unsigned i = 0; i < QCOW2_RESIDUE_WHERES; i++)
    say(&run.text, "%" PRIu64 " %" PRIu64 "\n", result.where_bytes[i], result.where_data_bytes[i]);
  for (unsigned i = 0; i < QCOW2_RESIDUE_KINDS; i++)
    say(&run.text, "%" PRIu64 "\n", result.kind_bytes[i]);
  has_gaps = !result.is_complete;
  return code;
}

static void say_labels(const uint64_t *bytes)
{
  for (unsigned i = 0; i < QCOW2_LABELS; i++)
    say(&run.text, "%s %" PRIu64 "\n", qcow2_label_name((enum qcow2_label) i), bytes[i]);
}

static int step_deleted(struct qcow2_error *error)
{
  int code = qcow2_image_deleted(run.opened.image, hear, NULL, error);
  uint64_t l1_offset = 0, bytes[QCOW2_LABELS_MAX];

  if (code == 0)
    code = qcow2_deleted_find(run.opened.image, DELETED_NAME, QCOW2_DELETED_BY_NAME, &l1_offset,
                              error);
  if (code == 0)
    code = qcow2_deleted_label_bytes(run.opened.image, l1_offset, bytes, error);
  if (code == 0)
    say_labels(bytes);
  has_gaps = !qcow2_deleted_is_complete(run.opened.image);
  return code;
}

/* Read the view, describe it, and close it. */
static int describe_view(struct qcow2_view *view, struct qcow2_error *error)
{
  uint64_t size = qcow2_view_size(view), hash = 0, bytes[QCOW2_LABELS_MAX];
  int code = 0;

  for (uint64_t at = 0; code == 0 && at < size; at += PIECE_BYTES) {
    size_t length = size - at < PIECE_BYTES ? (size_t) (size - at) : PIECE_BYTES;

    code = qcow2_view_read(view, at, run.buffer, length, error);
    for (size_t i = 0; code == 0 && i < length; i++)
      hash = hash * 31 + run.buffer[i];
  }
  say(&run.text, "%" PRIu64 " bytes, %" PRIx64 "\n", size, hash);
  if (code == 0 && qcow2_view_label_bytes(view, bytes, NULL) == 0)
    say_labels(bytes);
  has_gaps = qcow2_view_has_gaps(view) != 0;
  qcow2_view_close(view);
  return code;
}

static int step_residue_view(struct qcow2_error *error)
{
  struct qcow2_view *view;
  int code = qcow2_view_open_residue(run.opened.image, &view, error);

  return code == 0 ? describe_view(view, error) : code;
}

static int step_deleted_view(struct qcow2_error *error)
{
  struct qcow2_view *view;
  uint64_t l1_offset = 0;
  int code = qcow2_deleted_find(run.opened.image, DELETED_NAME, QCOW2_DELETED_BY_NAME, &l1_offset,
                                error);

  if (code == 0)
    code = qcow2_view_open_deleted(run.opened.image, l1_offset, 0, &view, error);
  return code == 0 ? describe_view(view, error) : code;
}

static int step_abandoned_view(struct qcow2_error *error)
{
  struct qcow2_view *view;
  int code = qcow2_view_open_abandoned(run.opened.image, QCOW2_VIEW_BY_NEIGHBOURS, &view, error);

  return code == 0 ? describe_view(view, error) : code;
}

/* ---- The answers ------------------------------------------------------------------------- */

static struct question {
  const char *what;
  int (*step)(struct qcow2_error *error);
  struct text expected; /* without faults, and the code */
  int code;
} questions[] = { { .what = "residue", .step = step_residue },
                  { .what = "deleted snapshots", .step = step_deleted },
                  { .what = "the stream of residue", .step = step_residue_view },
                  { .what = "a deleted snapshot", .step = step_deleted_view },
                  { .what = "the abandoned state", .step = step_abandoned_view } };

/* True if the answer is that without faults. */
static bool is_expected(const struct question *question, int code)
{
  return code == question->code &&
         (code != 0 || strcmp(question->expected.bytes, run.text.bytes) == 0);
}

static void ask(struct question *question)
{
  bool may_fail = run.kind != FAULT_READ_PARTIAL && run.kind != FAULT_READ_SIGNAL;
  struct qcow2_error error;
  int code;

  run.text.used = 0;
  run.text.bytes[0] = '\0';
  has_gaps = false;
  memset(&error, UNTOUCHED, sizeof(error));
  code = question->step(&error);
  if (run.is_reference) {
    question->code = code;
    question->expected = run.text;
  } else if (code != 0 && code != question->code) {
    if (error.code != code || !may_fail || !fault_happened())
      complain("%s: fails with %d: %s", question->what, code, error.message);
  } else if (has_gaps ? !may_fail || !fault_happened() : !is_expected(question, code))
    complain("%s: %d, %s%s\nand should be %d, %s", question->what, code,
             has_gaps ? "with gaps, " : "", run.text.bytes, question->code,
             question->expected.bytes);
}

void examine_leftovers(void)
{
  for (size_t i = 0; i < sizeof(questions) / sizeof(questions[0]); i++)
    ask(&questions[i]);
}
