/* SPDX-License-Identifier: MIT */
/*
 * What is read of an image: a view, and the read loop. Start reading here.
 *
 * A read goes: qcow2_view_read() checks the range; read_pieces() loops over it; qcow2_stack_find()
 * asks the layers from the top down which of them has the next bytes (qcow2_layer_map(),
 * qcow2_mapping_find()); qcow2_cluster_read() turns that answer into bytes; qcow2_storage_read()
 * fetches them.
 *
 * The calls of qcow2_accelerator_...() make this faster and change no result: accelerate.h.
 */
#include "view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "accelerate.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"
#include "../storage/storage.h"
#include "sameness.h"
#include "under_zeros.h"

/* ---- Views --------------------------------------------------------------- */

/* A guest offset counts from the start of what the L1 table maps, as in the format; there, a VM
   state is after the disk. A view offset, which callers use, counts from the start of the view. */
struct qcow2_view {
  struct qcow2_stack stack;
  struct qcow2_chain own;              /* of one layer, if the view is not of the image's chain */
  void (*close_tables)(void *context); /* of the stack's top_context; NULL: it has none */
  size_t first_layer;                  /* index in the chain of the stack's topmost layer */
  uint64_t start;                      /* guest offset */
  uint64_t size;                       /* bytes */
  struct qcow2_warnings warnings;
  struct qcow2_accelerator accelerator;
};

static int view_set_snapshot(struct qcow2_view *view, const struct qcow2_image *image,
                             const struct qcow2_snapshot *snapshot, struct qcow2_error *error)
{
  const struct qcow2_layer *top = image->chain.layers[0];

  if (snapshot == NULL)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "there is no snapshot of that index: the image has %zu",
                           qcow2_snapshot_count(image));
  view->stack.tables.l1_offset = snapshot->l1_offset;
  view->stack.tables.l1_size = snapshot->l1_size;
  view->size = snapshot->disk_size;
  return qcow2_snapshot_disk_error(top, snapshot, error);
}

/* Turn the view of a snapshot's disk into a view of its VM state. The VM state begins at the first
   L1 entry that the disk does not need ("Snapshots" in QEMU's description of the format). */
static int view_set_vm_state(struct qcow2_view *view, const struct qcow2_snapshot *snapshot,
                             struct qcow2_error *error)
{
  const struct qcow2_geometry *geometry = view->stack.tables.geometry;
  uint64_t l1_index = qcow2_geometry_l1_entries(geometry, snapshot->disk_size);
  char id[TEXT_ESCAPED_BYTES];
  int code;

  qcow2_text_escape(snapshot->id, snapshot->id_length, id, sizeof(id));
  if (snapshot->vm_state_size == 0)
    return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                           "snapshot ID %s has no VM state: the machine was not running when it "
                           "was taken, or its memory was not saved",
                           id);
  code = qcow2_snapshot_vm_state_error(view->stack.layers[0], snapshot, error);
  if (code != 0)
    return code;
  view->start = l1_index << (geometry->cluster_bits + geometry->l2_bits);
  view->size = snapshot->vm_state_size;
  view->stack.layer_count = 1;
  return 0;
}

/* Make a view of the active disk of one file of the chain. The caller may still change the view. */
static int view_new(struct qcow2_image *image, size_t layer, struct qcow2_view **out,
                    struct qcow2_error *error)
{
  struct qcow2_view *view;

  if (!image->chain.is_complete)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the image was opened without its chain, so it cannot be read");
  view = calloc(1, sizeof(*view));
  if (view == NULL)
    return qcow2_error_set_nomem(error);
  view->stack = (struct qcow2_stack){ .layers = image->chain.layers + layer,
                                      .layer_count = image->chain.count - layer,
                                      .tables = image->chain.layers[layer]->tables };
  view->first_layer = layer;
  view->size = image->chain.layers[layer]->size;
  *out = view;
  return 0;
}

static qcow2_blocks_load read_for_block;

/* Prepare the view for reading, after its tables and size were set; or close it if `code` is an
   error. */
static int view_finish(struct qcow2_view *view, struct qcow2_image *image, int code,
                       struct qcow2_view **out)
{
  if (code != 0) {
    qcow2_view_close(view);
    return code;
  }
  qcow2_stack_remember(&view->stack);
  qcow2_accelerator_start(&view->accelerator, image, &view->stack, view->size, read_for_block,
                          view);
  *out = view;
  return 0;
}

/* Set the end of the view. If the flags ask for it, make the view show the bytes that are stored
   under zeros, and warn how many they are. */
static int view_set_end(struct qcow2_view *view, unsigned flags, struct qcow2_error *error)
{
  int code;

  view->stack.end = view->start + view->size;
  if ((flags & QCOW2_VIEW_UNDER_ZEROS) == 0)
    return 0;
  code = qcow2_under_zeros_warn(&view->stack, view->start, &view->warnings, error);
  view->stack.under_zeros = true;
  return code;
}

static int view_set(struct qcow2_view *view, const struct qcow2_image *image, size_t snapshot_index,
                    unsigned flags, struct qcow2_error *error)
{
  const struct qcow2_snapshot *snapshot = qcow2_snapshot_get(image, snapshot_index);
  bool is_vm_state = (flags & QCOW2_VIEW_VM_STATE) != 0;
  int code = 0;

  if (snapshot_index != QCOW2_ACTIVE || is_vm_state)
    code = view_set_snapshot(view, image, snapshot, error);
  if (code == 0 && is_vm_state)
    code = view_set_vm_state(view, snapshot, error);
  return code != 0 ? code : view_set_end(view, flags, error);
}

int qcow2_view_open_as(struct qcow2_image *image, size_t snapshot_index, unsigned flags,
                       struct qcow2_view **out, struct qcow2_error *error)
{
  struct qcow2_view *view = NULL;
  int code;

  if ((flags & ~(unsigned) (QCOW2_VIEW_VM_STATE | QCOW2_VIEW_UNDER_ZEROS)) != 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "a view is opened with unknown flags");
  code = view_new(image, 0, &view, error);
  if (view == NULL)
    return code;
  return view_finish(view, image, view_set(view, image, snapshot_index, flags, error), out);
}

/* Give the view a chain of its own, of one raw file. It owns the storage from the call on. */
static int view_set_storage(struct qcow2_view *view, const struct qcow2_image *image,
                            const struct qcow2_storage *storage, struct qcow2_error *error)
{
  const struct qcow2_layer *top = image->chain.layers[0];
  const struct qcow2_contents contents = { .format = "raw", .file_size = storage->size };
  struct qcow2_opened_file file = { .storage = *storage,
                                    .path = qcow2_text_duplicate(top->file.path),
                                    .descriptor = -1,
                                    .directory = -1 };
  int code;

  view->own.layers = calloc(1, sizeof(view->own.layers[0]));
  if (view->own.layers == NULL || (file.path == NULL && top->file.path != NULL)) {
    qcow2_opened_file_close(&file);
    return qcow2_error_set_nomem(error);
  }
  code = qcow2_layer_new_raw(&file, &image->shared, UINT64_MAX, &contents, &view->own.layers[0],
                             error);
  if (code != 0)
    return code;
  view->own.count = 1;
  view->own.is_complete = true;
  view->stack.layers = view->own.layers;
  view->stack.layer_count = 1;
  view->size = storage->size;
  view->stack.end = view->size;
  return 0;
}

int qcow2_view_open_storage(struct qcow2_image *image, const struct qcow2_storage *storage,
                            struct qcow2_view **out, struct qcow2_error *error)
{
  struct qcow2_storage owned = *storage;
  struct qcow2_view *view = NULL;
  int code = view_new(image, 0, &view, error);

  if (view == NULL) {
    qcow2_storage_close(&owned);
    return code;
  }
  return view_finish(view, image, view_set_storage(view, image, storage, error), out);
}

int qcow2_view_open_tables(struct qcow2_image *image, const struct qcow2_view_tables *tables,
                           struct qcow2_view **out, struct qcow2_error *error)
{
  struct qcow2_view *view = NULL;
  int code = view_new(image, 0, &view, error);

  if (view == NULL) {
    tables->close(tables->context);
    return code;
  }
  view->close_tables = tables->close;
  view->stack.top = tables->find;
  view->stack.top_context = tables->context;
  view->start = tables->start;
  view->size = tables->size;
  view->stack.end = view->start + view->size;
  if (tables->is_alone)
    view->stack.layer_count = 1;
  view->stack.under_zeros = tables->under_zeros;
  return view_finish(view, image, 0, out);
}

void *qcow2_view_tables_context(const struct qcow2_view *view, qcow2_stack_top *find,
                                uint64_t *start)
{
  *start = view->start;
  return view->stack.top == find ? view->stack.top_context : NULL;
}

int qcow2_view_warn(struct qcow2_view *view, const char *sentence, struct qcow2_error *error)
{
  return qcow2_warnings_add(&view->warnings, NULL, sentence, error);
}

int qcow2_view_open(struct qcow2_image *image, size_t snapshot_index, struct qcow2_view **out,
                    struct qcow2_error *error)
{
  return qcow2_view_open_as(image, snapshot_index, 0, out, error);
}

int qcow2_view_open_vm_state(struct qcow2_image *image, size_t snapshot_index,
                             struct qcow2_view **out, struct qcow2_error *error)
{
  return qcow2_view_open_as(image, snapshot_index, QCOW2_VIEW_VM_STATE, out, error);
}

int qcow2_view_open_layer(struct qcow2_image *image, size_t layer, unsigned flags,
                          struct qcow2_view **out, struct qcow2_error *error)
{
  struct qcow2_view *view = NULL;
  int code;

  if ((flags & ~(unsigned) (QCOW2_VIEW_ALONE | QCOW2_VIEW_UNDER_ZEROS)) != 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "a view is opened with unknown flags");
  if (layer >= image->chain.count)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "there is no layer of that index: the chain has %zu files",
                           image->chain.count);
  code = view_new(image, layer, &view, error);
  if (view == NULL)
    return code;
  if ((flags & QCOW2_VIEW_ALONE) != 0)
    view->stack.layer_count = 1;
  return view_finish(view, image, view_set_end(view, flags, error), out);
}

void qcow2_view_close(struct qcow2_view *view)
{
  if (view == NULL)
    return;
  qcow2_accelerator_stop(&view->accelerator);
  qcow2_stack_forget(&view->stack);
  qcow2_warnings_free(&view->warnings);
  qcow2_chain_free(&view->own);
  if (view->close_tables != NULL)
    view->close_tables(view->stack.top_context);
  free(view);
}

const char *qcow2_view_warning(const struct qcow2_view *view, size_t index)
{
  return index < view->warnings.count ? view->warnings.sentences[index] : NULL;
}

uint64_t qcow2_view_size(const struct qcow2_view *view)
{
  return view->size;
}

/* ---- Reading ------------------------------------------------------------- */

/* If the operating system cannot read a run, the bad blocks of this size in it are found. File
   systems and the page cache do not read smaller blocks. */
#define BAD_BLOCK_BYTES 4096u

static int check_range(const struct qcow2_view *view, uint64_t view_offset, uint64_t length,
                       struct qcow2_error *error)
{
  if (range_fits(view_offset, length, view->size))
    return 0;
  return qcow2_error_set_at(error, QCOW2_ERROR_ARGUMENT, view_offset, QCOW2_NO_OFFSET,
                            "%" PRIu64 " bytes at guest offset %" PRIu64
                            " are not inside the disk of %" PRIu64 " bytes",
                            length, view_offset, view->size);
}

/* Read the first *count bytes of the piece. If the operating system cannot read them all, find the
   first part that can or cannot be read: *count becomes its length. */
static int read_piece(const struct qcow2_view *view, const struct qcow2_piece *piece,
                      uint64_t guest_offset, uint8_t *out, size_t *count, struct qcow2_error *error)
{
  const struct qcow2_cluster_source *source = &view->stack.layers[piece->layer]->source;
  uint64_t host_offset = piece->mapping.host_offset;
  struct qcow2_error failure; /* not the caller's: a smaller read may still succeed */

  for (;;) {
    int code = qcow2_cluster_read(source, &piece->mapping, guest_offset, out, *count, &failure);
    size_t step = BAD_BLOCK_BYTES - (size_t) (host_offset % BAD_BLOCK_BYTES);

    if (code != QCOW2_ERROR_IO || piece->mapping.kind != QCOW2_CLUSTER_NORMAL || *count <= step) {
      if (code != 0 && error != NULL)
        *error = failure;
      return code;
    }
    *count = *count / 2 <= step ? step
                                : step + (*count / 2 - step) / BAD_BLOCK_BYTES * BAD_BLOCK_BYTES;
  }
}

/* The length of the damaged range that begins with these `count` bytes. If the operating system
   failed, no more is known. */
static uint64_t damage_length(const struct qcow2_view *view, const struct qcow2_piece *piece,
                              uint64_t guest_offset, uint64_t count, int code)
{
  struct qcow2_holes holes;
  struct qcow2_piece whole;

  qcow2_holes_clear(&holes, &view->stack);
  if (code == QCOW2_ERROR_IO ||
      qcow2_stack_find(&view->stack, &holes, guest_offset, view->stack.end - guest_offset, &whole,
                       NULL) != 0 ||
      whole.layer != piece->layer || whole.mapping.kind != piece->mapping.kind)
    return count;
  return whole.mapping.length;
}

/* Add to an error the place where a read or a lookup failed. `length` is the number of bytes with
   this error. */
static int place_error(const struct qcow2_view *view, const struct qcow2_piece *piece,
                       uint64_t guest_offset, uint64_t length, int code, struct qcow2_error *error)
{
  const struct qcow2_layer *layer = view->stack.layers[piece->layer];
  bool in_data_file = piece->mapping.kind == QCOW2_CLUSTER_NORMAL && layer->data_file.path != NULL;
  struct qcow2_error_place place = {
    .guest_offset = guest_offset - view->start,
    .guest_length = min_u64(length, view->stack.end - guest_offset),
    .table_offset = piece->mapping.table_offset,
    .path = in_data_file ? layer->data_file.path : layer->file.path,
  };

  return qcow2_error_add_place(error, code, &place);
}

/* Read the first of at most `length` bytes. *count becomes the number of bytes that were read or,
   on an error, that have this error. *piece becomes the piece that they are in. */
static int read_next(struct qcow2_view *view, struct qcow2_holes *holes, uint64_t guest_offset,
                     uint8_t *out, size_t length, struct qcow2_piece *piece, size_t *count,
                     struct qcow2_error *error)
{
  uint64_t reach;
  int code;

  qcow2_holes_recall(holes, &view->stack, guest_offset);
  code = qcow2_stack_find(&view->stack, holes, guest_offset, length, piece, error);
  reach = piece->mapping.length;
  *count = (size_t) min_u64(length, reach);
  if (code == 0) {
    qcow2_accelerator_wait_and_limit(&view->accelerator, piece, guest_offset, count);
    code = read_piece(view, piece, guest_offset, out, count, error);
    if (code == 0)
      return 0;
    reach = damage_length(view, piece, guest_offset, *count, code);
  }
  return place_error(view, piece, guest_offset, reach, code, error);
}

/* Read all `length` bytes, piece by piece. */
static int read_pieces(struct qcow2_view *view, uint64_t view_offset, uint8_t *out, size_t length,
                       struct qcow2_error *error)
{
  uint64_t guest_offset = view->start + view_offset;
  struct qcow2_holes holes;
  struct qcow2_piece piece;
  size_t count;
  int code = 0;

  qcow2_holes_clear(&holes, &view->stack);
  for (; code == 0 && length > 0; length -= count) {
    code = read_next(view, &holes, guest_offset, out, length, &piece, &count, error);
    out += count;
    guest_offset += count;
  }
  return code;
}

static int read_for_block(void *context, uint64_t view_offset, void *buffer, size_t length,
                          struct qcow2_error *error)
{
  return read_pieces(context, view_offset, buffer, length, error);
}

int qcow2_view_read(struct qcow2_view *view, uint64_t view_offset, void *buffer, size_t length,
                    struct qcow2_error *error)
{
  int code = check_range(view, view_offset, length, error);

  if (code != 0 || qcow2_accelerator_read(&view->accelerator, view_offset, buffer, length))
    return code;
  return read_pieces(view, view_offset, buffer, length, error);
}

/* True if the error is damage of the evidence, and not a lack of memory or the like. */
static bool is_damage(int code)
{
  return code == QCOW2_ERROR_CORRUPT || code == QCOW2_ERROR_TRUNCATED || code == QCOW2_ERROR_IO;
}

/* Report the piece, which was read, if it may be damaged. */
static void report_doubt(const struct qcow2_view *view, const struct qcow2_piece *piece,
                         qcow2_damage_report *doubt, void *context)
{
  const struct qcow2_cluster_source *source = &view->stack.layers[piece->layer]->source;
  const struct qcow2_mapping *mapping = &piece->mapping;
  struct qcow2_error error;

  if (mapping->kind != QCOW2_CLUSTER_COMPRESSED ||
      !qcow2_compressed_is_doubtful(&source->compressed, mapping))
    return;
  qcow2_error_set_at(&error, QCOW2_ERROR_CORRUPT, QCOW2_NO_OFFSET, mapping->host_offset,
                     "the compressed stream does not end with its cluster; it begins at host "
                     "offset %" PRIu64,
                     mapping->host_offset);
  place_error(view, piece, mapping->guest_offset,
              damage_length(view, piece, mapping->guest_offset, mapping->length,
                            QCOW2_ERROR_CORRUPT),
              QCOW2_ERROR_CORRUPT, &error);
  doubt(context, &error);
}

int qcow2_view_examine(struct qcow2_view *view, uint64_t view_offset, void *buffer, size_t length,
                       qcow2_damage_report *report, qcow2_damage_report *doubt, void *context,
                       struct qcow2_error *error)
{
  uint64_t guest_offset = view->start + view_offset;
  struct qcow2_error damage;
  uint8_t *out = buffer;
  struct qcow2_holes holes;
  struct qcow2_piece piece;
  size_t count;
  int code = check_range(view, view_offset, length, error);

  qcow2_holes_clear(&holes, &view->stack);
  for (; code == 0 && length > 0; length -= count) {
    code = read_next(view, &holes, guest_offset, out, length, &piece, &count, &damage);
    if (code == 0 && doubt != NULL)
      report_doubt(view, &piece, doubt, context);
    if (is_damage(code)) {
      memset(out, 0, count);
      if (report != NULL)
        report(context, &damage);
      code = 0;
    } else if (code != 0 && error != NULL)
      *error = damage;
    out += count;
    guest_offset += count;
  }
  return code;
}

int qcow2_view_salvage(struct qcow2_view *view, uint64_t view_offset, void *buffer, size_t length,
                       qcow2_damage_report *report, void *context, struct qcow2_error *error)
{
  if (range_fits(view_offset, length, view->size) &&
      qcow2_accelerator_read(&view->accelerator, view_offset, buffer, length))
    return 0;
  return qcow2_view_examine(view, view_offset, buffer, length, report, NULL, context, error);
}

int qcow2_view_map(struct qcow2_view *view, uint64_t view_offset, uint64_t length,
                   struct qcow2_extent *extent, struct qcow2_error *error)
{
  uint64_t guest_offset = view->start + view_offset;
  struct qcow2_holes holes;
  struct qcow2_piece piece;
  int code;

  if (length == 0 || view_offset >= view->size)
    return check_range(view, view_offset, 1, error) != 0
               ? QCOW2_ERROR_ARGUMENT
               : qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "a length of 0 cannot be mapped");
  qcow2_holes_clear(&holes, &view->stack);
  code = qcow2_stack_find(&view->stack, &holes, guest_offset,
                          min_u64(length, view->size - view_offset), &piece, error);
  if (code != 0)
    return place_error(view, &piece, guest_offset, piece.mapping.length, code, error);
  *extent = (struct qcow2_extent){ .kind = piece.mapping.kind,
                                   .layer = view->first_layer + piece.layer,
                                   .guest_offset = view_offset,
                                   .length = piece.mapping.length,
                                   .host_offset = piece.mapping.host_offset,
                                   .host_bytes = piece.mapping.host_bytes };
  return 0;
}

/* Find the piece at an offset of the view. False: its table cannot be read. */
static bool find_placed(const struct qcow2_view *view, uint64_t view_offset, uint64_t length,
                        struct qcow2_placed_piece *placed)
{
  struct qcow2_holes holes;

  placed->stack = &view->stack;
  placed->guest_offset = view->start + view_offset;
  qcow2_holes_clear(&holes, &view->stack);
  qcow2_holes_recall(&holes, &view->stack, placed->guest_offset);
  return qcow2_stack_find(&view->stack, &holes, placed->guest_offset, length, &placed->piece,
                          NULL) == 0;
}

int qcow2_view_same(struct qcow2_view *view, struct qcow2_view *other, uint64_t view_offset,
                    uint64_t length, uint64_t *run_length, int *is_same, struct qcow2_error *error)
{
  struct qcow2_placed_piece piece, other_piece;
  bool is_found, is_other_found;
  int code = check_range(view, view_offset, 1, error);

  if (code == 0)
    code = check_range(other, view_offset, 1, error);
  if (code != 0)
    return code;
  if (length == 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "a length of 0 cannot be compared");
  length = min_u64(length, min_u64(view->size, other->size) - view_offset);
  is_found = find_placed(view, view_offset, length, &piece);
  length = min_u64(length, piece.piece.mapping.length);
  is_other_found = find_placed(other, view_offset, length, &other_piece);
  *run_length = min_u64(length, other_piece.piece.mapping.length);
  *is_same = is_found && is_other_found && qcow2_pieces_are_same(&piece, &other_piece);
  return 0;
}
