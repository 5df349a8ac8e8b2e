/* SPDX-License-Identifier: MIT */
/* From a selector file to the image name in it, and whether that is trusted. */
#ifndef TSK_QCOW2_SELECTOR_FOLLOW_H
#define TSK_QCOW2_SELECTOR_FOLLOW_H

#include "image_name.h"

/* An image name, and whether its paths are trusted. */
struct tsk_qcow2_followed {
  struct tsk_qcow2_name name;
  char *selector;                  /* the selector's path as given; NULL: the user typed the name */
  struct qcow2_referrer *referrer; /* the selector, if it is not trusted; else NULL */
  struct qcow2_error distrust; /* if there is a referrer: why it is not trusted, as a clause that
                                  continues "because ..." */
};

/* 1 if the path leads to a selector file, by its first line; 0 if not. Errors, if that cannot be
   found out: IO, NOMEM. */
int tsk_qcow2_is_selector(const char *path, struct qcow2_error *error);

/* Read the selector at `path`, and parse the name in it. The caller frees with
   tsk_qcow2_followed_free(), also after an error. Errors: IO, ARGUMENT, UNSUPPORTED, NOMEM. */
int tsk_qcow2_selector_follow(const char *path, struct tsk_qcow2_followed *followed,
                              struct qcow2_error *error);

/* Add to the error with which opening failed: what to type, and what the selector has to do with
   it. Returns the status that takes the place of `code`. */
int tsk_qcow2_followed_explain(const struct tsk_qcow2_followed *followed, int code,
                               struct qcow2_error *error);

/* All zero is allowed. */
void tsk_qcow2_followed_free(struct tsk_qcow2_followed *followed);

#endif
