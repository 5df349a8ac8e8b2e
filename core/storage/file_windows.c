/* SPDX-License-Identifier: MIT */
/* Reading a file, on Windows. The descriptor belongs to the C library; it has a handle. */
#include "file.h"

#include <errno.h>
#include <io.h>
#include <windows.h>

#include "../base/checked.h"

/* The most bytes that one system call is asked for. */
#define PIECE_BYTES_MAX (UINT32_C(1) << 30)

int qcow2_file_read(void *context, uint64_t offset, void *buffer, size_t length)
{
  const struct qcow2_file *file = context;
  HANDLE handle = (HANDLE) _get_osfhandle(file->descriptor);
  char *out = buffer;

  offset += file->start;
  while (length > 0) {
    OVERLAPPED at = { .Offset = (DWORD) offset, .OffsetHigh = (DWORD) (offset >> 32) };
    DWORD count = 0;

    if (!ReadFile(handle, out, (DWORD) min_u64(length, PIECE_BYTES_MAX), &count, &at) || count == 0)
      return EIO; /* also if the file shrank since it was opened */
    out += count;
    offset += count;
    length -= count;
  }
  return 0;
}

uint64_t qcow2_file_next_data(const struct qcow2_file *file, uint64_t offset)
{
  (void) file;
  return offset;
}

uint64_t qcow2_file_next_hole(const struct qcow2_file *file, uint64_t offset)
{
  (void) file;
  (void) offset;
  return UINT64_MAX;
}
