/* SPDX-License-Identifier: MIT */
#include "stack.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"

/* ---- One layer after the other -------------------------------------------- */

static int map_layer(const struct qcow2_stack *stack, size_t layer, uint64_t guest_offset,
                     uint64_t length, struct qcow2_mapping *mapping, struct qcow2_error *error)
{
  const struct qcow2_layer *file = stack->layers[layer];
  int code = qcow2_layer_map(file, layer == 0 ? &stack->tables : &file->tables,
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
      if (layer > 0) /* a layer above may have more to say further on */
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

/* ---- From read to read ----------------------------------------------------- */

/* For places of PLACE_BYTES it is remembered how many layers, from the topmost on, leave all of it
   to those below. A place's number and that count (at most 255) share a word, so threads need no
   lock. Places that share a slot drive each other out. */
#define PLACE_BYTES UINT64_C(65536)
#define PLACE_SLOTS 8192u
#define LAYERS_WORTH_REMEMBERING 3u

_Static_assert(CHAIN_DEPTH_MAX <= 256, "the number of layers above the lowest fits 8 bits");

void qcow2_stack_remember(struct qcow2_stack *stack)
{
  if (stack->layer_count >= LAYERS_WORTH_REMEMBERING)
    stack->known = calloc(PLACE_SLOTS, sizeof(stack->known[0]));
}

void qcow2_stack_forget(struct qcow2_stack *stack)
{
  free(stack->known);
}

/* Count the topmost layers that leave the whole place to those below; the lowest is not asked. */
static size_t count_holes(const struct qcow2_stack *stack, uint64_t place_offset, uint64_t length)
{
  struct qcow2_mapping mapping;
  size_t layer = 0;

  while (layer < stack->layer_count - 1 &&
         map_layer(stack, layer, place_offset, length, &mapping, NULL) == 0 &&
         mapping.kind == QCOW2_CLUSTER_UNALLOCATED && mapping.length == length)
    layer++;
  return layer;
}

void qcow2_holes_recall(struct qcow2_holes *holes, const struct qcow2_stack *stack,
                        uint64_t guest_offset)
{
  uint64_t place = guest_offset / PLACE_BYTES, place_end, word;
  size_t count;

  if (stack->known == NULL || holes->end[0] > guest_offset)
    return;
  place_end = min_u64((place + 1) * PLACE_BYTES, stack->end);
  word = atomic_load_explicit(&stack->known[place % PLACE_SLOTS], memory_order_relaxed);
  if (word >> 8 == place + 1)
    count = word & 0xff;
  else {
    count = count_holes(stack, place * PLACE_BYTES, place_end - place * PLACE_BYTES);
    word = (place + 1) << 8 | count;
    atomic_store_explicit(&stack->known[place % PLACE_SLOTS], word, memory_order_relaxed);
  }
  for (size_t layer = 0; layer < count; layer++)
    holes->end[layer] = place_end;
}
