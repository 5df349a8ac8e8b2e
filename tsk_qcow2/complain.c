/* SPDX-License-Identifier: MIT */
#define TSK_QCOW2_COMPLAIN_DEFINITIONS
#include "complain.h"

#include <stdarg.h>
#include <stdio.h>

int tsk_qcow2_complain(struct qcow2_error *error, int code, const char *format, ...)
{
  va_list arguments;

  error->code = code;
  error->os_errno = 0;
  error->help = QCOW2_HELP_NONE;
  error->guest_offset = QCOW2_NO_OFFSET;
  error->guest_length = 0;
  error->host_offset = QCOW2_NO_OFFSET;
  error->table_offset = QCOW2_NO_OFFSET;
  va_start(arguments, format);
  vsnprintf(error->message, sizeof(error->message), format, arguments);
  va_end(arguments);
  return code;
}

int tsk_qcow2_complain_nomem(struct qcow2_error *error)
{
  return tsk_qcow2_complain(error, QCOW2_ERROR_NOMEM, "out of memory");
}
