/* SPDX-License-Identifier: MIT */
/* Reading a file, on POSIX systems. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* SEEK_DATA */
#endif
#include "file.h"

#include <errno.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) >= 8, "offsets beyond 2 GiB");

int qcow2_file_read(void *context, uint64_t offset, void *buffer, size_t length)
{
  const struct qcow2_file *file = context;
  char *out = buffer;

  offset += file->start;
  while (length > 0) {
    ssize_t count = pread(file->descriptor, out, length, (off_t) offset);

    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return errno;
    if (count == 0) /* the file shrank since it was opened */
      return EIO;
    out += count;
    offset += (uint64_t) count;
    length -= (size_t) count;
  }
  return 0;
}

uint64_t qcow2_file_next_data(const struct qcow2_file *file, uint64_t offset)
{
#ifdef SEEK_DATA
  /* pread() needs no position */
  off_t found = lseek(file->descriptor, (off_t) (file->start + offset), SEEK_DATA);

  if (found >= 0)
    return (uint64_t) found - file->start;
  return errno == ENXIO ? UINT64_MAX : offset;
#else
  (void) file;
  return offset;
#endif
}

uint64_t qcow2_file_next_hole(const struct qcow2_file *file, uint64_t offset)
{
#ifdef SEEK_HOLE
  off_t found = lseek(file->descriptor, (off_t) offset, SEEK_HOLE);

  return found >= 0 ? (uint64_t) found : UINT64_MAX;
#else
  (void) file;
  (void) offset;
  return UINT64_MAX;
#endif
}
