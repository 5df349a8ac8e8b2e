/* SPDX-License-Identifier: MIT */
/* The POSIX file storage. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "../base/error.h"
#include "storage.h"

_Static_assert(sizeof(off_t) >= 8, "offsets beyond 2 GiB");

struct file {
  int descriptor;
};

static int file_read(void *context, uint64_t offset, void *buffer, size_t length)
{
  const struct file *file = context;
  char *out = buffer;

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

static void file_close(void *context)
{
  struct file *file = context;

  close(file->descriptor);
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
