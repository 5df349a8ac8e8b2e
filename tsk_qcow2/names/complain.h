/* SPDX-License-Identifier: MIT */
/* Errors that are detected above the core. */
#ifndef TSK_QCOW2_COMPLAIN_H
#define TSK_QCOW2_COMPLAIN_H

#include <qcow2core.h>

/* "out of memory". */
int tsk_qcow2_complain_nomem(struct qcow2_error *error);

/* Append a sentence (without a full stop) to the message. If there is no room for both, the message
   is cut and not the sentence, which says what to type. */
void tsk_qcow2_complain_more(struct qcow2_error *error, const char *sentence);

#if defined(__clang_analyzer__) && !defined(TSK_QCOW2_COMPLAIN_DEFINITIONS)
/* What clang's analyzer cannot see from another file: they return the code, which is not 0. */
#define qcow2_error_set(error, code, ...) (qcow2_error_set(error, code, __VA_ARGS__), (code))
#define tsk_qcow2_complain_nomem(error) (tsk_qcow2_complain_nomem(error), QCOW2_ERROR_NOMEM)
#endif

#endif
