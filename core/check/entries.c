/* SPDX-License-Identifier: MIT */
/* One L2 entry: what is wrong with it, and what it refers to. format/cluster.h has the rules for
   the kinds. */
#include <inttypes.h>

#include "../base/checked.h"
#include "checker.h"

#define L2_RESERVED_MASK UINT64_C(0x3f000000000001fe)

static struct qcow2_finding finding_of(const struct qcow2_checked_l2_entry *checked,
                                       enum qcow2_finding_kind kind,
                                       enum qcow2_finding_weight weight, uint64_t host_offset)
{
  struct qcow2_finding finding = FINDING(kind, weight);

  finding.host_offset = host_offset;
  finding.guest_offset = checked->guest_offset;
  finding.table_offset = checked->table_offset;
  finding.snapshot_index = checked->disk->snapshot_index;
  return finding;
}

/* Report that the entry is invalid. */
static void complain(struct qcow2_checker *checker, const struct qcow2_checked_l2_entry *checked,
                     enum qcow2_finding_kind kind, enum qcow2_finding_weight weight,
                     const char *problem)
{
  struct qcow2_finding finding = finding_of(checked, kind, weight, QCOW2_NO_OFFSET);

  if ((checked->entry.descriptor & L2_ENTRY_COMPRESSED) == 0)
    finding.host_offset = checked->entry.descriptor & TABLE_OFFSET_MASK;
  qcow2_checker_report(checker, &finding,
                       "the L2 entry at host offset %" PRIu64 ", for guest offset %" PRIu64
                       ", is wrong: %s",
                       checked->table_offset, checked->guest_offset, problem);
}

static void corrupt(struct qcow2_checker *checker, const struct qcow2_checked_l2_entry *checked,
                    enum qcow2_finding_kind kind, const char *problem)
{
  if (checker->is_first_walk)
    complain(checker, checked, kind, QCOW2_WEIGHT_CORRUPTION, problem);
}

static void count(struct qcow2_checker *checker, const struct qcow2_checked_l2_entry *checked,
                  uint32_t use, uint64_t host_offset, uint64_t length)
{
  struct qcow2_reference_made reference = { .use = use,
                                            .what = use == USE_DATA ? "guest data"
                                                                    : "compressed data",
                                            .guest_offset = checked->guest_offset,
                                            .table_offset = checked->table_offset,
                                            .snapshot_index = checked->disk->snapshot_index };

  qcow2_checker_count(checker, &reference, host_offset, length);
}

/* ---- Bit 63 -------------------------------------------------------------------- */

/* The clusters of an external data file have no refcounts: they count as 1. */
static bool look_at_copied(struct qcow2_checker *checker,
                           const struct qcow2_checked_l2_entry *checked)
{
  bool copied = (checked->entry.descriptor & L2_ENTRY_COPIED) != 0;
  struct qcow2_finding finding = finding_of(checked, QCOW2_FINDING_COPIED, QCOW2_WEIGHT_CORRUPTION,
                                            checked->entry.descriptor & TABLE_OFFSET_MASK);

  if (checked->disk->snapshot_index != QCOW2_ACTIVE)
    return true;
  if (!checker->layer->geometry.has_data_file)
    return qcow2_checker_copied(checker, "L2", copied, &finding);
  if (!copied)
    corrupt(checker, checked, QCOW2_FINDING_COPIED,
            "bit 63 is 0, but in an external data file every cluster is used once");
  return true;
}

/* ---- What reading refuses ---------------------------------------------------------- */

/* The end of the file that holds the guest's bytes; the external data file is not opened for a
   check. */
static uint64_t data_end(const struct qcow2_checker *checker)
{
  return checker->layer->geometry.has_data_file ? UINT64_MAX : checker->storage->size;
}

/* The end of the guest bytes of which the entry maps a part: the end of the disk; or UINT64_MAX, if
   the entry maps VM state, which comes after the disk. */
static uint64_t guest_end(const struct qcow2_checker *checker,
                          const struct qcow2_checked_l2_entry *checked)
{
  size_t index = checked->disk->snapshot_index;
  uint64_t size = index == QCOW2_ACTIVE ? checker->layer->size
                                        : checker->snapshots->entries[index].disk_size;

  return checked->guest_offset < size ? size : UINT64_MAX;
}

/* Report if some part of the entry's cluster cannot be read, for a reason that was not reported
   yet. */
static void look_at_parts(struct qcow2_checker *checker,
                          const struct qcow2_checked_l2_entry *checked)
{
  const struct qcow2_geometry *geometry = &checker->layer->geometry;
  uint64_t end = min_u64(checked->guest_offset + geometry->cluster_size,
                         guest_end(checker, checked));

  for (uint64_t at = checked->guest_offset; at < end;) {
    struct qcow2_cluster_part part = qcow2_l2_entry_decode(geometry, &checked->entry, at);
    uint64_t needed = part.kind == QCOW2_CLUSTER_COMPRESSED ? 1 : min_u64(part.length, end - at);

    if (part.kind == QCOW2_CLUSTER_INVALID) {
      complain(checker, checked, QCOW2_FINDING_ENTRY, QCOW2_WEIGHT_DEFECT, part.problem);
      return;
    }
    if ((part.kind == QCOW2_CLUSTER_NORMAL || part.kind == QCOW2_CLUSTER_COMPRESSED) &&
        !range_fits(part.host_offset, needed, data_end(checker))) {
      complain(checker, checked, QCOW2_FINDING_CUT, QCOW2_WEIGHT_DEFECT,
               "the file ends before all of the bytes that it refers to");
      return;
    }
    at += part.length;
  }
}

/* ---- Kinds ---------------------------------------------------------------------------- */

static void check_compressed(struct qcow2_checker *checker,
                             const struct qcow2_checked_l2_entry *checked)
{
  const struct qcow2_geometry *geometry = &checker->layer->geometry;
  struct qcow2_cluster_part part = qcow2_l2_entry_decode(geometry, &checked->entry,
                                                         checked->guest_offset);

  if ((checked->entry.descriptor & L2_ENTRY_COPIED) != 0)
    corrupt(checker, checked, QCOW2_FINDING_COPIED,
            "bit 63 is set, which a compressed cluster must not have");
  if (part.kind == QCOW2_CLUSTER_INVALID)
    corrupt(checker, checked, QCOW2_FINDING_ENTRY, part.problem);
  else if (checked->entry.subcluster_bitmap != 0)
    corrupt(checker, checked, QCOW2_FINDING_ENTRY, "it is compressed, but has a subcluster bitmap");
  else
    count(checker, checked, USE_COMPRESSED, part.host_offset, part.host_bytes);
}

/* False: the bound is reached. */
static bool check_standard(struct qcow2_checker *checker,
                           const struct qcow2_checked_l2_entry *checked)
{
  const struct qcow2_geometry *geometry = &checker->layer->geometry;
  uint64_t descriptor = checked->entry.descriptor;
  bool is_allocated = qcow2_l2_entry_is_allocated(geometry, descriptor);
  const char *bitmap_problem = qcow2_subcluster_bitmap_problem(checked->entry.subcluster_bitmap,
                                                               is_allocated);
  const char *offset_problem = qcow2_l2_entry_offset_problem(geometry, descriptor);

  if ((descriptor & L2_RESERVED_MASK) != 0)
    corrupt(checker, checked, QCOW2_FINDING_RESERVED_BITS, "it has reserved bits set");
  if (bitmap_problem != NULL)
    corrupt(checker, checked, QCOW2_FINDING_ENTRY, bitmap_problem);
  if (!is_allocated)
    return true;
  if (offset_problem != NULL)
    corrupt(checker, checked, QCOW2_FINDING_UNALIGNED, offset_problem);
  if (!geometry->has_data_file)
    count(checker, checked, USE_DATA, descriptor & TABLE_OFFSET_MASK, geometry->cluster_size);
  return look_at_copied(checker, checked);
}

/* The number of findings of the kinds that say that an entry is invalid. All of them come from the
   first walk. */
static uint64_t count_invalid(const struct qcow2_check_result *result)
{
  return result->counts[QCOW2_FINDING_ENTRY] + result->counts[QCOW2_FINDING_UNALIGNED] +
         result->counts[QCOW2_FINDING_PAST_END];
}

bool qcow2_checker_entry(struct qcow2_checker *checker,
                         const struct qcow2_checked_l2_entry *checked)
{
  uint64_t before = count_invalid(checker->result);
  bool go_on = true;

  if ((checked->entry.descriptor & L2_ENTRY_COMPRESSED) != 0)
    check_compressed(checker, checked);
  else
    go_on = check_standard(checker, checked);
  if (checker->is_first_walk && count_invalid(checker->result) == before)
    look_at_parts(checker, checked);
  if (go_on && checker->is_first_walk && checker->streams != NULL)
    go_on = qcow2_checker_stream(checker, checked);
  return go_on;
}
