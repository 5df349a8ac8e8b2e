/* SPDX-License-Identifier: MIT */
/* The options of image names. */
#ifndef TSK_QCOW2_NAME_OPTIONS_H
#define TSK_QCOW2_NAME_OPTIONS_H

#include "parsed_name.h"

/* Apply "NAME" or "NAME=VALUE" to a name that is being parsed. Errors: ARGUMENT, NOMEM. */
int tsk_qcow2_name_apply_option(struct tsk_qcow2_name *name, const char *text,
                                struct qcow2_error *error);

/* True if there is an option of this name. */
bool tsk_qcow2_name_is_option(const char *text, size_t length);

/* True if what follows the IMAGE part gives a layout, in place of a header that may be lost. */
bool tsk_qcow2_name_gives_layout(const char *rest);

#endif
