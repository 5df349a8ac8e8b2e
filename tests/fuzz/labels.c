/* SPDX-License-Identifier: MIT */
/* Deleted snapshots of a whole image. */
#include <stdlib.h>
#include <string.h>

#include "labelled.h"

/* The most entries that are opened. */
#define OPENED_MAX 4u

static const unsigned FLAGS[] = { 0, QCOW2_VIEW_ONLY_KEPT, QCOW2_VIEW_UNDER_ZEROS,
                                  QCOW2_VIEW_BY_NEIGHBOURS };

struct looking {
  struct qcow2_image *image;
  const struct fuzz_input *input;
  unsigned opened;
};

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
    FUZZ_CHECK(qcow2_view_deleted(view) != NULL);
    if (FLAGS[i] != QCOW2_VIEW_ONLY_KEPT)
      fuzz_check_labels(looking->image, view);
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
