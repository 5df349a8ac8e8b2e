/* SPDX-License-Identifier: MIT */
/* Backing and data files in formats that other libraries read: VMDK, VHD, EWF (E01), AFF, and raw
   disks in several parts. */
#ifndef TSK_QCOW2_FOREIGN_H
#define TSK_QCOW2_FOREIGN_H

#include <qcow2core.h>

/* The context of tsk_qcow2_open_foreign(). */
struct tsk_qcow2_foreign_openers {
  qcow2_open_foreign *others; /* opens all formats except EWF. NULL: libtsk opens them; it is found
                                 in the program or loaded when needed */
};

/* The qcow2_open_foreign of all image names. libewf opens EWF; the context, a struct
   tsk_qcow2_foreign_openers, says how the other formats are opened. */
qcow2_open_foreign tsk_qcow2_open_foreign;

/* The two parts of it. Their context is not used. Errors: UNSUPPORTED if the library cannot be
   loaded or does not know the format; CORRUPT if it cannot open the file; NOMEM. */
qcow2_open_foreign tsk_qcow2_open_ewf;
qcow2_open_foreign tsk_qcow2_open_by_tsk;

/* Copy the address of a library's function into a pointer to functions of its type, of `size`
   bytes. Returns 1, or 0 if there is none. */
int tsk_qcow2_find_function(void *library, const char *name, void *function, size_t size);

/* 1 if libewf is loaded, or could be loaded. */
int tsk_qcow2_has_libewf(void);

#endif
