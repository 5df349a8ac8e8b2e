/* SPDX-License-Identifier: MIT */
/* Recovered states: those of deleted snapshots, and an abandoned one. They are read by tables that
   the image no longer uses, so how much is left of each is part of what is said about it. */
#ifndef TSK_QCOW2_RECOVERED_H
#define TSK_QCOW2_RECOVERED_H

#include <jansson.h>

#include "opened.h"

/* ---- A state that is open ---------------------------------------------------------- */

/* Write what state it is, such as "deleted snapshot ID 1 "monday" of 2026-03-01 10:12:00 (UTC)".
   `view` is of it, or NULL if it cannot be read. Returns `out`. */
#define RECOVERED_TITLE_BYTES 512u
char *recovered_title(const struct tsk_qcow2_opened *opened, const struct qcow2_view *view,
                      char out[RECOVERED_TITLE_BYTES]);

/* Write how many bytes have each label, such as "kept 4096; lost: nothing". `bytes` has
   QCOW2_LABELS_MAX elements. Returns `out`. */
#define RECOVERED_SHARES_BYTES 512u
char *recovered_shares(const uint64_t *bytes, char out[RECOVERED_SHARES_BYTES]);

/* The same of a view; "": it has no labels. */
char *recovered_view_shares(const struct qcow2_view *view, char out[RECOVERED_SHARES_BYTES]);

/* The same as an object. Of a view: null if it has no labels, or is NULL. */
json_t *recovered_labels(const uint64_t *bytes);
json_t *recovered_view_labels(const struct qcow2_view *view);

/* Which state it is, and how much of it is left; null: it is not a recovered one. Without a view,
   the labels of a deleted snapshot are counted, which takes walks over all tables, and those of
   other states are null. */
json_t *recovered_value(const struct tsk_qcow2_opened *opened);

/* ---- Two states that are compared ------------------------------------------------------ */

/* Print a line about each that is recovered, with how much of it is left. */
void recovered_print_sides(const struct tsk_qcow2_opened *const opened[2]);

/* The same as lines of JSON. False: no memory. */
bool recovered_print_json_sides(const struct tsk_qcow2_opened *const opened[2]);

/* What to append to a line about them: "" or, for instance, "; A and B recovered". */
const char *recovered_mark(const bool is_recovered[2]);

/* A list of those that are recovered, "a" and "b". */
json_t *recovered_mark_value(const bool is_recovered[2]);

/* ---- Deleted snapshots of an image ---------------------------------------------------- */

/* At most this many are opened or counted: each takes walks over all tables. */
#define RECOVERED_MAX 32u

struct recovered_snapshot {
  struct qcow2_snapshot snapshot; /* ID and name are NULL if they have a NUL, or are too long */
  uint64_t bytes[QCOW2_LABELS_MAX];
  bool is_name_unique;
};

struct recovered_list {
  struct recovered_snapshot list[RECOVERED_MAX]; /* those that can be read */
  size_t count;
  size_t more;        /* that may be readable, too, but are not in the list */
  size_t lost;        /* of which an entry is left, but no L1 table */
  bool is_incomplete; /* there may be others, or their labels may be wrong: something failed */
  char lost_names[400];
};

/* Find those that can be read; with `only_l1` not 0, only that whose L1 table is there. With
   `is_counted`, find out how many bytes have each label, and leave out what turns out to be lost.
   If they cannot be looked for, that is said on stderr, and the list is empty; so is it said if the
   list is incomplete. An image of version 1 has none. NULL: no memory, after complaining. The
   caller frees it with recovered_free(). */
struct recovered_list *recovered_find(const struct qcow2_image *image, uint64_t only_l1,
                                      bool is_counted);

/* NULL is allowed. */
void recovered_free(struct recovered_list *list);

/* Say on stderr which deleted snapshots are not in the list. */
void recovered_complain_missing(const struct recovered_list *list);

#endif
