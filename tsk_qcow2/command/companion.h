/* SPDX-License-Identifier: MIT */
/* Programs of ours that tsk-qcow2 starts for what it does not link itself. */
#ifndef TSK_QCOW2_COMPANION_H
#define TSK_QCOW2_COMPANION_H

#define COMPANION_PATH_BYTES 4096

/* Write where a program of ours is. It lies beside this program, as in a build directory, or where
   it was installed. */
void companion_find(const char *name, char path[COMPANION_PATH_BYTES]);

/* Run a program of ours in place of this one. `package` is the Debian package that has it; NULL: it
   comes with tsk-qcow2. Returns only if it cannot be run: an exit status, after complaining. */
int companion_run(const char *name, const char *package, const char *const argv[]);

#endif
