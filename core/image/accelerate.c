/* SPDX-License-Identifier: MIT */
#include "accelerate.h"

#include "../base/checked.h"
#include "../read/ahead.h"

/* The size of a unit that is decoded ahead: this, or a cluster if that is larger. */
#define UNIT_BYTES_MIN 65536u

/* ---- Decoding ahead ------------------------------------------------------- */

static uint32_t largest_cluster(const struct qcow2_stack *stack)
{
  uint32_t largest = 0;

  for (size_t i = 0; i < stack->layer_count; i++)
    if (stack->layers[i]->geometry.cluster_size > largest)
      largest = stack->layers[i]->geometry.cluster_size;
  return largest;
}

/* Decode the pieces of a unit. Errors are ignored: the reader of the piece gets them. */
static void decode_ahead(void *context, uint64_t guest_offset, uint64_t length)
{
  const struct qcow2_stack *stack = context;
  struct qcow2_holes holes;
  struct qcow2_piece piece;

  qcow2_holes_clear(&holes, stack);
  for (; length > 0; length -= piece.mapping.length) {
    qcow2_holes_recall(&holes, stack, guest_offset);
    if (qcow2_stack_find(stack, &holes, guest_offset, length, &piece, NULL) == 0)
      qcow2_cluster_decode_ahead(&stack->layers[piece.layer]->source, &piece.mapping);
    piece.mapping.length = min_u64(piece.mapping.length, length);
    guest_offset += piece.mapping.length;
  }
}

static void start_ahead(struct qcow2_accelerator *accelerator, struct qcow2_ahead *ahead)
{
  uint32_t cluster_size = largest_cluster(accelerator->stack);
  struct qcow2_ahead_disk disk = {
    .end = accelerator->stack->end,
    .unit = cluster_size > UNIT_BYTES_MIN ? cluster_size : UNIT_BYTES_MIN,
    .in_parts = cluster_size < UNIT_BYTES_MIN,
    .work = decode_ahead,
    .context = (void *) (uintptr_t) accelerator->stack,
  };

  accelerator->unit = disk.unit;
  accelerator->reader = qcow2_ahead_reader_new(ahead, &disk);
}

void qcow2_accelerator_wait_and_limit(struct qcow2_accelerator *accelerator,
                                      const struct qcow2_piece *piece, uint64_t guest_offset,
                                      size_t *count)
{
  const struct qcow2_layer *layer = accelerator->stack->layers[piece->layer];
  uint32_t unit = accelerator->unit;

  if (!qcow2_cluster_needs_decoding(&layer->source, &piece->mapping, guest_offset))
    return;
  atomic_store_explicit(&accelerator->needs_decoding, true, memory_order_relaxed);
  if (accelerator->reader == NULL)
    return;
  *count = (size_t) min_u64(*count, unit - guest_offset % unit);
  qcow2_ahead_reach(accelerator->reader, guest_offset);
}

/* ---- Small reads ------------------------------------------------------------ */

/* Note a read. Returns how many bytes were read just before it in ascending order. With several
   threads this is only approximate. */
static uint64_t note_run(struct qcow2_accelerator *accelerator, uint64_t view_offset, size_t length)
{
  uint64_t run = atomic_load_explicit(&accelerator->run_end, memory_order_relaxed) == view_offset
                     ? atomic_load_explicit(&accelerator->run, memory_order_relaxed)
                     : 0;

  atomic_store_explicit(&accelerator->run, run + length, memory_order_relaxed);
  atomic_store_explicit(&accelerator->run_end, view_offset + length, memory_order_relaxed);
  return run;
}

bool qcow2_accelerator_read(struct qcow2_accelerator *accelerator, uint64_t view_offset,
                            void *buffer, size_t length)
{
  bool is_fine = atomic_load_explicit(&accelerator->needs_decoding, memory_order_relaxed);
  enum qcow2_block_size size = is_fine ? QCOW2_BLOCKS_FINE : QCOW2_BLOCKS_COARSE;

  return qcow2_blocks_suit(size, length, note_run(accelerator, view_offset, length)) &&
         qcow2_blocks_read(&accelerator->blocks, size, view_offset, buffer, length);
}

/* ---- The whole ---------------------------------------------------------------- */

void qcow2_accelerator_start(struct qcow2_accelerator *accelerator, struct qcow2_image *image,
                             const struct qcow2_stack *stack, uint64_t size,
                             qcow2_blocks_load *load, void *context)
{
  accelerator->stack = stack;
  accelerator->blocks = (struct qcow2_blocks){
    .caches = { [QCOW2_BLOCKS_COARSE] = image->shared.coarse_cache,
                [QCOW2_BLOCKS_FINE] = image->shared.small_cache },
    .cache_owner = atomic_fetch_add(&image->views_opened, 1),
    .size = size,
    .load = load,
    .context = context,
  };
  if (image->shared.ahead != NULL && qcow2_chain_is_of_files(&image->chain))
    start_ahead(accelerator, image->shared.ahead);
}

void qcow2_accelerator_stop(struct qcow2_accelerator *accelerator)
{
  qcow2_ahead_reader_free(accelerator->reader);
  accelerator->reader = NULL;
}
