/* SPDX-License-Identifier: MIT */
#include "slabs.h"

#include <stdint.h>
#include <stdlib.h>

#include "../base/system.h"

/* Items begin at multiples of this, and so does the first one, after the slab's own fields. */
#define ITEM_ALIGNMENT 64u

/* An item that is not in use. */
struct unused {
  struct unused *next;
};

struct slab {
  struct slab *next, *previous; /* in the list of those with room */
  struct unused *unused;        /* items that were given back */
  size_t end;                   /* offset in the slab behind the last item that was ever taken */
  size_t items;                 /* in use */
};

static size_t align(size_t bytes)
{
  return (bytes + ITEM_ALIGNMENT - 1) / ITEM_ALIGNMENT * ITEM_ALIGNMENT;
}

/* The slab of an item: it begins at a multiple of its size. */
static struct slab *slab_of(void *item)
{
  return (struct slab *) ((uintptr_t) item & ~(uintptr_t) (SLAB_BYTES - 1));
}

static bool has_room(const struct qcow2_slabs *slabs, const struct slab *slab)
{
  return slab->unused != NULL || SLAB_BYTES - slab->end >= align(slabs->item_bytes);
}

static void list_add(struct qcow2_slabs *slabs, struct slab *slab)
{
  slab->previous = NULL;
  slab->next = slabs->with_room;
  if (slab->next != NULL)
    slab->next->previous = slab;
  slabs->with_room = slab;
}

static void list_remove(struct qcow2_slabs *slabs, const struct slab *slab)
{
  if (slab->previous != NULL)
    slab->previous->next = slab->next;
  else
    slabs->with_room = slab->next;
  if (slab->next != NULL)
    slab->next->previous = slab->previous;
}

static struct slab *slab_new(struct qcow2_slabs *slabs)
{
  struct slab *slab = qcow2_system_take_aligned(SLAB_BYTES);

  if (slab == NULL)
    return NULL;
  *slab = (struct slab){ .end = align(sizeof(*slab)) };
  list_add(slabs, slab);
  return slab;
}

static void *take_from_slab(struct qcow2_slabs *slabs)
{
  struct slab *slab = slabs->with_room != NULL ? slabs->with_room : slab_new(slabs);
  void *item;

  if (slab == NULL)
    return NULL;
  if (slab->unused != NULL) {
    item = slab->unused;
    slab->unused = slab->unused->next;
  } else {
    item = (uint8_t *) slab + slab->end;
    slab->end += align(slabs->item_bytes);
  }
  slab->items++;
  if (!has_room(slabs, slab))
    list_remove(slabs, slab);
  return item;
}

static void give_to_slab(struct qcow2_slabs *slabs, void *item)
{
  struct slab *slab = slab_of(item);
  struct unused *unused = item;

  if (!has_room(slabs, slab))
    list_add(slabs, slab);
  unused->next = slab->unused;
  slab->unused = unused;
  if (--slab->items > 0)
    return;
  list_remove(slabs, slab);
  qcow2_system_give_aligned(slab);
}

void *qcow2_slabs_take(struct qcow2_slabs *slabs, size_t bytes, size_t held_bytes, bool *is_in_slab)
{
  *is_in_slab = bytes == slabs->item_bytes && held_bytes >= SLAB_BYTES;
  return *is_in_slab ? take_from_slab(slabs) : malloc(bytes);
}

void qcow2_slabs_give(struct qcow2_slabs *slabs, void *item, bool is_in_slab)
{
  if (is_in_slab)
    give_to_slab(slabs, item);
  else
    free(item);
}
