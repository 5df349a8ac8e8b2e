/* SPDX-License-Identifier: MIT */
#include <inttypes.h>

#include "../base/checked.h"
#include "checker.h"

/* The work of comparing, for each cluster. */
#define COMPARE_BYTES 4u

static struct qcow2_finding finding_of(const struct qcow2_reference_made *reference,
                                       enum qcow2_finding_kind kind,
                                       enum qcow2_finding_weight weight, uint64_t host_offset)
{
  struct qcow2_finding finding = FINDING(kind, weight);

  finding.host_offset = host_offset;
  finding.guest_offset = reference->guest_offset;
  finding.table_offset = reference->table_offset;
  finding.snapshot_index = reference->snapshot_index;
  return finding;
}

/* ---- Counting ---------------------------------------------------------------- */

/* The first of a cluster's uses, in words. */
static const char *use_name(uint32_t uses)
{
  static const struct {
    uint32_t use;
    const char *name;
  } names[] = { { USE_HEADER, "the header" },
                { USE_REFCOUNTS, "the refcount table or a block of it" },
                { USE_L1, "an L1 table" },
                { USE_L2, "an L2 table" },
                { USE_SNAPSHOT_TABLE, "the snapshot table" },
                { USE_BITMAP, "a part of a bitmap" },
                { USE_LUKS, "the LUKS header" },
                { USE_COMPRESSED, "compressed data" } };

  for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
    if ((uses & names[i].use) != 0)
      return names[i].name;
  return "guest data";
}

/* Snapshots share L2 tables and clusters, and compressed clusters share a host cluster; nothing
   else is shared. */
static bool is_overlap(uint32_t uses, uint32_t use)
{
  static const uint32_t shareable = USE_L2 | USE_DATA | USE_COMPRESSED;

  return uses != 0 && (uses != use || (use & shareable) == 0);
}

static void count_cluster(struct qcow2_checker *checker,
                          const struct qcow2_reference_made *reference, uint64_t cluster)
{
  uint32_t *cell = tally_cell(&checker->tally, cluster);
  uint64_t host_offset = cluster << checker->layer->geometry.cluster_bits;
  struct qcow2_finding finding;

  if (is_overlap(*cell & USE_MASK, reference->use)) {
    finding = finding_of(reference, QCOW2_FINDING_OVERLAP, QCOW2_WEIGHT_DEFECT, host_offset);
    qcow2_checker_report(checker, &finding,
                         "the cluster at host offset %" PRIu64
                         " is used as %s, but it is %s as well",
                         host_offset, reference->what, use_name(*cell & USE_MASK));
  }
  *cell |= reference->use | (reference->snapshot_index == QCOW2_ACTIVE ? OF_ACTIVE : OF_SNAPSHOT);
  if (!tally_count(&checker->tally, cell) && checker->tally.limit < TALLY_COUNT_MAX) {
    finding = finding_of(reference, QCOW2_FINDING_OVERFLOW, QCOW2_WEIGHT_CORRUPTION, host_offset);
    qcow2_checker_report(checker, &finding,
                         "the cluster at host offset %" PRIu64
                         " has more references than its refcount can count",
                         host_offset);
  }
}

/* The last cluster of the file may be cut. What ends a whole cluster or more after the end of the
   file is past the end. */
static bool is_past_end(const struct qcow2_checker *checker, uint64_t offset, uint64_t length)
{
  uint32_t cluster_size = checker->layer->geometry.cluster_size;

  return length > INT64_MAX || offset > INT64_MAX - length ||
         offset + length >= checker->file_end + cluster_size;
}

/* Reading needs whole tables. Which guest data it needs is in their entries. */
static void look_at_end(struct qcow2_checker *checker, const struct qcow2_reference_made *reference,
                        uint64_t offset, uint64_t length)
{
  struct qcow2_finding finding = finding_of(reference, QCOW2_FINDING_CUT, QCOW2_WEIGHT_DEFECT,
                                            offset);

  finding.of_refcounts = reference->use == USE_REFCOUNTS;
  if (offset + length > checker->storage->size &&
      (reference->use & (USE_DATA | USE_COMPRESSED)) == 0)
    qcow2_checker_report(checker, &finding,
                         "the file ends at byte %" PRIu64 ", inside %s at host offset %" PRIu64,
                         checker->storage->size, reference->what, offset);
}

void qcow2_checker_count(struct qcow2_checker *checker,
                         const struct qcow2_reference_made *reference, uint64_t offset,
                         uint64_t length)
{
  unsigned cluster_bits = checker->layer->geometry.cluster_bits;
  uint64_t first = offset >> cluster_bits, last;
  struct qcow2_finding finding;

  if (length == 0)
    return;
  if (is_past_end(checker, offset, length)) {
    finding = finding_of(reference, QCOW2_FINDING_PAST_END, QCOW2_WEIGHT_CORRUPTION, offset);
    finding.of_refcounts = reference->use == USE_REFCOUNTS;
    if (checker->is_first_walk)
      qcow2_checker_report(checker, &finding,
                           "the file ends at byte %" PRIu64 ", but %s is at host offset %" PRIu64
                           ", %" PRIu64 " bytes",
                           checker->storage->size, reference->what, offset, length);
    return;
  }
  if (checker->is_first_walk)
    look_at_end(checker, reference, offset, length);
  last = (offset + length - 1) >> cluster_bits;
  if (last >= checker->cluster_end)
    checker->cluster_end = last + 1;
  if (qcow2_tally_clip(&checker->tally, &first, &last))
    for (uint64_t cluster = first; cluster <= last; cluster++)
      count_cluster(checker, reference, cluster);
}

/* ---- Bit 63 -------------------------------------------------------------------- */

bool qcow2_checker_copied(struct qcow2_checker *checker, const char *what, bool copied,
                          const struct qcow2_finding *finding)
{
  const struct qcow2_geometry *geometry = &checker->layer->geometry;
  uint64_t cluster = finding->host_offset >> geometry->cluster_bits, refcount;
  bool is_one, is_known;

  if (is_past_end(checker, finding->host_offset, geometry->cluster_size)) { /* it is in no tally */
    if (!checker->is_first_walk)
      return true;
    if (!qcow2_checker_refcount(checker, cluster, &refcount, &is_known))
      return false;
    is_one = refcount == 1;
  } else if (tally_has(&checker->tally, cluster)) {
    uint32_t cell = *tally_cell(&checker->tally, cluster);

    is_known = (cell & REFCOUNT_IS_UNKNOWN) == 0;
    is_one = (cell & REFCOUNT_IS_ONE) != 0;
  } else {
    return true;
  }
  if (is_known && is_one != copied)
    qcow2_checker_report(checker, finding,
                         "bit 63 of the %s entry at host offset %" PRIu64
                         " says that the refcount is %s, but it is %s",
                         what, finding->table_offset, copied ? "1" : "not 1", is_one ? "1" : "not");
  return true;
}

/* ---- Comparing ---------------------------------------------------------------- */

static void compare_cluster(struct qcow2_checker *checker, uint64_t cluster, uint64_t refcount,
                            uint32_t references)
{
  bool is_leak = refcount > references;
  struct qcow2_finding finding = FINDING(is_leak ? QCOW2_FINDING_LEAK : QCOW2_FINDING_REFCOUNT_LOW,
                                         is_leak ? QCOW2_WEIGHT_LEAK : QCOW2_WEIGHT_CORRUPTION);

  if (refcount == references || (references == TALLY_COUNT_MAX && refcount > references))
    return;
  finding.host_offset = cluster << checker->layer->geometry.cluster_bits;
  finding.refcount = refcount;
  finding.references = references;
  qcow2_checker_report(checker, &finding,
                       "the cluster at host offset %" PRIu64 " has a refcount of %" PRIu64
                       ", but %" PRIu32 " reference%s",
                       finding.host_offset, refcount, references, references == 1 ? "" : "s");
}

bool qcow2_checker_compare(struct qcow2_checker *checker)
{
  const struct qcow2_tally *tally = &checker->tally;
  uint64_t end = min_u64(tally->first + tally->capacity, checker->cluster_end);

  for (uint64_t cluster = tally->first; cluster < end; cluster++) {
    uint32_t references = *tally_cell(tally, cluster) & TALLY_COUNT_MAX;
    uint64_t refcount;
    bool is_known;

    if (!qcow2_checker_refcount(checker, cluster, &refcount, &is_known) ||
        !qcow2_checker_work(checker, COMPARE_BYTES))
      return false;
    checker->result->used_clusters += references > 0;
    checker->result->unreferenced_clusters += references == 0 && refcount > 0;
    if (is_known)
      compare_cluster(checker, cluster, refcount, references);
    if (checker->options.clusters != NULL)
      qcow2_checker_add_use(checker, cluster, refcount);
  }
  return true;
}
