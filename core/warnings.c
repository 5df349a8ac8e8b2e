/* SPDX-License-Identifier: MIT */
#include "warnings.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/text.h"
#include "storage/storage.h"

#define REFCOUNT_TABLE_BYTES_MAX (UINT64_C(8) << 20)
#define REFCOUNT_TABLE_OFFSET_MASK (~UINT64_C(511))
#define REFCOUNT_ENTRY_BYTES 8u
/* Tables are looked through in pieces of this many bytes; the smallest cluster divides it. */
#define PIECE_BYTES 65536u

int qcow2_warnings_add(struct qcow2_warnings *warnings, const char *path, const char *sentence,
                       struct qcow2_error *error)
{
  size_t size = strlen(sentence) + TEXT_ESCAPED_BYTES + 16;
  char **sentences = realloc(warnings->sentences, (warnings->count + 1) * sizeof(sentences[0]));
  char *copy = malloc(size), quoted[TEXT_ESCAPED_BYTES];

  if (sentences != NULL)
    warnings->sentences = sentences;
  if (sentences == NULL || copy == NULL) {
    free(copy);
    return qcow2_error_set_nomem(error);
  }
  if (path == NULL)
    snprintf(copy, size, "%s", sentence);
  else
    snprintf(copy, size, "%s (file \"%s\")", sentence, qcow2_text_quote(path, quoted));
  sentences[warnings->count++] = copy;
  return 0;
}

void qcow2_warnings_free(struct qcow2_warnings *warnings)
{
  for (size_t i = 0; i < warnings->count; i++)
    free(warnings->sentences[i]);
  free(warnings->sentences);
  memset(warnings, 0, sizeof(*warnings));
}

/* ---- Does the file reach as far as its tables say? ----------------------- */

/* The file is too short for something: write the sentence, and say so. */
static bool tell_short(char *out, size_t out_size, const struct qcow2_layer *layer,
                       const char *what, uint64_t end)
{
  snprintf(out, out_size,
           "the file is truncated: it ends at byte %" PRIu64 ", but %s reaches to byte %" PRIu64
           "; what is lost reads as an error, not as zeros",
           layer->file.storage.size, what, end);
  return true;
}

/* True, with a sentence, if the active L1 table or an L2 table ends past the end of the file. */
static bool tables_cut(const struct qcow2_layer *layer, uint8_t piece[PIECE_BYTES], char *out,
                       size_t out_size)
{
  const struct qcow2_storage *storage = &layer->file.storage;
  uint64_t bytes = (uint64_t) layer->tables.l1_size * L1_ENTRY_BYTES;

  if (!range_fits(layer->tables.l1_offset, bytes, storage->size))
    return tell_short(out, out_size, layer, "its L1 table", layer->tables.l1_offset + bytes);
  for (uint64_t done = 0; done < bytes; done += PIECE_BYTES) {
    size_t length = (size_t) min_u64(bytes - done, PIECE_BYTES);

    if (qcow2_storage_read(storage, layer->tables.l1_offset + done, piece, length, NULL) != 0)
      return false; /* reading will tell */
    for (size_t at = 0; at < length; at += L1_ENTRY_BYTES) {
      uint64_t l2_offset = be64_get(piece + at) & TABLE_OFFSET_MASK;

      if (!range_fits(l2_offset, layer->geometry.cluster_size, storage->size))
        return tell_short(out, out_size, layer, "one of its L2 tables",
                          l2_offset + layer->geometry.cluster_size);
    }
  }
  return false;
}

/* The index of the last byte that is not 0 in [start, start + bytes) of the file, counted from start. -1: there is
   none, or it cannot be read. */
static int64_t last_used_byte(const struct qcow2_storage *storage, uint64_t start, uint64_t bytes,
                              uint8_t piece[PIECE_BYTES])
{
  while (bytes > 0) {
    size_t length = (size_t) (bytes % PIECE_BYTES != 0 ? bytes % PIECE_BYTES : PIECE_BYTES);

    bytes -= length;
    if (qcow2_storage_read(storage, start + bytes, piece, length, NULL) != 0)
      return -1;
    while (length > 0)
      if (piece[--length] != 0)
        return (int64_t) (bytes + length);
  }
  return -1;
}

/* True, with a sentence, if the refcount table is unusable, or if clusters past the end of the file are in use. */
static bool refcounts_cut(const struct qcow2_layer *layer, uint8_t piece[PIECE_BYTES], char *out,
                          size_t out_size)
{
  const struct qcow2_header *header = &layer->metadata.header;
  const struct qcow2_storage *storage = &layer->file.storage;
  uint64_t cluster_size = layer->geometry.cluster_size, block_offset, last_cluster;
  uint64_t bytes = header->refcount_table_clusters * cluster_size;
  uint64_t per_block = cluster_size * 8 >> header->refcount_order;
  int64_t table_byte, block_byte;
  uint8_t entry[REFCOUNT_ENTRY_BYTES];

  if (bytes > REFCOUNT_TABLE_BYTES_MAX || !is_aligned(header->refcount_table_offset, cluster_size)) {
    snprintf(out, out_size, "the refcount table at host offset %" PRIu64 " of %" PRIu32
             " clusters is not valid", header->refcount_table_offset, header->refcount_table_clusters);
    return true;
  }
  if (!range_fits(header->refcount_table_offset, bytes, storage->size))
    return tell_short(out, out_size, layer, "its refcount table", header->refcount_table_offset + bytes);
  table_byte = last_used_byte(storage, header->refcount_table_offset, bytes, piece);
  if (table_byte < 0 ||
      qcow2_storage_read(storage, header->refcount_table_offset + ((uint64_t) table_byte & ~UINT64_C(7)),
                         entry, sizeof(entry), NULL) != 0)
    return false;
  block_offset = be64_get(entry) & REFCOUNT_TABLE_OFFSET_MASK;
  if (!range_fits(block_offset, cluster_size, storage->size))
    return tell_short(out, out_size, layer, "one of its refcount blocks", block_offset + cluster_size);
  block_byte = last_used_byte(storage, block_offset, cluster_size, piece);
  if (block_byte < 0)
    return false;
  last_cluster = (uint64_t) table_byte / REFCOUNT_ENTRY_BYTES * per_block +
                 (((uint64_t) block_byte * 8) >> header->refcount_order);
  if (last_cluster < divide_up(storage->size, cluster_size))
    return false;
  return tell_short(out, out_size, layer, "the last cluster that its refcounts call used",
                    last_cluster < UINT64_MAX / cluster_size - 1 ? (last_cluster + 1) * cluster_size
                                                                 : UINT64_MAX);
}

int qcow2_warnings_survey(struct qcow2_warnings *warnings, const struct qcow2_layer *layer,
                          struct qcow2_error *error)
{
  uint64_t features = layer->metadata.header.incompatible_features;
  uint8_t *piece = malloc(PIECE_BYTES);
  char sentence[320];
  int code = 0;

  if (piece == NULL)
    return qcow2_error_set_nomem(error);
  if ((features & QCOW2_INCOMPATIBLE_DIRTY) != 0)
    code = qcow2_warnings_add(warnings, layer->file.path,
                              "the image is marked dirty: it was not closed properly, and its "
                              "refcounts may be wrong", error);
  if (code == 0 && (features & QCOW2_INCOMPATIBLE_CORRUPT) != 0)
    code = qcow2_warnings_add(warnings, layer->file.path,
                              "the image is marked corrupt by the program that wrote it", error);
  if (code == 0 && (tables_cut(layer, piece, sentence, sizeof(sentence)) ||
                    refcounts_cut(layer, piece, sentence, sizeof(sentence))))
    code = qcow2_warnings_add(warnings, layer->file.path, sentence, error);
  free(piece);
  return code;
}
