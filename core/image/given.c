/* SPDX-License-Identifier: MIT */
#include "given.h"

#include <stdio.h>
#include <string.h>

#include "../base/options.h"
#include "referrer.h"
#include "../storage/gate_inner.h"
#include "../storage/storage.h"

enum qcow2_named_by qcow2_given_by(const struct qcow2_open_options *options)
{
  return options->referrer == NULL ? NAMED_BY_CALLER : NAMED_BY_REFERRER;
}

/* Open a path inside a disk. A referrer may lead anywhere in a disk to which it may lead. */
static int open_inside(const struct qcow2_open_options *options, const char *path,
                       struct qcow2_opened_file *file, struct qcow2_error *error)
{
  const struct qcow2_file_system *file_system = NULL;
  const char *rest = NULL;
  int code = options->find_file_system(options->file_system_context, path, &file_system, &rest,
                                       error);

  return code != 0 ? code : qcow2_gate_open_inner(file_system, rest, file, error);
}

int qcow2_given_open(const struct qcow2_open_options *options, const char *path, const char *role,
                     struct qcow2_opened_file *file, struct qcow2_error *error)
{
  if (options->find_file_system != NULL && strncmp(path, "//", 2) == 0)
    return open_inside(options, path, file, error);
  return options->referrer == NULL
             ? qcow2_gate_open_named(path, file, error)
             : qcow2_referrer_open_file(options->referrer, path, role, file, error);
}

/* ---- The disk around images ------------------------------------------------------- */

/* Open the disk in a file, whose storage is given out. The file is closed by the caller. */
static int open_disk(const struct qcow2_open_options *options, struct qcow2_opened_file *file,
                     struct qcow2_storage *storage, int *is_qcow2, char *warning,
                     struct qcow2_error *error)
{
  const struct qcow2_contents_question question = { .named_by = qcow2_given_by(options),
                                                    .is_outer = true };
  struct qcow2_contents contents;
  int code = qcow2_contents_open(&question, options, file, &contents, error);

  if (code != 0)
    return code;
  *is_qcow2 = contents.is_qcow2;
  if (contents.is_qcow2)
    return 0;
  snprintf(warning, QCOW2_FOREIGN_WARNING_BYTES, "%s",
           file->warning != NULL ? file->warning : contents.warning);
  *storage = file->storage;
  file->storage = (struct qcow2_storage){ 0 };
  return 0;
}

int qcow2_outer_open(const char *path, const struct qcow2_open_options *given,
                     struct qcow2_storage *storage, int *is_qcow2, char *warning,
                     struct qcow2_error *error)
{
  struct qcow2_open_options options;
  struct qcow2_opened_file file = OPENED_FILE_NONE;
  int code = qcow2_options_take(given, &options, sizeof(options), error);

  if (code == 0)
    code = qcow2_given_open(&options, path, "disk", &file, error);
  if (code != 0)
    return code;
  code = open_disk(&options, &file, storage, is_qcow2, warning, error);
  qcow2_opened_file_close(&file);
  return code;
}
