/* SPDX-License-Identifier: MIT */
#include "placed.h"

#include <stdlib.h>
#include <string.h>

static int compare_placed(const void *one, const void *other)
{
  const struct qcow2_placed_table *a = one, *b = other;

  if (a->l1_index != b->l1_index)
    return a->l1_index < b->l1_index ? -1 : 1;
  if (a->votes != b->votes)
    return a->votes > b->votes ? -1 : 1;
  return a->l2_offset < b->l2_offset ? -1 : a->l2_offset > b->l2_offset;
}

void qcow2_placed_keep_best(struct qcow2_placed *placed)
{
  size_t count = 0;

  qsort(placed->tables, placed->count, sizeof(placed->tables[0]), compare_placed);
  for (size_t i = 0; i < placed->count; i++)
    if (count > 0 && placed->tables[count - 1].l1_index == placed->tables[i].l1_index)
      placed->contested++;
    else
      placed->tables[count++] = placed->tables[i];
  placed->count = count;
}

const struct qcow2_placed_table *qcow2_placed_find(const struct qcow2_placed *placed,
                                                   uint64_t l1_index)
{
  size_t low = 0, high = placed->count;

  while (low < high) {
    size_t middle = low + (high - low) / 2;

    if (placed->tables[middle].l1_index < l1_index)
      low = middle + 1;
    else
      high = middle;
  }
  return low < placed->count && placed->tables[low].l1_index == l1_index ? &placed->tables[low]
                                                                         : NULL;
}

static size_t entries_bytes(const struct qcow2_geometry *geometry)
{
  return ((size_t) 1 << geometry->l2_bits) / 8;
}

/* Let the lost table at `to` be the one at `from`. */
static void move_lost(struct qcow2_placed *placed, size_t bytes, size_t to, size_t from)
{
  placed->lost_tables[to] = placed->lost_tables[from];
  if (placed->lost_entries != NULL)
    memmove(placed->lost_entries + to * bytes, placed->lost_entries + from * bytes, bytes);
}

void qcow2_placed_forget(struct qcow2_placed *placed, const struct qcow2_geometry *geometry,
                         uint64_t l2_offset)
{
  size_t left = 0;

  for (size_t i = 0; i < placed->lost; i++)
    if (placed->lost_tables[i] != l2_offset)
      move_lost(placed, entries_bytes(geometry), left++, i);
  placed->lost = left;
}

void qcow2_placed_add(struct qcow2_placed *placed, const struct qcow2_geometry *geometry,
                      const uint32_t *l1_indexes)
{
  size_t left = 0;

  for (size_t i = 0; i < placed->lost; i++) {
    if (l1_indexes[i] != UINT32_MAX) {
      placed->tables[placed->count++] = (struct qcow2_placed_table){
        .l2_offset = placed->lost_tables[i], .l1_index = l1_indexes[i]
      };
      continue;
    }
    move_lost(placed, entries_bytes(geometry), left++, i);
  }
  placed->lost = left;
  qcow2_placed_keep_best(placed);
}

bool qcow2_placed_is_doubtful(const struct qcow2_placed *placed,
                              const struct qcow2_geometry *geometry, const uint8_t *l2_table)
{
  uint32_t entries = UINT32_C(1) << geometry->l2_bits;
  bool is_possible = placed->lost > 0 && placed->lost_entries == NULL;

  for (size_t i = 0; i < placed->lost && !is_possible; i++) {
    const uint8_t *lost = placed->lost_entries + i * (entries / 8);

    is_possible = true;
    for (uint32_t index = 0; index < entries && is_possible; index++)
      is_possible = (lost[index / 8] >> index % 8 & 1) != 0 ||
                    !qcow2_placed_is_used(geometry, l2_table, index);
  }
  return is_possible;
}

void qcow2_placed_free(struct qcow2_placed *placed)
{
  free(placed->tables);
  free(placed->lost_tables);
  free(placed->lost_entries);
  memset(placed, 0, sizeof(*placed));
}
