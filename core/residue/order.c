/* SPDX-License-Identifier: MIT */
#include "order.h"

#include <stdlib.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../format/cluster.h"
#include "../storage/storage.h"

/* A table in the order of the file. */
struct ordered {
  uint64_t l2_offset;
  size_t lost;       /* its position in placed->lost_tables; SIZE_MAX: it has a place */
  uint32_t l1_index; /* if it has a place */
};

struct order {
  const struct qcow2_layer *layer;
  struct qcow2_placed *placed;
  uint64_t end_index;
  struct ordered *tables; /* ascending */
  size_t count;
  uint32_t *l1_indexes; /* as placed->lost_tables */
  uint8_t *bytes;       /* a cluster */
};

static int compare_ordered(const void *one, const void *other)
{
  const struct ordered *a = one, *b = other;

  return a->l2_offset < b->l2_offset ? -1 : a->l2_offset > b->l2_offset;
}

static void list_tables(struct order *order)
{
  const struct qcow2_placed *placed = order->placed;

  for (size_t i = 0; i < placed->count; i++)
    order->tables[order->count++] = (struct ordered){ placed->tables[i].l2_offset, SIZE_MAX,
                                                      placed->tables[i].l1_index };
  for (size_t i = 0; i < placed->lost; i++)
    order->tables[order->count++] = (struct ordered){ placed->lost_tables[i], i, 0 };
  qsort(order->tables, order->count, sizeof(order->tables[0]), compare_ordered);
}

/* True if those that have a place ascend. */
static bool do_placed_ascend(const struct order *order)
{
  uint64_t next = 0;

  for (size_t i = 0; i < order->count; i++) {
    if (order->tables[i].lost != SIZE_MAX)
      continue;
    if (order->tables[i].l1_index < next)
      return false;
    next = order->tables[i].l1_index + UINT64_C(1);
  }
  return true;
}

/* Where the bytes begin that an entry names; 0: it names none. */
static uint64_t host_offset_of(const struct qcow2_geometry *geometry,
                               const struct qcow2_l2_entry *entry)
{
  if ((entry->descriptor & L2_ENTRY_COMPRESSED) != 0)
    return qcow2_l2_entry_decode(geometry, entry, 0).host_offset;
  return entry->descriptor & TABLE_OFFSET_MASK;
}

/* True if what the table names lies after it, ascending, and before the next table. */
static bool is_in_order(const struct order *order, size_t at)
{
  const struct qcow2_geometry *geometry = &order->layer->geometry;
  uint64_t last = order->tables[at].l2_offset;
  uint64_t end = at + 1 < order->count ? order->tables[at + 1].l2_offset : UINT64_MAX;

  if (qcow2_storage_read(&order->layer->file.storage, last, order->bytes, geometry->cluster_size,
                         NULL) != 0)
    return false;
  for (uint32_t i = 0; i < geometry->cluster_size; i += geometry->l2_entry_bytes) {
    struct qcow2_l2_entry entry = l2_entry_load(geometry, order->bytes + i);
    uint64_t offset = host_offset_of(geometry, &entry);

    if (offset == 0)
      continue;
    if (offset <= last || offset >= end)
      return false;
    last = offset;
  }
  return true;
}

/* Place the tables from `first` to before `end` of the list, which have no place, between two L1
   entries; `before` is that before them, plus 1. */
static void place_between(struct order *order, size_t first, size_t end, uint64_t before,
                          uint64_t after)
{
  if (end - first != after - before)
    return;
  for (size_t i = first; i < end; i++)
    if (!is_in_order(order, i))
      return;
  for (size_t i = first; i < end; i++) {
    order->l1_indexes[order->tables[i].lost] = (uint32_t) (before + (i - first));
    order->placed->by_order++;
  }
}

static void place_all(struct order *order)
{
  size_t first = 0;
  uint64_t before = 0;

  for (size_t i = 0; i < order->count; i++)
    if (order->tables[i].lost == SIZE_MAX) {
      place_between(order, first, i, before, order->tables[i].l1_index);
      first = i + 1;
      before = order->tables[i].l1_index + UINT64_C(1);
    }
  place_between(order, first, order->count, before, order->end_index);
}

int qcow2_order_place(const struct qcow2_layer *layer, struct qcow2_placed *placed,
                      uint64_t end_index, struct qcow2_error *error)
{
  struct order order = { .layer = layer, .placed = placed, .end_index = end_index };
  size_t all = placed->count + placed->lost;
  int code = 0;

  if (placed->lost == 0 || end_index > UINT32_MAX)
    return 0;
  order.tables = malloc(all * sizeof(order.tables[0]));
  order.l1_indexes = malloc(placed->lost * sizeof(order.l1_indexes[0]));
  order.bytes = malloc(layer->geometry.cluster_size);
  if (order.tables == NULL || order.l1_indexes == NULL || order.bytes == NULL)
    code = qcow2_error_set_nomem(error);
  else {
    for (size_t i = 0; i < placed->lost; i++)
      order.l1_indexes[i] = UINT32_MAX;
    list_tables(&order);
    if (do_placed_ascend(&order))
      place_all(&order);
    qcow2_placed_add(placed, &layer->geometry, order.l1_indexes);
  }
  free(order.tables);
  free(order.l1_indexes);
  free(order.bytes);
  return code;
}
