/* SPDX-License-Identifier: MIT */
/* A storage over a file of the operating system, without its read function (file_posix.c,
   file_windows.c). */
#include "file.h"

#include <stdlib.h>
#include <unistd.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "storage.h"

static void file_close(void *context)
{
  struct qcow2_file *file = context;

  close(file->descriptor);
  free(file);
}

int qcow2_storage_from_descriptor(int descriptor, uint64_t size, struct qcow2_storage *storage,
                                  struct qcow2_error *error)
{
  struct qcow2_file *file = malloc(sizeof(*file));

  if (file == NULL)
    return qcow2_error_set_nomem(error);
  file->descriptor = descriptor;
  *storage = (struct qcow2_storage){
    .context = file, .size = size, .read = qcow2_file_read, .close = file_close
  };
  return 0;
}

uint64_t qcow2_storage_next_data(const struct qcow2_storage *storage, uint64_t host_offset)
{
  if (!qcow2_storage_is_file(storage))
    return host_offset;
  return min_u64(qcow2_file_next_data(storage->context, host_offset), storage->size);
}

uint64_t qcow2_storage_next_hole(const struct qcow2_storage *storage, uint64_t host_offset)
{
  if (!qcow2_storage_is_file(storage))
    return storage->size;
  return min_u64(qcow2_file_next_hole(storage->context, host_offset), storage->size);
}

bool qcow2_storage_is_file(const struct qcow2_storage *storage)
{
  return storage->read == qcow2_file_read;
}
