/* SPDX-License-Identifier: MIT */
/*
 * Memory for many items of one size, taken from the system in slabs of 2 MiB: that is one huge
 * page, where the system has these, in place of 512 pages that are each made at their first use.
 * Items of other sizes, and the first ones, are from malloc(): programs that read little are many,
 * and may open many images. One thread at a time.
 */
#ifndef QCOW2_READ_SLABS_H
#define QCOW2_READ_SLABS_H

#include <stdbool.h>
#include <stddef.h>

#define SLAB_BYTES ((size_t) 2 << 20)

struct slab;

struct qcow2_slabs {
  size_t item_bytes;      /* far less than a slab; 0: there are no slabs */
  struct slab *with_room; /* slabs that have room for an item; NULL at first */
};

/* Memory for an item of `bytes`, for one who holds items of `held_bytes`. NULL: there is none.
 *is_in_slab is for qcow2_slabs_give(), by which the caller gives it back. */
void *qcow2_slabs_take(struct qcow2_slabs *slabs, size_t bytes, size_t held_bytes,
                       bool *is_in_slab);

/* Give back an item's memory. A slab without items is given back to the system. */
void qcow2_slabs_give(struct qcow2_slabs *slabs, void *item, bool is_in_slab);

#endif
