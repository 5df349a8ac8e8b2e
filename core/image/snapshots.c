/* SPDX-License-Identifier: MIT */
#include "snapshots.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"
#include "../format/snapshot.h"
#include "../storage/storage.h"

/* ---- Reading the table --------------------------------------------------- */

/* Read the entry at *offset, or at the next multiple of 8. *offset becomes the end of the entry. */
static int read_entry(const struct qcow2_layer *layer, uint64_t *offset,
                      struct qcow2_snapshot *snapshot, struct qcow2_error *error)
{
  const struct qcow2_storage *storage = &layer->file.storage;
  uint8_t fixed[SNAPSHOT_FIXED_BYTES], *variable;
  struct qcow2_snapshot_lengths lengths;
  size_t length;
  int code;

  *offset = (*offset + 7) & ~UINT64_C(7);
  code = qcow2_storage_read(storage, *offset, fixed, sizeof(fixed), error);
  if (code == 0)
    code = qcow2_snapshot_measure(fixed, *offset, &lengths, error);
  if (code != 0)
    return code;
  length = (size_t) lengths.extra + lengths.id + lengths.name;
  variable = malloc(length + 1);
  if (variable == NULL)
    return qcow2_error_set_nomem(error);
  code = qcow2_storage_read(storage, *offset + sizeof(fixed), variable, length, error);
  if (code == 0)
    code = qcow2_snapshot_decode(fixed, variable, &lengths, layer->size, snapshot, error);
  free(variable);
  if (code == 0 && !qcow2_snapshot_is_entry(&layer->geometry, snapshot)) {
    qcow2_snapshot_free(snapshot);
    code = qcow2_error_set_at(
        error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, *offset,
        "what is at host offset %" PRIu64
        " cannot be an entry of the snapshot table: it has no ID, no name and no L1 table",
        *offset);
  }
  *offset += sizeof(fixed) + length;
  return code;
}

int qcow2_snapshots_read(const struct qcow2_layer *layer, struct qcow2_snapshots *snapshots,
                         struct qcow2_error *error)
{
  const struct qcow2_header *header = &layer->metadata.header;
  uint64_t offset = header->snapshots_offset;
  int code = 0;

  memset(snapshots, 0, sizeof(*snapshots));
  if (header->snapshot_count == 0)
    return 0;
  if (header->snapshot_count > SNAPSHOT_COUNT_MAX)
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, 60,
                              "the header's nb_snapshots is %" PRIu32 "; at most 65536 are allowed",
                              header->snapshot_count);
  if (!is_aligned(offset, layer->geometry.cluster_size))
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, 64,
                              "the header's snapshots_offset is %" PRIu64
                              ", not a multiple of the cluster size",
                              offset);
  snapshots->entries = calloc(header->snapshot_count, sizeof(snapshots->entries[0]));
  if (snapshots->entries == NULL)
    return qcow2_error_set_nomem(error);
  while (snapshots->count < header->snapshot_count) {
    struct qcow2_snapshot *snapshot = &snapshots->entries[snapshots->count];

    code = read_entry(layer, &offset, snapshot, error);
    if (code != 0)
      break;
    if (offset - header->snapshots_offset > SNAPSHOT_TABLE_BYTES_MAX) {
      qcow2_snapshot_free(snapshot);
      return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, offset,
                                "the snapshot table is longer than 64 MiB");
    }
    snapshots->count++;
    snapshots->table_bytes = offset - header->snapshots_offset;
  }
  return code;
}

/* ---- Can they be read? --------------------------------------------------- */

/* The error for a snapshot whose L1 table has this problem; 0 if `problem` is NULL. */
static int l1_error(const struct qcow2_snapshot *snapshot, const char *problem,
                    struct qcow2_error *error)
{
  char id[TEXT_ESCAPED_BYTES];

  if (problem == NULL)
    return 0;
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, snapshot->l1_offset,
                            "the L1 table of snapshot ID %s (%" PRIu32
                            " entries at host offset %" PRIu64 ", for a disk of %" PRIu64
                            " bytes and a VM state of %" PRIu64 " bytes) %s",
                            qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
                            snapshot->l1_size, snapshot->l1_offset, snapshot->disk_size,
                            snapshot->vm_state_size, problem);
}

int qcow2_snapshot_disk_error(const struct qcow2_layer *layer,
                              const struct qcow2_snapshot *snapshot, struct qcow2_error *error)
{
  if (layer->geometry.has_data_file)
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                           "an image with an external data file cannot have snapshots");
  return l1_error(snapshot, qcow2_snapshot_disk_problem(&layer->geometry, snapshot), error);
}

int qcow2_snapshot_vm_state_error(const struct qcow2_layer *layer,
                                  const struct qcow2_snapshot *snapshot, struct qcow2_error *error)
{
  int code = qcow2_snapshot_disk_error(layer, snapshot, error);

  return code != 0 ? code
                   : l1_error(snapshot, qcow2_snapshot_vm_state_problem(&layer->geometry, snapshot),
                              error);
}

void qcow2_snapshots_free(struct qcow2_snapshots *snapshots)
{
  for (size_t i = 0; i < snapshots->count; i++)
    qcow2_snapshot_free(&snapshots->entries[i]);
  free(snapshots->entries);
  memset(snapshots, 0, sizeof(*snapshots));
}
