/* SPDX-License-Identifier: MIT */
/* A set of inode numbers. */
#ifndef TSK_QCOW2_STATES_INODE_SET_H
#define TSK_QCOW2_STATES_INODE_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero: empty. */
struct inode_set {
  uint64_t *slots; /* the number plus 1; 0: free */
  size_t slot_count, used;
};

enum inode_set_answer {
  INODE_SET_ADDED,
  INODE_SET_KNOWN,
  INODE_SET_NO_MEMORY
};

enum inode_set_answer inode_set_add(struct inode_set *set, uint64_t inode);

void inode_set_free(struct inode_set *set);

#endif
