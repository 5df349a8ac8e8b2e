/* SPDX-License-Identifier: MIT */
/* The lines of a timeline, each once, with the states in which it is seen. */
#ifndef TSK_QCOW2_STATES_EVENTS_H
#define TSK_QCOW2_STATES_EVENTS_H

#include "body.h"

/* How many lines, spans and bytes of text are kept. The rest is left out, and is_cut is set. */
#define EVENTS_MAX 4000000u
#define EVENT_SPANS_MAX 16000000u
#define EVENT_TEXTS_MAX (UINT64_C(1) << 30)
#define EVENT_NONE UINT32_MAX

/* A run of states, counted from 0, in which a line is seen. */
struct event_span {
  uint32_t first, last;
  uint32_t next; /* index of the span that follows; EVENT_NONE: the last */
};

struct event {
  uint64_t name_offset; /* in the pool of texts: the path, as printed */
  uint64_t inode_offset, mode_offset;
  uint32_t uid, gid;
  int64_t size;
  int64_t times[ENTRY_TIMES];
  uint32_t first_span, last_span;
};

/* All zero: empty. */
struct events {
  struct event *list;
  size_t count, room;
  uint32_t *slots; /* a table by content; EVENT_NONE: free */
  size_t slot_count;
  struct event_span *spans;
  size_t span_count, span_room;
  char *texts;
  size_t texts_used, texts_room;
  bool is_cut;
};

/* Note that a line is seen in a state; states come in ascending order. False: no memory. */
bool events_add(struct events *events, uint32_t state, const char *name,
                const struct body_facts *facts);

const char *event_text(const struct events *events, uint64_t offset);

void events_free(struct events *events);

#endif
