/* SPDX-License-Identifier: MIT */
/* JSON values. Names are escaped as in messages, since JSON has no place for bytes that are not UTF-8. */
#ifndef TSK_QCOW2_JSON_VALUE_H
#define TSK_QCOW2_JSON_VALUE_H

#include <jansson.h>
#include <qcow2core.h>

/* The caller owns what each returns. NULL stands for no memory, which jansson's functions pass on. */

/* Any bytes as an escaped string; NULL text gives null. */
json_t *json_text(const char *text, size_t length);

/* An integer. JSON's integers end at 2^63 - 1 here; feature words are given as lists of bits instead. */
json_t *json_number(uint64_t value);

/* An offset; QCOW2_NO_OFFSET gives null. */
json_t *json_offset(uint64_t offset);

/* The image's warnings, a list of strings. */
json_t *json_warnings(const struct qcow2_image *image);

/* Print on stdout and free the value. Returns an exit status, after complaining if it is not EXIT_OK. */
int json_print(json_t *value);

#endif
