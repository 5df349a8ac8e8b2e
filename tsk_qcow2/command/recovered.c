/* SPDX-License-Identifier: MIT */
#include "recovered.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "json_value.h"
#include "report.h"

#define NAME_BYTES_MAX 1024u

/* ---- A state that is open ---------------------------------------------------------- */

static char *snapshot_title(const struct qcow2_snapshot *snapshot, char *out, size_t size)
{
  char id[48], name[256], date[64];

  snprintf(out, size, "deleted snapshot ID %s \"%s\" of %s",
           qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
           qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name)),
           tsk_qcow2_report_date(snapshot, date, sizeof(date)));
  return out;
}

char *recovered_title(const struct tsk_qcow2_opened *opened, const struct qcow2_view *view,
                      char out[RECOVERED_TITLE_BYTES])
{
  const struct qcow2_snapshot *snapshot = view == NULL ? NULL : qcow2_view_deleted(view);
  const char *what = opened->is_vm_state ? "saved memory of " : "";
  char title[RECOVERED_TITLE_BYTES - 32] = "deleted snapshot";

  if (snapshot != NULL)
    snapshot_title(snapshot, title, sizeof(title));
  if (opened->is_abandoned)
    snprintf(title, sizeof(title), "abandoned state, guessed");
  if (opened->deleted_l1 == 0 && !opened->is_abandoned)
    snprintf(title, sizeof(title), "image inside a disk that is recovered");
  snprintf(out, RECOVERED_TITLE_BYTES, "%s%s", what, title);
  return out;
}

/* Append "NAME BYTES" for each label that has bytes, and is lost or not. */
static void add_shares(const uint64_t *bytes, int lost, char out[RECOVERED_SHARES_BYTES])
{
  size_t used = strlen(out);
  const char *before = "";

  for (unsigned i = 0; i < QCOW2_LABELS; i++)
    if (bytes[i] > 0 && qcow2_label_is_lost((enum qcow2_label) i) == lost &&
        used < RECOVERED_SHARES_BYTES) {
      used += (size_t) snprintf(out + used, RECOVERED_SHARES_BYTES - used, "%s%s %" PRIu64, before,
                                qcow2_label_name((enum qcow2_label) i), bytes[i]);
      before = ", ";
    }
  if (before[0] == '\0' && used < RECOVERED_SHARES_BYTES)
    snprintf(out + used, RECOVERED_SHARES_BYTES - used, "nothing");
}

char *recovered_shares(const uint64_t *bytes, char out[RECOVERED_SHARES_BYTES])
{
  out[0] = '\0';
  add_shares(bytes, 0, out);
  strncat(out, "; lost: ", RECOVERED_SHARES_BYTES - strlen(out) - 1);
  add_shares(bytes, 1, out);
  return out;
}

char *recovered_view_shares(const struct qcow2_view *view, char out[RECOVERED_SHARES_BYTES])
{
  uint64_t bytes[QCOW2_LABELS_MAX];

  out[0] = '\0';
  return qcow2_view_label_bytes(view, bytes, NULL) == 0 ? recovered_shares(bytes, out) : out;
}

json_t *recovered_labels(const uint64_t *bytes)
{
  json_t *object = json_object();

  for (unsigned i = 0; i < QCOW2_LABELS; i++)
    json_object_set_new(object, qcow2_label_name((enum qcow2_label) i), json_number(bytes[i]));
  return object;
}

json_t *recovered_view_labels(const struct qcow2_view *view)
{
  uint64_t bytes[QCOW2_LABELS_MAX];

  return view == NULL || qcow2_view_label_bytes(view, bytes, NULL) != 0 ? json_null()
                                                                        : recovered_labels(bytes);
}

static const char *kind_of(const struct tsk_qcow2_opened *opened)
{
  if (opened->deleted_l1 != 0)
    return opened->is_vm_state ? "deleted_vm_state" : "deleted_snapshot";
  return opened->is_abandoned ? "abandoned" : "in_recovered_disk";
}

/* `snapshot` is NULL if it is not known which one it is. Takes the labels. */
static json_t *state_value(const struct tsk_qcow2_opened *opened,
                           const struct qcow2_snapshot *snapshot, json_t *labels)
{
  if (snapshot == NULL)
    return json_pack("{s:s, s:n, s:n, s:n, s:n, s:o}", "state", kind_of(opened), "id", "name",
                     "date_seconds", "l1_offset", "labels", labels);
  return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "state", kind_of(opened), "id",
                   json_text(snapshot->id, snapshot->id_length), "name",
                   json_text(snapshot->name, snapshot->name_length), "date_seconds",
                   json_number(snapshot->date_seconds), "l1_offset",
                   json_number(snapshot->l1_offset), "labels", labels);
}

/* The same of a deleted snapshot that is not open. What is counted is its disk, and without the
   clusters that neighbours place. */
static json_t *closed_value(const struct tsk_qcow2_opened *opened)
{
  bool is_counted = !opened->is_vm_state && !opened->by_neighbours;
  struct recovered_list *found = recovered_find(opened->image, opened->deleted_l1, is_counted);
  const struct recovered_snapshot *one = found == NULL || found->count == 0 ? NULL : found->list;
  json_t *labels = one != NULL && is_counted ? recovered_labels(one->bytes) : json_null();
  json_t *value = state_value(opened, one == NULL ? NULL : &one->snapshot, labels);

  recovered_free(found);
  return value;
}

json_t *recovered_value(const struct tsk_qcow2_opened *opened)
{
  if (!tsk_qcow2_opened_is_recovered(opened))
    return json_null();
  if (opened->deleted_l1 != 0 && opened->view == NULL)
    return closed_value(opened);
  return state_value(opened, opened->view == NULL ? NULL : qcow2_view_deleted(opened->view),
                     recovered_view_labels(opened->view));
}

/* ---- Two states that are compared ------------------------------------------------------ */

void recovered_print_sides(const struct tsk_qcow2_opened *const opened[2])
{
  char title[RECOVERED_TITLE_BYTES], shares[RECOVERED_SHARES_BYTES];

  for (int side = 0; side < 2; side++) {
    if (!tsk_qcow2_opened_is_recovered(opened[side]))
      continue;
    recovered_view_shares(opened[side]->view, shares);
    printf("%c is recovered: %s%s%s\n", 'A' + side,
           recovered_title(opened[side], opened[side]->view, title),
           shares[0] == '\0' ? "" : "; in bytes: ", shares);
  }
}

static json_t *side_value(const struct tsk_qcow2_opened *opened, const char *side)
{
  json_t *line = json_pack("{s:s, s:s}", "type", "state", "side", side);
  json_t *state = recovered_value(opened);
  bool is_whole = json_object_update(line, state) == 0;

  json_decref(state);
  if (is_whole)
    return line;
  json_decref(line);
  return NULL;
}

bool recovered_print_json_sides(const struct tsk_qcow2_opened *const opened[2])
{
  for (int side = 0; side < 2; side++)
    if (tsk_qcow2_opened_is_recovered(opened[side]) &&
        !json_print_line(side_value(opened[side], side == 0 ? "a" : "b")))
      return false;
  return true;
}

const char *recovered_mark(const bool is_recovered[2])
{
  if (is_recovered[0] && is_recovered[1])
    return "; A and B recovered";
  if (is_recovered[0])
    return "; A recovered";
  return is_recovered[1] ? "; B recovered" : "";
}

json_t *recovered_mark_value(const bool is_recovered[2])
{
  json_t *list = json_array();

  if (is_recovered[0])
    json_array_append_new(list, json_string("a"));
  if (is_recovered[1])
    json_array_append_new(list, json_string("b"));
  return list;
}

/* ---- Deleted snapshots of an image ---------------------------------------------------- */

/* What is being looked for. */
struct search {
  const struct qcow2_image *image;
  struct recovered_list *found;
  uint64_t only_l1;
  bool is_counted;
};

static char *copy(const char *text, size_t *length)
{
  char *copied = *length <= NAME_BYTES_MAX && memchr(text, '\0', *length) == NULL
                     ? strndup(text, *length)
                     : NULL;

  *length = copied == NULL ? 0 : *length;
  return copied;
}

static void note_lost(struct recovered_list *found, const struct qcow2_snapshot *snapshot)
{
  size_t used = strlen(found->lost_names), room = sizeof(found->lost_names) - used;
  char id[48], name[96], date[64];
  int length;

  found->lost++;
  length = snprintf(found->lost_names + used, room, "%sID %s \"%s\" of %s", used == 0 ? "" : ", ",
                    qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
                    qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name)),
                    tsk_qcow2_report_date(snapshot, date, sizeof(date)));
  if (length < 0 || (size_t) length >= room)
    found->lost_names[used] = '\0'; /* those that fit are named */
}

/* Count the bytes of each label. False: it cannot be read. */
static bool count(const struct search *search, struct recovered_snapshot *one)
{
  char title[RECOVERED_TITLE_BYTES];
  struct qcow2_error error;
  int code = qcow2_deleted_label_bytes(search->image, one->snapshot.l1_offset, one->bytes, &error);

  search->found->is_incomplete = search->found->is_incomplete ||
                                 (code != 0 && code != QCOW2_ERROR_NOT_FOUND);
  if (code != 0 && code != QCOW2_ERROR_NOT_FOUND)
    complain_failed("%s: %s", snapshot_title(&one->snapshot, title, sizeof(title)), error.message);
  return code == 0;
}

static void keep(void *context, const struct qcow2_residue_found *residue)
{
  struct search *search = context;
  struct recovered_list *found = search->found;
  struct recovered_snapshot *one = &found->list[found->count];
  bool is_lost = residue->l1 == QCOW2_RESIDUE_L1_GONE || residue->l1 == QCOW2_RESIDUE_L1_REUSED;

  if (search->only_l1 != 0 && residue->snapshot->l1_offset != search->only_l1)
    return;
  if (!is_lost && found->count == RECOVERED_MAX) {
    found->more++;
    return;
  }
  if (!is_lost) {
    *one = (struct recovered_snapshot){ .snapshot = *residue->snapshot, .is_name_unique = true };
    is_lost = search->is_counted && !count(search, one);
  }
  if (is_lost) {
    note_lost(found, residue->snapshot);
    return;
  }
  one->snapshot.name = copy(residue->snapshot->name, &one->snapshot.name_length);
  one->snapshot.id = copy(residue->snapshot->id, &one->snapshot.id_length);
  one->snapshot.unknown_extra = NULL;
  one->snapshot.unknown_extra_length = 0;
  for (size_t i = 0; one->snapshot.name != NULL && i < found->count; i++)
    if (found->list[i].snapshot.name != NULL &&
        strcmp(found->list[i].snapshot.name, one->snapshot.name) == 0)
      found->list[i].is_name_unique = one->is_name_unique = false;
  found->count++;
}

struct recovered_list *recovered_find(const struct qcow2_image *image, uint64_t only_l1,
                                      bool is_counted)
{
  struct search search = { .image = image,
                           .found = calloc(1, sizeof(*search.found)),
                           .only_l1 = only_l1,
                           .is_counted = is_counted };
  struct qcow2_layer_info top;
  struct qcow2_error error;

  if (search.found == NULL) {
    complain_failed("out of memory");
    return NULL;
  }
  if (qcow2_layer_get(image, 0, &top, NULL) != 0 || top.header == NULL || top.header->version < 2)
    return search.found; /* version 1 has no snapshots */
  if (qcow2_image_deleted(image, keep, &search, &error) != 0) {
    complain_failed("error: deleted snapshots cannot be looked for: %s", error.message);
    search.found->is_incomplete = true;
  }
  if (!qcow2_deleted_is_complete(image)) {
    complain_failed("error: some of the file cannot be read, so there may be deleted snapshots "
                    "that are not found, or more may be lost of those that are");
    search.found->is_incomplete = true;
  }
  return search.found;
}

void recovered_free(struct recovered_list *list)
{
  for (size_t i = 0; list != NULL && i < list->count; i++) {
    free((char *) (uintptr_t) list->list[i].snapshot.name);
    free((char *) (uintptr_t) list->list[i].snapshot.id);
  }
  free(list);
}

void recovered_complain_missing(const struct recovered_list *list)
{
  if (list->lost > 0)
    complain_failed("note: %zu deleted snapshot%s cannot be read, because nothing but an entry "
                    "is left: %s%s",
                    list->lost, list->lost == 1 ? "" : "s", list->lost_names,
                    list->lost > 1 ? ". All that are known: tsk-qcow2 residue IMAGE" : "");
  if (list->more > 0)
    complain_failed("error: of %zu deleted snapshots, the first %u are there; for others: "
                    "IMAGE@deleted-l1=OFFSET, as \"tsk-qcow2 residue IMAGE\" lists them",
                    list->count + list->more, RECOVERED_MAX);
}
