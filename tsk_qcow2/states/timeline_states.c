/* SPDX-License-Identifier: MIT */
/* Which states a timeline has, and what they are called. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "timeline.h"
#include "../command/recovered.h"

#define RECOVERED_MARK " (recovered)"

/* ---- Names ---------------------------------------------------------------------------- */

static bool ends_with(const struct qcow2_snapshot *snapshot, const char *end)
{
  size_t length = strlen(end);

  return snapshot->name_length >= length &&
         memcmp(snapshot->name + snapshot->name_length - length, end, length) == 0;
}

/* Names that are shown of other states, or that end as those of recovered ones. */
static bool is_misleading(const struct qcow2_snapshot *snapshot)
{
  const char *name = snapshot->name;
  size_t length = snapshot->name_length;

  return length == 0 || name[0] == '#' || strcmp(name, "active") == 0 || strcmp(name, "all") == 0 ||
         ends_with(snapshot, "recovered)") || ends_with(snapshot, "guessed)");
}

/* The snapshot's name, or "#" and its place in the table if the name does not tell it from
   others. */
static void name_live(const struct qcow2_image *image, size_t index, char out[256])
{
  const struct qcow2_snapshot *snapshot = qcow2_snapshot_get(image, index), *other;
  bool is_unique = snapshot != NULL && !is_misleading(snapshot);

  if (snapshot == NULL) {
    snprintf(out, 256, "active");
    return;
  }
  for (size_t i = 0; is_unique && (other = qcow2_snapshot_get(image, i)) != NULL; i++)
    is_unique = i == index || other->name_length != snapshot->name_length ||
                memcmp(other->name, snapshot->name, other->name_length) != 0;
  if (is_unique)
    qcow2_text_escape(snapshot->name, snapshot->name_length, out, 256 - sizeof(RECOVERED_MARK));
  else
    snprintf(out, 256, "#%zu", index);
}

/* The deleted snapshot's name, or where its L1 table is, and that it is recovered. */
static void name_deleted(const struct recovered_snapshot *one, char out[256])
{
  const struct qcow2_snapshot *snapshot = &one->snapshot;
  char name[200];

  if (one->is_name_unique && snapshot->name_length > 0 && !is_misleading(snapshot))
    qcow2_text_escape(snapshot->name, snapshot->name_length, name, sizeof(name));
  else
    snprintf(name, sizeof(name), "l1=%" PRIu64, snapshot->l1_offset);
  snprintf(out, 256, "%s" RECOVERED_MARK, name);
}

/* ---- Finding them --------------------------------------------------------------------------- */

static struct timeline_state *add_state(struct timeline_states *states, size_t index,
                                        bool is_recovered)
{
  struct timeline_state *state = &states->list[states->count++];

  state->wanted.snapshot_index = index;
  state->is_recovered = is_recovered;
  states->has_recovered = states->has_recovered || is_recovered;
  return state;
}

static void add_live(struct timeline_states *states, const struct tsk_qcow2_opened *opened,
                     size_t index)
{
  struct timeline_state *state = add_state(states, index, opened->is_in_recovered);

  name_live(opened->image, index, state->name);
  if (opened->is_in_recovered)
    strncat(state->name, RECOVERED_MARK, sizeof(state->name) - strlen(state->name) - 1);
}

static void add_deleted(struct timeline_states *states, const struct recovered_snapshot *one)
{
  struct timeline_state *state = add_state(states, QCOW2_ACTIVE, true);

  state->wanted.deleted_l1 = one->snapshot.l1_offset;
  name_deleted(one, state->name);
}

static void add_abandoned(struct timeline_states *states)
{
  snprintf(add_state(states, QCOW2_ACTIVE, true)->name, sizeof(states->list[0].name),
           "abandoned (recovered, guessed)");
}

/* Those that are not recovered: the snapshots in the order of the table, and the active disk. */
static void add_all_live(struct timeline_states *states, const struct tsk_qcow2_opened *opened)
{
  for (size_t i = 0; i < qcow2_snapshot_count(opened->image); i++)
    add_live(states, opened, i);
  add_live(states, opened, QCOW2_ACTIVE);
}

bool timeline_states_find(struct timeline_states *states, const struct qcow2_disk *image,
                          bool with_recovered)
{
  const struct tsk_qcow2_opened *opened = tsk_qcow2_disk_opened(image);
  bool wants_deleted = with_recovered || opened->deleted_l1 != 0;
  struct recovered_list *found = wants_deleted
                                     ? recovered_find(opened->image, opened->deleted_l1, false)
                                     : NULL;
  size_t count = qcow2_snapshot_count(opened->image) + 1 + RECOVERED_MAX;

  states->list = calloc(count, sizeof(states->list[0]));
  if (states->list == NULL || (wants_deleted && found == NULL)) {
    recovered_free(found);
    return false;
  }
  if (opened->is_abandoned)
    add_abandoned(states);
  else if (opened->snapshot_index != QCOW2_ACTIVE)
    add_live(states, opened, opened->snapshot_index);
  else if (opened->deleted_l1 == 0)
    add_all_live(states, opened);
  for (size_t i = 0; found != NULL && i < found->count; i++)
    add_deleted(states, &found->list[i]);
  if (states->count == 0) { /* nothing more is known of the chosen one */
    const struct recovered_snapshot one = { .snapshot = { .l1_offset = opened->deleted_l1 } };

    add_deleted(states, &one);
  }
  if (found != NULL)
    recovered_complain_missing(found);
  states->may_lack_some = found != NULL && found->is_incomplete;
  recovered_free(found);
  return true;
}

void timeline_states_free(struct timeline_states *states)
{
  for (size_t i = 0; i < states->count; i++)
    free(states->list[i].shares);
  free(states->list);
  memset(states, 0, sizeof(*states));
}

void timeline_state_note(struct timeline_state *state, const struct qcow2_view *view)
{
  char shares[RECOVERED_SHARES_BYTES];

  if (state->is_recovered && recovered_view_shares(view, shares)[0] != '\0')
    state->shares = strdup(shares);
}

/* ---- Those of an event ------------------------------------------------------------------ */

/* Append to the list. False: it does not fit. */
static bool add_span(const struct timeline_states *states, const struct event_span *span, char *out,
                     size_t *used)
{
  const char *first = states->list[span->first].name, *last = states->list[span->last].name;
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

  if (span->first == 0 && span->last + 1 == states->count && !states->has_recovered) {
    snprintf(out, TIMELINE_STATES_BYTES, "all");
    return out;
  }
  while (add_span(states, span, out, &used) && span->next != EVENT_NONE)
    span = &events->spans[span->next];
  return out;
}

/* Append a state to the list. False: it does not fit. */
static bool add_recovered(const struct timeline_state *state, char *out, size_t *used)
{
  size_t room = TIMELINE_STATES_BYTES - *used;
  int length = snprintf(out + *used, room, "%s%s: %s", *used == 0 ? "" : " | ", state->name,
                        state->shares == NULL ? "how much is left is not known" : state->shares);

  if (length < 0 || (size_t) length + sizeof(" | ...") > room) {
    snprintf(out + *used, room, " | ...");
    return false;
  }
  *used += (size_t) length;
  return true;
}

const char *timeline_recovered_in(const struct events *events, const struct event *event,
                                  const struct timeline_states *states,
                                  char out[TIMELINE_STATES_BYTES])
{
  size_t used = 0;

  out[0] = '\0';
  for (uint32_t at = event->first_span; at != EVENT_NONE; at = events->spans[at].next)
    for (uint32_t i = events->spans[at].first; i <= events->spans[at].last; i++)
      if (states->list[i].is_recovered && !add_recovered(&states->list[i], out, &used))
        return out;
  return out;
}
