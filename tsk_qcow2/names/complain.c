/* SPDX-License-Identifier: MIT */
#define TSK_QCOW2_COMPLAIN_DEFINITIONS
#include "complain.h"

int tsk_qcow2_complain_nomem(struct qcow2_error *error)
{
  return qcow2_error_set(error, QCOW2_ERROR_NOMEM, "out of memory");
}
