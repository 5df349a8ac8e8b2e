/* SPDX-License-Identifier: MIT */
/* Printing a timeline. */
#ifndef TSK_QCOW2_STATES_TIMELINE_H
#define TSK_QCOW2_STATES_TIMELINE_H

#include "events.h"

/* Names of states, in the order in which events know them. */
struct timeline_states {
  char (*names)[256]; /* escaped */
  size_t count;
};

#define TIMELINE_STATES_BYTES 1024u

/* Write the states in which an event is seen: "all", or a list of names, with ".." for several in
   sequence. What does not fit is "...". Returns `out`. */
const char *timeline_seen_in(const struct events *events, const struct event *event,
                             const struct timeline_states *states, char out[TIMELINE_STATES_BYTES]);

/* Print mactime's body format, the states after each name. False: no memory. */
bool timeline_print_body(const struct events *events, const struct timeline_states *states);

/* Print what mactime -d makes of that, with the states in a column of their own, times in the zone
   of the environment. False: no memory. */
bool timeline_print_csv(const struct events *events, const struct timeline_states *states);

#endif
