/* SPDX-License-Identifier: MIT */
#include "blocks.h"

#include <string.h>

#include "../base/checked.h"

/* Large enough that a table of inodes takes few system calls, small enough that few bytes are read
   that nothing needs. */
#define COARSE_BYTES 16384u
/* After this many bytes in ascending order, it is a file that is being read: its blocks will
   probably not be read again. */
#define RUN_BYTES 16384u

/* Load a block. If a part of it cannot be read, the block is kept empty: a failing disk is not
   asked again for each piece. */
static int load_block(void *context, struct qcow2_cache_key key, struct qcow2_cache_block *block,
                      struct qcow2_error *error)
{
  const struct qcow2_blocks *blocks = context;
  size_t length = (size_t) min_u64(block->length, blocks->size - key.offset);

  (void) error;
  block->filled = blocks->load(blocks->context, key.offset, block->data, length, NULL) == 0 ? length
                                                                                            : 0;
  return 0;
}

bool qcow2_blocks_suit(enum qcow2_block_size size, size_t length, uint64_t run)
{
  if (size == QCOW2_BLOCKS_FINE)
    return length < QCOW2_BLOCKS_FINE_BYTES ||
           (length == QCOW2_BLOCKS_FINE_BYTES && run < RUN_BYTES);
  return length < QCOW2_BLOCKS_FINE_BYTES || (length < COARSE_BYTES && run > 0);
}

/* Read bytes of one block. Returns false if the block could not be read. */
static bool read_block(const struct qcow2_blocks *blocks, struct qcow2_cache *cache,
                       struct qcow2_cache_key key, size_t block_bytes, size_t in_block,
                       uint8_t *buffer, size_t length)
{
  struct qcow2_cache_block *block;
  bool is_read;

  if (qcow2_cache_copy(cache, key, in_block, buffer, length))
    return true;
  if (qcow2_cache_pin(cache, key, block_bytes, load_block, (void *) (uintptr_t) blocks, &block,
                      NULL) != 0)
    return false;
  is_read = block->filled > 0;
  if (is_read)
    memcpy(buffer, block->data + in_block, length);
  qcow2_cache_unpin(cache, block);
  return is_read;
}

bool qcow2_blocks_read(const struct qcow2_blocks *blocks, enum qcow2_block_size size,
                       uint64_t view_offset, uint8_t *buffer, size_t length)
{
  size_t block_bytes = size == QCOW2_BLOCKS_FINE ? QCOW2_BLOCKS_FINE_BYTES : COARSE_BYTES;

  while (length > 0) {
    size_t in_block = (size_t) (view_offset % block_bytes);
    size_t count = (size_t) min_u64(length, block_bytes - in_block);
    struct qcow2_cache_key key = qcow2_cache_key_make(QCOW2_CACHE_BLOCK, blocks->cache_owner, 0,
                                                      view_offset - in_block);

    if (!read_block(blocks, blocks->caches[size], key, block_bytes, in_block, buffer, count))
      return false;
    buffer += count;
    view_offset += count;
    length -= count;
  }
  return true;
}
