/* SPDX-License-Identifier: MIT */
/* A check of one image file, from the first cluster to the last. */
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../base/options.h"
#include "../format/refcount.h"
#include "checker.h"

#define MEMORY_BYTES_DEFAULT ((size_t) 48 << 20)
#define WORK_BYTES_DEFAULT (UINT64_C(64) << 30)
#define SECTOR_BYTES 512u
/* The work of beginning with a part of the file, for each of its clusters. */
#define CELL_WORK_BYTES 8u

/* ---- Making ------------------------------------------------------------------ */

static int options_take(const struct qcow2_check_options *given,
                        struct qcow2_check_options *options, struct qcow2_error *error)
{
  int code = qcow2_options_take(given, options, sizeof(*options), error);

  if (code != 0)
    return code;
  if (options->memory_bytes == 0)
    options->memory_bytes = MEMORY_BYTES_DEFAULT;
  if (options->work_bytes == 0)
    options->work_bytes = WORK_BYTES_DEFAULT;
  return 0;
}

/* The most references that a refcount of the image can count, but at most TALLY_COUNT_MAX. */
static uint32_t count_limit(unsigned refcount_order)
{
  return refcount_order > 4 ? TALLY_COUNT_MAX : (UINT32_C(1) << (1u << refcount_order)) - 1;
}

/* The number of cells: as many as memory allows, or as many as the file has clusters and a few
   more, for references beyond its end. */
static size_t tally_capacity(const struct qcow2_checker *checker)
{
  uint64_t allowed = checker->options.memory_bytes / sizeof(uint32_t);

  return (size_t) min_u64(allowed > 0 ? allowed : 1, checker->cluster_end + 2);
}

int qcow2_checker_start(struct qcow2_checker *checker, struct qcow2_error *error)
{
  const struct qcow2_geometry *geometry = &checker->layer->geometry;

  checker->storage = &checker->layer->file.storage;
  checker->work = checker->options.work_bytes;
  checker->is_first_walk = true;
  checker->file_end = divide_up(min_u64(checker->storage->size, INT64_MAX - SECTOR_BYTES),
                                SECTOR_BYTES) *
                      SECTOR_BYTES;
  checker->cluster_end = divide_up(checker->file_end, geometry->cluster_size);
  checker->peeked = qcow2_peeked_new();
  checker->l1_piece = malloc(CHECK_PIECE_BYTES);
  checker->l2_piece = malloc(CHECK_PIECE_BYTES);
  if (checker->peeked == NULL || checker->l1_piece == NULL || checker->l2_piece == NULL)
    return qcow2_error_set_nomem(error);
  return 0;
}

void qcow2_checker_end(struct qcow2_checker *checker)
{
  free(checker->l2_piece);
  free(checker->l1_piece);
  qcow2_peeked_free(checker->peeked);
}

/* ---- Walking ------------------------------------------------------------------- */

/* Walk all tables, and compare the tally with the refcounts. Metadata are counted first, so that
   guest data that overlap them are found. False: the bound is reached. */
static bool check_part(struct qcow2_checker *checker)
{
  return qcow2_checker_work(checker, checker->tally.capacity * CELL_WORK_BYTES) &&
         qcow2_checker_load_refcounts(checker) && qcow2_checker_mark_refcounts(checker) &&
         qcow2_checker_directories(checker) && qcow2_checker_walk_l1(checker) &&
         qcow2_checker_walk_l2(checker) && qcow2_checker_count_refcount_blocks(checker) &&
         qcow2_checker_compare(checker);
}

/* The first cluster after those of the tally to which a reference leads, or which a refcount block
   covers. False: the bound is reached. */
static bool find_next(struct qcow2_checker *checker, uint64_t *next)
{
  uint64_t per_block = qcow2_refcounts_per_block(&checker->layer->metadata.header);
  uint64_t end = checker->tally.first + checker->tally.capacity;
  uint64_t blocks = qcow2_checker_refcount_blocks(checker);
  uint64_t entry = 0;

  *next = checker->tally.next;
  for (uint64_t index = end / per_block; index < blocks; index++) {
    uint64_t first = index * per_block > end ? index * per_block : end;

    if (first >= *next)
      break;
    if (!qcow2_checker_refcount_entry(checker, index, &entry))
      return false;
    if (entry != 0)
      *next = first;
  }
  return true;
}

static void check_all(struct qcow2_checker *checker)
{
  struct qcow2_check_result *result = checker->result;
  uint64_t next = 0;

  while (next < checker->cluster_end) {
    qcow2_tally_move(&checker->tally, next);
    if (!check_part(checker) || !find_next(checker, &next)) {
      result->is_complete = 0;
      if (checker->options.clusters != NULL)
        qcow2_checker_end_uses(checker, 0);
      return;
    }
    result->checked_to = min_u64(min_u64(next, checker->cluster_end)
                                     << checker->layer->geometry.cluster_bits,
                                 checker->storage->size);
    checker->is_first_walk = false;
  }
  if (checker->options.clusters != NULL)
    qcow2_checker_end_uses(checker, checker->storage->size);
}

static const struct qcow2_checker_visitor COUNT = { .reference = qcow2_checker_count,
                                                    .l1_entry = qcow2_checker_l1_entry,
                                                    .l2_entry = qcow2_checker_entry };

static int check_file(struct qcow2_checker *checker, const struct qcow2_check_options *given,
                      struct qcow2_error *error)
{
  int code = options_take(given, &checker->options, error);

  if (code != 0)
    return code;
  if (checker->layer->is_given) /* its refcounts are not those of the tables that are read */
    return 0;
  checker->result->is_complete = 1;
  checker->visitor = &COUNT;
  code = qcow2_checker_start(checker, error);
  if (code == 0 && !qcow2_tally_init(&checker->tally, tally_capacity(checker),
                                     count_limit(checker->layer->metadata.header.refcount_order)))
    code = qcow2_error_set_nomem(error);
  if (code == 0 && checker->options.decode != 0) {
    checker->streams = qcow2_checked_streams_new(checker->layer);
    code = checker->streams == NULL ? qcow2_error_set_nomem(error) : 0;
  }
  if (code == 0)
    check_all(checker);
  if (checker->is_out_of_memory)
    code = qcow2_error_set_nomem(error);
  qcow2_checked_streams_free(checker->streams);
  qcow2_tally_free(&checker->tally);
  qcow2_checker_end(checker);
  return code;
}

/* Check a file that is not the topmost image. Its directories are not kept in memory, so they are
   read for this check; what cannot be read is a finding. */
static int check_backing_file(const struct qcow2_layer *layer,
                              const struct qcow2_check_options *given,
                              struct qcow2_check_result *result, struct qcow2_error *error)
{
  struct qcow2_snapshots snapshots;
  struct qcow2_bitmaps bitmaps;
  struct qcow2_checker checker = {
    .layer = layer, .snapshots = &snapshots, .bitmaps = &bitmaps, .result = result
  };
  int of_snapshots = qcow2_snapshots_read(layer, &snapshots, NULL);
  int of_bitmaps = qcow2_bitmaps_read(layer, &bitmaps, NULL), code;

  if (of_snapshots == QCOW2_ERROR_NOMEM || of_bitmaps == QCOW2_ERROR_NOMEM)
    code = qcow2_error_set_nomem(error);
  else
    code = check_file(&checker, given, error);
  qcow2_bitmaps_free(&bitmaps);
  qcow2_snapshots_free(&snapshots);
  return code;
}

int qcow2_layer_check(const struct qcow2_image *image, size_t layer,
                      const struct qcow2_check_options *given, struct qcow2_check_result *result,
                      struct qcow2_error *error)
{
  struct qcow2_checker checker = { .layer = image->chain.layers[0],
                                   .snapshots = &image->snapshots,
                                   .bitmaps = &image->bitmaps,
                                   .result = result };

  memset(result, 0, sizeof(*result));
  if (layer >= image->chain.count)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "layer %zu: the chain has %zu", layer,
                           image->chain.count);
  if (image->chain.layers[layer]->geometry.version == 1)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "an image of qcow version 1 has no refcounts, so its references cannot "
                           "be checked against them");
  if (layer == 0)
    return check_file(&checker, given, error);
  if (image->chain.layers[layer]->is_raw)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "layer %zu is no qcow2 image: it has nothing that can be checked",
                           layer);
  return check_backing_file(image->chain.layers[layer], given, result, error);
}

int qcow2_image_check(const struct qcow2_image *image, const struct qcow2_check_options *options,
                      struct qcow2_check_result *result, struct qcow2_error *error)
{
  return qcow2_layer_check(image, 0, options, result, error);
}
