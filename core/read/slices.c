/* SPDX-License-Identifier: MIT */
#include "slices.h"

#include <errno.h>
#include <inttypes.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../storage/storage.h"

/* The size of a slice: this, or a cluster if that is smaller. Large enough that few reads are
   needed, small enough that one lookup in a table of 2 MiB is cheap. */
#define SLICE_BYTES_MAX 16384u
#define SECTOR_BYTES 512u

/* The sectors of a slice that the operating system could not read. It is stored in the cache block,
   after the bytes of the slice. */
struct slice_damage {
  uint32_t bad_sectors; /* a bit for each sector; bit 0: the first */
};

_Static_assert(SLICE_BYTES_MAX / SECTOR_BYTES <= 32, "a bit for each sector");

static struct slice_damage *damage_of(const struct qcow2_cache_block *block)
{
  return (struct slice_damage *) (void *) (block->data + block->length -
                                           sizeof(struct slice_damage));
}

/* Read a slice sector by sector, and note which sectors are bad. Fails if all of them are. */
static int load_sectors(const struct qcow2_storage *storage, uint64_t host_offset,
                        struct qcow2_cache_block *block)
{
  bool any = false;

  for (size_t at = 0; at < block->filled; at += SECTOR_BYTES) {
    size_t length = (size_t) min_u64(SECTOR_BYTES, block->filled - at);

    if (qcow2_storage_read(storage, host_offset + at, block->data + at, length, NULL) == 0)
      any = true;
    else
      damage_of(block)->bad_sectors |= UINT32_C(1) << at / SECTOR_BYTES;
  }
  return any ? 0 : QCOW2_ERROR_IO;
}

/* Load a slice, or the part of it that is before the end of the file. */
static int load_slice(void *context, struct qcow2_cache_key key, struct qcow2_cache_block *block,
                      struct qcow2_error *error)
{
  const struct qcow2_storage *storage = context;
  uint64_t left = key.offset < storage->size ? storage->size - key.offset : 0;
  struct qcow2_error failure = { .os_errno = 0 };
  int code;

  block->filled = (size_t) min_u64(block->length - sizeof(struct slice_damage), left);
  damage_of(block)->bad_sectors = 0;
  code = qcow2_storage_read(storage, key.offset, block->data, block->filled, &failure);
  if (code == QCOW2_ERROR_IO && failure.os_errno == EIO && block->filled > SECTOR_BYTES)
    code = load_sectors(storage, key.offset, block);
  if (code != 0 && error != NULL)
    *error = failure;
  return code;
}

/* The number of bytes from `in_slice` on that are in the file and could be read. */
static size_t usable_bytes(const struct qcow2_cache_block *block, uint32_t in_slice)
{
  uint32_t first = in_slice / SECTOR_BYTES;
  uint32_t bad = damage_of(block)->bad_sectors >> first;
  size_t end = bad == 0 ? block->filled : (first + (uint32_t) __builtin_ctz(bad)) * SECTOR_BYTES;

  return end > in_slice ? end - in_slice : 0;
}

/* The error for an entry that could not be read. */
static int entry_error(const struct qcow2_slices *slices, const char *table, uint64_t host_offset,
                       bool is_bad, struct qcow2_error *error)
{
  if (is_bad)
    return qcow2_error_set_errno(error, EIO, host_offset,
                                 "cannot read the entry of %s at host offset %" PRIu64, table,
                                 host_offset);
  return qcow2_error_set_at(error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, host_offset,
                            "the file is truncated: it ends at byte %" PRIu64
                            ", and the entry of %s at host offset %" PRIu64 " is needed",
                            slices->storage->size, table, host_offset);
}

int qcow2_slice_pin(const struct qcow2_slices *slices, const char *table, uint64_t host_offset,
                    unsigned bytes, struct qcow2_slice *slice, struct qcow2_error *error)
{
  uint32_t length = (uint32_t) min_u64(slices->cluster_size, SLICE_BYTES_MAX);
  uint32_t in_slice = (uint32_t) host_offset & (length - 1);
  struct qcow2_cache_key key = qcow2_cache_key_make(QCOW2_CACHE_SLICE, slices->cache_owner, 0,
                                                    host_offset - in_slice);
  int code = qcow2_cache_pin(slices->cache, key, length + sizeof(struct slice_damage), load_slice,
                             (void *) (uintptr_t) slices->storage, &slice->block, error);
  bool is_bad;

  if (code != 0)
    return code;
  slice->bytes = slice->block->data + in_slice;
  slice->length = usable_bytes(slice->block, in_slice);
  if (slice->length >= bytes)
    return 0;
  is_bad = range_fits(in_slice, bytes, slice->block->filled);
  qcow2_slice_unpin(slices, slice);
  return entry_error(slices, table, host_offset, is_bad, error);
}

void qcow2_slice_unpin(const struct qcow2_slices *slices, const struct qcow2_slice *slice)
{
  qcow2_cache_unpin(slices->cache, slice->block);
}
