/* SPDX-License-Identifier: MIT */
#include "version_1.h"

#include <inttypes.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"
#include "geometry.h"

#define HEADER_BYTES_V1 48u
#define CLUSTER_BITS_MAX_V1 16
#define L2_BITS_MIN 6
#define L2_BITS_MAX 13

/* ---- Header --------------------------------------------------------------- */

static int field_error(struct qcow2_error *error, uint64_t host_offset, const char *field,
                       uint64_t value, const char *rule)
{
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, host_offset,
                            "the header's %s is %" PRIu64 "; in qcow version 1 it must be %s",
                            field, value, rule);
}

static int check_bits(uint32_t cluster_bits, uint32_t l2_bits, struct qcow2_error *error)
{
  if (cluster_bits < CLUSTER_BITS_MIN || cluster_bits > CLUSTER_BITS_MAX_V1)
    return field_error(error, 32, "cluster_bits", cluster_bits, "9 to 16");
  if (l2_bits < L2_BITS_MIN || l2_bits > L2_BITS_MAX)
    return field_error(error, 33, "l2_bits", l2_bits, "6 to 13");
  return 0;
}

/* The L1 table has no length of its own: it is as long as the disk needs. */
static int decode_l1(const uint8_t *bytes, struct qcow2_header *header, struct qcow2_error *error)
{
  struct qcow2_geometry geometry = qcow2_geometry_of(header);
  uint64_t entries = qcow2_geometry_l1_entries(&geometry, header->size);
  enum qcow2_l1_problem problem;

  header->l1_offset = be64_get(bytes + 40);
  header->l1_size = (uint32_t) min_u64(entries, UINT32_MAX);
  problem = qcow2_geometry_l1_problem(&geometry, header->l1_offset, header->l1_size);
  if (problem == L1_TOO_LARGE)
    return field_error(error, 24, "size", header->size,
                       "so small that an L1 table of 32 MiB is enough for it");
  if (problem != L1_FITS || header->l1_offset < HEADER_BYTES_V1)
    return field_error(error, 40, "l1_table_offset", header->l1_offset,
                       "a multiple of 8, after the header, and below 2^63");
  return 0;
}

static int decode_backing_name(const uint8_t *bytes, size_t length, struct qcow2_metadata *metadata,
                               struct qcow2_error *error)
{
  uint64_t host_offset = be64_get(bytes + 8);
  uint32_t name_length = be32_get(bytes + 16);

  if (host_offset == 0 || name_length == 0)
    return 0;
  if (name_length > BACKING_NAME_BYTES_MAX)
    return field_error(error, 16, "backing_file_size", name_length, "at most 1023");
  if (!range_fits(host_offset, name_length, VERSION_1_AREA_BYTES))
    return field_error(error, 8, "backing_file_offset", host_offset,
                       "such that the name is in the first 65536 bytes");
  if (!range_fits(host_offset, name_length, length))
    return qcow2_error_set_at(error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, host_offset,
                              "the file is truncated: it ends inside the backing file's name");
  metadata->backing_file = qcow2_text_copy(bytes + host_offset, name_length);
  if (metadata->backing_file == NULL)
    return qcow2_error_set_nomem(error);
  metadata->header.backing_file = metadata->backing_file;
  metadata->header.backing_file_length = name_length;
  return 0;
}

int qcow2_version_1_header_decode(const uint8_t *bytes, size_t length,
                                  struct qcow2_metadata *metadata, struct qcow2_error *error)
{
  struct qcow2_header *header = &metadata->header;
  int code;

  if (length < HEADER_BYTES_V1)
    return qcow2_error_set_at(error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, length,
                              "the file is truncated: it ends inside the qcow header");
  *header = (struct qcow2_header){ .version = 1,
                                   .header_length = HEADER_BYTES_V1,
                                   .cluster_bits = bytes[32],
                                   .l2_bits = bytes[33],
                                   .size = be64_get(bytes + 24),
                                   .crypt_method = be32_get(bytes + 36),
                                   .compression = QCOW2_COMPRESSION_DEFLATE };
  code = check_bits(header->cluster_bits, header->l2_bits, error);
  if (code == 0 && header->crypt_method > CRYPT_METHOD_AES)
    code = field_error(error, 36, "crypt_method", header->crypt_method, "0 or 1");
  if (code == 0)
    code = decode_l1(bytes, header, error);
  return code == 0 ? decode_backing_name(bytes, length, metadata, error) : code;
}
