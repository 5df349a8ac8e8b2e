/* SPDX-License-Identifier: MIT */
#include "labels.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../storage/storage.h"
#include "deleted.h"

/* Memory for labels: 32 MiB of marks, and 6 MiB of tables. What there is more is labelled when it
   is read, and the rest forgotten. */
#define MARKS_MAX ((size_t) 32 << 20)
#define TABLES_MAX ((size_t) 256 << 10)

/* ---- Which tables are at hand -------------------------------------------------------- */

struct qcow2_old_table *qcow2_labels_table(const struct qcow2_labels *labels, uint64_t l1_index)
{
  size_t low = 0, high = labels->table_count;

  while (low < high) {
    size_t middle = low + (high - low) / 2;

    if (labels->tables[middle].l1_index < l1_index)
      low = middle + 1;
    else
      high = middle;
  }
  return low < labels->table_count && labels->tables[low].l1_index == l1_index
             ? &labels->tables[low]
             : NULL;
}

/* Label the tables of L1 entries from `first` on, as many as there is room for. */
static int load(struct qcow2_labels *labels, uint64_t first, uint64_t *work,
                struct qcow2_error *error)
{
  uint64_t next = first, failures = qcow2_storage_failures();
  bool had_gaps = labels->has_gaps;
  int code;

  labels->end = labels->first = first;
  code = labels->state.list(labels->state.context, first, labels->tables, labels->table_capacity,
                            &labels->table_count, &next, error);
  if (code != 0)
    return code;
  memset(labels->marks, 0, labels->table_count * labels_entries(labels));
  code = qcow2_labels_walk(labels, work, error);
  if (code == 0 && labels->is_open && !had_gaps &&
      (labels->has_gaps || qcow2_storage_failures() != failures)) {
    labels->has_gaps = false;
    code = qcow2_error_set(error, QCOW2_ERROR_IO,
                           "some tables cannot be read, so it cannot be found out what is left of "
                           "a deleted state");
  }
  labels->end = code == 0 ? next : first;
  return code;
}

int qcow2_labels_have(struct qcow2_labels *labels, uint64_t l1_index, uint64_t *work,
                      struct qcow2_error *error)
{
  return l1_index >= labels->first && l1_index < labels->end ? 0
                                                             : load(labels, l1_index, work, error);
}

/* ---- Opening ----------------------------------------------------------------------------------
 */

static void labels_free(void *context)
{
  struct qcow2_labels *labels = context;

  pthread_mutex_destroy(&labels->lock);
  if (labels->state.close != NULL)
    labels->state.close(labels->state.context);
  free(labels->looks.scratch);
  free(labels->cluster);
  free(labels->tables);
  free(labels->marks);
  free(labels->neighbours.runs);
  free(labels);
}

static int allocate(struct qcow2_labels *labels, struct qcow2_error *error)
{
  size_t size = labels->layer->geometry.cluster_size;
  uint64_t wanted = labels->state.end_index - labels->state.first_index;

  labels->table_capacity = (size_t) min_u64(min_u64(TABLES_MAX, MARKS_MAX / labels_entries(labels)),
                                            wanted + 1);
  labels->looks = (struct qcow2_residue_looks){
    .geometry = &labels->layer->geometry,
    .refcount_order = labels->layer->metadata.header.refcount_order,
    .file_size = labels->layer->file.storage.size,
    .scratch = malloc(size),
  };
  if (labels->looks.file_size < labels->layer->needed_size) /* it is truncated */
    labels->looks.file_size = labels->layer->needed_size;
  labels->cluster = malloc(size);
  labels->tables = calloc(labels->table_capacity, sizeof(labels->tables[0]));
  labels->marks = calloc(labels->table_capacity, labels_entries(labels));
  return labels->looks.scratch == NULL || labels->cluster == NULL || labels->tables == NULL ||
                 labels->marks == NULL
             ? qcow2_error_set_nomem(error)
             : 0;
}

static int labels_make(const struct qcow2_image *image, const struct qcow2_old_state *state,
                       struct qcow2_labels **out, struct qcow2_error *error)
{
  struct qcow2_labels *labels = calloc(1, sizeof(*labels));
  uint64_t failures = qcow2_storage_failures();
  int code;

  if (labels == NULL) {
    if (state->close != NULL)
      state->close(state->context);
    return qcow2_error_set_nomem(error);
  }
  pthread_mutex_init(&labels->lock, NULL);
  labels->image = image;
  labels->layer = image->chain.layers[0];
  labels->state = *state;
  code = allocate(labels, error);
  if (code == 0 && state->by_neighbours)
    code = qcow2_labels_place_by_neighbours(labels, error);
  if (code == 0)
    code = qcow2_labels_count_all(labels, error);
  if (qcow2_storage_failures() != failures)
    labels->has_gaps = true;
  labels->is_open = true;
  if (code == 0 && labels->is_l1_reused)
    code = qcow2_error_set_at(error, QCOW2_ERROR_NOT_FOUND, QCOW2_NO_OFFSET, state->l1_offset,
                              "the deleted snapshot's L1 table, at host offset %" PRIu64
                              ", is lost: something else is there now",
                              state->l1_offset);
  if (code == 0)
    *out = labels;
  else
    labels_free(labels);
  return code;
}

int qcow2_labels_count(const struct qcow2_image *image, const struct qcow2_old_state *state,
                       uint64_t *bytes, struct qcow2_error *error)
{
  struct qcow2_labels *labels = NULL;
  int code = labels_make(image, state, &labels, error);

  if (code != 0)
    return code;
  memcpy(bytes, labels->bytes, sizeof(labels->bytes));
  if (labels->has_gaps)
    qcow2_deleted_note_gaps(image);
  labels_free(labels);
  return 0;
}

int qcow2_labels_check_flags(unsigned flags, unsigned others, struct qcow2_error *error)
{
  const unsigned both = QCOW2_VIEW_ONLY_KEPT | QCOW2_VIEW_BY_NEIGHBOURS;

  if ((flags & ~(both | others)) != 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "a view is opened with unknown flags");
  if ((flags & both) == both)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "what is placed by its neighbours is guessed, so a view of only what is "
                           "kept does not show it");
  return 0;
}

int qcow2_labels_open_view(struct qcow2_image *image, const struct qcow2_old_state *state,
                           struct qcow2_view **view, struct qcow2_error *error)
{
  struct qcow2_view_tables tables = { .find = qcow2_labels_find,
                                      .close = labels_free,
                                      .start = state->start,
                                      .size = state->size,
                                      .is_alone = state->is_vm_state,
                                      .under_zeros = state->under_zeros };
  struct qcow2_labels *labels = NULL;
  int code = labels_make(image, state, &labels, error);

  if (code != 0)
    return code;
  tables.context = labels;
  return qcow2_view_open_tables(image, &tables, view, error);
}

struct qcow2_labels *qcow2_labels_of_view(const struct qcow2_view *view, uint64_t *start)
{
  return qcow2_view_tables_context(view, qcow2_labels_find, start);
}

/* ---- Answers ------------------------------------------------------------------------------------
 */

static int no_labels(struct qcow2_error *error)
{
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "the view has no labels");
}

int qcow2_view_label_bytes(const struct qcow2_view *view, uint64_t *bytes,
                           struct qcow2_error *error)
{
  uint64_t start;
  const struct qcow2_labels *labels = qcow2_labels_of_view(view, &start);

  if (labels == NULL)
    return no_labels(error);
  memcpy(bytes, labels->bytes, sizeof(labels->bytes));
  return 0;
}

int qcow2_view_label(struct qcow2_view *view, uint64_t guest_offset, uint64_t length,
                     struct qcow2_labelled *labelled, struct qcow2_error *error)
{
  struct qcow2_mapping mapping;
  enum qcow2_label label = QCOW2_LABEL_ABSENT;
  uint64_t start;
  struct qcow2_labels *labels = qcow2_labels_of_view(view, &start);
  int code;

  if (labels == NULL)
    return no_labels(error);
  if (length == 0 || guest_offset >= qcow2_view_size(view))
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "no such bytes are in the view");
  length = min_u64(length, qcow2_view_size(view) - guest_offset);
  pthread_mutex_lock(&labels->lock);
  code = qcow2_labels_find_label(labels, start + guest_offset, length, &mapping, &label, error);
  pthread_mutex_unlock(&labels->lock);
  if (code == 0)
    *labelled = (struct qcow2_labelled){ .label = label,
                                         .guest_offset = guest_offset,
                                         .length = mapping.length,
                                         .host_offset = mapping.host_offset };
  return code;
}
