/* SPDX-License-Identifier: MIT */
/* How many bytes of a view have each label. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../base/checked.h"
#include "../storage/storage.h"
#include "labels.h"

/* How many of `length` bytes at a guest offset are in the view. */
static uint64_t in_view(const struct qcow2_labels *labels, uint64_t guest_offset, uint64_t length)
{
  uint64_t start = labels->state.start, end = start + labels->state.size;
  uint64_t low = guest_offset > start ? guest_offset : start;
  uint64_t high = min_u64(guest_offset + length, end);

  return low < high ? high - low : 0;
}

/* How many of them were placed by their neighbours. */
static uint64_t count_placed(const struct qcow2_labels *labels, uint64_t guest_offset,
                             uint64_t length)
{
  unsigned bits = labels->layer->geometry.cluster_bits;
  uint64_t at = guest_offset >> bits, end = at + (length >> bits), bytes = 0;
  const struct qcow2_neighbours_run *run;

  while (at < end && (run = neighbours_next(&labels->neighbours, at)) != NULL) {
    uint64_t first = run->guest > at ? run->guest : at;
    uint64_t last = min_u64(run->guest + run->count, end);

    if (first < last)
      bytes += in_view(labels, first << bits, (last - first) << bits);
    at = run->guest + run->count;
  }
  return bytes;
}

static struct qcow2_mapping part_mapping(const struct qcow2_cluster_part *part)
{
  return (struct qcow2_mapping){ .kind = part->kind,
                                 .length = part->length,
                                 .host_offset = part->host_offset,
                                 .host_bytes = part->host_bytes };
}

static void count_entry(struct qcow2_labels *labels, const struct qcow2_old_table *table,
                        uint32_t index, const struct qcow2_l2_entry *entry, uint64_t guest_offset)
{
  const struct qcow2_geometry *geometry = &labels->layer->geometry;
  uint64_t end = guest_offset + geometry->cluster_size;

  if (count_placed(labels, guest_offset, geometry->cluster_size) > 0)
    return;
  for (uint64_t at = guest_offset; at < end;) {
    struct qcow2_cluster_part part = qcow2_l2_entry_decode(geometry, entry, at);
    struct qcow2_mapping mapping = part_mapping(&part);
    enum qcow2_label label = qcow2_labels_of_entry(labels, table, index, &mapping, false);
    uint64_t bytes = in_view(labels, at, part.length);

    labels->bytes[label] += bytes;
    if (labels->state.under_zeros && qcow2_layer_is_covered(labels->layer, &mapping) &&
        (labels_marks(labels, table)[index] & MARK_PUNCHED) == 0 &&
        qcow2_labels_shows(labels, label))
      labels->uncovered_bytes += bytes;
    at += part.length;
  }
}

static void count_table(struct qcow2_labels *labels, const struct qcow2_old_table *table)
{
  const struct qcow2_geometry *geometry = &labels->layer->geometry;
  unsigned reach_bits = geometry->cluster_bits + geometry->l2_bits;
  uint64_t guest_offset = (uint64_t) table->l1_index << reach_bits;
  uint64_t reach = UINT64_C(1) << reach_bits;

  if (label_is_of_lost_table(table->label) ||
      qcow2_storage_read(&labels->layer->file.storage, table->l2_offset, labels->cluster,
                         geometry->cluster_size, NULL) != 0) {
    labels->bytes[table->label] += in_view(labels, guest_offset, reach) -
                                   count_placed(labels, guest_offset, reach);
    return;
  }
  for (uint32_t index = 0; index < labels_entries(labels); index++) {
    struct qcow2_l2_entry entry =
        l2_entry_load(geometry, labels->cluster + (size_t) index * geometry->l2_entry_bytes);

    count_entry(labels, table, index, &entry,
                guest_offset + ((uint64_t) index << geometry->cluster_bits));
  }
}

int qcow2_labels_count_all(struct qcow2_labels *labels, struct qcow2_error *error)
{
  const struct qcow2_neighbours *neighbours = &labels->neighbours;
  uint64_t first = labels->state.first_index, counted = 0, work = RESIDUE_WORK_BYTES;
  unsigned bits = labels->layer->geometry.cluster_bits;
  int code = 0;

  for (; code == 0 && first < labels->state.end_index; first = labels->end) {
    code = qcow2_labels_have(labels, first, &work, error);
    for (size_t i = 0; code == 0 && i < labels->table_count; i++)
      count_table(labels, &labels->tables[i]);
  }
  for (size_t i = 0; i < neighbours->count; i++)
    labels->bytes[QCOW2_LABEL_BY_NEIGHBOURS] += in_view(labels, neighbours->runs[i].guest << bits,
                                                        neighbours->runs[i].count << bits);
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
  if (labels->bytes[QCOW2_LABEL_KEPT] > 0)
    snprintf(out + strlen(out), size - strlen(out),
             ". What is kept may have clusters of zeros, which are found when they are read: these "
             "are lost (punched)");
}

int qcow2_labels_warn_of_zeros(struct qcow2_view *view, const struct qcow2_labels *labels,
                               const char *state, struct qcow2_error *error)
{
  bool has_more = labels->image->chain.count > 1 && !labels->state.is_vm_state;
  char text[320];

  if (!labels->state.under_zeros)
    return 0;
  snprintf(text, sizeof(text),
           "under-zeros: %" PRIu64
           " bytes that the %s says are zeros are shown as what is stored in "
           "their clusters, which its machine could no longer see%s",
           labels->uncovered_bytes, state,
           has_more ? "; so is what backing files store under zeros" : "");
  return qcow2_view_warn(view, text, error);
}
