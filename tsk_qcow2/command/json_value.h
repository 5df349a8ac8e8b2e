/* SPDX-License-Identifier: MIT */
/* JSON values. Names are escaped as in messages, because JSON cannot contain bytes that are not
   UTF-8. */
#ifndef TSK_QCOW2_JSON_VALUE_H
#define TSK_QCOW2_JSON_VALUE_H

#include <jansson.h>
#include <qcow2core.h>
#include <stdbool.h>

/* The caller owns what each returns. NULL stands for no memory, which jansson's functions pass
   on. */

/* Any bytes as an escaped string; NULL text gives null. */
json_t *json_text(const char *text, size_t length);

/* An integer. jansson's integers end at 2^63 - 1; larger ones are stored as strings, which
   are printed as the integer. */
json_t *json_number(uint64_t value);

/* An offset; QCOW2_NO_OFFSET gives null. */
json_t *json_offset(uint64_t offset);

/* The warnings about what was opened, a list of strings. */
struct tsk_qcow2_opened;
json_t *json_warnings(const struct tsk_qcow2_opened *opened);

/* The notes about a layer, a list of strings. */
json_t *json_notes(const struct qcow2_image *image, size_t layer);

/* An object is printed on stdout piece by piece, because an image can have 65,536 snapshots with
   long names. These functions print everything except the object's first member and the brackets of
   lists. Each frees its value, and returns false if there is no memory. Other errors of the output
   are found when it is flushed. */

/* The object as a whole instead, if it is bounded. Returns an exit status, after complaining. */
int json_print_whole(json_t *value);

/* A member of the object, after others. */
bool json_print_member(const char *key, json_t *value);

/* A value on a line of its own, where every line is one. */
bool json_print_line(json_t *value);

/* An item of a list that is a member, and the end of such a list. */
bool json_print_item(json_t *value, bool is_first);
void json_print_list_end(bool is_empty);

#endif
