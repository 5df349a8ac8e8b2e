/* SPDX-License-Identifier: MIT */
/*
 * The state that was left when a snapshot was applied. Its L1 table was overwritten; its L2 tables
 * may still be there, and are placed by votes (votes.h). Where no table is placed, the state had
 * the table of the snapshot that it came from, which was not changed since.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/bytes.h"
#include "../base/checked.h"
#include "../base/error.h"
#include "../base/text.h"
#include "../format/snapshot.h"
#include "../storage/storage.h"
#include "labels.h"
#include "votes.h"

/* Some 10 seconds. Images that were not made to have more have a few tables without a place. */
#define DOUBT_WORK (UINT64_C(16) << 30)

struct abandoned {
  const struct qcow2_layer *layer;
  struct qcow2_placed placed;
  uint64_t l1_offset; /* of the base */
  uint32_t l1_size;
  uint64_t end_index; /* of the state, as far as an L1 table can reach */
  uint64_t work; /* for finding out what is doubtful, in bytes and entries: for all until the view
                    is open, then for each time that tables are listed */
  bool is_open;
  bool only_kept;
};

static void abandoned_close(void *context)
{
  struct abandoned *abandoned = context;

  qcow2_placed_free(&abandoned->placed);
  free(abandoned);
}

/* ---- Its tables ------------------------------------------------------------------- */

/* The first placed table from an L1 index on. */
static size_t find_placed(const struct qcow2_placed *placed, uint64_t l1_index)
{
  size_t low = 0, high = placed->count;

  while (low < high) {
    size_t middle = low + (high - low) / 2;

    if (placed->tables[middle].l1_index < l1_index)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

/* If a table has no place, each L1 index without one may be its place: what is there is lost. It
   is not known that there was nothing; nor is it if a table was reused. */
static bool is_table_lost(const struct abandoned *abandoned)
{
  return abandoned->placed.lost > 0 || abandoned->only_kept;
}

/* Take the work of finding out whether a table is doubtful. */
static int pay(struct abandoned *abandoned, struct qcow2_error *error)
{
  const struct qcow2_geometry *geometry = &abandoned->layer->geometry;
  uint64_t cost = geometry->cluster_size + ((uint64_t) abandoned->placed.lost << geometry->l2_bits);

  if (cost > abandoned->work)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "the abandoned state cannot be put together: %zu L2 tables have no "
                           "place, and there are too many places to find out where they fit",
                           abandoned->placed.lost);
  abandoned->work -= cost;
  return 0;
}

/* The table that the base has there; 0: none, or it is doubtful. */
static int base_table(struct abandoned *abandoned, uint64_t l1_index, uint64_t *l2_offset,
                      struct qcow2_error *error)
{
  const struct qcow2_storage *storage = &abandoned->layer->file.storage;
  const struct qcow2_geometry *geometry = &abandoned->layer->geometry;
  uint8_t word[8], *table;
  int code;

  *l2_offset = 0;
  if (l1_index >= abandoned->l1_size)
    return 0;
  code = qcow2_storage_read(storage, abandoned->l1_offset + l1_index * L1_ENTRY_BYTES, word,
                            sizeof(word), error);
  if (code != 0)
    return code;
  *l2_offset = be64_get(word) & TABLE_OFFSET_MASK;
  if (*l2_offset == 0 || !is_table_lost(abandoned))
    return 0;
  code = pay(abandoned, error);
  if (code != 0)
    return code;
  table = malloc(geometry->cluster_size);
  if (table == NULL)
    return qcow2_error_set_nomem(error);
  if (qcow2_storage_read(storage, *l2_offset, table, geometry->cluster_size, NULL) != 0 ||
      qcow2_votes_is_doubtful(&abandoned->placed, geometry, table))
    *l2_offset = 0;
  free(table);
  return 0;
}

/* The L2 table of an L1 index: the one that was placed there, or that of the base; 0: none. */
static int table_at(struct abandoned *abandoned, uint64_t l1_index, uint64_t *l2_offset,
                    struct qcow2_error *error)
{
  const struct qcow2_placed *placed = &abandoned->placed;
  size_t at = find_placed(placed, l1_index);

  if (at == placed->count || placed->tables[at].l1_index != l1_index)
    return base_table(abandoned, l1_index, l2_offset, error);
  *l2_offset = placed->tables[at].l2_offset;
  return 0;
}

static int list_tables(void *context, uint64_t first, struct qcow2_old_table *tables, size_t max,
                       size_t *count, uint64_t *next, struct qcow2_error *error)
{
  struct abandoned *abandoned = context;
  uint64_t end = abandoned->end_index;
  int code = 0;

  if (abandoned->is_open)
    abandoned->work = DOUBT_WORK;
  *count = 0;
  for (*next = first; code == 0 && *next < end && *count < max; ++*next) {
    uint64_t l2_offset;

    code = table_at(abandoned, *next, &l2_offset, error);
    if (code == 0 && (l2_offset != 0 || is_table_lost(abandoned)))
      tables[(*count)++] = (struct qcow2_old_table){ .l2_offset = l2_offset,
                                                     .l1_index = (uint32_t) *next };
  }
  if (*next >= end)
    *next = UINT64_MAX; /* there are no more */
  return code;
}

/* ---- Opening -------------------------------------------------------------------------- */

static int not_found(const struct qcow2_placed *placed, struct qcow2_error *error)
{
  if (placed->lost > 0)
    return qcow2_error_set(
        error, QCOW2_ERROR_NOT_FOUND,
        "no abandoned state can be put together: %zu L2 tables are left that "
        "nothing leads to, but nothing that they share with other states gives them a place",
        placed->lost);
  return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                         "there is no abandoned state: no L2 table is left that nothing leads to");
}

static int warn(struct qcow2_view *view, const struct qcow2_image *image,
                const struct abandoned *abandoned, const struct qcow2_labels *labels,
                struct qcow2_error *error)
{
  const struct qcow2_placed *placed = &abandoned->placed;
  const struct qcow2_snapshot *base = placed->base == QCOW2_ACTIVE
                                          ? NULL
                                          : &image->snapshots.entries[placed->base];
  char id[48] = "", text[1024];
  int code;

  if (base != NULL)
    qcow2_text_escape(base->id, base->id_length, id, sizeof(id));
  snprintf(text, sizeof(text),
           "guessed: this is a state that was left when a snapshot was applied, put together from "
           "%zu L2 tables, which are placed by what they share with other states, and elsewhere "
           "from %s%s; %zu tables have no place, and %zu compete for one that another has",
           placed->count, base == NULL ? "the active disk" : "snapshot ID ", id, placed->lost,
           placed->contested);
  code = qcow2_view_warn(view, text, error);
  if (code != 0)
    return code;
  snprintf(text, sizeof(text), "guessed: as far as it is left, in bytes: ");
  qcow2_labels_print(labels, text + strlen(text), sizeof(text) - strlen(text));
  code = qcow2_view_warn(view, text, error);
  if (code == 0 && (labels->has_gaps || !placed->is_complete))
    code = qcow2_view_warn(view,
                           "guessed: not all tables could be looked at, so what only they refer "
                           "to may be shown as kept though it was reused",
                           error);
  return code == 0 ? qcow2_labels_warn_of_neighbours(view, labels, error) : code;
}

/* The base's L1 table, and the size of the state: that of the base or, if it is larger, of the
   active disk. */
static void set_base(const struct qcow2_image *image, struct abandoned *abandoned,
                     struct qcow2_old_state *state)
{
  const struct qcow2_layer *layer = abandoned->layer;
  const struct qcow2_geometry *geometry = &layer->geometry;
  size_t base = abandoned->placed.base;

  abandoned->l1_offset = layer->tables.l1_offset;
  abandoned->l1_size = layer->tables.l1_size;
  state->size = layer->size;
  if (base != QCOW2_ACTIVE) {
    const struct qcow2_snapshot *snapshot = &image->snapshots.entries[base];

    abandoned->l1_offset = snapshot->l1_offset;
    abandoned->l1_size = (uint32_t) min_u64(snapshot->l1_size,
                                            qcow2_geometry_l1_entries(geometry,
                                                                      snapshot->disk_size));
    state->older_count = base + 1;
    if (snapshot->disk_size > state->size &&
        qcow2_snapshot_disk_problem(geometry, snapshot) == NULL)
      state->size = snapshot->disk_size;
  }
  state->end_index = qcow2_geometry_l1_entries(geometry, state->size);
  abandoned->end_index = min_u64(state->end_index, L1_TABLE_BYTES_MAX / L1_ENTRY_BYTES);
}

static int open_view(struct qcow2_image *image, struct abandoned *abandoned, unsigned flags,
                     struct qcow2_view **view, struct qcow2_error *error)
{
  struct qcow2_old_state state = { .context = abandoned,
                                   .list = list_tables,
                                   .close = abandoned_close,
                                   .borrows_tables = true,
                                   .only_kept = (flags & QCOW2_VIEW_ONLY_KEPT) != 0,
                                   .by_neighbours = (flags & QCOW2_VIEW_BY_NEIGHBOURS) != 0 };
  uint64_t start;
  int code;

  set_base(image, abandoned, &state);
  abandoned->only_kept = state.only_kept;
  abandoned->work = DOUBT_WORK;
  code = qcow2_labels_open_view(image, &state, view, error);
  if (code != 0)
    return code;
  abandoned->is_open = true;
  code = warn(*view, image, abandoned, qcow2_labels_of_view(*view, &start), error);
  if (code != 0)
    qcow2_view_close(*view);
  return code;
}

int qcow2_view_open_abandoned(struct qcow2_image *image, unsigned flags, struct qcow2_view **view,
                              struct qcow2_error *error)
{
  struct abandoned *abandoned;
  int code = qcow2_labels_check_flags(flags, 0, error);

  if (code != 0)
    return code;
  if (!image->chain.is_complete)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the image was opened without its chain, so it cannot be read");
  abandoned = calloc(1, sizeof(*abandoned));
  if (abandoned == NULL)
    return qcow2_error_set_nomem(error);
  abandoned->layer = image->chain.layers[0];
  code = qcow2_votes_place(image, &abandoned->placed, error);
  if (code == 0 && abandoned->placed.count == 0)
    code = not_found(&abandoned->placed, error);
  if (code == 0)
    return open_view(image, abandoned, flags, view, error);
  abandoned_close(abandoned);
  return code;
}
