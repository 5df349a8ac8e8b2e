/* SPDX-License-Identifier: MIT */
#define _DEFAULT_SOURCE /* getentropy */
#include "keyed_hash.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint64_t key[2];

static void draw_key(void)
{
  if (getentropy(key, sizeof(key)) != 0)
    abort(); /* no kernel that this runs on fails at 16 bytes */
}

static uint64_t rotate(uint64_t word, unsigned bits)
{
  return word << bits | word >> (64 - bits);
}

static void mix(uint64_t v[4])
{
  v[0] += v[1];
  v[2] += v[3];
  v[1] = rotate(v[1], 13) ^ v[0];
  v[3] = rotate(v[3], 16) ^ v[2];
  v[0] = rotate(v[0], 32);
  v[2] += v[1];
  v[0] += v[3];
  v[1] = rotate(v[1], 17) ^ v[2];
  v[3] = rotate(v[3], 21) ^ v[0];
  v[2] = rotate(v[2], 32);
}

static void add_word(struct keyed_hash *hash, uint64_t word)
{
  hash->v[3] ^= word;
  mix(hash->v);
  mix(hash->v);
  hash->v[0] ^= word;
}

void keyed_hash_start(struct keyed_hash *hash)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;

  pthread_once(&once, draw_key);
  *hash = (struct keyed_hash){
    .v = { key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
           key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573) }
  };
}

void keyed_hash_add(struct keyed_hash *hash, const void *bytes, size_t length)
{
  const uint8_t *at = bytes;
  uint64_t word;

  hash->length += length;
  while (length > 0) {
    if (hash->pending_count == 0 && length >= sizeof(word)) {
      memcpy(&word, at, sizeof(word)); /* in the machine's order: hashes do not leave the process */
      add_word(hash, word);
      at += sizeof(word);
      length -= sizeof(word);
      continue;
    }
    memcpy((uint8_t *) &hash->pending + hash->pending_count, at, 1);
    at++;
    length--;
    if (++hash->pending_count < sizeof(word))
      continue;
    add_word(hash, hash->pending);
    hash->pending = 0;
    hash->pending_count = 0;
  }
}

void keyed_hash_add_number(struct keyed_hash *hash, uint64_t number)
{
  keyed_hash_add(hash, &number, sizeof(number));
}

uint64_t keyed_hash_finish(struct keyed_hash *hash)
{
  add_word(hash, hash->pending | hash->length << 56);
  hash->v[2] ^= 0xff;
  for (int i = 0; i < 4; i++)
    mix(hash->v);
  return hash->v[0] ^ hash->v[1] ^ hash->v[2] ^ hash->v[3];
}
