/* SPDX-License-Identifier: MIT */
#include "inode_counts.h"

#include <stdlib.h>
#include <string.h>

#include "keyed_hash.h"

/* The slot of an inode, or a free one for it. */
static struct inode_count *find_slot(struct inode_count *slots, size_t slot_count, uint64_t inode)
{
  struct keyed_hash hash;
  size_t slot;

  keyed_hash_start(&hash);
  keyed_hash_add_number(&hash, inode);
  slot = (size_t) keyed_hash_finish(&hash) & (slot_count - 1);
  while (slots[slot].count != 0 && slots[slot].inode != inode)
    slot = (slot + 1) & (slot_count - 1);
  return &slots[slot];
}

static bool grow(struct inode_counts *counts)
{
  size_t slot_count = counts->slot_count == 0 ? 256 : counts->slot_count * 2;
  struct inode_count *slots = calloc(slot_count, sizeof(slots[0]));

  if (slots == NULL)
    return false;
  for (size_t i = 0; i < counts->slot_count; i++)
    if (counts->slots[i].count != 0)
      *find_slot(slots, slot_count, counts->slots[i].inode) = counts->slots[i];
  free(counts->slots);
  counts->slots = slots;
  counts->slot_count = slot_count;
  return true;
}

bool inode_counts_add(struct inode_counts *counts, uint64_t inode, uint32_t *count)
{
  struct inode_count *slot;

  if (counts->used * 2 >= counts->slot_count && !grow(counts))
    return false;
  slot = find_slot(counts->slots, counts->slot_count, inode);
  counts->used += slot->count == 0;
  slot->inode = inode;
  *count = ++slot->count;
  return true;
}

void inode_counts_free(struct inode_counts *counts)
{
  free(counts->slots);
  memset(counts, 0, sizeof(*counts));
}
