/* SPDX-License-Identifier: MIT */
#include "header.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"
#include "extensions.h"
#include "geometry.h"
#include "version_1.h"

#define QCOW2_MAGIC UINT32_C(0x514649fb) /* "QFI\xfb" */
#define REFCOUNT_ORDER_V2 4
#define REFCOUNT_ORDER_MAX 6

static const uint64_t KNOWN_INCOMPATIBLE = QCOW2_INCOMPATIBLE_DIRTY | QCOW2_INCOMPATIBLE_CORRUPT |
                                           QCOW2_INCOMPATIBLE_DATA_FILE |
                                           QCOW2_INCOMPATIBLE_COMPRESSION |
                                           QCOW2_INCOMPATIBLE_EXTENDED_L2;

bool qcow2_header_is_qcow(const uint8_t *bytes, size_t length)
{
  return length >= 8 && be32_get(bytes) == QCOW2_MAGIC;
}

int qcow2_header_measure(const uint8_t *bytes, size_t length, size_t *needed,
                         struct qcow2_error *error)
{
  uint32_t cluster_bits, version;

  if (!qcow2_header_is_qcow(bytes, length))
    return qcow2_error_set(error, QCOW2_ERROR_NOT_QCOW2,
                           "this is not a qcow2 image: it does not start with \"QFI\\xfb\"");
  version = be32_get(bytes + 4);
  if (version == 0)
    return qcow2_error_set(error, QCOW2_ERROR_NOT_QCOW2,
                           "this is not a qcow2 image: the header's version is 0");
  if (version > 3)
    return qcow2_error_set_at(error, QCOW2_ERROR_UNSUPPORTED, QCOW2_NO_OFFSET, 4,
                              "this is a qcow2 image of version %" PRIu32
                              "; versions 1 to 3 can be read",
                              version);
  if (version == 1) {
    *needed = VERSION_1_AREA_BYTES;
    return 0;
  }
  if (length < HEADER_BYTES_TO_PROBE)
    return qcow2_error_set_at(error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, length,
                              "the file is truncated: it ends inside the qcow2 header");
  cluster_bits = be32_get(bytes + 20);
  if (cluster_bits < CLUSTER_BITS_MIN || cluster_bits > CLUSTER_BITS_MAX)
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, 20,
                              "the header's cluster_bits is %" PRIu32 "; it must be %d to %d",
                              cluster_bits, CLUSTER_BITS_MIN, CLUSTER_BITS_MAX);
  *needed = (size_t) 1 << cluster_bits;
  return 0;
}

/* ---- Fields ------------------------------------------------------------ */

static void decode_common(const uint8_t *bytes, struct qcow2_header *header)
{
  header->version = be32_get(bytes + 4);
  header->cluster_bits = be32_get(bytes + 20);
  header->size = be64_get(bytes + 24);
  header->crypt_method = be32_get(bytes + 32);
  header->l1_size = be32_get(bytes + 36);
  header->l1_offset = be64_get(bytes + 40);
  header->refcount_table_offset = be64_get(bytes + 48);
  header->refcount_table_clusters = be32_get(bytes + 56);
  header->snapshot_count = be32_get(bytes + 60);
  header->snapshots_offset = be64_get(bytes + 64);
  header->refcount_order = REFCOUNT_ORDER_V2;
  header->header_length = HEADER_BYTES_V2;
}

/* The type of the compression, which is there only if the header is long enough. */
static unsigned compression_get(const uint8_t *bytes, size_t length, uint32_t header_length)
{
  return header_length > HEADER_BYTES_V3 && length > HEADER_BYTES_V3 ? bytes[HEADER_BYTES_V3] : 0;
}

static bool flags_compression(const struct qcow2_header *header)
{
  return (header->incompatible_features & QCOW2_INCOMPATIBLE_COMPRESSION) != 0;
}

/* The fields that version 3 added. `*compression` is the compression type's number. If that cannot
   be right, `given_length` (0: none) replaces the header's length. */
static void decode_version_3(const uint8_t *bytes, size_t length, uint32_t given_length,
                             struct qcow2_metadata *metadata, unsigned *compression)
{
  struct qcow2_header *header = &metadata->header;

  header->incompatible_features = be64_get(bytes + 72);
  header->compatible_features = be64_get(bytes + 80);
  header->autoclear_features = be64_get(bytes + 88);
  header->refcount_order = be32_get(bytes + 96);
  header->header_length = be32_get(bytes + 100);
  *compression = compression_get(bytes, length, header->header_length);
  metadata->is_header_length_corrected = *compression != 0 && !flags_compression(header) &&
                                         given_length != 0 && given_length < header->header_length;
  if (!metadata->is_header_length_corrected)
    return;
  header->header_length = given_length;
  *compression = compression_get(bytes, length, given_length);
}

static int field_error(struct qcow2_error *error, uint64_t host_offset, const char *field,
                       uint64_t value, const char *rule)
{
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, host_offset,
                            "the header's %s is %" PRIu64 "; it must be %s", field, value, rule);
}

/* A table at the offset of the header is an error only when it is read. */
static int check_l1(const struct qcow2_header *header, struct qcow2_error *error)
{
  struct qcow2_geometry geometry = qcow2_geometry_of(header);
  uint64_t needed = qcow2_geometry_l1_entries(&geometry, header->size);
  enum qcow2_l1_problem problem = qcow2_geometry_l1_problem(&geometry, header->l1_offset,
                                                            header->l1_size);

  if (problem == L1_TOO_LARGE)
    return field_error(error, 36, "l1_size", header->l1_size,
                       "at most 4194304 (an L1 table of 32 MiB)");
  if (header->l1_size < needed)
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, 36,
                              "the header's l1_size is %" PRIu32
                              ", too small for the virtual size of "
                              "%" PRIu64 " bytes, which needs %" PRIu64 " entries",
                              header->l1_size, header->size, needed);
  if (problem == L1_UNALIGNED || problem == L1_TOO_FAR)
    return field_error(error, 40, "l1_table_offset", header->l1_offset,
                       "a multiple of the cluster size below 2^63");
  return 0;
}

/* A program once counted the extensions into the header's length. Then the first byte of the first
   extension is where the compression type would be. */
static int check_length(const struct qcow2_header *header, const uint8_t *bytes, size_t length,
                        struct qcow2_error *error)
{
  uint32_t cluster_size = UINT32_C(1) << header->cluster_bits, type;

  if (flags_compression(header) || header->header_length < HEADER_BYTES_V3 + 8 ||
      length < HEADER_BYTES_V3 + 8)
    return 0;
  type = be32_get(bytes + HEADER_BYTES_V3);
  if (type >> 24 == 0 ||
      !range_fits(HEADER_BYTES_V3 + 8, be32_get(bytes + HEADER_BYTES_V3 + 4), cluster_size))
    return 0;
  qcow2_error_set_at(
      error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, 100,
      "the header's header_length is %" PRIu32
      ", so byte 104 would be a compression type, %u, which the feature bits do not "
      "announce; it seems that the header ends there, and that the length counts the "
      "header extensions too, of which the first would be 0x%08" PRIx32,
      header->header_length, bytes[HEADER_BYTES_V3], type);
  return qcow2_error_add_help(error, QCOW2_ERROR_CORRUPT, QCOW2_HELP_HEADER_LENGTH, 0);
}

static int check_compression(const struct qcow2_header *header, unsigned compression,
                             struct qcow2_error *error)
{
  bool flagged = flags_compression(header);

  if (compression > QCOW2_COMPRESSION_ZSTD)
    return qcow2_error_set_at(
        error, QCOW2_ERROR_UNSUPPORTED, QCOW2_NO_OFFSET, HEADER_BYTES_V3,
        "the image's compression type is %u; 0 (deflate) and 1 (zstd) can be read", compression);
  if (flagged != (compression != 0))
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, HEADER_BYTES_V3,
                              "the header's compression type is %u, but its incompatible feature "
                              "bit 3 (compression type) is %s",
                              compression, flagged ? "set" : "not set");
  return 0;
}

static int check_fields(const struct qcow2_header *header, struct qcow2_error *error)
{
  uint32_t cluster_size = UINT32_C(1) << header->cluster_bits;
  bool extended = (header->incompatible_features & QCOW2_INCOMPATIBLE_EXTENDED_L2) != 0;

  if (header->version >= 3 &&
      (header->header_length < HEADER_BYTES_V3 || header->header_length > cluster_size))
    return field_error(error, 100, "header_length", header->header_length,
                       "104 up to the cluster size");
  if (header->crypt_method > CRYPT_METHOD_LUKS)
    return field_error(error, 32, "crypt_method", header->crypt_method, "0, 1 or 2");
  if (header->refcount_order > REFCOUNT_ORDER_MAX)
    return field_error(error, 96, "refcount_order", header->refcount_order, "at most 6");
  if (extended && header->cluster_bits < CLUSTER_BITS_MIN_EXTENDED)
    return field_error(error, 20, "cluster_bits", header->cluster_bits,
                       "at least 14 with extended L2 entries");
  return check_l1(header, error);
}

/* ---- Backing file name -------------------------------------------------- */

static int keep_backing_name(struct qcow2_metadata *metadata, const uint8_t *name, size_t length,
                             struct qcow2_error *error)
{
  char *copy = qcow2_text_copy(name, length);

  if (copy == NULL)
    return qcow2_error_set_nomem(error);
  free(metadata->backing_file);
  metadata->backing_file = copy;
  metadata->header.backing_file = copy;
  metadata->header.backing_file_length = length;
  return 0;
}

int qcow2_metadata_keep_name(struct qcow2_metadata *metadata, const uint8_t *name,
                             struct qcow2_error *error)
{
  return keep_backing_name(metadata, name, metadata->backing_name_length, error);
}

static int decode_backing_name(const uint8_t *bytes, size_t length, struct qcow2_metadata *metadata,
                               struct qcow2_error *error)
{
  uint32_t cluster_size = UINT32_C(1) << metadata->header.cluster_bits;
  uint64_t host_offset = be64_get(bytes + 8);
  uint32_t name_length = be32_get(bytes + 16);

  if (host_offset == 0 || name_length == 0)
    return 0;
  metadata->backing_name_offset = host_offset;
  metadata->backing_name_length = name_length;
  if (name_length > BACKING_NAME_BYTES_MAX)
    metadata->backing_problem = "its name is longer than 1023 bytes, which the format forbids";
  else if (!range_fits(host_offset, name_length, cluster_size))
    metadata->backing_problem =
        "its name does not lie in the first cluster, where the format wants it";
  if (metadata->backing_problem != NULL)
    return keep_backing_name(metadata, bytes, 0, error);
  if (!range_fits(host_offset, name_length, length))
    return qcow2_error_set_at(error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, host_offset,
                              "the file is truncated: it ends inside the backing file's name");
  return keep_backing_name(metadata, bytes + host_offset, name_length, error);
}

/* ---- Features ----------------------------------------------------------- */

const char *qcow2_metadata_feature_name(const struct qcow2_metadata *metadata,
                                        enum qcow2_feature_type type, unsigned bit)
{
  static const struct {
    enum qcow2_feature_type type;
    unsigned bit;
    const char *name;
  } known[] = {
    { QCOW2_FEATURE_INCOMPATIBLE, 0, "dirty bit" },
    { QCOW2_FEATURE_INCOMPATIBLE, 1, "corrupt bit" },
    { QCOW2_FEATURE_INCOMPATIBLE, 2, "external data file" },
    { QCOW2_FEATURE_INCOMPATIBLE, 3, "compression type" },
    { QCOW2_FEATURE_INCOMPATIBLE, 4, "extended L2 entries" },
    { QCOW2_FEATURE_COMPATIBLE, 0, "lazy refcounts" },
    { QCOW2_FEATURE_AUTOCLEAR, 0, "bitmaps" },
    { QCOW2_FEATURE_AUTOCLEAR, 1, "raw external data" },
  };

  for (size_t i = 0; i < metadata->feature_count; i++)
    if (metadata->features[i].type == (unsigned) type && metadata->features[i].bit == bit)
      return metadata->features[i].name;
  for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
    if (known[i].type == type && known[i].bit == bit)
      return known[i].name;
  return NULL;
}

/* Refuse incompatible features that we don't know, with the names that the image gives them. */
static int check_features(const struct qcow2_metadata *metadata, struct qcow2_error *error)
{
  uint64_t unknown = metadata->header.incompatible_features & ~KNOWN_INCOMPATIBLE;
  char list[512] = "", name[TEXT_ESCAPED_BYTES];
  size_t used = 0;

  if (unknown == 0)
    return 0;
  for (unsigned bit = 0; bit < 64 && used < sizeof(list) - 1; bit++) {
    const char *text = qcow2_metadata_feature_name(metadata, QCOW2_FEATURE_INCOMPATIBLE, bit);

    if ((unknown >> bit & 1) == 0)
      continue;
    qcow2_text_quote(text == NULL ? "not named by the image" : text, name);
    snprintf(list + used, sizeof(list) - used, "%sbit %u (%s)", used > 0 ? ", " : "", bit, name);
    used = strlen(list);
  }
  return qcow2_error_set_at(
      error, QCOW2_ERROR_UNSUPPORTED, QCOW2_NO_OFFSET, 72,
      "the image needs an incompatible feature that this reader does not know: %s", list);
}

/* ---- The whole ---------------------------------------------------------- */

static int decode_into(const uint8_t *bytes, size_t length, uint32_t given_length,
                       struct qcow2_metadata *metadata, struct qcow2_error *error)
{
  struct qcow2_header *header = &metadata->header;
  uint64_t area_end, backing_offset = be64_get(bytes + 8);
  unsigned compression = 0;
  int code;

  decode_common(bytes, header);
  if (header->version >= 3)
    decode_version_3(bytes, length, given_length, metadata, &compression);
  code = check_fields(header, error);
  if (code != 0)
    return code;
  header->l2_bits = qcow2_geometry_of(header).l2_bits;
  area_end = UINT32_C(1) << header->cluster_bits;
  if (backing_offset > area_end && be32_get(bytes + 16) == 0)
    return field_error(error, 8, "backing_file_offset", backing_offset, "inside the first cluster");
  if (backing_offset != 0)
    area_end = min_u64(area_end, backing_offset);
  code = qcow2_extensions_decode(bytes, length, header->header_length, area_end, metadata, error);
  if (code == 0)
    code = check_features(metadata, error);
  if (code == 0)
    code = check_length(header, bytes, length, error);
  if (code == 0)
    code = check_compression(header, compression, error);
  if (code == 0)
    code = decode_backing_name(bytes, length, metadata, error);
  header->compression = (enum qcow2_compression) compression;
  return code;
}

int qcow2_header_decode(const uint8_t *bytes, size_t length, uint32_t given_length,
                        struct qcow2_metadata *metadata, struct qcow2_error *error)
{
  size_t needed;
  uint32_t version;
  int code = qcow2_header_measure(bytes, length, &needed, error);

  memset(metadata, 0, sizeof(*metadata));
  if (code != 0)
    return code;
  version = be32_get(bytes + 4);
  if (version > 1 && length < (version == 2 ? HEADER_BYTES_V2 : HEADER_BYTES_V3))
    return qcow2_error_set_at(error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, length,
                              "the file is truncated: it ends inside the qcow2 header");
  code = version == 1 ? qcow2_version_1_header_decode(bytes, length, metadata, error)
                      : decode_into(bytes, length, given_length, metadata, error);
  if (code != 0)
    qcow2_metadata_free(metadata);
  return code;
}

void qcow2_metadata_free(struct qcow2_metadata *metadata)
{
  qcow2_metadata_drop_data(metadata);
  free(metadata->extensions);
  free(metadata->backing_file);
  free(metadata->backing_format);
  free(metadata->data_file);
  memset(metadata, 0, sizeof(*metadata));
}
