/* SPDX-License-Identifier: MIT */
#include "parsed_name.h"

#include <stdlib.h>
#include <string.h>

static void free_level(struct tsk_qcow2_name *name)
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

void tsk_qcow2_name_free(struct tsk_qcow2_name *name)
{
  struct tsk_qcow2_name *outer = name->outer;

  free_level(name);
  while (outer != NULL) {
    struct tsk_qcow2_name *next = outer->outer;

    free_level(outer);
    free(outer);
    outer = next;
  }
}

const struct tsk_qcow2_name *tsk_qcow2_name_outermost(const struct tsk_qcow2_name *name)
{
  while (name->outer != NULL)
    name = name->outer;
  return name;
}

bool tsk_qcow2_name_leads_inside(const struct tsk_qcow2_name *name, const char *path)
{
  return name->outer != NULL && strncmp(path, "//", 2) == 0;
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
