/* SPDX-License-Identifier: MIT */
#include "key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"

/* cryptsetup's limit. */
#define KEY_FILE_BYTES_MAX ((off_t) 8 << 20)
#define QUOTED_BYTES 256

static int complain_path(struct qcow2_error *error, int code, const char *path, const char *problem)
{
  char quoted[QUOTED_BYTES];

  return qcow2_error_set(error, code, "the key file \"%s\" %s",
                         qcow2_text_escape(path, strlen(path), quoted, sizeof(quoted)), problem);
}

static int complain_errno(struct qcow2_error *error, const char *path, int os_errno)
{
  char quoted[QUOTED_BYTES], reason[128];

  if (strerror_r(os_errno, reason, sizeof(reason)) != 0)
    reason[0] = '\0';
  qcow2_error_set(error, QCOW2_ERROR_IO, "cannot read the key file \"%s\": %s",
                  qcow2_text_escape(path, strlen(path), quoted, sizeof(quoted)), reason);
  error->os_errno = os_errno;
  return QCOW2_ERROR_IO;
}

static int complain_too_large(const char *path, struct qcow2_error *error)
{
  return complain_path(error, QCOW2_ERROR_ARGUMENT, path, "is larger than 8 MiB");
}

/* Read all of a file of `length` bytes. It is an error if the file has become shorter. */
static int read_all(int descriptor, const char *path, uint8_t *out, size_t length,
                    struct qcow2_error *error)
{
  while (length > 0) {
    ssize_t count = read(descriptor, out, length);

    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return complain_errno(error, path, errno);
    if (count == 0)
      return complain_path(error, QCOW2_ERROR_IO, path, "changes while it is read");
    out += count;
    length -= (size_t) count;
  }
  return 0;
}

/* The length without the newline at the end: LF or CR LF. */
static size_t without_newline(const uint8_t *bytes, size_t length)
{
  if (length == 0 || bytes[length - 1] != '\n')
    return length;
  length--;
  return length > 0 && bytes[length - 1] == '\r' ? length - 1 : length;
}

/* Read an open file into a buffer that becomes the passphrase. */
static int take_passphrase(int descriptor, const char *path, struct qcow2_passphrase *passphrase,
                           struct qcow2_error *error)
{
  struct stat status;
  uint8_t *bytes;
  size_t length;
  int code;

  if (fstat(descriptor, &status) != 0)
    return complain_errno(error, path, errno);
  if (!S_ISREG(status.st_mode))
    return complain_path(error, QCOW2_ERROR_ARGUMENT, path, "is not a regular file");
  if (status.st_size > KEY_FILE_BYTES_MAX)
    return complain_too_large(path, error);
  length = (size_t) status.st_size;
  bytes = malloc(length + 1);
  if (bytes == NULL)
    return tsk_qcow2_complain_nomem(error);
  code = read_all(descriptor, path, bytes, length, error);
  if (code != 0) {
    explicit_bzero(bytes, length);
    free(bytes);
    return code;
  }
  *passphrase = (struct qcow2_passphrase){ bytes, without_newline(bytes, length) };
  return 0;
}

static int read_key_file(const char *path, struct qcow2_passphrase *passphrase,
                         struct qcow2_error *error)
{
  int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  int code;

  if (descriptor < 0)
    return complain_errno(error, path, errno);
  code = take_passphrase(descriptor, path, passphrase, error);
  close(descriptor);
  return code;
}

/* Read an open storage into a buffer that becomes the passphrase. */
static int take_referred(const struct qcow2_storage *storage, const char *path,
                         struct qcow2_passphrase *passphrase, struct qcow2_error *error)
{
  size_t length = (size_t) storage->size;
  uint8_t *bytes;
  int os_errno;

  if (storage->size > (uint64_t) KEY_FILE_BYTES_MAX)
    return complain_too_large(path, error);
  bytes = malloc(length + 1);
  if (bytes == NULL)
    return tsk_qcow2_complain_nomem(error);
  os_errno = length == 0 ? 0 : storage->read(storage->context, 0, bytes, length);
  if (os_errno != 0) {
    explicit_bzero(bytes, length);
    free(bytes);
    return complain_errno(error, path, os_errno);
  }
  *passphrase = (struct qcow2_passphrase){ bytes, without_newline(bytes, length) };
  return 0;
}

static int read_referred(const struct qcow2_referrer *referrer, const char *path,
                         struct qcow2_passphrase *passphrase, struct qcow2_error *error)
{
  struct qcow2_storage storage;
  int code = qcow2_referrer_follow(referrer, path, "key file", &storage, error);

  if (code != 0)
    return code;
  code = take_referred(&storage, path, passphrase, error);
  storage.close(storage.context);
  return code;
}

int tsk_qcow2_keys_read(const struct tsk_qcow2_strings *paths,
                        const struct qcow2_referrer *referrer, struct tsk_qcow2_keys *keys,
                        struct qcow2_error *error)
{
  int code = 0;

  *keys = (struct tsk_qcow2_keys){ calloc(paths->count + 1, sizeof(keys->passphrases[0])), 0 };
  if (keys->passphrases == NULL)
    return tsk_qcow2_complain_nomem(error);
  for (size_t i = 0; code == 0 && i < paths->count; i++) {
    code = referrer == NULL
               ? read_key_file(paths->items[i], &keys->passphrases[i], error)
               : read_referred(referrer, paths->items[i], &keys->passphrases[i], error);
    keys->count += code == 0;
  }
  return code;
}

void tsk_qcow2_keys_free(struct tsk_qcow2_keys *keys)
{
  for (size_t i = 0; i < keys->count; i++) {
    void *bytes = (void *) (uintptr_t) keys->passphrases[i].bytes;

    explicit_bzero(bytes, keys->passphrases[i].length);
    free(bytes);
  }
  free(keys->passphrases);
  *keys = (struct tsk_qcow2_keys){ NULL, 0 };
}
