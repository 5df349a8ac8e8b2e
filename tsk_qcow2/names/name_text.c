/* SPDX-License-Identifier: MIT */
#include "name_text.h"

#include <stdlib.h>
#include <string.h>

#include "complain.h"

int tsk_qcow2_strings_add(struct tsk_qcow2_strings *strings, const char *text, size_t length,
                          struct qcow2_error *error)
{
  char **items = realloc(strings->items, (strings->count + 1) * sizeof(items[0]));
  char *copy = text == NULL ? NULL : malloc(length + 1);

  if (items != NULL)
    strings->items = items;
  if (items == NULL || (copy == NULL && text != NULL)) {
    free(copy);
    return tsk_qcow2_complain_nomem(error);
  }
  if (copy != NULL) {
    memcpy(copy, text, length);
    copy[length] = '\0';
  }
  items[strings->count++] = copy;
  return 0;
}

void tsk_qcow2_strings_free(struct tsk_qcow2_strings *strings)
{
  for (size_t i = 0; i < strings->count; i++)
    free(strings->items[i]);
  free(strings->items);
  memset(strings, 0, sizeof(*strings));
}

char *tsk_qcow2_piece_take(const char **rest)
{
  char *piece = malloc(strlen(*rest) + 1), *out = piece;
  const char *in = *rest;

  if (piece == NULL)
    return NULL;
  while (*in != '\0' && !(in[0] == ',' && in[1] != ',')) {
    in += *in == ',';
    *out++ = *in++;
  }
  *out = '\0';
  *rest = in;
  return piece;
}

void tsk_qcow2_piece_print(const char *text, FILE *out)
{
  for (; *text != '\0'; text++) {
    if (*text == ',')
      fputc(',', out);
    fputc(*text, out);
  }
}
