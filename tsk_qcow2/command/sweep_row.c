/* SPDX-License-Identifier: MIT */
#include "sweep_row.h"

#include <stdlib.h>

#include "complain.h"

/* ---- What the tables say -------------------------------------------------------- */

static bool reads_zeros(enum qcow2_cluster_kind kind)
{
  return kind == QCOW2_CLUSTER_UNALLOCATED || kind == QCOW2_CLUSTER_ZERO ||
         kind == QCOW2_CLUSTER_ZERO_ALLOCATED;
}

uint64_t sweep_zeros_length(struct qcow2_view *view, uint64_t guest_offset, uint64_t length)
{
  uint64_t size = qcow2_view_size(view), at = guest_offset;
  uint64_t end = length < size - at ? at + length : size;
  struct qcow2_extent extent;

  while (at < end && qcow2_view_map(view, at, end - at, &extent, NULL) == 0 &&
         reads_zeros(extent.kind))
    at += extent.length;
  return at - guest_offset;
}

static bool is_same(struct qcow2_view *view, struct qcow2_view *other, uint64_t guest_offset,
                    uint64_t length)
{
  uint64_t run;
  int same;

  for (; length > 0; length -= run, guest_offset += run)
    if (qcow2_view_same(view, other, guest_offset, length, &run, &same, NULL) != 0 || !same)
      return false;
  return true;
}

/* ---- Reading ---------------------------------------------------------------------- */

struct keeping {
  struct sweep_piece *piece;
  int code; /* NOMEM: a range could not be kept */
};

static void keep_remark(struct keeping *keeping, bool is_doubt, const struct qcow2_error *what)
{
  struct sweep_piece *piece = keeping->piece;
  size_t room = piece->remark_room == 0 ? 4 : piece->remark_room * 2;

  if (piece->remark_count == piece->remark_room) {
    struct sweep_remark *remarks = realloc(piece->remarks, room * sizeof(remarks[0]));

    if (remarks == NULL) {
      keeping->code = QCOW2_ERROR_NOMEM;
      return;
    }
    piece->remarks = remarks;
    piece->remark_room = room;
  }
  piece->remarks[piece->remark_count++] = (struct sweep_remark){ is_doubt, *what };
}

static void keep_damage(void *context, const struct qcow2_error *damage)
{
  keep_remark(context, false, damage);
}

static void keep_doubt(void *context, const struct qcow2_error *doubt)
{
  keep_remark(context, true, doubt);
}

static int read_piece(struct sweep_row *row, size_t lane, struct qcow2_view *view,
                      struct qcow2_error *error)
{
  struct sweep_piece *piece = &row->pieces[lane];
  struct keeping keeping = { .piece = piece };
  uint8_t *buffer = row->buffers[row->used++];
  int code = qcow2_view_examine(view, row->guest_offset, buffer, (size_t) piece->length,
                                keep_damage, keep_doubt, &keeping, error);

  piece->bytes = buffer;
  if (code == 0 && keeping.code != 0)
    code = tsk_qcow2_complain_nomem(error);
  return code;
}

/* Find a view before this one whose chunk was read and is the same. NULL: there is none. If there
   is something to report of it, it is of no use: that names each view's own tables. */
static const struct sweep_piece *find_same(const struct sweep_row *row,
                                           const struct sweep_lane *lanes, size_t lane)
{
  for (size_t i = 0; i < lane; i++) {
    const struct sweep_piece *other = &row->pieces[i];
    bool is_shared = false; /* a view before it was compared already */

    for (size_t k = 0; k < i && !is_shared; k++)
      is_shared = row->pieces[k].bytes == other->bytes;
    if (other->bytes != NULL && !is_shared && other->remark_count == 0 &&
        other->length == row->pieces[lane].length &&
        is_same(lanes[lane].view, lanes[i].view, row->guest_offset, other->length))
      return other;
  }
  return NULL;
}

static uint64_t length_in(const struct sweep_row *row, size_t lane, const struct qcow2_view *view)
{
  uint64_t size = qcow2_view_size(view);
  uint64_t left = size > row->guest_offset ? size - row->guest_offset : 0;

  if (!row->pieces[lane].is_wanted)
    return 0;
  return left < row->length ? left : row->length;
}

int sweep_row_fill(struct sweep_row *row, const struct sweep_lane *lanes, size_t lane_count,
                   struct qcow2_error *error)
{
  int code = 0;

  row->used = 0;
  for (size_t i = 0; i < lane_count && code == 0; i++) {
    struct sweep_piece *piece = &row->pieces[i];
    const struct sweep_piece *same;

    piece->length = length_in(row, i, lanes[i].view);
    piece->bytes = NULL;
    piece->remark_count = 0;
    if (piece->length == 0 || row->is_hole ||
        sweep_zeros_length(lanes[i].view, row->guest_offset, piece->length) == piece->length)
      continue;
    same = find_same(row, lanes, i);
    if (same != NULL)
      piece->bytes = same->bytes;
    else
      code = read_piece(row, i, lanes[i].view, error);
  }
  return code;
}

void sweep_row_free(struct sweep_row *row)
{
  for (size_t i = 0; i < SWEEP_LANES_MAX; i++)
    free(row->pieces[i].remarks);
}
