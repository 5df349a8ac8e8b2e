/* SPDX-License-Identifier: MIT */
/* The disk around an image: what is opened for "OUTER//START/PATH" besides the image. */
#ifndef TSK_QCOW2_INSIDE_H
#define TSK_QCOW2_INSIDE_H

#include "../qcow2names.h"
#include "name_text.h"

/* An outer disk, as its readers see it. The functions get the storage's context. */
struct tsk_qcow2_outer {
  struct qcow2_storage storage; /* its close() frees all of it */
  /* Report the damage of this disk, and of those around it, from now on. NULL: nothing reports it
   */
  void (*report)(void *context, qcow2_damage_sentence *report, void *report_context);
  uint64_t (*failures)(void *context); /* how often reads met damage; NULL: they never do */
};

struct tsk_qcow2_inside;

/* Make the inside of a disk, which it owns from the call on, also on failure. `name` is how the
   user named the disk. Errors: NOMEM. */
int tsk_qcow2_inside_new(const struct tsk_qcow2_outer *outer, const char *name,
                         struct tsk_qcow2_inside **inside, struct qcow2_error *error);

/* The qcow2_find_file_system of that disk, which is the context. Errors: ARGUMENT, UNSUPPORTED, IO,
   NOMEM. */
qcow2_find_file_system tsk_qcow2_inside_find;

/* Add a sentence about the disk. Errors: NOMEM. */
int tsk_qcow2_inside_warn(struct tsk_qcow2_inside *inside, const char *sentence,
                          struct qcow2_error *error);

/* The sentences about the disk; NULL past the last one, or if `inside` is NULL. */
const char *tsk_qcow2_inside_warning(const struct tsk_qcow2_inside *inside, size_t index);

/* As the functions of struct tsk_qcow2_outer. NULL is allowed. */
void tsk_qcow2_inside_report(struct tsk_qcow2_inside *inside, qcow2_damage_sentence *report,
                             void *report_context);
uint64_t tsk_qcow2_inside_failures(const struct tsk_qcow2_inside *inside);

/* NULL is allowed. Close the image first. */
void tsk_qcow2_inside_close(struct tsk_qcow2_inside *inside);

#endif
