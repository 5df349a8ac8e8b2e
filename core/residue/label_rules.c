/* SPDX-License-Identifier: MIT */
/* What a cluster's label is, and what it means for reading. */
#include "../base/checked.h"
#include "../storage/storage.h"
#include "deleted.h"
#include "labels.h"

/* A cluster is looked at in pieces of this many bytes: most begin with something. */
#define PIECE_BYTES 4096u

const char *qcow2_label_name(enum qcow2_label label)
{
  static const char *const names[QCOW2_LABELS] = {
    "kept",       "shared-older", "shared-newer", "shared-active", "reused",
    "lost-table", "punched",      "absent",       "by-neighbours"
  };

  return (unsigned) label < QCOW2_LABELS ? names[label] : "unknown";
}

int qcow2_label_is_lost(enum qcow2_label label)
{
  return label == QCOW2_LABEL_REUSED || label == QCOW2_LABEL_LOST_TABLE ||
         label == QCOW2_LABEL_PUNCHED;
}

/* ---- The label of an entry -------------------------------------------------------- */

/* True if bytes of the file are all zeros, as far as they can be read. If not `is_deep`, only holes
   are found. Nothing else uses the clusters of an external data file: zeros are content there. */
static bool is_punched(struct qcow2_labels *labels, uint64_t host_offset, uint64_t length,
                       bool is_deep)
{
  const struct qcow2_storage *storage = &labels->layer->file.storage;
  uint64_t end = host_offset + length;

  if (labels->layer->geometry.has_data_file)
    return false;
  if (host_offset >= storage->size || qcow2_storage_next_data(storage, host_offset) >= end)
    return true;
  end = min_u64(end, storage->size);
  while (is_deep && host_offset < end) {
    size_t count = (size_t) min_u64(PIECE_BYTES, end - host_offset);

    if (count > labels->layer->geometry.cluster_size)
      count = labels->layer->geometry.cluster_size;
    if (qcow2_storage_read(storage, host_offset, labels->cluster, count, NULL) == 0 &&
        !qcow2_residue_is_zero(labels->cluster, count))
      return false;
    host_offset += count;
  }
  return is_deep;
}

/* Find out whether nothing but zeros is left of a cluster or stream, once, unless that depends on
   what cannot be read. */
static bool is_mark_punched(struct qcow2_labels *labels, uint8_t *mark, uint64_t host_offset,
                            uint64_t length, bool is_deep)
{
  uint64_t failures = qcow2_storage_failures();
  bool is_found;

  if ((*mark & (MARK_STORED | MARK_PUNCHED)) != 0)
    return (*mark & MARK_PUNCHED) != 0;
  is_found = is_punched(labels, host_offset, length, is_deep);
  if (is_found && qcow2_storage_failures() != failures) {
    qcow2_deleted_note_gaps(labels->image);
    return true;
  }
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

/* What only another state's table says of a state is a guess. */
enum qcow2_label qcow2_labels_of_entry(struct qcow2_labels *labels,
                                       const struct qcow2_old_table *table, uint32_t index,
                                       const struct qcow2_mapping *part, bool is_deep)
{
  enum qcow2_label label = label_by_table(labels, table, index, part, is_deep);

  return labels->state.borrows_tables && table->label != QCOW2_LABEL_KEPT &&
                 (label == QCOW2_LABEL_SHARED_OLDER || label == QCOW2_LABEL_ABSENT)
             ? QCOW2_LABEL_SHARED_NEWER
             : label;
}

/* ---- What it means ----------------------------------------------------------- */

static const char *problem_of(enum qcow2_label label)
{
  switch (label) {
  case QCOW2_LABEL_REUSED: return "something else is in its cluster now";
  case QCOW2_LABEL_LOST_TABLE: return "the L2 table that led to it is something else now";
  case QCOW2_LABEL_PUNCHED: return "its cluster or L2 table has nothing but zeros that can be read";
  case QCOW2_LABEL_SHARED_NEWER:
    return "only newer snapshots have its cluster, which may have been written since";
  case QCOW2_LABEL_SHARED_ACTIVE:
    return "only the active disk has its cluster, which may have been written since";
  case QCOW2_LABEL_KEPT:
  case QCOW2_LABEL_SHARED_OLDER:
  case QCOW2_LABEL_BY_NEIGHBOURS:
  case QCOW2_LABEL_ABSENT: break;
  }
  return NULL;
}

bool qcow2_labels_shows(const struct qcow2_labels *labels, enum qcow2_label label)
{
  bool is_kept = label == QCOW2_LABEL_KEPT || label == QCOW2_LABEL_SHARED_OLDER ||
                 label == QCOW2_LABEL_ABSENT;

  return !qcow2_label_is_lost(label) && (is_kept || !labels->state.only_kept);
}

void qcow2_labels_apply(const struct qcow2_labels *labels, enum qcow2_label label,
                        struct qcow2_mapping *mapping)
{
  if (mapping->kind == QCOW2_CLUSTER_INVALID && mapping->lost == NULL)
    return; /* with a reason of its own */
  if (qcow2_labels_shows(labels, label))
    return;
  mapping->kind = QCOW2_CLUSTER_INVALID;
  mapping->problem = problem_of(label);
  mapping->lost = qcow2_label_name(label);
}

void qcow2_labels_uncover(struct qcow2_labels *labels, const struct qcow2_old_table *table,
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
