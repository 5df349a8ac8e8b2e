/* SPDX-License-Identifier: MIT */
/* The text of image names: lists of strings, and pieces between commas. */
#ifndef TSK_QCOW2_NAME_TEXT_H
#define TSK_QCOW2_NAME_TEXT_H

#include <stdio.h>

#include <qcow2core.h>

/* A list of strings that it owns. */
struct tsk_qcow2_strings {
  char **items;
  size_t count;
};

/* Append a copy of `length` bytes, or NULL. Returns 0 or QCOW2_ERROR_NOMEM. */
int tsk_qcow2_strings_add(struct tsk_qcow2_strings *strings, const char *text, size_t length,
                          struct qcow2_error *error);

/* All zero is allowed. */
void tsk_qcow2_strings_free(struct tsk_qcow2_strings *strings);

/* Take the piece at the start of *rest, up to a single comma or the end. ",," in it becomes ",".
 *rest is advanced to that comma or end. The caller frees it. NULL: no memory. */
char *tsk_qcow2_piece_take(const char **rest);

/* The way back: write the text with each comma doubled. */
void tsk_qcow2_piece_print(const char *text, FILE *out);

#endif
