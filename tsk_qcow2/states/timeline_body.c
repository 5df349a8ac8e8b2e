/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "timeline.h"

#define NAME_BYTES (4u * (ENTRY_PATH_BYTES + 8192u))

/* Append to the list. False: it does not fit. */
static bool add_span(const struct timeline_states *states, const struct event_span *span, char *out,
                     size_t *used)
{
  const char *first = states->names[span->first], *last = states->names[span->last];
  size_t room = TIMELINE_STATES_BYTES - *used;
  const char *between = span->last == span->first       ? ""
                        : span->last == span->first + 1 ? ", "
                                                        : "..";
  int length = snprintf(out + *used, room, "%s%s%s%s", *used == 0 ? "" : ", ", first, between,
                        span->last == span->first ? "" : last);

  if (length < 0 || (size_t) length + sizeof(", ...") > room) {
    snprintf(out + *used, room, ", ...");
    return false;
  }
  *used += (size_t) length;
  return true;
}

const char *timeline_seen_in(const struct events *events, const struct event *event,
                             const struct timeline_states *states, char out[TIMELINE_STATES_BYTES])
{
  const struct event_span *span = &events->spans[event->first_span];
  size_t used = 0;

  if (span->first == 0 && span->last + 1 == states->count) {
    snprintf(out, TIMELINE_STATES_BYTES, "all");
    return out;
  }
  while (add_span(states, span, out, &used) && span->next != EVENT_NONE)
    span = &events->spans[span->next];
  return out;
}

bool timeline_print_body(const struct events *events, const struct timeline_states *states)
{
  char *name = malloc(NAME_BYTES);
  char seen[TIMELINE_STATES_BYTES], escaped[4 * TIMELINE_STATES_BYTES];

  if (name == NULL)
    return false;
  for (size_t i = 0; i < events->count; i++) {
    const struct event *event = &events->list[i];

    body_escape(event_text(events, event->name_offset), name, NAME_BYTES);
    body_escape(timeline_seen_in(events, event, states, seen), escaped, sizeof(escaped));
    printf("0|%s [in %s]|%s|%s|%" PRIu32 "|%" PRIu32 "|%" PRId64, name, escaped,
           event_text(events, event->inode_offset), event_text(events, event->mode_offset),
           event->uid, event->gid, event->size);
    printf("|%" PRId64 "|%" PRId64 "|%" PRId64 "|%" PRId64 "\n", event->times[TIME_ACCESSED],
           event->times[TIME_MODIFIED], event->times[TIME_CHANGED], event->times[TIME_BORN]);
  }
  free(name);
  return true;
}
