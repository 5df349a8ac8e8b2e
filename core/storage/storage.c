/* SPDX-License-Identifier: MIT */
#include "storage.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "fragments.h"

#define SECTOR_BYTES 512u

/* The error for bytes of a file inside a disk. */
static int complain_fragments(const struct qcow2_storage *storage, uint64_t host_offset,
                              size_t length, struct qcow2_error *error)
{
  char where[160];

  qcow2_fragments_explain(storage, host_offset, length, where, sizeof(where));
  return qcow2_error_set_errno(error, EIO, host_offset,
                               "cannot read %zu bytes at host offset %" PRIu64 " (%s)", length,
                               host_offset, where);
}

static _Thread_local uint64_t failures;

uint64_t qcow2_storage_failures(void)
{
  return failures;
}

/* A read of a file in a disk reads the disk, and may try again: failures in a read that succeeds do
   not count in the end. */
static int read_counted(const struct qcow2_storage *storage, uint64_t host_offset, void *buffer,
                        size_t length)
{
  uint64_t before = failures;
  int os_errno = storage->read(storage->context, host_offset, buffer, length);

  failures = os_errno == 0 ? before : before + 1;
  return os_errno;
}

int qcow2_storage_read(const struct qcow2_storage *storage, uint64_t host_offset, void *buffer,
                       size_t length, struct qcow2_error *error)
{
  int os_errno;

  if (length == 0)
    return 0;
  if (!range_fits(host_offset, length, storage->size))
    return qcow2_error_set_at(error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, host_offset,
                              "the file is truncated: it ends at byte %" PRIu64
                              ", and %zu bytes at host offset %" PRIu64 " are needed",
                              storage->size, length, host_offset);
  os_errno = read_counted(storage, host_offset, buffer, length);
  if (os_errno == EIO && qcow2_fragments_outer(storage) != NULL)
    return complain_fragments(storage, host_offset, length, error);
  if (os_errno != 0)
    return qcow2_error_set_errno(error, os_errno, host_offset,
                                 "cannot read %zu bytes at host offset %" PRIu64, length,
                                 host_offset);
  return 0;
}

bool qcow2_storage_read_what_is_there(const struct qcow2_storage *storage, uint64_t host_offset,
                                      uint8_t *buffer, size_t length)
{
  size_t there = 0;

  if (qcow2_storage_read(storage, host_offset, buffer, length, NULL) == 0)
    return true;
  if (host_offset < storage->size)
    there = (size_t) min_u64(length, storage->size - host_offset);
  memset(buffer + there, 0, length - there);
  for (size_t at = 0; at < there; at += SECTOR_BYTES) {
    size_t count = (size_t) min_u64(SECTOR_BYTES, there - at);

    if (qcow2_storage_read(storage, host_offset + at, buffer + at, count, NULL) != 0)
      memset(buffer + at, 0, count);
  }
  return false;
}

void qcow2_storage_close(struct qcow2_storage *storage)
{
  if (storage->close != NULL)
    storage->close(storage->context);
  memset(storage, 0, sizeof(*storage));
}
