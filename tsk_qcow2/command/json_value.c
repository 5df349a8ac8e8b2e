/* SPDX-License-Identifier: MIT */
#include "json_value.h"

#include <stdio.h>
#include <stdlib.h>

#include "command.h"

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

int json_print(json_t *value)
{
  int failed = value == NULL || json_dumpf(value, stdout, JSON_INDENT(2)) != 0;

  json_decref(value);
  if (failed)
    return complain_failed("cannot write the JSON");
  putchar('\n');
  return EXIT_OK;
}
