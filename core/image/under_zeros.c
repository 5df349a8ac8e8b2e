/* SPDX-License-Identifier: MIT */
#include "under_zeros.h"

#include <inttypes.h>
#include <stdio.h>

#include "../base/checked.h"

/* The limits of counting: lookups, and bytes of tables. They take seconds, and are enough for a
   disk of 8 TiB with clusters of 64 KiB. */
#define LOOK_UPS_MAX (UINT64_C(4) << 20)
#define TABLE_BYTES_MAX (UINT64_C(1) << 30)
/* Tables are read in slices of at most this many bytes (read/slices.h). */
#define SLICE_BYTES_MAX 16384u

struct count {
  uint64_t bytes;
  uint64_t look_ups, table_bytes; /* left */
  size_t layer;                   /* of the slice that was used last, */
  uint64_t slice;                 /* and its number */
};

/* Subtract the cost of a lookup from what is left. False: the limit is reached. */
static bool pay(const struct qcow2_stack *stack, struct count *count,
                const struct qcow2_piece *piece)
{
  const struct qcow2_layer *layer = stack->layers[piece->layer];
  uint64_t bytes = min_u64(layer->geometry.cluster_size, SLICE_BYTES_MAX);
  uint64_t slice = bytes == 0 ? 0 : piece->mapping.table_offset / bytes;

  if (slice == count->slice && piece->layer == count->layer)
    bytes = 0;
  if (count->look_ups < piece->layer + 1 || count->table_bytes < bytes)
    return false;
  count->layer = piece->layer;
  count->slice = slice;
  count->table_bytes -= bytes;
  count->look_ups -= piece->layer + 1;
  return true;
}

/* Count the bytes from `at` to the end of the stack. False: the limit is reached, or a table cannot
   be read, whose bytes are not counted. */
static bool count_bytes(const struct qcow2_stack *stack, uint64_t at, struct count *count)
{
  struct qcow2_holes holes;
  struct qcow2_piece piece;
  bool is_complete = true;

  qcow2_holes_clear(&holes, stack);
  for (; at < stack->end; at += min_u64(piece.mapping.length, stack->end - at)) {
    int code = qcow2_stack_find(stack, &holes, at, stack->end - at, &piece, NULL);

    if (!pay(stack, count, &piece))
      return false;
    is_complete = is_complete && code == 0;
    if (code == 0 && qcow2_layer_is_covered(stack->layers[piece.layer], &piece.mapping))
      count->bytes += piece.mapping.length;
  }
  return is_complete;
}

int qcow2_under_zeros_warn(const struct qcow2_stack *stack, uint64_t start,
                           struct qcow2_warnings *warnings, struct qcow2_error *error)
{
  struct count count = { .look_ups = LOOK_UPS_MAX,
                         .table_bytes = TABLE_BYTES_MAX,
                         .slice = UINT64_MAX };
  bool is_complete = count_bytes(stack, start, &count);
  char sentence[256];

  snprintf(sentence, sizeof(sentence),
           "under-zeros: %s%" PRIu64 " bytes that the image says are zeros are shown as what is "
           "stored in their clusters, which its machine could no longer see",
           is_complete ? "" : "at least ", count.bytes);
  return qcow2_warnings_add(warnings, NULL, sentence, error);
}
