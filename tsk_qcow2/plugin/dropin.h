/* SPDX-License-Identifier: MIT */
/* The drop-in: what its versions of libtsk's functions (dropin.c) and of libtsk's C++ methods
   (dropin_auto.c) share. */
#ifndef TSK_QCOW2_DROPIN_H
#define TSK_QCOW2_DROPIN_H

#include <stdbool.h>
#include <tsk/libtsk.h>

#define EXPORT __attribute__((visibility("default")))

/* A function of the real libtsk, by its symbol. Never NULL: if there is none, the program ends with
   a message. */
void *tsk_qcow2_dropin_real(const char *symbol);

/* True if we must handle the call: the type is qcow2, or autodetection finds a qcow2 image. Such an
   image is never tried as anything else. */
bool tsk_qcow2_dropin_is_ours(int num_img, const TSK_TCHAR *const images[], TSK_IMG_TYPE_ENUM type);

/* Open the image, and print on stderr what is wrong with it, because TSK's tools have no other way
   to show that. NULL: libtsk's error says why. */
TSK_IMG_INFO *tsk_qcow2_dropin_open(int num_img, const TSK_TCHAR *const images[],
                                    unsigned int a_ssize);

#endif
