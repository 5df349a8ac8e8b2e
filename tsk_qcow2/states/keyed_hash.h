/* SPDX-License-Identifier: MIT */
/* SipHash-2-4, by the paper of Aumasson and Bernstein, with a key that each process draws: whoever
   makes an image cannot choose inputs that collide. */
#ifndef TSK_QCOW2_STATES_KEYED_HASH_H
#define TSK_QCOW2_STATES_KEYED_HASH_H

#include <stddef.h>
#include <stdint.h>

struct keyed_hash {
  uint64_t v[4];
  uint64_t pending; /* bytes that are no whole word yet */
  unsigned pending_count;
  uint64_t length; /* bytes so far */
};

void keyed_hash_start(struct keyed_hash *hash);
void keyed_hash_add(struct keyed_hash *hash, const void *bytes, size_t length);
void keyed_hash_add_number(struct keyed_hash *hash, uint64_t number);
uint64_t keyed_hash_finish(struct keyed_hash *hash);

#endif
