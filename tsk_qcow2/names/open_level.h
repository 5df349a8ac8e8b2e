/* SPDX-License-Identifier: MIT */
/* Opening what one level of an image name names: the image, or a disk around it. */
#ifndef TSK_QCOW2_OPEN_LEVEL_H
#define TSK_QCOW2_OPEN_LEVEL_H

#include "image_name.h"
#include "inside.h"

enum tsk_qcow2_depth {
  TSK_QCOW2_WHOLE,            /* the chain, and a view */
  TSK_QCOW2_CHAIN_ONLY,       /* the chain, no view */
  TSK_QCOW2_CHAIN_NO_THREADS, /* the same, and nothing is decoded ahead: the caller has threads */
  TSK_QCOW2_HEADER_ONLY       /* no file but the one named */
};

struct tsk_qcow2_level {
  struct tsk_qcow2_name *name;
  const struct qcow2_referrer *referrer; /* that names it; NULL: the user does */
  qcow2_open_foreign *open_foreign;      /* NULL: libtsk opens other formats than EWF */
  struct tsk_qcow2_inside *inside;       /* the disk in which it lies; NULL: this machine's file */
};

/* Append the directories of the environment to those of the name. Errors: ARGUMENT, NOMEM. */
int tsk_qcow2_level_add_environment(struct tsk_qcow2_name *name, struct qcow2_error *error);

/* Open the image, with the passphrases of the name or of the environment. Errors: those of
   qcow2_image_open() and tsk_qcow2_keys_read(). */
int tsk_qcow2_level_open_image(const struct tsk_qcow2_level *level, enum tsk_qcow2_depth depth,
                               struct qcow2_image **image, struct qcow2_error *error);

/* qcow2_outer_open() of the level. */
int tsk_qcow2_level_open_outer(const struct tsk_qcow2_level *level, struct qcow2_storage *storage,
                               int *is_qcow2, char *warning, struct qcow2_error *error);

#endif
