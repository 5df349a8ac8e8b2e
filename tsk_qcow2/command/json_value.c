/* SPDX-License-Identifier: MIT */
#include "json_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

json_t *json_number(uint64_t value)
{
  return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t) value);
}

json_t *json_offset(uint64_t offset)
{
  return offset == QCOW2_NO_OFFSET ? json_null() : json_number(offset);
}

json_t *json_warnings(const struct qcow2_image *image)
{
  json_t *list = json_array();
  const char *warning;

  for (size_t i = 0; (warning = qcow2_warning(image, i)) != NULL; i++)
    json_array_append_new(list, json_string(warning)); /* escaped already */
  return list;
}

bool json_print(json_t *value, int depth)
{
  char *text = value == NULL ? NULL : json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);

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

bool json_print_member(const char *key, json_t *value)
{
  printf(",\n  \"%s\": ", key);
  return json_print(value, 1);
}

bool json_print_item(json_t *value, bool is_first)
{
  printf("%s\n    ", is_first ? "" : ",");
  return json_print(value, 2);
}

void json_print_list_end(bool is_empty)
{
  printf("%s]", is_empty ? "" : "\n  ");
}
