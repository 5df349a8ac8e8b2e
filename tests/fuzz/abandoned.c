/* SPDX-License-Identifier: MIT */
/*
 * The abandoned state of a whole image: L2 tables placed by votes, by what they contain and by
 * their order, and clusters placed by their neighbours. These are shown only where the state's own
 * tables do not say what is there, no cluster of the file twice; everything else is as without
 * them.
 */
#include <stdlib.h>
#include <string.h>

#include "labelled.h"

struct placed {
  uint64_t host_offset, length;
};

static struct qcow2_view *open_as(struct qcow2_image *image, unsigned flags)
{
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_view *view;
  int code = qcow2_view_open_abandoned(image, flags, &view, &error);

  fuzz_check_result(code, &error);
  return code == 0 ? view : NULL;
}

/* A run is at a place of its own in the file. */
static void check_placed(struct qcow2_view *view, const struct qcow2_labelled *run,
                         struct placed *placed, size_t count)
{
  struct qcow2_extent extent;
  struct placed now = { run->host_offset, run->length };

  FUZZ_CHECK(qcow2_view_map(view, run->guest_offset, run->length, &extent, NULL) == 0);
  FUZZ_CHECK(extent.layer == 0 && extent.kind == QCOW2_CLUSTER_NORMAL);
  FUZZ_CHECK(extent.host_offset == now.host_offset && extent.length == now.length);
  for (size_t i = 0; i < count; i++)
    FUZZ_CHECK(now.host_offset >= placed[i].host_offset + placed[i].length ||
               placed[i].host_offset >= now.host_offset + now.length);
  placed[count] = now;
}

/* Compare the view with neighbours with the one without, run by run. */
static void compare(struct qcow2_view *with, struct qcow2_view *without)
{
  struct placed placed[FUZZ_RUNS_MAX];
  uint64_t size = qcow2_view_size(with), bytes[QCOW2_LABELS_MAX], found = 0, at = 0;
  size_t count = 0;

  FUZZ_CHECK(size == qcow2_view_size(without));
  for (unsigned runs = 0; at < size && runs < FUZZ_RUNS_MAX; runs++) {
    struct qcow2_labelled run, before;

    if (qcow2_view_label(with, at, size - at, &run, NULL) != 0 ||
        qcow2_view_label(without, at, run.length, &before, NULL) != 0)
      return;
    if (run.label == QCOW2_LABEL_BY_NEIGHBOURS) {
      /* What a table of its own says is kept. A borrowed one may be damaged, so anything else. */
      FUZZ_CHECK(before.label != QCOW2_LABEL_KEPT);
      check_placed(with, &run, placed, count++);
      found += run.length;
    } else
      FUZZ_CHECK(run.label == before.label && run.host_offset == before.host_offset);
    at += run.length;
  }
  FUZZ_CHECK(qcow2_view_label_bytes(with, bytes, NULL) == 0);
  FUZZ_CHECK(at < size || found == bytes[QCOW2_LABEL_BY_NEIGHBOURS]);
}

static void check_views(struct qcow2_image *image)
{
  struct qcow2_view *kept = open_as(image, QCOW2_VIEW_ONLY_KEPT), *without = open_as(image, 0);
  struct qcow2_view *with = open_as(image, QCOW2_VIEW_BY_NEIGHBOURS);

  FUZZ_CHECK((kept == NULL) == (without == NULL) && (with == NULL) == (without == NULL));
  if (without != NULL) {
    FUZZ_CHECK(qcow2_view_deleted(without) == NULL);
    fuzz_check_labels(image, without);
    fuzz_check_labels(image, with);
    compare(with, without);
  }
  qcow2_view_close(kept);
  qcow2_view_close(without);
  qcow2_view_close(with);
}

static void look(const uint8_t *data, size_t size, bool is_failing,
                 const struct qcow2_layout *layout)
{
  struct fuzz_input input = { data, size };
  struct qcow2_storage storage = is_failing ? fuzz_storage_failing(&input) : fuzz_storage(&input);
  struct qcow2_open_options options = { .struct_size = sizeof(options),
                                        .flags = QCOW2_OPEN_NO_THREADS,
                                        .layout = layout };
  struct qcow2_image *image;

  if (qcow2_image_open_storage(&storage, &options, &image, NULL) != 0)
    return;
  check_views(image);
  qcow2_image_close(image);
}

/* A big-endian number of the header. */
static uint64_t number_at(const uint8_t *data, size_t offset, unsigned width)
{
  uint64_t number = 0;

  for (unsigned i = 0; i < width; i++)
    number = number << 8 | data[offset + i];
  return number;
}

/* The layout as the header has it, but without an L1 table. */
static struct qcow2_layout layout_without_l1(const uint8_t *data, size_t size)
{
  struct qcow2_layout layout = { .size = number_at(data, 24, 8),
                                 .cluster_bits = (uint32_t) number_at(data, 20, 4),
                                 .flags = QCOW2_LAYOUT_NO_L1 | QCOW2_LAYOUT_BY_ORDER };

  if (size >= 112 && number_at(data, 4, 4) == 3) {
    layout.flags |= (data[79] & 16) != 0 ? QCOW2_LAYOUT_EXTENDED_L2 : 0;
    layout.flags |= data[104] == 1 ? QCOW2_LAYOUT_ZSTD : 0;
  }
  return layout;
}

/* Without the active disk's L1 table, so that nothing leads to its L2 tables: as if it were zeros;
   as if it were not there; and as if the header were lost, too. */
static void look_without_l1(uint8_t *data, size_t size)
{
  const struct qcow2_layout no_l1 = { .flags = QCOW2_LAYOUT_NO_L1 },
                            alone = layout_without_l1(data, size);

  look(data, size, false, NULL);
  look(data, size, true, NULL);
  look(data, size, false, &no_l1);
  data[0] = 0;
  look(data, size, false, &alone);
}

void fuzz_abandoned(const uint8_t *data, size_t size)
{
  uint8_t *changed = calloc(1, size + 1);
  uint64_t l1_offset, l1_bytes;

  FUZZ_CHECK(changed != NULL);
  if (size > 0)
    memcpy(changed, data, size);
  look(changed, size, false, NULL);
  l1_bytes = size < 48 ? 0 : number_at(data, 36, 4) * 8;
  l1_offset = size < 48 ? 0 : number_at(data, 40, 8);
  if (l1_offset >= 48 && l1_offset < size) {
    memset(changed + l1_offset, 0, l1_bytes < size - l1_offset ? l1_bytes : size - l1_offset);
    look_without_l1(changed, size);
  }
  free(changed);
}
