/* SPDX-License-Identifier: MIT */
#include "cluster_reader.h"

#include <inttypes.h>
#include <pthread.h>
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
  size_t input_size; /* bytes allocated; at most two clusters, the most a descriptor can say */
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
  const struct qcow2_cluster_source *source;
  uint64_t host_offset;
  uint32_t host_bytes;
};

/* Decode the whole cluster into a cache block. The last sector of a stream may end past the end of the file. */
static int load_compressed(void *context, struct qcow2_cache_key key,
                           struct qcow2_cache_block *block, struct qcow2_error *error)
{
  const struct compressed_load *load = context;
  const struct qcow2_cluster_source *source = load->source;
  uint64_t left = load->host_offset < source->image->size ? source->image->size - load->host_offset : 0;
  size_t length = (size_t) min_u64(load->host_bytes, left);
  struct unpacker *unpacker;
  int code;

  (void) key;
  if (length == 0) /* let the storage say that the file is truncated */
    return qcow2_storage_read(source->image, load->host_offset, block->data, 1, error);
  unpacker = pool_take(source->pool, length);
  if (unpacker == NULL)
    return qcow2_error_set_nomem(error);
  code = qcow2_storage_read(source->image, load->host_offset, unpacker->input, length, error);
  if (code == 0)
    code = qcow2_decompress(unpacker->decompressor, source->compression, unpacker->input, length,
                            block->data, block->length, error);
  pool_give(source->pool, unpacker);
  block->filled = block->length;
  if (code == QCOW2_ERROR_CORRUPT && length < load->host_bytes)
    return qcow2_error_set_at(error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, load->host_offset,
                              "the compressed cluster at host offset %" PRIu64
                              " cannot be decoded, and the file ends inside its last sectors, at byte %" PRIu64
                              ": it is truncated, or the stream is damaged",
                              load->host_offset, source->image->size);
  return code;
}

/* Say where a cluster that could not be decoded is. */
static int place_error(const struct qcow2_mapping *mapping, int code, struct qcow2_error *error)
{
  char clause[sizeof(error->message)];

  if (error == NULL || code != QCOW2_ERROR_CORRUPT)
    return code;
  memcpy(clause, error->message, sizeof(clause));
  return qcow2_error_set_at(error, code, QCOW2_NO_OFFSET, mapping->host_offset,
                            "the compressed cluster at host offset %" PRIu64 " cannot be read: %.700s",
                            mapping->host_offset, clause);
}

static int read_compressed(const struct qcow2_cluster_source *source,
                           const struct qcow2_mapping *mapping, uint64_t guest_offset,
                           void *buffer, size_t length, struct qcow2_error *error)
{
  struct compressed_load load = { source, mapping->host_offset, mapping->host_bytes };
  /* An entry with other sectors may lead to the same offset; that is another stream, perhaps cut too short. */
  struct qcow2_cache_key key = { source->cache_space + ((uint64_t) mapping->host_bytes << 32), mapping->host_offset };
  uint32_t in_cluster = (uint32_t) guest_offset & (source->cluster_size - 1);
  struct qcow2_cache_block *block;
  int code = qcow2_cache_pin(source->cache, key, source->cluster_size, load_compressed, &load,
                             &block, error);

  if (code != 0)
    return place_error(mapping, code, error);
  memcpy(buffer, block->data + in_cluster, length);
  qcow2_cache_unpin(source->cache, block);
  return 0;
}

/* ---- Encrypted clusters ------------------------------------------------- */

/* Where encrypted bytes are, and what their initialisation vectors count from. */
struct encrypted {
  const struct qcow2_cluster_source *source;
  uint64_t host_offset;   /* of the first byte to be read */
  uint64_t number_offset; /* the same byte, as the cipher counts */
};

/* Read whole sectors, which begin `skip` bytes from the first byte to be read (or, if negative, before it). */
static int read_sectors(const struct encrypted *encrypted, int64_t skip, uint8_t *buffer,
                        size_t length, struct qcow2_error *error)
{
  const struct qcow2_cluster_source *source = encrypted->source;
  int code = qcow2_storage_read(source->data, encrypted->host_offset + (uint64_t) skip, buffer, length, error);

  if (code != 0)
    return code;
  return qcow2_cipher_decrypt(source->cipher,
                              (encrypted->number_offset + (uint64_t) skip) / ENCRYPTION_SECTOR_BYTES,
                              buffer, length, error);
}

/* Read a part of one sector: `length` bytes, `in_sector` bytes into the sector that begins at `skip`. */
static int read_in_sector(const struct encrypted *encrypted, int64_t skip, size_t in_sector,
                          uint8_t *buffer, size_t length, struct qcow2_error *error)
{
  uint8_t sector[ENCRYPTION_SECTOR_BYTES];
  int code = read_sectors(encrypted, skip, sector, sizeof(sector), error);

  if (code == 0)
    memcpy(buffer, sector + in_sector, length);
  return code;
}

/* A sector can only be decrypted as a whole. Those that are wanted as a whole are decrypted where they are wanted. */
static int read_encrypted(const struct encrypted *encrypted, uint8_t *buffer, size_t length,
                          struct qcow2_error *error)
{
  size_t in_sector = (size_t) (encrypted->host_offset % ENCRYPTION_SECTOR_BYTES);
  size_t head = in_sector == 0 ? 0 : (size_t) min_u64(ENCRYPTION_SECTOR_BYTES - in_sector, length);
  size_t body = (length - head) / ENCRYPTION_SECTOR_BYTES * ENCRYPTION_SECTOR_BYTES;
  size_t tail = length - head - body;
  int code = 0;

  if (head > 0)
    code = read_in_sector(encrypted, -(int64_t) in_sector, in_sector, buffer, head, error);
  if (code == 0 && body > 0)
    code = read_sectors(encrypted, (int64_t) head, buffer + head, body, error);
  if (code == 0 && tail > 0)
    code = read_in_sector(encrypted, (int64_t) (head + body), 0, buffer + head + body, tail, error);
  return code;
}

/* ---- Normal clusters ---------------------------------------------------- */

static int read_normal(const struct qcow2_cluster_source *source, uint64_t host_offset,
                       uint64_t guest_offset, void *buffer, size_t length,
                       struct qcow2_error *error)
{
  struct encrypted encrypted = { source, host_offset,
                                 source->cipher_counts_guest ? guest_offset : host_offset };

  if (source->cipher != NULL)
    return read_encrypted(&encrypted, buffer, length, error);
  return qcow2_storage_read(source->data, host_offset, buffer, length, error);
}

/* ---- Every kind --------------------------------------------------------- */

static int invalid_error(const struct qcow2_mapping *mapping, struct qcow2_error *error)
{
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, mapping->table_offset,
                            "the table entry at host offset %" PRIu64 ", for %" PRIu64
                            " bytes at guest offset %" PRIu64 ", is invalid: %s",
                            mapping->table_offset, mapping->length, mapping->guest_offset,
                            mapping->problem);
}

int qcow2_cluster_read(const struct qcow2_cluster_source *source,
                       const struct qcow2_mapping *mapping, uint64_t guest_offset, void *buffer,
                       size_t length, struct qcow2_error *error)
{
  uint64_t in_mapping = guest_offset - mapping->guest_offset;

  switch (mapping->kind) {
  case QCOW2_CLUSTER_UNALLOCATED:
  case QCOW2_CLUSTER_ZERO:
  case QCOW2_CLUSTER_ZERO_ALLOCATED:
    memset(buffer, 0, length);
    return 0;
  case QCOW2_CLUSTER_NORMAL:
    return read_normal(source, mapping->host_offset + in_mapping, guest_offset, buffer, length, error);
  case QCOW2_CLUSTER_COMPRESSED:
    return read_compressed(source, mapping, guest_offset, buffer, length, error);
  case QCOW2_CLUSTER_INVALID:
    return invalid_error(mapping, error);
  }
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "a mapping of no known kind");
}
