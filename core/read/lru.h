/* SPDX-License-Identifier: MIT */
/* Items in the order of their last use, and the sum of their bytes. One thread at a time. */
#ifndef QCOW2_READ_LRU_H
#define QCOW2_READ_LRU_H

#include <stddef.h>

struct lru_item {
  struct lru *list;
  struct lru_item *newer, *older;
  size_t bytes;
};

struct lru {
  struct lru_item *newest, *oldest; /* NULL if the list is empty */
  size_t bytes;
};

/* Add an item between two that are neighbours; NULL stands for the end of the list. */
static inline void lru_insert(struct lru *list, struct lru_item *item, struct lru_item *newer,
                              struct lru_item *older)
{
  item->list = list;
  item->newer = newer;
  item->older = older;
  if (newer != NULL)
    newer->older = item;
  else
    list->newest = item;
  if (older != NULL)
    older->newer = item;
  else
    list->oldest = item;
  list->bytes += item->bytes;
}

static inline void lru_add_newest(struct lru *list, struct lru_item *item)
{
  lru_insert(list, item, NULL, list->newest);
}

static inline void lru_add_oldest(struct lru *list, struct lru_item *item)
{
  lru_insert(list, item, list->oldest, NULL);
}

/* Take the item out of its list. */
static inline void lru_remove(struct lru_item *item)
{
  struct lru *list = item->list;

  if (item->newer != NULL)
    item->newer->older = item->older;
  else
    list->newest = item->older;
  if (item->older != NULL)
    item->older->newer = item->newer;
  else
    list->oldest = item->newer;
  list->bytes -= item->bytes;
}

#endif
