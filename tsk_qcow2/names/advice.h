/* SPDX-License-Identifier: MIT */
/* What to type after an error of the core. The core knows of its own options only; here they have
   the names that users give them in image names. */
#ifndef TSK_QCOW2_ADVICE_H
#define TSK_QCOW2_ADVICE_H

#include "image_name.h"
#include "shell.h"

/* Enough for any advice. */
#define ADVICE_BYTES (SHELL_COMMAND_BYTES + 160)

/* Write a sentence that says what to type, without a full stop, or nothing if there is no advice.
   `path` is that of the image as one can type it; NULL: not known. Returns `out`. */
char *tsk_qcow2_advice(const struct qcow2_error *error, const struct tsk_qcow2_name *name,
                       const char *path, char out[ADVICE_BYTES]);

/* True if the advice is to add something to the image name. */
bool tsk_qcow2_advice_adds(const struct qcow2_error *error);

#endif
