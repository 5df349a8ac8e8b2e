/* SPDX-License-Identifier: MIT */
/* What compare.c and mates.c share: two sets of records, and which of them are the same file. */
#ifndef TSK_QCOW2_STATES_COMPARISON_H
#define TSK_QCOW2_STATES_COMPARISON_H

#include "changes.h"
#include "entry_index.h"

/* In a file system that is not in order, the same name or inode may occur very often. Then only
   this many of them are looked at. */
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

/* Make the tables; `a`, `b`, `identity` and `changes` are set. False: no memory. The caller frees
   with comparison_free(), also then. */
bool comparison_make(struct comparison *comparison);
void comparison_free(struct comparison *comparison);

/* Fill in mate_of_a and mate_of_b. */
void comparison_find_mates(struct comparison *comparison);

bool comparison_is_same_time(const struct entry *a, const struct entry *b, enum entry_time time);
bool comparison_is_deleted(const struct entries *entries, uint32_t index);

/* True if an entry of A and one of B are the same file. `is_same_name`: they have the same name in
   the same directory. */
bool comparison_is_same_file(const struct comparison *comparison, uint32_t a, uint32_t b,
                             bool is_same_name);

/* True if an entry of A and one of B have the same name in the same directory, and both or none of
   them are deleted. */
bool comparison_is_of_same_name(const struct comparison *comparison, uint32_t a, uint32_t b);

/* The directory of A that an entry of B would be in. False: A does not have it. */
bool comparison_find_old_parent(const struct comparison *comparison, uint32_t b, uint32_t *parent);

/* The first entry of A without a mate that has the name of an entry of B, in the same directory,
   and will do; ENTRY_NONE: there is none. */
typedef bool candidate_function(const struct comparison *comparison, uint32_t a, uint32_t b);
uint32_t comparison_search_by_name(struct comparison *comparison, uint32_t b,
                                   candidate_function *is_it);

#endif
