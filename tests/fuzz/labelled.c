/* SPDX-License-Identifier: MIT */
#include "labelled.h"

#include <string.h>

/* Pieces of the image's states that a run is compared with. */
#define PIECES_MAX 400u

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
static void check_run(struct qcow2_image *image, struct qcow2_view *view,
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
  if ((run->label == QCOW2_LABEL_KEPT || run->label == QCOW2_LABEL_BY_NEIGHBOURS) &&
      qcow2_view_map(view, run->guest_offset, run->length, &extent, NULL) == 0 &&
      extent.layer == 0 && extent.kind == QCOW2_CLUSTER_NORMAL) {
    const struct kept kept = { extent.host_offset, extent.length };

    check_kept(image, &kept);
  }
}

void fuzz_check_labels(struct qcow2_image *image, struct qcow2_view *view)
{
  uint64_t bytes[QCOW2_LABELS_MAX], sum = 0, size = qcow2_view_size(view);
  struct qcow2_labelled run;
  unsigned runs = 0;

  FUZZ_CHECK(qcow2_view_label_bytes(view, bytes, NULL) == 0);
  for (unsigned i = 0; i < QCOW2_LABELS_MAX; i++)
    sum += bytes[i];
  FUZZ_CHECK(sum == size);
  for (uint64_t at = 0; at < size && runs < FUZZ_RUNS_MAX; at += run.length, runs++) {
    struct qcow2_error error = fuzz_error_fresh();
    int code = qcow2_view_label(view, at, size - at, &run, &error);

    fuzz_check_result(code, &error);
    if (code != 0)
      return;
    FUZZ_CHECK(run.guest_offset == at && run.length > 0 && run.length <= size - at);
    FUZZ_CHECK((unsigned) run.label < QCOW2_LABELS);
    check_run(image, view, &run);
  }
}
