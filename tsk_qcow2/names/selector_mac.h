/* SPDX-License-Identifier: MIT */
/* The authentication code that shows that this user wrote a selector: HMAC-SHA256 with a key that
   only this account has (selector_key.h). In a build without libgcrypt there is none. */
#ifndef TSK_QCOW2_SELECTOR_MAC_H
#define TSK_QCOW2_SELECTOR_MAC_H

#include "selector.h"

/* Compute the MAC of a text, with a key that is made if need be. Errors: UNSUPPORTED (no
   libgcrypt), those of the key. */
int tsk_qcow2_mac_sign(const char *text, uint8_t mac[TSK_QCOW2_MAC_BYTES],
                       struct qcow2_error *error);

/* Return 0 if this user made the MAC for this text. Else an error: DENIED (this user did not), and
   those of signing. The message continues the sentence "... because". */
int tsk_qcow2_mac_verify(const char *text, const uint8_t mac[TSK_QCOW2_MAC_BYTES],
                         struct qcow2_error *error);

#endif
