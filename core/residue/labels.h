/* SPDX-License-Identifier: MIT */
/*
 * Old tables, such as those of a deleted snapshot, as a view in which every cluster has a label
 * (enum qcow2_label). Where the L2 tables are is known from an old L1 table, or found out
 * otherwise.
 *
 * The labels come from walks over all tables that the image still has. These note which of their
 * entries name the same cluster at the same guest offset as the old tables do, and make a map
 * (map.h) of everything else that they name: what of that the old tables name too is reused.
 */
#ifndef QCOW2_RESIDUE_LABELS_H
#define QCOW2_RESIDUE_LABELS_H

#include <pthread.h>

#include "../image/view.h"
#include "classify.h"
#include "neighbours.h"
#include "window.h"

/* One old L2 table. */
struct qcow2_old_table {
  uint64_t l2_offset; /* host offset */
  uint32_t l1_index;
  uint8_t label;   /* enum qcow2_label: KEPT, SHARED_..., LOST_TABLE or PUNCHED */
  uint8_t sharing; /* MARK_OLDER and so on: what else has this table */
};

/* What is noted of an entry of such a table. */
enum qcow2_mark {
  MARK_OLDER = 1, /* an older snapshot, a newer one, the active disk has the same there */
  MARK_NEWER = 2,
  MARK_ACTIVE = 4,
  MARK_REUSED = 8,
  MARK_CONFLICT = 16, /* another entry of the old tables names the same cluster */
  MARK_STORED = 32,   /* the cluster was looked at: it is not all zeros */
  MARK_PUNCHED = 64   /* it is */
};

/* A state whose tables are old. */
struct qcow2_old_state {
  void *context; /* passed to both */
  /* Fill `tables` (l1_index and l2_offset) with the L2 tables of L1 entries from `first` on, in
     ascending order, at most `max`. *next becomes the L1 index up to which all are there. Errors:
     IO, NOMEM. */
  int (*list)(void *context, uint64_t first, struct qcow2_old_table *tables, size_t max,
              size_t *count, uint64_t *next, struct qcow2_error *error);
  void (*close)(void *context);    /* NULL: nothing to do */
  uint64_t first_index, end_index; /* of the L1 entries that the view needs */
  uint64_t start, size;            /* of the view: a guest offset, and bytes */
  uint64_t l1_offset, l1_bytes;    /* host bytes of the old L1 table; 0: there is none */
  size_t older_count;              /* so many of the image's snapshots are older: the first ones */
  bool is_vm_state;                /* no backing file is read */
  bool borrows_tables; /* tables that are not kept are another state's, taken for want of its own */
  bool only_kept;      /* what is neither kept nor shared-older nor absent is lost */
  bool under_zeros;    /* zero, allocated clusters are those that are stored */
  bool by_neighbours;  /* clusters that no table names are placed by their neighbours */
  const struct qcow2_snapshot *snapshot; /* a deleted one, owned by the context; NULL: none */
};

struct qcow2_labels {
  const struct qcow2_image *image;
  const struct qcow2_layer *layer; /* its topmost file */
  struct qcow2_old_state state;
  pthread_mutex_t lock;             /* for all of the following */
  struct qcow2_residue_looks looks; /* with a scratch of its own */
  uint8_t *cluster;                 /* room for one */
  uint64_t first, end;              /* L1 entries of which the tables and marks are here */
  struct qcow2_old_table *tables;
  size_t table_count, table_capacity;
  uint8_t *marks;           /* (enum qcow2_mark) for each entry of each table */
  bool is_l1_reused;        /* something refers to the old L1 table's bytes */
  bool has_gaps;            /* some of the file cannot be read, so labels may be wrong */
  bool is_open;             /* it was said whether there are gaps */
  uint64_t uncovered_bytes; /* of the view: those that are shown though the tables say zeros */
  struct qcow2_neighbours neighbours; /* what was placed by neighbours, before anything is read */
  uint64_t bytes[QCOW2_LABELS_MAX]; /* of the view, by label; holes count as punched, other zeros do
                                       not */
};

/* Check the flags for a view with labels; `others` may be set, too. Errors: ARGUMENT. */
int qcow2_labels_check_flags(unsigned flags, unsigned others, struct qcow2_error *error);

/* Label the clusters of an old state, which is owned from the call on, also on failure, and open a
   view of it. Its `warning` says how many bytes have each label. Errors: NOT_FOUND (something
   refers to the old L1 table), UNSUPPORTED (the bound of work), NOMEM, IO, ARGUMENT. */
int qcow2_labels_open_view(struct qcow2_image *image, const struct qcow2_old_state *state,
                           struct qcow2_view **view, struct qcow2_error *error);

/* Only count how many bytes have each label. `bytes` has QCOW2_LABELS_MAX elements. */
int qcow2_labels_count(const struct qcow2_image *image, const struct qcow2_old_state *state,
                       uint64_t *bytes, struct qcow2_error *error);

/* Write how many bytes have each label: those that are there, and those that are lost. Clusters
   that are stored as zeros were not looked at. */
void qcow2_labels_print(const struct qcow2_labels *labels, char *out, size_t size);

/* Add to the view's warnings what was placed by neighbours, if that was wanted. Errors: NOMEM. */
int qcow2_labels_warn_of_neighbours(struct qcow2_view *view, const struct qcow2_labels *labels,
                                    struct qcow2_error *error);

/* Add to the view's warnings how many bytes are shown that the tables say are zeros, if that was
   wanted. `state` is what it shows. Errors: NOMEM. */
int qcow2_labels_warn_of_zeros(struct qcow2_view *view, const struct qcow2_labels *labels,
                               const char *state, struct qcow2_error *error);

/* The labels of a view; NULL: it has none. *start becomes the guest offset where the view begins.
 */
struct qcow2_labels *qcow2_labels_of_view(const struct qcow2_view *view, uint64_t *start);

/* ---- Inside ------------------------------------------------------------------- */

/* The number of entries of an L2 table. */
static inline uint32_t labels_entries(const struct qcow2_labels *labels)
{
  return UINT32_C(1) << labels->layer->geometry.l2_bits;
}

static inline bool label_is_of_lost_table(uint8_t label)
{
  return label == QCOW2_LABEL_LOST_TABLE || label == QCOW2_LABEL_PUNCHED;
}

/* Have the table of an L1 entry at hand, if there is one, and those up to labels->end. *work is
   what labelling them may cost, and what is left of that. Errors: UNSUPPORTED, NOMEM, IO. */
int qcow2_labels_have(struct qcow2_labels *labels, uint64_t l1_index, uint64_t *work,
                      struct qcow2_error *error);

/* Find the table of an L1 entry that is at hand; NULL: there is none. */
struct qcow2_old_table *qcow2_labels_table(const struct qcow2_labels *labels, uint64_t l1_index);

/* The marks of a table's entries. */
static inline uint8_t *labels_marks(const struct qcow2_labels *labels,
                                    const struct qcow2_old_table *table)
{
  return labels->marks + (size_t) (table - labels->tables) * labels_entries(labels);
}

/* Label the tables that were listed, and mark their entries (label_walk.c). The `tables` begin with
   sharing and marks of zero. *work is what it may cost, and what is left of that. Errors:
   UNSUPPORTED, NOMEM. */
int qcow2_labels_walk(struct qcow2_labels *labels, uint64_t *work, struct qcow2_error *error);

/* The label of a part of the cluster that an entry of a table describes; the cluster is looked at
   only if `is_deep` (label_rules.c). */
enum qcow2_label qcow2_labels_of_entry(struct qcow2_labels *labels,
                                       const struct qcow2_old_table *table, uint32_t index,
                                       const struct qcow2_mapping *part, bool is_deep);

/* True if a view gives bytes, and no error, where it has this label. */
bool qcow2_labels_shows(const struct qcow2_labels *labels, enum qcow2_label label);

/* Turn a run that is zero, allocated, into one of what is stored there, if this is to be shown. If
   the first cluster has nothing but zeros, the run is cut to it, and stays zeros. */
void qcow2_labels_uncover(struct qcow2_labels *labels, const struct qcow2_old_table *table,
                          struct qcow2_mapping *mapping);

/* Turn the mapping into an error if the label says that there is nothing to read. */
void qcow2_labels_apply(const struct qcow2_labels *labels, enum qcow2_label label,
                        struct qcow2_mapping *mapping);

/* Find what is at a guest offset, and its label (label_find.c). With the lock. Errors: those of
   qcow2_labels_have() and qcow2_mapping_find_in_l2(). */
int qcow2_labels_find_label(struct qcow2_labels *labels, uint64_t guest_offset, uint64_t length,
                            struct qcow2_mapping *mapping, enum qcow2_label *label,
                            struct qcow2_error *error);

/* The same for reading (a qcow2_stack_top). */
int qcow2_labels_find(void *labels, uint64_t guest_offset, uint64_t length,
                      struct qcow2_mapping *mapping, struct qcow2_error *error);

/* Place clusters by their neighbours (label_neighbours.c) where the tables are lost or, if the
   state borrows tables, where its own do not say otherwise. labels->neighbours becomes what was
   placed; its runs are freed with the labels, also after an error. Errors: those of
   qcow2_labels_have(). */
int qcow2_labels_place_by_neighbours(struct qcow2_labels *labels, struct qcow2_error *error);

/* Fill slots and claims (label_gaps.c). They begin as zeros, and `tables` is there. Errors: NOMEM,
   UNSUPPORTED (the bound of work). */
int qcow2_labels_look_at_gaps(struct qcow2_labels *labels, struct qcow2_gaps *gaps,
                              struct qcow2_error *error);

/* Label everything, and count it (label_counts.c). Errors: those of qcow2_labels_have(). */
int qcow2_labels_count_all(struct qcow2_labels *labels, struct qcow2_error *error);

#endif
