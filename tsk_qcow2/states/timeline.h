/* SPDX-License-Identifier: MIT */
/* The states of a timeline, and printing it. */
#ifndef TSK_QCOW2_STATES_TIMELINE_H
#define TSK_QCOW2_STATES_TIMELINE_H

#include "disk.h"
#include "events.h"

/* ---- States ------------------------------------------------------------------------------- */

struct timeline_state {
  struct tsk_qcow2_state wanted;
  char name[256]; /* by which it is shown; escaped */
  bool is_recovered;
  char *shares; /* how much of it is left, once it was opened; NULL: that is not known */
};

/* In the order in which events know them: recovered ones are the last. */
struct timeline_states {
  struct timeline_state *list;
  size_t count;
  bool has_recovered;
  bool may_lack_some; /* deleted snapshots, because something could not be read */
};

/* Find the states of an image, or the one that its name chooses. `with_recovered`: deleted
   snapshots too. False: no memory. The caller frees with timeline_states_free(), also then. */
bool timeline_states_find(struct timeline_states *states, const struct qcow2_disk *image,
                          bool with_recovered);
void timeline_states_free(struct timeline_states *states);

/* Note how much is left of a state, by its view. */
void timeline_state_note(struct timeline_state *state, const struct qcow2_view *view);

#define TIMELINE_STATES_BYTES 1024u

/* Write the states in which an event is seen: "all", unless some are recovered, or a list of names,
   with ".." for several in sequence. What does not fit is "...". Returns `out`. */
const char *timeline_seen_in(const struct events *events, const struct event *event,
                             const struct timeline_states *states, char out[TIMELINE_STATES_BYTES]);

/* Write those of them that are recovered, each with how much of it is left; "": none is. Returns
   `out`. */
const char *timeline_recovered_in(const struct events *events, const struct event *event,
                                  const struct timeline_states *states,
                                  char out[TIMELINE_STATES_BYTES]);

/* ---- Printing ----------------------------------------------------------------------------- */

/* Print mactime's body format, the states after each name. False: no memory. */
bool timeline_print_body(const struct events *events, const struct timeline_states *states);

/* Print what mactime -d makes of that, with the states in a column of their own, and one more if
   some are recovered; times in the zone of the environment. False: no memory. */
bool timeline_print_csv(const struct events *events, const struct timeline_states *states);

#endif
