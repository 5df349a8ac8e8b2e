/* SPDX-License-Identifier: MIT */
/*
 * The state that was left when a snapshot was applied. Its L1 table was overwritten; its L2 tables
 * may still be there, and are placed by votes (votes.h), or by what they contain (anchors.h). Where
 * no table is placed, the state had the table of the snapshot that it came from, which was not
 * changed since. A disk whose L1 table is lost is such a state, too.
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
#include "anchors.h"
#include "guessed_refcounts.h"
#include "labels.h"
#include "order.h"
#include "strays.h"
#include "votes.h"

/* Some 10 seconds. Images that were not made to have more have a few tables without a place. */
#define DOUBT_WORK (UINT64_C(16) << 30)

/* Tables of which the refcount table must say that they are in use. */
#define SAMPLES_MAX ((size_t) 64)
#define REFCOUNT_WORK_BYTES (UINT64_C(1) << 30)

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
  bool has_strays; /* there is no L1 table, and something that no table names */
};

static void abandoned_close(void *context)
{
  struct abandoned *abandoned = context;

  qcow2_placed_free(&abandoned->placed);
  free(abandoned);
}

/* ---- Its tables ------------------------------------------------------------------- */

/* If a table has no place, each L1 index without one may be its place: what is there is lost. It
   is not known that there was nothing; nor is it if a table was reused. */
static bool is_table_lost(const struct abandoned *abandoned)
{
  return abandoned->placed.lost > 0 || abandoned->only_kept || abandoned->has_strays;
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
      qcow2_placed_is_doubtful(&abandoned->placed, geometry, table))
    *l2_offset = 0;
  free(table);
  return 0;
}

/* The L2 table of an L1 index: the one that was placed there, or that of the base; 0: none. */
static int table_at(struct abandoned *abandoned, uint64_t l1_index, uint64_t *l2_offset,
                    struct qcow2_error *error)
{
  const struct qcow2_placed_table *placed = qcow2_placed_find(&abandoned->placed, l1_index);

  if (placed == NULL)
    return base_table(abandoned, l1_index, l2_offset, error);
  *l2_offset = placed->l2_offset;
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
  if (!placed->is_complete)
    return qcow2_error_set(error, QCOW2_ERROR_IO,
                           "no abandoned state was found, but not all of the file could be looked "
                           "at");
  if (placed->lost > 0)
    return qcow2_error_set(
        error, QCOW2_ERROR_NOT_FOUND,
        "no abandoned state can be put together: %zu L2 tables are left that "
        "nothing leads to, but nothing that they share with other states or contain gives them a "
        "place",
        placed->lost);
  return qcow2_error_set(error, QCOW2_ERROR_NOT_FOUND,
                         "there is no abandoned state: no L2 table is left that nothing leads to");
}

/* What is read where no table is placed. */
static void describe_base(const struct qcow2_image *image, const struct abandoned *abandoned,
                          char *out, size_t size)
{
  size_t base = abandoned->placed.base;
  char id[48];

  if (base != QCOW2_ACTIVE) {
    qcow2_text_escape(image->snapshots.entries[base].id, image->snapshots.entries[base].id_length,
                      id, sizeof(id));
    snprintf(out, size, "from snapshot ID %s", id);
  } else if (!qcow2_layer_has_no_l1(abandoned->layer))
    snprintf(out, size, "from the active disk");
  else if (is_table_lost(abandoned))
    snprintf(out, size, "nothing can be read");
  else
    snprintf(out, size, "taken to be unallocated, since all that is in the file has a place");
}

static int warn(struct qcow2_view *view, const struct qcow2_image *image,
                const struct abandoned *abandoned, const struct qcow2_labels *labels,
                struct qcow2_error *error)
{
  const struct qcow2_placed *placed = &abandoned->placed;
  char elsewhere[112], text[1024];
  int code;

  describe_base(image, abandoned, elsewhere, sizeof(elsewhere));
  snprintf(text, sizeof(text),
           "guessed: this is %s, put together from %zu L2 tables, of which %zu are placed by what "
           "they share with other states, %zu by what they contain and %zu by their order in the "
           "file, and elsewhere %s; %zu tables have no place, and %zu compete for one that another "
           "has",
           qcow2_layer_has_no_l1(abandoned->layer)
               ? "a disk whose L1 table is lost"
               : "a state that was left when a snapshot was applied",
           placed->count, placed->count - placed->by_content - placed->by_order, placed->by_content,
           placed->by_order, elsewhere, placed->lost, placed->contested);
  code = qcow2_view_warn(view, text, error);
  if (code != 0)
    return code;
  snprintf(text, sizeof(text), "guessed: as far as it is left, in bytes: ");
  qcow2_labels_print(labels, text + strlen(text), sizeof(text) - strlen(text));
  code = qcow2_view_warn(view, text, error);
  if (code == 0 && (labels->has_gaps || !placed->is_complete))
    code = qcow2_view_warn_of_gaps(view,
                                   "guessed: not all tables could be looked at, so what only they "
                                   "refer to may be shown as kept though it was reused",
                                   error);
  if (code == 0)
    code = qcow2_labels_warn_of_zeros(view, labels, "state", error);
  return code == 0 ? qcow2_labels_warn_of_neighbours(view, labels, error) : code;
}

/* Without a header, the refcount table is among the tables that have no place: leave out the one
   that says of all that have one that they are in use. Errors: NOMEM. */
static int leave_out_refcounts(struct abandoned *abandoned, struct qcow2_error *error)
{
  struct qcow2_placed *placed = &abandoned->placed;
  const struct qcow2_geometry *geometry = &abandoned->layer->geometry;
  size_t count = placed->count < SAMPLES_MAX ? placed->count : SAMPLES_MAX;
  uint64_t samples[SAMPLES_MAX], work = REFCOUNT_WORK_BYTES;
  struct qcow2_guessed_refcounts refcounts = { .storage = &abandoned->layer->file.storage,
                                               .cluster_bits = geometry->cluster_bits,
                                               .work = &work };

  if (abandoned->layer->lost_header == NULL || count == 0)
    return 0;
  for (size_t i = 0; i < count; i++)
    samples[i] = placed->tables[i * (placed->count / count)].l2_offset;
  refcounts.block = malloc(geometry->cluster_size);
  if (refcounts.block == NULL)
    return qcow2_error_set_nomem(error);
  for (size_t i = 0; i < placed->lost; i++)
    qcow2_guessed_refcounts_try(&refcounts, placed->lost_tables[i], samples, count);
  if (refcounts.table_offset != 0 && refcounts.in_use == count)
    qcow2_placed_forget(placed, geometry, refcounts.table_offset);
  free(refcounts.block);
  return 0;
}

/* Place what the votes did not, by other signs. */
static int place_more(struct abandoned *abandoned, const struct qcow2_old_state *state,
                      struct qcow2_error *error)
{
  const struct qcow2_layer *layer = abandoned->layer;
  struct qcow2_placed *placed = &abandoned->placed;
  const struct qcow2_anchored anchored = { .layer = layer,
                                           .placed = placed,
                                           .size = state->size,
                                           .end_index = abandoned->end_index,
                                           .base_l1_offset = abandoned->l1_offset,
                                           .base_l1_size = abandoned->l1_size };
  uint64_t failures = qcow2_storage_failures();
  int code = qcow2_anchors_place(&anchored, error);

  if (code == 0)
    code = leave_out_refcounts(abandoned, error);
  if (code == 0 && (layer->layout_flags & QCOW2_LAYOUT_BY_ORDER) != 0)
    code = qcow2_order_place(layer, placed, abandoned->end_index, error);
  if (code == 0 && qcow2_layer_has_no_l1(layer) && placed->lost == 0)
    code = qcow2_strays_look(layer, placed,
                             divide_up(abandoned->end_index * L1_ENTRY_BYTES,
                                       layer->geometry.cluster_size),
                             &abandoned->has_strays, error);
  if (qcow2_storage_failures() != failures)
    placed->is_complete = false;
  if (qcow2_layer_has_no_l1(layer) && (placed->of_old_l1 > 0 || !placed->is_complete))
    abandoned->has_strays = true;
  return code;
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
  abandoned->end_index = min_u64(state->end_index, L1_ENTRIES_MAX);
}

static int open_view(struct qcow2_image *image, struct abandoned *abandoned, unsigned flags,
                     struct qcow2_view **view, struct qcow2_error *error)
{
  struct qcow2_old_state state = { .context = abandoned,
                                   .list = list_tables,
                                   .close = abandoned_close,
                                   .borrows_tables = true,
                                   .under_zeros = (flags & QCOW2_VIEW_UNDER_ZEROS) != 0,
                                   .only_kept = (flags & QCOW2_VIEW_ONLY_KEPT) != 0,
                                   .by_neighbours = (flags & QCOW2_VIEW_BY_NEIGHBOURS) != 0 };
  uint64_t start;
  int code;

  set_base(image, abandoned, &state);
  abandoned->only_kept = state.only_kept;
  abandoned->work = DOUBT_WORK;
  code = place_more(abandoned, &state, error);
  if (code == 0 && abandoned->placed.count == 0)
    code = not_found(&abandoned->placed, error);
  if (code != 0) {
    abandoned_close(abandoned);
    return code;
  }
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
  uint64_t failures = qcow2_storage_failures();
  struct abandoned *abandoned;
  int code = qcow2_labels_check_flags(flags, QCOW2_VIEW_UNDER_ZEROS, error);

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
  if (qcow2_storage_failures() != failures)
    abandoned->placed.is_complete = false;
  if (code == 0)
    return open_view(image, abandoned, flags, view, error);
  abandoned_close(abandoned);
  return code;
}
