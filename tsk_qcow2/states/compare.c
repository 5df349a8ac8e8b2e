/* SPDX-License-Identifier: MIT */
/* What changed, once it is known which files of A and B are the same (mates.c). */
#include "compare.h"

#include <stdlib.h>
#include <string.h>

#include "comparison.h"

/* ---- What cannot be known -------------------------------------------------------------- */

/* True if a directory of A, or its root for ENTRY_NONE, may hold more than its entries say. */
static bool is_incomplete(const struct entries *entries, uint32_t directory)
{
  if (entries->is_cut)
    return true;
  return directory == ENTRY_NONE ? entries->is_root_incomplete
                                 : (entries->list[directory].flags & ENTRY_INCOMPLETE) != 0;
}

/* True if an entry is a directory in use that may have more names than could be read. (A walk that
   was cut short says so itself.) */
static bool is_unread(const struct entries *entries, uint32_t index)
{
  return !entries->is_cut && (entries->list[index].flags & ENTRY_INCOMPLETE) != 0 &&
         !comparison_is_deleted(entries, index);
}

/* The same for any of them, or the root directory. */
static bool has_unread(const struct entries *entries)
{
  bool found = !entries->is_cut && entries->is_root_incomplete;

  for (uint32_t i = 0; !found && i < entries->count; i++)
    found = is_unread(entries, i);
  return found;
}

/* An entry without a mate may have one that could not be read, if its directory in the other state
   could not. */
static void find_unknown(const struct entries *own, const uint32_t *mates,
                         const struct entries *other, bool *is_unknown)
{
  for (uint32_t i = 0; i < own->count; i++) {
    uint32_t parent = own->list[i].parent;
    uint32_t mate = parent == ENTRY_NONE ? ENTRY_NONE : mates[parent];

    if (mates[i] != ENTRY_NONE)
      continue;
    is_unknown[i] = (own->list[i].flags & ENTRY_META_UNSURE) != 0 || other->is_cut ||
                    ((parent == ENTRY_NONE || mate != ENTRY_NONE) && is_incomplete(other, mate)) ||
                    (parent != ENTRY_NONE && is_unknown[parent]);
  }
}

/* ---- Changes ---------------------------------------------------------------------------- */

static struct change *add_change(struct comparison *comparison, enum change_kind kind, uint32_t a,
                                 uint32_t b)
{
  struct changes *changes = comparison->changes;

  if (changes->count == changes->room) {
    size_t room = changes->room == 0 ? 64 : changes->room * 2;
    struct change *list = realloc(changes->list, room * sizeof(list[0]));

    if (list == NULL) {
      comparison->is_out_of_memory = true;
      return NULL;
    }
    changes->list = list;
    changes->room = room;
  }
  if (a != ENTRY_NONE)
    comparison->is_told_a[a] = true;
  changes->list[changes->count] = (struct change){
    .kind = kind, .a = a, .b = b, .other_of_a = ENTRY_NONE, .other_of_b = ENTRY_NONE
  };
  return &changes->list[changes->count++];
}

/* What the metadata and the layout say that changed. */
static unsigned compare_meta(const struct entry *a, const struct entry *b)
{
  unsigned aspects = 0;

  for (int time = 0; time < ENTRY_TIMES; time++)
    if (!comparison_is_same_time(a, b, (enum entry_time) time))
      aspects |= (unsigned) ASPECT_MODIFIED << time;
  if (a->mode != b->mode)
    aspects |= ASPECT_MODE;
  if (a->uid != b->uid || a->gid != b->gid)
    aspects |= ASPECT_OWNER;
  if (a->size != b->size)
    aspects |= ASPECT_SIZE;
  if (a->links != b->links)
    aspects |= ASPECT_LINKS;
  if ((a->flags & ENTRY_IS_DIRECTORY) == 0 &&
      (a->layout != b->layout || ((a->flags | b->flags) & ENTRY_TOUCHED) != 0))
    aspects |= ASPECT_CONTENT;
  return aspects;
}

static void add_pair(struct comparison *comparison, uint32_t a, uint32_t b)
{
  const struct entry *of_a = &comparison->a->list[a], *of_b = &comparison->b->list[b];
  uint32_t parent;
  unsigned aspects = compare_meta(of_a, of_b);
  bool has_parent = comparison_find_old_parent(comparison, b, &parent);
  struct change *change;

  if (comparison_is_deleted(comparison->b, b))
    return; /* a deleted name of both */
  if (!has_parent || of_a->parent != parent)
    aspects |= ASPECT_MOVED;
  if (strcmp(entry_name(comparison->a, a), entry_name(comparison->b, b)) != 0)
    aspects |= ASPECT_RENAMED;
  if (((of_a->flags | of_b->flags) & ENTRY_META_UNSURE) != 0 ||
      (aspects == 0 && (is_unread(comparison->a, a) || is_unread(comparison->b, b))))
    add_change(comparison, CHANGE_UNKNOWN, a, b);
  else if (aspects != 0) {
    change = add_change(comparison, CHANGE_CHANGED, a, b);
    if (change != NULL)
      change->aspects = aspects;
  }
}

/* The first entry that is in use and has the inode; ENTRY_NONE: there is none. */
static uint32_t find_inode(const struct entries *entries, struct entry_index *index, uint64_t inode)
{
  uint32_t i = *entry_index_chain(index, entry_key_of_inode(inode));

  for (int looked_at = 0; i != ENTRY_NONE && looked_at < CANDIDATES_MAX; looked_at++) {
    if (entries->list[i].inode == inode && !comparison_is_deleted(entries, i))
      return i;
    i = index->next[i];
  }
  return ENTRY_NONE;
}

/* Find out what became of the inodes of a file that went, or came. */
static void relate(struct comparison *comparison, struct change *change)
{
  if (change == NULL || comparison->identity == IDENTITY_PLACE ||
      comparison->identity == IDENTITY_NONE)
    return;
  if (change->a != ENTRY_NONE) {
    change->other_of_a = find_inode(comparison->b, &comparison->all_inodes_of_b,
                                    comparison->a->list[change->a].inode);
    if (change->other_of_a != ENTRY_NONE)
      change->relation_a = comparison_is_same_file(comparison, change->a, change->other_of_a, false)
                               ? RELATION_LINK
                               : RELATION_REUSED;
  }
  if (change->b != ENTRY_NONE) {
    change->other_of_b = find_inode(comparison->a, &comparison->all_inodes_of_a,
                                    comparison->b->list[change->b].inode);
    if (change->other_of_b != ENTRY_NONE)
      change->relation_b = comparison_is_same_file(comparison, change->other_of_b, change->b, false)
                               ? RELATION_LINK
                               : RELATION_REUSED;
  }
}

/* True if the name of A leads to another file in B. Nothing replaces a directory, and a directory
   replaces nothing: there is a change for each of the two. */
static bool is_replaced(const struct comparison *comparison, uint32_t a, uint32_t b)
{
  return comparison_is_of_same_name(comparison, a, b) && !comparison->is_told_a[a] &&
         !comparison->is_unknown_a[a] &&
         ((comparison->a->list[a].flags | comparison->b->list[b].flags) & ENTRY_IS_DIRECTORY) == 0;
}

static void add_new(struct comparison *comparison, uint32_t b)
{
  uint32_t a;
  struct change *change;

  if (comparison->is_unknown_b[b]) {
    add_change(comparison, CHANGE_UNKNOWN, ENTRY_NONE, b);
    return;
  }
  a = comparison_search_by_name(comparison, b, is_replaced);
  change = add_change(comparison, a == ENTRY_NONE ? CHANGE_CREATED : CHANGE_REPLACED, a, b);
  if (change != NULL && a != ENTRY_NONE)
    change->aspects = compare_meta(&comparison->a->list[a], &comparison->b->list[b]) |
                      ASPECT_CONTENT;
  relate(comparison, change);
}

static void add_gone(struct comparison *comparison, uint32_t a)
{
  bool is_unknown = comparison->is_unknown_a[a];
  struct change *change = add_change(comparison, is_unknown ? CHANGE_UNKNOWN : CHANGE_DELETED, a,
                                     ENTRY_NONE);

  if (!is_unknown)
    relate(comparison, change);
}

/* ---- Deleted names ------------------------------------------------------------------------ */

static bool is_what_is_left(const struct comparison *comparison, uint32_t a, uint32_t b)
{
  uint32_t parent;

  return comparison_find_old_parent(comparison, b, &parent) &&
         comparison->a->list[a].parent == parent && !comparison_is_deleted(comparison->a, a) &&
         comparison->a->list[a].inode == comparison->b->list[b].inode &&
         strcmp(entry_name(comparison->a, a), entry_name(comparison->b, b)) == 0;
}

/* A deleted name of B without a mate. If the name is in use in A, the change DELETED says that it
   remains. Else the deleted name is new, or it is not known whether it is. */
static void add_remnant(struct comparison *comparison, uint32_t b, struct change **deleted_of_a)
{
  uint32_t a = comparison_search_by_name(comparison, b, is_what_is_left);

  if (a != ENTRY_NONE && deleted_of_a[a] != NULL)
    deleted_of_a[a]->name_remains = true;
  else if (comparison->is_unknown_b[b])
    add_change(comparison, CHANGE_UNKNOWN, ENTRY_NONE, b);
  else
    add_change(comparison, CHANGE_REMNANT, ENTRY_NONE, b);
}

/* The changes DELETED, by their entry of A. These pointers stay valid while `more` changes are
   added: room for all of them is made first. */
static struct change **list_deleted(struct comparison *comparison, size_t more)
{
  struct changes *changes = comparison->changes;
  struct change **deleted = calloc(comparison->a->count + 1, sizeof(deleted[0]));
  struct change *list = realloc(changes->list,
                                (changes->count + more + 1) * sizeof(changes->list[0]));

  if (list != NULL) {
    changes->list = list;
    changes->room = changes->count + more + 1;
  }
  if (deleted == NULL || list == NULL) {
    comparison->is_out_of_memory = true;
    free(deleted);
    return NULL;
  }
  for (size_t i = 0; i < changes->count; i++)
    if (list[i].kind == CHANGE_DELETED)
      deleted[list[i].a] = &list[i];
  return deleted;
}

static size_t count_remnants(const struct comparison *comparison)
{
  size_t count = 0;

  for (uint32_t i = 0; i < comparison->b->count; i++)
    count += comparison_is_deleted(comparison->b, i) && comparison->mate_of_b[i] == ENTRY_NONE;
  return count;
}

static void add_remnants(struct comparison *comparison)
{
  size_t more = count_remnants(comparison);
  struct change **deleted_of_a = more == 0 ? NULL : list_deleted(comparison, more);

  for (uint32_t i = 0; deleted_of_a != NULL && i < comparison->b->count; i++)
    if (comparison_is_deleted(comparison->b, i) && comparison->mate_of_b[i] == ENTRY_NONE)
      add_remnant(comparison, i, deleted_of_a);
  free(deleted_of_a);
  for (uint32_t i = 0; i < comparison->a->count; i++)
    if (comparison_is_deleted(comparison->a, i) && comparison->mate_of_a[i] == ENTRY_NONE)
      add_change(comparison, comparison->is_unknown_a[i] ? CHANGE_UNKNOWN : CHANGE_REMNANT_GONE, i,
                 ENTRY_NONE);
}

/* ---- The whole ------------------------------------------------------------------------------ */

static void add_changes(struct comparison *comparison)
{
  const struct entries *a = comparison->a, *b = comparison->b;

  comparison->changes->has_unread = has_unread(a) || has_unread(b);
  find_unknown(a, comparison->mate_of_a, b, comparison->is_unknown_a);
  find_unknown(b, comparison->mate_of_b, a, comparison->is_unknown_b);
  for (uint32_t i = 0; i < b->count; i++) {
    if (comparison->mate_of_b[i] != ENTRY_NONE)
      add_pair(comparison, comparison->mate_of_b[i], i);
    else if (!comparison_is_deleted(b, i))
      add_new(comparison, i);
  }
  for (uint32_t i = 0; i < a->count; i++)
    if (comparison->mate_of_a[i] == ENTRY_NONE && !comparison->is_told_a[i] &&
        !comparison_is_deleted(a, i))
      add_gone(comparison, i);
  add_remnants(comparison);
}

bool compare_entries(const struct entries *a, const struct entries *b,
                     enum compare_identity identity, struct changes *changes)
{
  struct comparison comparison = { .a = a, .b = b, .identity = identity, .changes = changes };
  bool is_done = comparison_make(&comparison);

  if (is_done) {
    comparison_find_mates(&comparison);
    add_changes(&comparison);
    is_done = !comparison.is_out_of_memory;
  }
  comparison_free(&comparison);
  return is_done;
}

void changes_free(struct changes *changes)
{
  free(changes->list);
  memset(changes, 0, sizeof(*changes));
}
