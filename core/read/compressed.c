/* SPDX-License-Identifier: MIT */
#include "compressed.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../storage/storage.h"
#include "decompress.h"

/* ---- Decompressors ------------------------------------------------------ */

/* A decompressor with a buffer for its input. */
struct unpacker {
  struct qcow2_decompressor *decompressor;
  uint8_t *input;
  size_t input_size; /* bytes allocated: at most two clusters, the most that an L2 entry can give */
  struct unpacker *next;
};

struct qcow2_decompressor_pool {
  pthread_mutex_t lock;
  struct unpacker *free;
};

static void unpacker_free(struct unpacker *unpacker)
{
  qcow2_decompressor_free(unpacker->decompressor);
  free(unpacker->input);
  free(unpacker);
}

struct qcow2_decompressor_pool *qcow2_decompressor_pool_new(void)
{
  struct qcow2_decompressor_pool *pool = calloc(1, sizeof(*pool));

  if (pool != NULL)
    pthread_mutex_init(&pool->lock, NULL);
  return pool;
}

void qcow2_decompressor_pool_free(struct qcow2_decompressor_pool *pool)
{
  if (pool == NULL)
    return;
  while (pool->free != NULL) {
    struct unpacker *unpacker = pool->free;

    pool->free = unpacker->next;
    unpacker_free(unpacker);
  }
  pthread_mutex_destroy(&pool->lock);
  free(pool);
}

static struct unpacker *unpacker_new(void)
{
  struct unpacker *unpacker = calloc(1, sizeof(*unpacker));

  if (unpacker == NULL)
    return NULL;
  unpacker->decompressor = qcow2_decompressor_new();
  if (unpacker->decompressor == NULL) {
    free(unpacker);
    return NULL;
  }
  return unpacker;
}

static void pool_give(struct qcow2_decompressor_pool *pool, struct unpacker *unpacker)
{
  pthread_mutex_lock(&pool->lock);
  unpacker->next = pool->free;
  pool->free = unpacker;
  pthread_mutex_unlock(&pool->lock);
}

/* Take an unpacker with room for `input_length` bytes. NULL: no memory. */
static struct unpacker *pool_take(struct qcow2_decompressor_pool *pool, size_t input_length)
{
  struct unpacker *unpacker;
  uint8_t *input;

  pthread_mutex_lock(&pool->lock);
  unpacker = pool->free;
  if (unpacker != NULL)
    pool->free = unpacker->next;
  pthread_mutex_unlock(&pool->lock);
  if (unpacker == NULL)
    unpacker = unpacker_new();
  if (unpacker == NULL || unpacker->input_size >= input_length)
    return unpacker;
  input = realloc(unpacker->input, input_length);
  if (input == NULL) {
    unpacker_free(unpacker);
    return NULL;
  }
  unpacker->input = input;
  unpacker->input_size = input_length;
  return unpacker;
}

/* ---- Compressed clusters ------------------------------------------------ */

struct compressed_load {
  const struct qcow2_compressed_source *source;
  uint64_t host_offset;
  uint32_t host_bytes;
};

/* Keep in the block, instead of the cluster's bytes, why the cluster cannot be decoded. Decoding
   may take long before it fails, and each small read would repeat it. `filled` is 0 in such a
   block. */
static void keep_failure(struct qcow2_cache_block *block, const struct qcow2_error *failure)
{
  snprintf((char *) block->data, block->length, "%s", failure->message);
  block->filled = 0;
}

/* Decode the whole cluster into a cache block. The last sector of its stream may end past the end
   of the file. */
static int load_compressed(void *context, struct qcow2_cache_key key,
                           struct qcow2_cache_block *block, struct qcow2_error *error)
{
  const struct compressed_load *load = context;
  const struct qcow2_compressed_source *source = load->source;
  struct qcow2_error failure;
  struct qcow2_stream_end end = { .has_ended = true };
  uint64_t left = load->host_offset < source->storage->size
                      ? source->storage->size - load->host_offset
                      : 0;
  size_t length = (size_t) min_u64(load->host_bytes, left);
  struct unpacker *unpacker;
  int code;

  (void) key;
  if (left == 0) /* makes the error that the file is truncated */
    return qcow2_storage_read(source->storage, load->host_offset, block->data, 1, error);
  unpacker = pool_take(source->pool, length + 1); /* version 1 may say that there are 0 */
  if (unpacker == NULL)
    return qcow2_error_set_nomem(error);
  code = qcow2_storage_read(source->storage, load->host_offset, unpacker->input, length, &failure);
  if (code == 0)
    code = qcow2_decompress(unpacker->decompressor, source->compression, unpacker->input, length,
                            block->data, block->length, &end, &failure);
  pool_give(source->pool, unpacker);
  block->filled = block->length;
  block->is_doubtful = code == 0 && !end.has_ended;
  if (code == QCOW2_ERROR_CORRUPT) {
    keep_failure(block, &failure);
    return 0;
  }
  if (code != 0 && error != NULL)
    *error = failure;
  return code;
}

/* The error for a cluster that could not be decoded, from the reason in its block. */
static int failure_error(const struct qcow2_compressed_source *source,
                         const struct qcow2_mapping *mapping, const struct qcow2_cache_block *block,
                         struct qcow2_error *error)
{
  if (!range_fits(mapping->host_offset, mapping->host_bytes, source->storage->size))
    return qcow2_error_set_at(
        error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, mapping->host_offset,
        "the compressed cluster at host offset %" PRIu64
        " cannot be decoded, and the file ends inside its last sectors, at byte %" PRIu64
        ": it is truncated, or the stream is damaged",
        mapping->host_offset, source->storage->size);
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, mapping->host_offset,
                            "the compressed cluster at host offset %" PRIu64 " cannot be read: %s",
                            mapping->host_offset, (const char *) block->data);
}

/* Two L2 entries may give the same offset with different lengths. These are different streams: one
   may be too short. */
static struct qcow2_cache_key cache_key(const struct qcow2_compressed_source *source,
                                        const struct qcow2_mapping *mapping)
{
  return qcow2_cache_key_make(QCOW2_CACHE_STREAM, source->cache_owner, mapping->host_bytes,
                              mapping->host_offset);
}

bool qcow2_compressed_is_at_hand(const struct qcow2_compressed_source *source,
                                 const struct qcow2_mapping *mapping)
{
  return qcow2_cache_is_used(source->cache, cache_key(source, mapping));
}

void qcow2_compressed_decode_ahead(const struct qcow2_compressed_source *source,
                                   const struct qcow2_mapping *mapping)
{
  struct compressed_load load = { source, mapping->host_offset, mapping->host_bytes };

  qcow2_cache_load_ahead(source->cache, cache_key(source, mapping), source->cluster_size,
                         load_compressed, &load);
}

/* Get the block of the decoded cluster, which the caller unpins. Errors: those of
 * load_compressed().
 */
static int pin(const struct qcow2_compressed_source *source, const struct qcow2_mapping *mapping,
               struct qcow2_cache_block **block, struct qcow2_error *error)
{
  struct compressed_load load = { source, mapping->host_offset, mapping->host_bytes };

  return qcow2_cache_pin(source->cache, cache_key(source, mapping), source->cluster_size,
                         load_compressed, &load, block, error);
}

int qcow2_compressed_read(const struct qcow2_compressed_source *source,
                          const struct qcow2_mapping *mapping, uint64_t guest_offset, void *buffer,
                          size_t length, struct qcow2_error *error)
{
  uint32_t in_cluster = (uint32_t) guest_offset & (source->cluster_size - 1);
  struct qcow2_cache_block *block;
  int code = pin(source, mapping, &block, error);

  if (code != 0)
    return code;
  if (block->filled == 0)
    code = failure_error(source, mapping, block, error);
  else
    memcpy(buffer, block->data + in_cluster, length);
  qcow2_cache_unpin(source->cache, block);
  return code;
}

bool qcow2_compressed_is_doubtful(const struct qcow2_compressed_source *source,
                                  const struct qcow2_mapping *mapping)
{
  struct qcow2_cache_block *block;
  bool is_doubtful;

  if (pin(source, mapping, &block, NULL) != 0)
    return false;
  is_doubtful = block->is_doubtful;
  qcow2_cache_unpin(source->cache, block);
  return is_doubtful;
}
