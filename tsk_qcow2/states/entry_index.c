/* SPDX-License-Identifier: MIT */
#include "entry_index.h"

#include <stdlib.h>
#include <string.h>

#include "keyed_hash.h"

uint64_t entry_key_of_name(uint32_t parent, const char *name)
{
  struct keyed_hash hash;

  keyed_hash_start(&hash);
  keyed_hash_add_number(&hash, parent);
  keyed_hash_add(&hash, name, strlen(name));
  return keyed_hash_finish(&hash);
}

uint64_t entry_key_of_inode(uint64_t inode)
{
  struct keyed_hash hash;

  keyed_hash_start(&hash);
  keyed_hash_add_number(&hash, inode);
  return keyed_hash_finish(&hash);
}

bool entry_index_make(const struct entries *entries, entry_key_function *key,
                      struct entry_index *index)
{
  index->head_count = 16;
  while (index->head_count < entries->count)
    index->head_count *= 2;
  index->heads = malloc(index->head_count * sizeof(index->heads[0]));
  index->next = malloc((entries->count + 1) * sizeof(index->next[0]));
  if (index->heads == NULL || index->next == NULL)
    return false;
  memset(index->heads, 0xff, index->head_count * sizeof(index->heads[0])); /* ENTRY_NONE */
  for (size_t i = entries->count; i-- > 0;) {
    uint32_t *head = entry_index_chain(index, key(entries, i));

    index->next[i] = *head;
    *head = (uint32_t) i;
  }
  return true;
}

uint32_t *entry_index_chain(struct entry_index *index, uint64_t key)
{
  return &index->heads[key & (index->head_count - 1)];
}

void entry_index_free(struct entry_index *index)
{
  free(index->heads);
  free(index->next);
  memset(index, 0, sizeof(*index));
}
