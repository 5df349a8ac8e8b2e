/* SPDX-License-Identifier: MIT */
#include "marks.h"

#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../format/cluster.h"
#include "../format/snapshot.h"
#include "../storage/storage.h"
#include "classify.h"

#define CHUNK_BYTES ((size_t) 1 << 20)
/* 16 MiB: enough for the tables of a disk of 60 TiB with clusters of 64 KiB, if none lies right
   behind another. */
#define RUNS_MAX ((size_t) 1 << 20)
#define ENTRIES_MAX ((size_t) 4096)
/* A stream's host offset has at least this many bits, whatever the cluster size. */
#define STREAM_OFFSET_BITS_MIN 49u
#define WORDS (MARK_SECTOR_BYTES / 8)
#define ID_BYTES_MAX 4096u

/* What the words of a sector have in common. */
struct look {
  uint64_t file_size;
  uint64_t offsets; /* all of them, by "or": the lowest bit set is the largest common power of 2 */
  bool has_any;
};

/* True if the word can be an entry. Offsets are collected. */
static bool can_be_entry(struct look *look, uint64_t word)
{
  uint64_t offset = word & TABLE_OFFSET_MASK;

  if (word == 0 || word == L2_ENTRY_ZERO)
    return true;
  if ((word & L2_ENTRY_COMPRESSED) != 0) {
    offset = word & ((UINT64_C(1) << STREAM_OFFSET_BITS_MIN) - 1);
    look->has_any = true;
    return (word & L2_ENTRY_COPIED) == 0 && offset < look->file_size && offset >= MARK_SECTOR_BYTES;
  }
  look->offsets |= offset;
  look->has_any = true;
  return (word & ~(TABLE_OFFSET_MASK | L2_ENTRY_COPIED | L2_ENTRY_ZERO)) == 0 && offset != 0 &&
         offset < look->file_size;
}

static bool is_standard(struct look *look, const uint8_t *sector)
{
  for (unsigned i = 0; i < WORDS; i++)
    if (!can_be_entry(look, be64_get(sector + i * 8)))
      return false;
  return look->has_any;
}

static bool is_extended(struct look *look, const uint8_t *sector)
{
  for (unsigned i = 0; i < WORDS; i += 2) {
    uint64_t bitmap = be64_get(sector + i * 8 + 8);

    if (!can_be_entry(look, be64_get(sector + i * 8)) || (bitmap >> 32 & bitmap & UINT32_MAX) != 0)
      return false;
  }
  return look->has_any;
}

/* ---- With an external data file ------------------------------------------------------ */

/* True if the sector can be a part of an L2 table that leads to an external data file. The cluster
   sizes for which it can are counted, and offsets are collected. */
static bool is_to_data(struct look *look, const uint8_t *sector, unsigned width,
                       struct qcow2_marks *marks)
{
  bool is_found = false;

  for (unsigned i = 0; i < WORDS; i += width) {
    uint64_t word = be64_get(sector + i * 8);

    if (!qcow2_residue_can_lead_to_data(word))
      return false;
    look->offsets |= word & TABLE_OFFSET_MASK;
    look->has_any = look->has_any || (word & L2_ENTRY_COPIED) != 0;
  }
  for (unsigned bits = CLUSTER_BITS_MIN; look->has_any && bits <= CLUSTER_BITS_MAX; bits++)
    if (qcow2_residue_are_in_place(sector, WORDS, width, bits)) {
      marks->to_data_file[bits]++;
      is_found = true;
    }
  return is_found;
}

/* ---- Sectors --------------------------------------------------------------------------- */

static unsigned common_bits(uint64_t offsets)
{
  unsigned bits = offsets == 0 ? CLUSTER_BITS_MAX : (unsigned) __builtin_ctzll(offsets);

  return bits > CLUSTER_BITS_MAX ? CLUSTER_BITS_MAX : bits;
}

/* True if the run can go on with the sector, which can be what `as` says. */
static bool goes_on(const struct qcow2_run_of_marks *run, uint64_t sector,
                    const struct qcow2_run_of_marks *as)
{
  return run->first + run->count == sector && run->is_standard == as->is_standard &&
         run->is_extended == as->is_extended && run->is_to_data == as->is_to_data &&
         run->count < UINT32_MAX;
}

/* Add a sector to the last run, or begin another one. `as` has what it can be. */
static void add(struct qcow2_marks *marks, uint64_t sector, const struct qcow2_run_of_marks *as)
{
  if (marks->count > 0 && goes_on(&marks->runs[marks->count - 1], sector, as)) {
    struct qcow2_run_of_marks *last = &marks->runs[marks->count - 1];

    last->count++;
    last->bits = as->bits < last->bits ? as->bits : last->bits;
  } else if (marks->count == marks->capacity)
    marks->is_complete = false;
  else {
    marks->runs[marks->count] = *as;
    marks->runs[marks->count].first = sector;
    marks->runs[marks->count++].count = 1;
  }
}

/* Note the sector if it can be a part of a table. */
static void look_for_entries(struct qcow2_marks *marks, const uint8_t *bytes, uint64_t offset,
                             uint64_t file_size)
{
  struct look standard = { .file_size = file_size }, extended = standard, to_data = standard;
  struct qcow2_run_of_marks as = { .is_standard = is_standard(&standard, bytes),
                                   .is_extended = is_extended(&extended, bytes) };
  uint64_t offsets = as.is_standard ? standard.offsets : extended.offsets;

  as.is_to_data = is_to_data(&to_data, bytes, 1, marks);
  if (!as.is_to_data) {
    to_data = (struct look){ .file_size = file_size };
    as.is_to_data = is_to_data(&to_data, bytes, 2, marks);
  }
  if (!as.is_standard && !as.is_extended && !as.is_to_data)
    return;
  if (!as.is_standard && !as.is_extended)
    offsets = to_data.offsets;
  as.bits = (uint8_t) common_bits(offsets);
  add(marks, offset / MARK_SECTOR_BYTES, &as);
  if (offsets != 0)
    marks->sectors[common_bits(offsets)]++;
}

/* True if an entry of a snapshot table may begin here, whatever the cluster size. */
static bool may_be_snapshot(const uint8_t *sector, uint64_t file_size)
{
  uint64_t l1_offset = be64_get(sector);
  uint32_t extra = be32_get(sector + 36);

  return l1_offset != 0 && l1_offset % MARK_SECTOR_BYTES == 0 && l1_offset < file_size &&
         be32_get(sector + 8) != 0 && be16_get(sector + 12) != 0 &&
         be16_get(sector + 12) < ID_BYTES_MAX && (extra == 0 || (extra <= 24 && extra % 8 == 0));
}

static void look_at_sector(struct qcow2_marks *marks, const uint8_t *bytes, uint64_t offset,
                           uint64_t file_size)
{
  static const uint8_t LUKS[8] = { 'L', 'U', 'K', 'S', 0xba, 0xbe, 0, 1 };

  if (bytes[0] == 0 && qcow2_residue_is_zero(bytes, MARK_SECTOR_BYTES))
    return;
  look_for_entries(marks, bytes, offset, file_size);
  if (may_be_snapshot(bytes, file_size)) {
    if (marks->entry_count < ENTRIES_MAX)
      marks->entries[marks->entry_count++] = offset;
    else
      marks->is_complete = false;
  }
  if (marks->luks_offset == 0 && memcmp(bytes, LUKS, sizeof(LUKS)) == 0)
    marks->luks_offset = offset;
}

int qcow2_marks_find(const struct qcow2_storage *storage, struct qcow2_marks *marks,
                     struct qcow2_error *error)
{
  uint8_t *chunk = malloc(CHUNK_BYTES);

  *marks = (struct qcow2_marks){ .capacity = (size_t) min_u64(storage->size / MARK_SECTOR_BYTES + 1,
                                                              RUNS_MAX),
                                 .is_complete = true };
  marks->runs = calloc(marks->capacity, sizeof(marks->runs[0]));
  marks->entries = malloc(ENTRIES_MAX * sizeof(marks->entries[0]));
  if (chunk == NULL || marks->runs == NULL || marks->entries == NULL) {
    free(chunk);
    return qcow2_error_set_nomem(error);
  }
  for (uint64_t offset = 0, next; offset < storage->size; offset = next) {
    uint64_t data = qcow2_storage_next_data(storage, offset);
    size_t length;

    next = data / CHUNK_BYTES * CHUNK_BYTES;
    if (next > offset)
      continue;
    length = (size_t) min_u64(CHUNK_BYTES, storage->size - offset);
    if (!qcow2_storage_read_what_is_there(storage, offset, chunk, length))
      marks->is_complete = false;
    for (size_t at = 0; at + MARK_SECTOR_BYTES <= length; at += MARK_SECTOR_BYTES)
      look_at_sector(marks, chunk + at, offset + at, storage->size);
    next = offset + CHUNK_BYTES;
  }
  free(chunk);
  return 0;
}

void qcow2_marks_free(struct qcow2_marks *marks)
{
  free(marks->runs);
  free(marks->entries);
  memset(marks, 0, sizeof(*marks));
}
