/* SPDX-License-Identifier: MIT */
/*
 * First each name of B is looked for in A, in the directory of A that is the same as its own. So a
 * file did not move if only its directory moved. The names that are left are looked for by inode.
 * In a file system that is not in order, the same name or inode may occur very often. Then only
 * CANDIDATES_MAX of them are looked at.
 */
#include "compare.h"

#include <stdlib.h>
#include <string.h>

#include "entry_index.h"

#define CANDIDATES_MAX 64

struct comparison {
  const struct entries *a, *b;
  enum compare_identity identity;
  struct entry_index names_of_a, inodes_of_a; /* entries with a mate are taken out when met */
  struct entry_index all_inodes_of_a, all_inodes_of_b;
  uint32_t *mate_of_a, *mate_of_b; /* the same file in the other state; ENTRY_NONE: none known */
  bool *is_unknown_a, *is_unknown_b;
  bool *is_told_a; /* a change in the list is about it */
  struct changes *changes;
  bool is_out_of_memory;
};

/* ---- The same file? ------------------------------------------------------------------ */

static bool is_same_time(const struct entry *a, const struct entry *b, enum entry_time time)
{
  return a->times[time] == b->times[time] && a->nanoseconds[time] == b->nanoseconds[time];
}

/* True if the birth time cannot tell one file from another that was made in the same second. */
static bool is_birth_coarse(const struct entry *entry)
{
  return entry->times[TIME_BORN] == 0 || entry->nanoseconds[TIME_BORN] == 0;
}

/* Whether files of one inode, born in the same second as far as is known, but of different names,
   look like the same. */
static bool looks_the_same(const struct comparison *comparison, uint32_t a, uint32_t b)
{
  const struct entry *of_a = &comparison->a->list[a], *of_b = &comparison->b->list[b];

  return of_a->layout == of_b->layout ||
         (of_a->size == of_b->size && is_same_time(of_a, of_b, TIME_MODIFIED)) ||
         strcmp(entry_name(comparison->a, a), entry_name(comparison->b, b)) == 0;
}

static bool is_same_by_birth(const struct comparison *comparison, uint32_t a, uint32_t b,
                             bool is_same_name)
{
  const struct entry *of_a = &comparison->a->list[a], *of_b = &comparison->b->list[b];
  bool is_known = of_a->times[TIME_BORN] != 0 && of_b->times[TIME_BORN] != 0;

  if (of_a->inode != of_b->inode || (is_known && !is_same_time(of_a, of_b, TIME_BORN)))
    return false;
  return is_same_name || !is_birth_coarse(of_a) || looks_the_same(comparison, a, b);
}

static bool is_same_by_place(const struct comparison *comparison, uint32_t a, uint32_t b,
                             bool is_same_name)
{
  const struct entry *of_a = &comparison->a->list[a], *of_b = &comparison->b->list[b];
  bool is_same_start = of_a->first_block != 0 && of_a->first_block == of_b->first_block;
  bool is_same_birth = is_same_time(of_a, of_b, TIME_BORN);

  if (is_same_name)
    return is_same_start || is_same_birth;
  return is_same_start && is_same_birth && looks_the_same(comparison, a, b);
}

/* True if an entry of A and one of B are the same file. `is_same_name`: they have the same name in
   the same directory. */
static bool is_same_file(const struct comparison *comparison, uint32_t a, uint32_t b,
                         bool is_same_name)
{
  const struct entry *of_a = &comparison->a->list[a], *of_b = &comparison->b->list[b];

  if (comparison->identity == IDENTITY_NONE)
    return false;
  if ((of_a->flags & of_b->flags & ENTRY_HAS_META) == 0 ||
      (of_a->flags & of_b->flags & ENTRY_DELETED) != 0)
    return is_same_name && of_a->inode == of_b->inode;
  if (of_a->type != of_b->type)
    return false;
  if (comparison->identity == IDENTITY_SEQUENCE)
    return of_a->inode == of_b->inode && of_a->sequence == of_b->sequence;
  if (comparison->identity == IDENTITY_PLACE)
    return is_same_by_place(comparison, a, b, is_same_name);
  return is_same_by_birth(comparison, a, b, is_same_name);
}

/* ---- Mates --------------------------------------------------------------------------- */

static uint64_t key_of_name(const struct entries *entries, size_t index)
{
  return entry_key_of_name(entries->list[index].parent, entry_name(entries, index));
}

static uint64_t key_of_inode(const struct entries *entries, size_t index)
{
  return entry_key_of_inode(entries->list[index].inode);
}

/* FAT's inodes are places, so a file that moved is known by where its content starts. */
static uint64_t key_of_start(const struct entries *entries, size_t index)
{
  return entry_key_of_inode(entries->list[index].first_block);
}

static bool is_deleted(const struct entries *entries, uint32_t index)
{
  return (entries->list[index].flags & ENTRY_DELETED) != 0;
}

static void marry(struct comparison *comparison, uint32_t a, uint32_t b)
{
  comparison->mate_of_a[a] = b;
  comparison->mate_of_b[b] = a;
}

/* The directory of A that an entry of B would be in. False: A does not have it. */
static bool find_old_parent(const struct comparison *comparison, uint32_t b, uint32_t *parent)
{
  uint32_t own = comparison->b->list[b].parent;

  *parent = own == ENTRY_NONE ? ENTRY_NONE : comparison->mate_of_b[own];
  return own == ENTRY_NONE || *parent != ENTRY_NONE;
}

typedef bool candidate_function(const struct comparison *comparison, uint32_t a, uint32_t b);

/* The first entry of a chain that will do; those that have a mate are taken out. */
static uint32_t search(struct comparison *comparison, struct entry_index *index, uint64_t key,
                       uint32_t b, candidate_function *is_it)
{
  uint32_t *link = entry_index_chain(index, key);

  for (int looked_at = 0; *link != ENTRY_NONE && looked_at < CANDIDATES_MAX;) {
    uint32_t a = *link;

    if (comparison->mate_of_a[a] != ENTRY_NONE) {
      *link = index->next[a];
      continue;
    }
    if (is_it(comparison, a, b))
      return a;
    link = &index->next[a];
    looked_at++;
  }
  return ENTRY_NONE;
}

static bool is_of_same_name(const struct comparison *comparison, uint32_t a, uint32_t b)
{
  uint32_t parent;

  return find_old_parent(comparison, b, &parent) && comparison->a->list[a].parent == parent &&
         is_deleted(comparison->a, a) == is_deleted(comparison->b, b) &&
         strcmp(entry_name(comparison->a, a), entry_name(comparison->b, b)) == 0;
}

static bool is_it_by_name(const struct comparison *comparison, uint32_t a, uint32_t b)
{
  return is_of_same_name(comparison, a, b) && is_same_file(comparison, a, b, true);
}

static bool is_it_by_inode(const struct comparison *comparison, uint32_t a, uint32_t b)
{
  return !is_deleted(comparison->a, a) && is_same_file(comparison, a, b, false);
}

/* Of several names of a file, one that was moved or renamed only is taken before others. */
static bool is_it_by_inode_and_name(const struct comparison *comparison, uint32_t a, uint32_t b)
{
  return strcmp(entry_name(comparison->a, a), entry_name(comparison->b, b)) == 0 &&
         is_it_by_inode(comparison, a, b);
}

static bool is_it_by_inode_and_place(const struct comparison *comparison, uint32_t a, uint32_t b)
{
  uint32_t parent;

  return find_old_parent(comparison, b, &parent) && comparison->a->list[a].parent == parent &&
         is_it_by_inode(comparison, a, b);
}

static uint32_t search_by_name(struct comparison *comparison, uint32_t b, candidate_function *is_it)
{
  uint32_t parent;

  if (!find_old_parent(comparison, b, &parent))
    return ENTRY_NONE;
  return search(comparison, &comparison->names_of_a,
                entry_key_of_name(parent, entry_name(comparison->b, b)), b, is_it);
}

static void find_by_name(struct comparison *comparison, uint32_t b)
{
  uint32_t a = search_by_name(comparison, b, is_it_by_name);

  if (a != ENTRY_NONE)
    marry(comparison, a, b);
}

static void find_by_inode(struct comparison *comparison, uint32_t b, candidate_function *is_it)
{
  entry_key_function *key = comparison->identity == IDENTITY_PLACE ? key_of_start : key_of_inode;
  uint32_t a;

  if (is_deleted(comparison->b, b) || comparison->mate_of_b[b] != ENTRY_NONE ||
      (comparison->identity == IDENTITY_PLACE && comparison->b->list[b].first_block == 0))
    return;
  a = search(comparison, &comparison->inodes_of_a, key(comparison->b, b), b, is_it);
  if (a != ENTRY_NONE)
    marry(comparison, a, b);
}

static void find_mates(struct comparison *comparison)
{
  static candidate_function *const WAYS[] = { is_it_by_inode_and_name, is_it_by_inode_and_place,
                                              is_it_by_inode };
  const struct entries *b = comparison->b;

  /* The mate of a directory is looked for at once: the names in the directory come after it. */
  for (uint32_t i = 0; i < b->count; i++) {
    find_by_name(comparison, i);
    if ((b->list[i].flags & ENTRY_IS_DIRECTORY) != 0)
      find_by_inode(comparison, i, is_it_by_inode);
  }
  for (size_t way = 0; way < sizeof(WAYS) / sizeof(WAYS[0]); way++)
    for (uint32_t i = 0; i < b->count; i++)
      find_by_inode(comparison, i, WAYS[way]);
}

/* ---- What cannot be known -------------------------------------------------------------- */

/* True if a directory of A, or its root for ENTRY_NONE, may hold more than its entries say. */
static bool is_incomplete(const struct entries *entries, uint32_t directory)
{
  if (entries->is_cut)
    return true;
  return directory == ENTRY_NONE ? entries->is_root_incomplete
                                 : (entries->list[directory].flags & ENTRY_INCOMPLETE) != 0;
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
    if (!is_same_time(a, b, (enum entry_time) time))
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
  bool has_parent = find_old_parent(comparison, b, &parent);
  struct change *change;

  if (is_deleted(comparison->b, b))
    return; /* a deleted name of both */
  if (!has_parent || of_a->parent != parent)
    aspects |= ASPECT_MOVED;
  if (strcmp(entry_name(comparison->a, a), entry_name(comparison->b, b)) != 0)
    aspects |= ASPECT_RENAMED;
  if (((of_a->flags | of_b->flags) & ENTRY_META_UNSURE) != 0)
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
    if (entries->list[i].inode == inode && !is_deleted(entries, i))
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
      change->relation_a = is_same_file(comparison, change->a, change->other_of_a, false)
                               ? RELATION_LINK
                               : RELATION_REUSED;
  }
  if (change->b != ENTRY_NONE) {
    change->other_of_b = find_inode(comparison->a, &comparison->all_inodes_of_a,
                                    comparison->b->list[change->b].inode);
    if (change->other_of_b != ENTRY_NONE)
      change->relation_b = is_same_file(comparison, change->other_of_b, change->b, false)
                               ? RELATION_LINK
                               : RELATION_REUSED;
  }
}

/* True if the name of A leads to another file in B. Nothing replaces a directory, and a directory
   replaces nothing: there is a change for each of the two. */
static bool is_replaced(const struct comparison *comparison, uint32_t a, uint32_t b)
{
  return is_of_same_name(comparison, a, b) && !comparison->is_told_a[a] &&
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
  a = search_by_name(comparison, b, is_replaced);
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

  return find_old_parent(comparison, b, &parent) && comparison->a->list[a].parent == parent &&
         !is_deleted(comparison->a, a) &&
         comparison->a->list[a].inode == comparison->b->list[b].inode &&
         strcmp(entry_name(comparison->a, a), entry_name(comparison->b, b)) == 0;
}

/* A deleted name of B without a mate. If the name is in use in A, the change DELETED says that it
   remains. Else the deleted name is new, or it is not known whether it is. */
static void add_remnant(struct comparison *comparison, uint32_t b, struct change **deleted_of_a)
{
  uint32_t a = search_by_name(comparison, b, is_what_is_left);

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
    count += is_deleted(comparison->b, i) && comparison->mate_of_b[i] == ENTRY_NONE;
  return count;
}

static void add_remnants(struct comparison *comparison)
{
  size_t more = count_remnants(comparison);
  struct change **deleted_of_a = more == 0 ? NULL : list_deleted(comparison, more);

  for (uint32_t i = 0; deleted_of_a != NULL && i < comparison->b->count; i++)
    if (is_deleted(comparison->b, i) && comparison->mate_of_b[i] == ENTRY_NONE)
      add_remnant(comparison, i, deleted_of_a);
  free(deleted_of_a);
  for (uint32_t i = 0; i < comparison->a->count; i++)
    if (is_deleted(comparison->a, i) && comparison->mate_of_a[i] == ENTRY_NONE)
      add_change(comparison, comparison->is_unknown_a[i] ? CHANGE_UNKNOWN : CHANGE_REMNANT_GONE, i,
                 ENTRY_NONE);
}

/* ---- The whole ------------------------------------------------------------------------------ */

static void add_changes(struct comparison *comparison)
{
  const struct entries *a = comparison->a, *b = comparison->b;

  find_unknown(a, comparison->mate_of_a, b, comparison->is_unknown_a);
  find_unknown(b, comparison->mate_of_b, a, comparison->is_unknown_b);
  for (uint32_t i = 0; i < b->count; i++) {
    if (comparison->mate_of_b[i] != ENTRY_NONE)
      add_pair(comparison, comparison->mate_of_b[i], i);
    else if (!is_deleted(b, i))
      add_new(comparison, i);
  }
  for (uint32_t i = 0; i < a->count; i++)
    if (comparison->mate_of_a[i] == ENTRY_NONE && !comparison->is_told_a[i] && !is_deleted(a, i))
      add_gone(comparison, i);
  add_remnants(comparison);
}

static uint32_t *make_mates(size_t count)
{
  uint32_t *mates = malloc((count + 1) * sizeof(mates[0]));

  if (mates != NULL)
    memset(mates, 0xff, (count + 1) * sizeof(mates[0])); /* ENTRY_NONE */
  return mates;
}

static bool comparison_make(struct comparison *comparison)
{
  const struct entries *a = comparison->a, *b = comparison->b;
  entry_key_function *key = comparison->identity == IDENTITY_PLACE ? key_of_start : key_of_inode;

  comparison->mate_of_a = make_mates(a->count);
  comparison->mate_of_b = make_mates(b->count);
  comparison->is_unknown_a = calloc(a->count + 1, sizeof(bool));
  comparison->is_unknown_b = calloc(b->count + 1, sizeof(bool));
  comparison->is_told_a = calloc(a->count + 1, sizeof(bool));
  return comparison->mate_of_a != NULL && comparison->mate_of_b != NULL &&
         comparison->is_unknown_a != NULL && comparison->is_unknown_b != NULL &&
         comparison->is_told_a != NULL &&
         entry_index_make(a, key_of_name, &comparison->names_of_a) &&
         entry_index_make(a, key, &comparison->inodes_of_a) &&
         entry_index_make(a, key_of_inode, &comparison->all_inodes_of_a) &&
         entry_index_make(b, key_of_inode, &comparison->all_inodes_of_b);
}

static void comparison_free(struct comparison *comparison)
{
  free(comparison->mate_of_a);
  free(comparison->mate_of_b);
  free(comparison->is_unknown_a);
  free(comparison->is_unknown_b);
  free(comparison->is_told_a);
  entry_index_free(&comparison->names_of_a);
  entry_index_free(&comparison->inodes_of_a);
  entry_index_free(&comparison->all_inodes_of_a);
  entry_index_free(&comparison->all_inodes_of_b);
}

bool compare_entries(const struct entries *a, const struct entries *b,
                     enum compare_identity identity, struct changes *changes)
{
  struct comparison comparison = { .a = a, .b = b, .identity = identity, .changes = changes };
  bool is_done = comparison_make(&comparison);

  if (is_done) {
    find_mates(&comparison);
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
