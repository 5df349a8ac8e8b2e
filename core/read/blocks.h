/* SPDX-License-Identifier: MIT */
/*
 * Small reads, answered from blocks of guest bytes.
 *
 * File systems are examined in pieces of a few hundred bytes, one after the other, and files block
 * by block. Looking each of them up in the tables of a chain, and reading it from the file, takes
 * longer than copying a larger block once.
 */
#ifndef QCOW2_READ_BLOCKS_H
#define QCOW2_READ_BLOCKS_H

#include "cache.h"

/* Blocks of two sizes: */
enum qcow2_block_size {
  QCOW2_BLOCKS_COARSE, /* few, so that little time goes to the system, */
  QCOW2_BLOCKS_FINE    /* or where it is work to get them, so that many can be kept of what is
                          scattered over the disk */
};

#define QCOW2_BLOCK_SIZES 2

/* Read guest bytes, all or an error. */
typedef int qcow2_blocks_load(void *context, uint64_t guest_offset, void *buffer, size_t length,
                              struct qcow2_error *error);

/* Where a disk's blocks come from, and where they are kept. Borrowed pointers. */
struct qcow2_blocks {
  struct qcow2_cache *caches[QCOW2_BLOCK_SIZES]; /* by size */
  uint64_t cache_owner;                          /* tells this disk's blocks from others' */
  uint64_t size;                                 /* of the disk, bytes */
  qcow2_blocks_load *load;
  void *context;
};

/* True if a read of that length is better answered from blocks than by itself. `row` is how many
   bytes were read just before it in ascending order. */
bool qcow2_blocks_suit(enum qcow2_block_size size, size_t length, uint64_t row);

/* Read `length` bytes inside the disk. Returns false if it could not be done, perhaps because of
   bytes near those that were asked for: the caller reads these themselves, and gets the reason. */
bool qcow2_blocks_read(const struct qcow2_blocks *blocks, enum qcow2_block_size size,
                       uint64_t guest_offset, uint8_t *buffer, size_t length);

#endif
