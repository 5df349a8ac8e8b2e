/* SPDX-License-Identifier: MIT */
#include "shell.h"

#include <stdio.h>

bool tsk_qcow2_shell_quote(const char *text, char *out, size_t out_size)
{
  size_t at = (size_t) snprintf(out, out_size, "'");

  for (; *text >= ' ' && *text <= '~' && at + 6 < out_size; text++)
    at += (size_t) snprintf(out + at, out_size - at, *text == '\'' ? "'\\''" : "%c", *text);
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
