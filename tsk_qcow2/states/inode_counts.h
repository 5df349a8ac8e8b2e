/* SPDX-License-Identifier: MIT */
/* How often each inode was met. */
#ifndef TSK_QCOW2_STATES_INODE_COUNTS_H
#define TSK_QCOW2_STATES_INODE_COUNTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inode_count {
  uint64_t inode;
  uint32_t count; /* 0: the slot is free */
};

/* All zero: nothing was met. */
struct inode_counts {
  struct inode_count *slots;
  size_t slot_count, used;
};

/* Count the inode, and write how often it was met, this time included. False: no memory. */
bool inode_counts_add(struct inode_counts *counts, uint64_t inode, uint32_t *count);

void inode_counts_free(struct inode_counts *counts);

#endif
