/* SPDX-License-Identifier: MIT */
#include "survey.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../format/refcount.h"
#include "../storage/storage.h"

/* Tables are read in pieces of this many bytes. No entry is in two pieces. */
#define PIECE_BYTES 65536u

/* The limit of L2 tables that are searched for lost clusters: enough for a disk of 128 GiB with
   clusters of 64 KiB. */
#define ENTRY_BUDGET_BYTES (UINT64_C(16) << 20)

struct survey {
  struct qcow2_layer *layer;
  const struct qcow2_storage *storage;
  uint8_t *piece;        /* PIECE_BYTES, of an L1 or refcount table */
  uint8_t *table;        /* an L2 table */
  uint64_t entry_budget; /* bytes of L2 tables that may still be searched */
  uint64_t *budget;      /* bytes of tables that may still be read, for the whole chain */
  const char *lost;      /* what ends furthest past the end of the file; NULL: nothing */
  uint64_t lost_end;
  bool bad_refcounts;
  bool has_l2_tables;
  bool lost_cluster;  /* the refcounts call a cluster used that begins past the end of the file */
  bool data_lost;     /* the external data file ends before a cluster that is in it */
  bool is_unreadable; /* a table cannot be read */
};

/* Note that `what` ends at byte `end` of the file. The last `spare` bytes of it may be missing. */
static void need(struct survey *survey, const char *what, uint64_t end, uint64_t spare)
{
  if (end > survey->layer->needed_size)
    survey->layer->needed_size = end;
  if (end - spare > survey->storage->size && end > survey->lost_end) {
    survey->lost = what;
    survey->lost_end = end;
  }
}

/* Read a part of a table. False: it cannot be read, or the budget is used up. */
static bool read_table(struct survey *survey, uint64_t offset, uint8_t *buffer, size_t length)
{
  int code;

  if (*survey->budget < length)
    return false;
  code = qcow2_storage_read(survey->storage, offset, buffer, length, NULL);
  survey->is_unreadable = survey->is_unreadable || code == QCOW2_ERROR_IO;
  *survey->budget -= code == 0 ? length : 0;
  return code == 0;
}

/* ---- L1 and L2 tables ------------------------------------------------------ */

/* Call `visit` for each allocated L2 table of the active disk, with its host offset and the first
   guest offset that it maps, until it returns false. */
static void each_l2_table(struct survey *survey,
                          bool (*visit)(struct survey *survey, uint64_t l2_offset,
                                        uint64_t guest_offset))
{
  const struct qcow2_geometry *geometry = &survey->layer->geometry;
  const struct qcow2_tables *tables = &survey->layer->tables;
  uint64_t bytes = (uint64_t) tables->l1_size * L1_ENTRY_BYTES;

  for (uint64_t done = 0; done < bytes; done += PIECE_BYTES) {
    size_t length = (size_t) min_u64(bytes - done, PIECE_BYTES);

    if (!read_table(survey, tables->l1_offset + done, survey->piece, length))
      return;
    for (size_t at = 0; at < length; at += L1_ENTRY_BYTES) {
      uint64_t l1_entry = be64_get(survey->piece + at), l1_index = (done + at) / L1_ENTRY_BYTES;
      uint64_t l2_offset = l1_entry & TABLE_OFFSET_MASK;

      if (geometry_l1_entry_is_allocated(geometry, l1_entry) &&
          (geometry->version > 1 || qcow2_l1_entry_problem(geometry, l1_entry) == NULL) &&
          !visit(survey, l2_offset, l1_index << (geometry->cluster_bits + geometry->l2_bits)))
        return;
    }
  }
}

static bool visit_table(struct survey *survey, uint64_t l2_offset, uint64_t guest_offset)
{
  (void) guest_offset;
  survey->has_l2_tables = true;
  need(survey, "one of its L2 tables", l2_offset + geometry_l2_bytes(&survey->layer->geometry), 0);
  return true;
}

static void survey_tables(struct survey *survey)
{
  const struct qcow2_tables *tables = &survey->layer->tables;

  need(survey, "its L1 table", tables->l1_offset + (uint64_t) tables->l1_size * L1_ENTRY_BYTES, 0);
  each_l2_table(survey, visit_table);
}

/* ---- Lost clusters ----------------------------------------------------------- */

/* Note where in the file the bytes of this entry end. */
static void visit_entry(struct survey *survey, const struct qcow2_l2_entry *entry,
                        uint64_t guest_offset)
{
  const struct qcow2_geometry *geometry = &survey->layer->geometry;
  uint64_t end = min_u64(guest_offset + geometry->cluster_size, survey->layer->size);

  for (uint64_t at = guest_offset; at < end;) {
    struct qcow2_cluster_part part = qcow2_l2_entry_decode(geometry, entry, at);
    uint64_t host_end = part.host_offset + min_u64(part.length, end - at);

    if (part.kind == QCOW2_CLUSTER_COMPRESSED)
      need(survey, "one of its compressed clusters", part.host_offset + part.host_bytes, 0);
    else if (part.kind == QCOW2_CLUSTER_NORMAL && geometry->has_data_file)
      survey->data_lost = survey->data_lost || host_end > survey->layer->data_file.storage.size;
    else if (part.kind == QCOW2_CLUSTER_NORMAL)
      need(survey, "one of its clusters", host_end, 0);
    at += part.length;
  }
}

/* True if the file may end before the end of what the entry refers to. `end` is where the last
   whole cluster of the file ends. Whole clusters that are missing in the image itself are found by
   their refcounts, which version 1 has not. */
static bool may_be_cut(const struct qcow2_geometry *geometry, const struct qcow2_l2_entry *entry,
                       uint64_t end)
{
  uint64_t host_offset = entry->descriptor & TABLE_OFFSET_MASK;

  if (geometry->version == 1)
    return true;
  return (entry->descriptor & L2_ENTRY_COMPRESSED) == 0 &&
         qcow2_l2_entry_is_allocated(geometry, entry->descriptor) &&
         (host_offset == end || (geometry->has_data_file && host_offset > end));
}

/* Search an L2 table for entries of clusters that are cut by the end of their file, within the
   budget. */
static bool visit_entries(struct survey *survey, uint64_t l2_offset, uint64_t guest_offset)
{
  const struct qcow2_geometry *geometry = &survey->layer->geometry;
  uint64_t end = survey->layer->source.data->size & ~(uint64_t) (geometry->cluster_size - 1);
  uint32_t table_bytes = geometry_l2_bytes(geometry);

  if (survey->entry_budget < table_bytes ||
      !read_table(survey, l2_offset, survey->table, table_bytes))
    return false;
  survey->entry_budget -= table_bytes;
  for (uint32_t at = 0; at < table_bytes; at += geometry->l2_entry_bytes) {
    struct qcow2_l2_entry entry = l2_entry_load(geometry, survey->table + at);

    if (may_be_cut(geometry, &entry, end))
      visit_entry(survey, &entry,
                  guest_offset +
                      ((uint64_t) (at / geometry->l2_entry_bytes) << geometry->cluster_bits));
  }
  return true;
}

/* If the file ends inside a cluster, find out whether an entry needs the missing bytes. It does not
   need the last sector of a compressed stream, nor unallocated subclusters. A data file may be
   shorter than the disk if the rest was never written. */
static void survey_lost_clusters(struct survey *survey)
{
  const struct qcow2_layer *layer = survey->layer;
  const struct qcow2_geometry *geometry = &layer->geometry;

  if (geometry->has_data_file
          ? layer->source.data == &layer->file.storage || layer->source.data->size >= layer->size
          : geometry->version > 1 && is_aligned(survey->storage->size, geometry->cluster_size))
    return;
  survey->table = malloc(geometry_l2_bytes(geometry));
  if (survey->table == NULL)
    return;
  survey->entry_budget = ENTRY_BUDGET_BYTES;
  each_l2_table(survey, visit_entries);
  free(survey->table);
}

/* ---- Refcounts --------------------------------------------------------------- */

/* The index of the last bit that is set in [start, start + bytes) of the file, counted from `start`
   in the order of refcounts (in a byte, the lowest bit is the first). -1: no bit is set, or the
   bytes cannot be read. */
static int64_t last_set_bit(struct survey *survey, uint64_t start, uint64_t bytes)
{
  while (bytes > 0) {
    size_t length = (size_t) (bytes % PIECE_BYTES != 0 ? bytes % PIECE_BYTES : PIECE_BYTES);

    bytes -= length;
    if (!read_table(survey, start + bytes, survey->piece, length))
      return -1;
    while (length > 0)
      if (survey->piece[--length] != 0)
        return (int64_t) (bytes + length) * 8 + 31 - __builtin_clz(survey->piece[length]);
  }
  return -1;
}

/* Find the last refcount block in the refcount table: its index, and its host offset. False: there
   is none that can be read. */
static bool last_refcount_block(struct survey *survey, uint64_t *index, uint64_t *offset)
{
  const struct qcow2_header *header = &survey->layer->metadata.header;
  uint64_t bytes = qcow2_refcount_table_bytes(header);
  uint8_t entry[REFCOUNT_TABLE_ENTRY_BYTES];
  int64_t bit;

  survey->bad_refcounts = bytes == 0 || header->refcount_table_offset == 0 ||
                          !qcow2_refcount_table_fits(header);
  if (survey->bad_refcounts)
    return false;
  need(survey, "its refcount table", header->refcount_table_offset + bytes, 0);
  bit = last_set_bit(survey, header->refcount_table_offset, bytes);
  *index = (uint64_t) bit / 8 / REFCOUNT_TABLE_ENTRY_BYTES;
  if (bit < 0 ||
      !read_table(survey, header->refcount_table_offset + *index * REFCOUNT_TABLE_ENTRY_BYTES,
                  entry, sizeof(entry)))
    return false;
  *offset = be64_get(entry) & REFCOUNT_TABLE_OFFSET_MASK;
  survey->bad_refcounts = !qcow2_refcount_block_fits(header, *offset);
  return !survey->bad_refcounts;
}

/* The last cluster with a refcount must begin inside the file. Its end may be missing: the last
   sector of a compressed stream, and unallocated subclusters, are not needed. */
static void survey_refcounts(struct survey *survey)
{
  const struct qcow2_geometry *geometry = &survey->layer->geometry;
  unsigned order = survey->layer->metadata.header.refcount_order;
  uint64_t per_block = qcow2_refcounts_per_block(&survey->layer->metadata.header);
  uint64_t block, offset, cluster;
  int64_t bit;

  if (!last_refcount_block(survey, &block, &offset))
    return;
  need(survey, "one of its refcount blocks", offset + geometry->cluster_size, 0);
  bit = last_set_bit(survey, offset, geometry->cluster_size);
  if (bit < 0)
    return;
  cluster = block * per_block + ((uint64_t) bit >> order);
  if (cluster >= (uint64_t) INT64_MAX >> geometry->cluster_bits)
    survey->bad_refcounts = true;
  else {
    survey->lost_cluster = cluster << geometry->cluster_bits >= survey->storage->size;
    need(survey, "the last cluster that its refcounts call used",
         (cluster + 1) << geometry->cluster_bits, geometry->cluster_size - 1);
  }
}

/* ---- The whole ---------------------------------------------------------------- */

/* True if the image was wiped as XCP-ng does it before it deletes an image: the L1 table is zeroed,
   the file is cut after it, and the refcounts still count what was there. A new image has no such
   refcounts. */
static bool is_killed(const struct survey *survey)
{
  const struct qcow2_tables *tables = &survey->layer->tables;
  uint32_t cluster_size = survey->layer->geometry.cluster_size;
  uint64_t l1_end = tables->l1_offset + (uint64_t) tables->l1_size * L1_ENTRY_BYTES;

  return tables->l1_size > 0 && !survey->has_l2_tables && !survey->is_unreadable &&
         survey->lost_cluster && survey->storage->size >= l1_end &&
         survey->storage->size - l1_end < cluster_size;
}

static int add_warnings(const struct survey *survey, struct qcow2_warnings *warnings,
                        struct qcow2_error *error)
{
  const struct qcow2_layer *layer = survey->layer;
  const struct qcow2_metadata *metadata = &layer->metadata;
  uint64_t features = metadata->header.incompatible_features;
  bool is_l1_over_header = qcow2_geometry_l1_problem(&layer->geometry, layer->tables.l1_offset,
                                                     layer->tables.l1_size) == L1_OVER_HEADER;
  char lost[320];
  const struct {
    bool is_so, is_damage; /* is_damage: something is lost, or cannot be read */
    const char *sentence;
  } known[] = {
    { (features & QCOW2_INCOMPATIBLE_DIRTY) != 0, false,
      "the image is marked dirty: it was not closed properly, and its refcounts may be wrong" },
    { (features & QCOW2_INCOMPATIBLE_CORRUPT) != 0, false,
      "the image is marked corrupt by the program that wrote it" },
    { metadata->header.crypt_method == CRYPT_METHOD_AES, false,
      "the image is encrypted with legacy AES: a wrong passphrase cannot be told from a right one, "
      "and gives data that make no sense" },
    { metadata->has_more_extensions, false,
      "the image has so many header extensions that only the first 1024 are shown" },
    { survey->bad_refcounts, true, "the refcount table is not valid" },
    { survey->is_unreadable, true,
      "some tables cannot be read, so it is not known whether the file is truncated" },
    { is_l1_over_header, true,
      "the L1 table is said to be at host offset 0, where the header is, so the disk cannot be "
      "read" },
    { metadata->backing_problem != NULL, false,
      "the name of the backing file is too long, or not in the first cluster, so it is not "
      "followed" },
    { metadata->is_header_length_corrected, false,
      "the header's length in the file is wrong; the one that was given is used" },
    { layer->is_killed, true,
      "the image was killed, as XCP-ng does it before it deletes an image: its L1 table is zeroed "
      "and the file is cut after it, so nothing of its disk is in this file, and what reads as "
      "zeros was not zeros" },
    { survey->lost != NULL, true, lost },
  };
  int code = 0;

  snprintf(lost, sizeof(lost),
           "the file is truncated: it ends at byte %" PRIu64 ", but %s reaches to byte %" PRIu64
           "; what is lost reads as an error, not as zeros",
           survey->storage->size, survey->lost == NULL ? "" : survey->lost, survey->lost_end);
  for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && code == 0; i++)
    if (known[i].is_so)
      code = (known[i].is_damage
                  ? qcow2_warnings_add_damage
                  : qcow2_warnings_add)(warnings, layer->file.path, known[i].sentence, error);
  if (code == 0 && survey->data_lost)
    code = qcow2_warnings_add_damage(
        warnings, layer->data_file.path,
        "the external data file is truncated; what is lost reads as an error, not as zeros", error);
  return code;
}

static int survey_qcow2(struct qcow2_layer *layer, uint64_t *budget,
                        struct qcow2_warnings *warnings, struct qcow2_error *error)
{
  struct survey survey = {
    .layer = layer, .budget = budget, .storage = &layer->file.storage, .piece = malloc(PIECE_BYTES)
  };
  int code;

  if (survey.piece == NULL)
    return qcow2_error_set_nomem(error);
  layer->needed_size = layer->metadata.header.header_length;
  survey_tables(&survey);
  if (layer->lost_header == NULL && layer->geometry.version > 1)
    survey_refcounts(&survey);
  survey_lost_clusters(&survey);
  layer->is_killed = is_killed(&survey);
  code = add_warnings(&survey, warnings, error);
  free(survey.piece);
  return code;
}

/* Add what the gate noted when it opened the file. */
static int survey_way(const struct qcow2_opened_file *file, struct qcow2_warnings *warnings,
                      struct qcow2_error *error)
{
  int code = file->warning == NULL ? 0
                                   : qcow2_warnings_add(warnings, file->path, file->warning, error);

  if (code != 0 || !file->is_in_use)
    return code;
  return qcow2_warnings_add(warnings, file->path,
                            "another process has the file open for writing, as QEMU does while a "
                            "machine runs: it can change while it is read, and what that process "
                            "has not written yet is missing",
                            error);
}

int qcow2_survey(struct qcow2_layer *layer, uint64_t *budget, struct qcow2_warnings *warnings,
                 struct qcow2_error *error)
{
  int code = survey_way(&layer->file, warnings, error);

  if (code == 0)
    code = survey_way(&layer->data_file, warnings, error);
  if (code == 0 && layer->warning[0] != '\0')
    code = qcow2_warnings_add(warnings,
                              layer->data_file.path != NULL ? layer->data_file.path
                                                            : layer->file.path,
                              layer->warning, error);
  return code != 0 || layer->is_raw ? code : survey_qcow2(layer, budget, warnings, error);
}
