/* SPDX-License-Identifier: MIT */
/* What refers to clusters besides the disks: the header, the snapshot table, the LUKS header, the
   bitmaps. */
#include <inttypes.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../image/encryption.h"
#include "../format/bitmap.h"
#include "../format/refcount.h"
#include "../format/snapshot.h"
#include "checker.h"

static void count(struct qcow2_checker *checker, uint32_t use, const char *what, uint64_t offset,
                  uint64_t length)
{
  struct qcow2_reference_made reference = { .use = use,
                                            .what = what,
                                            .guest_offset = QCOW2_NO_OFFSET,
                                            .table_offset = QCOW2_NO_OFFSET,
                                            .snapshot_index = QCOW2_ACTIVE };

  checker->visitor->reference(checker, &reference, offset, length);
}

/* Say that a table is not valid. */
static void complain(struct qcow2_checker *checker, uint64_t host_offset, const char *problem)
{
  struct qcow2_finding finding = FINDING(QCOW2_FINDING_TABLE, QCOW2_WEIGHT_CORRUPTION);

  finding.host_offset = host_offset;
  if (checker->is_first_walk)
    qcow2_checker_report(checker, &finding, "%s", problem);
}

/* ---- Bitmaps -------------------------------------------------------------------- */

/* An entry of a bitmap's table. */
static void check_entry(struct qcow2_checker *checker, uint64_t table_offset, uint64_t entry)
{
  uint64_t offset = entry & TABLE_OFFSET_MASK;
  uint32_t cluster_size = checker->layer->geometry.cluster_size;
  const char *problem = qcow2_bitmap_table_entry_problem(entry, cluster_size);
  struct qcow2_finding finding = FINDING(is_aligned(offset, cluster_size)
                                             ? QCOW2_FINDING_RESERVED_BITS
                                             : QCOW2_FINDING_UNALIGNED,
                                         QCOW2_WEIGHT_CORRUPTION);

  finding.table_offset = table_offset;
  finding.host_offset = offset;
  if (problem == NULL && offset != 0)
    count(checker, USE_BITMAP, "a bitmap's data", offset, cluster_size);
  else if (problem != NULL && checker->is_first_walk)
    qcow2_checker_report(checker, &finding,
                         "the bitmap table entry at host offset %" PRIu64 " %s: 0x%016" PRIx64,
                         table_offset, problem, entry);
}

/* False: the bound is reached. */
static bool check_bitmap(struct qcow2_checker *checker, const struct qcow2_bitmap *bitmap)
{
  uint64_t bytes = (uint64_t) bitmap->table_size * BITMAP_TABLE_ENTRY_BYTES;

  count(checker, USE_BITMAP, "a bitmap's table", bitmap->table_offset, bytes);
  if (bitmap->table_offset >= checker->storage->size)
    return true;
  for (uint64_t done = 0; done < bytes; done += CHECK_PIECE_BYTES) {
    size_t length = (size_t) min_u64(bytes - done, CHECK_PIECE_BYTES);

    if (!qcow2_checker_read(checker, "a bitmap's table", checker->is_first_walk,
                            bitmap->table_offset + done, checker->l1_piece, length) ||
        !qcow2_checker_work(checker, length / BITMAP_TABLE_ENTRY_BYTES * CHECK_ENTRY_BYTES))
      return false;
    for (size_t at = 0; at < length; at += BITMAP_TABLE_ENTRY_BYTES)
      check_entry(checker, bitmap->table_offset + done + at, be64_get(checker->l1_piece + at));
  }
  return true;
}

/* Report the bitmaps that cannot be read. They matter only if bitmaps count. */
static void look_at_bitmaps(struct qcow2_checker *checker, bool they_count)
{
  const struct qcow2_bitmaps *bitmaps = checker->bitmaps;
  struct qcow2_finding finding = FINDING(QCOW2_FINDING_TABLE, they_count ? QCOW2_WEIGHT_CORRUPTION
                                                                         : QCOW2_WEIGHT_DEFECT);
  struct qcow2_error error;

  finding.host_offset = bitmaps->directory.directory_offset;
  if (bitmaps->lost_count > 0)
    qcow2_checker_report(checker, &finding,
                         "the bitmap directory cannot be read as a whole (see the warning)");
  for (size_t i = 0; i < bitmaps->count; i++) {
    int code = qcow2_bitmap_error(checker->layer, &bitmaps->entries[i], &error);

    finding.host_offset = bitmaps->entries[i].table_offset;
    /* If a bitmap is cut, that is found where references are counted, if bitmaps count. */
    if (code != 0 && (code != QCOW2_ERROR_TRUNCATED || !they_count))
      qcow2_checker_report(checker, &finding, "bitmap %zu (counted from 0) cannot be read: %.300s",
                           i, error.message);
  }
}

/* Bitmaps count only if the autoclear bit is set: then the program that wrote the image last knew
   about bitmaps. Another program may have used their clusters for something else. */
static bool check_bitmaps(struct qcow2_checker *checker)
{
  const struct qcow2_bitmaps *bitmaps = checker->bitmaps;
  bool they_count = (checker->layer->metadata.header.autoclear_features &
                     QCOW2_AUTOCLEAR_BITMAPS) != 0;
  bool go_on = true;

  if (checker->is_first_walk)
    look_at_bitmaps(checker, they_count);
  if (!they_count)
    return true;
  count(checker, USE_BITMAP, "the bitmap directory", bitmaps->directory.directory_offset,
        bitmaps->directory.directory_size);
  for (size_t i = 0; go_on && i < bitmaps->count; i++)
    go_on = check_bitmap(checker, &bitmaps->entries[i]);
  return go_on;
}

/* ---- The whole ---------------------------------------------------------------------- */

static void check_refcount_table(struct qcow2_checker *checker, const struct qcow2_header *header)
{
  uint64_t bytes = qcow2_refcount_table_bytes(header);
  struct qcow2_finding finding = FINDING(QCOW2_FINDING_TABLE, QCOW2_WEIGHT_CORRUPTION);

  finding.host_offset = header->refcount_table_offset;
  finding.of_refcounts = 1;
  if (bytes == 0 || qcow2_checker_refcount_blocks(checker) > 0)
    count(checker, USE_REFCOUNTS, "the refcount table", header->refcount_table_offset, bytes);
  else if (checker->is_first_walk)
    qcow2_checker_report(
        checker, &finding,
        "the refcount table is larger than 8 MiB, or at an offset where it cannot be");
}

/* Report what is wrong with the entries of the snapshot table. Version 3 requires a disk size in
   each. */
static void look_at_snapshots(struct qcow2_checker *checker, const struct qcow2_header *header)
{
  const struct qcow2_snapshots *snapshots = checker->snapshots;
  struct qcow2_finding finding = FINDING(QCOW2_FINDING_TABLE, QCOW2_WEIGHT_CORRUPTION);

  finding.host_offset = header->snapshots_offset;
  for (size_t i = 0; i < header->snapshot_count && i < SNAPSHOT_COUNT_MAX; i++) {
    finding.snapshot_index = i;
    finding.weight = header->version >= 3 ? QCOW2_WEIGHT_CORRUPTION : QCOW2_WEIGHT_DEFECT;
    if (i >= snapshots->count)
      qcow2_checker_report(checker, &finding,
                           "entry %zu of the snapshot table cannot be read (see the warning)", i);
    else if (header->version >= 3 && !snapshots->entries[i].has_disk_size)
      qcow2_checker_report(checker, &finding,
                           "entry %zu of the snapshot table is incomplete: it has no disk size", i);
  }
}

/* Entries that cannot be read count with the shortest length that an entry can have. */
static void check_snapshot_table(struct qcow2_checker *checker, const struct qcow2_header *header)
{
  const struct qcow2_snapshots *snapshots = checker->snapshots;
  uint64_t missing = min_u64(header->snapshot_count, SNAPSHOT_COUNT_MAX) - snapshots->count;

  count(checker, USE_SNAPSHOT_TABLE, "the snapshot table", header->snapshots_offset,
        snapshots->table_bytes + missing * SNAPSHOT_FIXED_BYTES);
  if (checker->is_first_walk)
    look_at_snapshots(checker, header);
  if (snapshots->long_count > 0)
    complain(checker, snapshots->long_offset,
             "an entry of the snapshot table has more than 1024 bytes of extra data");
  if (header->snapshot_count > 0 && checker->layer->geometry.has_data_file)
    complain(checker, header->snapshots_offset,
             "there are snapshots, which an image with an external data file cannot have");
}

/* Count the area that the qcow2 header gives to LUKS, and check that a LUKS header is there. */
static void check_luks(struct qcow2_checker *checker)
{
  const struct qcow2_metadata *metadata = &checker->layer->metadata;
  struct qcow2_finding finding = FINDING(QCOW2_FINDING_TABLE, QCOW2_WEIGHT_DEFECT);
  struct qcow2_error error;
  int code;

  if (metadata->has_luks && metadata->luks_length > 0)
    count(checker, USE_LUKS, "the LUKS header", metadata->luks_offset, metadata->luks_length);
  if (!checker->is_first_walk)
    return;
  finding.host_offset = metadata->luks_offset;
  code = qcow2_encryption_check(checker->layer, &error);
  if (code == QCOW2_ERROR_CORRUPT || code == QCOW2_ERROR_TRUNCATED)
    qcow2_checker_report(checker, &finding, "the image cannot be decrypted: %.300s", error.message);
}

bool qcow2_checker_directories(struct qcow2_checker *checker)
{
  const struct qcow2_metadata *metadata = &checker->layer->metadata;

  count(checker, USE_HEADER, "the header", 0, metadata->header.header_length);
  if (checker->layer->is_killed)
    complain(checker, metadata->header.l1_offset,
             "the L1 table was zeroed and the file was cut after it, so the disk is lost");
  check_snapshot_table(checker, &metadata->header);
  check_refcount_table(checker, &metadata->header);
  check_luks(checker);
  return check_bitmaps(checker);
}
