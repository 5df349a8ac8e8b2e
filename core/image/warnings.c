/* SPDX-License-Identifier: MIT */
#include "warnings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/error.h"
#include "../base/text.h"

int qcow2_warnings_add(struct qcow2_warnings *warnings, const char *path, const char *sentence,
                       struct qcow2_error *error)
{
  size_t size = strlen(sentence) + TEXT_ESCAPED_BYTES + 16;
  char **sentences = realloc(warnings->sentences, (warnings->count + 1) * sizeof(sentences[0]));
  char *copy = malloc(size), quoted[TEXT_ESCAPED_BYTES];

  if (sentences != NULL)
    warnings->sentences = sentences;
  if (sentences == NULL || copy == NULL) {
    free(copy);
    return qcow2_error_set_nomem(error);
  }
  if (path == NULL)
    snprintf(copy, size, "%s", sentence);
  else
    snprintf(copy, size, "%s (file \"%s\")", sentence, qcow2_text_quote(path, quoted));
  sentences[warnings->count++] = copy;
  return 0;
}

int qcow2_warnings_add_damage(struct qcow2_warnings *warnings, const char *path,
                              const char *sentence, struct qcow2_error *error)
{
  warnings->of_damage = true;
  return qcow2_warnings_add(warnings, path, sentence, error);
}

void qcow2_warnings_free(struct qcow2_warnings *warnings)
{
  for (size_t i = 0; i < warnings->count; i++)
    free(warnings->sentences[i]);
  free(warnings->sentences);
  memset(warnings, 0, sizeof(*warnings));
}
