/* SPDX-License-Identifier: MIT */
#include "markup.h"

#include <inttypes.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"
#define ELLIPSIS "\xe2\x80\xa6"

static void write_character(FILE *out, char character)
{
  switch (character) {
  case '&': fputs("&amp;", out); break;
  case '<': fputs("&lt;", out); break;
  case '>': fputs("&gt;", out); break;
  case '"': fputs("&quot;", out); break;
  case '\'': fputs("&#39;", out); break;
  default:
    if (((unsigned char) character < 0x20 && character != '\n') || character == 0x7f)
      fputs(REPLACEMENT, out);
    else
      putc(character, out);
  }
}

/* True if a character of UTF-8 goes on at this byte. */
static int is_inside(char character)
{
  return ((unsigned char) character & 0xc0) == 0x80;
}

void markup_write(FILE *out, const char *text, size_t length)
{
  for (size_t i = 0; i < length; i++)
    write_character(out, text[i]);
}

void markup_write_all(FILE *out, const char *text)
{
  markup_write(out, text, strlen(text));
}

void markup_write_cut(FILE *out, const char *text, size_t length_max)
{
  size_t length = strlen(text), end = length_max;

  if (length <= length_max) {
    markup_write(out, text, length);
    return;
  }
  while (end > 0 && is_inside(text[end]))
    end--;
  markup_write(out, text, end);
  fputs(ELLIPSIS, out);
}

char *markup_size(uint64_t bytes, char out[MARKUP_SIZE_BYTES])
{
  static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
  uint64_t whole = bytes, tenths;
  size_t unit = 0;

  if (bytes < 1024) {
    snprintf(out, MARKUP_SIZE_BYTES, "%" PRIu64 " byte%s", bytes, bytes == 1 ? "" : "s");
    return out;
  }
  for (; whole / 1024 >= 1024; unit++)
    whole /= 1024;
  tenths = whole % 1024 * 10 / 1024;
  if (tenths == 0)
    snprintf(out, MARKUP_SIZE_BYTES, "%" PRIu64 " %s", whole / 1024, units[unit]);
  else
    snprintf(out, MARKUP_SIZE_BYTES, "%" PRIu64 ".%" PRIu64 " %s", whole / 1024, tenths,
             units[unit]);
  return out;
}

char *markup_share(uint64_t part, uint64_t whole, char out[MARKUP_SIZE_BYTES])
{
  double percent = whole == 0 ? 0 : 100.0 * (double) part / (double) whole;

  if (part > 0 && percent < 0.1)
    snprintf(out, MARKUP_SIZE_BYTES, "below 0.1 %%");
  else if (part < whole && percent > 99.9)
    snprintf(out, MARKUP_SIZE_BYTES, "above 99.9 %%");
  else
    snprintf(out, MARKUP_SIZE_BYTES, "%.1f %%", percent);
  return out;
}
