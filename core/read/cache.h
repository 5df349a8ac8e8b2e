/* SPDX-License-Identifier: MIT */
/*
 * A cache of byte blocks with a budget, shared by threads.
 *
 * A block is named by a key: the space it belongs to (a number per file of the chain) and an offset
 * in it. Whoever asks for a block that is not there loads it, outside the lock; others who ask
 * meanwhile wait for that one load. A pinned block stays where it is until it is unpinned.
 *
 * Eviction is a segmented LRU. A block is new as long as it is among those used last, a sixteenth
 * of the budget: uses that follow one another so closely, as when a sweep reads a block piece by
 * piece, are one. Then it is on probation; a second use protects it, and protected blocks may take
 * three quarters of the budget. So one sweep over the disk does not drive out what is used again
 * and again.
 *
 * Files lie side by side in a block, and are read in any order: a block that was read through, in
 * whatever pieces, makes room for those that were not.
 *
 * A walk that comes by a second time, over more than the cache holds, would find nothing: each
 * block is evicted before its turn. Therefore a cache can prefer old blocks. Of those that stop
 * being new it evicts three of four at once, and so keeps a part of the walk rather than the end of
 * it.
 */
#ifndef QCOW2_READ_CACHE_H
#define QCOW2_READ_CACHE_H

#include <stdbool.h>

#include "../qcow2core.h"

struct qcow2_cache;

/* What a block holds. No two kinds have a key in common. */
enum qcow2_cache_kind {
  QCOW2_CACHE_SLICE,  /* a piece of a table of a layer */
  QCOW2_CACHE_CHUNK,  /* decrypted bytes of a layer */
  QCOW2_CACHE_STREAM, /* a cluster that a layer has compressed */
  QCOW2_CACHE_BLOCK   /* bytes of a view */
};

struct qcow2_cache_key {
  uint64_t space;
  uint64_t offset;
};

/* The key of a block at an offset of its owner. `owner` is the layer's number in the chain or the
   view's number, below 2^36; `detail`, below 2^24, tells blocks at the same offset apart. */
struct qcow2_cache_key qcow2_cache_key_make(enum qcow2_cache_kind kind, uint64_t owner,
                                            uint32_t detail, uint64_t offset);

struct qcow2_cache_block {
  uint8_t *data;
  size_t length; /* bytes, as asked for */
  size_t filled; /* bytes that the load produced, at most `length` */
};

/* Fill the block's data, of block->length bytes, and set block->filled. Returns 0 or an error. */
typedef int qcow2_cache_load(void *context, struct qcow2_cache_key key,
                             struct qcow2_cache_block *block, struct qcow2_error *error);

/* A cache of at most `budget` bytes, blocks that are pinned at the moment aside; whether it prefers
   old blocks, see above. NULL: no memory. The caller frees it with qcow2_cache_free(). */
struct qcow2_cache *qcow2_cache_new(size_t budget, bool prefers_old);

/* Free the cache, of which no block may be pinned. NULL is allowed. */
void qcow2_cache_free(struct qcow2_cache *cache);

/* Get the block, of `length` bytes (always the same for a key), from the cache or by loading it. On
   success the caller calls qcow2_cache_unpin(). A failed load is not remembered. Errors: NOMEM, and
   those of `load`. */
int qcow2_cache_pin(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length,
                    qcow2_cache_load *load, void *context, struct qcow2_cache_block **block,
                    struct qcow2_error *error);

/* Pin the block if it is there, without loading or waiting. Returns whether it is. */
bool qcow2_cache_pin_ready(struct qcow2_cache *cache, struct qcow2_cache_key key,
                           struct qcow2_cache_block **block);

/* True if the block is there and was asked for; a load ahead does not count. */
bool qcow2_cache_is_used(struct qcow2_cache *cache, struct qcow2_cache_key key);

/* Load the block if it is not there, in expectation of its first use, which it stays on probation
   for. That it cannot be loaded is nobody's error. */
void qcow2_cache_load_ahead(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length,
                            qcow2_cache_load *load, void *context);

/* Give a pinned block back. */
void qcow2_cache_unpin(struct qcow2_cache *cache, struct qcow2_cache_block *block);

/* Give a pinned block back, of which `length` bytes were taken. When as many were taken as it has,
   it is mostly the next to be evicted, before blocks of which something is left to be read, unless
   it is used again before that. */
void qcow2_cache_take(struct qcow2_cache *cache, struct qcow2_cache_block *block, size_t length);

#endif
