/* SPDX-License-Identifier: MIT */
/*
 * Small reads, which are copied from larger blocks of a view.
 *
 * Tools read the tables of a file system in pieces of a few hundred bytes, and files block by
 * block. To look up each piece in the tables of the chain, and to read it from the file, takes
 * longer than to read a larger block once and to copy the pieces from it.
 *
 * A view offset counts from the start of the view that is read.
 */
#ifndef QCOW2_READ_BLOCKS_H
#define QCOW2_READ_BLOCKS_H

#include "cache.h"

enum qcow2_block_size {
  QCOW2_BLOCKS_COARSE, /* large: few system calls */
  QCOW2_BLOCKS_FINE    /* small, if blocks need decoding: more parts of the disk fit the cache */
};

#define QCOW2_BLOCK_SIZES 2

/* The block size of most file systems. */
#define QCOW2_BLOCKS_FINE_BYTES 4096u

/* A callback that reads bytes of the view: all of them, or an error. */
typedef int qcow2_blocks_load(void *context, uint64_t view_offset, void *buffer, size_t length,
                              struct qcow2_error *error);

/* How the blocks of a disk are read, and where they are kept. Borrowed pointers. */
struct qcow2_blocks {
  struct qcow2_cache *caches[QCOW2_BLOCK_SIZES]; /* by size */
  uint64_t cache_owner;                          /* different for each disk */
  uint64_t size;                                 /* of the disk, bytes */
  qcow2_blocks_load *load;
  void *context;
};

/* True if blocks make a read of this length faster. `run` is how many bytes were read just before
   it, in ascending order. */
bool qcow2_blocks_suit(enum qcow2_block_size size, size_t length, uint64_t run);

/* Read `length` bytes inside the disk. Returns false if a block could not be read, perhaps because
   of other bytes in it. Then the caller reads in the ordinary way, and gets the error if there is
   one. */
bool qcow2_blocks_read(const struct qcow2_blocks *blocks, enum qcow2_block_size size,
                       uint64_t view_offset, uint8_t *buffer, size_t length);

#endif
