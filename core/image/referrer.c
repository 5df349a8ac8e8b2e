/* SPDX-License-Identifier: MIT */
#include "referrer.h"

#include <stdlib.h>

#include "../base/error.h"
#include "../base/text.h"

struct qcow2_referrer {
  struct qcow2_opened_file file;
};

/* A path that the user gave may lead to a device, or to a file in no known directory. A referrer
   must be neither. */
static int check_file(const struct qcow2_opened_file *file, const char *path,
                      struct qcow2_error *error)
{
  char quoted[TEXT_ESCAPED_BYTES];

  if (file->directory >= 0 && file->is_regular)
    return 0;
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "\"%s\" is not a regular file in a directory",
                         qcow2_text_quote(path, quoted));
}

int qcow2_referrer_open(const char *path, struct qcow2_referrer **out, struct qcow2_error *error)
{
  struct qcow2_referrer *referrer = calloc(1, sizeof(*referrer));
  int code;

  if (referrer == NULL)
    return qcow2_error_set_nomem(error);
  referrer->file = (struct qcow2_opened_file) OPENED_FILE_NONE;
  code = qcow2_gate_open_named(path, &referrer->file, error);
  if (code == 0)
    code = check_file(&referrer->file, path, error);
  if (code != 0) {
    qcow2_referrer_close(referrer);
    return code;
  }
  *out = referrer;
  return 0;
}

void qcow2_referrer_close(struct qcow2_referrer *referrer)
{
  if (referrer == NULL)
    return;
  qcow2_opened_file_close(&referrer->file);
  free(referrer);
}

const char *qcow2_referrer_path(const struct qcow2_referrer *referrer)
{
  return referrer->file.path;
}

const struct qcow2_storage *qcow2_referrer_storage(const struct qcow2_referrer *referrer)
{
  return &referrer->file.storage;
}

int qcow2_referrer_open_file(const struct qcow2_referrer *referrer, const char *name,
                             const char *role, struct qcow2_opened_file *file,
                             struct qcow2_error *error)
{
  const struct qcow2_reference reference = { .from = &referrer->file, .name = name, .role = role };
  int code = qcow2_gate_open_reference(&reference, file, error);

  return code == QCOW2_ERROR_DENIED ? qcow2_error_add_help(error, code, QCOW2_HELP_REFERRER, 0)
                                    : code;
}

int qcow2_referrer_follow(const struct qcow2_referrer *referrer, const char *name, const char *role,
                          struct qcow2_storage *storage, struct qcow2_error *error)
{
  struct qcow2_opened_file file = OPENED_FILE_NONE;
  int code = qcow2_referrer_open_file(referrer, name, role, &file, error);

  if (code != 0)
    return code;
  *storage = file.storage;
  file.storage = (struct qcow2_storage){ 0 };
  qcow2_opened_file_close(&file);
  return 0;
}

void qcow2_referrer_share_search(const struct qcow2_referrer *referrer, size_t count,
                                 struct qcow2_reference *reference)
{
  if (referrer == NULL)
    return;
  reference->search_from = &referrer->file;
  reference->search_from_count = count;
}
