/* SPDX-License-Identifier: MIT */
/* What the clusters of the file are used as, in runs. */
#include "../base/checked.h"
#include "../storage/storage.h"
#include "checker.h"

_Static_assert(USE_HEADER >> USE_SHIFT == QCOW2_USE_HEADER &&
                   USE_COMPRESSED >> USE_SHIFT == QCOW2_USE_COMPRESSED,
               "a cell's uses are the public ones, shifted");

static void end_run(struct qcow2_checker *checker)
{
  struct qcow2_checker_uses *uses = &checker->uses;

  if (uses->run.length > 0)
    checker->options.clusters(checker->options.context, &uses->run);
  uses->run.length = 0;
}

static bool is_alike(const struct qcow2_cluster_run *a, const struct qcow2_cluster_run *b)
{
  return a->uses == b->uses && a->of_active == b->of_active && a->of_snapshot == b->of_snapshot &&
         a->is_leaked == b->is_leaked && a->is_stored == b->is_stored;
}

/* Add a run that begins where the last one ended. */
static void add_run(struct qcow2_checker *checker, const struct qcow2_cluster_run *next)
{
  struct qcow2_checker_uses *uses = &checker->uses;

  if (uses->run.length > 0 && is_alike(&uses->run, next)) {
    uses->run.length += next->length;
  } else {
    end_run(checker);
    uses->run = *next;
  }
  uses->end = next->host_offset + next->length;
}

/* Find out whether the file stores the bytes at an offset, and up to where. */
static void look_for_hole(struct qcow2_checker *checker, uint64_t offset)
{
  struct qcow2_checker_uses *uses = &checker->uses;
  uint64_t next_data = qcow2_storage_next_data(checker->storage, offset);

  uses->is_stored = next_data <= offset;
  uses->stored_end = uses->is_stored ? qcow2_storage_next_hole(checker->storage, offset)
                                     : next_data;
  if (uses->stored_end <= offset) /* the file changes */
    uses->stored_end = offset + 1;
}

/* Add what nothing refers to, up to `end`. */
static void add_unreferenced(struct qcow2_checker *checker, uint64_t end, bool is_leaked)
{
  struct qcow2_checker_uses *uses = &checker->uses;

  while (uses->end < end) {
    struct qcow2_cluster_run run = { .host_offset = uses->end, .is_leaked = is_leaked };

    if (uses->stored_end <= uses->end)
      look_for_hole(checker, uses->end);
    run.is_stored = uses->is_stored;
    run.length = min_u64(uses->stored_end, end) - uses->end;
    add_run(checker, &run);
  }
}

void qcow2_checker_add_use(struct qcow2_checker *checker, uint64_t cluster, uint64_t refcount)
{
  uint32_t cell = *tally_cell(&checker->tally, cluster);
  uint64_t start = cluster << checker->layer->geometry.cluster_bits, size = checker->storage->size;
  uint64_t end = min_u64(start + checker->layer->geometry.cluster_size, size);
  const struct qcow2_cluster_run run = { .host_offset = start,
                                         .length = end - start,
                                         .uses = (cell & USE_MASK) >> USE_SHIFT,
                                         .of_active = (cell & OF_ACTIVE) != 0,
                                         .of_snapshot = (cell & OF_SNAPSHOT) != 0,
                                         .is_stored = 1 };

  if (start >= size)
    return;
  add_unreferenced(checker, start, false);
  if ((cell & TALLY_COUNT_MAX) == 0)
    add_unreferenced(checker, end, refcount != 0);
  else
    add_run(checker, &run);
}

void qcow2_checker_end_uses(struct qcow2_checker *checker, uint64_t end)
{
  add_unreferenced(checker, end, false);
  end_run(checker);
}
