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
#include "report.h"
#include "selector_follow.h"
#include "shell.h"

#define NAME_BYTES_MAX 1024u
#define TEXT_BYTES (4 * NAME_BYTES_MAX + 8)

/* ---- Each that can be read ----------------------------------------------------------- */

/* Deleted snapshots, as they are found. */
struct deleted_one {
  char *name, *id; /* NUL-terminated; NULL: they have a NUL, or are too long */
  size_t name_length, id_length;
  struct qcow2_snapshot snapshot; /* its numbers */
  uint64_t bytes[QCOW2_LABELS_MAX];
  bool is_name_unique;
};

struct deleted_all {
  const struct qcow2_image *image;
  struct deleted_one ones[RESIDUE_DELETED_MAX];
  size_t count, more;
};

static char *copy(const char *text, size_t length)
{
  return length <= NAME_BYTES_MAX && memchr(text, '\0', length) == NULL ? strndup(text, length)
                                                                        : NULL;
}

static void keep(void *context, const struct qcow2_residue_found *found)
{
  struct deleted_all *all = context;
  struct deleted_one *one = &all->ones[all->count];

  if (found->l1 != QCOW2_RESIDUE_L1_THERE)
    return;
  if (all->count == RESIDUE_DELETED_MAX) {
    all->more++;
    return;
  }
  *one = (struct deleted_one){ .snapshot = *found->snapshot, .is_name_unique = true };
  if (qcow2_deleted_label_bytes(all->image, found->snapshot->l1_offset, one->bytes, NULL) != 0)
    return; /* its L1 table turned out to be something else */
  one->name = copy(found->snapshot->name, found->snapshot->name_length);
  one->id = copy(found->snapshot->id, found->snapshot->id_length);
  for (size_t i = 0; one->name != NULL && i < all->count; i++)
    if (all->ones[i].name != NULL && strcmp(all->ones[i].name, one->name) == 0)
      all->ones[i].is_name_unique = one->is_name_unique = false;
  all->count++;
}

static void free_all(struct deleted_all *all)
{
  for (size_t i = 0; i < all->count; i++) {
    free(all->ones[i].name);
    free(all->ones[i].id);
  }
  free(all);
}

static struct deleted_all *find_all(const struct qcow2_image *image)
{
  struct deleted_all *all = calloc(1, sizeof(*all));
  struct qcow2_error error;

  if (all == NULL)
    return NULL;
  all->image = image;
  if (qcow2_image_deleted(image, keep, all, &error) != 0)
    complain_failed("%s", error.message);
  return all;
}

/* ---- As text ------------------------------------------------------------------------------ */

/* What of the snapshot's data can be read, in percent; what was absent does not count. */
static unsigned percent_left(const uint64_t *bytes)
{
  uint64_t left = 0, lost = 0;

  for (unsigned i = 0; i < QCOW2_LABELS; i++)
    if (i == QCOW2_LABEL_ABSENT)
      continue;
    else if (qcow2_label_is_lost((enum qcow2_label) i))
      lost += bytes[i];
    else
      left += bytes[i];
  return lost == 0 ? 100 : (unsigned) ((double) left / ((double) left + (double) lost) * 99.999);
}

static char *same_path(void *context, const char *path)
{
  (void) context;
  return strdup(path);
}

/* The name of the snapshot in the image of this name, for a shell; NULL: it has none. */
static char *compose(const char *typed, const struct deleted_one *one)
{
  struct tsk_qcow2_name name;
  struct qcow2_error error;
  char offset[24], *composed;
  bool by_name = one->is_name_unique && one->name != NULL && one->name[0] != '\0';

  if (tsk_qcow2_name_parse(typed, &name, &error) != 0)
    return NULL;
  name.residue = false;
  snprintf(offset, sizeof(offset), "%" PRIu64, one->snapshot.l1_offset);
  tsk_qcow2_selection_free(&name.selection);
  name.selection.kind = by_name ? TSK_QCOW2_SELECT_DELETED : TSK_QCOW2_SELECT_DELETED_L1;
  name.selection.text = strdup(by_name ? one->name : offset);
  composed = name.selection.text == NULL || tsk_qcow2_is_selector(name.path, &error) != 0
                 ? NULL
                 : tsk_qcow2_name_compose(&name, same_path, NULL);
  tsk_qcow2_name_free(&name);
  return composed;
}

static void print_one(const struct deleted_one *one, const char *typed)
{
  char text[TEXT_BYTES], date[64], quoted[SHELL_COMMAND_BYTES];
  const char *name = one->name == NULL ? "" : one->name;
  char *composed = compose(typed, one);

  printf("Deleted snapshot \"%s\", %s: %u %% of its data is left",
         qcow2_text_escape(name, strlen(name), text, sizeof(text)),
         tsk_qcow2_report_date(&one->snapshot, date, sizeof(date)), percent_left(one->bytes));
  if (composed != NULL && tsk_qcow2_shell_quote(composed, quoted, sizeof(quoted)))
    printf(": fls -r -i qcow2 %s", quoted);
  putchar('\n');
  free(composed);
}

void residue_deleted_print(const struct qcow2_image *image, const char *name)
{
  struct deleted_all *all = find_all(image);

  if (all == NULL)
    return;
  if (all->count > 0)
    putchar('\n');
  for (size_t i = 0; i < all->count; i++)
    print_one(&all->ones[i], name);
  if (all->more > 0)
    printf("... and %zu more deleted snapshots\n", all->more);
  free_all(all);
}

/* ---- As JSON -------------------------------------------------------------------------------- */

static json_t *labels_value(const uint64_t *bytes)
{
  json_t *object = json_object();

  for (unsigned i = 0; i < QCOW2_LABELS; i++)
    json_object_set_new(object, qcow2_label_name((enum qcow2_label) i), json_number(bytes[i]));
  return object;
}

static json_t *one_value(const struct deleted_one *one)
{
  char date[64];

  return json_pack("{s:o, s:o, s:s, s:o, s:o, s:o, s:o}", "id",
                   json_text(one->id, one->id == NULL ? 0 : strlen(one->id)), "name",
                   json_text(one->name, one->name == NULL ? 0 : strlen(one->name)), "date",
                   tsk_qcow2_report_date(&one->snapshot, date, sizeof(date)), "l1_offset",
                   json_number(one->snapshot.l1_offset), "disk_size",
                   json_number(one->snapshot.disk_size), "vm_state_size",
                   json_number(one->snapshot.vm_state_size), "labels", labels_value(one->bytes));
}

json_t *residue_deleted_value(const struct qcow2_image *image)
{
  struct deleted_all *all = find_all(image);
  json_t *list = json_array();

  for (size_t i = 0; all != NULL && i < all->count; i++)
    json_array_append_new(list, one_value(&all->ones[i]));
  if (all != NULL)
    free_all(all);
  return list;
}

/* ---- --map ------------------------------------------------------------------------------------
 */

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
  json_print_member("labels", labels_value(bytes));
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
  if (find(opened.image, arguments->map, &l1_offset, &error) != 0 ||
      tsk_qcow2_open_deleted(&opened, l1_offset, false, &view, &error) != 0)
    status = complain_failed("%s", error.message);
  else
    status = (arguments->given & ARGUMENT_JSON) != 0 ? print_map_json(view) : print_map_text(view);
  qcow2_view_close(view);
  return arguments_finish(&opened, status);
}
