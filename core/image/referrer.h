/* SPDX-License-Identifier: MIT */
/* A file that names images, and that is trusted no more than an image. */
#ifndef QCOW2_REFERRER_H
#define QCOW2_REFERRER_H

#include "../storage/gate.h"

/* Open a file that the referrer names. `role` is for messages. Errors: those of
   qcow2_gate_open_reference(). */
int qcow2_referrer_open_file(const struct qcow2_referrer *referrer, const char *name,
                             const char *role, struct qcow2_opened_file *file,
                             struct qcow2_error *error);

/* Note in a reference of an image that the referrer (NULL: there is none) names the first `count`
   of the directories to search. */
void qcow2_referrer_share_search(const struct qcow2_referrer *referrer, size_t count,
                                 struct qcow2_reference *reference);

#endif
