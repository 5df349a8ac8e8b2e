/* SPDX-License-Identifier: MIT */
/*
 * An opened image: its chain, its views, the read loop. Start reading here.
 *
 * A read goes: qcow2_view_read() clamps and loops; find_piece() asks the layers from the top down which of them
 * answers for the next guest bytes (qcow2_layer_map(), qcow2_mapping_find()); qcow2_cluster_read() turns that answer into
 * bytes; qcow2_storage_read() fetches them.
 */
#include "image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/text.h"
#include "survey.h"

#define CACHE_BYTES_DEFAULT ((size_t) 64 << 20)
/* Below this a cache could not hold a cluster of 2 MiB. */
#define CACHE_BYTES_MIN ((size_t) 4 << 20)
/* The part of the budget that goes to L1 and L2 table slices. */
#define TABLE_CACHE_SHARE 4u

/* ---- Opening and closing ------------------------------------------------- */

static int shared_make(struct qcow2_shared *shared, size_t cache_bytes, struct qcow2_error *error)
{
  size_t budget = cache_bytes == 0 ? CACHE_BYTES_DEFAULT : cache_bytes;

  if (budget < CACHE_BYTES_MIN)
    budget = CACHE_BYTES_MIN;
  shared->table_cache = qcow2_cache_new(budget / TABLE_CACHE_SHARE);
  shared->cluster_cache = qcow2_cache_new(budget - budget / TABLE_CACHE_SHARE);
  shared->pool = qcow2_decompressor_pool_new();
  if (shared->table_cache == NULL || shared->cluster_cache == NULL || shared->pool == NULL)
    return qcow2_error_set_nomem(error);
  return 0;
}

/* Turn damage of something that reading the disk does not need into a warning. */
static int tolerate(struct qcow2_image *image, const char *what, int code,
                    const struct qcow2_error *damage, struct qcow2_error *error)
{
  char sentence[sizeof(damage->message) + 64];

  if (code == 0)
    return 0;
  if (code == QCOW2_ERROR_NOMEM)
    return qcow2_error_set_nomem(error);
  snprintf(sentence, sizeof(sentence), "the %s cannot be read as a whole: %s", what, damage->message);
  return qcow2_warnings_add(&image->warnings, image->chain.layers[0]->file.path, sentence, error);
}

/* Read the snapshot table and the bitmap directory. */
static int read_directories(struct qcow2_image *image, struct qcow2_error *error)
{
  const struct qcow2_layer *top = image->chain.layers[0];
  struct qcow2_error damage;
  int code = qcow2_snapshots_read(top, &image->snapshots, &damage);

  code = tolerate(image, "snapshot table", code, &damage, error);
  if (code != 0)
    return code;
  code = qcow2_bitmaps_read(top, &image->bitmaps, &damage);
  return tolerate(image, "bitmap directory", code, &damage, error);
}

static int survey_layers(struct qcow2_image *image, struct qcow2_error *error)
{
  uint64_t budget = SURVEY_BUDGET_BYTES;
  int code = 0;

  for (size_t i = 0; code == 0 && i < image->chain.count; i++)
    code = qcow2_survey(image->chain.layers[i], &budget, &image->warnings, error);
  return code;
}

/* A copy of the caller's options, as far as the caller's version of the struct goes. */
static int options_take(const struct qcow2_open_options *given, struct qcow2_open_options *options,
                        struct qcow2_error *error)
{
  memset(options, 0, sizeof(*options));
  if (given == NULL)
    return 0;
  if (given->struct_size < offsetof(struct qcow2_open_options, backing_paths))
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "the options' struct_size is not set");
  memcpy(options, given,
         given->struct_size < sizeof(*options) ? given->struct_size : sizeof(*options));
  if ((options->flags & ~(unsigned) QCOW2_OPEN_NO_CHAIN) != 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "the options have unknown flags");
  return 0;
}

/* Open from a file, which the image owns from the call on. */
static int image_open(struct qcow2_opened_file *file, const struct qcow2_open_options *options,
                      struct qcow2_image **out, struct qcow2_error *error)
{
  struct qcow2_image *image = calloc(1, sizeof(*image));
  int code;

  if (image == NULL) {
    qcow2_opened_file_close(file);
    return qcow2_error_set_nomem(error);
  }
  code = shared_make(&image->shared, options->cache_bytes, error);
  if (code == 0)
    code = qcow2_chain_open(file, options, &image->shared, &image->chain, error);
  else
    qcow2_opened_file_close(file);
  if (code == 0)
    code = read_directories(image, error);
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

  if (code == 0)
    code = path == NULL ? qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "no path was given")
                        : qcow2_gate_open_named(path, &file, error);
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
  qcow2_warnings_free(&image->warnings);
  qcow2_bitmaps_free(&image->bitmaps);
  qcow2_snapshots_free(&image->snapshots);
  qcow2_chain_free(&image->chain);
  qcow2_decompressor_pool_free(image->shared.pool);
  qcow2_cache_free(image->shared.cluster_cache);
  qcow2_cache_free(image->shared.table_cache);
  free(image);
}

int qcow2_image_probe(const char *path)
{
  struct qcow2_opened_file file = OPENED_FILE_NONE;
  struct qcow2_error error;
  int is_qcow2;

  if (path == NULL)
    return 0;
  if (qcow2_gate_open_named(path, &file, &error) != 0)
    return error.code == QCOW2_ERROR_ARGUMENT || error.os_errno == ENOENT || error.os_errno == EACCES ? 0 : -1;
  is_qcow2 = qcow2_layer_probe(&file);
  qcow2_opened_file_close(&file);
  return is_qcow2;
}

/* ---- Views --------------------------------------------------------------- */

/* Inside the view functions guest offsets count from the start of the L1 table's reach, as in the format: a VM state lies
   behind the disk there. The caller's offsets count from `start`. */
struct qcow2_view {
  const struct qcow2_chain *chain;
  size_t layer_count;         /* how many layers answer, from the topmost on: a VM state has no backing file */
  struct qcow2_tables tables; /* in place of the topmost layer's own */
  uint64_t start, size;       /* bytes */
};

/* Check where a snapshot's L1 table is said to be, before anything is read through it. */
static int check_snapshot_l1(const struct qcow2_layer *layer,
                             const struct qcow2_snapshot *snapshot, struct qcow2_error *error)
{
  const struct qcow2_geometry *geometry = &layer->geometry;
  uint64_t bytes = (uint64_t) snapshot->l1_size * L1_ENTRY_BYTES;
  const char *problem = NULL;
  char id[TEXT_ESCAPED_BYTES];

  if (bytes > L1_TABLE_BYTES_MAX)
    problem = "is larger than 32 MiB";
  else if (!is_aligned(snapshot->l1_offset, geometry->cluster_size) ||
           snapshot->l1_offset > INT64_MAX)
    problem = "does not start at a multiple of the cluster size";
  else if (snapshot->has_disk_size &&
           qcow2_geometry_l1_entries(geometry, snapshot->disk_size) > snapshot->l1_size)
    problem = "is too small for the snapshot's disk size";
  if (problem == NULL)
    return 0;
  return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, snapshot->l1_offset,
                            "the L1 table of snapshot ID %s (%" PRIu32 " entries at host offset %" PRIu64
                            ", for a disk of %" PRIu64 " bytes) %s",
                            qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id)),
                            snapshot->l1_size, snapshot->l1_offset, snapshot->disk_size, problem);
}

static int view_set_snapshot(struct qcow2_view *view, const struct qcow2_image *image,
                             const struct qcow2_snapshot *snapshot, struct qcow2_error *error)
{
  const struct qcow2_layer *top = image->chain.layers[0];

  if (snapshot == NULL)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "there is no snapshot of that index: the image has %zu",
                           qcow2_snapshot_count(image));
  if (top->geometry.has_data_file)
    return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                           "an image with an external data file cannot have snapshots");
  view->tables.l1_offset = snapshot->l1_offset;
  view->tables.l1_size = snapshot->l1_size;
  view->size = snapshot->disk_size;
  return check_snapshot_l1(top, snapshot, error);
}

/* Let the snapshot's view show its VM state, which begins at the first L1 entry that the disk does not need ("Snapshots"). */
static int view_set_vm_state(struct qcow2_view *view, const struct qcow2_snapshot *snapshot,
                             struct qcow2_error *error)
{
  const struct qcow2_geometry *geometry = view->tables.geometry;
  uint64_t l1_index = qcow2_geometry_l1_entries(geometry, snapshot->disk_size);
  uint64_t l1_needed = qcow2_geometry_l1_entries(geometry, snapshot->vm_state_size);
  char id[TEXT_ESCAPED_BYTES];

  qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id));
  if (snapshot->vm_state_size == 0)
    return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                           "snapshot ID %s has no VM state: the machine was not running when it was taken, or its "
                           "memory was not saved", id);
  if (!range_fits(l1_index, l1_needed, snapshot->l1_size))
    return qcow2_error_set_at(error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, snapshot->l1_offset,
                              "the VM state of snapshot ID %s (%" PRIu64 " bytes) is larger than its L1 table of %" PRIu32
                              " entries can hold", id, snapshot->vm_state_size, snapshot->l1_size);
  view->start = l1_index << (geometry->cluster_bits + geometry->l2_bits);
  view->size = snapshot->vm_state_size;
  view->layer_count = 1;
  return 0;
}

static int view_new(const struct qcow2_image *image, struct qcow2_view **out,
                    struct qcow2_error *error)
{
  struct qcow2_view *view;

  if (!image->chain.is_complete)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the image was opened without its chain, so it cannot be read");
  view = malloc(sizeof(*view));
  if (view == NULL)
    return qcow2_error_set_nomem(error);
  *view = (struct qcow2_view){ .chain = &image->chain,
                               .layer_count = image->chain.count,
                               .tables = image->chain.layers[0]->tables,
                               .size = image->chain.layers[0]->size };
  *out = view;
  return 0;
}

int qcow2_view_open(struct qcow2_image *image, size_t snapshot_index, struct qcow2_view **out,
                    struct qcow2_error *error)
{
  struct qcow2_view *view;
  int code = view_new(image, &view, error);

  if (code != 0)
    return code;
  if (snapshot_index != QCOW2_ACTIVE)
    code = view_set_snapshot(view, image, qcow2_snapshot_get(image, snapshot_index), error);
  if (code == 0)
    *out = view;
  else
    qcow2_view_close(view);
  return code;
}

int qcow2_view_open_vm_state(struct qcow2_image *image, size_t snapshot_index,
                             struct qcow2_view **out, struct qcow2_error *error)
{
  const struct qcow2_snapshot *snapshot = qcow2_snapshot_get(image, snapshot_index);
  struct qcow2_view *view;
  int code = view_new(image, &view, error);

  if (code != 0)
    return code;
  code = view_set_snapshot(view, image, snapshot, error);
  if (code == 0)
    code = view_set_vm_state(view, snapshot, error);
  if (code == 0)
    *out = view;
  else
    qcow2_view_close(view);
  return code;
}

void qcow2_view_close(struct qcow2_view *view)
{
  free(view);
}

uint64_t qcow2_view_size(const struct qcow2_view *view)
{
  return view->size;
}

/* ---- Reading ------------------------------------------------------------- */

/* A run of guest bytes, and the layer that answers for them. */
struct piece {
  size_t layer;
  struct qcow2_mapping mapping;
};

/* What one read has learnt: up to which guest offset each layer leaves everything to the layer below. So a long hole
   over a fragmented backing file is looked up once, not once for each fragment. */
struct holes {
  uint64_t end[CHAIN_DEPTH_MAX];
};

static void holes_clear(struct holes *holes, const struct qcow2_view *view)
{
  memset(holes->end, 0, view->layer_count * sizeof(holes->end[0]));
}

/* Name the place where a read or a look-up failed. */
static int place_error(const struct qcow2_view *view, size_t layer, uint64_t guest_offset, int code,
                       struct qcow2_error *error)
{
  return qcow2_error_add_guest(error, code, guest_offset - view->start,
                               view->chain->layers[layer]->file.path);
}

static int map_layer(const struct qcow2_view *view, size_t layer, uint64_t guest_offset,
                     uint64_t length, struct qcow2_mapping *mapping, struct qcow2_error *error)
{
  const struct qcow2_layer *file = view->chain->layers[layer];

  if (layer == 0)
    return qcow2_layer_map(file, &view->tables, view->start + view->size, guest_offset, length,
                           mapping, error);
  return qcow2_layer_map(file, &file->tables, file->size, guest_offset, length, mapping, error);
}

/* Find which layer answers for the bytes from `guest_offset` on, and for how many of at most `length`. */
static int find_piece(const struct qcow2_view *view, struct holes *holes, uint64_t guest_offset,
                      uint64_t length, struct piece *piece, struct qcow2_error *error)
{
  size_t lowest = view->layer_count - 1;

  for (size_t layer = 0;; layer++) {
    int code;

    if (holes->end[layer] > guest_offset) {
      length = min_u64(length, holes->end[layer] - guest_offset);
      continue;
    }
    code = map_layer(view, layer, guest_offset, length, &piece->mapping, error);
    if (code != 0)
      return place_error(view, layer, guest_offset, code, error);
    piece->layer = layer;
    if (piece->mapping.kind != QCOW2_CLUSTER_UNALLOCATED || layer == lowest)
      return 0;
    length = piece->mapping.length;
    holes->end[layer] = guest_offset + length;
  }
}

static int check_range(const struct qcow2_view *view, uint64_t guest_offset, uint64_t length,
                       struct qcow2_error *error)
{
  if (range_fits(guest_offset, length, view->size))
    return 0;
  return qcow2_error_set_at(error, QCOW2_ERROR_ARGUMENT, guest_offset, QCOW2_NO_OFFSET,
                            "%" PRIu64 " bytes at guest offset %" PRIu64
                            " are not inside the disk of %" PRIu64 " bytes",
                            length, guest_offset, view->size);
}

int qcow2_view_read(struct qcow2_view *view, uint64_t guest_offset, void *buffer, size_t length,
                    struct qcow2_error *error)
{
  uint8_t *out = buffer;
  struct holes holes;
  struct piece piece;
  int code = check_range(view, guest_offset, length, error);

  holes_clear(&holes, view);
  guest_offset += view->start;
  while (code == 0 && length > 0) {
    size_t count;

    code = find_piece(view, &holes, guest_offset, length, &piece, error);
    if (code != 0)
      return code;
    count = (size_t) piece.mapping.length;
    code = qcow2_cluster_read(&view->chain->layers[piece.layer]->source, &piece.mapping,
                              guest_offset, out, count, error);
    if (code != 0)
      return place_error(view, piece.layer, guest_offset, code, error);
    out += count;
    guest_offset += count;
    length -= count;
  }
  return code;
}

int qcow2_view_map(struct qcow2_view *view, uint64_t guest_offset, uint64_t length,
                   struct qcow2_extent *extent, struct qcow2_error *error)
{
  struct holes holes;
  struct piece piece;
  int code;

  if (length == 0 || guest_offset >= view->size)
    return check_range(view, guest_offset, 1, error) != 0
               ? QCOW2_ERROR_ARGUMENT
               : qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "a length of 0 cannot be mapped");
  holes_clear(&holes, view);
  code = find_piece(view, &holes, view->start + guest_offset,
                    min_u64(length, view->size - guest_offset), &piece, error);
  if (code != 0)
    return code;
  *extent = (struct qcow2_extent){ .kind = piece.mapping.kind,
                                   .layer = piece.layer,
                                   .guest_offset = guest_offset,
                                   .length = piece.mapping.length,
                                   .host_offset = piece.mapping.host_offset,
                                   .host_bytes = piece.mapping.host_bytes };
  return 0;
}
