/* SPDX-License-Identifier: MIT */
#include "text.h"

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

char *qcow2_text_quote(const char *text, char out[TEXT_ESCAPED_BYTES])
{
  return qcow2_text_escape(text, strlen(text), out, TEXT_ESCAPED_BYTES);
}

/* The length of the well-formed UTF-8 character at `bytes`, 0 if there is none (RFC 3629: no
   overlong form, no surrogate, nothing above U+10FFFF), and its code point. */
static size_t utf8_character(const uint8_t *bytes, size_t left, uint32_t *code_point)
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

/* Characters that would change how the text around them is shown: the C0 and C1 controls, and
   Unicode's line separators and marks that turn the writing direction. */
static int is_harmful(uint32_t code_point)
{
  return code_point < 0x20 || (code_point >= 0x7F && code_point < 0xA0) || code_point == '\\' ||
         code_point == 0x061C || (code_point >= 0x200B && code_point <= 0x200F) ||
         (code_point >= 0x2028 && code_point <= 0x202E) ||
         (code_point >= 0x2060 && code_point <= 0x206F) || code_point == 0xFEFF;
}

/* Write the next character of the text, escaped, to `piece`; returns how many bytes of the text it is. */
static size_t escape_one(const uint8_t *bytes, size_t left, char piece[20])
{
  uint32_t code_point = 0;
  size_t length = utf8_character(bytes, left, &code_point);

  if (length > 0 && !is_harmful(code_point)) {
    memcpy(piece, bytes, length);
    piece[length] = '\0';
    return length;
  }
  if (length == 0)
    length = 1;
  for (size_t i = 0; i < length; i++)
    snprintf(piece + 4 * i, 5, "\\x%02x", bytes[i]);
  return length;
}

char *qcow2_text_escape(const char *text, size_t length, char *out, size_t out_size)
{
  const uint8_t *bytes = (const uint8_t *) text;
  size_t used = 0, keep = 0; /* keep: the longest prefix that leaves room for "..." */
  char piece[20];

  for (size_t at = 0; at < length;) {
    at += escape_one(bytes + at, length - at, piece);
    if (used + strlen(piece) >= out_size) {
      snprintf(out + keep, out_size - keep, "...");
      return out;
    }
    memcpy(out + used, piece, strlen(piece));
    used += strlen(piece);
    if (used + 3 < out_size)
      keep = used;
  }
  out[used] = '\0';
  return out;
}
