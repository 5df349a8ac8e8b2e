/* SPDX-License-Identifier: MIT */
/* Placing clusters that no table names by their neighbours (neighbours.h). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/error.h"
#include "../format/cluster.h"
#include "../storage/storage.h"
#include "labels.h"

/* Gaps between known clusters (3 MiB), clusters of the file in them (10 MiB), tables of the state
   (4 MiB), and runs of clusters that are placed (6 MiB). */
#define GAPS_MAX ((size_t) 1 << 16)
#define SLOTS_MAX ((size_t) 2 << 20)
#define TABLES_MAX ((size_t) 512 << 10)
#define RUNS_MAX ((size_t) 256 << 10)

struct search {
  struct qcow2_labels *labels;
  struct qcow2_gaps gaps;
  size_t table_capacity, run_capacity;
  uint64_t file_clusters; /* that are in the file as a whole */
  uint64_t next_index;    /* of the L1 entry after those that were looked at */
  /* The last cluster of which the place is known, if everything after it is open. */
  bool has_known, is_known_shared;
  uint64_t known_guest, known_host;
};

/* ---- Gaps between clusters that are known ------------------------------------------ */

/* Add the gap after the last known cluster, up to this one, if there is as much in the file as on
   the disk: but for the L2 tables that begin in between, and a refcount block. */
static void add_gap(struct search *search, uint64_t guest, uint64_t host)
{
  unsigned l2_bits = search->labels->layer->geometry.l2_bits;
  uint64_t begun = (guest >> l2_bits) - (search->known_guest >> l2_bits);
  struct qcow2_gap gap = { .guest = search->known_guest + 1,
                           .host = search->known_host + 1,
                           .guest_count = guest - search->known_guest - 1,
                           .host_count = host - search->known_host - 1 };

  if (host <= search->known_host || host >= search->file_clusters ||
      gap.host_count < gap.guest_count ||
      gap.host_count - gap.guest_count > (begun == 0 ? 0 : begun + 1))
    return;
  if (search->gaps.count == GAPS_MAX || gap.host_count > SLOTS_MAX - search->gaps.slot_count) {
    search->labels->neighbours.has_more = true;
    return;
  }
  search->gaps.gaps[search->gaps.count++] = gap;
  search->gaps.slot_count += (size_t) gap.host_count;
}

/* What a state that borrows tables shares with another is older than the clusters that it had
   alone, which are looked for. */
static void meet_known(struct search *search, uint64_t guest, uint64_t host, bool is_shared)
{
  bool are_both_shared = search->is_known_shared && is_shared;

  if (search->has_known && guest - search->known_guest > 1 &&
      !(search->labels->state.borrows_tables && are_both_shared))
    add_gap(search, guest, host);
  search->has_known = true;
  search->is_known_shared = is_shared;
  search->known_guest = guest;
  search->known_host = host;
}

static void look_at_entry(struct search *search, const struct qcow2_old_table *table,
                          uint32_t index, const struct qcow2_l2_entry *entry)
{
  const struct qcow2_labels *labels = search->labels;
  const struct qcow2_geometry *geometry = &labels->layer->geometry;
  enum qcow2_cluster_kind kind = qcow2_l2_entry_decode(geometry, entry, 0).kind;
  uint64_t guest = ((uint64_t) table->l1_index << geometry->l2_bits) + index;
  uint8_t mark = labels_marks(labels, table)[index];

  if (kind == QCOW2_CLUSTER_UNALLOCATED && labels->state.borrows_tables)
    return; /* it may have been written after the table was */
  if (kind == QCOW2_CLUSTER_NORMAL && (mark & MARK_CONFLICT) == 0)
    meet_known(search, guest, (entry->descriptor & TABLE_OFFSET_MASK) >> geometry->cluster_bits,
               (mark & (MARK_OLDER | MARK_NEWER | MARK_ACTIVE)) != 0);
  else /* what was zeroed beside a gap was probably zeroed in it, too */
    search->has_known = false;
}

/* Note where a table of the state is. */
static int note_table(struct search *search, uint64_t l2_offset, struct qcow2_error *error)
{
  struct qcow2_gaps *gaps = &search->gaps;

  if (l2_offset == 0)
    return 0;
  if (gaps->table_count == search->table_capacity) {
    size_t capacity = search->table_capacity == 0 ? 64 : search->table_capacity * 2;
    uint64_t *more;

    if (capacity > TABLES_MAX) {
      search->labels->neighbours.has_more = true;
      return 0;
    }
    more = realloc(gaps->tables, capacity * sizeof(more[0]));
    if (more == NULL)
      return qcow2_error_set_nomem(error);
    gaps->tables = more;
    search->table_capacity = capacity;
  }
  gaps->tables[gaps->table_count++] = l2_offset >> search->labels->layer->geometry.cluster_bits;
  return 0;
}

static int look_at_table(struct search *search, const struct qcow2_old_table *table,
                         struct qcow2_error *error)
{
  struct qcow2_labels *labels = search->labels;
  const struct qcow2_geometry *geometry = &labels->layer->geometry;
  bool is_borrowed = labels->state.borrows_tables && table->label != QCOW2_LABEL_KEPT;

  if (table->l1_index != search->next_index && !labels->state.borrows_tables)
    search->has_known = false; /* there is nothing, says the L1 table */
  search->next_index = (uint64_t) table->l1_index + 1;
  if (!label_is_of_lost_table(table->label) && !is_borrowed) {
    if (qcow2_storage_read(&labels->layer->file.storage, table->l2_offset, labels->cluster,
                           geometry->cluster_size, NULL) != 0)
      search->has_known = false;
    else
      for (uint32_t index = 0; index < labels_entries(labels); index++) {
        struct qcow2_l2_entry entry =
            l2_entry_load(geometry, labels->cluster + (size_t) index * geometry->l2_entry_bytes);

        look_at_entry(search, table, index, &entry);
      }
  }
  return note_table(search, table->l2_offset, error);
}

static int find_gaps(struct search *search, struct qcow2_error *error)
{
  struct qcow2_labels *labels = search->labels;
  uint64_t first = labels->state.first_index, work = RESIDUE_WORK_BYTES;
  int code = 0;

  search->next_index = first;
  for (; code == 0 && first < labels->state.end_index; first = labels->end) {
    code = qcow2_labels_have(labels, first, &work, error);
    for (size_t i = 0; code == 0 && i < labels->table_count; i++)
      code = look_at_table(search, &labels->tables[i], error);
  }
  return code;
}

static int compare_gaps(const void *one, const void *other)
{
  const struct qcow2_gap *a = one, *b = other;

  return a->host < b->host ? -1 : a->host > b->host;
}

static int compare_words(const void *one, const void *other)
{
  const uint64_t *a = one, *b = other;

  return *a < *b ? -1 : *a > *b;
}

/* Sort, leave out gaps that have a cluster of the file in common, and number the slots. */
static void leave_out_disputed(struct qcow2_gaps *gaps)
{
  size_t count = 0;

  qsort(gaps->gaps, gaps->count, sizeof(gaps->gaps[0]), compare_gaps);
  gaps->slot_count = 0;
  for (size_t i = 0, next; i < gaps->count; i = next) {
    uint64_t end = gaps->gaps[i].host + gaps->gaps[i].host_count;

    for (next = i + 1; next < gaps->count && gaps->gaps[next].host < end; next++)
      if (gaps->gaps[next].host + gaps->gaps[next].host_count > end)
        end = gaps->gaps[next].host + gaps->gaps[next].host_count;
    if (next > i + 1)
      continue;
    gaps->gaps[count] = gaps->gaps[i];
    gaps->gaps[count++].first_slot = gaps->slot_count;
    gaps->slot_count += (size_t) gaps->gaps[i].host_count;
  }
  gaps->count = count;
}

/* ---- Placing -------------------------------------------------------------------------- */

/* Add a cluster to the runs. */
static int add_cluster(struct search *search, uint64_t guest, uint64_t host,
                       struct qcow2_error *error)
{
  struct qcow2_neighbours *neighbours = &search->labels->neighbours;
  struct qcow2_neighbours_run *last = neighbours->count == 0
                                          ? NULL
                                          : &neighbours->runs[neighbours->count - 1];

  if (last != NULL && last->guest + last->count == guest && last->host + last->count == host) {
    last->count++;
    return 0;
  }
  if (neighbours->count == search->run_capacity) {
    size_t capacity = search->run_capacity == 0 ? 16 : search->run_capacity * 2;
    struct qcow2_neighbours_run *more;

    if (capacity > RUNS_MAX) {
      neighbours->has_more = true;
      return 0;
    }
    more = realloc(neighbours->runs, capacity * sizeof(more[0]));
    if (more == NULL)
      return qcow2_error_set_nomem(error);
    neighbours->runs = more;
    search->run_capacity = capacity;
  }
  /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): it has room, so it is there */
  neighbours->runs[neighbours->count++] = (struct qcow2_neighbours_run){ guest, host, 1 };
  return 0;
}

/* What is laid side by side. */
struct laying {
  const struct qcow2_gap *gap;
  bool has_lost_tables; /* where an L2 table begins to map, it was in the next cluster of the file,
                           unless a table is before that */
  bool is_final;        /* clusters are placed; else it is only found out whether all fits */
};

/* Lay the guest clusters of a gap beside its clusters in the file. *fits becomes true if neither
   has more. */
static int lay(struct search *search, const struct laying *laying, bool *fits,
               struct qcow2_error *error)
{
  const struct qcow2_gap *gap = laying->gap;
  uint64_t guest = gap->guest, end = guest + gap->guest_count;
  uint32_t mask = labels_entries(search->labels) - 1;
  bool is_after_table = false;
  int code = 0;

  *fits = true;
  for (uint64_t i = 0; code == 0 && *fits && i < gap->host_count; i++) {
    uint8_t slot = search->gaps.slots[gap->first_slot + i];
    uint32_t claim = search->gaps.claims[gap->first_slot + i], index = (uint32_t) guest & mask;

    if (slot == GAP_TABLE ||
        (laying->has_lost_tables && index == 0 && !is_after_table && guest < end))
      is_after_table = true;
    else if (guest == end)
      *fits = false;
    else {
      if (laying->is_final && slot == GAP_DATA && (claim == 0 || claim == index + 1))
        code = add_cluster(search, guest, gap->host + i, error);
      is_after_table = false;
      guest++;
    }
  }
  *fits = *fits && guest == end;
  return code;
}

static int place(struct search *search, const struct qcow2_gap *gap, struct qcow2_error *error)
{
  struct laying laying = { .gap = gap };
  bool fits;
  int code = lay(search, &laying, &fits, error);

  if (code == 0 && !fits) {
    laying.has_lost_tables = true;
    code = lay(search, &laying, &fits, error);
  }
  laying.is_final = true;
  return code == 0 && fits ? lay(search, &laying, &fits, error) : code;
}

static int compare_runs(const void *one, const void *other)
{
  const struct qcow2_neighbours_run *a = one, *b = other;

  return a->guest < b->guest ? -1 : a->guest > b->guest;
}

static int place_all(struct search *search, struct qcow2_error *error)
{
  struct qcow2_neighbours *neighbours = &search->labels->neighbours;
  int code = 0;

  for (size_t i = 0; code == 0 && i < search->gaps.count; i++)
    code = place(search, &search->gaps.gaps[i], error);
  if (neighbours->count > 0)
    qsort(neighbours->runs, neighbours->count, sizeof(neighbours->runs[0]), compare_runs);
  return code;
}

/* ---- The whole ------------------------------------------------------------------------- */

/* With extended L2 entries it is not known which subclusters were ever written. */
static bool is_possible(const struct qcow2_labels *labels)
{
  return !labels->layer->geometry.extended_l2 && !labels->layer->geometry.has_data_file;
}

static int look_and_place(struct search *search, struct qcow2_error *error)
{
  struct qcow2_gaps *gaps = &search->gaps;
  int code;

  qsort(gaps->tables, gaps->table_count, sizeof(gaps->tables[0]), compare_words);
  gaps->slots = calloc(gaps->slot_count, sizeof(gaps->slots[0]));
  gaps->claims = calloc(gaps->slot_count, sizeof(gaps->claims[0]));
  if (gaps->slots == NULL || gaps->claims == NULL)
    return qcow2_error_set_nomem(error);
  code = qcow2_labels_look_at_gaps(search->labels, gaps, error);
  return code == 0 ? place_all(search, error) : code;
}

int qcow2_labels_place_by_neighbours(struct qcow2_labels *labels, struct qcow2_error *error)
{
  struct search search = { .labels = labels };
  int code;

  if (!is_possible(labels))
    return 0;
  search.file_clusters = labels->layer->file.storage.size >> labels->layer->geometry.cluster_bits;
  search.gaps.gaps = malloc(GAPS_MAX * sizeof(search.gaps.gaps[0]));
  code = search.gaps.gaps == NULL ? qcow2_error_set_nomem(error) : find_gaps(&search, error);
  if (code == 0)
    leave_out_disputed(&search.gaps);
  if (code == 0 && search.gaps.count > 0)
    code = look_and_place(&search, error);
  free(search.gaps.gaps);
  free(search.gaps.slots);
  free(search.gaps.claims);
  free(search.gaps.tables);
  return code;
}

int qcow2_labels_warn_of_neighbours(struct qcow2_view *view, const struct qcow2_labels *labels,
                                    struct qcow2_error *error)
{
  char text[512];

  if (!labels->state.by_neighbours)
    return 0;
  if (!is_possible(labels))
    return qcow2_view_warn(view,
                           "guessed: nothing is placed by its neighbours, because in an image with "
                           "extended L2 entries it is not known which subclusters were written",
                           error);
  snprintf(text, sizeof(text),
           "guessed: %" PRIu64 " bytes are from clusters that no table of this state names; they "
           "are shown because in the file they lie between clusters whose places are known%s",
           labels->bytes[QCOW2_LABEL_BY_NEIGHBOURS],
           labels->neighbours.has_more ? ". There may be more, a limit was reached" : "");
  return qcow2_view_warn(view, text, error);
}
