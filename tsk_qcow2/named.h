/* SPDX-License-Identifier: MIT */
/* What the backend needs of images opened by name beyond <qcow2names.h>. */
#ifndef TSK_QCOW2_NAMED_H
#define TSK_QCOW2_NAMED_H

#include "qcow2names.h"

/* Tell how much damage was met, once, as qcow2_named_close() does: for programs that exit without closing. */
void tsk_qcow2_named_tell_count(struct qcow2_named *named);

#endif
