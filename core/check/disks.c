/* SPDX-License-Identifier: MIT */
/* The L1 tables, of the active disk and of the snapshots, and their L2 tables. */
#include <inttypes.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../format/snapshot.h"
#include "checker.h"

#define L1_RESERVED_MASK UINT64_C(0x7f000000000001ff)

typedef bool visit_l1(struct qcow2_checker *checker, const struct qcow2_checked_l1_entry *entry);

/* Call `visit` for each entry of an L1 table that names an L2 table or has bits set that must be
   zero. False: the bound is reached. */
static bool each_l1_entry(struct qcow2_checker *checker, const struct qcow2_checked_disk *disk,
                          bool report, visit_l1 *visit)
{
  const struct qcow2_geometry *geometry = &checker->layer->geometry;
  uint64_t bytes = disk->l1_offset < checker->storage->size
                       ? (uint64_t) disk->l1_size * L1_ENTRY_BYTES
                       : 0;

  for (uint64_t done = 0; done < bytes; done += CHECK_PIECE_BYTES) {
    size_t length = (size_t) min_u64(bytes - done, CHECK_PIECE_BYTES);

    if (!qcow2_checker_read(checker, "an L1 table", report, disk->l1_offset + done,
                            checker->l1_piece, length))
      return false;
    for (size_t at = 0; at < length; at += L1_ENTRY_BYTES) {
      struct qcow2_checked_l1_entry entry = { .disk = disk,
                                              .entry = be64_get(checker->l1_piece + at),
                                              .guest_offset = (done + at) / L1_ENTRY_BYTES
                                                              << (geometry->cluster_bits +
                                                                  geometry->l2_bits),
                                              .table_offset = disk->l1_offset + done + at };

      if (entry.entry != 0 &&
          (!qcow2_checker_work(checker, CHECK_ENTRY_BYTES) || !visit(checker, &entry)))
        return false;
    }
  }
  return true;
}

/* ---- L1 entries -------------------------------------------------------------- */

static struct qcow2_finding finding_of(const struct qcow2_checked_l1_entry *entry,
                                       enum qcow2_finding_kind kind)
{
  struct qcow2_finding finding = FINDING(kind, QCOW2_WEIGHT_CORRUPTION);

  finding.host_offset = entry->entry & TABLE_OFFSET_MASK;
  finding.guest_offset = entry->guest_offset;
  finding.table_offset = entry->table_offset;
  finding.snapshot_index = entry->disk->snapshot_index;
  return finding;
}

/* Say what is wrong with the entry itself. */
static void look_at_l1_entry(struct qcow2_checker *checker,
                             const struct qcow2_checked_l1_entry *entry)
{
  const char *problem = qcow2_l1_entry_problem(&checker->layer->geometry, entry->entry);
  struct qcow2_finding finding = finding_of(entry, QCOW2_FINDING_RESERVED_BITS);

  if ((entry->entry & L1_RESERVED_MASK) != 0)
    qcow2_checker_report(checker, &finding,
                         "the L1 entry at host offset %" PRIu64
                         " has reserved bits set: 0x%016" PRIx64,
                         entry->table_offset, entry->entry);
  finding.kind = QCOW2_FINDING_UNALIGNED;
  if (problem != NULL)
    qcow2_checker_report(checker, &finding,
                         "the L1 entry at host offset %" PRIu64 " is invalid: %s",
                         entry->table_offset, problem);
  finding.kind = QCOW2_FINDING_COPIED;
  finding.weight = QCOW2_WEIGHT_DEFECT;
  if (finding.host_offset == 0 && (entry->entry & L2_ENTRY_COPIED) != 0)
    qcow2_checker_report(checker, &finding,
                         "the L1 entry at host offset %" PRIu64
                         " has bit 63 set, but names no L2 table",
                         entry->table_offset);
}

bool qcow2_checker_l1_entry(struct qcow2_checker *checker,
                            const struct qcow2_checked_l1_entry *entry)
{
  struct qcow2_reference_made reference = { .use = USE_L2,
                                            .what = "an L2 table",
                                            .guest_offset = entry->guest_offset,
                                            .table_offset = entry->table_offset,
                                            .snapshot_index = entry->disk->snapshot_index };
  struct qcow2_finding finding = finding_of(entry, QCOW2_FINDING_COPIED);

  if (checker->is_first_walk)
    look_at_l1_entry(checker, entry);
  if (finding.host_offset == 0)
    return true;
  qcow2_checker_count(checker, &reference, finding.host_offset,
                      checker->layer->geometry.cluster_size);
  return entry->disk->snapshot_index != QCOW2_ACTIVE ||
         qcow2_checker_copied(checker, "L1", (entry->entry & L2_ENTRY_COPIED) != 0, &finding);
}

/* ---- L2 tables --------------------------------------------------------------- */

static bool visit_l2_piece(struct qcow2_checker *checker, const struct qcow2_checked_l1_entry *l1,
                           uint64_t done, size_t length)
{
  const struct qcow2_geometry *geometry = &checker->layer->geometry;

  for (size_t at = 0; at < length; at += geometry->l2_entry_bytes) {
    struct qcow2_checked_l2_entry checked = {
      .disk = l1->disk, .entry = l2_entry_load(geometry, checker->l2_piece + at)
    };

    if (checked.entry.descriptor == 0 && checked.entry.subcluster_bitmap == 0)
      continue;
    checked.guest_offset = l1->guest_offset +
                           ((done + at) / geometry->l2_entry_bytes << geometry->cluster_bits);
    checked.table_offset = (l1->entry & TABLE_OFFSET_MASK) + done + at;
    if (!qcow2_checker_work(checker, CHECK_ENTRY_BYTES) ||
        !checker->visitor->l2_entry(checker, &checked))
      return false;
  }
  return true;
}

static bool visit_l2_table(struct qcow2_checker *checker, const struct qcow2_checked_l1_entry *l1)
{
  uint32_t cluster_size = checker->layer->geometry.cluster_size;
  uint64_t l2_offset = l1->entry & TABLE_OFFSET_MASK;

  if (l2_offset == 0 || l2_offset >= checker->storage->size ||
      (checker->visitor->wants_l2 != NULL && !checker->visitor->wants_l2(checker, l1)))
    return true;
  for (uint64_t done = 0; done < cluster_size; done += CHECK_PIECE_BYTES) {
    size_t length = (size_t) min_u64(cluster_size - done, CHECK_PIECE_BYTES);

    if (!qcow2_checker_read(checker, "an L2 table", checker->is_first_walk, l2_offset + done,
                            checker->l2_piece, length) ||
        !visit_l2_piece(checker, l1, done, length))
      return false;
  }
  return true;
}

/* ---- All disks ---------------------------------------------------------------- */

/* True if the snapshot's L1 table can be walked, even if it has fewer entries than it should. */
static bool has_l1(const struct qcow2_checker *checker, const struct qcow2_snapshot *snapshot)
{
  enum qcow2_l1_problem problem = qcow2_geometry_l1_problem(&checker->layer->geometry,
                                                            snapshot->l1_offset, snapshot->l1_size);

  return problem != L1_TOO_LARGE && problem != L1_UNALIGNED;
}

/* Report why a snapshot's disk or VM state cannot be read through its L1 table. QEMU checks only
   whether the table can be walked. */
static void look_at_snapshot(struct qcow2_checker *checker, const struct qcow2_snapshot *snapshot,
                             size_t index)
{
  const struct qcow2_geometry *geometry = &checker->layer->geometry;
  struct qcow2_finding finding = FINDING(QCOW2_FINDING_TABLE, QCOW2_WEIGHT_CORRUPTION);
  const char *problem = qcow2_snapshot_disk_problem(geometry, snapshot);

  if (problem == NULL)
    problem = qcow2_snapshot_vm_state_problem(geometry, snapshot);
  if (problem == NULL)
    return;
  if (has_l1(checker, snapshot))
    finding.weight = QCOW2_WEIGHT_DEFECT;
  finding.host_offset = snapshot->l1_offset;
  finding.snapshot_index = index;
  qcow2_checker_report(checker, &finding,
                       "the L1 table of snapshot %zu (counted from 0), %" PRIu32
                       " entries at host offset %" PRIu64 ", %s",
                       index, snapshot->l1_size, snapshot->l1_offset, problem);
}

/* The disk at `index`, where 0 is the active disk. False: there is no such disk that can be
   walked. */
static bool disk_get(struct qcow2_checker *checker, size_t index, bool report,
                     struct qcow2_checked_disk *disk)
{
  const struct qcow2_snapshot *snapshot;

  if (index == 0) {
    *disk = (struct qcow2_checked_disk){ .snapshot_index = QCOW2_ACTIVE,
                                         .l1_offset = checker->layer->tables.l1_offset,
                                         .l1_size = checker->layer->tables.l1_size };
    return true;
  }
  snapshot = &checker->snapshots->entries[index - 1];
  *disk = (struct qcow2_checked_disk){ .snapshot_index = index - 1,
                                       .l1_offset = snapshot->l1_offset,
                                       .l1_size = snapshot->l1_size };
  if (report)
    look_at_snapshot(checker, snapshot, index - 1);
  return has_l1(checker, snapshot);
}

bool qcow2_checker_walk_l1(struct qcow2_checker *checker)
{
  struct qcow2_reference_made reference = { .use = USE_L1,
                                            .what = "an L1 table",
                                            .guest_offset = QCOW2_NO_OFFSET,
                                            .table_offset = QCOW2_NO_OFFSET };
  struct qcow2_checked_disk disk;

  for (size_t i = 0; i <= checker->snapshots->count; i++) {
    if (!disk_get(checker, i, checker->is_first_walk, &disk))
      continue;
    reference.snapshot_index = disk.snapshot_index;
    checker->visitor->reference(checker, &reference, disk.l1_offset,
                                (uint64_t) disk.l1_size * L1_ENTRY_BYTES);
    if (!each_l1_entry(checker, &disk, checker->is_first_walk, checker->visitor->l1_entry))
      return false;
  }
  return true;
}

bool qcow2_checker_walk_l2(struct qcow2_checker *checker)
{
  struct qcow2_checked_disk disk;

  for (size_t i = 0; i <= checker->snapshots->count; i++)
    if (disk_get(checker, i, false, &disk) && !each_l1_entry(checker, &disk, false, visit_l2_table))
      return false;
  return true;
}
