/* SPDX-License-Identifier: MIT */
/* The file storage on Windows. A descriptor is the C library's, over a handle. */
#include <errno.h>
#include <io.h>
#include <stdlib.h>
#include <windows.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "storage.h"

/* The most that one call of the system is asked for. */
#define PIECE_BYTES_MAX (UINT32_C(1) << 30)

struct file {
  int descriptor;
};

/* The offset is the call's own: several threads may read at once. */
static int file_read(void *context, uint64_t offset, void *buffer, size_t length)
{
  const struct file *file = context;
  HANDLE handle = (HANDLE) _get_osfhandle(file->descriptor);
  char *out = buffer;

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

static void file_close(void *context)
{
  struct file *file = context;

  _close(file->descriptor);
  free(file);
}

int qcow2_storage_from_descriptor(int descriptor, uint64_t size, struct qcow2_storage *storage,
                                  struct qcow2_error *error)
{
  struct file *file = malloc(sizeof(*file));

  if (file == NULL)
    return qcow2_error_set_nomem(error);
  file->descriptor = descriptor;
  *storage = (struct qcow2_storage){
    .context = file, .size = size, .read = file_read, .close = file_close
  };
  return 0;
}

bool qcow2_storage_is_file(const struct qcow2_storage *storage)
{
  return storage->read == file_read;
}
