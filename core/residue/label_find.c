/* SPDX-License-Identifier: MIT */
/* Old tables as the mapping of a view, with labels. */
#include "../base/checked.h"
#include "labels.h"

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
  enum qcow2_label label = qcow2_labels_of_entry(labels, table, index, mapping, true);

  if (mapping->kind != QCOW2_CLUSTER_NORMAL)
    return label;
  while (length < mapping->length) {
    next.host_offset = mapping->host_offset + length;
    if (qcow2_labels_of_entry(labels, table, ++index, &next, true) != label)
      break;
    length += size;
  }
  mapping->length = min_u64(mapping->length, length);
  return label;
}

/* True if a cluster was placed at the guest offset by its neighbours; the mapping is of the bytes
   of the run. If not, *length ends where the next such run begins. */
static bool find_placed(const struct qcow2_labels *labels, uint64_t guest_offset, uint64_t *length,
                        struct qcow2_mapping *mapping)
{
  const struct qcow2_geometry *geometry = &labels->layer->geometry;
  uint64_t guest = guest_offset >> geometry->cluster_bits, left;
  const struct qcow2_neighbours_run *run = neighbours_next(&labels->neighbours, guest);

  if (run == NULL)
    return false;
  if (run->guest > guest) {
    *length = min_u64(*length, (run->guest << geometry->cluster_bits) - guest_offset);
    return false;
  }
  left = ((run->guest + run->count) << geometry->cluster_bits) - guest_offset;
  *mapping = (struct qcow2_mapping){ .kind = QCOW2_CLUSTER_NORMAL,
                                     .guest_offset = guest_offset,
                                     .length = min_u64(*length, left),
                                     .host_offset = ((run->host + (guest - run->guest))
                                                     << geometry->cluster_bits) +
                                                    geometry_in_cluster(geometry, guest_offset),
                                     .table_offset = QCOW2_NO_OFFSET };
  return true;
}

int qcow2_labels_find_label(struct qcow2_labels *labels, uint64_t guest_offset, uint64_t length,
                            struct qcow2_mapping *mapping, enum qcow2_label *label,
                            struct qcow2_error *error)
{
  uint64_t l1_index = geometry_l1_index(&labels->layer->geometry, guest_offset);
  const struct qcow2_old_table *table;
  uint64_t work = RESIDUE_WORK_BYTES;
  int code;

  *label = QCOW2_LABEL_BY_NEIGHBOURS;
  if (find_placed(labels, guest_offset, &length, mapping))
    return 0;
  *mapping = without_l2(labels, NULL, guest_offset, length);
  code = qcow2_labels_have(labels, l1_index, &work, error);
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
  qcow2_labels_uncover(labels, table, mapping);
  *label = cut_to_label(labels, table, mapping);
  return 0;
}

int qcow2_labels_find(void *context, uint64_t guest_offset, uint64_t length,
                      struct qcow2_mapping *mapping, struct qcow2_error *error)
{
  struct qcow2_labels *labels = context;
  enum qcow2_label label = QCOW2_LABEL_ABSENT;
  int code;

  pthread_mutex_lock(&labels->lock);
  code = qcow2_labels_find_label(labels, guest_offset, length, mapping, &label, error);
  pthread_mutex_unlock(&labels->lock);
  if (code != 0)
    return code;
  qcow2_labels_apply(labels, label, mapping);
  qcow2_layer_cut_at_file_end(labels->layer, mapping);
  return 0;
}
