/* SPDX-License-Identifier: MIT */
#include "events.h"

#include <stdlib.h>
#include <string.h>

#include "keyed_hash.h"

/* ---- Memory ---------------------------------------------------------------------------- */

/* Make room for one more item of an array. */
static bool grow(void **items, size_t count, size_t *room, size_t item_size)
{
  size_t wanted = *room == 0 ? 256 : *room * 2;
  void *more;

  if (count < *room)
    return true;
  more = realloc(*items, wanted * item_size);
  if (more == NULL)
    return false;
  *items = more;
  *room = wanted;
  return true;
}

static bool add_text(struct events *events, const char *text, uint64_t *offset)
{
  size_t length = strlen(text) + 1;

  if (events->texts_used + length > events->texts_room) {
    size_t room = events->texts_room * 2 + length + 65536;
    char *texts = realloc(events->texts, room);

    if (texts == NULL)
      return false;
    events->texts = texts;
    events->texts_room = room;
  }
  *offset = events->texts_used;
  memcpy(events->texts + events->texts_used, text, length);
  events->texts_used += length;
  return true;
}

const char *event_text(const struct events *events, uint64_t offset)
{
  return events->texts + offset;
}

/* ---- The table --------------------------------------------------------------------------- */

static uint64_t hash_of(const char *name, const struct body_facts *facts)
{
  struct keyed_hash hash;

  keyed_hash_start(&hash);
  keyed_hash_add(&hash, name, strlen(name) + 1);
  keyed_hash_add(&hash, facts->inode, strlen(facts->inode) + 1);
  for (int time = 0; time < ENTRY_TIMES; time++)
    keyed_hash_add_number(&hash, (uint64_t) facts->times[time]);
  keyed_hash_add_number(&hash, (uint64_t) facts->size);
  return keyed_hash_finish(&hash);
}

static bool is_it(const struct events *events, uint32_t index, const char *name,
                  const struct body_facts *facts)
{
  const struct event *event = &events->list[index];

  return event->size == facts->size && event->uid == facts->uid && event->gid == facts->gid &&
         memcmp(event->times, facts->times, sizeof(event->times)) == 0 &&
         strcmp(event_text(events, event->inode_offset), facts->inode) == 0 &&
         strcmp(event_text(events, event->mode_offset), facts->mode) == 0 &&
         strcmp(event_text(events, event->name_offset), name) == 0;
}

static struct body_facts facts_of(const struct events *events, const struct event *event)
{
  struct body_facts facts = { .uid = event->uid, .gid = event->gid, .size = event->size };

  memcpy(facts.times, event->times, sizeof(facts.times));
  strncpy(facts.inode, event_text(events, event->inode_offset), sizeof(facts.inode) - 1);
  return facts;
}

static void put_into_slot(struct events *events, uint64_t hash, uint32_t index)
{
  size_t slot = (size_t) hash & (events->slot_count - 1);

  while (events->slots[slot] != EVENT_NONE)
    slot = (slot + 1) & (events->slot_count - 1);
  events->slots[slot] = index;
}

static bool grow_slots(struct events *events)
{
  size_t slot_count = events->slot_count == 0 ? 1024 : events->slot_count * 2;
  uint32_t *slots;

  if (events->count * 2 < events->slot_count)
    return true;
  slots = malloc(slot_count * sizeof(slots[0]));
  if (slots == NULL)
    return false;
  memset(slots, 0xff, slot_count * sizeof(slots[0])); /* EVENT_NONE */
  free(events->slots);
  events->slots = slots;
  events->slot_count = slot_count;
  for (size_t i = 0; i < events->count; i++) {
    struct body_facts facts = facts_of(events, &events->list[i]);

    put_into_slot(events, hash_of(event_text(events, events->list[i].name_offset), &facts),
                  (uint32_t) i);
  }
  return true;
}

static uint32_t find(const struct events *events, uint64_t hash, const char *name,
                     const struct body_facts *facts)
{
  size_t slot = (size_t) hash & (events->slot_count - 1);

  while (events->slots[slot] != EVENT_NONE && !is_it(events, events->slots[slot], name, facts))
    slot = (slot + 1) & (events->slot_count - 1);
  return events->slots[slot];
}

/* ---- Adding -------------------------------------------------------------------------------- */

static bool add_span(struct events *events, uint32_t state, uint32_t *index)
{
  void *spans = events->spans;

  if (!grow(&spans, events->span_count, &events->span_room, sizeof(events->spans[0])))
    return false;
  events->spans = spans;
  *index = (uint32_t) events->span_count;
  events->spans[events->span_count++] =
      (struct event_span){ .first = state, .last = state, .next = EVENT_NONE };
  return true;
}

static bool add_event(struct events *events, uint32_t state, uint64_t hash, const char *name,
                      const struct body_facts *facts)
{
  struct event event = { .uid = facts->uid, .gid = facts->gid, .size = facts->size };
  void *list = events->list;

  if (!grow(&list, events->count, &events->room, sizeof(event)))
    return false;
  events->list = list;
  memcpy(event.times, facts->times, sizeof(event.times));
  if (!add_text(events, name, &event.name_offset) ||
      !add_text(events, facts->inode, &event.inode_offset) ||
      !add_text(events, facts->mode, &event.mode_offset) ||
      !add_span(events, state, &event.first_span))
    return false;
  event.last_span = event.first_span;
  put_into_slot(events, hash, (uint32_t) events->count);
  events->list[events->count++] = event;
  return true;
}

/* A line that is known is seen in one more state. */
static bool extend(struct events *events, struct event *event, uint32_t state)
{
  struct event_span *last = &events->spans[event->last_span];
  uint32_t added;

  if (state == last->last)
    return true;
  if (state == last->last + 1) {
    last->last = state;
    return true;
  }
  if (events->span_count >= EVENT_SPANS_MAX) {
    events->is_cut = true;
    return true;
  }
  if (!add_span(events, state, &added))
    return false;
  events->spans[event->last_span].next = added;
  event->last_span = added;
  return true;
}

bool events_add(struct events *events, uint32_t state, const char *name,
                const struct body_facts *facts)
{
  uint64_t hash = hash_of(name, facts);
  uint32_t known;

  if (!grow_slots(events))
    return false;
  known = find(events, hash, name, facts);
  if (known != EVENT_NONE)
    return extend(events, &events->list[known], state);
  if (events->count >= EVENTS_MAX || events->span_count >= EVENT_SPANS_MAX ||
      events->texts_used >= EVENT_TEXTS_MAX) {
    events->is_cut = true;
    return true;
  }
  return add_event(events, state, hash, name, facts);
}

void events_free(struct events *events)
{
  free(events->list);
  free(events->slots);
  free(events->spans);
  free(events->texts);
  memset(events, 0, sizeof(*events));
}
