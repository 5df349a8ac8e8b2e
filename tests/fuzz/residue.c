/* SPDX-License-Identifier: MIT */
/*
 * The residue of a whole image. The stream is the file's bytes or zeros, the same in whatever
 * pieces it is read; the inventory counts each byte of residue once by place and once by kind, and
 * no fewer than the stream shows; and an image whose sectors fail is never complete without saying
 * so.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define WORK_BYTES (UINT64_C(48) << 20)

struct looking {
  const struct fuzz_input *input;
  uint64_t streams_end, stream_count;
  volatile uint8_t sum; /* of a cluster: all of it can be read */
};

static void look_at_found(void *context, const struct qcow2_residue_found *found)
{
  const struct fuzz_input *input = ((const struct looking *) context)->input;

  FUZZ_CHECK((unsigned) found->kind < QCOW2_RESIDUE_KINDS);
  FUZZ_CHECK(found->host_offset < input->length);
  FUZZ_CHECK((found->snapshot != NULL) == (found->kind == QCOW2_RESIDUE_SNAPSHOT_TABLE));
  FUZZ_CHECK((found->bitmap != NULL) == (found->kind == QCOW2_RESIDUE_BITMAP_DIRECTORY));
  if (found->snapshot != NULL)
    fuzz_check_escape(found->snapshot->name, found->snapshot->name_length);
  if (found->bitmap != NULL)
    fuzz_check_escape(found->bitmap->name, found->bitmap->name_length);
}

/* Old streams come in order, inside the file, and none overlaps another. */
static int look_at_stream(void *context, const struct qcow2_residue_stream *stream)
{
  struct looking *looking = context;
  const uint8_t *bytes = stream->cluster;
  uint8_t sum = 0;

  FUZZ_CHECK(stream->length > 0 && stream->host_offset >= looking->streams_end);
  looking->streams_end = stream->host_offset + stream->length;
  FUZZ_CHECK(looking->streams_end <= looking->input->length);
  for (size_t i = 0; i < stream->cluster_size; i++)
    sum ^= bytes[i];
  looking->sum = sum;
  looking->stream_count++;
  return 0;
}

static struct qcow2_residue_result take_inventory(const struct qcow2_image *image,
                                                  struct fuzz_input *input)
{
  struct looking looking = { .input = input };
  struct qcow2_residue_options options = { .struct_size = sizeof(options),
                                           .report = look_at_found,
                                           .context = &looking,
                                           .work_bytes = WORK_BYTES,
                                           .report_stream = look_at_stream };
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_residue_result result;
  uint64_t by_where = 0, by_kind = 0;

  FUZZ_CHECK(qcow2_image_residue(image, &options, &result, &error) == 0);
  fuzz_check_result(0, &error);
  for (unsigned i = 0; i < QCOW2_RESIDUE_MAX; i++) {
    FUZZ_CHECK(result.where_data_bytes[i] <= result.where_bytes[i]);
    by_where += result.where_bytes[i];
    by_kind += result.kind_bytes[i];
  }
  FUZZ_CHECK(by_where == result.residue_bytes && by_kind == result.residue_bytes);
  FUZZ_CHECK(result.file_bytes == input->length && result.checked_to <= input->length);
  FUZZ_CHECK(!result.is_complete || result.checked_to == input->length);
  FUZZ_CHECK(looking.stream_count == result.stream_count);
  return result;
}

/* Read pieces of the view again, backwards. */
static void check_pieces(struct qcow2_view *view, const uint8_t *whole, size_t length)
{
  uint8_t piece[777];

  for (size_t end = length; end > 0;) {
    size_t count = end % sizeof(piece) == 0 ? sizeof(piece) : end % sizeof(piece);

    end -= count;
    FUZZ_CHECK(qcow2_view_read(view, end, piece, count, NULL) == 0);
    FUZZ_CHECK(memcmp(piece, whole + end, count) == 0);
  }
}

static void check_stream(struct qcow2_image *image, const struct fuzz_input *input,
                         const struct qcow2_residue_result *inventory)
{
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_view *view;
  uint8_t *whole = malloc(input->length + 1);
  uint64_t shown = 0;
  int code = qcow2_view_open_residue(image, &view, &error);

  fuzz_check_result(code, &error);
  FUZZ_CHECK(whole != NULL && (code == 0 || code == QCOW2_ERROR_UNSUPPORTED));
  if (code == 0) {
    FUZZ_CHECK(qcow2_view_size(view) == input->length);
    FUZZ_CHECK(qcow2_view_read(view, 0, whole, input->length, NULL) == 0);
    for (size_t i = 0; i < input->length; i++) {
      FUZZ_CHECK(whole[i] == 0 || whole[i] == input->bytes[i]);
      shown += whole[i] != 0;
    }
    FUZZ_CHECK(!inventory->is_complete || shown <= inventory->residue_bytes);
    check_pieces(view, whole, input->length);
    qcow2_view_close(view);
  }
  free(whole);
}

static void open_and_look(const uint8_t *data, size_t size, bool is_failing)
{
  struct qcow2_open_options alone = { .struct_size = sizeof(alone), .flags = QCOW2_OPEN_NO_CHAIN };
  struct fuzz_input input = { data, size };
  struct qcow2_storage storage = is_failing ? fuzz_storage_failing(&input) : fuzz_storage(&input);
  struct qcow2_residue_result inventory;
  struct qcow2_image *image;

  if (qcow2_image_open_storage(&storage, &alone, &image, NULL) != 0)
    return;
  if (fuzz_is_version_1(&input)) {
    FUZZ_CHECK(qcow2_image_residue(image, NULL, &inventory, NULL) == QCOW2_ERROR_UNSUPPORTED);
    qcow2_image_close(image);
    return;
  }
  inventory = take_inventory(image, &input);
  FUZZ_CHECK(!inventory.has_unreadable || !inventory.is_complete);
  FUZZ_CHECK(is_failing || inventory.has_unreadable == (qcow2_snapshot_lost_count(image) > 0 ||
                                                        qcow2_bitmap_lost_count(image) > 0));
  qcow2_image_close(image);
  if (is_failing || qcow2_image_open_storage(&storage, NULL, &image, NULL) != 0)
    return;
  check_stream(image, &input, &inventory);
  qcow2_image_close(image);
}

/* The disk of a layout without an L1 table is an abandoned state. */
static void open_without_l1(struct qcow2_image *image)
{
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_view *view;
  int code = qcow2_view_open_abandoned(image, 0, &view, &error);

  fuzz_check_result(code, &error);
  if (code == 0)
    qcow2_view_close(view);
  FUZZ_CHECK(qcow2_view_open(image, QCOW2_ACTIVE, &view, NULL) != 0);
}

/* What is found in a file without a header can be opened as it says, or is refused; and it is
   found again. */
static void look_at_layout(void *context, const struct qcow2_rebuilt *rebuilt)
{
  const struct fuzz_input *input = context;
  struct qcow2_open_options options = { .struct_size = sizeof(options),
                                        .flags = QCOW2_OPEN_NO_THREADS,
                                        .layout = &rebuilt->layout };
  struct qcow2_storage storage = fuzz_storage((struct fuzz_input *) (uintptr_t) input);
  struct qcow2_error error = fuzz_error_fresh();
  bool has_l1 = (rebuilt->layout.flags & QCOW2_LAYOUT_NO_L1) == 0;
  struct qcow2_image *image;
  int code;

  FUZZ_CHECK(rebuilt->l2_tables > 0 && rebuilt->layout.size > 0);
  FUZZ_CHECK((rebuilt->layout.l1_offset > 0) == has_l1);
  FUZZ_CHECK(rebuilt->layout.l1_offset < input->length);
  FUZZ_CHECK(rebuilt->tables_in_use <= rebuilt->tables_counted);
  FUZZ_CHECK(rebuilt->streams_good <= rebuilt->streams_tried);
  if (rebuilt->snapshot != NULL)
    fuzz_check_escape(rebuilt->snapshot->name, rebuilt->snapshot->name_length);
  code = qcow2_image_open_storage(&storage, &options, &image, &error);
  fuzz_check_result(code, &error);
  if (code == 0) {
    FUZZ_CHECK(qcow2_warning(image, 0) != NULL);
    if (!has_l1)
      open_without_l1(image);
    qcow2_image_close(image);
  }
}

static void rebuild(const uint8_t *data, size_t size)
{
  struct fuzz_input input = { data, size };
  struct qcow2_rebuild_options options = { .struct_size = sizeof(options),
                                           .report = look_at_layout,
                                           .context = &input,
                                           .work_bytes = WORK_BYTES };
  struct qcow2_storage storage = fuzz_storage(&input);
  struct qcow2_rebuild_result result, again;

  FUZZ_CHECK(qcow2_rebuild_storage(&storage, &options, &result, NULL) == 0);
  FUZZ_CHECK(result.file_bytes == size);
  options.report = NULL;
  FUZZ_CHECK(qcow2_rebuild_storage(&storage, &options, &again, NULL) == 0);
  FUZZ_CHECK(memcmp(&result, &again, sizeof(result)) == 0);
}

void fuzz_residue(const uint8_t *data, size_t size)
{
  rebuild(data, size);
  open_and_look(data, size, false);
  open_and_look(data, size, true);
}
