/* SPDX-License-Identifier: MIT */
/* From image names, as a user types them, to an opened image and view. */
#ifndef TSK_QCOW2_OPEN_NAMES_H
#define TSK_QCOW2_OPEN_NAMES_H

#include "open_level.h"
#include "opened.h"

/* Open the image of names[0], or of the selector file that it leads to, with the other names as its
   backing chain. The directories of the environment variable TSK_QCOW2_SEARCH (separated by colons)
   are searched after those of the name's search=. If a passphrase is needed and the name has no
   key-file=, the environment variable TSK_QCOW2_KEY_FILE names the file. `open_foreign` opens
   backing and data files in other formats than EWF; NULL: libtsk does. The caller closes with
   tsk_qcow2_opened_close(). Errors: those of tsk_qcow2_name_parse(), qcow2_image_open(),
   qcow2_snapshot_find(). */
int tsk_qcow2_open_names(size_t count, const char *const names[], enum tsk_qcow2_depth depth,
                         qcow2_open_foreign *open_foreign, struct tsk_qcow2_opened *opened,
                         struct qcow2_error *error);

#endif
