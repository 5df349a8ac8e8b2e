/* SPDX-License-Identifier: MIT */
/* Finding out how a file can be read whose header was overwritten: each cluster size is tried, and
   the L1 tables that are found with it are weighed. */
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../base/options.h"
#include "../format/header.h"
#include "../image/not_qcow2.h"
#include "../storage/gate.h"
#include "../storage/storage.h"
#include "layouts.h"

#define WORK_BYTES (UINT64_C(16) << 30)
/* With fewer sectors of tables, each cluster size is tried. */
#define FEW_SECTORS 64u
/* The part of all sectors of tables that a cluster size must explain. */
#define SHARE 64u

static uint64_t count_sectors(const struct qcow2_marks *marks)
{
  uint64_t all = 0;

  for (unsigned i = CLUSTER_BITS_MIN; i <= CLUSTER_BITS_MAX; i++)
    all += marks->sectors[i];
  return all;
}

/* True if the tables can be those of an image with this cluster size: of some of them, the host
   offsets have no larger one in common. After the header there are an L1 and an L2 table. */
static bool is_plausible(const struct qcow2_marks *marks, uint64_t file_size, unsigned bits)
{
  uint64_t all = count_sectors(marks);

  if (file_size >> bits < 2 || marks->count == 0)
    return false;
  return all < FEW_SECTORS || marks->sectors[bits] >= all / SHARE;
}

/* True if a table of such an image can have these incompatible features: enough tables can lead to
   an external data file, if that is one of them. */
static bool is_possible(const struct qcow2_marks *marks, unsigned bits, uint64_t features)
{
  if ((features & QCOW2_INCOMPATIBLE_EXTENDED_L2) != 0 && bits < CLUSTER_BITS_MIN_EXTENDED)
    return false;
  return (features & QCOW2_INCOMPATIBLE_DATA_FILE) == 0 ||
         marks->to_data_file[bits] > count_sectors(marks) / SHARE;
}

static int try_size(const struct qcow2_storage *storage, const struct qcow2_marks *marks,
                    unsigned bits, uint64_t features, uint64_t *work, struct qcow2_layouts *layouts,
                    bool *is_bounded, struct qcow2_error *error)
{
  struct qcow2_trial trial;
  int code = qcow2_trial_make(storage, marks, bits, features, work, &trial, error);

  if (code == 0)
    code = qcow2_layouts_add(layouts, &trial, error);
  *is_bounded = *is_bounded || trial.is_bounded;
  qcow2_trial_free(&trial);
  return code;
}

static int try_sizes(const struct qcow2_storage *storage, const struct qcow2_marks *marks,
                     uint64_t work, struct qcow2_layouts *layouts, bool *is_bounded,
                     struct qcow2_error *error)
{
  static const uint64_t FEATURES[] = { 0, QCOW2_INCOMPATIBLE_EXTENDED_L2,
                                       QCOW2_INCOMPATIBLE_DATA_FILE,
                                       QCOW2_INCOMPATIBLE_DATA_FILE |
                                           QCOW2_INCOMPATIBLE_EXTENDED_L2 };
  int code = 0;

  for (unsigned bits = CLUSTER_BITS_MAX; code == 0 && bits >= CLUSTER_BITS_MIN; bits--) {
    if (!is_plausible(marks, storage->size, bits))
      continue;
    for (size_t i = 0; code == 0 && i < sizeof(FEATURES) / sizeof(FEATURES[0]); i++)
      if (is_possible(marks, bits, FEATURES[i]))
        code = try_size(storage, marks, bits, FEATURES[i], &work, layouts, is_bounded, error);
  }
  return code;
}

static bool has_header(const struct qcow2_storage *storage)
{
  uint8_t start[HEADER_BYTES_TO_PROBE];
  size_t length = (size_t) min_u64(storage->size, sizeof(start)), needed;

  return qcow2_storage_read(storage, 0, start, length, NULL) == 0 &&
         qcow2_header_measure(start, length, &needed, NULL) == 0;
}

static void report_all(const struct qcow2_rebuild_options *options,
                       const struct qcow2_layouts *layouts)
{
  for (size_t i = 0; options->report != NULL && i < layouts->count; i++)
    options->report(options->context, &layouts->items[i]);
}

int qcow2_rebuild_storage(const struct qcow2_storage *storage,
                          const struct qcow2_rebuild_options *given,
                          struct qcow2_rebuild_result *result, struct qcow2_error *error)
{
  struct qcow2_rebuild_options options;
  struct qcow2_layouts layouts = { .items = NULL };
  struct qcow2_marks marks = { .runs = NULL };
  uint64_t failures = qcow2_storage_failures();
  bool is_bounded = false;
  int code = qcow2_options_take(given, &options, sizeof(options), error);

  memset(result, 0, sizeof(*result));
  if (code != 0)
    return code;
  code = qcow2_layouts_make(&layouts, error);
  if (code == 0)
    code = qcow2_marks_find(storage, &marks, error);
  if (code == 0)
    code = try_sizes(storage, &marks, options.work_bytes == 0 ? WORK_BYTES : options.work_bytes,
                     &layouts, &is_bounded, error);
  if (code == 0) {
    qcow2_layouts_sort(&layouts);
    result->file_bytes = storage->size;
    result->layouts = layouts.found;
    result->luks_offset = marks.luks_offset;
    result->has_header = has_header(storage);
    /* What cannot be read counts as zeros, or as no table, so it may hide a layout. */
    result->is_complete = marks.is_complete && !is_bounded && qcow2_storage_failures() == failures;
    report_all(&options, &layouts);
  }
  qcow2_marks_free(&marks);
  qcow2_layouts_free(&layouts);
  return code;
}

int qcow2_rebuild(const char *path, const struct qcow2_rebuild_options *given,
                  struct qcow2_rebuild_result *result, struct qcow2_error *error)
{
  struct qcow2_rebuild_options options;
  struct qcow2_opened_file file = OPENED_FILE_NONE;
  int code = path == NULL ? qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "no path was given")
                          : qcow2_gate_open_named(path, &file, error);

  if (code != 0)
    return code;
  code = qcow2_options_take(given, &options, sizeof(options), error);
  if (code == 0)
    code = qcow2_not_qcow2_begin_at(&file, options.offset, error);
  if (code == 0)
    code = qcow2_rebuild_storage(&file.storage, given, result, error);
  qcow2_opened_file_close(&file);
  return code;
}
