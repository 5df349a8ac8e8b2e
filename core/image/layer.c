/* SPDX-License-Identifier: MIT */
#include "layer.h"

#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../format/formats.h"
#include "../storage/storage.h"
#include "not_qcow2.h"

/* ---- Making ------------------------------------------------------------- */

static struct qcow2_layer *layer_new(struct qcow2_opened_file *file,
                                     const struct qcow2_shared *shared, uint64_t number)
{
  struct qcow2_layer *layer = calloc(1, sizeof(*layer));

  if (layer == NULL) {
    qcow2_opened_file_close(file);
    return NULL;
  }
  layer->file = *file;
  layer->format = "qcow2";
  layer->file_size = file->storage.size;
  layer->data_file = (struct qcow2_opened_file) OPENED_FILE_NONE;
  layer->source = (struct qcow2_cluster_source){ .data = &layer->file.storage,
                                                 .encrypted = { .storage = &layer->file.storage,
                                                                .cache = shared->cluster_cache,
                                                                .cache_owner = number },
                                                 .compressed = { .storage = &layer->file.storage,
                                                                 .cache = shared->cluster_cache,
                                                                 .cache_owner = number,
                                                                 .pool = shared->pool } };
  return layer;
}

int qcow2_layer_new_raw(struct qcow2_opened_file *file, const struct qcow2_shared *shared,
                        uint64_t number, const struct qcow2_contents *contents,
                        struct qcow2_layer **layer, struct qcow2_error *error)
{
  *layer = layer_new(file, shared, number);
  if (*layer == NULL)
    return qcow2_error_set_nomem(error);
  (*layer)->is_raw = true;
  (*layer)->format = contents->format;
  (*layer)->file_size = contents->file_size;
  memcpy((*layer)->warning, contents->warning, sizeof(contents->warning));
  (*layer)->size = (*layer)->file.storage.size;
  return 0;
}

/* Keep the backing file's name that is not in cluster 0, to show it and to search for the file. If
   it cannot be read, or is too long, it stays empty. Errors: NOMEM. */
static int keep_outside_name(const struct qcow2_storage *storage, struct qcow2_metadata *metadata,
                             struct qcow2_error *error)
{
  uint8_t name[BACKING_NAME_BYTES_MAX];

  if (metadata->backing_problem == NULL || metadata->backing_name_length > sizeof(name) ||
      !range_fits(metadata->backing_name_offset, metadata->backing_name_length, storage->size) ||
      qcow2_storage_read(storage, metadata->backing_name_offset, name,
                         metadata->backing_name_length, NULL) != 0)
    return 0;
  return qcow2_metadata_keep_name(metadata, name, error);
}

/* Read and decode cluster 0. */
static int read_metadata(const struct qcow2_storage *storage, uint32_t given_length,
                         struct qcow2_metadata *metadata, struct qcow2_error *error)
{
  uint8_t start[HEADER_BYTES_TO_PROBE], *cluster;
  size_t length = (size_t) min_u64(storage->size, sizeof(start));
  int code = qcow2_storage_read(storage, 0, start, length, error);

  if (code == 0 && !qcow2_header_is_qcow(start, length))
    return qcow2_not_qcow2_explain(storage, error);
  if (code == 0)
    code = qcow2_header_measure(start, length, &length, error);
  if (code != 0)
    return code;
  length = (size_t) min_u64(storage->size, length);
  cluster = malloc(length);
  if (cluster == NULL)
    return qcow2_error_set_nomem(error);
  code = qcow2_storage_read(storage, 0, cluster, length, error);
  if (code == 0)
    code = qcow2_header_decode(cluster, length, given_length, metadata, error);
  free(cluster);
  if (code != 0)
    return code;
  code = keep_outside_name(storage, metadata, error);
  if (code != 0)
    qcow2_metadata_free(metadata);
  return code;
}

int qcow2_layer_read_header(const struct qcow2_opened_file *file, uint32_t header_length,
                            struct qcow2_metadata *metadata, struct qcow2_error *error)
{
  return read_metadata(&file->storage, header_length, metadata, error);
}

/* Derive everything that is known from the metadata. */
static void set_geometry(struct qcow2_layer *layer, const struct qcow2_shared *shared,
                         uint64_t number)
{
  if (layer->metadata.header.version == 1)
    layer->format = "qcow";
  layer->size = layer->metadata.header.size;
  layer->geometry = qcow2_geometry_of(&layer->metadata.header);
  layer->tables = (struct qcow2_tables){ .geometry = &layer->geometry,
                                         .slices = { .storage = &layer->file.storage,
                                                     .cache = shared->small_cache,
                                                     .cache_owner = number,
                                                     .cluster_size = layer->geometry.cluster_size },
                                         .l1_offset = layer->metadata.header.l1_offset,
                                         .l1_size = layer->metadata.header.l1_size };
  layer->source.encrypted.cluster_size = layer->geometry.cluster_size;
  layer->source.compressed.cluster_size = layer->geometry.cluster_size;
  layer->source.compressed.compression = layer->metadata.header.compression;
}

int qcow2_layer_new_of(struct qcow2_opened_file *file, const struct qcow2_shared *shared,
                       uint64_t number, struct qcow2_metadata *metadata, struct qcow2_layer **out,
                       struct qcow2_error *error)
{
  struct qcow2_layer *layer = layer_new(file, shared, number);

  if (layer == NULL) {
    qcow2_metadata_free(metadata);
    return qcow2_error_set_nomem(error);
  }
  layer->metadata = *metadata;
  set_geometry(layer, shared, number);
  *out = layer;
  return 0;
}

int qcow2_layer_new_qcow2(struct qcow2_opened_file *file, const struct qcow2_shared *shared,
                          uint64_t number, uint32_t header_length, struct qcow2_layer **out,
                          struct qcow2_error *error)
{
  struct qcow2_metadata metadata;
  int code = read_metadata(&file->storage, header_length, &metadata, error);

  if (code != 0) {
    qcow2_error_add_file(error, code, file->path);
    qcow2_opened_file_close(file);
    return code;
  }
  return qcow2_layer_new_of(file, shared, number, &metadata, out, error);
}

void qcow2_layer_free(struct qcow2_layer *layer)
{
  if (layer == NULL)
    return;
  qcow2_cipher_free(layer->cipher);
  free(layer->lost_header);
  qcow2_metadata_free(&layer->metadata);
  qcow2_opened_file_close(&layer->data_file);
  qcow2_opened_file_close(&layer->file);
  free(layer);
}

void qcow2_layer_set_data_file(struct qcow2_layer *layer, struct qcow2_opened_file *data_file,
                               const struct qcow2_contents *contents)
{
  memcpy(layer->warning, contents->warning, sizeof(layer->warning));
  layer->data_format = contents->format;
  layer->data_file = *data_file;
  layer->source.data = &layer->data_file.storage;
  layer->source.encrypted.storage = &layer->data_file.storage;
}

void qcow2_layer_set_cipher(struct qcow2_layer *layer, struct qcow2_cipher *cipher)
{
  layer->cipher = cipher;
  layer->source.encrypted.cipher = cipher;
  layer->source.encrypted.cipher_counts_guest = layer->metadata.header.crypt_method ==
                                                CRYPT_METHOD_AES;
}

int qcow2_layer_probe(const struct qcow2_opened_file *file, uint32_t *version,
                      struct qcow2_error *error)
{
  uint8_t start[HEADER_BYTES_TO_PROBE];
  size_t length = (size_t) min_u64(file->storage.size, sizeof(start));
  int code = qcow2_storage_read(&file->storage, 0, start, length, error);

  if (code == 0)
    *version = qcow2_format_qcow_version(start, length);
  return code;
}

/* ---- Mapping ------------------------------------------------------------ */

/* A run that is in no table: the bytes of a raw file, or bytes past the end of the layer. */
static struct qcow2_mapping mapping_without_table(enum qcow2_cluster_kind kind,
                                                  uint64_t guest_offset, uint64_t length)
{
  return (struct qcow2_mapping){ .kind = kind,
                                 .guest_offset = guest_offset,
                                 .length = length,
                                 .host_offset = kind == QCOW2_CLUSTER_NORMAL ? guest_offset
                                                                             : QCOW2_NO_OFFSET,
                                 .table_offset = QCOW2_NO_OFFSET };
}

void qcow2_layer_cut_at_file_end(const struct qcow2_layer *layer, struct qcow2_mapping *mapping)
{
  uint64_t file_size = layer->source.data->size;
  uint64_t end = layer->cipher == NULL ? file_size
                                       : file_size - file_size % ENCRYPTION_SECTOR_BYTES;

  if (mapping->kind == QCOW2_CLUSTER_NORMAL && mapping->host_offset < end)
    mapping->length = min_u64(mapping->length, end - mapping->host_offset);
}

int qcow2_layer_map(const struct qcow2_layer *layer, const struct qcow2_tables *tables,
                    uint64_t size, uint64_t guest_offset, uint64_t length,
                    struct qcow2_mapping *mapping, struct qcow2_error *error)
{
  int code;

  if (guest_offset >= size) {
    *mapping = mapping_without_table(QCOW2_CLUSTER_ZERO, guest_offset, length);
    return 0;
  }
  length = min_u64(length, size - guest_offset);
  if (layer->is_raw) {
    *mapping = mapping_without_table(QCOW2_CLUSTER_NORMAL, guest_offset, length);
    return 0;
  }
  code = qcow2_mapping_find(tables, guest_offset, length, mapping, error);
  if (code == 0)
    qcow2_layer_cut_at_file_end(layer, mapping);
  else /* past the end of the layer there are zeros, even if its tables are damaged */
    mapping->length = min_u64(mapping->length, size - guest_offset);
  return code;
}

bool qcow2_layer_is_covered(const struct qcow2_layer *layer, const struct qcow2_mapping *mapping)
{
  return mapping->kind == QCOW2_CLUSTER_ZERO_ALLOCATED && !layer->geometry.extended_l2;
}

void qcow2_layer_uncover(const struct qcow2_layer *layer, struct qcow2_mapping *mapping)
{
  if (!qcow2_layer_is_covered(layer, mapping))
    return;
  mapping->kind = QCOW2_CLUSTER_NORMAL;
  qcow2_layer_cut_at_file_end(layer, mapping);
}
