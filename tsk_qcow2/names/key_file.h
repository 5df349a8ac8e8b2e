/* SPDX-License-Identifier: MIT */
/* Passphrases from files. */
#ifndef TSK_QCOW2_KEY_FILE_H
#define TSK_QCOW2_KEY_FILE_H

#include "image_name.h"

/* The passphrases of some key files, in order. Owns and wipes them. */
struct tsk_qcow2_keys {
  struct qcow2_passphrase *passphrases;
  size_t count;
};

/* Read the files, each of which has a passphrase; a newline at its end is dropped. The referrer
   names the files (NULL: the user does). The caller frees with tsk_qcow2_keys_free(), also after an
   error. Errors: IO, ARGUMENT (no regular file, too long), DENIED (the referrer may not lead
   there), NOMEM. */
int tsk_qcow2_keys_read(const struct tsk_qcow2_strings *paths,
                        const struct qcow2_referrer *referrer, struct tsk_qcow2_keys *keys,
                        struct qcow2_error *error);

/* All zero is allowed. */
void tsk_qcow2_keys_free(struct tsk_qcow2_keys *keys);

#endif
