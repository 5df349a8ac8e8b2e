/* SPDX-License-Identifier: MIT */
/*
 * Fills a template with values. It is HTML with tags, a small part of the Mustache language:
 *
 *   {{name}}             the value, as text: see markup.h. name can be a path: a.b.c
 *   {{name|filter}}      the same, formatted: bytes, size, number, date
 *   {{#name}}...{{/name}}  once for each item of a list; once, if the value is not empty: false,
 * null, 0, an empty text, list or object. Inside, names of the item come first;
 *                        {{.}} is the item
 *   {{^name}}...{{/name}}  if it is empty, or not there
 *   {{&name}}            a drawing, which is markup already. Values can never be drawings
 *   {{!...}}             nothing
 */
#ifndef TSK_QCOW2_REPORT_TEMPLATE_H
#define TSK_QCOW2_REPORT_TEMPLATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

struct drawing {
  const char *name;
  char *markup; /* NULL: there is none */
};

/* Longer texts are cut. */
#define TEMPLATE_TEXT_MAX 2048u

/* Fill the template. `drawings` ends with one whose name is NULL. False: the template has a
   mistake, and *mistake says where. */
bool template_fill(const char *text, const json_t *values, const struct drawing *drawings,
                   FILE *out, const char **mistake);

#endif
