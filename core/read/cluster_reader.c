/* SPDX-License-Identifier: MIT */
#include "cluster_reader.h"

#include <inttypes.h>
#include <string.h>

#include "../base/error.h"
#include "../storage/storage.h"

static int read_normal(const struct qcow2_cluster_source *source, uint64_t host_offset,
                       uint64_t guest_offset, void *buffer, size_t length,
                       struct qcow2_error *error)
{
  if (source->encrypted.cipher != NULL)
    return qcow2_encrypted_read(&source->encrypted, host_offset, guest_offset, buffer, length,
                                error);
  return qcow2_storage_read(source->data, host_offset, buffer, length, error);
}

static int invalid_error(const struct qcow2_mapping *mapping, struct qcow2_error *error)
{
  if (mapping->lost != NULL)
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, mapping->host_offset,
                              "what was here is lost (%s): %s, at host offset %" PRIu64,
                              mapping->lost, mapping->problem, mapping->host_offset);
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
  case QCOW2_CLUSTER_ZERO_ALLOCATED: memset(buffer, 0, length); return 0;
  case QCOW2_CLUSTER_NORMAL:
    return read_normal(source, mapping->host_offset + in_mapping, guest_offset, buffer, length,
                       error);
  case QCOW2_CLUSTER_COMPRESSED:
    return qcow2_compressed_read(&source->compressed, mapping, guest_offset, buffer, length, error);
  case QCOW2_CLUSTER_INVALID: return invalid_error(mapping, error);
  }
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "a mapping of no known kind");
}

bool qcow2_cluster_needs_decoding(const struct qcow2_cluster_source *source,
                                  const struct qcow2_mapping *mapping, uint64_t guest_offset)
{
  if (mapping->kind == QCOW2_CLUSTER_COMPRESSED)
    return !qcow2_compressed_is_at_hand(&source->compressed, mapping);
  return mapping->kind == QCOW2_CLUSTER_NORMAL && source->encrypted.cipher != NULL &&
         !qcow2_encrypted_is_at_hand(&source->encrypted,
                                     mapping->host_offset + (guest_offset - mapping->guest_offset));
}

void qcow2_cluster_decode_ahead(const struct qcow2_cluster_source *source,
                                const struct qcow2_mapping *mapping)
{
  if (mapping->kind == QCOW2_CLUSTER_COMPRESSED)
    qcow2_compressed_decode_ahead(&source->compressed, mapping);
  else if (mapping->kind == QCOW2_CLUSTER_NORMAL && source->encrypted.cipher != NULL)
    qcow2_encrypted_decode_ahead(&source->encrypted, mapping->host_offset, mapping->length);
}
