/* SPDX-License-Identifier: MIT */
#include "cache.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "../base/error.h"

/* The hash table has one bucket for every so many bytes of budget: the usual size of a block and more. */
#define BUDGET_PER_BUCKET 4096u
#define BUCKET_BITS_MIN 6u

enum entry_state {
  ENTRY_LOADING, /* one thread fills it, others wait */
  ENTRY_READY,
  ENTRY_FAILED /* no longer in the table; its waiters look again */
};

struct entry {
  struct qcow2_cache_block block; /* first: a block pointer is an entry pointer */
  struct qcow2_cache_key key;
  enum entry_state state;
  bool protected;
  unsigned pins;               /* users, loader and waiters */
  struct entry *bucket_next;
  struct entry *newer, *older; /* in its segment's list */
};

/* What an entry costs of the budget. */
static size_t entry_bytes(size_t length)
{
  return sizeof(struct entry) + length;
}

/* A list of entries by age, with the bytes they hold. */
struct segment {
  struct entry *newest, *oldest;
  size_t bytes;
};

struct qcow2_cache {
  pthread_mutex_t lock;
  pthread_cond_t loaded;
  size_t budget;
  struct segment probation, protected;
  struct entry **buckets; /* 1 << bucket_bits */
  unsigned bucket_bits;
  uint64_t offset_factor, space_factor; /* odd */
};

/* ---- Segments ---------------------------------------------------------- */

static void segment_add(struct segment *segment, struct entry *entry)
{
  entry->older = segment->newest;
  entry->newer = NULL;
  if (segment->newest != NULL)
    segment->newest->newer = entry;
  else
    segment->oldest = entry;
  segment->newest = entry;
  segment->bytes += entry_bytes(entry->block.length);
}

static void segment_remove(struct segment *segment, struct entry *entry)
{
  if (entry->newer != NULL) /* NOLINT(clang-analyzer-core.NullDereference): a segment with bytes has an oldest entry */
    entry->newer->older = entry->older;
  else
    segment->newest = entry->older;
  if (entry->older != NULL)
    entry->older->newer = entry->newer;
  else
    segment->oldest = entry->newer;
  segment->bytes -= entry_bytes(entry->block.length);
}

static struct segment *segment_of(struct qcow2_cache *cache, const struct entry *entry)
{
  return entry->protected ? &cache->protected : &cache->probation;
}

/* ---- The table --------------------------------------------------------- */

/* Multiply-shift hashing: the highest bits of a product. The factors are random, for an image's maker chooses the offsets, and could
   choose those that all fall into one bucket. */
static struct entry **bucket_of(struct qcow2_cache *cache, struct qcow2_cache_key key)
{
  uint64_t hash = key.offset * cache->offset_factor + key.space * cache->space_factor;

  return &cache->buckets[hash >> (64 - cache->bucket_bits)];
}

static struct entry *table_find(struct qcow2_cache *cache, struct qcow2_cache_key key)
{
  struct entry *entry = *bucket_of(cache, key);

  while (entry != NULL && (entry->key.space != key.space || entry->key.offset != key.offset))
    entry = entry->bucket_next;
  return entry;
}

static void table_remove(struct qcow2_cache *cache, const struct entry *entry)
{
  struct entry **link = bucket_of(cache, entry->key);

  while (*link != entry)
    link = &(*link)->bucket_next;
  *link = entry->bucket_next;
}

/* ---- Entries, with the lock held ---------------------------------------- */

static void entry_free(struct entry *entry)
{
  free(entry->block.data);
  free(entry);
}

/* Take the entry out of the table and its segment; it lives on as long as it is pinned. */
static void entry_detach(struct qcow2_cache *cache, struct entry *entry)
{
  table_remove(cache, entry);
  segment_remove(segment_of(cache, entry), entry);
}

static void entry_unpin(struct entry *entry)
{
  entry->pins--;
  if (entry->pins == 0 && entry->state == ENTRY_FAILED)
    entry_free(entry);
}

/* Evict the oldest unpinned entry of a segment. Returns whether there was one. */
static bool evict_from(struct qcow2_cache *cache, struct segment *segment)
{
  for (struct entry *entry = segment->oldest; entry != NULL; entry = entry->newer) {
    if (entry->pins > 0) /* NOLINT(clang-analyzer-unix.Malloc): an entry that was freed is in no segment */
      continue;
    entry_detach(cache, entry);
    entry_free(entry);
    return true;
  }
  return false;
}

/* Evict until a block of `length` bytes fits the budget, or everything left is pinned. */
static void make_room(struct qcow2_cache *cache, size_t length)
{
  while (cache->probation.bytes + cache->protected.bytes + entry_bytes(length) > cache->budget)
    if (!evict_from(cache, &cache->probation) && !evict_from(cache, &cache->protected))
      return;
}

/* Note a use of a ready entry: it becomes the newest protected one, at the expense of the oldest if need be. */
static void entry_touch(struct qcow2_cache *cache, struct entry *entry)
{
  segment_remove(segment_of(cache, entry), entry);
  entry->protected = true;
  segment_add(&cache->protected, entry);
  while (cache->protected.bytes > cache->budget / 4 * 3 && cache->protected.oldest != entry) {
    struct entry *oldest = cache->protected.oldest;

    segment_remove(&cache->protected, oldest);
    oldest->protected = false;
    segment_add(&cache->probation, oldest);
  }
}

static struct entry *entry_new(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length)
{
  struct entry *entry = calloc(1, sizeof(*entry)), **bucket = bucket_of(cache, key);

  if (entry == NULL)
    return NULL;
  entry->block.length = length;
  entry->block.data = malloc(length);
  if (entry->block.data == NULL) {
    free(entry);
    return NULL;
  }
  entry->key = key;
  entry->state = ENTRY_LOADING;
  entry->pins = 1;
  entry->bucket_next = *bucket;
  *bucket = entry;
  segment_add(&cache->probation, entry);
  return entry;
}

/* Wait until the entry is ready (true), or its load has failed (false, and it is no longer ours). */
static bool entry_wait(struct qcow2_cache *cache, struct entry *entry)
{
  entry->pins++;
  while (entry->state == ENTRY_LOADING)
    pthread_cond_wait(&cache->loaded, &cache->lock);
  if (entry->state == ENTRY_READY)
    return true;
  entry_unpin(entry);
  return false;
}

/* Find a ready entry and pin it, or make a new one, which the caller loads. NULL: no memory. */
static struct entry *find_or_add(struct qcow2_cache *cache, struct qcow2_cache_key key,
                                 size_t length)
{
  struct entry *entry;

  while ((entry = table_find(cache, key)) != NULL)
    if (entry_wait(cache, entry)) {
      entry_touch(cache, entry);
      return entry;
    }
  make_room(cache, length);
  return entry_new(cache, key, length);
}

/* ---- The interface ------------------------------------------------------ */

int qcow2_cache_pin(struct qcow2_cache *cache, struct qcow2_cache_key key, size_t length,
                    qcow2_cache_load *load, void *context, struct qcow2_cache_block **block,
                    struct qcow2_error *error)
{
  struct entry *entry;
  int code;

  pthread_mutex_lock(&cache->lock);
  entry = find_or_add(cache, key, length);
  if (entry == NULL || entry->state == ENTRY_READY) {
    pthread_mutex_unlock(&cache->lock);
    *block = entry == NULL ? NULL : &entry->block;
    return entry == NULL ? qcow2_error_set_nomem(error) : 0;
  }
  pthread_mutex_unlock(&cache->lock);

  code = load(context, key, &entry->block, error);

  pthread_mutex_lock(&cache->lock);
  entry->state = code == 0 ? ENTRY_READY : ENTRY_FAILED;
  if (code != 0) {
    entry_detach(cache, entry);
    entry_unpin(entry);
  }
  pthread_cond_broadcast(&cache->loaded);
  pthread_mutex_unlock(&cache->lock);
  *block = code == 0 ? &entry->block : NULL;
  return code;
}

void qcow2_cache_unpin(struct qcow2_cache *cache, struct qcow2_cache_block *block)
{
  pthread_mutex_lock(&cache->lock);
  entry_unpin((struct entry *) block);
  pthread_mutex_unlock(&cache->lock);
}

static void choose_factors(struct qcow2_cache *cache)
{
  uint64_t random[2];

  if (getentropy(random, sizeof(random)) != 0) { /* no secret, but no worse a hash */
    random[0] = UINT64_C(0x9E3779B97F4A7C15);
    random[1] = UINT64_C(0xD1B54A32D192ED03);
  }
  cache->offset_factor = random[0] | 1;
  cache->space_factor = random[1] | 1;
}

struct qcow2_cache *qcow2_cache_new(size_t budget)
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
  pthread_mutex_init(&cache->lock, NULL);
  pthread_cond_init(&cache->loaded, NULL);
  return cache;
}

void qcow2_cache_free(struct qcow2_cache *cache)
{
  if (cache == NULL)
    return;
  while (evict_from(cache, &cache->probation) || evict_from(cache, &cache->protected))
    ;
  pthread_cond_destroy(&cache->loaded);
  pthread_mutex_destroy(&cache->lock);
  free(cache->buckets);
  free(cache);
}
