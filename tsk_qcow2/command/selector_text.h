/* SPDX-License-Identifier: MIT */
/* What a selector file has to say so that it leads to an image name. */
#ifndef TSK_QCOW2_SELECTOR_TEXT_H
#define TSK_QCOW2_SELECTOR_TEXT_H

#include "image_name.h"

/* The text of a selector file in `directory` (a real path, with a "/" at its end) that leads to
   `name`, with an authentication code if a path leads out of the directory. Returns EXIT_OK, or
   EXIT_FAILED after printing why; then *text is NULL. The caller frees it. */
int selector_text(const struct tsk_qcow2_name *name, const char *directory, char **text);

#endif
