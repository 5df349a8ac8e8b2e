/* SPDX-License-Identifier: MIT */
/* Old L2 tables that no L1 table leads to: those that have a place on the disk, and those that have
   none. Pure: no I/O. */
#ifndef QCOW2_RESIDUE_PLACED_H
#define QCOW2_RESIDUE_PLACED_H

#include "../base/bytes.h"
#include "../format/geometry.h"

/* A table that was placed. */
struct qcow2_placed_table {
  uint64_t l2_offset; /* host offset */
  uint32_t l1_index;
  uint32_t votes;
};

struct qcow2_placed {
  struct qcow2_placed_table *tables; /* ascending by l1_index, none twice */
  size_t count;
  size_t lost;           /* tables without votes, or whose votes disagree */
  uint64_t *lost_tables; /* their host offsets, ascending */
  uint8_t *lost_entries; /* for each of them: a bit for each entry that is in use. NULL: there are
                            too many */
  size_t of_old_l1;      /* tables that were left out, because an old L1 table leads to them */
  size_t by_content, by_order; /* of the tables with a place: those without votes */
  size_t contested;            /* tables for a place that another one has, with more votes */
  size_t base;                 /* the snapshot that shares most with them, or QCOW2_ACTIVE */
  bool is_complete;
};

/* Sort the tables. Of those for one place, keep that with the most votes. */
void qcow2_placed_keep_best(struct qcow2_placed *placed);

/* Give lost tables the places that are noted at the same positions of `l1_indexes`; UINT32_MAX: it
   stays lost. */
void qcow2_placed_add(struct qcow2_placed *placed, const struct qcow2_geometry *geometry,
                      const uint32_t *l1_indexes);

/* Forget a lost table: it is none. */
void qcow2_placed_forget(struct qcow2_placed *placed, const struct qcow2_geometry *geometry,
                         uint64_t l2_offset);

/* The table that is placed at an L1 index; NULL: none is. */
const struct qcow2_placed_table *qcow2_placed_find(const struct qcow2_placed *placed,
                                                   uint64_t l1_index);

/* True if a table that has no place can belong where this L2 table is, which is in use: it is a
   copy of that, made to be changed, so it has all its entries and shares none of them. */
bool qcow2_placed_is_doubtful(const struct qcow2_placed *placed,
                              const struct qcow2_geometry *geometry, const uint8_t *l2_table);
/* All zero is allowed. */
void qcow2_placed_free(struct qcow2_placed *placed);

/* True if the entry of an L2 table is in use. */
static inline bool qcow2_placed_is_used(const struct qcow2_geometry *geometry, const uint8_t *table,
                                        uint32_t index)
{
  return be64_get(table + (size_t) index * geometry->l2_entry_bytes) != 0;
}

#endif
