/* SPDX-License-Identifier: MIT */
#include "slices.h"

#include <inttypes.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../storage/storage.h"

/* Slices are of this many bytes, or of a cluster if that is smaller: large enough that few reads are needed, small enough that a
   single look-up in a table of 2 MiB is cheap. */
#define SLICE_BYTES_MAX 16384u

/* Load a slice; where the file ends inside it, as far as it goes. */
static int load_slice(void *context, struct qcow2_cache_key key, struct qcow2_cache_block *block,
                      struct qcow2_error *error)
{
  const struct qcow2_storage *storage = context;
  uint64_t left = key.offset < storage->size ? storage->size - key.offset : 0;

  block->filled = (size_t) min_u64(block->length, left);
  return qcow2_storage_read(storage, key.offset, block->data, block->filled, error);
}

int qcow2_slice_pin(const struct qcow2_slices *slices, const char *table, uint64_t host_offset,
                    unsigned bytes, struct qcow2_cache_block **block, const uint8_t **found,
                    struct qcow2_error *error)
{
  uint32_t slice = (uint32_t) min_u64(slices->cluster_size, SLICE_BYTES_MAX);
  uint32_t in_slice = (uint32_t) host_offset & (slice - 1);
  struct qcow2_cache_key key = { slices->cache_space, host_offset - in_slice };
  int code = qcow2_cache_pin(slices->cache, key, slice, load_slice,
                             (void *) (uintptr_t) slices->storage, block, error);

  if (code != 0)
    return code;
  if (!range_fits(in_slice, bytes, (*block)->filled)) {
    qcow2_cache_unpin(slices->cache, *block);
    return qcow2_error_set_at(error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, host_offset,
                              "the file is truncated: it ends at byte %" PRIu64
                              ", and the entry of %s at host offset %" PRIu64 " is needed",
                              slices->storage->size, table, host_offset);
  }
  *found = (*block)->data + in_slice;
  return 0;
}
