/* SPDX-License-Identifier: MIT */
#include "snapshots.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"
#include "../format/snapshot.h"
#include "image.h"
#include "../storage/storage.h"

/* ---- Reading the table --------------------------------------------------- */

/* Read the entry at *offset, or at the next multiple of 8, and advance that to its end. */
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
    code = qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, *offset,
                              "what is at host offset %" PRIu64 " cannot be an entry of the snapshot table: it has no ID, no "
                              "name and no L1 table", *offset);
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
                              ", not a multiple of the cluster size", offset);
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

/* The error for a snapshot whose L1 table has a problem; 0 if that is NULL. */
static int l1_error(const struct qcow2_snapshot *snapshot, const char *problem, struct qcow2_error *error)
{
  char id[TEXT_ESCAPED_BYTES];

  if (problem == NULL)
    return 0;
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, snapshot->l1_offset,
                            "the L1 table of snapshot ID %s (%" PRIu32 " entries at host offset %" PRIu64
                            ", for a disk of %" PRIu64 " bytes and a VM state of %" PRIu64 " bytes) %s",
                            qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
                            snapshot->l1_size, snapshot->l1_offset, snapshot->disk_size, snapshot->vm_state_size,
                            problem);
}

int qcow2_snapshot_disk_error(const struct qcow2_layer *layer, const struct qcow2_snapshot *snapshot,
                              struct qcow2_error *error)
{
  if (layer->geometry.has_data_file)
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                           "an image with an external data file cannot have snapshots");
  return l1_error(snapshot, qcow2_snapshot_disk_problem(&layer->geometry, snapshot), error);
}

int qcow2_snapshot_vm_state_error(const struct qcow2_layer *layer, const struct qcow2_snapshot *snapshot,
                                  struct qcow2_error *error)
{
  int code = qcow2_snapshot_disk_error(layer, snapshot, error);

  return code != 0 ? code : l1_error(snapshot, qcow2_snapshot_vm_state_problem(&layer->geometry, snapshot), error);
}

int qcow2_snapshot_check(const struct qcow2_image *image, size_t index, struct qcow2_error *error)
{
  const struct qcow2_snapshot *snapshot = qcow2_snapshot_get(image, index);
  const struct qcow2_layer *top = image->chain.layers[0];
  uint64_t file_size = top->file.storage.size;
  char id[TEXT_ESCAPED_BYTES];
  int code;

  if (snapshot == NULL)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "there is no snapshot of that index: the image has %zu",
                           image->snapshots.count);
  code = qcow2_snapshot_vm_state_error(top, snapshot, error);
  if (code != 0 || range_fits(snapshot->l1_offset, (uint64_t) snapshot->l1_size * L1_ENTRY_BYTES, file_size))
    return code;
  return qcow2_error_set_at(error, QCOW2_ERROR_TRUNCATED, QCOW2_NO_OFFSET, snapshot->l1_offset,
                            "the file ends at byte %" PRIu64 ", before the end of the L1 table of snapshot ID %s at host offset %" PRIu64,
                            file_size, qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
                            snapshot->l1_offset);
}

void qcow2_snapshots_free(struct qcow2_snapshots *snapshots)
{
  for (size_t i = 0; i < snapshots->count; i++)
    qcow2_snapshot_free(&snapshots->entries[i]);
  free(snapshots->entries);
  memset(snapshots, 0, sizeof(*snapshots));
}

/* ---- Answering ----------------------------------------------------------- */

size_t qcow2_snapshot_count(const struct qcow2_image *image)
{
  return image->snapshots.count;
}

size_t qcow2_snapshot_lost_count(const struct qcow2_image *image)
{
  return image->chain.layers[0]->metadata.header.snapshot_count - image->snapshots.count;
}

const struct qcow2_snapshot *qcow2_snapshot_get(const struct qcow2_image *image, size_t index)
{
  return index < image->snapshots.count ? &image->snapshots.entries[index] : NULL;
}

static bool text_equals(const char *key, const char *text, size_t length)
{
  return strlen(key) == length && memcmp(key, text, length) == 0;
}

static bool snapshot_matches(const struct qcow2_snapshot *snapshot, const char *key,
                             enum qcow2_snapshot_key by)
{
  bool id = text_equals(key, snapshot->id, snapshot->id_length);
  bool name = text_equals(key, snapshot->name, snapshot->name_length);

  return (id && by != QCOW2_BY_NAME) || (name && by != QCOW2_BY_ID);
}

/* Which snapshots a list shows. An empty key: all of them. */
static bool is_listed(const struct qcow2_snapshot *snapshot, const char *key,
                      enum qcow2_snapshot_key by)
{
  return key[0] == '\0' || snapshot_matches(snapshot, key, by);
}

/* Append snapshots as 'ID 1 "name"', as many as fit before the text's end. */
static void list_snapshots(const struct qcow2_image *image, const char *key,
                           enum qcow2_snapshot_key by, char *out, size_t out_size)
{
  static const char more[] = ", and more (see: tsk-qcow2 info)";
  size_t used = 0;

  out[0] = '\0';
  for (size_t i = 0; i < image->snapshots.count; i++) {
    const struct qcow2_snapshot *snapshot = &image->snapshots.entries[i];
    char item[160], id[48], name[96];

    if (!is_listed(snapshot, key, by))
      continue;
    qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id));
    qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name));
    snprintf(item, sizeof(item), "%sID %s \"%s\"", used > 0 ? ", " : "", id, name);
    if (used + strlen(item) + sizeof(more) > out_size) {
      snprintf(out + used, out_size - used, "%s", more);
      return;
    }
    memcpy(out + used, item, strlen(item) + 1);
    used += strlen(item);
  }
}

static int not_found(const struct qcow2_image *image, const char *key, struct qcow2_error *error)
{
  size_t lost = qcow2_snapshot_lost_count(image);
  char list[560], quoted[TEXT_ESCAPED_BYTES];
  const char *what = key[0] == '\0' ? "the snapshot's name is empty" : "there is no such snapshot";

  qcow2_text_quote(key, quoted);
  list_snapshots(image, "", QCOW2_BY_ID_OR_NAME, list, sizeof(list));
  if (image->snapshots.count == 0)
    return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND, "%s: \"%s\"; the image has %s", what, quoted,
                           lost == 0 ? "no snapshots" : "a snapshot table that cannot be read");
  return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND, "%s: \"%s\"; the image has %s%s", what, quoted,
                         list, lost == 0 ? "" : ", and more that cannot be read");
}

int qcow2_snapshot_find(const struct qcow2_image *image, const char *key,
                        enum qcow2_snapshot_key by, size_t *index, struct qcow2_error *error)
{
  char list[560], quoted[TEXT_ESCAPED_BYTES];
  size_t matches = 0, match = 0;

  for (size_t i = 0; key[0] != '\0' && i < image->snapshots.count; i++)
    if (snapshot_matches(&image->snapshots.entries[i], key, by) && matches++ == 0)
      match = i;
  if (matches == 1) {
    *index = match;
    return 0;
  }
  if (matches == 0)
    return not_found(image, key, error);
  list_snapshots(image, key, by, list, sizeof(list));
  return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                         "\"%s\" means several snapshots: %s; choose one with @id=ID, @name=NAME or @index=N (see: tsk-qcow2 "
                         "snapshots)", qcow2_text_quote(key, quoted), list);
}
