/* SPDX-License-Identifier: MIT */
/* Is a file in use by another program, and did it change since it was opened? */
#ifndef QCOW2_STORAGE_WATCH_H
#define QCOW2_STORAGE_WATCH_H

#include "opened_file.h"

/* Note what shows later that the file changed, and whether another process holds it open for
   writing, as QEMU marks that: by locks on certain bytes. They are only looked at. On Windows
   nothing is found out. */
void qcow2_watch_begin(struct qcow2_opened_file *file);

/* If the file changed since it was opened, write a sentence that says so, and return true. False:
   it did not, or that is not known: it is a device, or the caller reads it. */
bool qcow2_watch_has_changed(const struct qcow2_opened_file *file, char *sentence, size_t size);

#endif
