/* SPDX-License-Identifier: MIT */
/*
 * First each name of B is looked for in A, in the directory of A that is the same as its own. So a
 * file did not move if only its directory moved. The names that are left are looked for by inode.
 */
#include "comparison.h"

#include <stdlib.h>
#include <string.h>

/* ---- The same file? ------------------------------------------------------------------ */

bool comparison_is_same_time(const struct entry *a, const struct entry *b, enum entry_time time)
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
         (of_a->size == of_b->size && comparison_is_same_time(of_a, of_b, TIME_MODIFIED)) ||
         strcmp(entry_name(comparison->a, a), entry_name(comparison->b, b)) == 0;
}

static bool is_same_by_birth(const struct comparison *comparison, uint32_t a, uint32_t b,
                             bool is_same_name)
{
  const struct entry *of_a = &comparison->a->list[a], *of_b = &comparison->b->list[b];
  bool is_known = of_a->times[TIME_BORN] != 0 && of_b->times[TIME_BORN] != 0;

  if (of_a->inode != of_b->inode || (is_known && !comparison_is_same_time(of_a, of_b, TIME_BORN)))
    return false;
  return is_same_name || !is_birth_coarse(of_a) || looks_the_same(comparison, a, b);
}

static bool is_same_by_place(const struct comparison *comparison, uint32_t a, uint32_t b,
                             bool is_same_name)
{
  const struct entry *of_a = &comparison->a->list[a], *of_b = &comparison->b->list[b];
  bool is_same_start = of_a->first_block != 0 && of_a->first_block == of_b->first_block;
  bool is_same_birth = comparison_is_same_time(of_a, of_b, TIME_BORN);

  if (is_same_name)
    return is_same_start || is_same_birth;
  return is_same_start && is_same_birth && looks_the_same(comparison, a, b);
}

bool comparison_is_same_file(const struct comparison *comparison, uint32_t a, uint32_t b,
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

bool comparison_is_deleted(const struct entries *entries, uint32_t index)
{
  return (entries->list[index].flags & ENTRY_DELETED) != 0;
}

static void marry(struct comparison *comparison, uint32_t a, uint32_t b)
{
  comparison->mate_of_a[a] = b;
  comparison->mate_of_b[b] = a;
}

bool comparison_find_old_parent(const struct comparison *comparison, uint32_t b, uint32_t *parent)
{
  uint32_t own = comparison->b->list[b].parent;

  *parent = own == ENTRY_NONE ? ENTRY_NONE : comparison->mate_of_b[own];
  return own == ENTRY_NONE || *parent != ENTRY_NONE;
}

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

bool comparison_is_of_same_name(const struct comparison *comparison, uint32_t a, uint32_t b)
{
  uint32_t parent;

  return comparison_find_old_parent(comparison, b, &parent) &&
         comparison->a->list[a].parent == parent &&
         comparison_is_deleted(comparison->a, a) == comparison_is_deleted(comparison->b, b) &&
         strcmp(entry_name(comparison->a, a), entry_name(comparison->b, b)) == 0;
}

static bool is_it_by_name(const struct comparison *comparison, uint32_t a, uint32_t b)
{
  return comparison_is_of_same_name(comparison, a, b) &&
         comparison_is_same_file(comparison, a, b, true);
}

static bool is_it_by_inode(const struct comparison *comparison, uint32_t a, uint32_t b)
{
  return !comparison_is_deleted(comparison->a, a) &&
         comparison_is_same_file(comparison, a, b, false);
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

  return comparison_find_old_parent(comparison, b, &parent) &&
         comparison->a->list[a].parent == parent && is_it_by_inode(comparison, a, b);
}

uint32_t comparison_search_by_name(struct comparison *comparison, uint32_t b,
                                   candidate_function *is_it)
{
  uint32_t parent;

  if (!comparison_find_old_parent(comparison, b, &parent))
    return ENTRY_NONE;
  return search(comparison, &comparison->names_of_a,
                entry_key_of_name(parent, entry_name(comparison->b, b)), b, is_it);
}

static void find_by_name(struct comparison *comparison, uint32_t b)
{
  uint32_t a = comparison_search_by_name(comparison, b, is_it_by_name);

  if (a != ENTRY_NONE)
    marry(comparison, a, b);
}

static void find_by_inode(struct comparison *comparison, uint32_t b, candidate_function *is_it)
{
  entry_key_function *key = comparison->identity == IDENTITY_PLACE ? key_of_start : key_of_inode;
  uint32_t a;

  if (comparison_is_deleted(comparison->b, b) || comparison->mate_of_b[b] != ENTRY_NONE ||
      (comparison->identity == IDENTITY_PLACE && comparison->b->list[b].first_block == 0))
    return;
  a = search(comparison, &comparison->inodes_of_a, key(comparison->b, b), b, is_it);
  if (a != ENTRY_NONE)
    marry(comparison, a, b);
}

void comparison_find_mates(struct comparison *comparison)
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

/* ---- The tables ---------------------------------------------------------------------- */

static uint32_t *make_mates(size_t count)
{
  uint32_t *mates = malloc((count + 1) * sizeof(mates[0]));

  if (mates != NULL)
    memset(mates, 0xff, (count + 1) * sizeof(mates[0])); /* ENTRY_NONE */
  return mates;
}

bool comparison_make(struct comparison *comparison)
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

void comparison_free(struct comparison *comparison)
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
