/* SPDX-License-Identifier: MIT */
#include "classify.h"

#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/text.h"
#include "../format/bitmap.h"
#include "../format/cluster.h"
#include "../format/snapshot.h"

#define QCOW2_MAGIC UINT32_C(0x514649fb)
#define NANOSECONDS_MAX 999999999u
/* Bits of a table entry that hold no offset and no flag. */
#define TABLE_RESERVED_MASK UINT64_C(0x3f000000000001fe)
/* Refcounts in an old block: most are 1, and none is higher than this. */
#define REFCOUNT_MAX 1024u

bool qcow2_residue_is_zero(const uint8_t *bytes, size_t length)
{
  return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

static bool is_header(const uint8_t *cluster)
{
  uint32_t version = be32_get(cluster + 4), cluster_bits = be32_get(cluster + 20);

  return be32_get(cluster) == QCOW2_MAGIC && version >= 1 && version <= 3 &&
         (version == 1 || (cluster_bits >= CLUSTER_BITS_MIN && cluster_bits <= CLUSTER_BITS_MAX));
}

/* ---- Entries of directories -------------------------------------------------------- */

/* True for UTF-8 without NUL; without control characters, if these are not allowed. */
static bool is_text(const uint8_t *bytes, size_t length, bool allows_control)
{
  size_t step;

  for (size_t at = 0; at < length; at += step) {
    uint32_t code_point = 0;

    step = qcow2_text_character(bytes + at, length - at, &code_point);
    if (step == 0 || code_point == 0 ||
        (!allows_control && (code_point < 0x20 || code_point == 0x7f)))
      return false;
  }
  return true;
}

/* True if a table can be at this offset. */
static bool is_place(const struct qcow2_residue_looks *looks, uint64_t offset)
{
  return offset != 0 && offset < looks->file_size &&
         is_aligned(offset, looks->geometry->cluster_size);
}

bool qcow2_residue_may_be_snapshot(const struct qcow2_residue_looks *looks, const uint8_t *bytes)
{
  uint32_t l1_size = be32_get(bytes + 8), extra = be32_get(bytes + 36);

  return is_place(looks, be64_get(bytes)) && l1_size >= 1 && l1_size <= L1_ENTRIES_MAX &&
         (extra == 0 || extra == 8 || extra == 16 || extra == 24) &&
         be32_get(bytes + 20) <= NANOSECONDS_MAX;
}

static bool is_snapshot(const struct qcow2_residue_looks *looks, const uint8_t *bytes,
                        const struct qcow2_snapshot_lengths *lengths)
{
  uint32_t extra = lengths->extra;
  const uint8_t *id = bytes + SNAPSHOT_FIXED_BYTES + extra;
  uint64_t disk_size = extra >= 16 ? be64_get(bytes + SNAPSHOT_FIXED_BYTES + 8) : 0;

  return qcow2_residue_may_be_snapshot(looks, bytes) && lengths->id > 0 &&
         is_text(id, lengths->id, false) && is_text(id + lengths->id, lengths->name, true) &&
         qcow2_geometry_l1_entries(looks->geometry, disk_size) <= be32_get(bytes + 8);
}

size_t qcow2_residue_snapshot_entry(const struct qcow2_residue_looks *looks, const uint8_t *bytes,
                                    size_t length)
{
  struct qcow2_snapshot_lengths lengths;
  size_t end;

  if (length < SNAPSHOT_FIXED_BYTES || qcow2_snapshot_measure(bytes, 0, &lengths, NULL) != 0)
    return 0;
  end = SNAPSHOT_FIXED_BYTES + (size_t) lengths.extra + lengths.id + lengths.name;
  if (end > length || !is_snapshot(looks, bytes, &lengths))
    return 0;
  return (size_t) min_u64((end + 7) & ~(size_t) 7, length);
}

bool qcow2_residue_may_be_bitmap(const struct qcow2_residue_looks *looks, const uint8_t *bytes)
{
  return is_place(looks, be64_get(bytes)) && be32_get(bytes + 8) != 0 &&
         (uint64_t) be32_get(bytes + 8) * looks->geometry->cluster_size <= BITMAP_BYTES_MAX &&
         be32_get(bytes + 12) <= 7 && bytes[16] == QCOW2_BITMAP_DIRTY_TRACKING && bytes[17] >= 9 &&
         bytes[17] <= 31 && be16_get(bytes + 18) != 0 && be32_get(bytes + 20) == 0;
}

size_t qcow2_residue_bitmap_entry(const struct qcow2_residue_looks *looks, const uint8_t *bytes,
                                  size_t length)
{
  size_t name_length, end, padded;

  if (length < BITMAP_FIXED_BYTES)
    return 0;
  name_length = be16_get(bytes + 18);
  end = BITMAP_FIXED_BYTES + name_length;
  padded = (end + 7) & ~(size_t) 7;
  if (padded > length || !qcow2_residue_may_be_bitmap(looks, bytes))
    return 0;
  return is_text(bytes + BITMAP_FIXED_BYTES, name_length, true) &&
                 qcow2_residue_is_zero(bytes + end, padded - end)
             ? padded
             : 0;
}

/* ---- Tables ------------------------------------------------------------------------- */

static bool is_compressed(const struct qcow2_residue_looks *looks, uint64_t word)
{
  unsigned x = 62 - (looks->geometry->cluster_bits - 8);

  return (word & L2_ENTRY_COPIED) == 0 && (word & ((UINT64_C(1) << x) - 1)) < looks->file_size &&
         (word & ((UINT64_C(1) << x) - 1)) >= looks->geometry->cluster_size;
}

static bool is_entry(const struct qcow2_residue_looks *looks, uint64_t word)
{
  uint64_t offset = word & TABLE_OFFSET_MASK;

  if ((word & L2_ENTRY_COMPRESSED) != 0)
    return is_compressed(looks, word);
  return (word & TABLE_RESERVED_MASK) == 0 && (offset == 0 || is_place(looks, offset)) &&
         (offset != 0 || word == 0 || word == L2_ENTRY_ZERO);
}

static int compare_words(const void *one, const void *other)
{
  const uint64_t *a = one, *b = other;

  return *a < *b ? -1 : *a > *b;
}

/* True if no offset stands there twice. */
static bool are_unique(uint64_t *offsets, size_t count)
{
  qsort(offsets, count, sizeof(offsets[0]), compare_words);
  for (size_t i = 1; i < count; i++)
    if (offsets[i] == offsets[i - 1])
      return false;
  return true;
}

/* As qcow2_residue_is_table(), of entries of `width` words, of which the first has the offset; but
   all of them may be without an offset, as *is_empty says. */
static bool is_table_of(const struct qcow2_residue_looks *looks, const uint8_t *bytes, size_t count,
                        unsigned width, bool *is_empty)
{
  size_t offsets = 0;

  *is_empty = true;
  for (size_t i = 0; i + width <= count; i += width) {
    uint64_t word = be64_get(bytes + i * 8);
    uint64_t bitmap = width == 2 ? be64_get(bytes + i * 8 + 8) : 0;

    if (!is_entry(looks, word) || (bitmap >> 32 & bitmap & UINT32_MAX) != 0 ||
        (width == 2 && (word & L2_ENTRY_COMPRESSED) == 0 && (word & L2_ENTRY_ZERO) != 0))
      return false;
    *is_empty = *is_empty && (word & ~L2_ENTRY_ZERO) == 0;
    if ((word & L2_ENTRY_COMPRESSED) == 0 && (word & TABLE_OFFSET_MASK) != 0)
      looks->scratch[offsets++] = word & TABLE_OFFSET_MASK;
  }
  return are_unique(looks->scratch, offsets);
}

bool qcow2_residue_can_lead_to_data(uint64_t word)
{
  return (word & (TABLE_RESERVED_MASK | L2_ENTRY_COMPRESSED)) == 0 &&
         ((word & L2_ENTRY_COPIED) != 0 || (word & ~L2_ENTRY_ZERO) == 0);
}

bool qcow2_residue_are_in_place(const uint8_t *bytes, size_t count, unsigned width,
                                unsigned cluster_bits)
{
  uint64_t reach = (uint64_t) (count / width) << cluster_bits, first = 0;
  bool has_any = false;

  for (size_t i = 0; i < count; i += width) {
    uint64_t word = be64_get(bytes + i * 8);
    uint64_t start = (word & TABLE_OFFSET_MASK) - ((uint64_t) (i / width) << cluster_bits);

    if ((word & L2_ENTRY_COPIED) == 0)
      continue;
    if (!is_aligned(start, reach) || (has_any && start != first))
      return false;
    first = start;
    has_any = true;
  }
  return has_any;
}

/* The same as is_table_of() for an L2 table that leads to an external data file. */
static bool is_data_file_l2(const struct qcow2_residue_looks *looks, const uint8_t *bytes,
                            bool *is_empty)
{
  const struct qcow2_geometry *geometry = looks->geometry;

  *is_empty = true;
  for (uint32_t at = 0; at < geometry->cluster_size; at += geometry->l2_entry_bytes) {
    struct qcow2_l2_entry entry = l2_entry_load(geometry, bytes + at);
    bool is_allocated = qcow2_l2_entry_is_allocated(geometry, entry.descriptor);

    if (!qcow2_residue_can_lead_to_data(entry.descriptor) ||
        (geometry->extended_l2 && (entry.descriptor & L2_ENTRY_ZERO) != 0) ||
        qcow2_subcluster_bitmap_problem(entry.subcluster_bitmap, is_allocated) != NULL)
      return false;
    *is_empty = *is_empty && !is_allocated;
  }
  return *is_empty ||
         qcow2_residue_are_in_place(bytes, geometry->cluster_size / 8, geometry->l2_entry_bytes / 8,
                                    geometry->cluster_bits);
}

bool qcow2_residue_is_table_of(const struct qcow2_residue_looks *looks, const uint8_t *bytes,
                               size_t count, unsigned width)
{
  bool is_empty;

  return is_table_of(looks, bytes, count, width, &is_empty) && !is_empty;
}

bool qcow2_residue_is_table(const struct qcow2_residue_looks *looks, const uint8_t *bytes,
                            size_t count)
{
  return qcow2_residue_is_table_of(looks, bytes, count, 1) ||
         (looks->geometry->extended_l2 && qcow2_residue_is_table_of(looks, bytes, count, 2));
}

/* True if the cluster looks like an L2 table. */
static bool is_l2(const struct qcow2_residue_looks *looks, const uint8_t *cluster, bool *is_empty)
{
  const struct qcow2_geometry *geometry = looks->geometry;

  return geometry->has_data_file ? is_data_file_l2(looks, cluster, is_empty)
                                 : is_table_of(looks, cluster, geometry->cluster_size / 8,
                                               geometry->l2_entry_bytes / 8, is_empty);
}

bool qcow2_residue_is_l2(const struct qcow2_residue_looks *looks, const uint8_t *cluster)
{
  bool is_empty;

  return is_l2(looks, cluster, &is_empty) &&
         !qcow2_residue_is_zero(cluster, looks->geometry->cluster_size);
}

bool qcow2_residue_is_used_l2(const struct qcow2_residue_looks *looks, const uint8_t *cluster)
{
  bool is_empty;

  return is_l2(looks, cluster, &is_empty) && !is_empty;
}

static uint64_t refcount_get(const uint8_t *bytes, unsigned order)
{
  switch (order) {
  case 3: return bytes[0];
  case 4: return be16_get(bytes);
  case 5: return be32_get(bytes);
  default: return be64_get(bytes);
  }
}

/* Narrower refcounts look like anything. */
static bool is_refcount_block(const struct qcow2_residue_looks *looks, const uint8_t *cluster)
{
  unsigned order = looks->refcount_order;
  size_t ones = 0, others = 0;

  if (order < 3)
    return false;
  for (size_t at = 0; at < looks->geometry->cluster_size; at += ((size_t) 1 << order) / 8) {
    uint64_t refcount = refcount_get(cluster + at, order);

    if (refcount > REFCOUNT_MAX)
      return false;
    ones += refcount == 1;
    others += refcount > 1;
  }
  return ones > 1 && ones >= others;
}

enum qcow2_residue_kind qcow2_residue_classify(const struct qcow2_residue_looks *looks,
                                               const uint8_t *cluster)
{
  size_t size = looks->geometry->cluster_size;

  if (qcow2_residue_is_zero(cluster, size))
    return QCOW2_RESIDUE_ZERO;
  if (is_header(cluster))
    return QCOW2_RESIDUE_HEADER;
  if (qcow2_residue_snapshot_entry(looks, cluster, size) > 0)
    return QCOW2_RESIDUE_SNAPSHOT_TABLE;
  if (qcow2_residue_bitmap_entry(looks, cluster, size) > 0)
    return QCOW2_RESIDUE_BITMAP_DIRECTORY;
  if (qcow2_residue_is_table(looks, cluster, size / 8) ||
      (looks->geometry->has_data_file && qcow2_residue_is_used_l2(looks, cluster)))
    return QCOW2_RESIDUE_L2;
  return is_refcount_block(looks, cluster) ? QCOW2_RESIDUE_REFCOUNT_BLOCK : QCOW2_RESIDUE_DATA;
}
