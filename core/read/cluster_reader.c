/* SPDX-License-Identifier: MIT */
#include "cluster_reader.h"

#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../storage/storage.h"

/* ---- Encrypted clusters ------------------------------------------------- */

/* Where encrypted bytes are, and what their initialisation vectors count from. */
struct encrypted {
  const struct qcow2_cluster_source *source;
  uint64_t host_offset;   /* of the first byte to be read */
  uint64_t number_offset; /* the same byte, as the cipher counts */
};

/* Read whole sectors, which begin `skip` bytes from the first byte to be read (or, if negative, before it). */
static int read_sectors(const struct encrypted *encrypted, int64_t skip, uint8_t *buffer,
                        size_t length, struct qcow2_error *error)
{
  const struct qcow2_cluster_source *source = encrypted->source;
  int code = qcow2_storage_read(source->data, encrypted->host_offset + (uint64_t) skip, buffer, length, error);

  if (code != 0)
    return code;
  return qcow2_cipher_decrypt(source->cipher,
                              (encrypted->number_offset + (uint64_t) skip) / ENCRYPTION_SECTOR_BYTES,
                              buffer, length, error);
}

/* Read a part of one sector: `length` bytes, `in_sector` bytes into the sector that begins at `skip`. */
static int read_in_sector(const struct encrypted *encrypted, int64_t skip, size_t in_sector,
                          uint8_t *buffer, size_t length, struct qcow2_error *error)
{
  uint8_t sector[ENCRYPTION_SECTOR_BYTES];
  int code = read_sectors(encrypted, skip, sector, sizeof(sector), error);

  if (code == 0)
    memcpy(buffer, sector + in_sector, length);
  return code;
}

/* A sector can only be decrypted as a whole. Those that are wanted as a whole are decrypted where they are wanted. */
static int read_encrypted(const struct encrypted *encrypted, uint8_t *buffer, size_t length,
                          struct qcow2_error *error)
{
  size_t in_sector = (size_t) (encrypted->host_offset % ENCRYPTION_SECTOR_BYTES);
  size_t head = in_sector == 0 ? 0 : (size_t) min_u64(ENCRYPTION_SECTOR_BYTES - in_sector, length);
  size_t body = (length - head) / ENCRYPTION_SECTOR_BYTES * ENCRYPTION_SECTOR_BYTES;
  size_t tail = length - head - body;
  int code = 0;

  if (head > 0)
    code = read_in_sector(encrypted, -(int64_t) in_sector, in_sector, buffer, head, error);
  if (code == 0 && body > 0)
    code = read_sectors(encrypted, (int64_t) head, buffer + head, body, error);
  if (code == 0 && tail > 0)
    code = read_in_sector(encrypted, (int64_t) (head + body), 0, buffer + head + body, tail, error);
  return code;
}

/* ---- Normal clusters ---------------------------------------------------- */

static int read_normal(const struct qcow2_cluster_source *source, uint64_t host_offset,
                       uint64_t guest_offset, void *buffer, size_t length,
                       struct qcow2_error *error)
{
  struct encrypted encrypted = { source, host_offset,
                                 source->cipher_counts_guest ? guest_offset : host_offset };

  if (source->cipher != NULL)
    return read_encrypted(&encrypted, buffer, length, error);
  return qcow2_storage_read(source->data, host_offset, buffer, length, error);
}

/* ---- Every kind --------------------------------------------------------- */

static int invalid_error(const struct qcow2_mapping *mapping, struct qcow2_error *error)
{
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, mapping->table_offset,
                            "the table entry is invalid: %s", mapping->problem);
}

int qcow2_cluster_read(const struct qcow2_cluster_source *source,
                       const struct qcow2_mapping *mapping, uint64_t guest_offset, void *buffer,
                       size_t length, struct qcow2_error *error)
{
  uint64_t in_mapping = guest_offset - mapping->guest_offset;

  switch (mapping->kind) {
  case QCOW2_CLUSTER_UNALLOCATED:
  case QCOW2_CLUSTER_ZERO:
  case QCOW2_CLUSTER_ZERO_ALLOCATED:
    memset(buffer, 0, length);
    return 0;
  case QCOW2_CLUSTER_NORMAL:
    return read_normal(source, mapping->host_offset + in_mapping, guest_offset, buffer, length, error);
  case QCOW2_CLUSTER_COMPRESSED:
    return qcow2_compressed_read(&source->compressed, mapping, guest_offset, buffer, length, error);
  case QCOW2_CLUSTER_INVALID:
    return invalid_error(mapping, error);
  }
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "a mapping of no known kind");
}
