/* SPDX-License-Identifier: MIT */
/* Commands to type, for messages. */
#ifndef TSK_QCOW2_SHELL_H
#define TSK_QCOW2_SHELL_H

#include <stdbool.h>
#include <stddef.h>

/* The space for a command next to a sentence in a message. */
#define SHELL_COMMAND_BYTES 400

/* Write the text in single quotes, as one argument for a shell. False if it is too long, or if a
   terminal would not show it as it is. */
bool tsk_qcow2_shell_quote(const char *text, char *out, size_t out_size);

/* Write "tsk-qcow2 COMMAND 'NAME'" as it is typed in a shell; returns `out`. If the name is NULL,
   too long, or if a terminal would not show it as it is, write "tsk-qcow2 COMMAND IMAGE". */
char *tsk_qcow2_shell_command(const char *command, const char *name, char out[SHELL_COMMAND_BYTES]);

#endif
