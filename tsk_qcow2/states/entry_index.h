/* SPDX-License-Identifier: MIT */
/* Finding entries by directory and name, or by inode. */
#ifndef TSK_QCOW2_STATES_ENTRY_INDEX_H
#define TSK_QCOW2_STATES_ENTRY_INDEX_H

#include "entries.h"

struct entry_index {
  uint32_t *heads; /* of chains; ENTRY_NONE: empty */
  uint32_t *next;  /* for each entry */
  size_t head_count;
};

/* The key of an entry's chain. */
uint64_t entry_key_of_name(uint32_t parent, const char *name);
uint64_t entry_key_of_inode(uint64_t inode);

typedef uint64_t entry_key_function(const struct entries *entries, size_t index);

/* Make an index; entries keep their order in each chain. False: no memory. The caller frees it. */
bool entry_index_make(const struct entries *entries, entry_key_function *key,
                      struct entry_index *index);

/* The place of the first link of a key's chain, to follow or to shorten. */
uint32_t *entry_index_chain(struct entry_index *index, uint64_t key);

void entry_index_free(struct entry_index *index);

#endif
