/* SPDX-License-Identifier: MIT */
/* The files of the chain as they are stored, without what they mean. */
#include <inttypes.h>
#include <stdbool.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../storage/storage.h"
#include "image.h"

/* The file's bytes. NULL: there is no such file, or its storage gives those of a disk in it. */
static const struct qcow2_storage *find_storage(const struct qcow2_image *image, size_t index,
                                                enum qcow2_layer_file file)
{
  const struct qcow2_layer *layer = index < image->chain.count ? image->chain.layers[index] : NULL;
  const struct qcow2_opened_file *opened;
  bool is_own;

  if (layer == NULL)
    return NULL;
  if (file == QCOW2_FILE_IMAGE && !layer->is_raw)
    return &layer->file.storage;
  opened = file == QCOW2_FILE_IMAGE ? &layer->file : &layer->data_file;
  is_own = opened->file_system != NULL || /* inside a disk, no other formats are read */
           (opened->storage.read != NULL && qcow2_storage_is_file(&opened->storage));
  return is_own ? &opened->storage : NULL;
}

uint64_t qcow2_layer_file_size(const struct qcow2_image *image, size_t layer,
                               enum qcow2_layer_file file)
{
  const struct qcow2_storage *storage = find_storage(image, layer, file);

  return storage == NULL ? 0 : storage->size;
}

int qcow2_layer_read(const struct qcow2_image *image, size_t layer, enum qcow2_layer_file file,
                     uint64_t host_offset, void *buffer, size_t length, struct qcow2_error *error)
{
  const struct qcow2_storage *storage = find_storage(image, layer, file);

  if (layer >= image->chain.count)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "layer %zu: the chain has %zu", layer,
                           image->chain.count);
  if (file == QCOW2_FILE_DATA && image->chain.layers[layer]->data_format == NULL)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "layer %zu has no data file", layer);
  if (storage == NULL)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "only the disk in this file is known, and not the file's own bytes");
  return qcow2_storage_read(storage, host_offset, buffer, length, error);
}

uint64_t qcow2_layer_stored(const struct qcow2_image *image, size_t layer,
                            enum qcow2_layer_file file, uint64_t host_offset, int *is_stored)
{
  const struct qcow2_storage *storage = find_storage(image, layer, file);
  uint64_t next;

  *is_stored = 1;
  if (storage == NULL || host_offset >= storage->size)
    return 0;
  next = qcow2_storage_next_data(storage, host_offset);
  *is_stored = next == host_offset;
  if (*is_stored)
    next = qcow2_storage_next_hole(storage, host_offset);
  /* The file may have changed between the two questions. */
  return next > host_offset ? next - host_offset : min_u64(512, storage->size - host_offset);
}
