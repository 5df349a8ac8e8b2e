/* SPDX-License-Identifier: MIT */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#include "sha256.h"

#ifdef HAVE_LIBGCRYPT
#include <base/libgcrypt_start.h>
#include <stdio.h>

#define DIGEST_BYTES 32

/* The structure is only a name for libgcrypt's handle. */
struct sha256 *sha256_start(void)
{
  gcry_md_hd_t handle;

  libgcrypt_start();
  return gcry_md_open(&handle, GCRY_MD_SHA256, 0) == 0 ? (struct sha256 *) handle : NULL;
}

void sha256_add(struct sha256 *sha256, const void *bytes, size_t length)
{
  gcry_md_write((gcry_md_hd_t) sha256, bytes, length);
}

void sha256_finish(struct sha256 *sha256, char digits[SHA256_TEXT_BYTES])
{
  const unsigned char *digest = gcry_md_read((gcry_md_hd_t) sha256, GCRY_MD_SHA256);

  for (int i = 0; i < DIGEST_BYTES; i++)
    snprintf(digits + 2 * i, 3, "%02x", digest[i]);
  gcry_md_close((gcry_md_hd_t) sha256);
}

#else

struct sha256 *sha256_start(void)
{
  return NULL;
}

void sha256_add(struct sha256 *sha256, const void *bytes, size_t length)
{
  (void) sha256;
  (void) bytes;
  (void) length;
}

void sha256_finish(struct sha256 *sha256, char digits[SHA256_TEXT_BYTES])
{
  (void) sha256;
  digits[0] = '\0';
}

#endif
