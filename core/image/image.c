/* SPDX-License-Identifier: MIT */
/*
 * Opening and closing an image: its chain, its snapshot table and bitmap directory, and the survey
 * of its files. view.c reads its disks.
 */
#include "image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/error.h"
#include "../base/options.h"
#include "../read/ahead.h"
#include "../read/blocks.h"
#include "given.h"
#include "not_qcow2.h"
#include "layout.h"
#include "survey.h"

#define CACHE_BYTES_DEFAULT ((size_t) 64 << 20)
/* With less, a cache could not contain a cluster of 2 MiB. */
#define CACHE_BYTES_MIN ((size_t) 4 << 20)
/* The part of the budget for decoded clusters, and the least of it. The rest is for small blocks
   that are used often. */
#define CLUSTER_CACHE_SHARE(budget) ((budget) / 16 * 3)
#define CLUSTER_CACHE_MIN ((size_t) 5 << 19)
/* The part of the budget for blocks that cost only one system call to load. */
#define COARSE_CACHE_SHARE(budget) ((budget) / 16)
/* This part of the budget for decoded clusters may be decoded ahead: one third. */
#define AHEAD_SHARE 3u

/* ---- Opening and closing ------------------------------------------------- */

static int shared_make(struct qcow2_shared *shared, const struct qcow2_open_options *options,
                       struct qcow2_error *error)
{
  const bool has_threads = (options->flags & QCOW2_OPEN_NO_THREADS) == 0;
  size_t budget = options->cache_bytes == 0 ? CACHE_BYTES_DEFAULT : options->cache_bytes, clusters,
         coarse;

  if (budget < CACHE_BYTES_MIN)
    budget = CACHE_BYTES_MIN;
  clusters = CLUSTER_CACHE_SHARE(budget) < CLUSTER_CACHE_MIN ? CLUSTER_CACHE_MIN
                                                             : CLUSTER_CACHE_SHARE(budget);
  coarse = COARSE_CACHE_SHARE(budget);
  shared->coarse_cache = qcow2_cache_new(coarse, false, 0);
  shared->small_cache = qcow2_cache_new(budget - clusters - coarse, true, QCOW2_BLOCKS_FINE_BYTES);
  shared->cluster_cache = qcow2_cache_new(clusters, false, 0);
  shared->pool = qcow2_decompressor_pool_new();
  shared->ahead = has_threads ? qcow2_ahead_new(clusters / AHEAD_SHARE) : NULL;
  if (shared->coarse_cache == NULL || shared->small_cache == NULL ||
      shared->cluster_cache == NULL || shared->pool == NULL ||
      (has_threads && shared->ahead == NULL))
    return qcow2_error_set_nomem(error);
  qcow2_cache_lend(shared->small_cache, shared->cluster_cache);
  return 0;
}

/* Snapshots or bitmaps that are lost or cannot be read. The active disk does not need them. */
struct losses {
  const char *one, *all, *table; /* "snapshot", "snapshots", and the table that lists them */
  size_t listed;                 /* the number of entries that could be read */
  size_t lost, bad;          /* entries that could not be read; listed ones that cannot be used */
  struct qcow2_error damage; /* of the table, if some are missing */
  struct qcow2_error first;  /* of the first one that cannot be used */
};

/* Turn the losses into warnings: at most two, however many there are. */
static int warn_of_losses(struct qcow2_image *image, const struct losses *losses,
                          struct qcow2_error *error)
{
  const char *path = image->chain.layers[0]->file.path;
  char sentence[sizeof(losses->damage.message) + 128];
  int code = 0;

  if (losses->lost > 0) {
    snprintf(sentence, sizeof(sentence), "the %s cannot be read as a whole (%zu %s lost): %s",
             losses->table, losses->lost, losses->lost == 1 ? "entry is" : "entries are",
             losses->damage.message);
    code = qcow2_warnings_add_damage(&image->warnings, path, sentence, error);
  }
  if (code != 0 || losses->bad == 0)
    return code;
  if (losses->bad == 1)
    snprintf(sentence, sizeof(sentence), "a %s cannot be read: %s", losses->one,
             losses->first.message);
  else
    snprintf(sentence, sizeof(sentence),
             "%zu of %zu %s cannot be read, the first for this reason: %s", losses->bad,
             losses->listed, losses->all, losses->first.message);
  return qcow2_warnings_add_damage(&image->warnings, path, sentence, error);
}

/* Note that a listed snapshot or bitmap cannot be used, if `code` is not 0. */
static void note_loss(struct losses *losses, int code, const struct qcow2_error *damage)
{
  if (code != 0 && losses->bad++ == 0)
    losses->first = *damage;
}

/* The entries are read, but other readers refuse them. */
static int warn_of_long_entries(struct qcow2_image *image, struct qcow2_error *error)
{
  const struct qcow2_snapshots *snapshots = &image->snapshots;
  char sentence[320];

  if (snapshots->long_count == 0)
    return 0;
  snprintf(sentence, sizeof(sentence),
           "%zu %s of the snapshot table, at host offset %" PRIu64
           "%s, %s more than 1024 bytes of extra data, which is not allowed; the ID and the name "
           "were taken from where they seem to be",
           snapshots->long_count, snapshots->long_count == 1 ? "entry" : "entries",
           snapshots->long_offset, snapshots->long_count == 1 ? "" : " and later",
           snapshots->long_count == 1 ? "has" : "have");
  return qcow2_warnings_add(&image->warnings, image->chain.layers[0]->file.path, sentence, error);
}

static int read_snapshots(struct qcow2_image *image, struct qcow2_error *error)
{
  struct losses losses = { .one = "snapshot", .all = "snapshots", .table = "snapshot table" };
  struct qcow2_error damage;
  int code = qcow2_snapshots_read(image->chain.layers[0], &image->snapshots, &losses.damage);

  if (code == QCOW2_ERROR_NOMEM)
    return qcow2_error_set_nomem(error);
  code = warn_of_long_entries(image, error);
  if (code != 0)
    return code;
  losses.listed = image->snapshots.count;
  losses.lost = qcow2_snapshot_lost_count(image);
  for (size_t i = 0; i < losses.listed; i++)
    note_loss(&losses, qcow2_snapshot_check(image, i, &damage), &damage);
  return warn_of_losses(image, &losses, error);
}

static int read_bitmaps(struct qcow2_image *image, struct qcow2_error *error)
{
  struct losses losses = { .one = "bitmap", .all = "bitmaps", .table = "bitmap directory" };
  const struct qcow2_layer *top = image->chain.layers[0];
  struct qcow2_error damage;
  int code = qcow2_bitmaps_read(top, &image->bitmaps, &losses.damage);

  if (code == QCOW2_ERROR_NOMEM)
    return qcow2_error_set_nomem(error);
  losses.listed = image->bitmaps.count;
  losses.lost = image->bitmaps.lost_count;
  for (size_t i = 0; i < losses.listed; i++)
    note_loss(&losses, qcow2_bitmap_error(top, &image->bitmaps.entries[i], &damage), &damage);
  return warn_of_losses(image, &losses, error);
}

static int survey_layers(struct qcow2_image *image, struct qcow2_error *error)
{
  uint64_t budget = SURVEY_BUDGET_BYTES;
  int code = 0;

  code = qcow2_layout_warn(image->chain.layers[0], image->chain.count == 1, &image->warnings,
                           error);
  for (size_t i = 0; code == 0 && i < image->chain.count; i++)
    code = qcow2_survey(image->chain.layers[i], &budget, &image->warnings, error);
  return code;
}

static int options_take(const struct qcow2_open_options *given, struct qcow2_open_options *options,
                        struct qcow2_error *error)
{
  int code = qcow2_options_take(given, options, sizeof(*options), error);

  if (code != 0)
    return code;
  if ((options->flags & ~(unsigned) (QCOW2_OPEN_NO_CHAIN | QCOW2_OPEN_NO_THREADS)) != 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "the options have unknown flags");
  return 0;
}

/* Open an image from a file, which the image owns from the call on, also on failure. */
static int image_open(struct qcow2_opened_file *file, const struct qcow2_open_options *options,
                      struct qcow2_image **out, struct qcow2_error *error)
{
  struct qcow2_image *image = calloc(1, sizeof(*image));
  int code;

  if (image == NULL) {
    qcow2_opened_file_close(file);
    return qcow2_error_set_nomem(error);
  }
  image->memo = calloc(1, sizeof(*image->memo));
  if (image->memo != NULL)
    pthread_mutex_init(&image->memo->lock, NULL);
  code = image->memo == NULL ? qcow2_error_set_nomem(error)
                             : shared_make(&image->shared, options, error);
  if (code == 0)
    code = qcow2_not_qcow2_begin_at(file, options->offset, error);
  if (code == 0)
    code = qcow2_chain_open(file, options, &image->shared, &image->chain, error);
  else
    qcow2_opened_file_close(file);
  if (code == 0)
    code = read_snapshots(image, error);
  if (code == 0)
    code = read_bitmaps(image, error);
  if (code == 0)
    code = survey_layers(image, error);
  if (code != 0) {
    qcow2_image_close(image);
    return code;
  }
  *out = image;
  return 0;
}

int qcow2_image_open(const char *path, const struct qcow2_open_options *given,
                     struct qcow2_image **image, struct qcow2_error *error)
{
  struct qcow2_open_options options;
  struct qcow2_opened_file file = OPENED_FILE_NONE;
  int code = options_take(given, &options, error);

  if (code == 0 && path == NULL)
    code = qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "no path was given");
  if (code == 0)
    code = qcow2_given_open(&options, path, "image", &file, error);
  return code == 0 ? image_open(&file, &options, image, error) : code;
}

int qcow2_image_open_storage(const struct qcow2_storage *storage,
                             const struct qcow2_open_options *given, struct qcow2_image **image,
                             struct qcow2_error *error)
{
  struct qcow2_open_options options;
  struct qcow2_opened_file file = { .storage = *storage, .descriptor = -1, .directory = -1 };
  int code = options_take(given, &options, error);

  if (code == 0)
    return image_open(&file, &options, image, error);
  qcow2_opened_file_close(&file);
  return code;
}

void qcow2_image_close(struct qcow2_image *image)
{
  if (image == NULL)
    return;
  qcow2_ahead_free(image->shared.ahead);
  qcow2_warnings_free(&image->warnings);
  qcow2_bitmaps_free(&image->bitmaps);
  qcow2_snapshots_free(&image->snapshots);
  qcow2_chain_free(&image->chain);
  qcow2_decompressor_pool_free(image->shared.pool);
  qcow2_cache_free(image->shared.cluster_cache);
  qcow2_cache_free(image->shared.small_cache);
  qcow2_cache_free(image->shared.coarse_cache);
  if (image->memo != NULL) {
    pthread_mutex_destroy(&image->memo->lock);
    free(image->memo->deleted);
  }
  free(image->memo);
  free(image);
}

int qcow2_image_probe(const char *path)
{
  struct qcow2_opened_file file = OPENED_FILE_NONE;
  struct qcow2_error error;
  uint32_t version = 0;
  bool is_packed = false;
  int code;

  if (path == NULL)
    return 0;
  if (qcow2_gate_open_named(path, &file, &error) != 0)
    return error.code == QCOW2_ERROR_ARGUMENT || error.os_errno == ENOENT ||
                   error.os_errno == EACCES
               ? 0
               : -1;
  code = qcow2_layer_probe(&file, &version, NULL);
  if (code == 0 && version == 0)
    code = qcow2_not_qcow2_probe(&file, &is_packed, NULL);
  qcow2_opened_file_close(&file);
  if (code != 0)
    return -1;
  return version == 1 ? 2 : version > 1 || is_packed;
}
