/* SPDX-License-Identifier: MIT */
#include "cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../base/locks.h"
#include "../base/system.h"
#include "lru.h"
#include "slabs.h"

/* The hash table has one bucket for this many bytes of the budget, which is about the size of a
   small block. */
#define BUDGET_PER_BUCKET 4096u
#define BUCKET_BITS_MIN 6u
/* For a cache that keeps a part of long walks: the part of the budget for recent blocks, and one of
   how many blocks is kept when it is no longer recent. */
#define RECENT_SHARE(budget) ((budget) / 16)
#define KEPT_ONE_OF 4u
/* A cache borrows until it holds this many blocks. */
#define BLOCKS_MIN 20u

LOCK_KIND(cache_lock);

enum entry_state {
  ENTRY_LOADING, /* one thread fills it, others wait */
  ENTRY_READY,
  ENTRY_FAILED /* no longer in the table; the threads that wait for it look it up again */
};

struct entry {
  /* First, because a block's address is used as the entry's. Its data follows the entry. */
  struct qcow2_cache_block block;
  struct qcow2_cache_key key;
  enum entry_state state GUARDED_BY(cache_lock);
  bool is_unused GUARDED_BY(cache_lock); /* it was loaded ahead, and was not asked for yet */
  bool is_in_slab;                       /* for slabs.h */
  unsigned pins GUARDED_BY(cache_lock);  /* users, loader and waiters */
  struct entry *bucket_next GUARDED_BY(cache_lock);
  struct lru_item use GUARDED_BY(cache_lock); /* in `recent` or `kept` */
};

/* How much of the budget an entry takes. */
static size_t entry_bytes(size_t length)
{
  return sizeof(struct entry) + length;
}

static struct entry *entry_of(struct lru_item *use)
{
  return (struct entry *) ((char *) use - offsetof(struct entry, use));
}

struct qcow2_cache {
  pthread_mutex_t lock;
  pthread_cond_t loaded_one;
  size_t budget;
  bool keeps_part;
  struct qcow2_slabs slabs GUARDED_BY(cache_lock); /* for blocks of the usual length */
  unsigned left GUARDED_BY(cache_lock);            /* entries that stopped being recent */
  struct lru recent GUARDED_BY(cache_lock), kept GUARDED_BY(cache_lock); /* see cache.h */
  _Atomic size_t used;          /* their bytes, for the other cache to read: */
  struct qcow2_cache *lender;   /* it lends to this one what it does not use; or NULL */
  struct qcow2_cache *borrower; /* this one lends to it; or NULL */
  struct entry **buckets;       /* 1 << bucket_bits */
  unsigned bucket_bits;
  uint64_t offset_factor, space_factor; /* odd */
};

static void lock(struct qcow2_cache *cache) LOCKS(cache_lock)
{
  pthread_mutex_lock(&cache->lock);
}

static void unlock(struct qcow2_cache *cache) UNLOCKS(cache_lock)
{
  pthread_mutex_unlock(&cache->lock);
}

/* ---- The table --------------------------------------------------------- */

struct qcow2_cache_key qcow2_cache_key_make(enum qcow2_cache_kind kind, uint64_t owner,
                                            uint32_t detail, uint64_t offset)
{
  const uint64_t owner_mask = (UINT64_C(1) << 36) - 1;

  return (struct qcow2_cache_key){
    (uint64_t) kind << 60 | (owner & owner_mask) << 24 | (detail & 0xffffff), offset
  };
}

/* Multiply-shift hashing: the highest bits of a product. The factors are random, since the maker of
   an image chooses the offsets, and could choose offsets that all fall into one bucket. */
static struct entry **bucket_of(struct qcow2_cache *cache, struct qcow2_cache_key key)
    NEEDS_LOCK(cache_lock)
{
  uint64_t hash = key.offset * cache->offset_factor + key.space * cache->space_factor;

  return &cache->buckets[hash >> (64 - cache->bucket_bits)];
}

static struct entry *table_find(struct qcow2_cache *cache, struct qcow2_cache_key key)
    NEEDS_LOCK(cache_lock)
{
  struct entry *entry = *bucket_of(cache, key);

  while (entry != NULL && (entry->key.space != key.space || entry->key.offset != key.offset))
    entry = entry->bucket_next;
  return entry;
}

static void table_remove(struct qcow2_cache *cache, const struct entry *entry)
    NEEDS_LOCK(cache_lock)
{
  struct entry **link = bucket_of(cache, entry->key);

  while (*link != entry)
    link = &(*link)->bucket_next;
  *link = entry->bucket_next;
}

/* ---- Entries, with the lock held ---------------------------------------- */

static size_t bytes_used(const struct qcow2_cache *cache) NEEDS_LOCK(cache_lock)
{
  return cache->recent.bytes + cache->kept.bytes;
}

/* Take the entry out of the table and its list. It stays in memory as long as it is pinned. */
static void entry_detach(struct qcow2_cache *cache, struct entry *entry) NEEDS_LOCK(cache_lock)
{
  table_remove(cache, entry);
  lru_remove(&entry->use);
  atomic_store_explicit(&cache->used, bytes_used(cache), memory_order_relaxed);
}

/* Memory for an entry with a block of `length` bytes. NULL: there is none. */
static struct entry *entry_take(struct qcow2_cache *cache, size_t length) NEEDS_LOCK(cache_lock)
{
  bool is_in_slab;
  struct entry *entry = qcow2_slabs_take(&cache->slabs, entry_bytes(length), bytes_used(cache),
                                         &is_in_slab);

  if (entry != NULL)
    entry->is_in_slab = is_in_slab;
  return entry;
}

/* Give back the memory of an entry. NULL is allowed. */
static void entry_give(struct qcow2_cache *cache, struct entry *entry) NEEDS_LOCK(cache_lock)
{
  if (entry != NULL)
    qcow2_slabs_give(&cache->slabs, entry, entry->is_in_slab);
}

static void entry_unpin(struct qcow2_cache *cache, struct entry *entry) NEEDS_LOCK(cache_lock)
{
  entry->pins--;
  if (entry->pins == 0 && entry->state == ENTRY_FAILED)
    entry_give(cache, entry);
}

/* Evict the oldest unpinned entry of a list, which the caller gives back. NULL: there is none. */
static struct entry *evict_from(struct qcow2_cache *cache, const struct lru *list)
    NEEDS_LOCK(cache_lock)
{
  for (struct lru_item *use = list->oldest; use != NULL; use = use->newer) {
    struct entry *entry = entry_of(use);

    if (entry->pins > 0)
      continue;
    entry_detach(cache, entry);
    return entry;
  }
  return NULL;
}

static struct entry *evict_any(struct qcow2_cache *cache) NEEDS_LOCK(cache_lock)
{
  struct entry *entry = evict_from(cache, &cache->kept);

  return entry != NULL ? entry : evict_from(cache, &cache->recent);
}

/* What the cache does not use of its budget. Any thread, without the lock. */
static size_t unused(struct qcow2_cache *cache)
{
  size_t used = atomic_load_explicit(&cache->used, memory_order_relaxed);

  return used < cache->budget ? cache->budget - used : 0;
}

/* The budget, with what is borrowed for blocks of `length` bytes. */
static size_t budget_for(const struct qcow2_cache *cache, size_t length)
{
  size_t wanted = BLOCKS_MIN * entry_bytes(length);

  if (cache->lender == NULL || wanted <= cache->budget)
    return cache->budget;
  return cache->budget + (size_t) min_u64(wanted - cache->budget, unused(cache->lender));
}

/* Evict entries until a block of `length` bytes fits the budget, or only pinned ones are left.
   Returns memory for an entry with such a block: that of an evicted one, if it was as long. So its
   pages need not come from the system again. NULL: no memory. */
static struct entry *make_room(struct qcow2_cache *cache, size_t length) NEEDS_LOCK(cache_lock)
{
  struct entry *evicted, *last = NULL;

  while (bytes_used(cache) + entry_bytes(length) > budget_for(cache, length) &&
         (evicted = evict_any(cache)) != NULL) {
    entry_give(cache, last);
    last = evicted;
  }
  if (last != NULL && last->block.length == length)
    return last;
  entry_give(cache, last);
  return entry_take(cache, length);
}

/* Add the entry to the recent ones. Where a part of walks is kept, the oldest of too many recent
   ones go: some to be kept, and the others to be evicted next. */
static void add_recent(struct qcow2_cache *cache, struct entry *entry) NEEDS_LOCK(cache_lock)
{
  lru_add_newest(&cache->recent, &entry->use);
  while (cache->keeps_part && cache->recent.bytes > RECENT_SHARE(cache->budget) &&
         cache->recent.oldest != &entry->use) {
    struct lru_item *oldest = cache->recent.oldest;

    lru_remove(oldest);
    if (++cache->left % KEPT_ONE_OF == 0)
      lru_add_newest(&cache->kept, oldest);
    else
      lru_add_oldest(&cache->kept, oldest);
  }
}

/* Note a use of a ready entry. What was loaded ahead becomes recent with its first use. */
static void entry_touch(struct qcow2_cache *cache, struct entry *entry) NEEDS_LOCK(cache_lock)
{
  bool is_recent = entry->is_unused || entry->use.list == &cache->recent;

  entry->is_unused = false;
  lru_remove(&entry->use);
  if (is_recent)
    add_recent(cache, entry);
  else
    lru_add_newest(&cache->kept, &entry->use);
}

static struct entry *entry_new(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length)
    NEEDS_LOCK(cache_lock)
{
  struct entry *entry = make_room(cache, length), **bucket = bucket_of(cache, key);

  if (entry == NULL)
    return NULL;
  *entry = (struct entry){ .block = { .data = (uint8_t *) (entry + 1), .length = length },
                           .key = key,
                           .state = ENTRY_LOADING,
                           .is_in_slab = entry->is_in_slab,
                           .pins = 1,
                           .use = { .bytes = entry_bytes(length) },
                           .bucket_next = *bucket };
  *bucket = entry;
  add_recent(cache, entry);
  atomic_store_explicit(&cache->used, bytes_used(cache), memory_order_relaxed);
  return entry;
}

/* Pin the entry, and wait until it is ready. Returns false if its load failed; then it is not
   pinned. */
static bool entry_wait(struct qcow2_cache *cache, struct entry *entry) NEEDS_LOCK(cache_lock)
{
  entry->pins++;
  while (entry->state == ENTRY_LOADING)
    pthread_cond_wait(&cache->loaded_one, &cache->lock);
  if (entry->state == ENTRY_READY)
    return true;
  entry_unpin(cache, entry);
  return false;
}

/* Find an entry, wait until it is ready, and pin it; or make a new one, which the caller loads.
   NULL: no memory. */
static struct entry *find_or_add(struct qcow2_cache *cache, struct qcow2_cache_key key,
                                 size_t length) NEEDS_LOCK(cache_lock)
{
  struct entry *entry;

  while ((entry = table_find(cache, key)) != NULL)
    if (entry_wait(cache, entry)) {
      entry_touch(cache, entry);
      return entry;
    }
  return entry_new(cache, key, length);
}

/* The entry if it can be used at once. NULL: it cannot. */
static struct entry *find_ready(struct qcow2_cache *cache, struct qcow2_cache_key key)
    NEEDS_LOCK(cache_lock)
{
  struct entry *entry = table_find(cache, key);

  return entry != NULL && entry->state == ENTRY_READY ? entry : NULL;
}

/* ---- The interface ------------------------------------------------------ */

/* Make the borrower give back what this cache uses itself now. Without the lock. */
static void reclaim(struct qcow2_cache *cache)
{
  struct qcow2_cache *borrower = cache->borrower;
  size_t most;
  struct entry *entry;

  if (borrower == NULL)
    return;
  most = borrower->budget + unused(cache);
  if (atomic_load_explicit(&borrower->used, memory_order_relaxed) <= most)
    return;
  lock(borrower);
  while (bytes_used(borrower) > most && (entry = evict_any(borrower)) != NULL)
    entry_give(borrower, entry);
  unlock(borrower);
}

/* Load a new entry. The lock is released while it loads. If that fails, the entry is removed. */
static int entry_load(struct qcow2_cache *cache, struct entry *entry, qcow2_cache_load *load,
                      void *context, struct qcow2_error *error) NEEDS_LOCK(cache_lock)
{
  int code;

  unlock(cache);
  reclaim(cache);
  code = load(context, entry->key, &entry->block, error);
  lock(cache);
  entry->state = code == 0 ? ENTRY_READY : ENTRY_FAILED;
  if (entry->pins > 1)
    pthread_cond_broadcast(&cache->loaded_one);
  if (code != 0) {
    entry_detach(cache, entry);
    entry_unpin(cache, entry);
  }
  return code;
}

int qcow2_cache_pin(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length,
                    qcow2_cache_load *load, void *context, struct qcow2_cache_block **block,
                    struct qcow2_error *error)
{
  struct entry *entry;
  int code = 0;

  lock(cache);
  entry = find_or_add(cache, key, length);
  if (entry == NULL)
    code = qcow2_error_set_nomem(error);
  else if (entry->state == ENTRY_LOADING)
    code = entry_load(cache, entry, load, context, error);
  unlock(cache);
  *block = code == 0 ? &entry->block : NULL;
  return code;
}

bool qcow2_cache_pin_ready(struct qcow2_cache *cache, struct qcow2_cache_key key,
                           struct qcow2_cache_block **block)
{
  struct entry *entry;

  lock(cache);
  entry = find_ready(cache, key);
  if (entry != NULL) {
    entry->pins++;
    entry_touch(cache, entry);
    *block = &entry->block;
  }
  unlock(cache);
  return entry != NULL;
}

bool qcow2_cache_copy(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t in_block,
                      void *buffer, size_t length)
{
  struct entry *entry;
  bool is_there;

  lock(cache);
  entry = find_ready(cache, key);
  is_there = entry != NULL && entry->block.filled > 0;
  if (is_there) {
    entry_touch(cache, entry);
    memcpy(buffer, entry->block.data + in_block, length);
  }
  unlock(cache);
  return is_there;
}

bool qcow2_cache_is_used(struct qcow2_cache *cache, struct qcow2_cache_key key)
{
  const struct entry *entry;
  bool is_used;

  lock(cache);
  entry = find_ready(cache, key);
  is_used = entry != NULL && !entry->is_unused;
  unlock(cache);
  return is_used;
}

void qcow2_cache_load_ahead(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length,
                            qcow2_cache_load *load, void *context)
{
  struct entry *entry;

  lock(cache);
  entry = table_find(cache, key) == NULL ? entry_new(cache, key, length) : NULL;
  if (entry != NULL) {
    entry->is_unused = true;
    if (entry_load(cache, entry, load, context, NULL) == 0)
      entry_unpin(cache, entry);
  }
  unlock(cache);
}

void qcow2_cache_unpin(struct qcow2_cache *cache, struct qcow2_cache_block *block)
{
  lock(cache);
  entry_unpin(cache, (struct entry *) block);
  unlock(cache);
}

static void choose_factors(struct qcow2_cache *cache)
{
  uint64_t random[2];

  if (!qcow2_system_random(random, sizeof(random))) { /* can be guessed, but hash as well */
    random[0] = UINT64_C(0x9E3779B97F4A7C15);
    random[1] = UINT64_C(0xD1B54A32D192ED03);
  }
  cache->offset_factor = random[0] | 1;
  cache->space_factor = random[1] | 1;
}

struct qcow2_cache *qcow2_cache_new(size_t budget, bool keeps_part,
                                    size_t usual_length) LOCK_NOT_CHECKED
{
  struct qcow2_cache *cache = calloc(1, sizeof(*cache));

  if (cache == NULL)
    return NULL;
  cache->bucket_bits = BUCKET_BITS_MIN;
  while ((size_t) 1 << cache->bucket_bits < budget / BUDGET_PER_BUCKET)
    cache->bucket_bits++;
  cache->buckets = calloc((size_t) 1 << cache->bucket_bits, sizeof(cache->buckets[0]));
  if (cache->buckets == NULL) {
    free(cache);
    return NULL;
  }
  choose_factors(cache);
  cache->budget = budget;
  cache->keeps_part = keeps_part;
  cache->slabs.item_bytes = usual_length == 0 ? 0 : entry_bytes(usual_length);
  pthread_mutex_init(&cache->lock, NULL);
  pthread_cond_init(&cache->loaded_one, NULL);
  return cache;
}

void qcow2_cache_lend(struct qcow2_cache *lender, struct qcow2_cache *borrower)
{
  lender->borrower = borrower;
  borrower->lender = lender;
}

void qcow2_cache_free(struct qcow2_cache *cache)
{
  struct entry *entry;

  if (cache == NULL)
    return;
  lock(cache);
  while ((entry = evict_any(cache)) != NULL)
    entry_give(cache, entry);
  unlock(cache);
  pthread_cond_destroy(&cache->loaded_one);
  pthread_mutex_destroy(&cache->lock);
  free(cache->buckets);
  free(cache);
}
