/* SPDX-License-Identifier: MIT */
#include "template.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "../command/markup.h"

#define DEPTH_MAX 16
#define NAME_BYTES 96

struct filling {
  const struct drawing *drawings;
  FILE *out;
  const json_t *stack[DEPTH_MAX]; /* what names are looked for in, the innermost last */
  size_t depth;
  const char *mistake; /* NULL: none so far */
};

/* One {{tag}}. */
struct tag {
  char kind; /* '#', '^', '/', '&', '!', or 0 */
  char name[NAME_BYTES];
  const char *filter;      /* in `name`; NULL: none */
  const char *start, *end; /* in the template, with the braces */
};

/* ---- Tags --------------------------------------------------------------------------- */

/* Find the next tag before `limit`. False: there is none, or it is not right. */
static bool next_tag(struct filling *filling, const char *text, const char *limit, struct tag *tag)
{
  const char *start = strstr(text, "{{"), *end;
  size_t length;

  if (start == NULL || start >= limit)
    return false;
  end = strstr(start, "}}");
  length = end == NULL ? NAME_BYTES : (size_t) (end - (start + 2));
  *tag = (struct tag){ .start = start, .end = end == NULL ? limit : end + 2 };
  if (end != NULL && start[2] == '!')
    length = 0;
  if (length >= NAME_BYTES) {
    filling->mistake = start;
    return false;
  }
  if (strchr("#^/&!", start[2]) != NULL)
    tag->kind = start[2];
  if (length > 0) {
    size_t skipped = tag->kind != '\0' ? 1 : 0;

    memcpy(tag->name, start + 2 + skipped, length - skipped);
  }
  if (strchr(tag->name, '|') != NULL) {
    *strchr(tag->name, '|') = '\0';
    tag->filter = tag->name + strlen(tag->name) + 1;
  }
  return true;
}

/* Find the tag that ends a section. False: there is none. */
static bool find_end(struct filling *filling, const struct tag *section, const char *limit,
                     struct tag *end)
{
  int open = 1;

  for (const char *at = section->end; next_tag(filling, at, limit, end); at = end->end) {
    if (strcmp(end->name, section->name) != 0)
      continue;
    open += end->kind == '#' || end->kind == '^';
    open -= end->kind == '/';
    if (open == 0)
      return true;
  }
  filling->mistake = section->start;
  return false;
}

/* ---- Values ---------------------------------------------------------------------------- */

static const json_t *find_value(const struct filling *filling, const char *path)
{
  const json_t *value = NULL;
  char part[NAME_BYTES];
  size_t length = strcspn(path, ".");

  if (strcmp(path, ".") == 0)
    return filling->stack[filling->depth - 1];
  snprintf(part, sizeof(part), "%.*s", (int) length, path);
  for (size_t i = filling->depth; value == NULL && i > 0; i--)
    value = json_object_get(filling->stack[i - 1], part);
  while (value != NULL && path[length] == '.') {
    path += length + 1;
    length = strcspn(path, ".");
    snprintf(part, sizeof(part), "%.*s", (int) length, path);
    value = json_object_get(value, part);
  }
  return value;
}

static bool is_empty(const json_t *value)
{
  switch (json_typeof(value)) {
  case JSON_OBJECT: return json_object_size(value) == 0;
  case JSON_ARRAY: return json_array_size(value) == 0;
  case JSON_STRING: return json_string_value(value)[0] == '\0';
  case JSON_INTEGER: return json_integer_value(value) == 0;
  case JSON_REAL: return json_real_value(value) <= 0;
  case JSON_TRUE: return false;
  case JSON_FALSE:
  case JSON_NULL: break;
  }
  return true;
}

/* ---- Numbers ------------------------------------------------------------------------------ */

/* Digits in groups of three. */
static void write_number(FILE *out, const json_t *value)
{
  char digits[64];
  size_t length;

  if (json_is_real(value)) /* an integer that was too large */
    snprintf(digits, sizeof(digits), "%.0f", json_real_value(value));
  else
    snprintf(digits, sizeof(digits), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
  length = strlen(digits);
  for (size_t i = 0; i < length; i++) {
    if (i > 0 && (length - i) % 3 == 0)
      putc(',', out);
    putc(digits[i], out);
  }
}

static uint64_t number_of(const json_t *value)
{
  return json_is_real(value) ? (uint64_t) json_real_value(value)
                             : (uint64_t) json_integer_value(value);
}

static void write_size(FILE *out, const json_t *value)
{
  char text[MARKUP_SIZE_BYTES];

  fputs(markup_size(number_of(value), text), out);
}

/* "1,536 bytes (1.5 KiB)" */
static void write_bytes(FILE *out, const json_t *value)
{
  write_number(out, value);
  fputs(number_of(value) == 1 ? " byte" : " bytes", out);
  if (number_of(value) >= 1024) {
    fputs(" (", out);
    write_size(out, value);
    putc(')', out);
  }
}

static void write_date(FILE *out, const json_t *value)
{
  time_t seconds = (time_t) json_integer_value(value);
  struct tm moment;
  char text[64];

  if (gmtime_r(&seconds, &moment) != NULL &&
      strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &moment) > 0)
    fputs(text, out);
}

static const struct {
  const char *name;
  void (*write)(FILE *out, const json_t *value);
} FILTERS[] = { { "bytes", write_bytes },
                { "date", write_date },
                { "number", write_number },
                { "size", write_size } };

/* ---- Filling ------------------------------------------------------------------------------- */

static void write_filtered(struct filling *filling, const struct tag *tag, const json_t *value)
{
  for (size_t i = 0; i < sizeof(FILTERS) / sizeof(FILTERS[0]); i++)
    if (strcmp(tag->filter, FILTERS[i].name) == 0) {
      FILTERS[i].write(filling->out, value);
      return;
    }
  filling->mistake = tag->start;
}

static void write_value(struct filling *filling, const struct tag *tag)
{
  const json_t *value = find_value(filling, tag->name);

  if (json_is_number(value) && tag->filter != NULL)
    write_filtered(filling, tag, value);
  else if (json_is_number(value))
    write_number(filling->out, value);
  else if (json_is_string(value))
    markup_write_cut(filling->out, json_string_value(value), TEMPLATE_TEXT_MAX);
  else if (json_is_boolean(value))
    fputs(json_is_true(value) ? "yes" : "no", filling->out);
}

static void write_drawing(struct filling *filling, const struct tag *tag)
{
  for (const struct drawing *drawing = filling->drawings; drawing->name != NULL; drawing++)
    if (strcmp(drawing->name, tag->name) == 0 && drawing->markup != NULL)
      fputs(drawing->markup, filling->out);
}

/* True if a name is one of a drawing that is there, or of a value that is not empty. */
static bool is_there(const struct filling *filling, const char *name)
{
  const json_t *value = find_value(filling, name);

  for (const struct drawing *drawing = filling->drawings; drawing->name != NULL; drawing++)
    if (strcmp(drawing->name, name) == 0)
      return drawing->markup != NULL;
  return value != NULL && !is_empty(value);
}

static void fill(struct filling *filling, const char *text, const char *end);

static void fill_with(struct filling *filling, const json_t *value, const char *text,
                      const char *end)
{
  if (filling->depth == DEPTH_MAX) {
    filling->mistake = text;
    return;
  }
  filling->stack[filling->depth++] = value;
  fill(filling, text, end);
  filling->depth--;
}

/* Fill a section as often as its value has it. Returns where the template goes on. */
static const char *fill_section(struct filling *filling, const struct tag *tag, const char *limit)
{
  const json_t *value = find_value(filling, tag->name);
  bool is_wanted = is_there(filling, tag->name) == (tag->kind == '#');
  struct tag end;

  if (!find_end(filling, tag, limit, &end))
    return limit;
  if (is_wanted && tag->kind == '#' && json_is_array(value))
    for (size_t i = 0; i < json_array_size(value); i++)
      fill_with(filling, json_array_get(value, i), tag->end, end.start);
  else if (is_wanted && tag->kind == '#' && json_is_object(value))
    fill_with(filling, value, tag->end, end.start);
  else if (is_wanted)
    fill(filling, tag->end, end.start);
  return end.end;
}

/* Sections inside of sections are as deep as the template has them. */
static void fill(struct filling *filling, const char *text, const char *end)
{
  struct tag tag;

  while (filling->mistake == NULL && next_tag(filling, text, end, &tag)) {
    fwrite(text, 1, (size_t) (tag.start - text), filling->out);
    text = tag.end;
    switch (tag.kind) {
    case '#':
    case '^': text = fill_section(filling, &tag, end); break;
    case '&': write_drawing(filling, &tag); break;
    case '!': break;
    case '/': filling->mistake = tag.start; break;
    default: write_value(filling, &tag); break;
    }
  }
  fwrite(text, 1, (size_t) (end - text), filling->out);
}

bool template_fill(const char *text, const json_t *values, const struct drawing *drawings,
                   FILE *out, const char **mistake)
{
  struct filling filling = { .drawings = drawings, .out = out };

  fill_with(&filling, values, text, text + strlen(text));
  *mistake = filling.mistake;
  return filling.mistake == NULL;
}
