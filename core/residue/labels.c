/* SPDX-License-Identifier: MIT */
#include "labels.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../storage/storage.h"
#include "references.h"

/* Memory for labels: 32 MiB of marks, and 6 MiB of tables. What there is more is labelled when it
   is read, and the rest forgotten. */
#define MARKS_MAX ((size_t) 32 << 20)
#define TABLES_MAX ((size_t) 256 << 10)
/* A cluster is looked at in pieces of this many bytes: most begin with something. */
#define PIECE_BYTES 4096u

const char *qcow2_label_name(enum qcow2_label label)
{
  static const char *const names[QCOW2_LABELS] = { "kept",          "shared-older", "shared-newer",
                                                   "shared-active", "reused",       "lost-table",
                                                   "punched",       "absent" };

  return (unsigned) label < QCOW2_LABELS ? names[label] : "unknown";
}

int qcow2_label_is_lost(enum qcow2_label label)
{
  return label == QCOW2_LABEL_REUSED || label == QCOW2_LABEL_LOST_TABLE ||
         label == QCOW2_LABEL_PUNCHED;
}

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

/* ---- The label of an entry -------------------------------------------------------- */

/* True if bytes of the file are all zeros. If not `is_deep`, or if they cannot be read, only holes
   are found. */
static bool is_punched(struct qcow2_labels *labels, uint64_t host_offset, uint64_t length,
                       bool is_deep)
{
  const struct qcow2_storage *storage = &labels->layer->file.storage;
  uint64_t end = host_offset + length;

  if (host_offset >= storage->size || qcow2_storage_next_data(storage, host_offset) >= end)
    return true;
  end = min_u64(end, storage->size);
  while (is_deep && host_offset < end) {
    size_t count = (size_t) min_u64(PIECE_BYTES, end - host_offset);

    if (count > labels->layer->geometry.cluster_size)
      count = labels->layer->geometry.cluster_size;
    if (qcow2_storage_read(storage, host_offset, labels->cluster, count, NULL) != 0 ||
        !qcow2_residue_is_zero(labels->cluster, count))
      return false;
    host_offset += count;
  }
  return is_deep;
}

/* Find out whether nothing but zeros is left of a cluster or stream, once. */
static bool is_mark_punched(struct qcow2_labels *labels, uint8_t *mark, uint64_t host_offset,
                            uint64_t length, bool is_deep)
{
  bool is_found;

  if ((*mark & (MARK_STORED | MARK_PUNCHED)) != 0)
    return (*mark & MARK_PUNCHED) != 0;
  is_found = is_punched(labels, host_offset, length, is_deep);
  if (is_deep || is_found)
    *mark |= is_found ? MARK_PUNCHED : MARK_STORED;
  return is_found;
}

/* What else has the bytes that an entry names. */
static enum qcow2_label sharer_of(uint8_t mark)
{
  if ((mark & MARK_OLDER) != 0)
    return QCOW2_LABEL_SHARED_OLDER;
  return (mark & MARK_NEWER) != 0 ? QCOW2_LABEL_SHARED_NEWER : QCOW2_LABEL_SHARED_ACTIVE;
}

/* Of an entry that names bytes. No entry is better than its table: a table that only a newer
   snapshot or the active disk has may have been freed, and made anew for the same part of the
   disk. */
static enum qcow2_label label_of_bytes(struct qcow2_labels *labels,
                                       const struct qcow2_old_table *table, uint8_t *mark,
                                       uint64_t host_offset, uint64_t length, bool is_deep)
{
  if ((*mark & MARK_REUSED) != 0)
    return QCOW2_LABEL_REUSED;
  if ((*mark & (MARK_OLDER | MARK_NEWER | MARK_ACTIVE)) != 0)
    return sharer_of(*mark) < (enum qcow2_label) table->label ? (enum qcow2_label) table->label
                                                              : sharer_of(*mark);
  if ((*mark & MARK_CONFLICT) != 0)
    return QCOW2_LABEL_LOST_TABLE;
  return is_mark_punched(labels, mark, host_offset, length, is_deep) ? QCOW2_LABEL_PUNCHED
                                                                     : QCOW2_LABEL_KEPT;
}

static uint64_t cluster_of(const struct qcow2_labels *labels, uint64_t host_offset)
{
  return host_offset & ~(uint64_t) (labels->layer->geometry.cluster_size - 1);
}

/* Of an entry that says zeros, and names a cluster: that of what is stored there, if this is to be
   shown and is more than zeros. */
static enum qcow2_label label_of_zeros(struct qcow2_labels *labels,
                                       const struct qcow2_old_table *table, uint8_t *mark,
                                       const struct qcow2_mapping *part, bool is_deep)
{
  enum qcow2_label label = QCOW2_LABEL_PUNCHED;

  if (labels->state.under_zeros && qcow2_layer_is_covered(labels->layer, part))
    label = label_of_bytes(labels, table, mark, cluster_of(labels, part->host_offset),
                           labels->layer->geometry.cluster_size, is_deep);
  return label == QCOW2_LABEL_PUNCHED ? (enum qcow2_label) table->label : label;
}

/* The label of a part of the cluster that an entry describes; the cluster is looked at only if
   `is_deep`. */
static enum qcow2_label label_by_table(struct qcow2_labels *labels,
                                       const struct qcow2_old_table *table, uint32_t index,
                                       const struct qcow2_mapping *part, bool is_deep)
{
  uint32_t size = labels->layer->geometry.cluster_size;
  uint8_t *mark = &labels_marks(labels, table)[index];

  switch (part->kind) {
  case QCOW2_CLUSTER_UNALLOCATED:
    return table->label == QCOW2_LABEL_KEPT || table->label == QCOW2_LABEL_SHARED_OLDER
               ? QCOW2_LABEL_ABSENT
               : (enum qcow2_label) table->label;
  case QCOW2_CLUSTER_ZERO: return (enum qcow2_label) table->label;
  case QCOW2_CLUSTER_ZERO_ALLOCATED: return label_of_zeros(labels, table, mark, part, is_deep);
  case QCOW2_CLUSTER_NORMAL:
    return label_of_bytes(labels, table, mark, cluster_of(labels, part->host_offset), size,
                          is_deep);
  case QCOW2_CLUSTER_COMPRESSED:
    return label_of_bytes(labels, table, mark, part->host_offset, part->host_bytes, is_deep);
  case QCOW2_CLUSTER_INVALID: break;
  }
  return QCOW2_LABEL_LOST_TABLE;
}

/* The same; but what only another state's table says of a state is a guess. */
static enum qcow2_label label_of(struct qcow2_labels *labels, const struct qcow2_old_table *table,
                                 uint32_t index, const struct qcow2_mapping *part, bool is_deep)
{
  enum qcow2_label label = label_by_table(labels, table, index, part, is_deep);

  return labels->state.borrows_tables && table->label != QCOW2_LABEL_KEPT &&
                 (label == QCOW2_LABEL_SHARED_OLDER || label == QCOW2_LABEL_ABSENT)
             ? QCOW2_LABEL_SHARED_NEWER
             : label;
}

/* ---- Which tables are at hand -------------------------------------------------------- */

/* Label the tables of L1 entries from `first` on, as many as there is room for. */
static int load(struct qcow2_labels *labels, uint64_t first, uint64_t *work,
                struct qcow2_error *error)
{
  uint64_t next = first;
  int code;

  labels->end = labels->first = first;
  code = labels->state.list(labels->state.context, first, labels->tables, labels->table_capacity,
                            &labels->table_count, &next, error);
  if (code != 0)
    return code;
  memset(labels->marks, 0, labels->table_count * labels_entries(labels));
  code = qcow2_labels_walk(labels, work, error);
  labels->end = code == 0 ? next : first;
  return code;
}

/* Have the table of an L1 entry at hand, if there is one. */
static int have(struct qcow2_labels *labels, uint64_t l1_index, struct qcow2_error *error)
{
  uint64_t work = RESIDUE_WORK_BYTES;

  return l1_index >= labels->first && l1_index < labels->end ? 0
                                                             : load(labels, l1_index, &work, error);
}

/* ---- Counting ------------------------------------------------------------------------- */

/* How many of `length` bytes at a guest offset are in the view. */
static uint64_t in_view(const struct qcow2_labels *labels, uint64_t guest_offset, uint64_t length)
{
  uint64_t start = labels->state.start, end = start + labels->state.size;
  uint64_t low = guest_offset > start ? guest_offset : start;
  uint64_t high = min_u64(guest_offset + length, end);

  return low < high ? high - low : 0;
}

static struct qcow2_mapping part_mapping(const struct qcow2_cluster_part *part)
{
  return (struct qcow2_mapping){ .kind = part->kind,
                                 .length = part->length,
                                 .host_offset = part->host_offset,
                                 .host_bytes = part->host_bytes };
}

/* True if a view gives bytes, and no error, where it has this label. */
static bool is_shown(const struct qcow2_labels *labels, enum qcow2_label label)
{
  bool is_kept = label == QCOW2_LABEL_KEPT || label == QCOW2_LABEL_SHARED_OLDER ||
                 label == QCOW2_LABEL_ABSENT;

  return !qcow2_label_is_lost(label) && (is_kept || !labels->state.only_kept);
}

static void count_entry(struct qcow2_labels *labels, const struct qcow2_old_table *table,
                        uint32_t index, const struct qcow2_l2_entry *entry, uint64_t guest_offset)
{
  const struct qcow2_geometry *geometry = &labels->layer->geometry;
  uint64_t end = guest_offset + geometry->cluster_size;

  for (uint64_t at = guest_offset; at < end;) {
    struct qcow2_cluster_part part = qcow2_l2_entry_decode(geometry, entry, at);
    struct qcow2_mapping mapping = part_mapping(&part);
    enum qcow2_label label = label_of(labels, table, index, &mapping, false);
    uint64_t bytes = in_view(labels, at, part.length);

    labels->bytes[label] += bytes;
    if (labels->state.under_zeros && qcow2_layer_is_covered(labels->layer, &mapping) &&
        (labels_marks(labels, table)[index] & MARK_PUNCHED) == 0 && is_shown(labels, label))
      labels->uncovered_bytes += bytes;
    at += part.length;
  }
}

static void count_table(struct qcow2_labels *labels, const struct qcow2_old_table *table)
{
  const struct qcow2_geometry *geometry = &labels->layer->geometry;
  unsigned reach_bits = geometry->cluster_bits + geometry->l2_bits;
  uint64_t guest_offset = (uint64_t) table->l1_index << reach_bits;

  if (label_is_of_lost_table(table->label) ||
      qcow2_storage_read(&labels->layer->file.storage, table->l2_offset, labels->cluster,
                         geometry->cluster_size, NULL) != 0) {
    labels->bytes[table->label] += in_view(labels, guest_offset, UINT64_C(1) << reach_bits);
    return;
  }
  for (uint32_t index = 0; index < labels_entries(labels); index++) {
    struct qcow2_l2_entry entry =
        l2_entry_load(geometry, labels->cluster + (size_t) index * geometry->l2_entry_bytes);

    count_entry(labels, table, index, &entry,
                guest_offset + ((uint64_t) index << geometry->cluster_bits));
  }
}

/* Label everything, and count it. */
static int count_all(struct qcow2_labels *labels, struct qcow2_error *error)
{
  uint64_t first = labels->state.first_index, counted = 0, work = RESIDUE_WORK_BYTES;
  int code = 0;

  for (; code == 0 && first < labels->state.end_index; first = labels->end) {
    code = load(labels, first, &work, error);
    for (size_t i = 0; code == 0 && i < labels->table_count; i++)
      count_table(labels, &labels->tables[i]);
  }
  for (unsigned i = 0; i < QCOW2_LABELS_MAX; i++)
    counted += labels->bytes[i];
  if (code == 0) /* L1 entries without a table */
    labels->bytes[QCOW2_LABEL_ABSENT] += labels->state.size - counted;
  return code;
}

/* Append "NAME BYTES" for each label that has bytes, and is lost or not. */
static void print_bytes(const uint64_t *bytes, int lost, char *out, size_t size)
{
  size_t used = strlen(out);
  const char *before = "";

  for (unsigned i = 0; i < QCOW2_LABELS; i++)
    if (bytes[i] > 0 && qcow2_label_is_lost((enum qcow2_label) i) == lost && used < size) {
      used += (size_t) snprintf(out + used, size - used, "%s%s %" PRIu64, before,
                                qcow2_label_name((enum qcow2_label) i), bytes[i]);
      before = ", ";
    }
  if (before[0] == '\0')
    snprintf(out + used, size - used, "nothing");
}

void qcow2_labels_print(const struct qcow2_labels *labels, char *out, size_t size)
{
  out[0] = '\0';
  print_bytes(labels->bytes, 0, out, size);
  snprintf(out + strlen(out), size - strlen(out), "; lost: ");
  print_bytes(labels->bytes, 1, out, size);
}

/* ---- Mapping ------------------------------------------------------------------------------ */

static const char *problem_of(enum qcow2_label label)
{
  switch (label) {
  case QCOW2_LABEL_REUSED: return "something else is in its cluster now";
  case QCOW2_LABEL_LOST_TABLE: return "the L2 table that led to it is something else now";
  case QCOW2_LABEL_PUNCHED: return "its cluster or L2 table has nothing but zeros";
  case QCOW2_LABEL_SHARED_NEWER:
    return "only newer snapshots have its cluster, which may have been written since";
  case QCOW2_LABEL_SHARED_ACTIVE:
    return "only the active disk has its cluster, which may have been written since";
  case QCOW2_LABEL_KEPT:
  case QCOW2_LABEL_SHARED_OLDER:
  case QCOW2_LABEL_ABSENT: break;
  }
  return NULL;
}

/* Turn the mapping into an error if the label says that there is nothing to read. */
static void apply(const struct qcow2_labels *labels, enum qcow2_label label,
                  struct qcow2_mapping *mapping)
{
  if (mapping->kind == QCOW2_CLUSTER_INVALID && mapping->lost == NULL)
    return; /* with a reason of its own */
  if (is_shown(labels, label))
    return;
  mapping->kind = QCOW2_CLUSTER_INVALID;
  mapping->problem = problem_of(label);
  mapping->lost = qcow2_label_name(label);
}

/* A run of which the L2 table says nothing, because it is lost or there is none. */
static struct qcow2_mapping without_l2(const struct qcow2_labels *labels,
                                       const struct qcow2_old_table *table, uint64_t guest_offset,
                                       uint64_t length)
{
  const struct qcow2_geometry *geometry = &labels->layer->geometry;
  uint64_t l1_index = geometry_l1_index(geometry, guest_offset);
  uint64_t left = geometry_l2_left(geometry, guest_offset);
  struct qcow2_mapping mapping = { .kind = QCOW2_CLUSTER_UNALLOCATED,
                                   .guest_offset = guest_offset,
                                   .length = min_u64(length, left),
                                   .host_offset = QCOW2_NO_OFFSET,
                                   .table_offset = QCOW2_NO_OFFSET };

  if (labels->state.l1_bytes > 0)
    mapping.table_offset = labels->state.l1_offset + l1_index * L1_ENTRY_BYTES;
  if (table != NULL)
    mapping.host_offset = table->l2_offset;
  return mapping;
}

/* Turn a run that is zero, allocated, into one of what is stored there, if this is to be shown. If
   the first cluster has nothing but zeros, the run is cut to it, and stays zeros. */
static void uncover(struct qcow2_labels *labels, const struct qcow2_old_table *table,
                    struct qcow2_mapping *mapping)
{
  const struct qcow2_geometry *geometry = &labels->layer->geometry;
  uint32_t size = geometry->cluster_size;
  uint8_t *mark = &labels_marks(labels, table)[geometry_l2_index(geometry, mapping->guest_offset)];

  if (!labels->state.under_zeros || !qcow2_layer_is_covered(labels->layer, mapping))
    return;
  if (label_of_bytes(labels, table, mark, cluster_of(labels, mapping->host_offset), size, true) ==
      QCOW2_LABEL_PUNCHED)
    mapping->length = min_u64(mapping->length,
                              size - geometry_in_cluster(geometry, mapping->guest_offset));
  else
    qcow2_layer_uncover(labels->layer, mapping);
}

/* Shorten a run to the bytes with the label of the first of them. */
static enum qcow2_label cut_to_label(struct qcow2_labels *labels,
                                     const struct qcow2_old_table *table,
                                     struct qcow2_mapping *mapping)
{
  const struct qcow2_geometry *geometry = &labels->layer->geometry;
  uint32_t size = geometry->cluster_size,
           index = geometry_l2_index(geometry, mapping->guest_offset);
  uint64_t length = size - geometry_in_cluster(geometry, mapping->guest_offset);
  struct qcow2_mapping next = *mapping;
  enum qcow2_label label = label_of(labels, table, index, mapping, true);

  if (mapping->kind != QCOW2_CLUSTER_NORMAL)
    return label;
  while (length < mapping->length) {
    next.host_offset = mapping->host_offset + length;
    if (label_of(labels, table, ++index, &next, true) != label)
      break;
    length += size;
  }
  mapping->length = min_u64(mapping->length, length);
  return label;
}

/* Find what is at a guest offset, and its label. */
static int find_label(struct qcow2_labels *labels, uint64_t guest_offset, uint64_t length,
                      struct qcow2_mapping *mapping, enum qcow2_label *label,
                      struct qcow2_error *error)
{
  uint64_t l1_index = geometry_l1_index(&labels->layer->geometry, guest_offset);
  const struct qcow2_old_table *table;
  int code;

  *mapping = without_l2(labels, NULL, guest_offset, length);
  code = have(labels, l1_index, error);
  if (code != 0)
    return code;
  table = qcow2_labels_table(labels, l1_index);
  *label = table == NULL ? QCOW2_LABEL_ABSENT : (enum qcow2_label) table->label;
  if (table == NULL || label_is_of_lost_table(table->label)) {
    *mapping = without_l2(labels, table, guest_offset, length);
    return 0;
  }
  code = qcow2_mapping_find_in_l2(&labels->layer->tables, table->l2_offset, guest_offset,
                                  mapping->length, mapping, error);
  if (code != 0)
    return code;
  uncover(labels, table, mapping);
  *label = cut_to_label(labels, table, mapping);
  return 0;
}

static int find(void *context, uint64_t guest_offset, uint64_t length,
                struct qcow2_mapping *mapping, struct qcow2_error *error)
{
  struct qcow2_labels *labels = context;
  enum qcow2_label label = QCOW2_LABEL_ABSENT;
  int code;

  pthread_mutex_lock(&labels->lock);
  code = find_label(labels, guest_offset, length, mapping, &label, error);
  pthread_mutex_unlock(&labels->lock);
  if (code != 0)
    return code;
  apply(labels, label, mapping);
  qcow2_layer_cut_at_file_end(labels->layer, mapping);
  return 0;
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
  if (code == 0)
    code = count_all(labels, error);
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
  labels_free(labels);
  return 0;
}

int qcow2_labels_open_view(struct qcow2_image *image, const struct qcow2_old_state *state,
                           struct qcow2_view **view, struct qcow2_error *error)
{
  struct qcow2_view_tables tables = { .find = find,
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
  return qcow2_view_tables_context(view, find, start);
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
  code = find_label(labels, start + guest_offset, length, &mapping, &label, error);
  pthread_mutex_unlock(&labels->lock);
  if (code == 0)
    *labelled = (struct qcow2_labelled){ .label = label,
                                         .guest_offset = guest_offset,
                                         .length = mapping.length,
                                         .host_offset = mapping.host_offset };
  return code;
}
