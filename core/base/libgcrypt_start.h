/* SPDX-License-Identifier: MIT */
/* Making libgcrypt ready, for all parts of the project that use it. All of it is in this header,
   since some of them are linked without the core. */
#ifndef QCOW2_BASE_LIBGCRYPT_START_H
#define QCOW2_BASE_LIBGCRYPT_START_H

#include <gcrypt.h>
#include <pthread.h>

/* If the program itself uses libgcrypt, it has set it up already, or will set up its secure memory
   later. Leave that to the program. Use no secure memory, so that libgcrypt prints no warning. */
static inline void libgcrypt_set_up(void)
{
  if (gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P) != 0)
    return;
  gcry_check_version(NULL);
  gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
}

/* Make libgcrypt ready for use, even if something else in the process uses it too. Cheap after the
   first time. Any thread. */
static inline void libgcrypt_start(void)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;

  pthread_once(&once, libgcrypt_set_up);
}

#endif
