/* SPDX-License-Identifier: MIT */
#include "sameness.h"

#include <string.h>

#include "../format/luks.h"

static const struct qcow2_layer *layer_of(const struct qcow2_placed_piece *placed)
{
  return placed->stack->layers[placed->piece.layer];
}

static bool reads_zeros(const struct qcow2_placed_piece *placed)
{
  enum qcow2_cluster_kind kind = placed->piece.mapping.kind;

  return kind == QCOW2_CLUSTER_UNALLOCATED || kind == QCOW2_CLUSTER_ZERO ||
         kind == QCOW2_CLUSTER_ZERO_ALLOCATED;
}

static bool is_same_text(const char *a, const char *b)
{
  return a != NULL && b != NULL && strcmp(a, b) == 0;
}

/* True if both are the same file, and were opened so that they have the same bytes. A disk that is
   not qcow2 may continue in other files, which are found by the name of the first. So both must
   also have the same path and format. */
static bool is_same_file(const struct qcow2_opened_file *a, const char *a_format,
                         const struct qcow2_opened_file *b, const char *b_format)
{
  bool is_qcow2 = is_same_text(a_format, "qcow2") && is_same_text(b_format, "qcow2");

  return qcow2_opened_file_same(a, b) &&
         (is_qcow2 || (is_same_text(a_format, b_format) && is_same_text(a->path, b->path)));
}

/* True if both layers have the same data file, or neither has one. */
static bool is_same_data(const struct qcow2_layer *a, const struct qcow2_layer *b)
{
  if ((a->data_format != NULL) != (b->data_format != NULL))
    return false;
  return a->data_format == NULL ||
         is_same_file(&a->data_file, a->data_format, &b->data_file, b->data_format);
}

/* True if equal encrypted bytes are equal bytes of the disk. With LUKS the keys are equal: the
   digest in the header proves it. With legacy AES they need not be. */
static bool is_same_cipher(const struct qcow2_placed_piece *a, const struct qcow2_placed_piece *b)
{
  const struct qcow2_layer *of_a = layer_of(a), *of_b = layer_of(b);

  if (of_a->cipher == NULL && of_b->cipher == NULL)
    return true;
  if (of_a->cipher == NULL || of_b->cipher == NULL)
    return false;
  if (of_a->source.encrypted.cipher_counts_guest)
    return of_a == of_b && a->guest_offset == b->guest_offset;
  return !of_b->source.encrypted.cipher_counts_guest;
}

/* True if the first byte of the piece is in its file; if it is encrypted, its whole sector. */
static bool is_inside_file(const struct qcow2_placed_piece *placed)
{
  const struct qcow2_mapping *mapping = &placed->piece.mapping;
  const struct qcow2_layer *layer = layer_of(placed);
  uint64_t size = mapping->kind == QCOW2_CLUSTER_COMPRESSED ? layer->file.storage.size
                                                            : layer->source.data->size;

  if (mapping->kind == QCOW2_CLUSTER_NORMAL && layer->cipher != NULL)
    size -= size % ENCRYPTION_SECTOR_BYTES;
  return mapping->host_offset < size;
}

bool qcow2_pieces_are_same(const struct qcow2_placed_piece *a, const struct qcow2_placed_piece *b)
{
  const struct qcow2_mapping *of_a = &a->piece.mapping, *of_b = &b->piece.mapping;
  const struct qcow2_layer *layer_a = layer_of(a), *layer_b = layer_of(b);

  if (reads_zeros(a) && reads_zeros(b))
    return true;
  if (of_a->kind != of_b->kind || of_a->host_offset != of_b->host_offset ||
      of_a->host_bytes != of_b->host_bytes || !is_inside_file(a) || !is_inside_file(b))
    return false;
  if (layer_a != layer_b &&
      !is_same_file(&layer_a->file, layer_a->format, &layer_b->file, layer_b->format))
    return false;
  if (of_a->kind == QCOW2_CLUSTER_NORMAL)
    return (layer_a == layer_b || is_same_data(layer_a, layer_b)) && is_same_cipher(a, b);
  return of_a->kind == QCOW2_CLUSTER_COMPRESSED;
}
