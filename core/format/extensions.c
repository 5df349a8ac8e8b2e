/* SPDX-License-Identifier: MIT */
#include "extensions.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"

#define EXTENSION_HEADER_BYTES 8u
#define FEATURE_ENTRY_BYTES 48u
#define ENCRYPTION_EXTENSION_BYTES 16u

/* The host offset after `extension`, whose data are padded to 8 bytes. */
static uint64_t extension_end(const struct qcow2_extension *extension)
{
  return extension->host_offset + ((extension->length + UINT64_C(7)) & ~UINT64_C(7));
}

/* Read the extension at `offset`. *more is false at the end of the list. */
static int extension_next(const uint8_t *bytes, size_t length, uint64_t offset, uint64_t area_end,
                          struct qcow2_extension *extension, bool *more, struct qcow2_error *error)
{
  *more = false;
  if (!range_fits(offset, EXTENSION_HEADER_BYTES, area_end))
    return 0;
  if (!range_fits(offset, EXTENSION_HEADER_BYTES, length))
    return qcow2_error_set_at(error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, offset,
                              "the file is truncated: it ends among the header extensions");
  *extension = (struct qcow2_extension){ .type = be32_get(bytes + offset),
                                         .length = be32_get(bytes + offset + 4),
                                         .host_offset = offset + EXTENSION_HEADER_BYTES };
  if (extension->type == EXTENSION_END)
    return 0;
  if (!range_fits(extension->host_offset, extension->length, area_end))
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, offset,
                              "the header extension 0x%08" PRIx32 " at host offset %" PRIu64
                              " is %" PRIu32 " bytes long and leaves the header extension area",
                              extension->type, offset, extension->length);
  if (!range_fits(extension->host_offset, extension->length, length))
    return qcow2_error_set_at(error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, offset,
                              "the file is truncated: it ends inside a header extension");
  *more = true;
  return 0;
}

/* Keep a string extension, or its first `length` bytes. If there are several, the last one is used,
   as in QEMU. */
static int keep_string(const struct qcow2_extension *extension, size_t length, char **owned,
                       const char **text, size_t *text_length, struct qcow2_error *error)
{
  char *copy = qcow2_text_copy(extension->data, length);

  if (copy == NULL)
    return qcow2_error_set_nomem(error);
  free(*owned);
  *owned = copy;
  *text = copy;
  *text_length = length;
  return 0;
}

/* If a format's name is too long, only its beginning is kept: it is unknown in any case. */
static int keep_backing_format(const struct qcow2_extension *extension,
                               struct qcow2_metadata *metadata, struct qcow2_error *error)
{
  struct qcow2_header *header = &metadata->header;

  return keep_string(extension, (size_t) min_u64(extension->length, EXTENSION_NAME_BYTES_MAX),
                     &metadata->backing_format, &header->backing_format,
                     &header->backing_format_length, error);
}

/* If a file's name is too long, there is no such file, and its beginning would name another file.
   So it is treated as if there were no name. */
static int keep_data_file(const struct qcow2_extension *extension, struct qcow2_metadata *metadata,
                          struct qcow2_error *error)
{
  struct qcow2_header *header = &metadata->header;

  if (extension->length <= EXTENSION_NAME_BYTES_MAX)
    return keep_string(extension, extension->length, &metadata->data_file, &header->data_file,
                       &header->data_file_length, error);
  free(metadata->data_file);
  metadata->data_file = NULL;
  header->data_file = NULL;
  header->data_file_length = 0;
  return 0;
}

static int keep_feature_names(const struct qcow2_extension *extension,
                              struct qcow2_metadata *metadata, struct qcow2_error *error)
{
  size_t count = extension->length / FEATURE_ENTRY_BYTES;
  struct qcow2_feature_entry *entries = calloc(count + 1, sizeof(*entries));

  if (entries == NULL)
    return qcow2_error_set_nomem(error);
  for (size_t i = 0; i < count; i++) {
    const uint8_t *bytes = extension->data + i * FEATURE_ENTRY_BYTES;

    entries[i].type = bytes[0];
    entries[i].bit = bytes[1];
    memcpy(entries[i].name, bytes + 2, FEATURE_NAME_BYTES);
  }
  free(metadata->features);
  metadata->features = entries;
  metadata->feature_count = count;
  return 0;
}

/* Keep the offset of the LUKS header. No file reaches an offset above INT64_MAX. */
static int keep_encryption(const struct qcow2_extension *extension, struct qcow2_metadata *metadata,
                           struct qcow2_error *error)
{
  if (extension->length < ENCRYPTION_EXTENSION_BYTES)
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, extension->host_offset,
                              "the encryption header extension is %" PRIu32
                              " bytes long; it must be 16",
                              extension->length);
  metadata->luks_offset = be64_get(extension->data);
  metadata->luks_length = be64_get(extension->data + 8);
  if (metadata->luks_offset > INT64_MAX || metadata->luks_length > INT64_MAX)
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, extension->host_offset,
                              "the encryption header extension names host offset %" PRIu64
                              " and %" PRIu64 " bytes, more than a file can have",
                              metadata->luks_offset, metadata->luks_length);
  metadata->has_luks = true;
  return 0;
}

/* Keep the first bitmaps extension. */
static void keep_bitmaps(const struct qcow2_extension *extension, struct qcow2_metadata *metadata)
{
  if (metadata->has_bitmaps)
    return;
  metadata->has_bitmaps = true;
  metadata->bitmaps = *extension;
  metadata->bitmaps.data = NULL;
  memcpy(metadata->bitmaps_data, extension->data,
         (size_t) min_u64(extension->length, sizeof(metadata->bitmaps_data)));
}

static int understand(const struct qcow2_extension *extension, struct qcow2_metadata *metadata,
                      struct qcow2_error *error)
{
  switch (extension->type) {
  case EXTENSION_BACKING_FORMAT: return keep_backing_format(extension, metadata, error);
  case EXTENSION_DATA_FILE: return keep_data_file(extension, metadata, error);
  case EXTENSION_FEATURE_NAMES: return keep_feature_names(extension, metadata, error);
  case EXTENSION_BITMAPS: keep_bitmaps(extension, metadata); return 0;
  case EXTENSION_ENCRYPTION: return keep_encryption(extension, metadata, error);
  case EXTENSION_XCP_NG:
    metadata->is_hidden = extension->length > 0 && extension->data[0] != 0;
    return 0;
  default: return 0;
  }
}

/* Count the extensions that will be kept, and find the end of the last extension. */
static int measure(const uint8_t *bytes, size_t length, uint64_t area_start, uint64_t area_end,
                   struct qcow2_metadata *metadata, size_t *count, uint64_t *end,
                   struct qcow2_error *error)
{
  struct qcow2_extension extension;
  bool more;

  *end = area_start;
  *count = 0;
  for (uint64_t offset = area_start;; offset = extension_end(&extension)) {
    int code = extension_next(bytes, length, offset, area_end, &extension, &more, error);

    if (code != 0 || !more)
      return code;
    *end = extension.host_offset + extension.length;
    metadata->has_more_extensions = *count == EXTENSIONS_KEPT_MAX;
    *count += !metadata->has_more_extensions;
  }
}

int qcow2_extensions_decode(const uint8_t *bytes, size_t length, uint64_t area_start,
                            uint64_t area_end, struct qcow2_metadata *metadata,
                            struct qcow2_error *error)
{
  struct qcow2_extension extension;
  uint64_t end;
  size_t count;
  bool more = true;
  int code = measure(bytes, length, area_start, area_end, metadata, &count, &end, error);

  if (code != 0)
    return code;
  metadata->extensions = calloc(count + 1, sizeof(extension));
  metadata->extension_data = malloc((size_t) (end - area_start) + 1);
  if (metadata->extensions == NULL || metadata->extension_data == NULL)
    return qcow2_error_set_nomem(error);
  if (end > area_start)
    memcpy(metadata->extension_data, bytes + area_start, (size_t) (end - area_start));
  for (uint64_t offset = area_start; code == 0; offset = extension_end(&extension)) {
    code = extension_next(bytes, length, offset, area_end, &extension, &more, error);
    if (code != 0 || !more)
      break;
    extension.data = metadata->extension_data + (extension.host_offset - area_start);
    if (metadata->extension_count < count)
      metadata->extensions[metadata->extension_count++] = extension;
    code = understand(&extension, metadata, error);
  }
  return code;
}

void qcow2_metadata_drop_data(struct qcow2_metadata *metadata)
{
  for (size_t i = 0; i < metadata->extension_count; i++)
    metadata->extensions[i].data = NULL;
  free(metadata->extension_data);
  metadata->extension_data = NULL;
  free(metadata->features);
  metadata->features = NULL;
  metadata->feature_count = 0;
}
