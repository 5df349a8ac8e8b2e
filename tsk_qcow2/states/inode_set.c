/* SPDX-License-Identifier: MIT */
#include "inode_set.h"

#include <stdlib.h>
#include <string.h>

#include "keyed_hash.h"

static size_t slot_of(const uint64_t *slots, size_t slot_count, uint64_t value)
{
  struct keyed_hash hash;
  size_t slot;

  keyed_hash_start(&hash);
  keyed_hash_add_number(&hash, value);
  slot = (size_t) keyed_hash_finish(&hash) & (slot_count - 1);
  while (slots[slot] != 0 && slots[slot] != value)
    slot = (slot + 1) & (slot_count - 1);
  return slot;
}

static bool grow(struct inode_set *set)
{
  size_t slot_count = set->slot_count == 0 ? 256 : set->slot_count * 2;
  uint64_t *slots = calloc(slot_count, sizeof(slots[0]));

  if (slots == NULL)
    return false;
  for (size_t i = 0; i < set->slot_count; i++)
    if (set->slots[i] != 0)
      slots[slot_of(slots, slot_count, set->slots[i])] = set->slots[i];
  free(set->slots);
  set->slots = slots;
  set->slot_count = slot_count;
  return true;
}

enum inode_set_answer inode_set_add(struct inode_set *set, uint64_t inode)
{
  size_t slot;

  if (set->used * 2 >= set->slot_count && !grow(set))
    return INODE_SET_NO_MEMORY;
  slot = slot_of(set->slots, set->slot_count, inode + 1);
  if (set->slots[slot] != 0)
    return INODE_SET_KNOWN;
  set->slots[slot] = inode + 1;
  set->used++;
  return INODE_SET_ADDED;
}

void inode_set_free(struct inode_set *set)
{
  free(set->slots);
  memset(set, 0, sizeof(*set));
}
