/* SPDX-License-Identifier: MIT */
/* A file that the gate opened: what does not depend on the operating system. The rest is in gate.c
   and gate_windows.c. */
#include <stdlib.h>

#include "../base/error.h"
#include "../base/text.h"
#include "opened_file.h"
#include "storage.h"

void qcow2_opened_file_close(struct qcow2_opened_file *file)
{
  qcow2_storage_close(&file->storage);
  qcow2_opened_file_close_directory(file);
  free(file->path);
  free(file->warning);
  *file = (struct qcow2_opened_file) OPENED_FILE_NONE;
}

int qcow2_opened_file_begin_at(struct qcow2_opened_file *file, uint64_t start,
                               struct qcow2_error *error)
{
  int code = start == 0 ? 0 : qcow2_storage_begin_at(&file->storage, start, error);

  if (code == 0)
    file->start = start;
  return code == 0 ? 0 : qcow2_error_add_file(error, code, file->path);
}

int qcow2_opened_file_warn(struct qcow2_opened_file *file, const char *warning,
                           struct qcow2_error *error)
{
  if (warning[0] == '\0')
    return 0;
  file->warning = qcow2_text_duplicate(warning);
  if (file->warning != NULL)
    return 0;
  qcow2_opened_file_close(file);
  return qcow2_error_set_nomem(error);
}

bool qcow2_opened_file_has_directory(const struct qcow2_opened_file *file)
{
  return file->directory >= 0 || file->has_inner_directory;
}

bool qcow2_opened_file_same(const struct qcow2_opened_file *a, const struct qcow2_opened_file *b)
{
  if (a->file_system != NULL || b->file_system != NULL)
    return a->file_system == b->file_system && a->inner.number == b->inner.number &&
           a->inner.stream == b->inner.stream && a->start == b->start;
  return a->has_identity && b->has_identity && a->device == b->device && a->inode == b->inode &&
         a->start == b->start;
}
