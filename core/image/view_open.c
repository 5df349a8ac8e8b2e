/* SPDX-License-Identifier: MIT */
/* Opening and closing views: of the active disk, of a snapshot, of one file of the chain, and of
   what core/residue finds. */
#include "view.h"

#include <stdlib.h>

#include "../base/error.h"
#include "../base/text.h"
#include "../storage/storage.h"
#include "under_zeros.h"
#include "view_fields.h"

/* Without an L1 table, the active disk of a file cannot be read. */
static int check_l1(const struct qcow2_layer *layer, struct qcow2_error *error)
{
  if (!qcow2_layer_has_no_l1(layer))
    return 0;
  return qcow2_error_add_help(error,
                              qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                                              "the layout that was given has no L1 table, so the "
                                              "disk can only be put together from its L2 tables"),
                              QCOW2_HELP_ABANDONED, 0);
}

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
  qcow2_accelerator_start(&view->accelerator, image, &view->stack, view->size,
                          qcow2_view_load_block, view);
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
  else
    code = check_l1(image->chain.layers[0], error);
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

int qcow2_view_warn_of_gaps(struct qcow2_view *view, const char *sentence,
                            struct qcow2_error *error)
{
  return qcow2_warnings_add_damage(&view->warnings, NULL, sentence, error);
}

int qcow2_view_has_gaps(const struct qcow2_view *view)
{
  return view->warnings.of_damage;
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
  code = check_l1(image->chain.layers[layer], error);
  if (code == 0)
    code = view_set_end(view, flags, error);
  return view_finish(view, image, code, out);
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
