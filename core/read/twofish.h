/* SPDX-License-Identifier: MIT */
/*
 * Twofish with keys of 192 bits, in XTS mode.
 *
 * Why we have our own: QEMU writes LUKS images with twofish-192, and libgcrypt, which has all other
 * ciphers of QEMU, has Twofish with 128 and 256 bits only. Another library for this one key size
 * would be loaded into every program that reads qcow2.
 */
#ifndef QCOW2_READ_TWOFISH_H
#define QCOW2_READ_TWOFISH_H

#include <stddef.h>
#include <stdint.h>

#define TWOFISH_KEY_BYTES 24u
#define TWOFISH_BLOCK_BYTES 16u

/* The schedule of a key. It does not change once it is set: any number of threads may use it. */
struct qcow2_twofish {
  uint32_t subkeys[40];
  uint32_t boxes[4][256]; /* the key-dependent S-boxes, each with its column of the MDS matrix */
};

void qcow2_twofish_set_key(struct qcow2_twofish *twofish, const uint8_t key[TWOFISH_KEY_BYTES]);

/* Decrypt a data unit of whole blocks in place, in XTS mode: the first key is for the data, the
   second for the tweak `iv`. */
void qcow2_twofish_xts_decrypt(const struct qcow2_twofish keys[2],
                               const uint8_t iv[TWOFISH_BLOCK_BYTES], uint8_t *buffer,
                               size_t length);

#endif
