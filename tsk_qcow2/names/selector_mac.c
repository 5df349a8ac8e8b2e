/* SPDX-License-Identifier: MIT */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#include "selector_mac.h"

#include "complain.h"

#ifdef HAVE_LIBGCRYPT
#include <base/libgcrypt_start.h>
#include <string.h>

#include "selector_key.h"

static int complain_libgcrypt(struct qcow2_error *error, gcry_error_t status)
{
  return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                         "libgcrypt cannot compute its authentication code: %s",
                         gcry_strerror(status));
}

/* Start a MAC over the text. The caller closes *handle. */
static gcry_error_t mac_over(const char *text, const uint8_t key[TSK_QCOW2_SELECTOR_KEY_BYTES],
                             gcry_mac_hd_t *handle)
{
  gcry_error_t status;

  libgcrypt_start();
  status = gcry_mac_open(handle, GCRY_MAC_HMAC_SHA256, 0, NULL);
  if (status != 0)
    return status;
  status = gcry_mac_setkey(*handle, key, TSK_QCOW2_SELECTOR_KEY_BYTES);
  if (status == 0)
    status = gcry_mac_write(*handle, text, strlen(text));
  if (status != 0)
    gcry_mac_close(*handle);
  return status;
}

int tsk_qcow2_mac_sign(const char *text, uint8_t mac[TSK_QCOW2_MAC_BYTES],
                       struct qcow2_error *error)
{
  uint8_t key[TSK_QCOW2_SELECTOR_KEY_BYTES];
  size_t length = TSK_QCOW2_MAC_BYTES;
  gcry_mac_hd_t handle;
  gcry_error_t status;
  int code = tsk_qcow2_selector_key_make(key, error);

  if (code != 0)
    return code;
  status = mac_over(text, key, &handle);
  explicit_bzero(key, sizeof(key));
  if (status == 0) {
    status = gcry_mac_read(handle, mac, &length);
    gcry_mac_close(handle);
  }
  return status == 0 ? 0 : complain_libgcrypt(error, status);
}

int tsk_qcow2_mac_verify(const char *text, const uint8_t mac[TSK_QCOW2_MAC_BYTES],
                         struct qcow2_error *error)
{
  uint8_t key[TSK_QCOW2_SELECTOR_KEY_BYTES];
  gcry_mac_hd_t handle;
  gcry_error_t status;
  int code = tsk_qcow2_selector_key_read(key, error);

  if (code != 0)
    return code;
  status = mac_over(text, key, &handle);
  explicit_bzero(key, sizeof(key));
  if (status == 0) {
    status = gcry_mac_verify(handle, mac, TSK_QCOW2_MAC_BYTES); /* in constant time */
    gcry_mac_close(handle);
  }
  if (gcry_err_code(status) == GPG_ERR_CHECKSUM)
    return qcow2_error_set(error, QCOW2_ERROR_DENIED,
                           "its authentication code was not made with your key, or not for this "
                           "text in this directory (root, under sudo, has its own key)");
  return status == 0 ? 0 : complain_libgcrypt(error, status);
}

#else

static int complain_without(struct qcow2_error *error)
{
  return qcow2_error_set(
      error, QCOW2_ERROR_UNSUPPORTED,
      "this build, without libgcrypt, can neither make nor check an authentication code");
}

int tsk_qcow2_mac_sign(const char *text, uint8_t mac[TSK_QCOW2_MAC_BYTES],
                       struct qcow2_error *error)
{
  (void) text;
  (void) mac;
  return complain_without(error);
}

int tsk_qcow2_mac_verify(const char *text, const uint8_t mac[TSK_QCOW2_MAC_BYTES],
                         struct qcow2_error *error)
{
  (void) text;
  (void) mac;
  return complain_without(error);
}

#endif
