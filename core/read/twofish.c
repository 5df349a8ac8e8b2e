/* SPDX-License-Identifier: MIT */
/* After B. Schneier et al., "Twofish: A 128-Bit Block Cipher" (1998), whose names are used, and
   IEEE 1619 for XTS. */
#include "twofish.h"

#include <string.h>

#include "../base/bytes.h"
#include "../base/system.h"

#define ROUNDS 16u
#define KEY_WORDS 3u /* of 64 bits: k */
#define MDS_POLYNOMIAL 0x169u
#define RS_POLYNOMIAL 0x14Du

/* The 4-bit permutations t0 to t3 that q0 and q1 are made of. */
static const uint8_t T[2][4][16] = {
  { { 0x8, 0x1, 0x7, 0xD, 0x6, 0xF, 0x3, 0x2, 0x0, 0xB, 0x5, 0x9, 0xE, 0xC, 0xA, 0x4 },
    { 0xE, 0xC, 0xB, 0x8, 0x1, 0x2, 0x3, 0x5, 0xF, 0x4, 0xA, 0x6, 0x7, 0x0, 0x9, 0xD },
    { 0xB, 0xA, 0x5, 0xE, 0x6, 0xD, 0x9, 0x0, 0xC, 0x8, 0xF, 0x3, 0x2, 0x4, 0x7, 0x1 },
    { 0xD, 0x7, 0xF, 0x4, 0x1, 0x2, 0x6, 0xE, 0x9, 0xB, 0x3, 0x0, 0x8, 0x5, 0xC, 0xA } },
  { { 0x2, 0x8, 0xB, 0xD, 0xF, 0x7, 0x6, 0xE, 0x3, 0x1, 0x9, 0x4, 0x0, 0xA, 0xC, 0x5 },
    { 0x1, 0xE, 0x2, 0xB, 0x4, 0xC, 0x3, 0x7, 0x6, 0xD, 0xA, 0x5, 0xF, 0x9, 0x0, 0x8 },
    { 0x4, 0xC, 0x7, 0x5, 0x1, 0x6, 0x9, 0xA, 0x0, 0xE, 0xD, 0x8, 0x2, 0xB, 0x3, 0xF },
    { 0xB, 0x9, 0x5, 0x1, 0xC, 0x3, 0xD, 0xE, 0x6, 0x4, 0x7, 0xF, 0x2, 0x0, 0x8, 0xA } }
};

/* Which of q0 and q1 each of the four bytes of a word goes through, from the innermost stage to the
   last. */
static const uint8_t STAGES[KEY_WORDS + 1][4] = {
  { 1, 1, 0, 0 }, { 0, 1, 0, 1 }, { 0, 0, 1, 1 }, { 1, 0, 1, 0 }
};

static const uint8_t MDS[4][4] = { { 0x01, 0xEF, 0x5B, 0x5B },
                                   { 0x5B, 0xEF, 0xEF, 0x01 },
                                   { 0xEF, 0x5B, 0x01, 0xEF },
                                   { 0xEF, 0x01, 0xEF, 0x5B } };

static const uint8_t RS[4][8] = { { 0x01, 0xA4, 0x55, 0x87, 0x5A, 0x58, 0xDB, 0x9E },
                                  { 0xA4, 0x56, 0x82, 0xF3, 0x1E, 0xC6, 0x68, 0xE5 },
                                  { 0x02, 0xA1, 0xFC, 0xC1, 0x47, 0xAE, 0x3D, 0x19 },
                                  { 0xA4, 0x55, 0x87, 0x5A, 0x58, 0xDB, 0x9E, 0x03 } };

static uint32_t rotate_left(uint32_t word, unsigned bits)
{
  return word << bits | word >> (32 - bits);
}

static uint32_t rotate_right(uint32_t word, unsigned bits)
{
  return word >> bits | word << (32 - bits);
}

/* Multiply two polynomials over GF(2) modulo the third. */
static uint8_t multiply(uint8_t a, uint8_t b, unsigned polynomial)
{
  unsigned product = 0, shifted = a;

  for (; b != 0; b >>= 1) {
    if ((b & 1) != 0)
      product ^= shifted;
    shifted <<= 1;
    if ((shifted & 0x100) != 0)
      shifted ^= polynomial;
  }
  return (uint8_t) product;
}

/* ---- The key schedule -------------------------------------------------------- */

/* The permutation q0 or q1 of a byte: twice, mix its halves and permute each. */
static uint8_t permute(unsigned which, uint8_t byte)
{
  uint8_t a = byte >> 4, b = byte & 15;

  for (unsigned i = 0; i < 4; i += 2) {
    uint8_t mixed = (uint8_t) ((a ^ (b >> 1 | b << 3) ^ a << 3) & 15);

    a = T[which][i][a ^ b];
    b = T[which][i + 1][mixed];
  }
  return (uint8_t) (b << 4 | a);
}

/* What byte `index` of a word becomes in the function h, with the list L of key words, before the
   MDS matrix. */
static uint8_t substitute(unsigned index, uint8_t byte, const uint8_t list[KEY_WORDS][4])
{
  for (unsigned stage = 0; stage < KEY_WORDS; stage++)
    byte = permute(STAGES[stage][index], byte) ^ list[KEY_WORDS - 1 - stage][index];
  return permute(STAGES[KEY_WORDS][index], byte);
}

/* The MDS matrix's column `index`, times the byte, as a little-endian word. */
static uint32_t spread(unsigned index, uint8_t byte)
{
  uint32_t word = 0;

  for (unsigned row = 0; row < 4; row++)
    word |= (uint32_t) multiply(MDS[row][index], byte, MDS_POLYNOMIAL) << 8 * row;
  return word;
}

/* The function h of a word whose four bytes are the same. */
static uint32_t h_of(uint8_t byte, const uint8_t list[KEY_WORDS][4])
{
  uint32_t word = 0;

  for (unsigned index = 0; index < 4; index++)
    word ^= spread(index, substitute(index, byte, list));
  return word;
}

static void set_subkeys(struct qcow2_twofish *twofish, const uint8_t even[KEY_WORDS][4],
                        const uint8_t odd[KEY_WORDS][4])
{
  for (uint8_t i = 0; i < 40; i += 2) {
    uint32_t a = h_of(i, even), b = rotate_left(h_of(i + 1, odd), 8);

    twofish->subkeys[i] = a + b;
    twofish->subkeys[i + 1] = rotate_left(a + 2 * b, 9);
  }
}

void qcow2_twofish_set_key(struct qcow2_twofish *twofish, const uint8_t key[TWOFISH_KEY_BYTES])
{
  uint8_t even[KEY_WORDS][4], odd[KEY_WORDS][4], s[KEY_WORDS][4] = { { 0 } };

  for (unsigned i = 0; i < KEY_WORDS; i++) {
    memcpy(even[i], key + 8 * i, 4);
    memcpy(odd[i], key + 8 * i + 4, 4);
    for (unsigned row = 0; row < 4; row++) /* S is used in reverse */
      for (unsigned column = 0; column < 8; column++)
        s[KEY_WORDS - 1 - i][row] ^= multiply(RS[row][column], key[8 * i + column], RS_POLYNOMIAL);
  }
  set_subkeys(twofish, even, odd);
  for (unsigned index = 0; index < 4; index++)
    for (unsigned byte = 0; byte < 256; byte++)
      twofish->boxes[index][byte] = spread(index, substitute(index, (uint8_t) byte, s));
  qcow2_system_wipe(even, sizeof(even));
  qcow2_system_wipe(odd, sizeof(odd));
  qcow2_system_wipe(s, sizeof(s));
}

/* ---- Blocks ------------------------------------------------------------------ */

static uint32_t g(const struct qcow2_twofish *twofish, uint32_t word)
{
  return twofish->boxes[0][word & 255] ^ twofish->boxes[1][word >> 8 & 255] ^
         twofish->boxes[2][word >> 16 & 255] ^ twofish->boxes[3][word >> 24];
}

/* The function F of a round. */
static void f(const struct qcow2_twofish *twofish, unsigned round, uint32_t r0, uint32_t r1,
              uint32_t out[2])
{
  uint32_t t0 = g(twofish, r0), t1 = g(twofish, rotate_left(r1, 8));

  out[0] = t0 + t1 + twofish->subkeys[8 + 2 * round];
  out[1] = t0 + 2 * t1 + twofish->subkeys[9 + 2 * round];
}

/* Load a block's words, or store them, and whiten them with four subkeys. */
static void load(const uint8_t *block, const uint32_t *whitening, uint32_t words[4])
{
  for (unsigned i = 0; i < 4; i++)
    words[i] = le32_get(block + 4 * i) ^ whitening[i];
}

static void store(uint8_t *block, const uint32_t *whitening, const uint32_t words[4])
{
  for (unsigned i = 0; i < 4; i++)
    le32_put(block + 4 * i, words[i] ^ whitening[i]);
}

/* In place. */
static void encrypt_block(const struct qcow2_twofish *twofish, uint8_t block[TWOFISH_BLOCK_BYTES])
{
  uint32_t r[4], mixed[2];

  load(block, twofish->subkeys, r);
  for (unsigned round = 0; round < ROUNDS; round++) {
    f(twofish, round, r[0], r[1], mixed);
    mixed[0] = rotate_right(r[2] ^ mixed[0], 1);
    mixed[1] ^= rotate_left(r[3], 1);
    r[2] = r[0];
    r[3] = r[1];
    r[0] = mixed[0];
    r[1] = mixed[1];
  }
  store(block, twofish->subkeys + 4, (uint32_t[]){ r[2], r[3], r[0], r[1] });
}

/* In place. */
static void decrypt_block(const struct qcow2_twofish *twofish, uint8_t block[TWOFISH_BLOCK_BYTES])
{
  uint32_t r[4], mixed[2];

  load(block, twofish->subkeys + 4, r);
  for (unsigned round = ROUNDS; round-- > 0;) {
    f(twofish, round, r[0], r[1], mixed);
    mixed[0] ^= rotate_left(r[2], 1);
    mixed[1] = rotate_right(r[3] ^ mixed[1], 1);
    r[2] = r[0];
    r[3] = r[1];
    r[0] = mixed[0];
    r[1] = mixed[1];
  }
  store(block, twofish->subkeys, (uint32_t[]){ r[2], r[3], r[0], r[1] });
}

/* ---- XTS --------------------------------------------------------------------- */

static void mask(uint8_t *block, const uint64_t tweak[2])
{
  le64_put(block, le64_get(block) ^ tweak[0]);
  le64_put(block + 8, le64_get(block + 8) ^ tweak[1]);
}

void qcow2_twofish_xts_decrypt(const struct qcow2_twofish keys[2],
                               const uint8_t iv[TWOFISH_BLOCK_BYTES], uint8_t *buffer,
                               size_t length)
{
  uint8_t encrypted[TWOFISH_BLOCK_BYTES];
  uint64_t tweak[2];

  memcpy(encrypted, iv, sizeof(encrypted));
  encrypt_block(&keys[1], encrypted);
  tweak[0] = le64_get(encrypted);
  tweak[1] = le64_get(encrypted + 8);
  for (size_t at = 0; at < length; at += TWOFISH_BLOCK_BYTES) {
    uint64_t carry = tweak[1] >> 63 != 0 ? 0x87 : 0;

    mask(buffer + at, tweak);
    decrypt_block(&keys[0], buffer + at);
    mask(buffer + at, tweak);
    tweak[1] = tweak[1] << 1 | tweak[0] >> 63;
    tweak[0] = tweak[0] << 1 ^ carry;
  }
}
