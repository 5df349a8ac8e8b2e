/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "layouts.h"

static int compare_numbers(uint64_t a, uint64_t b)
{
  return a > b ? -1 : a < b;
}

static bool is_all_in_use(const struct qcow2_rebuilt *rebuilt)
{
  return rebuilt->tables_counted > 0 && rebuilt->tables_in_use == rebuilt->tables_counted;
}

static int compare_layouts(const void *one, const void *other)
{
  const struct qcow2_rebuilt *a = one, *b = other;
  int order = b->is_exact - a->is_exact;

  if (order == 0)
    order = compare_numbers(a->streams_good == a->streams_tried,
                            b->streams_good == b->streams_tried);
  if (order == 0)
    order = compare_numbers(is_all_in_use(a), is_all_in_use(b));
  if (order == 0)
    order = compare_numbers(b->lost_l2_tables + b->bad_entries, a->lost_l2_tables + a->bad_entries);
  if (order == 0)
    order = compare_numbers(a->snapshot == NULL, b->snapshot == NULL);
  if (order == 0)
    order = compare_numbers(a->clusters + a->compressed, b->clusters + b->compressed);
  if (order == 0)
    order = compare_numbers(b->layout.l1_offset, a->layout.l1_offset);
  return order != 0 ? order
                    : compare_numbers(a->layout.flags & QCOW2_LAYOUT_DATA_FILE,
                                      b->layout.flags & QCOW2_LAYOUT_DATA_FILE);
}

/* If there is an L1 table, tables without one are no layout of their own. But those that lead to an
   external data file are certain, and an L1 table that leads to them would be known. */
static void leave_out_lone(struct qcow2_layouts *layouts)
{
  size_t count = 0;

  for (size_t i = 0; i < layouts->count; i++)
    if (layouts->items[i].layout.l1_offset != 0 ||
        (layouts->items[i].layout.flags & QCOW2_LAYOUT_DATA_FILE) != 0)
      layouts->items[count++] = layouts->items[i];
  if (count == 0)
    return;
  layouts->found -= layouts->count - count;
  layouts->count = count;
}

void qcow2_layouts_sort(struct qcow2_layouts *layouts)
{
  leave_out_lone(layouts);
  qsort(layouts->items, layouts->count, sizeof(layouts->items[0]), compare_layouts);
}
