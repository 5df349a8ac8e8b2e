/* SPDX-License-Identifier: MIT */
/* Compressed clusters. Each is decompressed once, and kept in the cache of decoded clusters. */
#ifndef QCOW2_READ_COMPRESSED_H
#define QCOW2_READ_COMPRESSED_H

#include "mapping.h"

/* The decompressors of an image that no thread is using. */
struct qcow2_decompressor_pool;

/* NULL: no memory. The caller frees it with qcow2_decompressor_pool_free(). */
struct qcow2_decompressor_pool *qcow2_decompressor_pool_new(void);

/* NULL is allowed. */
void qcow2_decompressor_pool_free(struct qcow2_decompressor_pool *pool);

/* Where the compressed clusters of an image are read from. Borrowed pointers. */
struct qcow2_compressed_source {
  const struct qcow2_storage *storage; /* the image file, which contains the streams */
  enum qcow2_compression compression;
  uint32_t cluster_size;     /* bytes */
  struct qcow2_cache *cache; /* of decoded clusters */
  uint64_t cache_owner;
  struct qcow2_decompressor_pool *pool;
};

/* Read `length` bytes (> 0) at `guest_offset`, all inside the mapping of the kind COMPRESSED, into
   `buffer`. Errors: IO, TRUNCATED, CORRUPT, NOMEM, with the host offset. */
int qcow2_compressed_read(const struct qcow2_compressed_source *source,
                          const struct qcow2_mapping *mapping, uint64_t guest_offset, void *buffer,
                          size_t length, struct qcow2_error *error);

/* Find out if the cluster, which can be read, may be damaged: its stream does not end with it, as
   the streams that QEMU writes do. This decodes the cluster if it is not in the cache. False after
   an error. */
bool qcow2_compressed_is_doubtful(const struct qcow2_compressed_source *source,
                                  const struct qcow2_mapping *mapping);

/* True if the cluster is in the cache, and was used there. */
bool qcow2_compressed_is_at_hand(const struct qcow2_compressed_source *source,
                                 const struct qcow2_mapping *mapping);

/* Decode the cluster into the cache, unless it is there. Errors are ignored: the reader gets
   them. */
void qcow2_compressed_decode_ahead(const struct qcow2_compressed_source *source,
                                   const struct qcow2_mapping *mapping);

#endif
