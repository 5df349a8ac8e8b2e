/* SPDX-License-Identifier: MIT */
/* JSON values. Names are escaped as in messages, since JSON has no place for bytes that are not
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

/* An integer. jansson's end at 2^63 - 1; larger ones are noted as a string that json_print() prints
   as the integer. */
json_t *json_number(uint64_t value);

/* An offset; QCOW2_NO_OFFSET gives null. */
json_t *json_offset(uint64_t offset);

/* The image's warnings, a list of strings. */
json_t *json_warnings(const struct qcow2_image *image);

/* What is worth knowing of a layer, a list of strings. */
json_t *json_notes(const struct qcow2_image *image, size_t layer);

/* An object is printed on stdout a piece at a time, since an image can have 65,536 snapshots with
   long names and much to tell of each. All but the first member of the object and the list's
   brackets are printed here. Each frees its value, and returns false for no memory; what else can
   go wrong with the output is known when it is flushed. */

/* A value, as it looks `depth` levels inside. */
bool json_print(json_t *value, int depth);

/* A member of the object, behind others. */
bool json_print_member(const char *key, json_t *value);

/* A value on a line of its own, where every line is one. */
bool json_print_line(json_t *value);

/* An item of a list that is a member, and the list's end. */
bool json_print_item(json_t *value, bool is_first);
void json_print_list_end(bool is_empty);

#endif
