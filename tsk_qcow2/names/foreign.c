/* SPDX-License-Identifier: MIT */
#include "foreign.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

int tsk_qcow2_find_function(void *library, const char *name, void *function, size_t size)
{
  void *address = dlsym(library, name);

  memcpy(function, &address, size);
  return address != NULL;
}

int tsk_qcow2_open_foreign(void *context, const struct qcow2_foreign *file,
                           struct qcow2_storage *storage, char *warning, struct qcow2_error *error)
{
  const struct tsk_qcow2_foreign_openers *openers = context;
  bool is_ewf = strcmp(file->format, "ewf") == 0;
  int code;

  if (is_ewf && tsk_qcow2_has_libewf())
    return tsk_qcow2_open_ewf(NULL, file, storage, warning, error);
  code = openers->others != NULL ? openers->others(NULL, file, storage, warning, error)
                                 : tsk_qcow2_open_by_tsk(NULL, file, storage, warning, error);
  if (code == 0 && is_ewf)
    snprintf(warning, QCOW2_FOREIGN_WARNING_BYTES,
             "libewf.so.2 cannot be loaded, so what is damaged or missing in this EWF image may "
             "read as zeros: check it with ewfverify");
  return code;
}
