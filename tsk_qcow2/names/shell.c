/* SPDX-License-Identifier: MIT */
#include "shell.h"

#include <stdio.h>

char *tsk_qcow2_shell_command(const char *command, const char *name, char out[SHELL_COMMAND_BYTES])
{
  size_t at = (size_t) snprintf(out, SHELL_COMMAND_BYTES, "tsk-qcow2 %s '", command);

  for (; name != NULL && *name >= ' ' && *name <= '~' && at + 6 < SHELL_COMMAND_BYTES; name++)
    at += (size_t) snprintf(out + at, SHELL_COMMAND_BYTES - at, *name == '\'' ? "'\\''" : "%c", *name);
  if (name != NULL && *name == '\0')
    snprintf(out + at, SHELL_COMMAND_BYTES - at, "'");
  else
    snprintf(out, SHELL_COMMAND_BYTES, "tsk-qcow2 %s IMAGE", command);
  return out;
}
