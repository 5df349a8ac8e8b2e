/* SPDX-License-Identifier: MIT */
/*
 * A whole image. It is opened for its description alone; with only the files that it may open
 * automatically; and with all that it may want: its passphrase, and as its data file or backing
 * files the input once more, in files. Then every view is walked (views.c).
 */
#include <stdio.h>
#include <string.h>

#include "../../core/base/bytes.h"
#include "../../core/base/checked.h"
#include "fuzz.h"
#include "views.h"

#define SNAPSHOTS_TO_WALK 6
#define RANGES_MAX 32
#define RUNS_MAX 10000u
/* A LUKS header that asks for more is not opened: it would only take time. */
#define ITERATIONS_TO_TRY 3000u

static const struct qcow2_passphrase PASSPHRASE = { "secret", 6 };

/* ---- The description -------------------------------------------------------- */

static void describe_header(const struct qcow2_header *header, const struct fuzz_input *input)
{
  FUZZ_CHECK(header->version == be32_get(input->bytes + 4) &&
             header->size == be64_get(input->bytes + 24));
  FUZZ_CHECK(header->cluster_bits >= 9 && header->cluster_bits <= 21);
  FUZZ_CHECK(header->backing_file == NULL ||
             header->backing_file[header->backing_file_length] == '\0');
  FUZZ_CHECK(header->backing_format == NULL ||
             header->backing_format[header->backing_format_length] == '\0');
  FUZZ_CHECK(header->data_file == NULL || header->data_file[header->data_file_length] == '\0');
}

static void describe_extensions(const struct qcow2_image *image, const struct fuzz_input *input)
{
  uint64_t next = be32_get(input->bytes + 4) == 2 ? 72 : be32_get(input->bytes + 100);
  const struct qcow2_extension *extension;

  for (size_t i = 0; (extension = qcow2_extension_get(image, 0, i)) != NULL; i++) {
    FUZZ_CHECK(extension->host_offset == next + 8 &&
               extension->type == be32_get(input->bytes + next));
    FUZZ_CHECK(extension->length == be32_get(input->bytes + next + 4));
    next += 8 + divide_up(extension->length, 8) * 8;
    FUZZ_CHECK(range_fits(extension->host_offset, extension->length, input->length));
    FUZZ_CHECK(memcmp(extension->data, input->bytes + extension->host_offset, extension->length) ==
               0);
  }
}

static void describe_snapshots(const struct qcow2_image *image)
{
  for (size_t i = 0; i < qcow2_snapshot_count(image) && i < 64; i++) {
    const struct qcow2_snapshot *snapshot = qcow2_snapshot_get(image, i);
    struct qcow2_error error = fuzz_error_fresh();
    size_t index;

    fuzz_check_escape(snapshot->name, snapshot->name_length);
    fuzz_check_result(qcow2_snapshot_find(image, snapshot->name, QCOW2_BY_ID_OR_NAME, &index,
                                          &error),
                      &error);
  }
}

static void describe_bitmaps(const struct qcow2_image *image)
{
  for (size_t i = 0; i < qcow2_bitmap_count(image) && i < 8; i++) {
    struct qcow2_error error = fuzz_error_fresh();
    struct qcow2_range range = { 0, 1 };
    uint64_t runs = RUNS_MAX, bytes;
    int code = qcow2_bitmap_dirty_bytes(image, i, &runs, &bytes, &error);

    fuzz_check_result(code, &error);
    for (int count = 0; code == 0 && range.length > 0 && runs > 0 && count < RANGES_MAX; count++)
      code = qcow2_bitmap_next_dirty(image, i, range.guest_offset + range.length, &range, &error);
  }
}

/* The iterations that unlocking takes at most. */
static uint64_t describe_encryption(const struct qcow2_image *image, const struct fuzz_input *input)
{
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_encryption_info info;
  uint64_t digest_iterations, total = 0;
  int code = qcow2_encryption_get(image, 0, &info, &error);

  fuzz_check_result(code, &error);
  if (code != 0 || info.method != 2)
    return 0;
  FUZZ_CHECK(memchr(info.uuid, '\0', sizeof(info.uuid)) != NULL);
  fuzz_check_escape(info.uuid, strlen(info.uuid));
  digest_iterations = be32_get(input->bytes + info.header_offset + 164);
  for (unsigned i = 0; i < QCOW2_KEY_SLOTS; i++)
    if (info.slots[i].is_active)
      total += info.slots[i].iterations + digest_iterations;
  return total;
}

static void describe(const struct qcow2_image *image, const struct fuzz_input *input)
{
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_layer_info info;

  FUZZ_CHECK(qcow2_layer_count(image) == 1 && qcow2_layer_get(image, 0, &info, &error) == 0);
  FUZZ_CHECK(qcow2_layer_get(image, 1, &info, &error) == QCOW2_ERROR_ARGUMENT);
  FUZZ_CHECK(info.file_size == input->length && !info.is_raw);
  describe_header(info.header, input);
  describe_extensions(image, input);
  for (unsigned bit = 0; bit < 64; bit++)
    for (int type = QCOW2_FEATURE_INCOMPATIBLE; type <= QCOW2_FEATURE_AUTOCLEAR; type++) {
      const char *name = qcow2_feature_name(image, (enum qcow2_feature_type) type, bit);

      if (name != NULL)
        fuzz_check_escape(name, strlen(name));
    }
  for (size_t i = 0; qcow2_warning(image, i) != NULL; i++)
    fuzz_check_printable(qcow2_warning(image, i));
  describe_snapshots(image);
  describe_bitmaps(image);
}

/* ---- Views ------------------------------------------------------------------- */

/* Open one view of the image, and if there is one of the sound image, and walk it. */
static void walk_view(struct fuzz_walk *walk, struct qcow2_image *image, struct qcow2_image *sound,
                      size_t index,
                      int (*open_view)(struct qcow2_image *image, size_t index,
                                       struct qcow2_view **view, struct qcow2_error *error))
{
  struct qcow2_error error = fuzz_error_fresh();
  int code = open_view(image, index, &walk->view, &error);

  fuzz_check_result(code, &error);
  if (code != 0)
    return;
  if (sound != NULL)
    FUZZ_CHECK(open_view(sound, index, &walk->sound, NULL) == 0);
  fuzz_walk_view(walk);
}

/* `sound`: NULL, or the same image without the bad sectors that this one has. */
static void walk_views(struct qcow2_image *image, struct qcow2_image *sound,
                       const struct fuzz_input *input)
{
  size_t count = qcow2_snapshot_count(image);
  struct fuzz_walk walk = {
    .image = image, .input = input, .has_bad_sectors = sound != NULL, .bytes_left = FUZZ_WALK_BYTES
  };

  walk_view(&walk, image, sound, QCOW2_ACTIVE, qcow2_view_open);
  for (size_t i = 0; i < SNAPSHOTS_TO_WALK && i < count; i++) {
    walk_view(&walk, image, sound, i, qcow2_view_open);
    walk_view(&walk, image, sound, i, qcow2_view_open_vm_state);
  }
}

/* Open and walk; then the same with sectors of the image file (not of others) that cannot be
   read. */
static void open_and_walk(struct fuzz_input *input, const struct qcow2_open_options *options,
                          bool again_with_bad_sectors)
{
  struct qcow2_storage storage = fuzz_storage(input), failing = fuzz_storage_failing(input);
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_image *image, *damaged;
  int code = qcow2_image_open_storage(&storage, options, &image, &error);

  fuzz_check_result(code, &error);
  if (code != 0)
    return;
  walk_views(image, NULL, input);
  if (again_with_bad_sectors) {
    error = fuzz_error_fresh();
    code = qcow2_image_open_storage(&failing, options, &damaged, &error);
    fuzz_check_result(code, &error);
    if (code == 0)
      walk_views(damaged, image, input);
    qcow2_image_close(code == 0 ? damaged : NULL);
  }
  qcow2_image_close(image);
}

/* ---- The target --------------------------------------------------------------- */

/* A file of another format: its disk is the input. */
static int open_foreign(void *context, const struct qcow2_foreign *file,
                        struct qcow2_storage *storage, char *warning, struct qcow2_error *error)
{
  (void) error;
  FUZZ_CHECK(file->path != NULL && file->named_by_caller && warning[0] == '\0');
  *storage = fuzz_storage(context);
  snprintf(warning, QCOW2_FOREIGN_WARNING_BYTES, "the disk is of format %s", file->format);
  return 0;
}

/* Open with what the header asks for. */
static void open_with_help(struct fuzz_input *input, const struct qcow2_header *header)
{
  bool needs_data_file = (header->incompatible_features & QCOW2_INCOMPATIBLE_DATA_FILE) != 0;
  bool has_backing = header->backing_file != NULL && !needs_data_file;
  bool is_over_qcow2 = has_backing && (header->backing_format == NULL ||
                                       strcmp(header->backing_format, "qcow2") == 0);
  const char *path = needs_data_file || has_backing ? fuzz_input_file(input, 0) : NULL;
  const char *const backing[] = { has_backing ? path : QCOW2_BACKING_NONE,
                                  is_over_qcow2 ? fuzz_input_file(input, 1) : QCOW2_BACKING_NONE,
                                  QCOW2_BACKING_NONE };
  struct qcow2_open_options options = { .struct_size = sizeof(options),
                                        .backing_paths = backing,
                                        .backing_count = is_over_qcow2 ? 3
                                                         : has_backing ? 2
                                                                       : 1,
                                        .data_file = needs_data_file ? path : NULL,
                                        .cache_bytes = 1, /* as few as there can be */
                                        .open_foreign = open_foreign,
                                        .foreign_context = input,
                                        .passphrases = &PASSPHRASE,
                                        .passphrase_count = header->crypt_method != 0 };

  open_and_walk(input, &options, true);
}

/* Open with more than any image asks for: the error says what is too much. */
static void open_with_too_much(struct fuzz_input *input)
{
  const struct qcow2_passphrase passphrases[] = { PASSPHRASE, PASSPHRASE };
  const char *const backing[] = { QCOW2_BACKING_NONE, "/nonexistent" };
  struct qcow2_open_options options = { .struct_size = sizeof(options),
                                        .passphrases = passphrases,
                                        .passphrase_count = 2 };

  open_and_walk(input, &options, false);
  options.backing_paths = backing;
  options.backing_count = 2;
  open_and_walk(input, &options, false);
  options.backing_paths++;
  options.backing_count--;
  open_and_walk(input, &options, false);
  options.data_file = "/nonexistent";
  open_and_walk(input, &options, false);
}

void fuzz_image(const uint8_t *data, size_t size)
{
  struct qcow2_open_options alone = { .struct_size = sizeof(alone), .flags = QCOW2_OPEN_NO_CHAIN };
  struct fuzz_input input = { data, size };
  struct qcow2_storage storage = fuzz_storage(&input);
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_layer_info info;
  struct qcow2_image *image;
  int code = qcow2_image_open_storage(&storage, &alone, &image, &error);

  fuzz_check_result(code, &error);
  if (code != 0)
    return;
  describe(image, &input);
  qcow2_layer_get(image, 0, &info, NULL);
  if (describe_encryption(image, &input) <= ITERATIONS_TO_TRY) {
    if (info.header->backing_file != NULL || info.header->crypt_method != 0)
      open_and_walk(&input, NULL, false);
    open_with_help(&input, info.header);
    open_with_too_much(&input);
  }
  qcow2_image_close(image);
}
