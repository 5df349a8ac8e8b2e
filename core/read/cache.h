/* SPDX-License-Identifier: MIT */
/*
 * A cache of byte blocks, within a budget, for any number of threads.
 *
 * A block is named by a key: the space it belongs to (a number for each file of the chain and each
 * view) and an offset in it. A thread that asks for a block that is not there loads it, without
 * holding the lock. Other threads that ask for it meanwhile wait for that one load. A pinned block
 * stays in memory until it is unpinned.
 *
 * The least recently used block is evicted first. But a walk over more than the cache holds then
 * evicts each block before a second walk comes to it, and the second walk finds nothing. A cache
 * can keep a part of such walks instead: when a block is no longer among the recent ones, which
 * have a sixteenth of the budget, it stays in one case of four, and is evicted next in the other
 * three.
 *
 * tests/bench/caches compares policies over what tools ask the caches for. Small blocks are asked
 * for by walks, and keeping a part of them saves a third of the loads. Decoded clusters can be so
 * large that the cache holds five: there nothing is better than plain LRU.
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
   the view, below 2^36. `detail`, below 2^24, tells blocks at the same offset from each other. */
struct qcow2_cache_key qcow2_cache_key_make(enum qcow2_cache_kind kind, uint64_t owner,
                                            uint32_t detail, uint64_t offset);

struct qcow2_cache_block {
  uint8_t *data;
  size_t length;    /* bytes */
  size_t filled;    /* bytes that the load has written, at most `length` */
  bool is_doubtful; /* for the load to say; false at first */
};

/* Write up to block->length bytes to block->data, and set block->filled. Returns 0 or an error. */
typedef int qcow2_cache_load(void *context, struct qcow2_cache_key key,
                             struct qcow2_cache_block *block, struct qcow2_error *error);

/* A cache of at most `budget` bytes, which pinned blocks may exceed. `keeps_part`: keep a part of
   a walk that is larger than the budget. `usual_length`: if most blocks are small, their length,
   for which memory is then taken in large pieces (slabs.h); else 0. Such pieces are given back once
   they are empty, so if blocks of other lengths replace the usual ones, there may be twice the
   budget for a while. NULL: no memory. The caller frees it with qcow2_cache_free(). */
struct qcow2_cache *qcow2_cache_new(size_t budget, bool keeps_part, size_t usual_length);

/* Let the borrower use what the lender does not use of its budget, until it holds twenty blocks of
   the size that it is asked for. It gives that back when the lender needs it. Call this before
   either is used; one is not used after the other is freed. */
void qcow2_cache_lend(struct qcow2_cache *lender, struct qcow2_cache *borrower);

/* Free the cache. No block may be pinned. NULL is allowed. */
void qcow2_cache_free(struct qcow2_cache *cache);

/* Get a block of `length` bytes (always the same for a key) from the cache, or load it. On success
   the caller unpins it with qcow2_cache_unpin(). If the load fails, the block is not in the cache.
   Errors: NOMEM, and those of `load`. */
int qcow2_cache_pin(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length,
                    qcow2_cache_load *load, void *context, struct qcow2_cache_block **block,
                    struct qcow2_error *error);

/* Pin the block if it is in the cache, without loading or waiting. Returns false if it is not. */
bool qcow2_cache_pin_ready(struct qcow2_cache *cache, struct qcow2_cache_key key,
                           struct qcow2_cache_block **block);

/* Copy `length` bytes of the block that begin at `in_block`, if the block is in the cache and not
   empty, without loading or waiting. Returns false if it is not. For small copies, during which
   other threads may wait: it takes the lock once, where pinning takes it twice. */
bool qcow2_cache_copy(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t in_block,
                      void *buffer, size_t length);

/* True if the block is in the cache and was used; a load ahead is not a use. */
bool qcow2_cache_is_used(struct qcow2_cache *cache, struct qcow2_cache_key key);

/* Load the block if it is not there, because it will probably be asked for soon. If it cannot be
   loaded, that is not reported. */
void qcow2_cache_load_ahead(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length,
                            qcow2_cache_load *load, void *context);

/* Unpin a block. */
void qcow2_cache_unpin(struct qcow2_cache *cache, struct qcow2_cache_block *block);

#endif
