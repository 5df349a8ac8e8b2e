/* SPDX-License-Identifier: MIT */
#include "json_value.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "notes.h"

json_t *json_text(const char *text, size_t length)
{
  size_t size = length * 4 + 1;
  json_t *value;
  char *escaped;

  if (text == NULL)
    return json_null();
  escaped = malloc(size);
  if (escaped == NULL)
    return NULL;
  value = json_string(qcow2_text_escape(text, length, escaped, size));
  free(escaped);
  return value;
}

/* The mark at the start of a string that stands for an integer too large for jansson, and the same
   mark as jansson prints it. No text from an image starts with it: control characters are escaped
   before they are put into JSON. */
#define LARGE_MARK "\001"
#define LARGE_MARK_PRINTED "\"\\u0001"

json_t *json_number(uint64_t value)
{
  char digits[32];

  if (value <= INT64_MAX)
    return json_integer((json_int_t) value);
  snprintf(digits, sizeof(digits), LARGE_MARK "%" PRIu64, value);
  return json_string(digits);
}

json_t *json_offset(uint64_t offset)
{
  return offset == QCOW2_NO_OFFSET ? json_null() : json_number(offset);
}

json_t *json_warnings(const struct tsk_qcow2_opened *opened)
{
  json_t *list = json_array();
  const char *warning;

  for (size_t i = 0; (warning = tsk_qcow2_opened_warning(opened, i)) != NULL; i++)
    json_array_append_new(list, json_string(warning)); /* escaped already */
  return list;
}

json_t *json_notes(const struct qcow2_image *image, size_t layer)
{
  char note[TSK_QCOW2_NOTE_BYTES];
  json_t *list = json_array();

  for (size_t i = 0; tsk_qcow2_note(image, layer, i, note) != NULL; i++)
    json_array_append_new(list, json_string(note));
  return list;
}

/* Remove the mark and the quotes of large integers. */
static void uncover_large(char *text)
{
  char *from = text, *to = text;

  for (char *mark; (mark = strstr(from, LARGE_MARK_PRINTED)) != NULL;) {
    size_t length = (size_t) (mark - from), digits;

    memmove(to, from, length);
    to += length;
    from = mark + strlen(LARGE_MARK_PRINTED);
    digits = strcspn(from, "\"");
    memmove(to, from, digits);
    to += digits;
    from += digits + 1;
  }
  memmove(to, from, strlen(from) + 1);
}

/* Print a value, as it looks `depth` levels inside. Frees it. False: no memory. */
static bool print_value(json_t *value, int depth)
{
  char *text = value == NULL ? NULL : json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);

  if (text != NULL)
    uncover_large(text);
  for (const char *at = text; at != NULL && *at != '\0';) {
    size_t length = strcspn(at, "\n"); /* never inside a string, where it is an escape */

    fwrite(at, 1, length, stdout);
    at += length;
    if (*at != '\0')
      printf("\n%*s", 2 * depth, "");
    at += *at != '\0';
  }
  free(text);
  json_decref(value);
  return text != NULL;
}

int json_print_whole(json_t *value)
{
  if (!print_value(value, 0))
    return complain_failed("cannot write the JSON: out of memory");
  putchar('\n');
  return EXIT_OK;
}

bool json_print_line(json_t *value)
{
  char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT);

  if (text != NULL) {
    uncover_large(text);
    puts(text);
  }
  free(text);
  json_decref(value);
  return text != NULL;
}

bool json_print_member(const char *key, json_t *value)
{
  printf(",\n  \"%s\": ", key);
  return print_value(value, 1);
}

bool json_print_item(json_t *value, bool is_first)
{
  printf("%s\n    ", is_first ? "" : ",");
  return print_value(value, 2);
}

void json_print_list_end(bool is_empty)
{
  printf("%s]", is_empty ? "" : "\n  ");
}
