/* SPDX-License-Identifier: MIT */
#include "parsed_name.h"

#include <stdlib.h>
#include <string.h>

void tsk_qcow2_name_free(struct tsk_qcow2_name *name)
{
  free(name->path);
  tsk_qcow2_selection_free(&name->selection);
  free(name->data_file);
  free(name->data_format);
  tsk_qcow2_strings_free(&name->backing);
  tsk_qcow2_strings_free(&name->backing_formats);
  tsk_qcow2_strings_free(&name->search);
  tsk_qcow2_strings_free(&name->key_files);
  memset(name, 0, sizeof(*name));
}

int tsk_qcow2_name_add_backing(struct tsk_qcow2_name *name, const char *path,
                               struct qcow2_error *error)
{
  int code = tsk_qcow2_strings_add(&name->backing, path, strlen(path), error);

  if (code != 0)
    return code;
  code = tsk_qcow2_strings_add(&name->backing_formats, NULL, 0, error);
  if (code != 0)
    free(name->backing.items[--name->backing.count]);
  return code;
}
