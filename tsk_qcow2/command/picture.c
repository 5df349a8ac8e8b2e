/* SPDX-License-Identifier: MIT */
#include "picture.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "markup.h"

/* In units of the picture, which are pixels at its natural size. */
#define COLUMNS 64u
#define SQUARE 11u
#define ROW_PITCH 14u
#define LEFT 76u
_Static_assert(LEFT + COLUMNS * SQUARE + 4 == PICTURE_WIDTH, "the pictures' width");
#define LINE 17u
#define TITLE_HEIGHT 30u
#define LINE_CHARACTERS 112u
#define CAPTION_BYTES 1536u

/* ---- What is in it ------------------------------------------------------------- */

void picture_start(struct picture *picture, uint64_t size, uint64_t least)
{
  memset(picture, 0, sizeof(*picture));
  picture->size = size;
  while (UINT64_C(1) << picture->shift < least)
    picture->shift++;
  while (size > 0 && (size - 1) >> picture->shift >= PICTURE_SQUARES_MAX)
    picture->shift++;
  picture->square_count = size == 0 ? 0 : (size_t) ((size - 1) >> picture->shift) + 1;
}

/* Cut a part to the picture. Returns its end. */
static uint64_t end_of(const struct picture *picture, uint64_t start, uint64_t length)
{
  if (start >= picture->size)
    return start;
  return length > picture->size - start ? picture->size : start + length;
}

void picture_add(struct picture *picture, unsigned class_index, uint64_t start, uint64_t length)
{
  uint64_t end = end_of(picture, start, length);

  picture->bytes[class_index] += end - start;
  while (start < end) {
    uint64_t square = start >> picture->shift, left = end - start;
    uint64_t room = ((square + 1) << picture->shift) - start;

    picture->shares[square][class_index] += left < room ? left : room;
    start += left < room ? left : room;
  }
}

void picture_mark(struct picture *picture, uint64_t start, uint64_t length)
{
  uint64_t end = end_of(picture, start, length);

  if (start >= end)
    return;
  picture->has_damage = true;
  for (uint64_t square = start >> picture->shift; square <= (end - 1) >> picture->shift; square++)
    picture->is_damaged[square] = true;
}

/* ---- Squares ---------------------------------------------------------------------- */

static unsigned square_x(size_t square)
{
  return LEFT + (unsigned) (square % COLUMNS) * SQUARE;
}

static unsigned square_y(size_t square)
{
  return TITLE_HEIGHT + (unsigned) (square / COLUMNS) * ROW_PITCH;
}

/* How high each class is in a square, from the bottom up: together as high as the square. */
static void find_heights(const struct picture *picture, size_t square, unsigned heights[])
{
  const uint64_t *shares = picture->shares[square];
  uint64_t whole = 0;
  size_t largest = 0;
  unsigned sum = 0;

  for (size_t i = 0; i < picture->class_count; i++) {
    whole += shares[i];
    largest = shares[i] > shares[largest] ? i : largest;
  }
  for (size_t i = 0; i < picture->class_count; i++) {
    double exact = whole == 0 ? 0 : (double) shares[i] * SQUARE / (double) whole;

    heights[i] = shares[i] > 0 && exact < 1 ? 1 : (unsigned) exact;
    sum += heights[i];
  }
  if (whole > 0)
    heights[largest] += SQUARE - sum; /* can only be negative if others were raised to 1 */
}

/* The height and the position of a class in a square; 0: it is not there. */
static unsigned find_part(const struct picture *picture, size_t square, size_t class_index,
                          unsigned *below)
{
  unsigned heights[PICTURE_CLASSES_MAX] = { 0 };

  find_heights(picture, square, heights);
  *below = 0;
  for (size_t i = 0; i < class_index; i++)
    *below += heights[i];
  return heights[class_index];
}

/* Write all parts of a class as one path. Equal parts of squares beside each other are one
   rectangle. */
static void write_class(const struct picture *picture, size_t class_index, FILE *out)
{
  bool is_open = false;
  size_t next;

  for (size_t square = 0; square < picture->square_count; square = next) {
    unsigned below, other, height = find_part(picture, square, class_index, &below);
    size_t row_end = (square / COLUMNS + 1) * COLUMNS;

    for (next = square + 1; next < picture->square_count && next < row_end; next++)
      if (find_part(picture, next, class_index, &other) != height || other != below)
        break;
    if (height == 0)
      continue;
    if (!is_open)
      fprintf(out, "<path fill=\"url(#%s-%zu)\" d=\"", picture->id, class_index);
    is_open = true;
    fprintf(out, "M%u %uh%uv%uh-%uz", square_x(square), square_y(square) + SQUARE - below - height,
            (unsigned) (next - square) * SQUARE, height, (unsigned) (next - square) * SQUARE);
  }
  if (is_open)
    fputs("\"/>\n", out);
}

/* A cross over each damaged square. */
static void write_damage(const struct picture *picture, FILE *out)
{
  static const char *const strokes[] = { "halo", "cross" };

  for (size_t stroke = 0; picture->has_damage && stroke < 2; stroke++) {
    fprintf(out, "<path class=\"%s\" d=\"", strokes[stroke]);
    for (size_t square = 0; square < picture->square_count; square++)
      if (picture->is_damaged[square])
        fprintf(out, "M%u %ul%u %um0-%ul-%u %u", square_x(square), square_y(square), SQUARE, SQUARE,
                SQUARE, SQUARE, SQUARE);
    fputs("\"/>\n", out);
  }
}

/* An offset in the largest unit of which it is a multiple. */
static const char *offset_text(uint64_t offset, char out[MARKUP_SIZE_BYTES])
{
  static const char *const units[] = { "", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB" };
  size_t unit = 0;

  for (; offset > 0 && offset % 1024 == 0; unit++)
    offset /= 1024;
  snprintf(out, MARKUP_SIZE_BYTES, "%" PRIu64 "%s", offset, units[unit]);
  return out;
}

/* Where the rows begin, and a frame around what is there. */
static void write_rows(const struct picture *picture, FILE *out)
{
  size_t rows = (picture->square_count + COLUMNS - 1) / COLUMNS;
  char text[MARKUP_SIZE_BYTES];

  for (size_t row = 0; row < rows; row++) {
    size_t first = row * COLUMNS, left = picture->square_count - first;
    unsigned width = (unsigned) (left < COLUMNS ? left : COLUMNS) * SQUARE;

    fprintf(out,
            "<rect class=\"frame\" x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\"/>\n"
            "<text class=\"at\" x=\"%u\" y=\"%u\">%s</text>\n",
            LEFT, square_y(first), width, SQUARE, LEFT - 6, square_y(first) + SQUARE - 1,
            offset_text((uint64_t) first << picture->shift, text));
  }
}

/* ---- Patterns, legend, caption ------------------------------------------------------- */

static const char *pattern_path(enum picture_pattern pattern)
{
  switch (pattern) {
  case PATTERN_PLAIN:
  case PATTERN_EMPTY: return "";
  case PATTERN_RISING: return "M-1 1l2-2M0 6l6-6M5 7l2-2";
  case PATTERN_FALLING: return "M-1 5l2 2M0 0l6 6M5-1l2 2";
  case PATTERN_DOTS: return "M1 2h2M4 5h2";
  case PATTERN_HORIZONTAL: return "M0 1h6M0 4h6";
  case PATTERN_VERTICAL: return "M1 0v6M4 0v6";
  case PATTERN_GRID: return "M0 3h6M3 0v6";
  }
  return "";
}

static void write_patterns(const struct picture *picture, FILE *out)
{
  fputs("<defs>\n", out);
  for (size_t i = 0; i < picture->class_count; i++) {
    const struct picture_class *class = &picture->classes[i];
    const char *path = pattern_path(class->pattern);

    fprintf(out, "<pattern id=\"%s-%zu\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">",
            picture->id, i);
    if (class->pattern == PATTERN_EMPTY)
      fputs("<rect class=\"empty\" width=\"6\" height=\"6\"/>", out);
    else
      fprintf(out, "<rect width=\"6\" height=\"6\" fill=\"%s\"/>", class->colour);
    if (path[0] != '\0')
      fprintf(out, "<path d=\"%s\" stroke=\"%s\" fill=\"none\"/>", path, class->ink);
    fputs("</pattern>\n", out);
  }
  fputs("</defs>\n", out);
}

/* Two columns of what there is. Returns the y after them. */
static unsigned write_legend(const struct picture *picture, unsigned y, FILE *out)
{
  unsigned entry = 0, x;
  char size[MARKUP_SIZE_BYTES], share[MARKUP_SIZE_BYTES];

  for (size_t i = 0; i < picture->class_count; i++) {
    if (picture->bytes[i] == 0)
      continue;
    x = entry % 2 == 0 ? LEFT : LEFT + 356;
    fprintf(out,
            "<rect class=\"frame\" x=\"%u\" y=\"%u\" width=\"22\" height=\"12\"/>"
            "<rect fill=\"url(#%s-%zu)\" x=\"%u\" y=\"%u\" width=\"22\" height=\"12\"/>"
            "<text x=\"%u\" y=\"%u\">",
            x, y + entry / 2 * LINE, picture->id, i, x, y + entry / 2 * LINE, x + 28,
            y + entry / 2 * LINE + 10);
    markup_write_all(out, picture->classes[i].label);
    fprintf(out, ": %s, %s</text>\n", markup_size(picture->bytes[i], size),
            markup_share(picture->bytes[i], picture->size, share));
    entry++;
  }
  return y + (entry + 1) / 2 * LINE;
}

static void compose_caption(const struct picture *picture, char out[CAPTION_BYTES])
{
  char square[MARKUP_SIZE_BYTES], row[MARKUP_SIZE_BYTES];

  snprintf(
      out, CAPTION_BYTES,
      "How to read it: the %s from its start, at the top left, to its end, row by row. Each row "
      "begins with its offset. A square is %s, a whole row %s. In a square with several "
      "colours, these are stacked by their share; a share is never less than one line.%s%s%s",
      picture->whole, markup_size(UINT64_C(1) << picture->shift, square),
      markup_size((uint64_t) COLUMNS << picture->shift, row),
      picture->has_damage ? " A cross marks a square with damage." : "",
      picture->note[0] == '\0' ? "" : " ", picture->note);
}

/* Write a text in lines that are broken between words. Returns the y after them. */
static unsigned write_lines(const char *text, unsigned y, FILE *out)
{
  while (*text != '\0') {
    size_t length = strlen(text), end = length;

    if (length > LINE_CHARACTERS)
      for (end = LINE_CHARACTERS; end > 1 && text[end] != ' ';)
        end--;
    fprintf(out, "<text x=\"%u\" y=\"%u\">", LEFT, y + 10);
    markup_write(out, text, end);
    fputs("</text>\n", out);
    y += LINE;
    text += end + (text[end] == ' ');
  }
  return y;
}

/* ---- The whole ------------------------------------------------------------------------ */

static const char STYLE[] =
    "<style>\n"
    ".tq{color-scheme:light dark}\n"
    ".tq text{font:12px system-ui,sans-serif;fill:#1a1a1a}\n"
    ".tq .title{font-weight:600;font-size:14px}.tq .at{text-anchor:end;font-size:11px}\n"
    ".tq .frame{fill:#fff;stroke:#767676}.tq .empty{fill:#f1f1f1}\n"
    ".tq .halo{stroke:#fff;stroke-width:4.5;fill:none}\n"
    ".tq .cross{stroke:#b00020;stroke-width:2.2;fill:none}\n"
    "@media screen and (prefers-color-scheme:dark){.tq text{fill:#e6e6e6}\n"
    ".tq .frame{fill:#1e1e1e;stroke:#8c8c8c}.tq .empty{fill:#2b2b2b}\n"
    ".tq .halo{stroke:#000}.tq .cross{stroke:#ff8a80}}\n"
    "</style>\n";

static void write_start(const struct picture *picture, unsigned y, unsigned height,
                        const char *caption, FILE *out)
{
  fprintf(out,
          "<svg class=\"tq\" xmlns=\"http://www.w3.org/2000/svg\" y=\"%u\" viewBox=\"0 0 %u %u\" "
          "width=\"%u\" height=\"%u\" role=\"img\" aria-labelledby=\"%s-title %s-text\">\n"
          "<title id=\"%s-title\">",
          y, PICTURE_WIDTH, height, PICTURE_WIDTH, height, picture->id, picture->id, picture->id);
  markup_write_all(out, picture->title);
  fprintf(out, "</title>\n<desc id=\"%s-text\">", picture->id);
  markup_write_all(out, caption);
  fputs("</desc>\n", out);
  fputs(STYLE, out);
}

/* Write all that is seen. Returns its height. */
static unsigned write_body(const struct picture *picture, const char *caption, FILE *out)
{
  size_t last = picture->square_count == 0 ? 0 : picture->square_count - 1;
  unsigned y = square_y(last) + ROW_PITCH + 8;

  write_patterns(picture, out);
  fprintf(out, "<text class=\"title\" x=\"%u\" y=\"16\">", LEFT);
  markup_write_all(out, picture->title);
  fputs("</text>\n", out);
  write_rows(picture, out);
  for (size_t i = 0; i < picture->class_count; i++)
    write_class(picture, i, out);
  write_damage(picture, out);
  y = write_legend(picture, y, out) + 6;
  return write_lines(caption, y, out) + 6;
}

unsigned picture_write(const struct picture *picture, unsigned y, FILE *out)
{
  char caption[CAPTION_BYTES], *text = NULL;
  size_t text_size;
  FILE *body = open_memstream(&text, &text_size);
  unsigned height;

  if (body == NULL)
    return 0;
  compose_caption(picture, caption);
  height = write_body(picture, caption, body);
  if (fclose(body) != 0)
    height = 0;
  if (height > 0) {
    write_start(picture, y, height, caption, out);
    fputs(text, out);
    fputs("</svg>\n", out);
  }
  free(text);
  return height;
}
