/* SPDX-License-Identifier: MIT */
/*
 * Memory for many items of one size, taken from the system in slabs of 2 MiB: that is one huge
 * page, where the system has these, in place of 512 pages that are each made at their first use.
 * One thread at a time.
 */
#ifndef QCOW2_READ_SLABS_H
#define QCOW2_READ_SLABS_H

#include <stddef.h>

#define SLAB_BYTES ((size_t) 2 << 20)

struct slab;

struct qcow2_slabs {
  size_t item_bytes;      /* far less than a slab */
  struct slab *with_room; /* slabs that have room for an item; NULL at first */
};

/* Memory for an item. NULL: there is none. The caller gives it back with qcow2_slabs_give(). */
void *qcow2_slabs_take(struct qcow2_slabs *slabs);

/* Give back an item's memory. A slab without items is given back to the system. */
void qcow2_slabs_give(struct qcow2_slabs *slabs, void *item);

#endif
