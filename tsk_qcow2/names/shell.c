/* SPDX-License-Identifier: MIT */
#include "shell.h"

#include <stdio.h>
#include <string.h>

#include <qcow2core.h>

#define CHARACTER_BYTES_MAX 4u /* of UTF-8 */

/* The bytes of the next character; 0 if a terminal would not show it as it is. */
static size_t shown_character(const char *text)
{
  char escaped[CHARACTER_BYTES_MAX * 4 + 1]; /* "\x5c" for each byte */

  if (*text >= ' ' && *text <= '~')
    return 1;
  for (size_t length = 2; length <= CHARACTER_BYTES_MAX; length++) {
    if (strnlen(text, length) < length)
      break;
    qcow2_text_escape(text, length, escaped, sizeof(escaped));
    if (strlen(escaped) == length && memcmp(escaped, text, length) == 0)
      return length;
  }
  return 0;
}

bool tsk_qcow2_shell_quote(const char *text, char *out, size_t out_size)
{
  size_t at = (size_t) snprintf(out, out_size, "'"), length;

  for (; (length = shown_character(text)) > 0 && at + 6 < out_size; text += length)
    at += (size_t) snprintf(out + at, out_size - at, *text == '\'' ? "'\\''" : "%.*s", (int) length,
                            text);
  snprintf(out + at, out_size - at, "'");
  return *text == '\0';
}

char *tsk_qcow2_shell_command(const char *command, const char *name, char out[SHELL_COMMAND_BYTES])
{
  size_t at = (size_t) snprintf(out, SHELL_COMMAND_BYTES, "tsk-qcow2 %s ", command);

  if (name == NULL || !tsk_qcow2_shell_quote(name, out + at, SHELL_COMMAND_BYTES - at))
    snprintf(out + at, SHELL_COMMAND_BYTES - at, "IMAGE");
  return out;
}
