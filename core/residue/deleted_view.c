/* SPDX-License-Identifier: MIT */
/* Opening a deleted snapshot: which of the old entries is meant, can it be believed, and a view of
   its tables with labels. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"
#include "../format/cluster.h"
#include "../format/snapshot.h"
#include "../storage/storage.h"
#include "deleted.h"
#include "labels.h"

/* The most bytes of a message that list snapshots. */
#define LIST_BYTES 600u

/* A deleted snapshot that is being opened, or is open. */
struct deleted {
  const struct qcow2_layer *layer;
  struct qcow2_snapshot snapshot;
};

static void deleted_close(void *context)
{
  struct deleted *deleted = context;

  qcow2_snapshot_free(&deleted->snapshot);
  free(deleted);
}

/* ---- Its L1 table ------------------------------------------------------------------ */

static int list_tables(void *context, uint64_t first, struct qcow2_old_table *tables, size_t max,
                       size_t *count, uint64_t *next, struct qcow2_error *error)
{
  const struct deleted *deleted = context;
  uint32_t l1_size = deleted->snapshot.l1_size;
  uint8_t piece[512];
  int code = 0;

  *count = 0;
  for (*next = first; code == 0 && *next < l1_size && *count < max;) {
    size_t wanted = (size_t) min_u64(sizeof(piece) / 8, l1_size - *next);

    code = qcow2_storage_read(&deleted->layer->file.storage,
                              deleted->snapshot.l1_offset + *next * L1_ENTRY_BYTES, piece,
                              wanted * 8, error);
    for (size_t i = 0; code == 0 && i < wanted && *count < max; i++, ++*next) {
      uint64_t l2_offset = be64_get(piece + i * 8) & TABLE_OFFSET_MASK;

      if (l2_offset != 0)
        tables[(*count)++] = (struct qcow2_old_table){ .l2_offset = l2_offset,
                                                       .l1_index = (uint32_t) *next };
    }
  }
  if (*next == l1_size)
    *next = UINT64_MAX; /* there are no more */
  return code;
}

/* True if all of the L1 table looks like one. */
static int look_at_l1(const struct deleted *deleted, bool *is_table, struct qcow2_error *error)
{
  const struct qcow2_layer *layer = deleted->layer;
  size_t count = deleted->snapshot.l1_size;
  struct qcow2_residue_looks looks = { .geometry = &layer->geometry,
                                       .refcount_order = layer->metadata.header.refcount_order,
                                       .file_size = layer->file.storage.size,
                                       .scratch = malloc(count * 8 + 8) };
  uint8_t *bytes = malloc(count * 8 + 8);
  int code = looks.scratch == NULL || bytes == NULL ? qcow2_error_set_nomem(error) : 0;

  if (looks.file_size < layer->needed_size) /* the file is truncated */
    looks.file_size = layer->needed_size;
  if (code == 0)
    code = qcow2_storage_read(&layer->file.storage, deleted->snapshot.l1_offset, bytes, count * 8,
                              error);
  if (code == QCOW2_ERROR_TRUNCATED)
    code = 0;
  else if (code == 0)
    *is_table = qcow2_residue_is_table(&looks, bytes, count);
  free(looks.scratch);
  free(bytes);
  return code;
}

/* ---- Which one is meant ------------------------------------------------------------- */

static bool matches(const struct qcow2_snapshot *snapshot, const char *key,
                    enum qcow2_deleted_key by)
{
  const char *text = by == QCOW2_DELETED_BY_ID ? snapshot->id : snapshot->name;
  size_t length = by == QCOW2_DELETED_BY_ID ? snapshot->id_length : snapshot->name_length;
  char offset[24];

  if (by == QCOW2_DELETED_BY_L1) {
    snprintf(offset, sizeof(offset), "%" PRIu64, snapshot->l1_offset);
    return strcmp(offset, key) == 0;
  }
  return strlen(key) == length && memcmp(text, key, length) == 0;
}

static const char *l1_text(enum qcow2_residue_l1 l1)
{
  switch (l1) {
  case QCOW2_RESIDUE_L1_THERE: return "";
  case QCOW2_RESIDUE_L1_GONE: return ", which is gone";
  case QCOW2_RESIDUE_L1_REUSED: return ", where something else is now";
  case QCOW2_RESIDUE_L1_UNKNOWN: break;
  }
  return "";
}

/* A list of snapshots for a message, as many as fit. */
struct list {
  char text[LIST_BYTES];
  size_t used, count;
};

static void list_add(struct list *list, const struct qcow2_snapshot *snapshot,
                     enum qcow2_residue_l1 l1)
{
  static const char more[] = ", and more";
  char item[320], id[48], name[96], date[TEXT_DATE_BYTES];

  qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id));
  qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name));
  snprintf(item, sizeof(item), "%sID %s \"%s\" of %s (its L1 table is at %" PRIu64 "%s)",
           list->count > 0 ? ", " : "", id, name, qcow2_text_date(snapshot->date_seconds, date),
           snapshot->l1_offset, l1_text(l1));
  list->count++;
  if (list->used + strlen(item) + sizeof(more) <= sizeof(list->text)) {
    memcpy(list->text + list->used, item, strlen(item) + 1);
    list->used += strlen(item);
  } else if (list->used + sizeof(more) <= sizeof(list->text)) {
    memcpy(list->text + list->used, more, sizeof(more));
    list->used = sizeof(list->text); /* no more */
  }
}

/* What was found for a key. */
struct choice {
  const struct qcow2_deleted_entry *entry; /* the first that can be opened */
  struct list there, matching, all;        /* those that can; of this key; that can, of any */
};

static int choose(const struct qcow2_image *image, const struct qcow2_deleted_entries *entries,
                  const char *key, enum qcow2_deleted_key by, struct choice *choice,
                  struct qcow2_error *error)
{
  for (size_t i = 0; i < entries->count; i++) {
    const struct qcow2_deleted_entry *entry = &entries->entries[i];
    struct qcow2_snapshot snapshot;
    int code = qcow2_deleted_decode(image, entry->host_offset, &snapshot, error);

    if (code != 0)
      return code;
    if (deleted_is_there(entry))
      list_add(&choice->all, &snapshot, entry->l1);
    if (matches(&snapshot, key, by)) {
      list_add(&choice->matching, &snapshot, entry->l1);
      if (deleted_is_there(entry)) {
        list_add(&choice->there, &snapshot, entry->l1);
        choice->entry = choice->entry == NULL ? entry : choice->entry;
      }
    }
    qcow2_snapshot_free(&snapshot);
  }
  return 0;
}

static int not_found(const struct choice *choice, const char *key,
                     const struct qcow2_deleted_entries *entries, struct qcow2_error *error)
{
  const char *where = entries->is_complete ? "" : " in the part of the file that was looked at";
  char quoted[TEXT_ESCAPED_BYTES];

  qcow2_text_quote(key, quoted);
  if (entries->has_gaps)
    return qcow2_error_set(error, QCOW2_ERROR_IO,
                           "the deleted snapshot \"%s\" was not found, but some of the file cannot "
                           "be read",
                           quoted);
  if (choice->matching.count > 0)
    return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                           "the deleted snapshot \"%s\" cannot be read: what is left of it is %s",
                           quoted, choice->matching.text);
  if (choice->all.count > 0)
    return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                           "there is no deleted snapshot \"%s\"%s; those that can be read: %s",
                           quoted, where, choice->all.text);
  return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                         "there is no deleted snapshot \"%s\": no snapshot that was deleted can be "
                         "read%s",
                         quoted, where);
}

int qcow2_deleted_find(const struct qcow2_image *image, const char *key, enum qcow2_deleted_key by,
                       uint64_t *l1_offset, struct qcow2_error *error)
{
  struct choice *choice = calloc(1, sizeof(*choice));
  const struct qcow2_deleted_entries *entries;
  char quoted[TEXT_ESCAPED_BYTES];
  int code = choice == NULL ? qcow2_error_set_nomem(error)
                            : qcow2_deleted_entries(image, &entries, error);

  if (code == 0)
    code = choose(image, entries, key, by, choice, error);
  if (code == 0 && choice->there.count > 1) {
    code = qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                           "\"%s\" means several deleted snapshots: %s",
                           qcow2_text_quote(key, quoted), choice->there.text);
    qcow2_error_add_help(error, code, QCOW2_HELP_DELETED_KEY, 0);
  } else if (code == 0 && choice->entry == NULL) {
    code = not_found(choice, key, entries, error);
    qcow2_error_add_help(error, code, QCOW2_HELP_DELETED_LIST, 0);
  } else if (code == 0)
    *l1_offset = choice->entry->l1_offset;
  free(choice);
  return code;
}

/* The entry that has its L1 table there; NULL: there is none. */
static const struct qcow2_deleted_entry *entry_by_l1(const struct qcow2_deleted_entries *entries,
                                                     uint64_t l1_offset)
{
  for (size_t i = 0; i < entries->count; i++)
    if (entries->entries[i].l1_offset == l1_offset && deleted_is_there(&entries->entries[i]))
      return &entries->entries[i];
  return NULL;
}

/* ---- Opening ------------------------------------------------------------------------------ */

/* Decode the entry, and check that it makes sense and that its L1 table is there. */
static int open_entry(const struct qcow2_image *image, const struct qcow2_deleted_entry *entry,
                      struct deleted *deleted, struct qcow2_error *error)
{
  bool is_table = false;
  int code = qcow2_deleted_decode(image, entry->host_offset, &deleted->snapshot, error);

  if (code == 0)
    code = qcow2_snapshot_vm_state_error(deleted->layer, &deleted->snapshot, error);
  if (code == 0)
    code = look_at_l1(deleted, &is_table, error);
  if (code != 0 || is_table)
    return code;
  return qcow2_error_set_at(error, QCOW2_ERROR_NOT_FOUND, QCOW2_NO_OFFSET,
                            deleted->snapshot.l1_offset,
                            "the deleted snapshot's L1 table, at host offset %" PRIu64
                            ", is lost: something else is there now",
                            deleted->snapshot.l1_offset);
}

/* Which part of the tables the view shows. */
static int set_range(const struct deleted *deleted, unsigned flags, struct qcow2_old_state *state,
                     struct qcow2_error *error)
{
  const struct qcow2_geometry *geometry = &deleted->layer->geometry;
  const struct qcow2_snapshot *snapshot = &deleted->snapshot;
  uint64_t disk_entries = qcow2_geometry_l1_entries(geometry, snapshot->disk_size);

  state->only_kept = (flags & QCOW2_VIEW_ONLY_KEPT) != 0;
  state->by_neighbours = (flags & QCOW2_VIEW_BY_NEIGHBOURS) != 0;
  state->is_vm_state = (flags & QCOW2_VIEW_VM_STATE) != 0;
  state->under_zeros = (flags & QCOW2_VIEW_UNDER_ZEROS) != 0;
  state->end_index = disk_entries;
  state->size = snapshot->disk_size;
  if (!state->is_vm_state)
    return 0;
  if (snapshot->vm_state_size == 0)
    return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                           "the deleted snapshot has no VM state: the machine was not running when "
                           "it was taken, or its memory was not saved");
  state->first_index = disk_entries;
  state->end_index = disk_entries + qcow2_geometry_l1_entries(geometry, snapshot->vm_state_size);
  state->start = disk_entries << (geometry->cluster_bits + geometry->l2_bits);
  state->size = snapshot->vm_state_size;
  return 0;
}

static int warn(struct qcow2_view *view, const struct qcow2_labels *labels,
                struct qcow2_error *error)
{
  const struct qcow2_snapshot *snapshot = labels->state.snapshot;
  char id[48], name[TEXT_ESCAPED_BYTES], date[TEXT_DATE_BYTES], text[1024];
  int code;

  qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id));
  qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name));
  snprintf(
      text, sizeof(text),
      "recovered: this is deleted snapshot ID %s \"%s\" of %s, as far as it is left, in bytes: ",
      id, name, qcow2_text_date(snapshot->date_seconds, date));
  qcow2_labels_print(labels, text + strlen(text), sizeof(text) - strlen(text));
  code = qcow2_view_warn(view, text, error);
  if (code == 0 && labels->has_gaps)
    code = qcow2_view_warn_of_gaps(view,
                                   "recovered: some of the file cannot be read, so what its tables "
                                   "refer to may be shown as kept though it was reused, or another "
                                   "deleted snapshot may be meant",
                                   error);
  if (code == 0)
    code = qcow2_labels_warn_of_zeros(view, labels, "deleted snapshot", error);
  return code == 0 ? qcow2_labels_warn_of_neighbours(view, labels, error) : code;
}

/* Make the state of a deleted snapshot. The caller closes it, or gives it away. */
static int make_state(const struct qcow2_image *image, const struct qcow2_deleted_entry *entry,
                      unsigned flags, struct qcow2_old_state *state, struct qcow2_error *error)
{
  struct deleted *deleted = calloc(1, sizeof(*deleted));
  int code;

  if (deleted == NULL)
    return qcow2_error_set_nomem(error);
  deleted->layer = image->chain.layers[0];
  *state = (struct qcow2_old_state){ .context = deleted,
                                     .list = list_tables,
                                     .close = deleted_close,
                                     .l1_offset = entry->l1_offset,
                                     .l1_bytes = (uint64_t) entry->l1_size * L1_ENTRY_BYTES,
                                     .snapshot = &deleted->snapshot };
  code = qcow2_deleted_count_older(image, entry, &state->older_count, error);
  if (code == 0)
    code = open_entry(image, entry, deleted, error);
  if (code == 0)
    code = set_range(deleted, flags, state, error);
  if (code != 0)
    deleted_close(deleted);
  return code;
}

/* The same for the entry that has its L1 table at an offset. */
static int make_state_by_l1(const struct qcow2_image *image, uint64_t l1_offset, unsigned flags,
                            struct qcow2_old_state *state, struct qcow2_error *error)
{
  const struct qcow2_deleted_entries *entries;
  const struct qcow2_deleted_entry *entry;
  int code = qcow2_deleted_entries(image, &entries, error);

  if (code != 0)
    return code;
  entry = entry_by_l1(entries, l1_offset);
  if (entry == NULL)
    return qcow2_error_set_at(error, QCOW2_ERROR_NOT_FOUND, QCOW2_NO_OFFSET, l1_offset,
                              "no deleted snapshot whose L1 table is at host offset %" PRIu64
                              " can be read",
                              l1_offset);
  return make_state(image, entry, flags, state, error);
}

int qcow2_view_open_deleted(struct qcow2_image *image, uint64_t l1_offset, unsigned flags,
                            struct qcow2_view **view, struct qcow2_error *error)
{
  uint64_t start, failures = qcow2_storage_failures();
  struct qcow2_old_state state;
  struct qcow2_labels *labels;
  int code;

  code = qcow2_labels_check_flags(flags, QCOW2_VIEW_VM_STATE | QCOW2_VIEW_UNDER_ZEROS, error);
  if (code == 0)
    code = make_state_by_l1(image, l1_offset, flags, &state, error);
  if (code == 0)
    code = qcow2_labels_open_view(image, &state, view, error);
  if (code != 0)
    return code;
  labels = qcow2_labels_of_view(*view, &start);
  if (!qcow2_deleted_is_complete(image) || qcow2_storage_failures() != failures)
    labels->has_gaps = true;
  code = warn(*view, labels, error);
  if (code != 0)
    qcow2_view_close(*view);
  return code;
}

int qcow2_deleted_label_bytes(const struct qcow2_image *image, uint64_t l1_offset, uint64_t *bytes,
                              struct qcow2_error *error)
{
  uint64_t failures = qcow2_storage_failures();
  struct qcow2_old_state state;
  int code = make_state_by_l1(image, l1_offset, 0, &state, error);

  if (code == 0)
    code = qcow2_labels_count(image, &state, bytes, error);
  if (qcow2_storage_failures() != failures)
    qcow2_deleted_note_gaps(image);
  return code;
}

const struct qcow2_snapshot *qcow2_view_deleted(const struct qcow2_view *view)
{
  uint64_t start;
  const struct qcow2_labels *labels = qcow2_labels_of_view(view, &start);

  return labels == NULL ? NULL : labels->state.snapshot;
}
