/* SPDX-License-Identifier: MIT */
/*
 * Deleted snapshots of a whole image. What is lost is an error, and nothing else is because of its
 * label; the labels cover the view; what is kept is nothing that a state of the image reads; and
 * the same bytes are read in whatever pieces.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

/* The most entries that are opened, runs that are read, and pieces of the image's states. */
#define OPENED_MAX 4u
#define RUNS_MAX 400u
#define PIECES_MAX 400u

static const unsigned FLAGS[] = { 0, QCOW2_VIEW_ONLY_KEPT, QCOW2_VIEW_UNDER_ZEROS };

struct looking {
  struct qcow2_image *image;
  const struct fuzz_input *input;
  unsigned opened;
};

/* A run of kept bytes that are stored in the file. */
struct kept {
  uint64_t host_offset, length;
};

/* Check that no state reads bytes of the run as they are stored. */
static void check_kept(struct qcow2_image *image, const struct kept *kept)
{
  for (size_t state = 0; state <= qcow2_snapshot_count(image) && state < 4; state++) {
    struct qcow2_view *view;
    struct qcow2_extent extent;
    unsigned pieces = 0;

    if (qcow2_view_open(image, state == 0 ? QCOW2_ACTIVE : state - 1, &view, NULL) != 0)
      continue;
    for (uint64_t at = 0; at < qcow2_view_size(view) && pieces < PIECES_MAX; pieces++) {
      if (qcow2_view_map(view, at, qcow2_view_size(view) - at, &extent, NULL) != 0)
        break;
      FUZZ_CHECK(extent.layer != 0 || extent.kind != QCOW2_CLUSTER_NORMAL ||
                 extent.host_offset >= kept->host_offset + kept->length ||
                 kept->host_offset >= extent.host_offset + extent.length);
      at += extent.length;
    }
    qcow2_view_close(view);
  }
}

/* Read the first bytes of a run, and check that its label says whether that fails. */
static void check_run(struct looking *looking, struct qcow2_view *view,
                      const struct qcow2_labelled *run)
{
  uint8_t bytes[700], again[700];
  size_t length = run->length < sizeof(bytes) ? (size_t) run->length : sizeof(bytes);
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_extent extent;
  int code = qcow2_view_read(view, run->guest_offset, bytes, length, &error);

  fuzz_check_result(code, &error);
  if (qcow2_label_is_lost(run->label)) {
    FUZZ_CHECK(code == QCOW2_ERROR_CORRUPT);
    return;
  }
  if (code != 0)
    return;
  FUZZ_CHECK(
      qcow2_view_read(view, run->guest_offset + length / 2, again, length - length / 2, NULL) == 0);
  FUZZ_CHECK(memcmp(bytes + length / 2, again, length - length / 2) == 0);
  if (run->label == QCOW2_LABEL_KEPT &&
      qcow2_view_map(view, run->guest_offset, run->length, &extent, NULL) == 0 &&
      extent.layer == 0 && extent.kind == QCOW2_CLUSTER_NORMAL) {
    const struct kept kept = { extent.host_offset, extent.length };

    check_kept(looking->image, &kept);
  }
}

static void check_view(struct looking *looking, struct qcow2_view *view)
{
  uint64_t bytes[QCOW2_LABELS_MAX], sum = 0, size = qcow2_view_size(view);
  struct qcow2_labelled run;
  unsigned runs = 0;

  FUZZ_CHECK(qcow2_view_deleted(view) != NULL);
  FUZZ_CHECK(qcow2_view_label_bytes(view, bytes, NULL) == 0);
  for (unsigned i = 0; i < QCOW2_LABELS_MAX; i++)
    sum += bytes[i];
  FUZZ_CHECK(sum == size);
  for (uint64_t at = 0; at < size && runs < RUNS_MAX; at += run.length, runs++) {
    struct qcow2_error error = fuzz_error_fresh();
    int code = qcow2_view_label(view, at, size - at, &run, &error);

    fuzz_check_result(code, &error);
    if (code != 0)
      return;
    FUZZ_CHECK(run.guest_offset == at && run.length > 0 && run.length <= size - at);
    FUZZ_CHECK((unsigned) run.label < QCOW2_LABELS);
    check_run(looking, view, &run);
  }
}

static void open_one(void *context, const struct qcow2_residue_found *found)
{
  struct looking *looking = context;
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_view *view;
  int code;

  FUZZ_CHECK(found->kind == QCOW2_RESIDUE_SNAPSHOT_TABLE && found->snapshot != NULL);
  FUZZ_CHECK(found->host_offset < looking->input->length);
  FUZZ_CHECK(found->table_offset <= found->host_offset);
  fuzz_check_escape(found->snapshot->name, found->snapshot->name_length);
  if (looking->opened++ >= OPENED_MAX)
    return;
  for (size_t i = 0; i < sizeof(FLAGS) / sizeof(FLAGS[0]); i++) {
    code = qcow2_view_open_deleted(looking->image, found->snapshot->l1_offset, FLAGS[i], &view,
                                   &error);
    fuzz_check_result(code, &error);
    if (code != 0)
      return;
    if (FLAGS[i] != QCOW2_VIEW_ONLY_KEPT)
      check_view(looking, view);
    qcow2_view_close(view);
  }
}

static void look(const uint8_t *data, size_t size, bool is_failing)
{
  struct fuzz_input input = { data, size };
  struct qcow2_storage storage = is_failing ? fuzz_storage_failing(&input) : fuzz_storage(&input);
  struct looking looking = { .input = &input };
  struct qcow2_open_options options = { .struct_size = sizeof(options),
                                        .flags = QCOW2_OPEN_NO_THREADS };
  struct qcow2_error error = fuzz_error_fresh();
  int code;

  if (qcow2_image_open_storage(&storage, &options, &looking.image, NULL) != 0)
    return;
  code = qcow2_image_deleted(looking.image, open_one, &looking, &error);
  fuzz_check_result(code, &error);
  qcow2_image_close(looking.image);
}

/* Version 1 has no snapshots. The snapshots of the input are deleted, if it has any: the header
   forgets all but the first, or all. */
void fuzz_labels(const uint8_t *data, size_t size)
{
  uint8_t *changed = calloc(1, size + 1);

  FUZZ_CHECK(changed != NULL);
  if (size > 0)
    memcpy(changed, data, size);
  look(changed, size, false);
  if (size >= 72) {
    memset(changed + 60, 0, 12); /* nb_snapshots, snapshots_offset */
    look(changed, size, false);
    look(changed, size, true);
  }
  free(changed);
}
