/* SPDX-License-Identifier: MIT */
/*
 * Image names: IMAGE[@SNAPSHOT][,OPTION[=VALUE]]...[//START/PATH[@SNAPSHOT][,OPTION[=VALUE]]...]...
 *
 * IMAGE is the longest prefix that names an existing file. After it, ",," stands for a comma, and
 * "//" begins the name of an image inside the disk that is named before it. Only at the start of a
 * value it does not: "backing=//START/PATH" is a file inside the same disk.
 */
#ifndef TSK_QCOW2_IMAGE_NAME_H
#define TSK_QCOW2_IMAGE_NAME_H

#include <stdbool.h>

#include "parsed_name.h"

/* Parse. On success the caller frees with tsk_qcow2_name_free(). Errors: IO (no such file),
   ARGUMENT, UNSUPPORTED, NOMEM. */
int tsk_qcow2_name_parse(const char *text, struct tsk_qcow2_name *name, struct qcow2_error *error);

/* Parse what follows the IMAGE part (nothing, or a text that begins with '@', ',' or "//") into a
   name whose path is set. Its other fields are kept; if it lies inside a disk, those of the
   outermost name are. */
int tsk_qcow2_name_parse_rest(const char *rest, struct tsk_qcow2_name *name,
                              struct qcow2_error *error);

/* The first "//" in what follows the IMAGE part that begins the name of an image inside. NULL:
   there is none. */
const char *tsk_qcow2_name_inner(const char *rest);

/* Find the length of the IMAGE part: the longest prefix, up to the end or to a '@', ',' or "//",
   that names an existing file that is no directory. 0: there is none. Errors: NOMEM, IO (a file
   cannot be examined: a shorter prefix would be another one). */
int tsk_qcow2_name_path_length(const char *text, size_t *length, struct qcow2_error *error);

/* The same for a name whose paths start from `directory` and may not leave it: a prefix that is an
   absolute path, or has a component "..", is not even looked for. */
int tsk_qcow2_name_path_length_below(const char *directory, const char *text, size_t *length,
                                     struct qcow2_error *error);

#endif
