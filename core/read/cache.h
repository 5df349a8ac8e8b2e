/* SPDX-License-Identifier: MIT */
/*
 * A cache of byte blocks, within a budget, for any number of threads.
 *
 * A key names a block: what it belongs to, and its offset there. The first thread that asks for a
 * block that is not in the cache loads it, without holding the lock. Other threads that ask for it
 * meanwhile wait for that load. A pinned block is neither moved nor evicted until it is unpinned.
 *
 * Each block is in one of three lists, each in the order of the last use:
 * - "new": the blocks that were used last, up to a sixteenth of the budget. Further uses of a new
 *   block do not count. So a reader that goes through a block in small pieces uses it once.
 * - "probation": blocks that were used once, and are no longer new. These are evicted first, the
 *   one that was not used for the longest time before all others.
 * - "protected": blocks on probation that were used again, up to three quarters of the budget.
 *   Above that, the block that was not used for the longest time goes back to probation.
 * So one pass over the whole disk does not evict the blocks that are used again and again.
 *
 * Two rules change this order:
 * - A block of which all bytes were read, in whatever pieces, is mostly not needed again. It
 * becomes the next to be evicted.
 * - A second pass over more bytes than fit the cache would find none of its blocks: each was
 * evicted just before its turn. In a cache that prefers old blocks, three of four blocks that stop
 * being new become the next to be evicted. So the cache keeps a part of the first pass, not its
 * end.
 */
#ifndef QCOW2_READ_CACHE_H
#define QCOW2_READ_CACHE_H

#include <stdbool.h>

#include "../qcow2core.h"

struct qcow2_cache;

/* What a block contains. Blocks of different kinds have different keys. */
enum qcow2_cache_kind {
  QCOW2_CACHE_SLICE,  /* a piece of a table of a layer */
  QCOW2_CACHE_CHUNK,  /* decrypted bytes of a layer */
  QCOW2_CACHE_STREAM, /* a decompressed cluster of a layer */
  QCOW2_CACHE_BLOCK   /* bytes of a view */
};

struct qcow2_cache_key {
  uint64_t space;
  uint64_t offset;
};

/* The key of a block of a layer or a view. `owner` is the number of the layer in the chain, or of
   the view, below 2^36. `detail`, below 2^24, is different for different blocks at the same offset.
 */
struct qcow2_cache_key qcow2_cache_key_make(enum qcow2_cache_kind kind, uint64_t owner,
                                            uint32_t detail, uint64_t offset);

struct qcow2_cache_block {
  uint8_t *data;
  size_t length; /* bytes */
  size_t filled; /* bytes that the load has written, at most `length` */
};

/* Write up to block->length bytes to block->data, and set block->filled. Returns 0 or an error. */
typedef int qcow2_cache_load(void *context, struct qcow2_cache_key key,
                             struct qcow2_cache_block *block, struct qcow2_error *error);

/* Make a cache of at most `budget` bytes; only pinned blocks can take more. `prefers_old`: see
   above. NULL: no memory. The caller frees it with qcow2_cache_free(). */
struct qcow2_cache *qcow2_cache_new(size_t budget, bool prefers_old);

/* Free the cache. No block may be pinned. NULL is allowed. */
void qcow2_cache_free(struct qcow2_cache *cache);

/* Get a block of `length` bytes (always the same for a key) from the cache, or load it. On success
   the caller unpins it with qcow2_cache_unpin(). If the load fails, the block is not in the cache.
   Errors: NOMEM, and those of `load`. */
int qcow2_cache_pin(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length,
                    qcow2_cache_load *load, void *context, struct qcow2_cache_block **block,
                    struct qcow2_error *error);

/* Pin the block if it is in the cache; do not load it or wait for it. Returns false if it is not.
 */
bool qcow2_cache_pin_ready(struct qcow2_cache *cache, struct qcow2_cache_key key,
                           struct qcow2_cache_block **block);

/* True if the block is in the cache and was used; a load ahead is not a use. */
bool qcow2_cache_is_used(struct qcow2_cache *cache, struct qcow2_cache_key key);

/* Load the block, before its first use, if it is not in the cache. Its first use makes it new
   again. Errors are ignored. */
void qcow2_cache_load_ahead(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length,
                            qcow2_cache_load *load, void *context);

/* Unpin a block. */
void qcow2_cache_unpin(struct qcow2_cache *cache, struct qcow2_cache_block *block);

/* Unpin a block of which `length` bytes were read. When all of its bytes were read, it is mostly
   the next block to be evicted, unless it is used again before. */
void qcow2_cache_take(struct qcow2_cache *cache, struct qcow2_cache_block *block, size_t length);

#endif
