/* SPDX-License-Identifier: MIT */
#include "guessed_refcounts.h"

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../format/refcount.h"
#include "../storage/storage.h"

#define ORDER_MAX 6u
/* A read costs at least as much as that of a page. */
#define READ_COST_MIN UINT64_C(4096)
/* No more snapshots than this can share a cluster. */
#define REFCOUNT_MAX 65536

static bool read_bytes(struct qcow2_guessed_refcounts *refcounts, uint64_t offset, uint8_t *buffer,
                       size_t length)
{
  uint64_t cost = length < READ_COST_MIN ? READ_COST_MIN : length;

  if (*refcounts->work < cost || !range_fits(offset, length, refcounts->storage->size))
    return false;
  *refcounts->work -= cost;
  return qcow2_storage_read(refcounts->storage, offset, buffer, length, NULL) == 0;
}

static uint64_t decode(const uint8_t *block, uint64_t index, unsigned order)
{
  switch (order) {
  case 6: return be64_get(block + index * 8);
  case 5: return be32_get(block + index * 4);
  case 4: return be16_get(block + index * 2);
  case 3: return block[index];
  default:
    return (unsigned) block[index << order >> 3] >> ((index << order) & 7) &
           ((1u << (1u << order)) - 1);
  }
}

/* The block that counts the cluster; 0: none. */
static uint64_t block_of(struct qcow2_guessed_refcounts *refcounts, uint64_t cluster)
{
  uint64_t per_block = UINT64_C(8) << refcounts->cluster_bits >> refcounts->order;
  uint8_t entry[REFCOUNT_TABLE_ENTRY_BYTES];
  uint64_t offset;

  if (cluster / per_block >= REFCOUNT_TABLE_ENTRIES_MAX ||
      !read_bytes(refcounts, refcounts->table_offset + cluster / per_block * sizeof(entry), entry,
                  sizeof(entry)))
    return 0;
  offset = be64_get(entry);
  return is_aligned(offset, UINT64_C(1) << refcounts->cluster_bits) ? offset : 0;
}

int64_t qcow2_guessed_refcount(struct qcow2_guessed_refcounts *refcounts, uint64_t host_offset)
{
  uint64_t cluster = host_offset >> refcounts->cluster_bits, block;
  uint64_t per_block = UINT64_C(8) << refcounts->cluster_bits >> refcounts->order;
  size_t size = (size_t) 1 << refcounts->cluster_bits;

  if (refcounts->table_offset == 0)
    return -1;
  block = block_of(refcounts, cluster);
  if (block == 0)
    return -1;
  if (block != refcounts->block_offset) {
    refcounts->block_offset = 0;
    if (!read_bytes(refcounts, block, refcounts->block, size))
      return -1;
    refcounts->block_offset = block;
  }
  return (int64_t) min_u64(decode(refcounts->block, cluster % per_block, refcounts->order),
                           INT64_MAX);
}

/* True if the table and the block that counts it are used once. */
static bool counts_itself(struct qcow2_guessed_refcounts *refcounts)
{
  uint64_t block = block_of(refcounts, refcounts->table_offset >> refcounts->cluster_bits);

  return block != 0 && block != refcounts->table_offset &&
         qcow2_guessed_refcount(refcounts, refcounts->table_offset) == 1 &&
         qcow2_guessed_refcount(refcounts, block) == 1;
}

static size_t count_in_use(struct qcow2_guessed_refcounts *refcounts, const uint64_t *tables,
                           size_t count)
{
  size_t in_use = 0;

  for (size_t i = 0; i < count; i++) {
    int64_t refcount = qcow2_guessed_refcount(refcounts, tables[i]);

    in_use += refcount > 0 && refcount <= REFCOUNT_MAX;
  }
  return in_use;
}

bool qcow2_guessed_refcounts_try(struct qcow2_guessed_refcounts *refcounts, uint64_t table_offset,
                                 const uint64_t *tables, size_t count)
{
  /* The usual width comes first. */
  static const unsigned ORDERS[ORDER_MAX + 1] = { 4, 0, 1, 2, 3, 5, 6 };
  struct qcow2_guessed_refcounts guess = *refcounts, best = guess;
  bool is_taken = false;

  guess.table_offset = table_offset;
  for (unsigned i = 0; i <= ORDER_MAX; i++) {
    guess.order = ORDERS[i];
    guess.block_offset = 0;
    if (!counts_itself(&guess))
      continue;
    guess.in_use = count_in_use(&guess, tables, count);
    if (best.table_offset != 0 && guess.in_use <= best.in_use)
      continue;
    best = guess;
    is_taken = true;
  }
  *refcounts = best;
  refcounts->block_offset = 0;
  return is_taken;
}
