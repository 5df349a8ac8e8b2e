/* SPDX-License-Identifier: MIT */
/* The drop-in: what its answers to libtsk's functions and its answers to libtsk's C++ methods
   share. */
#ifndef TSK_QCOW2_DROPIN_H
#define TSK_QCOW2_DROPIN_H

#include <stdbool.h>
#include <tsk/libtsk.h>

#define EXPORT __attribute__((visibility("default")))

/* A function of the real libtsk, by its symbol. There is always one: without it the program ends,
   with a message. */
void *tsk_qcow2_dropin_real(const char *symbol);

/* True if the call is ours to answer: the type says so, or autodetection meets a qcow2 image, which
   then is never tried as anything else. */
bool tsk_qcow2_dropin_is_ours(int num_img, const TSK_TCHAR *const images[], TSK_IMG_TYPE_ENUM type);

/* Open, and tell on stderr what is wrong with the image: whoever runs a TSK tool has no other way
   to learn it. NULL: libtsk's error says why. */
TSK_IMG_INFO *tsk_qcow2_dropin_open(int num_img, const TSK_TCHAR *const images[],
                                    unsigned int a_ssize);

#endif
