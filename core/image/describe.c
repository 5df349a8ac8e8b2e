/* SPDX-License-Identifier: MIT */
/* The public functions about an image that read nothing from its files. */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include "../base/error.h"
#include "../storage/watch.h"
#include "image.h"

const char *qcow2_version(void)
{
  return PACKAGE_VERSION;
}

size_t qcow2_layer_count(const struct qcow2_image *image)
{
  return image->chain.count;
}

int qcow2_layer_get(const struct qcow2_image *image, size_t index, struct qcow2_layer_info *info,
                    struct qcow2_error *error)
{
  const struct qcow2_layer *layer;

  if (index >= image->chain.count)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "layer %zu: the chain has %zu", index,
                           image->chain.count);
  layer = image->chain.layers[index];
  *info = (struct qcow2_layer_info){ .path = layer->file.path,
                                     .data_path = layer->data_file.path,
                                     .format = layer->format,
                                     .is_raw = layer->is_raw,
                                     .file_size = layer->file_size,
                                     .allocated_size = layer->file.allocated_size,
                                     .needed_size = layer->needed_size,
                                     .data_format = layer->data_format,
                                     .size = layer->size,
                                     .offset = layer->file.start,
                                     .written = layer->file.stamp.written,
                                     .is_hidden = layer->metadata.is_hidden,
                                     .header = layer->is_raw ? NULL : &layer->metadata.header };
  return 0;
}

int qcow2_layer_changed(const struct qcow2_image *image, size_t index, char *sentence, size_t size)
{
  const struct qcow2_layer *layer = index < image->chain.count ? image->chain.layers[index] : NULL;

  return layer != NULL && (qcow2_watch_has_changed(&layer->file, sentence, size) ||
                           qcow2_watch_has_changed(&layer->data_file, sentence, size));
}

const struct qcow2_extension *qcow2_extension_get(const struct qcow2_image *image, size_t layer,
                                                  size_t index)
{
  const struct qcow2_metadata *metadata;

  if (layer >= image->chain.count)
    return NULL;
  metadata = &image->chain.layers[layer]->metadata;
  return index < metadata->extension_count ? &metadata->extensions[index] : NULL;
}

const char *qcow2_feature_name(const struct qcow2_image *image, enum qcow2_feature_type type,
                               unsigned bit)
{
  return qcow2_metadata_feature_name(&image->chain.layers[0]->metadata, type, bit);
}

int qcow2_image_is_damaged(const struct qcow2_image *image)
{
  return image->warnings.of_damage;
}

const char *qcow2_warning(const struct qcow2_image *image, size_t index)
{
  return index < image->warnings.count ? image->warnings.sentences[index] : NULL;
}
