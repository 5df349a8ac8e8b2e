/* SPDX-License-Identifier: MIT */
/* From a parsed image name back to text. */
#ifndef TSK_QCOW2_NAME_COMPOSE_H
#define TSK_QCOW2_NAME_COMPOSE_H

#include "image_name.h"

/* Returns a path as it is written into the text: an allocated string, or NULL with errno set. */
typedef char *tsk_qcow2_map_path(void *context, const char *path);

/* Write a name as text, with the paths as map() gives them. Returns NULL with errno set if map()
   failed or there is no memory. The caller frees. */
char *tsk_qcow2_name_compose(const struct tsk_qcow2_name *name, tsk_qcow2_map_path *map,
                             void *context);

#endif
