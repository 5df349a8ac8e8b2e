/* SPDX-License-Identifier: MIT */
#include "deflate.h"

#include <string.h>

#include "../base/bytes.h"

/* RFC 1951, 3.2.5 to 3.2.7. */
#define BLOCK_DYNAMIC 2u
#define LITERAL_CODES_MAX 286u
#define DISTANCE_CODES_MAX 30u
#define END_OF_BLOCK 256u
#define LENGTH_CODES 19u
#define LENGTH_CODE_BITS_MAX 7u
#define LENGTH_CODE_PATTERNS (1u << LENGTH_CODE_BITS_MAX)
#define CODE_BITS_MAX 15u

/* Bits, the lowest of each byte first. Past the end there are zeros. */
struct bits {
  const uint8_t *bytes;
  size_t length;
  size_t at; /* in bits */
};

/* The next bits, at least 32. */
static uint64_t bits_peek(const struct bits *bits)
{
  size_t start = bits->at / 8;
  uint8_t end[8] = { 0 };

  if (bits->length >= sizeof(end) && start <= bits->length - sizeof(end))
    return le64_get(bits->bytes + start) >> bits->at % 8;
  for (size_t i = 0; start + i < bits->length; i++)
    end[i] = bits->bytes[start + i];
  return le64_get(end) >> bits->at % 8;
}

static unsigned bits_take(struct bits *bits, unsigned count)
{
  unsigned value = (unsigned) (bits_peek(bits) & ((UINT64_C(1) << count) - 1));

  bits->at += count;
  return value;
}

/* How many codes there are of each length, 1 to CODE_BITS_MAX. */
struct code_counts {
  unsigned of[CODE_BITS_MAX + 1];
};

static struct code_counts count_codes(const uint8_t *lengths, unsigned count)
{
  struct code_counts counts = { { 0 } };

  for (unsigned i = 0; i < count; i++)
    counts.of[lengths[i]]++;
  counts.of[0] = 0;
  return counts;
}

/* True if every bit pattern means exactly one symbol. */
static bool is_complete(const uint8_t *lengths, unsigned count)
{
  struct code_counts counts = count_codes(lengths, count);
  uint32_t used = 0;

  for (unsigned bits = 1; bits <= CODE_BITS_MAX; bits++)
    used += (uint32_t) counts.of[bits] << (CODE_BITS_MAX - bits);
  return used == UINT32_C(1) << CODE_BITS_MAX;
}

/* The complete code in which the lengths of the other codes are written. For each pattern of the
   next bits it has the code with which that pattern begins. */
struct length_code {
  uint8_t symbols[LENGTH_CODE_PATTERNS];
  uint8_t bits[LENGTH_CODE_PATTERNS];
};

/* Give the next code, of `length` bits, to the symbol. Codes count up, and are stored with their
   highest bit first. So counting up with the bits in reversed order reaches the patterns that begin
   with the code. */
static unsigned length_code_add(struct length_code *code, unsigned pattern, unsigned length,
                                unsigned symbol)
{
  unsigned bit = 1u << (length - 1);

  for (unsigned i = pattern; i < LENGTH_CODE_PATTERNS; i += 1u << length) {
    code->symbols[i] = (uint8_t) symbol;
    code->bits[i] = (uint8_t) length;
  }
  while ((pattern & bit) != 0) {
    pattern &= ~bit;
    bit >>= 1;
  }
  return pattern | bit;
}

static bool length_code_read(struct bits *bits, unsigned count, struct length_code *code)
{
  static const uint8_t order[LENGTH_CODES] = { 16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                               11, 4,  12, 3, 13, 2, 14, 1, 15 };
  uint8_t lengths[LENGTH_CODES] = { 0 };
  unsigned pattern = 0;

  for (unsigned i = 0; i < count; i++)
    lengths[order[i]] = (uint8_t) bits_take(bits, 3);
  if (!is_complete(lengths, LENGTH_CODES))
    return false;
  for (unsigned length = 1; length <= LENGTH_CODE_BITS_MAX; length++)
    for (unsigned symbol = 0; symbol < LENGTH_CODES; symbol++)
      if (lengths[symbol] == length)
        pattern = length_code_add(code, pattern, length, symbol);
  return true;
}

static unsigned length_code_take(struct bits *bits, const struct length_code *code)
{
  unsigned pattern = (unsigned) (bits_peek(bits) % LENGTH_CODE_PATTERNS);

  bits->at += code->bits[pattern];
  return code->symbols[pattern];
}

/* Read `count` code lengths. Runs of equal ones are stored in a shorter form. */
static bool lengths_read(struct bits *bits, const struct length_code *code, uint8_t *lengths,
                         unsigned count)
{
  for (unsigned at = 0; at < count;) {
    unsigned symbol = length_code_take(bits, code), repeat = 1;
    uint8_t length = symbol < 16 ? (uint8_t) symbol : 0;

    if (symbol == 16) {
      if (at == 0)
        return false;
      length = lengths[at - 1];
    }
    if (symbol >= 16)
      repeat = symbol == 16   ? 3 + bits_take(bits, 2)
               : symbol == 17 ? 3 + bits_take(bits, 3)
                              : 11 + bits_take(bits, 7);
    if (repeat > count - at)
      return false;
    memset(lengths + at, length, repeat);
    at += repeat;
  }
  return true;
}

bool qcow2_deflate_is_plain(const uint8_t *stream, size_t length)
{
  struct bits bits = { stream, length, 0 };
  unsigned is_last = bits_take(&bits, 1), type = bits_take(&bits, 2);
  unsigned literals = 257 + bits_take(&bits, 5), distances = 1 + bits_take(&bits, 5);
  unsigned length_codes = 4 + bits_take(&bits, 4);
  uint8_t lengths[LITERAL_CODES_MAX + DISTANCE_CODES_MAX] = { 0 };
  struct length_code code;

  return is_last && type == BLOCK_DYNAMIC && literals <= LITERAL_CODES_MAX &&
         distances <= DISTANCE_CODES_MAX && length_code_read(&bits, length_codes, &code) &&
         lengths_read(&bits, &code, lengths, literals + distances) && lengths[END_OF_BLOCK] != 0 &&
         is_complete(lengths, literals) && is_complete(lengths + literals, distances);
}
