/* SPDX-License-Identifier: MIT */
#include "libgcrypt.h"

#include <gcrypt.h>
#include <pthread.h>

#include "../base/error.h"

/* A program that uses libgcrypt itself has set it up already, or will set up its secure memory
   later: leave that to it, and take none, so that libgcrypt has nothing to warn of. */
static void start(void)
{
  if (gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P) != 0)
    return;
  gcry_check_version(NULL);
  gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
}

void qcow2_libgcrypt_start(void)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;

  pthread_once(&once, start);
}

int qcow2_libgcrypt_hash(enum qcow2_hash hash)
{
  return gcry_md_map_name(qcow2_hash_name(hash));
}

int qcow2_libgcrypt_error(struct qcow2_error *error, unsigned status, const char *what)
{
  if (gcry_err_code(status) == GPG_ERR_ENOMEM)
    return qcow2_error_set_nomem(error);
  return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED, "libgcrypt cannot %s: %s", what,
                         gcry_strerror(status));
}
