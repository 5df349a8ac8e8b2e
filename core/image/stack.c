/* SPDX-License-Identifier: MIT */
#include "stack.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"

/* ---- Looking through the layers --------------------------------------------- */

static int map_layer(const struct qcow2_stack *stack, size_t layer, uint64_t guest_offset,
                     uint64_t length, struct qcow2_mapping *mapping, struct qcow2_error *error)
{
  const struct qcow2_layer *file = stack->layers[layer];
  int code;

  if (layer == 0 && stack->top != NULL)
    return stack->top(stack->top_context, guest_offset, length, mapping, error);
  code = qcow2_layer_map(file, layer == 0 ? &stack->tables : &file->tables,
                         layer == 0 ? stack->end : file->size, guest_offset, length, mapping,
                         error);

  if (code == 0 && stack->under_zeros)
    qcow2_layer_uncover(file, mapping);
  return code;
}

int qcow2_stack_find(const struct qcow2_stack *stack, struct qcow2_holes *holes,
                     uint64_t guest_offset, uint64_t length, struct qcow2_piece *piece,
                     struct qcow2_error *error)
{
  size_t lowest = stack->layer_count - 1;

  for (size_t layer = 0;; layer++) {
    int code;

    assert(layer <= lowest); /* the lowest layer is never noted as a hole, so the loop ends there */
    if (holes->end[layer] > guest_offset) {
      length = min_u64(length, holes->end[layer] - guest_offset);
      continue;
    }
    code = map_layer(stack, layer, guest_offset, length, &piece->mapping, error);
    piece->layer = layer;
    if (code != 0) {
      if (layer > 0) /* after this, a layer above may have bytes of its own */
        piece->mapping.length = min_u64(piece->mapping.length, length);
      return code;
    }
    if (piece->mapping.kind != QCOW2_CLUSTER_UNALLOCATED || layer == lowest)
      return 0;
    length = piece->mapping.length;
    holes->end[layer] = guest_offset + length;
  }
}

void qcow2_holes_clear(struct qcow2_holes *holes, const struct qcow2_stack *stack)
{
  memset(holes->end, 0, stack->layer_count * sizeof(holes->end[0]));
}

/* ---- Remembering holes between reads ---------------------------------------- */

/* For regions of REGION_BYTES it is remembered how many layers, from the topmost on, have a hole
   there that is as long as the region. The number of the region and this count (at most 255) are in
   one word, so that threads need no lock. Several regions share a slot; the last one that was read
   is in it. */
#define REGION_BYTES UINT64_C(65536)
#define REGION_SLOTS 8192u
#define LAYERS_WORTH_REMEMBERING 3u

_Static_assert(CHAIN_DEPTH_MAX <= 256, "the number of layers above the lowest fits 8 bits");

void qcow2_stack_remember(struct qcow2_stack *stack)
{
  if (stack->layer_count >= LAYERS_WORTH_REMEMBERING)
    stack->known = calloc(REGION_SLOTS, sizeof(stack->known[0]));
}

void qcow2_stack_forget(struct qcow2_stack *stack)
{
  free(stack->known);
}

/* Count the topmost layers that have a hole in the whole region, without the lowest layer. */
static size_t count_holes(const struct qcow2_stack *stack, uint64_t region_offset, uint64_t length)
{
  struct qcow2_mapping mapping;
  size_t layer = 0;

  while (layer < stack->layer_count - 1 &&
         map_layer(stack, layer, region_offset, length, &mapping, NULL) == 0 &&
         mapping.kind == QCOW2_CLUSTER_UNALLOCATED && mapping.length == length)
    layer++;
  return layer;
}

void qcow2_holes_recall(struct qcow2_holes *holes, const struct qcow2_stack *stack,
                        uint64_t guest_offset)
{
  uint64_t region = guest_offset / REGION_BYTES, region_end, word;
  size_t count;

  if (stack->known == NULL || holes->end[0] > guest_offset)
    return;
  region_end = min_u64((region + 1) * REGION_BYTES, stack->end);
  word = atomic_load_explicit(&stack->known[region % REGION_SLOTS], memory_order_relaxed);
  if (word >> 8 == region + 1)
    count = word & 0xff;
  else {
    count = count_holes(stack, region * REGION_BYTES, region_end - region * REGION_BYTES);
    word = (region + 1) << 8 | count;
    atomic_store_explicit(&stack->known[region % REGION_SLOTS], word, memory_order_relaxed);
  }
  for (size_t layer = 0; layer < count; layer++)
    holes->end[layer] = region_end;
}
