/* SPDX-License-Identifier: MIT */
/*
 * What the caches are asked for: linked into a drop-in whose calls of qcow2_cache_pin() and
 * qcow2_cache_pin_ready() the linker sends here (--wrap), this writes a line for each use of a
 * block to the file that $RECORD_FILE names: which cache, the block's key, its length.
 * tests/bench/caches builds it, and reads that file.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../core/read/cache.h"

int __real_qcow2_cache_pin(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length,
                           qcow2_cache_load *load, void *context, struct qcow2_cache_block **block,
                           struct qcow2_error *error);
int __wrap_qcow2_cache_pin(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length,
                           qcow2_cache_load *load, void *context, struct qcow2_cache_block **block,
                           struct qcow2_error *error);
bool __real_qcow2_cache_pin_ready(struct qcow2_cache *cache, struct qcow2_cache_key key,
                                  struct qcow2_cache_block **block);
bool __wrap_qcow2_cache_pin_ready(struct qcow2_cache *cache, struct qcow2_cache_key key,
                                  struct qcow2_cache_block **block);

static void record(const struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length)
{
  static FILE *file;
  const char *path = getenv("RECORD_FILE");

  if (file == NULL)
    file = fopen(path != NULL ? path : "/dev/null", "w");
  if (file != NULL)
    fprintf(file, "%p %" PRIx64 " %" PRIx64 " %zu\n", (const void *) cache, key.space, key.offset,
            length);
}

int __wrap_qcow2_cache_pin(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length,
                           qcow2_cache_load *load, void *context, struct qcow2_cache_block **block,
                           struct qcow2_error *error)
{
  record(cache, key, length);
  return __real_qcow2_cache_pin(cache, key, length, load, context, block, error);
}

bool __wrap_qcow2_cache_pin_ready(struct qcow2_cache *cache, struct qcow2_cache_key key,
                                  struct qcow2_cache_block **block)
{
  bool is_ready = __real_qcow2_cache_pin_ready(cache, key, block);

  if (is_ready)
    record(cache, key, (*block)->length);
  return is_ready;
}
