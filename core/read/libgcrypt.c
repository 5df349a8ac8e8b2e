/* SPDX-License-Identifier: MIT */
#include "libgcrypt.h"

#include <gcrypt.h>

#include "../base/error.h"

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
