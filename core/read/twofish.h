/* SPDX-License-Identifier: MIT */
/* Twofish with keys of 192 bits in XTS mode: QEMU offers it, and libgcrypt has only 128 and 256
   bits. */
#ifndef QCOW2_READ_TWOFISH_H
#define QCOW2_READ_TWOFISH_H

#include <stddef.h>
#include <stdint.h>

#define TWOFISH_KEY_BYTES 24u
#define TWOFISH_BLOCK_BYTES 16u

/* One key, made ready. Fixed once it is set, so any number of threads may use it. */
struct qcow2_twofish {
  uint32_t subkeys[40];
  uint32_t boxes[4][256]; /* the key-dependent S-boxes, each with its column of the MDS matrix */
};

void qcow2_twofish_set_key(struct qcow2_twofish *twofish, const uint8_t key[TWOFISH_KEY_BYTES]);

void qcow2_twofish_encrypt(const struct qcow2_twofish *twofish, uint8_t block[TWOFISH_BLOCK_BYTES]);
void qcow2_twofish_decrypt(const struct qcow2_twofish *twofish, uint8_t block[TWOFISH_BLOCK_BYTES]);

/* Decrypt a data unit of whole blocks in place: XTS with the first key for the data and the second
   for the tweak `iv`. */
void qcow2_twofish_xts_decrypt(const struct qcow2_twofish keys[2],
                               const uint8_t iv[TWOFISH_BLOCK_BYTES], uint8_t *buffer,
                               size_t length);

#endif
