/* SPDX-License-Identifier: MIT */
/* Where the refcount table and its blocks can be ("Host cluster management"). Pure: no I/O. */
#ifndef QCOW2_FORMAT_REFCOUNT_H
#define QCOW2_FORMAT_REFCOUNT_H

#include <stdbool.h>

#include "../qcow2core.h"

/* QEMU's limit: 2^20 refcount blocks. */
#define REFCOUNT_TABLE_BYTES_MAX (UINT64_C(8) << 20)
#define REFCOUNT_TABLE_ENTRY_BYTES 8u
/* An entry of the refcount table holds a host offset in bits 9..63. */
#define REFCOUNT_TABLE_OFFSET_MASK (~UINT64_C(511))

/* The size of the refcount table in bytes, as the header says. */
uint64_t qcow2_refcount_table_bytes(const struct qcow2_header *header);

/* The most entries of a refcount table. */
#define REFCOUNT_TABLE_ENTRIES_MAX (REFCOUNT_TABLE_BYTES_MAX / REFCOUNT_TABLE_ENTRY_BYTES)

/* True if a refcount table can be where the header says: it is not too large, begins at a multiple
   of the cluster size, and ends below 2^63. An empty table fits. */
bool qcow2_refcount_table_fits(const struct qcow2_header *header);

/* True if a refcount block can be at this host offset. */
bool qcow2_refcount_block_fits(const struct qcow2_header *header, uint64_t host_offset);

/* The number of clusters whose refcounts are in one block. */
uint64_t qcow2_refcounts_per_block(const struct qcow2_header *header);

#endif
