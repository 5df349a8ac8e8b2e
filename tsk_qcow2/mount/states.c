/* SPDX-License-Identifier: MIT */
#include "states.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* States that stay open though nothing uses them, each with what it takes (up to 2 MiB, if it is
   much damaged). Damage is reported once as long as they do. */
#define IDLE_MAX 32u

struct entry {
  struct states *states;
  struct tsk_qcow2_state state;
  struct qcow2_disk *disk; /* NULL: closed */
  unsigned users;
  bool is_new; /* nothing was reported of it yet */
};

struct states {
  const struct qcow2_disk *image;
  states_report *report;
  void *context;
  struct entry *entries;
  size_t count, room;
  pthread_mutex_t lock;      /* of what follows, and of the entries' users and disks */
  size_t idle[IDLE_MAX + 1]; /* open, and not in use; the one that was used last is the last */
  size_t idle_count;
  bool is_damaged; /* atomic */
};

struct states *states_new(const struct qcow2_disk *image, states_report *report, void *context)
{
  struct states *states = calloc(1, sizeof(*states));

  if (states == NULL)
    return NULL;
  states->image = image;
  states->report = report;
  states->context = context;
  pthread_mutex_init(&states->lock, NULL);
  return states;
}

void states_free(struct states *states)
{
  if (states == NULL)
    return;
  for (size_t i = 0; i < states->count; i++)
    qcow2_disk_close(states->entries[i].disk);
  pthread_mutex_destroy(&states->lock);
  free(states->entries);
  free(states);
}

static bool make_room(struct states *states)
{
  size_t room = states->room == 0 ? 8 : states->room * 2;
  struct entry *entries;

  if (states->count < states->room)
    return true;
  entries = realloc(states->entries, room * sizeof(entries[0]));
  if (entries == NULL)
    return false;
  states->entries = entries;
  states->room = room;
  return true;
}

bool states_add(struct states *states, const struct tsk_qcow2_state *state, bool is_new,
                size_t *number)
{
  if (!make_room(states))
    return false;
  *number = states->count;
  states->entries[states->count++] =
      (struct entry){ .states = states, .state = *state, .is_new = is_new };
  return true;
}

/* ---- In use, or idle ------------------------------------------------------------ */

static void tell(const struct entry *entry, bool is_damage, const char *sentence)
{
  struct states *states = entry->states;

  states->report(states->context, (size_t) (entry - states->entries), is_damage, sentence);
}

static void hear_damage(void *context, const char *sentence)
{
  const struct entry *entry = context;

  __atomic_store_n(&entry->states->is_damaged, true, __ATOMIC_RELAXED);
  tell(entry, true, sentence);
}

bool states_are_damaged(const struct states *states)
{
  return __atomic_load_n(&states->is_damaged, __ATOMIC_RELAXED);
}

static void take_from_idle(struct states *states, size_t index)
{
  states->idle_count--;
  memmove(states->idle + index, states->idle + index + 1,
          (states->idle_count - index) * sizeof(states->idle[0]));
}

/* Report what is to be known of a state when it is opened for the first time. */
static void tell_first(struct entry *entry, const struct qcow2_error *error)
{
  const struct qcow2_view *view = error == NULL ? qcow2_disk_view(entry->disk) : NULL;
  const char *warning;

  if (!entry->is_new)
    return;
  entry->is_new = false;
  if (error != NULL)
    hear_damage(entry, error->message);
  if (view != NULL && qcow2_view_has_gaps(view))
    __atomic_store_n(&entry->states->is_damaged, true, __ATOMIC_RELAXED);
  for (size_t i = 0; view != NULL && (warning = qcow2_view_warning(view, i)) != NULL; i++)
    tell(entry, false, warning);
}

static int open_entry(struct entry *entry, struct qcow2_error *error)
{
  struct qcow2_error failure;
  int code;

  if (entry->disk != NULL)
    return 0;
  code = tsk_qcow2_disk_open_state(entry->states->image, &entry->state, &entry->disk, &failure);
  if (code == 0)
    qcow2_disk_report_damage(entry->disk, hear_damage, entry);
  tell_first(entry, code == 0 ? NULL : &failure);
  if (code != 0 && error != NULL)
    *error = failure;
  return code;
}

int states_use(struct states *states, size_t number, struct qcow2_error *error)
{
  struct entry *entry = &states->entries[number];
  int code;

  pthread_mutex_lock(&states->lock);
  for (size_t i = 0; i < states->idle_count; i++)
    if (states->idle[i] == number) {
      take_from_idle(states, i);
      break;
    }
  code = open_entry(entry, error);
  if (code == 0)
    entry->users++;
  pthread_mutex_unlock(&states->lock);
  return code;
}

void states_release(struct states *states, size_t number)
{
  struct entry *entry = &states->entries[number], *oldest;

  pthread_mutex_lock(&states->lock);
  if (--entry->users == 0)
    states->idle[states->idle_count++] = number;
  if (states->idle_count > IDLE_MAX) {
    oldest = &states->entries[states->idle[0]];
    take_from_idle(states, 0);
    qcow2_disk_close(oldest->disk);
    oldest->disk = NULL;
  }
  pthread_mutex_unlock(&states->lock);
}

int states_read(struct states *states, size_t number, uint64_t offset, void *buffer, size_t length,
                struct qcow2_error *error)
{
  return tsk_qcow2_disk_read_once(states->entries[number].disk, offset, buffer, length, error);
}
