/* SPDX-License-Identifier: MIT */
/* The file system: what an image has, as the kernel asks for it. */
#ifndef TSK_QCOW2_MOUNT_FILESYSTEM_H
#define TSK_QCOW2_MOUNT_FILESYSTEM_H

#include "contents.h"

/* Mount it on a directory, whose path is absolute. `image` is what mount tables name. Returns a
   session (of libfuse's), or NULL after complaining. */
struct fuse_session *filesystem_mount(struct contents *contents, const char *image,
                                      const char *directory, bool allow_other);

/* Answer the kernel until the directory is unmounted, or a signal says so; then end the session.
   Returns an exit status, after complaining. */
int filesystem_serve(struct fuse_session *session);

#endif
