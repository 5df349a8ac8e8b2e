/* SPDX-License-Identifier: MIT */
/* The key with which a user's selectors are authenticated: $XDG_STATE_HOME/tsk-qcow2/selector-key,
   or the same in ~/.local/state. Only this account may have access to it: a key that another user
   could have written or read is refused. */
#ifndef TSK_QCOW2_SELECTOR_KEY_H
#define TSK_QCOW2_SELECTOR_KEY_H

#include <qcow2core.h>

#define TSK_QCOW2_SELECTOR_KEY_BYTES 32

/* Read the key. NOT_FOUND: there is none yet. DENIED: it is damaged, or another account has access
   to it. Others: IO, NOMEM. The message continues the sentence "... because". */
int tsk_qcow2_selector_key_read(uint8_t key[TSK_QCOW2_SELECTOR_KEY_BYTES],
                                struct qcow2_error *error);

/* Make the key, of random bytes, if there is none; then read it. Errors: as for reading. */
int tsk_qcow2_selector_key_make(uint8_t key[TSK_QCOW2_SELECTOR_KEY_BYTES],
                                struct qcow2_error *error);

#endif
