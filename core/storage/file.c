/* SPDX-License-Identifier: MIT */
/* A storage over a file of the operating system, without its read function (file_posix.c,
   file_windows.c). */
#include "file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "fragments.h"
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
  *file = (struct qcow2_file){ .descriptor = descriptor };
  *storage = (struct qcow2_storage){
    .context = file, .size = size, .read = qcow2_file_read, .close = file_close
  };
  return 0;
}

/* ---- Storages that begin later --------------------------------------------- */

/* A caller's storage, from `start` on. */
struct later {
  struct qcow2_storage whole;
  uint64_t start;
};

static int later_read(void *context, uint64_t offset, void *buffer, size_t length)
{
  const struct later *later = context;

  return later->whole.read(later->whole.context, later->start + offset, buffer, length);
}

static void later_close(void *context)
{
  struct later *later = context;

  qcow2_storage_close(&later->whole);
  free(later);
}

int qcow2_storage_begin_at(struct qcow2_storage *storage, uint64_t start, struct qcow2_error *error)
{
  struct later *later;

  if (start >= storage->size)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the image is said to begin at byte %" PRIu64
                           " of a file that has %" PRIu64 " bytes",
                           start, storage->size);
  if (storage->read == qcow2_file_read) {
    ((struct qcow2_file *) storage->context)->start += start;
    storage->size -= start;
    return 0;
  }
  later = malloc(sizeof(*later));
  if (later == NULL)
    return qcow2_error_set_nomem(error);
  *later = (struct later){ .whole = *storage, .start = start };
  *storage = (struct qcow2_storage){
    .context = later, .size = later->whole.size - start, .read = later_read, .close = later_close
  };
  return 0;
}

/* ---- What storages over files can do more ------------------------------------- */

uint64_t qcow2_storage_next_data(const struct qcow2_storage *storage, uint64_t host_offset)
{
  if (qcow2_fragments_outer(storage) != NULL)
    return qcow2_fragments_next(storage, host_offset, false);
  if (storage->read != qcow2_file_read)
    return host_offset;
  return min_u64(qcow2_file_next_data(storage->context, host_offset), storage->size);
}

uint64_t qcow2_storage_next_hole(const struct qcow2_storage *storage, uint64_t host_offset)
{
  if (qcow2_fragments_outer(storage) != NULL)
    return qcow2_fragments_next(storage, host_offset, true);
  if (storage->read != qcow2_file_read)
    return storage->size;
  return min_u64(qcow2_file_next_hole(storage->context, host_offset), storage->size);
}

bool qcow2_storage_is_file(const struct qcow2_storage *storage)
{
  const struct qcow2_storage *outer;

  while ((outer = qcow2_fragments_outer(storage)) != NULL)
    storage = outer;
  return storage->read == qcow2_file_read;
}
