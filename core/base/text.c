/* SPDX-License-Identifier: MIT */
#include "text.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *qcow2_text_copy(const void *text, size_t length)
{
  char *copy = malloc(length + 1);

  if (copy != NULL) {
    if (length > 0)
      memcpy(copy, text, length);
    copy[length] = '\0';
  }
  return copy;
}

char *qcow2_text_duplicate(const char *text)
{
  return text == NULL ? NULL : qcow2_text_copy(text, strlen(text));
}

size_t qcow2_text_character(const uint8_t *bytes, size_t left, uint32_t *code_point)
{
  static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
  size_t length = bytes[0] < 0x80 ? 1 : bytes[0] >= 0xF0 ? 4 : bytes[0] >= 0xE0 ? 3 : 2;

  if (length == 1) {
    *code_point = bytes[0];
    return 1;
  }
  if (bytes[0] < 0xC2 || bytes[0] > 0xF4 || length > left)
    return 0;
  *code_point = bytes[0] & (0x7Fu >> length);
  for (size_t i = 1; i < length; i++) {
    if ((bytes[i] & 0xC0) != 0x80)
      return 0;
    *code_point = *code_point << 6 | (bytes[i] & 0x3Fu);
  }
  if (*code_point < smallest[length] || *code_point > 0x10FFFF ||
      (*code_point >= 0xD800 && *code_point < 0xE000))
    return 0;
  return length;
}

/* Characters that change how the text around them is shown, that cannot be seen, or that look like
   a space. These are the C0 and C1 controls; the backslash, with which escapes begin; and Unicode's
   fillers, odd spaces, joiners, separators, and marks that turn the writing direction, select
   glyphs or tag text. In ascending order. */
static const struct {
  uint32_t first, last;
} HARMFUL[] = {
  { 0x00, 0x1F },       { '\\', '\\' },       { 0x7F, 0xA0 },     { 0xAD, 0xAD },
  { 0x034F, 0x034F },   { 0x061C, 0x061C },   { 0x115F, 0x1160 }, { 0x1680, 0x1680 },
  { 0x17B4, 0x17B5 },   { 0x180B, 0x180F },   { 0x2000, 0x200F }, { 0x2028, 0x202F },
  { 0x205F, 0x206F },   { 0x2800, 0x2800 },   { 0x3000, 0x3000 }, { 0x3164, 0x3164 },
  { 0xFE00, 0xFE0F },   { 0xFEFF, 0xFEFF },   { 0xFFA0, 0xFFA0 }, { 0xFFF0, 0xFFFB },
  { 0x1D173, 0x1D17A }, { 0xE0000, 0xE0FFF },
};

static bool is_harmful(uint32_t code_point)
{
  for (size_t i = 0; i < sizeof(HARMFUL) / sizeof(HARMFUL[0]); i++)
    if (code_point >= HARMFUL[i].first && code_point <= HARMFUL[i].last)
      return true;
  return false;
}

/* Write the next character of the text, escaped, to `piece`. Returns its length in the text, in
   bytes. `also` is one more character to escape. */
static size_t escape_one(const uint8_t *bytes, size_t left, uint32_t also, char piece[20])
{
  static const char digits[] = "0123456789abcdef";
  uint32_t code_point = 0;
  size_t length = qcow2_text_character(bytes, left, &code_point);

  if (length > 0 && !is_harmful(code_point) && code_point != also) {
    memcpy(piece, bytes, length);
    piece[length] = '\0';
    return length;
  }
  if (length == 0)
    length = 1;
  for (size_t i = 0; i < length; i++) {
    *piece++ = '\\';
    *piece++ = 'x';
    *piece++ = digits[bytes[i] >> 4];
    *piece++ = digits[bytes[i] & 15];
  }
  *piece = '\0';
  return length;
}

static char *escape(const char *text, size_t length, uint32_t also, char *out, size_t out_size)
{
  const uint8_t *bytes = (const uint8_t *) text;
  size_t used = 0, keep = 0; /* keep: the longest prefix that leaves room for "..." */
  char piece[20];

  for (size_t at = 0; at < length;) {
    /* A space at either end would be invisible. */
    bool at_end = bytes[at] == ' ' && (at == 0 || at + 1 == length);
    size_t piece_length;

    at += escape_one(bytes + at, length - at, at_end ? ' ' : also, piece);
    piece_length = strlen(piece);
    if (used + piece_length >= out_size) {
      snprintf(out + keep, out_size - keep, "...");
      return out;
    }
    memcpy(out + used, piece, piece_length);
    used += piece_length;
    if (used + 3 < out_size)
      keep = used;
  }
  out[used] = '\0';
  return out;
}

char *qcow2_text_escape(const char *text, size_t length, char *out, size_t out_size)
{
  return escape(text, length, '\\', out, out_size);
}

/* Escape quotes too: otherwise a name could end the quoted text, and look like a part of the
   message. */
char *qcow2_text_quote(const char *text, char out[TEXT_ESCAPED_BYTES])
{
  return escape(text, strlen(text), '"', out, TEXT_ESCAPED_BYTES);
}

/* ---- Dates ------------------------------------------------------------------ */

#define DAYS_PER_400_YEARS 146097u
#define DAYS_FROM_0_TO_1970 719468u /* from March 1st of year 0 */

char *qcow2_text_date(uint32_t seconds, char out[TEXT_DATE_BYTES])
{
  uint32_t days = seconds / 86400 + DAYS_FROM_0_TO_1970, second = seconds % 86400;
  uint32_t era = days / DAYS_PER_400_YEARS, day = days % DAYS_PER_400_YEARS;
  uint32_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
  uint32_t day_of_year = day - (365 * year + year / 4 - year / 100);
  uint32_t month = (5 * day_of_year + 2) / 153; /* 0: March */

  day = day_of_year - (153 * month + 2) / 5 + 1;
  year += era * 400 + (month >= 10);
  month = month < 10 ? month + 3 : month - 9;
  snprintf(out, TEXT_DATE_BYTES, "%04u-%02u-%02u %02u:%02u:%02u UTC", (unsigned) year % 10000,
           (unsigned) month, (unsigned) day, (unsigned) (second / 3600),
           (unsigned) (second / 60 % 60), (unsigned) (second % 60));
  return out;
}
