/* SPDX-License-Identifier: MIT */
/* tsk-qcow2 verify: read every state of an image, and say what cannot be read. What --json prints
   is described in verify-json.md. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "command.h"
#include "json_value.h"
#include "shell.h"
#include "sweep.h"
#include "verify.h"

#define VERDICT_BYTES 512

/* ---- All states ---------------------------------------------------------------- */

/* The states that will be read next, side by side. */
struct batch {
  struct verify *verify;
  struct verify_choice choices[SWEEP_LANES_MAX];
  size_t count;
  int status;
};

static void read_batch(struct batch *batch)
{
  if (batch->status == EXIT_OK)
    batch->status = verify_states(batch->verify, batch->choices, batch->count);
  batch->count = 0;
}

static void add_state(struct batch *batch, size_t index, bool is_vm_state)
{
  batch->choices[batch->count++] = (struct verify_choice){ index, is_vm_state };
  if (batch->count == verify_states_max(batch->verify))
    read_batch(batch);
}

static int verify_all(struct verify *verify)
{
  struct batch batch = { .verify = verify, .status = EXIT_OK };
  const struct qcow2_snapshot *snapshot;

  add_state(&batch, QCOW2_ACTIVE, false);
  for (size_t i = 0;
       batch.status == EXIT_OK && (snapshot = qcow2_snapshot_get(verify->opened.image, i)) != NULL;
       i++) {
    add_state(&batch, i, false);
    if (verify->vm_states && snapshot->vm_state_size > 0)
      add_state(&batch, i, true);
  }
  read_batch(&batch);
  return batch.status;
}

static int verify_one(struct verify *verify)
{
  const struct verify_choice choice = { verify->opened.snapshot_index, verify->opened.is_vm_state };

  return verify_states(verify, &choice, 1);
}

/* ---- What was not read ----------------------------------------------------------- */

/* What the image has in addition to the states that were read. */
struct unread {
  uint64_t vm_states, vm_state_bytes; /* saved memory: of how many snapshots, and how many bytes if
                                         that is known: */
  bool has_bytes;                     /* it is no more than 2^64 - 1 */
  uint64_t others;                    /* disks, if the image's name chooses a state */
};

static struct unread find_unread(const struct verify *verify)
{
  const struct tsk_qcow2_opened *opened = &verify->opened;
  const struct qcow2_snapshot *snapshot;
  struct unread unread = { .has_bytes = true };
  bool is_one = tsk_qcow2_opened_is_one(&verify->opened);

  for (size_t i = 0; (snapshot = qcow2_snapshot_get(opened->image, i)) != NULL; i++) {
    bool is_read = is_one ? opened->is_vm_state && i == opened->snapshot_index : verify->vm_states;

    if (snapshot->vm_state_size == 0 || is_read)
      continue;
    unread.vm_states++;
    unread.has_bytes = unread.has_bytes &&
                       snapshot->vm_state_size <= UINT64_MAX - unread.vm_state_bytes;
    unread.vm_state_bytes += snapshot->vm_state_size;
  }
  if (is_one)
    unread.others = qcow2_snapshot_count(opened->image) +
                    (opened->is_vm_state || opened->is_residue || opened->deleted_l1 != 0 ||
                             opened->is_abandoned
                         ? 1
                         : 0);
  return unread;
}

static void print_unread(const struct unread *unread)
{
  if (unread->others > 0)
    printf("Not read: %" PRIu64
           " other disk%s of the image, because the image name chooses one state\n",
           unread->others, unread->others == 1 ? "" : "s");
  if (unread->vm_states > 0)
    printf("Not read: saved memory of %" PRIu64 " snapshot%s (%s%" PRIu64
           " bytes); \"--vmstate\" reads it too\n",
           unread->vm_states, unread->vm_states == 1 ? "" : "s",
           unread->has_bytes ? "" : "more than ",
           unread->has_bytes ? unread->vm_state_bytes : UINT64_MAX);
}

/* ---- The verdict ------------------------------------------------------------------ */

struct verdict {
  const char *result; /* as JSON says it */
  int status;         /* the exit status */
  uint64_t lost_snapshots, lost_bitmaps;
  struct unread unread;
  uint64_t changed_files; /* files of the chain that changed while they were read */
};

/* The sentences about files that changed while they were read. */
static json_t *changes_value(const struct verify *verify)
{
  const struct qcow2_image *image = verify->opened.image;
  char sentence[QCOW2_CHANGED_BYTES];
  json_t *list = json_array();

  for (size_t i = 0; i < qcow2_layer_count(image); i++)
    if (qcow2_layer_changed(image, i, sentence, sizeof(sentence)))
      json_array_append_new(list, json_string(sentence));
  return list;
}

static uint64_t count_changes(const struct verify *verify)
{
  json_t *list = changes_value(verify);
  uint64_t count = json_array_size(list);

  json_decref(list);
  return count;
}

static struct verdict judge(const struct verify *verify)
{
  const struct verify_tables *tables = &verify->tables;
  struct verdict verdict = { .result = "good",
                             .status = EXIT_OK,
                             .lost_snapshots = qcow2_snapshot_lost_count(verify->opened.image),
                             .lost_bitmaps = qcow2_bitmap_lost_count(verify->opened.image),
                             .unread = find_unread(verify),
                             .changed_files = count_changes(verify) };

  /* What is wrong may be outside the one state that was read. */
  bool is_elsewhere = tsk_qcow2_opened_is_one(&verify->opened);
  bool is_broken = verdict.lost_snapshots > 0 || verdict.lost_bitmaps > 0 ||
                   tables->finding_count > 0;
  bool has_faults = is_broken || tables->leak_count > 0 || tables->refcount_count > 0 ||
                    verify->doubtful_range_count > 0;

  if (verdict.changed_files > 0) {
    verdict.result = "changed";
    verdict.status = EXIT_CHANGED;
  } else if (verify->bad_state_count > 0 || verify->gap_state_count > 0 ||
             (is_broken && !is_elsewhere)) {
    verdict.result = "damaged";
    verdict.status = EXIT_DAMAGED;
  } else if (tables->unfinished_count > 0 ||
             (!has_faults && qcow2_image_is_damaged(verify->opened.image))) {
    verdict.result = "incomplete";
    verdict.status = EXIT_INCOMPLETE;
  } else if (has_faults) {
    verdict.result = "readable";
    verdict.status = EXIT_LEAKS;
  }
  return verdict;
}

/* Append to the text in `out`, of VERDICT_BYTES, after a separator unless it is the first. */
static void add_clause(char *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add_clause(char *out, const char *format, ...)
{
  size_t used = strlen(out);
  va_list arguments;

  if (used > 0)
    used += (size_t) snprintf(out + used, VERDICT_BYTES - used, "; ");
  va_start(arguments, format);
  vsnprintf(out + used, VERDICT_BYTES - used, format, arguments);
  va_end(arguments);
}

/* Say how much can be read but may be damaged, as a sentence. */
static void print_doubts(const struct verify *verify)
{
  if (verify->doubtful_range_count > 0)
    printf(" %" PRIu64 " range%s (%" PRIu64
           " bytes) may be damaged: the compressed streams do not end with their clusters.",
           verify->doubtful_range_count, verify->doubtful_range_count == 1 ? "" : "s",
           verify->doubtful_bytes);
}

static void print_damaged(const struct verify *verify, const struct verdict *verdict)
{
  char clauses[VERDICT_BYTES] = "";

  if (verify->bad_state_count > 0)
    add_clause(clauses,
               "%" PRIu64 " of %" PRIu64 " states cannot be read as a whole (%" PRIu64
               " range%s, %" PRIu64 " bytes)",
               verify->bad_state_count, verify->state_count, verify->bad_range_count,
               verify->bad_range_count == 1 ? "" : "s", verify->bad_bytes);
  if (verify->closed_state_count > 0)
    add_clause(clauses, "%" PRIu64 " of these cannot be read at all", verify->closed_state_count);
  if (verify->gap_state_count > 0)
    add_clause(clauses,
               "%" PRIu64 " of %" PRIu64 " states may be shown wrongly (see the warning%s)",
               verify->gap_state_count, verify->state_count,
               verify->gap_state_count == 1 ? "" : "s");
  if (verdict->lost_snapshots > 0)
    add_clause(clauses, "%" PRIu64 " snapshot%s lost", verdict->lost_snapshots,
               verdict->lost_snapshots == 1 ? " is" : "s are");
  if (verdict->lost_bitmaps > 0)
    add_clause(clauses, "%" PRIu64 " bitmap%s lost", verdict->lost_bitmaps,
               verdict->lost_bitmaps == 1 ? " is" : "s are");
  if (verify->tables.finding_count > 0)
    add_clause(clauses, "tables are not valid in %" PRIu64 " place%s", verify->tables.finding_count,
               verify->tables.finding_count == 1 ? "" : "s");
  printf("Damaged: %s.", clauses);
  print_doubts(verify);
  if (verify->bad_range_count > 0)
    printf(" \",errors=zero\" after the image name reads zeros in the ranges.");
}

/* Say why an image that can be read is not good. */
static void print_readable(const struct verify *verify, const struct verdict *verdict)
{
  const struct verify_tables *tables = &verify->tables;

  if (verdict->lost_snapshots > 0 || verdict->lost_bitmaps > 0 || tables->finding_count > 0) {
    printf("Readable: this state can be read as a whole, but the image is damaged elsewhere.");
    return;
  }
  if (tables->leak_count == 0 && tables->refcount_count == 0) {
    printf("Readable: all that was read can be read, but it may not be what was written.");
    return;
  }
  printf("Readable: everything that the tables refer to can be read, but ");
  if (tables->unreferenced_count > 0)
    printf("nothing refers to %" PRIu64 " cluster%s (%" PRIu64
           " bytes) that are marked as used: old data, or data of a table that was lost.",
           tables->unreferenced_count, tables->unreferenced_count == 1 ? "" : "s",
           tables->unreferenced_bytes);
  else if (tables->leak_count > 0)
    printf("%" PRIu64
           " cluster%s fewer references than the refcount says, as after the loss of a table.",
           tables->leak_count, tables->leak_count == 1 ? " has" : "s have");
  else
    printf("refcounts are wrong, which does not affect reading.");
}

/* Print the last line. If there is more to see, it ends with the command to type. */
static void print_verdict(const struct verify *verify, const struct verdict *verdict)
{
  const struct unread *unread = &verdict->unread;
  char command[SHELL_COMMAND_BYTES];

  if (verdict->status == EXIT_CHANGED)
    printf(
        "Changed: %" PRIu64
        " file%s changed while it was read (see the warning%s), so the hashes may be of no moment "
        "that ever was%s. Read a copy.",
        verdict->changed_files, verdict->changed_files == 1 ? "" : "s",
        verdict->changed_files == 1 ? "" : "s",
        verify->bad_state_count > 0 || verify->tables.finding_count > 0
            ? ", and what is damaged above may come from that"
            : "");
  else if (verdict->status == EXIT_DAMAGED)
    print_damaged(verify, verdict);
  else if (verdict->status == EXIT_INCOMPLETE)
    printf("Incomplete: all that was read can be read, but %s.",
           verify->tables.unfinished_count > 0
               ? "tables and refcounts were not checked to the end"
               : "something was lost or could not be read, as the warnings say");
  else if (verdict->status == EXIT_LEAKS)
    print_readable(verify, verdict);
  else if (unread->vm_states > 0 || unread->others > 0)
    printf("Good: all that was read can be read.");
  else
    printf("Good: all of it can be read.");
  if (verdict->status != EXIT_DAMAGED)
    print_doubts(verify);
  if (verdict->status == EXIT_OK &&
      (verify->has_view_warnings || tsk_qcow2_opened_warning(&verify->opened, 0) != NULL))
    printf(" See the warnings above.");
  if (verify->tables.first_path != NULL)
    printf(" More: %s", tsk_qcow2_shell_command("check", verify->tables.first_path, command));
  printf("\n");
}

/* Print what follows the states in JSON. */
static int print_json_verdict(struct verify *verify, const struct verdict *verdict)
{
  json_t *files = verify->tables.files;

  verify->tables.files = NULL;
  json_print_list_end(verify->state_count == 0);
  if (!json_print_member("result", json_string(verdict->result)) ||
      !json_print_member("lost_snapshot_count", json_number(verdict->lost_snapshots)) ||
      !json_print_member("lost_bitmap_count", json_number(verdict->lost_bitmaps)) ||
      !json_print_member("not_read",
                         json_pack("{s:o, s:o, s:o}", "vm_states",
                                   json_number(verdict->unread.vm_states), "vm_state_bytes",
                                   verdict->unread.has_bytes
                                       ? json_number(verdict->unread.vm_state_bytes)
                                       : json_null(),
                                   "other_disks", json_number(verdict->unread.others))) ||
      !json_print_member("files", files) || !json_print_member("changes", changes_value(verify)) ||
      !json_print_member("warnings", json_warnings(&verify->opened)))
    return complain_failed("cannot write the JSON: out of memory");
  printf("\n}\n");
  return EXIT_OK;
}

/* Check the files' tables, and print the verdict; returns the exit status. */
static int conclude(struct verify *verify)
{
  struct verdict verdict;
  int status = verify_check_files(verify);

  if (status != EXIT_OK)
    return status;
  verdict = judge(verify);
  if (verify->json)
    status = print_json_verdict(verify, &verdict);
  else {
    print_unread(&verdict.unread);
    print_verdict(verify, &verdict);
  }
  return status == EXIT_OK ? verdict.status : status;
}

/* ---- The command ------------------------------------------------------------------ */

/* If the image name chooses a VM state that its snapshot does not have, or an abandoned state of
   which nothing is left or that this kind of image cannot have, that is the user's mistake and no
   damage. */
static int check_choice(const struct verify *verify)
{
  struct qcow2_view *view;
  struct qcow2_error error;
  int code;

  if (!verify->opened.is_vm_state && !verify->opened.is_abandoned)
    return EXIT_OK;
  code = tsk_qcow2_open_state(&verify->opened, verify->opened.snapshot_index,
                              verify->opened.is_vm_state, &view, &error);
  if (code == 0)
    qcow2_view_close(view);
  return code == QCOW2_ERROR_NOT_FOUND || code == QCOW2_ERROR_ARGUMENT ||
                 (code == QCOW2_ERROR_UNSUPPORTED && verify->opened.is_abandoned)
             ? complain_failed("%s", error.message)
             : EXIT_OK;
}

/* How many ranges of a state are listed at most. */
#define LISTED_MAX 10000u

/* Take the value of --list. Returns EXIT_OK, or EXIT_USAGE after complaining. */
static int take_list(const struct arguments *arguments, struct verify *verify)
{
  const char *text = arguments->list;

  verify->listed_max = LISTED_MAX;
  if ((arguments->given & ARGUMENT_LIST) == 0)
    return EXIT_OK;
  if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text) || strlen(text) > 5 ||
      strtoul(text, NULL, 10) > LISTED_MAX)
    return complain_usage("verify: --list needs a number from 0 to %u", LISTED_MAX);
  verify->listed_max = strtoul(text, NULL, 10);
  return EXIT_OK;
}

int command_verify(int argc, char *argv[])
{
  struct arguments arguments = { .command = "verify",
                                 .operands_wanted = 1,
                                 .known = ARGUMENT_JSON | ARGUMENT_VM_STATE | ARGUMENT_NO_HASH |
                                          ARGUMENT_LIST };
  struct verify verify = { .lock = PTHREAD_MUTEX_INITIALIZER };
  int status = arguments_parse(argc, argv, &arguments);

  if (status == EXIT_OK)
    status = take_list(&arguments, &verify);
  if (status == EXIT_OK)
    status = arguments_open(&arguments, 0, TSK_QCOW2_CHAIN_NO_THREADS, &verify.opened);
  if (status != EXIT_OK)
    return status;
  status = check_choice(&verify);
  if (status != EXIT_OK)
    return arguments_finish(&verify.opened, status);
  verify.hash = (arguments.given & ARGUMENT_NO_HASH) == 0;
  verify.vm_states = (arguments.given & ARGUMENT_VM_STATE) != 0;
  verify.json = (arguments.given & ARGUMENT_JSON) != 0;
  verify.tables.files = verify.json ? json_array() : NULL;
  if (verify.json)
    printf("{\n  \"states\": [");
  else
    print_warnings(&verify.opened);
  verify_print_files(&verify);
  status = tsk_qcow2_opened_is_one(&verify.opened) ? verify_one(&verify) : verify_all(&verify);
  if (status == EXIT_OK)
    status = conclude(&verify);
  json_decref(verify.tables.files);
  return arguments_finish(&verify.opened, status);
}
