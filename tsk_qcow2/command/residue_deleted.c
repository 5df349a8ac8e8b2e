/* SPDX-License-Identifier: MIT */
#include "residue_deleted.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "image_name.h"
#include "json_value.h"
#include "name_compose.h"
#include "recovered.h"
#include "report.h"
#include "selector_follow.h"
#include "shell.h"

#define TEXT_BYTES 4104u

/* ---- As text ------------------------------------------------------------------------------ */

/* Add the bytes of a label to what is as it was, may have been written since, or is lost; what was
   absent is no data. */
static void add_label(enum qcow2_label label, uint64_t bytes, double *kept, double *shared,
                      double *lost)
{
  if (label == QCOW2_LABEL_KEPT || label == QCOW2_LABEL_SHARED_OLDER)
    *kept += (double) bytes;
  else if (qcow2_label_is_lost(label))
    *lost += (double) bytes;
  else if (label != QCOW2_LABEL_ABSENT)
    *shared += (double) bytes;
}

/* Say how much of the snapshot's data is left. Nothing is called whole that is not: what is lost is
   rounded up, and what is as it was is rounded down. */
static void print_left(const uint64_t *bytes)
{
  double kept = 0, shared = 0, lost = 0, all;
  unsigned kept_percent, lost_percent;

  for (unsigned i = 0; i < QCOW2_LABELS; i++)
    add_label((enum qcow2_label) i, bytes[i], &kept, &shared, &lost);
  all = kept + shared + lost;
  if (all == 0) {
    printf("it had no data of its own");
    return;
  }
  kept_percent = shared + lost == 0 ? 100 : (unsigned) (kept / all * 99.999);
  lost_percent = lost == 0 ? 0 : 100 - (unsigned) ((kept + shared) / all * 99.999);
  printf("of its data, at most %u %% is as it was", kept_percent);
  if (shared > 0)
    printf(", %u %% may have been written since", 100 - kept_percent - lost_percent);
  printf(", %u %% is lost", lost_percent);
}

static char *same_path(void *context, const char *path)
{
  (void) context;
  return strdup(path);
}

/* True if the snapshot can be named by its own name, in a command that can be pasted. */
static bool is_typed_by_name(const struct recovered_snapshot *one)
{
  const char *own = one->snapshot.name;
  char quoted[SHELL_COMMAND_BYTES];

  return one->is_name_unique && own != NULL && own[0] != '\0' && strstr(own, "//") == NULL &&
         tsk_qcow2_shell_quote(own, quoted, sizeof(quoted));
}

/* The name of the snapshot in the image of this name, for a shell; NULL: it has none. */
static char *compose(const char *typed, const struct recovered_snapshot *one)
{
  struct tsk_qcow2_name name;
  struct qcow2_error error;
  char offset[24], *composed;
  bool by_name = is_typed_by_name(one);

  if (tsk_qcow2_name_parse(typed, &name, &error) != 0)
    return NULL;
  name.residue = false;
  snprintf(offset, sizeof(offset), "%" PRIu64, one->snapshot.l1_offset);
  tsk_qcow2_selection_free(&name.selection);
  name.selection.kind = by_name ? TSK_QCOW2_SELECT_DELETED : TSK_QCOW2_SELECT_DELETED_L1;
  name.selection.text = strdup(by_name ? one->snapshot.name : offset);
  composed = name.selection.text == NULL || tsk_qcow2_is_selector(name.path, &error) > 0
                 ? NULL
                 : tsk_qcow2_name_compose(&name, same_path, NULL);
  tsk_qcow2_name_free(&name);
  return composed;
}

static void print_one(const struct recovered_snapshot *one, const char *typed)
{
  char text[TEXT_BYTES], date[64], quoted[SHELL_COMMAND_BYTES];
  const char *name = one->snapshot.name == NULL ? "" : one->snapshot.name;
  char *composed = compose(typed, one);

  printf("Deleted snapshot \"%s\", %s: ", qcow2_text_escape(name, strlen(name), text, sizeof(text)),
         tsk_qcow2_report_date(&one->snapshot, date, sizeof(date)));
  print_left(one->bytes);
  if (composed != NULL && tsk_qcow2_shell_quote(composed, quoted, sizeof(quoted)))
    printf(": fls -r -i qcow2 %s", quoted);
  putchar('\n');
  free(composed);
}

void residue_deleted_print(const struct recovered_list *all, const char *name)
{
  if (all->count > 0)
    putchar('\n');
  for (size_t i = 0; i < all->count; i++)
    print_one(&all->list[i], name);
  if (all->more > 0)
    printf("... and %zu more deleted snapshots\n", all->more);
}

/* ---- As JSON -------------------------------------------------------------------------------- */

static json_t *one_value(const struct recovered_snapshot *one)
{
  const struct qcow2_snapshot *snapshot = &one->snapshot;
  char date[64];

  return json_pack("{s:o, s:o, s:s, s:o, s:o, s:o, s:o}", "id",
                   json_text(snapshot->id, snapshot->id_length), "name",
                   json_text(snapshot->name, snapshot->name_length), "date",
                   tsk_qcow2_report_date(snapshot, date, sizeof(date)), "l1_offset",
                   json_number(snapshot->l1_offset), "disk_size", json_number(snapshot->disk_size),
                   "vm_state_size", json_number(snapshot->vm_state_size), "labels",
                   recovered_labels(one->bytes));
}

json_t *residue_deleted_value(const struct recovered_list *all)
{
  json_t *list = json_array();

  for (size_t i = 0; i < all->count; i++)
    json_array_append_new(list, one_value(&all->list[i]));
  return list;
}

/* ---- --map ------------------------------------------------------------------------------ */

/* Say what is wrong with NAME, and what to type. */
static int complain_of_key(const struct arguments *arguments, const struct qcow2_error *error)
{
  char command[SHELL_COMMAND_BYTES];

  if (error->help == QCOW2_HELP_DELETED_KEY)
    return complain_failed(
        "%s. Choose one by \"--map l1=OFFSET\", where OFFSET is where its L1 table "
        "is",
        error->message);
  if (error->help == QCOW2_HELP_DELETED_LIST)
    return complain_failed("%s. To see what is left in the file: %s", error->message,
                           tsk_qcow2_shell_command("residue", arguments->operands[0], command));
  return complain_failed("%s", error->message);
}

/* Find the snapshot that NAME, id=ID or l1=OFFSET means. */
static int find(const struct qcow2_image *image, const char *key, uint64_t *l1_offset,
                struct qcow2_error *error)
{
  enum qcow2_deleted_key by = QCOW2_DELETED_BY_NAME;

  if (strncmp(key, "id=", 3) == 0)
    by = QCOW2_DELETED_BY_ID;
  else if (strncmp(key, "l1=", 3) == 0)
    by = QCOW2_DELETED_BY_L1;
  if (by != QCOW2_DELETED_BY_NAME || strncmp(key, "name=", 5) == 0)
    key = strchr(key, '=') + 1;
  return qcow2_deleted_find(image, key, by, l1_offset, error);
}

static bool continues(const struct qcow2_labelled *run, const struct qcow2_labelled *next)
{
  return run->label == next->label && (run->host_offset == QCOW2_NO_OFFSET
                                           ? next->host_offset == QCOW2_NO_OFFSET
                                           : next->host_offset == run->host_offset + run->length);
}

static void print_run(const struct qcow2_labelled *run, bool is_json, bool is_first)
{
  char host[24] = "-";

  if (run->host_offset != QCOW2_NO_OFFSET)
    snprintf(host, sizeof(host), "%" PRIu64, run->host_offset);
  if (!is_json)
    printf("%16" PRIu64 " %16" PRIu64 " %16s  %s\n", run->guest_offset, run->length, host,
           qcow2_label_name(run->label));
  else
    json_print_item(json_pack("{s:o, s:o, s:o, s:s}", "guest_offset",
                              json_number(run->guest_offset), "length", json_number(run->length),
                              "host_offset", json_offset(run->host_offset), "label",
                              qcow2_label_name(run->label)),
                    is_first);
}

/* Print all runs, and count their bytes. */
static int print_runs(struct qcow2_view *view, bool is_json, uint64_t *bytes)
{
  uint64_t at = 0, size = qcow2_view_size(view);
  struct qcow2_labelled run = { .length = 0 }, next;
  struct qcow2_error error;
  bool is_first = true;

  while (at < size) {
    if (qcow2_view_label(view, at, size - at, &next, &error) != 0)
      return complain_failed("%s", error.message);
    at += next.length;
    bytes[next.label] += next.length;
    if (run.length > 0 && continues(&run, &next)) {
      run.length += next.length;
      continue;
    }
    if (run.length > 0) {
      print_run(&run, is_json, is_first);
      is_first = false;
    }
    run = next;
  }
  if (run.length > 0)
    print_run(&run, is_json, is_first);
  return EXIT_OK;
}

static int print_map_json(struct qcow2_view *view)
{
  const struct qcow2_snapshot *snapshot = qcow2_view_deleted(view);
  uint64_t bytes[QCOW2_LABELS_MAX] = { 0 };
  int status;

  printf("{\n  \"l1_offset\": %" PRIu64, snapshot->l1_offset);
  json_print_member("id", json_text(snapshot->id, snapshot->id_length));
  json_print_member("name", json_text(snapshot->name, snapshot->name_length));
  json_print_member("size", json_number(qcow2_view_size(view)));
  printf(",\n  \"ranges\": [");
  status = print_runs(view, true, bytes);
  json_print_list_end(qcow2_view_size(view) == 0);
  json_print_member("labels", recovered_labels(bytes));
  printf("\n}\n");
  return status;
}

static int print_map_text(struct qcow2_view *view)
{
  uint64_t bytes[QCOW2_LABELS_MAX] = { 0 };
  const char *warning;
  int status;

  for (size_t i = 0; (warning = qcow2_view_warning(view, i)) != NULL; i++)
    printf("Warning: %s\n", warning);
  printf("%16s %16s %16s  %s\n", "Guest offset", "bytes", "host offset", "label");
  status = print_runs(view, false, bytes);
  putchar('\n');
  for (unsigned i = 0; i < QCOW2_LABELS; i++)
    if (bytes[i] > 0)
      printf("%-16s %16" PRIu64 "\n", qcow2_label_name((enum qcow2_label) i), bytes[i]);
  return status;
}

int residue_deleted_map(const struct arguments *arguments)
{
  struct tsk_qcow2_opened opened;
  struct qcow2_view *view = NULL;
  struct qcow2_error error;
  uint64_t l1_offset = 0;
  int status = arguments_open(arguments, 0, TSK_QCOW2_CHAIN_ONLY, &opened);

  if (status != EXIT_OK)
    return status;
  if (find(opened.image, arguments->map, &l1_offset, &error) != 0)
    status = complain_of_key(arguments, &error);
  else if (tsk_qcow2_open_deleted(&opened, l1_offset, false, &view, &error) != 0)
    status = complain_failed("%s", error.message);
  else
    status = (arguments->given & ARGUMENT_JSON) != 0 ? print_map_json(view) : print_map_text(view);
  if (status == EXIT_OK &&
      (qcow2_view_has_gaps(view) || !qcow2_deleted_is_complete(opened.image))) {
    complain_failed("some of the file cannot be read, so the labels may be wrong");
    status = EXIT_INCOMPLETE;
  }
  qcow2_view_close(view);
  return arguments_finish(&opened, status);
}
