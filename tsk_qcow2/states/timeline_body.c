/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "timeline.h"

#define NAME_BYTES (4u * (ENTRY_PATH_BYTES + 8192u))

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
