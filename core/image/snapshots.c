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

/* ---- Reading an entry ------------------------------------------------------ */

/* Entries begin at multiples of 8. */
static uint64_t align_entry(uint64_t offset)
{
  return (offset + 7) & ~UINT64_C(7);
}

/* Read what follows the fixed part of the entry at `offset`, and decode the entry. Of the extra
   data, no more is read than an entry may have. */
static int decode_entry(const struct qcow2_layer *layer, uint64_t offset,
                        const uint8_t fixed[SNAPSHOT_FIXED_BYTES],
                        const struct qcow2_snapshot_lengths *lengths,
                        struct qcow2_snapshot *snapshot, struct qcow2_error *error)
{
  const struct qcow2_storage *storage = &layer->file.storage;
  struct qcow2_snapshot_lengths kept = *lengths;
  uint64_t extra_offset = offset + SNAPSHOT_FIXED_BYTES;
  size_t texts = (size_t) lengths->id + lengths->name;
  uint8_t *variable;
  int code;

  kept.extra = (uint32_t) min_u64(lengths->extra, SNAPSHOT_EXTRA_BYTES_MAX);
  variable = malloc(kept.extra + texts + 1);
  if (variable == NULL)
    return qcow2_error_set_nomem(error);
  code = qcow2_storage_read(storage, extra_offset, variable, kept.extra, error);
  if (code == 0)
    code = qcow2_storage_read(storage, extra_offset + lengths->extra, variable + kept.extra, texts,
                              error);
  if (code == 0)
    code = qcow2_snapshot_decode(fixed, variable, &kept, layer->size, snapshot, error);
  free(variable);
  return code;
}

static int no_entry_error(uint64_t offset, struct qcow2_error *error)
{
  return qcow2_error_set_at(
      error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, offset,
      "what is at host offset %" PRIu64
      " cannot be an entry of the snapshot table: it has no ID, no name and no L1 table",
      offset);
}

/* ---- Entries with too much extra data ------------------------------------- */

/* True if the fixed part of an entry is at `offset`, or at the next multiple of 8. */
static bool is_entry_at(const struct qcow2_layer *layer, uint64_t offset)
{
  struct qcow2_snapshot_lengths lengths;
  struct qcow2_snapshot snapshot;
  uint8_t fixed[SNAPSHOT_FIXED_BYTES];
  bool is_entry;

  offset = align_entry(offset);
  if (qcow2_storage_read(&layer->file.storage, offset, fixed, sizeof(fixed), NULL) != 0 ||
      qcow2_snapshot_measure(fixed, offset, &lengths, NULL) != 0)
    return false;
  lengths = (struct qcow2_snapshot_lengths){ 0, 0, 0 };
  if (qcow2_snapshot_decode(fixed, fixed, &lengths, layer->size, &snapshot, NULL) != 0)
    return false;
  is_entry = qcow2_snapshot_is_entry(&layer->geometry, &snapshot);
  qcow2_snapshot_free(&snapshot);
  return is_entry;
}

/* True if the texts of the snapshot can be texts: there are some, without control characters. */
static bool has_texts(const struct qcow2_snapshot *snapshot)
{
  for (size_t i = 0; i < snapshot->id_length; i++)
    if ((unsigned char) snapshot->id[i] < ' ')
      return false;
  for (size_t i = 0; i < snapshot->name_length; i++)
    if ((unsigned char) snapshot->name[i] < ' ')
      return false;
  return snapshot->id_length + snapshot->name_length > 0;
}

/* Find out how long the extra data of an entry are that has more than an entry may have: as long as
   it says, or, if that leads to no texts or to no next entry, as long as programs write them.
   lengths->extra becomes that. False: they have none of these lengths. */
static bool measure_extra(const struct qcow2_layer *layer, uint64_t offset,
                          const uint8_t fixed[SNAPSHOT_FIXED_BYTES], bool is_last,
                          struct qcow2_snapshot_lengths *lengths)
{
  const uint32_t tries[] = { lengths->extra, 16, 24, 8, 0 };
  bool found = false;

  for (size_t i = 0; !found && i < sizeof(tries) / sizeof(tries[0]); i++) {
    uint64_t end = offset + SNAPSHOT_FIXED_BYTES + tries[i] + lengths->id + lengths->name;
    struct qcow2_snapshot snapshot;

    lengths->extra = tries[i];
    if (tries[i] > SNAPSHOT_TABLE_BYTES_MAX ||
        decode_entry(layer, offset, fixed, lengths, &snapshot, NULL) != 0)
      continue;
    found = has_texts(&snapshot) && qcow2_snapshot_is_entry(&layer->geometry, &snapshot) &&
            (is_last || is_entry_at(layer, end));
    qcow2_snapshot_free(&snapshot);
  }
  return found;
}

/* ---- The table --------------------------------------------------------------- */

/* Read the entry at *offset, or at the next multiple of 8. *offset becomes the end of the entry. */
static int read_entry(const struct qcow2_layer *layer, uint64_t *offset, bool is_last,
                      struct qcow2_snapshots *snapshots, struct qcow2_error *error)
{
  struct qcow2_snapshot *snapshot = &snapshots->entries[snapshots->count];
  uint8_t fixed[SNAPSHOT_FIXED_BYTES];
  struct qcow2_snapshot_lengths lengths;
  int code;

  *offset = align_entry(*offset);
  code = qcow2_storage_read(&layer->file.storage, *offset, fixed, sizeof(fixed), error);
  if (code != 0)
    return code;
  code = qcow2_snapshot_measure(fixed, *offset, &lengths, error);
  if (code != 0 && measure_extra(layer, *offset, fixed, is_last, &lengths)) {
    snapshots->long_offset = snapshots->long_count++ == 0 ? *offset : snapshots->long_offset;
    code = 0;
  }
  if (code == 0)
    code = decode_entry(layer, *offset, fixed, &lengths, snapshot, error);
  if (code == 0 && !qcow2_snapshot_is_entry(&layer->geometry, snapshot)) {
    qcow2_snapshot_free(snapshot);
    code = no_entry_error(*offset, error);
  }
  *offset += sizeof(fixed) + (uint64_t) lengths.extra + lengths.id + lengths.name;
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
    code = read_entry(layer, &offset, snapshots->count + 1 == header->snapshot_count, snapshots,
                      error);
    if (code != 0)
      break;
    if (offset - header->snapshots_offset > SNAPSHOT_TABLE_BYTES_MAX) {
      qcow2_snapshot_free(&snapshots->entries[snapshots->count]);
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
