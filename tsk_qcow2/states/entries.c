/* SPDX-License-Identifier: MIT */
#include "entries.h"

#include <qcow2core.h>
#include <stdlib.h>
#include <string.h>

#define NAME_ESCAPED_BYTES 4096u

static bool grow_list(struct entries *entries)
{
  size_t room = entries->room == 0 ? 1024 : entries->room * 2;
  struct entry *list;

  if (entries->count < entries->room)
    return true;
  list = realloc(entries->list, room * sizeof(list[0]));
  if (list == NULL)
    return false;
  entries->list = list;
  entries->room = room;
  return true;
}

static bool grow_names(struct entries *entries, size_t length)
{
  size_t room = entries->names_room == 0 ? 65536 : entries->names_room * 2;
  char *names;

  if (entries->names_used + length <= entries->names_room)
    return true;
  if (room < entries->names_used + length)
    room = entries->names_used + length;
  names = realloc(entries->names, room);
  if (names == NULL)
    return false;
  entries->names = names;
  entries->names_room = room;
  return true;
}

struct entry *entries_add(struct entries *entries, const char *name)
{
  size_t length = strlen(name) + 1;
  struct entry *entry;

  if (entries->count == ENTRIES_MAX || entries->names_used > ENTRY_NAMES_BYTES_MAX) {
    entries->is_cut = true;
    return NULL;
  }
  if (!grow_list(entries) || !grow_names(entries, length))
    return NULL;
  entry = &entries->list[entries->count++];
  memset(entry, 0, sizeof(*entry));
  entry->name_offset = entries->names_used;
  memcpy(entries->names + entries->names_used, name, length);
  entries->names_used += length;
  return entry;
}

const char *entry_name(const struct entries *entries, size_t index)
{
  return entries->names + entries->list[index].name_offset;
}

const char *entry_path(const struct entries *entries, size_t index, char out[ENTRY_PATH_BYTES])
{
  static const char cut[] = "...";
  char name[NAME_ESCAPED_BYTES];
  char *at = out + ENTRY_PATH_BYTES - 1;

  *at = '\0';
  for (size_t i = index; i != ENTRY_NONE; i = entries->list[i].parent) {
    const char *raw = entry_name(entries, i);
    size_t length;

    qcow2_text_escape(raw, strlen(raw), name, sizeof(name));
    length = strlen(name);
    if ((size_t) (at - out) < length + 1 + sizeof(cut)) {
      at -= strlen(cut);
      memcpy(at, cut, strlen(cut));
      break;
    }
    at -= length;
    memcpy(at, name, length);
    *--at = '/';
  }
  return at;
}

bool entries_are_whole(const struct entries *entries)
{
  if (entries->is_root_incomplete || entries->is_cut)
    return false;
  for (size_t i = 0; i < entries->count; i++)
    if ((entries->list[i].flags & (ENTRY_INCOMPLETE | ENTRY_META_UNSURE)) != 0)
      return false;
  return true;
}

void entries_free(struct entries *entries)
{
  free(entries->list);
  free(entries->names);
  memset(entries, 0, sizeof(*entries));
}
