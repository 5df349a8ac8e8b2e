/* SPDX-License-Identifier: MIT */
/*
 * Reading a view of an image: the read loop. Start reading here. (view_open.c makes views.)
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
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "sameness.h"
#include "view_fields.h"

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

int qcow2_view_load_block(void *context, uint64_t view_offset, void *buffer, size_t length,
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

/* For how many of the next `length` bytes, which both have, *is_same is true or false: see
   qcow2_view_same(). */
static uint64_t compare_views(const struct qcow2_view *view, const struct qcow2_view *other,
                              uint64_t view_offset, uint64_t length, bool *is_same)
{
  struct qcow2_placed_piece piece, other_piece;
  bool is_found, is_other_found;
  uint64_t run = qcow2_entries_are_same(&view->stack, view->start + view_offset, &other->stack,
                                        other->start + view_offset, length, is_same);

  if (run > 0)
    return run;
  is_found = find_placed(view, view_offset, length, &piece);
  run = min_u64(length, piece.piece.mapping.length);
  is_other_found = find_placed(other, view_offset, run, &other_piece);
  *is_same = is_found && is_other_found && qcow2_pieces_are_same(&piece, &other_piece);
  return min_u64(run, other_piece.piece.mapping.length);
}

int qcow2_view_same(struct qcow2_view *view, struct qcow2_view *other, uint64_t view_offset,
                    uint64_t length, uint64_t *run_length, int *is_same, struct qcow2_error *error)
{
  int code = check_range(view, view_offset, 1, error);
  bool same;

  if (code == 0)
    code = check_range(other, view_offset, 1, error);
  if (code != 0)
    return code;
  if (length == 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "a length of 0 cannot be compared");
  length = min_u64(length, min_u64(view->size, other->size) - view_offset);
  *run_length = compare_views(view, other, view_offset, length, &same);
  *is_same = same;
  return 0;
}
