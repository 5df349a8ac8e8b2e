/* SPDX-License-Identifier: MIT */
#include "sameness.h"

#include <string.h>

#include "../base/checked.h"
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

/* True if equal streams are decoded to equal bytes: the caller may have given a layout. */
static bool is_same_coding(const struct qcow2_layer *a, const struct qcow2_layer *b)
{
  return a->source.compressed.compression == b->source.compressed.compression &&
         a->source.compressed.cluster_size == b->source.compressed.cluster_size;
}

/* What of two layers is equal bytes of the disk if its offsets are equal. */
struct sources {
  bool normal, streams;
};

static struct sources compare_sources(const struct qcow2_placed_piece *a,
                                      const struct qcow2_placed_piece *b)
{
  const struct qcow2_layer *layer_a = layer_of(a), *layer_b = layer_of(b);

  if (layer_a != layer_b &&
      !is_same_file(&layer_a->file, layer_a->format, &layer_b->file, layer_b->format))
    return (struct sources){ .normal = false };
  return (struct sources){
    .normal = (layer_a == layer_b || is_same_data(layer_a, layer_b)) && is_same_cipher(a, b),
    .streams = layer_a == layer_b || is_same_coding(layer_a, layer_b),
  };
}

static bool has_equal_offsets(const struct qcow2_placed_piece *a,
                              const struct qcow2_placed_piece *b)
{
  const struct qcow2_mapping *of_a = &a->piece.mapping, *of_b = &b->piece.mapping;

  return of_a->kind == of_b->kind && of_a->host_offset == of_b->host_offset &&
         of_a->host_bytes == of_b->host_bytes && is_inside_file(a) && is_inside_file(b);
}

static bool is_same(const struct qcow2_placed_piece *a, const struct qcow2_placed_piece *b,
                    const struct sources *sources)
{
  enum qcow2_cluster_kind kind = a->piece.mapping.kind;

  return (reads_zeros(a) && reads_zeros(b)) ||
         (((kind == QCOW2_CLUSTER_NORMAL && sources->normal) ||
           (kind == QCOW2_CLUSTER_COMPRESSED && sources->streams)) &&
          has_equal_offsets(a, b));
}

bool qcow2_pieces_are_same(const struct qcow2_placed_piece *a, const struct qcow2_placed_piece *b)
{
  const struct sources sources = compare_sources(a, b);

  return is_same(a, b, &sources);
}

/* ---- Entry by entry ------------------------------------------------------------ */

/* One of two stacks, and the part of it that was reached. */
struct side {
  struct qcow2_placed_piece placed;
  struct qcow2_entries entries;
};

static bool side_begin(struct side *side, const struct qcow2_stack *stack, uint64_t guest_offset)
{
  side->placed = (struct qcow2_placed_piece){ .stack = stack, .guest_offset = guest_offset };
  return stack->top == NULL && !stack->under_zeros && !stack->layers[0]->is_raw &&
         qcow2_entries_pin(&stack->tables, guest_offset, &side->entries);
}

/* Find the next part. False: its entry is not in the slice, or a layer below has the bytes. */
static bool side_find(struct side *side)
{
  struct qcow2_mapping *mapping = &side->placed.piece.mapping;
  struct qcow2_cluster_part part;

  if (!qcow2_entries_decode(&side->entries, &part) ||
      (part.kind == QCOW2_CLUSTER_UNALLOCATED && side->placed.stack->layer_count > 1))
    return false;
  mapping->kind = part.kind;
  mapping->length = part.length;
  mapping->host_offset = part.host_offset;
  mapping->host_bytes = part.host_bytes;
  qcow2_layer_cut_at_file_end(layer_of(&side->placed), mapping);
  return true;
}

static uint64_t compare_sides(struct side *a, struct side *b, uint64_t length, bool *same)
{
  const struct sources sources = compare_sources(&a->placed, &b->placed);
  uint64_t done = 0, step;

  for (; done < length && side_find(a) && side_find(b); done += step) {
    bool is_next_same = is_same(&a->placed, &b->placed, &sources);

    if (done > 0 && is_next_same != *same)
      break;
    *same = is_next_same;
    step = min_u64(length - done,
                   min_u64(a->placed.piece.mapping.length, b->placed.piece.mapping.length));
    qcow2_entries_advance(&a->entries, step);
    qcow2_entries_advance(&b->entries, step);
  }
  return done;
}

uint64_t qcow2_entries_are_same(const struct qcow2_stack *a, uint64_t a_offset,
                                const struct qcow2_stack *b, uint64_t b_offset, uint64_t length,
                                bool *same)
{
  struct side of_a, of_b;
  uint64_t done = 0;

  if (!side_begin(&of_a, a, a_offset))
    return 0;
  if (side_begin(&of_b, b, b_offset)) {
    done = compare_sides(&of_a, &of_b, length, same);
    qcow2_entries_unpin(&of_b.entries);
  }
  qcow2_entries_unpin(&of_a.entries);
  return done;
}
