/* SPDX-License-Identifier: MIT */
/* The refcount table and its blocks, as stored ("Host cluster management"). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../format/refcount.h"
#include "checker.h"

/* Refcounts are read one by one, mostly in order. So pieces of the file are kept, each in the only
   slot that its offset allows. */
#define SLOT_BYTES 4096u
#define SLOT_COUNT 64u

struct qcow2_peeked {
  uint64_t offsets[SLOT_COUNT]; /* host offset of the piece in a slot; QCOW2_NO_OFFSET: none */
  uint8_t bytes[SLOT_COUNT][SLOT_BYTES];
};

struct qcow2_peeked *qcow2_peeked_new(void)
{
  struct qcow2_peeked *peeked = malloc(sizeof(*peeked));

  if (peeked != NULL)
    memset(peeked->offsets, 0xff, sizeof(peeked->offsets));
  return peeked;
}

void qcow2_peeked_free(struct qcow2_peeked *peeked)
{
  free(peeked);
}

/* The bytes at `offset`, up to the next multiple of 8 at least. NULL: the bound is reached. */
static const uint8_t *peek(struct qcow2_checker *checker, uint64_t offset)
{
  uint64_t start = offset & ~(uint64_t) (SLOT_BYTES - 1);
  size_t slot = (size_t) (start / SLOT_BYTES % SLOT_COUNT);
  struct qcow2_peeked *peeked = checker->peeked;

  if (peeked->offsets[slot] != start) {
    peeked->offsets[slot] = QCOW2_NO_OFFSET;
    if (!qcow2_checker_read(checker, "a refcount table or block", true, start, peeked->bytes[slot],
                            SLOT_BYTES))
      return NULL;
    peeked->offsets[slot] = start;
  }
  return peeked->bytes[slot] + (offset - start);
}

/* ---- Places ----------------------------------------------------------------- */

uint64_t qcow2_checker_refcount_blocks(const struct qcow2_checker *checker)
{
  const struct qcow2_header *header = &checker->layer->metadata.header;

  return qcow2_refcount_table_fits(header)
             ? qcow2_refcount_table_bytes(header) / REFCOUNT_TABLE_ENTRY_BYTES
             : 0;
}

static uint64_t entry_offset(const struct qcow2_checker *checker, uint64_t index)
{
  return checker->layer->metadata.header.refcount_table_offset + index * REFCOUNT_TABLE_ENTRY_BYTES;
}

bool qcow2_checker_refcount_entry(struct qcow2_checker *checker, uint64_t index, uint64_t *entry)
{
  const uint8_t *bytes = peek(checker, entry_offset(checker, index));

  if (bytes != NULL)
    *entry = be64_get(bytes);
  return bytes != NULL;
}

/* ---- One refcount ------------------------------------------------------------ */

/* The first refcount at `bytes`, of 1 << order bits. If there are several in a byte, the one at
   index `in_byte`. */
static uint64_t decode(const uint8_t *bytes, unsigned order, unsigned in_byte)
{
  switch (order) {
  case 3: return bytes[0];
  case 4: return be16_get(bytes);
  case 5: return be32_get(bytes);
  case 6: return be64_get(bytes);
  default: return bytes[0] >> (in_byte << order) & ((1u << (1u << order)) - 1);
  }
}

bool qcow2_checker_refcount(struct qcow2_checker *checker, uint64_t cluster, uint64_t *refcount,
                            bool *is_known)
{
  const struct qcow2_header *header = &checker->layer->metadata.header;
  unsigned order = header->refcount_order;
  uint64_t per_block = qcow2_refcounts_per_block(header);
  uint64_t index = cluster / per_block, bit = cluster % per_block << order;
  uint64_t entry = 0, offset;
  const uint8_t *bytes;

  *refcount = 0;
  *is_known = true;
  if (index >= qcow2_checker_refcount_blocks(checker))
    return true;
  if (!qcow2_checker_refcount_entry(checker, index, &entry))
    return false;
  offset = entry & REFCOUNT_TABLE_OFFSET_MASK;
  if (offset == 0)
    return true;
  *is_known = qcow2_refcount_block_fits(header, offset);
  if (!*is_known || offset >= checker->storage->size)
    return true;
  bytes = peek(checker, offset + bit / 8);
  if (bytes != NULL)
    *refcount = decode(bytes, order, (unsigned) (bit % 8) >> order);
  return bytes != NULL;
}

bool qcow2_checker_load_refcounts(struct qcow2_checker *checker)
{
  struct qcow2_tally *tally = &checker->tally;

  for (size_t i = 0; i < tally->capacity; i++) {
    uint64_t refcount;
    bool is_known;

    if (!qcow2_checker_refcount(checker, tally->first + i, &refcount, &is_known))
      return false;
    if (!is_known)
      tally->cells[i] |= REFCOUNT_IS_UNKNOWN;
    else if (refcount == 1)
      tally->cells[i] |= REFCOUNT_IS_ONE;
  }
  return true;
}

/* ---- The blocks' own clusters -------------------------------------------------- */

enum block_state {
  BLOCK_NONE,
  BLOCK_BAD,
  BLOCK_GOOD
};

/* What an entry of the refcount table refers to. A block must be below the cluster `end`. If
   `report`, what is wrong with it is reported. */
static enum block_state look_at_block(struct qcow2_checker *checker, uint64_t index, uint64_t entry,
                                      uint64_t end, bool report)
{
  uint64_t offset = entry & REFCOUNT_TABLE_OFFSET_MASK;
  struct qcow2_finding finding = FINDING(QCOW2_FINDING_RESERVED_BITS, QCOW2_WEIGHT_CORRUPTION);
  const char *problem;

  finding.of_refcounts = 1;
  if (entry == 0)
    return BLOCK_NONE;
  if ((entry & ~REFCOUNT_TABLE_OFFSET_MASK) != 0) {
    problem = "it has reserved bits set";
  } else if (!is_aligned(offset, checker->layer->geometry.cluster_size)) {
    finding.kind = QCOW2_FINDING_UNALIGNED;
    problem = "its offset is not a multiple of the cluster size";
  } else if (offset >> checker->layer->geometry.cluster_bits >= end) {
    finding.kind = QCOW2_FINDING_PAST_END;
    problem = "it is after the end of the file";
  } else {
    return BLOCK_GOOD;
  }
  finding.host_offset = offset;
  finding.table_offset = entry_offset(checker, index);
  if (report)
    qcow2_checker_report(checker, &finding,
                         "the refcount block at host offset %" PRIu64 ", entry %" PRIu64
                         " of the refcount table, cannot be used: %s",
                         offset, index, problem);
  return BLOCK_BAD;
}

bool qcow2_checker_each_refcount_block(struct qcow2_checker *checker, uint64_t end, bool report,
                                       void (*visit)(struct qcow2_checker *checker, uint64_t index,
                                                     uint64_t cluster))
{
  uint64_t blocks = qcow2_checker_refcount_blocks(checker);

  for (uint64_t index = 0; index < blocks; index++) {
    uint64_t entry = 0, first, last;

    if (!qcow2_checker_refcount_entry(checker, index, &entry))
      return false;
    if (look_at_block(checker, index, entry, end, report && checker->is_first_walk) != BLOCK_GOOD)
      continue;
    first = last = entry >> checker->layer->geometry.cluster_bits;
    if (qcow2_tally_clip(&checker->tally, &first, &last))
      visit(checker, index, first);
  }
  return qcow2_checker_work(checker, blocks * REFCOUNT_TABLE_ENTRY_BYTES);
}

static void mark_block(struct qcow2_checker *checker, uint64_t index, uint64_t cluster)
{
  (void) index;
  *tally_cell(&checker->tally, cluster) |= USE_REFCOUNTS;
}

/* It is not known yet how far beyond the end of the file references lead. So a block there is
   reported later, if nothing else refers to that region. */
bool qcow2_checker_mark_refcounts(struct qcow2_checker *checker)
{
  return qcow2_checker_each_refcount_block(checker, UINT64_MAX, false, mark_block);
}

static void count_block(struct qcow2_checker *checker, uint64_t index, uint64_t cluster)
{
  uint32_t *cell = tally_cell(&checker->tally, cluster);
  struct qcow2_finding finding = FINDING(QCOW2_FINDING_OVERFLOW, QCOW2_WEIGHT_CORRUPTION);

  finding.host_offset = cluster << checker->layer->geometry.cluster_bits;
  finding.table_offset = entry_offset(checker, index);
  if (!tally_count(&checker->tally, cell))
    qcow2_checker_report(checker, &finding,
                         "the refcount block at host offset %" PRIu64
                         " has more references than its refcount can count",
                         finding.host_offset);
  finding.kind = QCOW2_FINDING_REFCOUNT_BLOCK;
  if ((*cell & TALLY_COUNT_MAX) != 1)
    qcow2_checker_report(checker, &finding,
                         "the refcount block at host offset %" PRIu64 ", entry %" PRIu64
                         " of the refcount table, is in use as something else too",
                         finding.host_offset, index);
}

bool qcow2_checker_count_refcount_blocks(struct qcow2_checker *checker)
{
  return qcow2_checker_each_refcount_block(checker, checker->cluster_end, true, count_block);
}
