/* SPDX-License-Identifier: MIT */
#include "opened.h"

#include <string.h>

/* The flags that only a view with labels takes. */
static unsigned label_flags(const struct tsk_qcow2_opened *opened)
{
  return (opened->only_kept ? (unsigned) QCOW2_VIEW_ONLY_KEPT : 0) |
         (opened->by_neighbours ? (unsigned) QCOW2_VIEW_BY_NEIGHBOURS : 0);
}

static unsigned state_flags(const struct tsk_qcow2_opened *opened, bool is_vm_state)
{
  return (is_vm_state ? (unsigned) QCOW2_VIEW_VM_STATE : 0) |
         (opened->under_zeros ? (unsigned) QCOW2_VIEW_UNDER_ZEROS : 0);
}

int tsk_qcow2_open_deleted(const struct tsk_qcow2_opened *opened, uint64_t l1_offset,
                           bool is_vm_state, struct qcow2_view **view, struct qcow2_error *error)
{
  return qcow2_view_open_deleted(opened->image, l1_offset,
                                 state_flags(opened, is_vm_state) | label_flags(opened), view,
                                 error);
}

static int open_abandoned(const struct tsk_qcow2_opened *opened, bool is_vm_state,
                          struct qcow2_view **view, struct qcow2_error *error)
{
  if (is_vm_state)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the option \"vmstate\" does not go with an abandoned state: leave it "
                           "out");
  return qcow2_view_open_abandoned(opened->image, state_flags(opened, false) | label_flags(opened),
                                   view, error);
}

int tsk_qcow2_open_state(const struct tsk_qcow2_opened *opened, size_t snapshot_index,
                         bool is_vm_state, struct qcow2_view **view, struct qcow2_error *error)
{
  if (opened->deleted_l1 != 0)
    return tsk_qcow2_open_deleted(opened, opened->deleted_l1, is_vm_state, view, error);
  if (opened->is_abandoned)
    return open_abandoned(opened, is_vm_state, view, error);
  if (label_flags(opened) != 0)
    return qcow2_error_set(
        error, QCOW2_ERROR_ARGUMENT,
        "the option \"%s\" does not go with a snapshot that the image has: leave it out",
        opened->only_kept ? "only=kept" : "by-neighbours");
  if (opened->is_residue && (snapshot_index != QCOW2_ACTIVE || is_vm_state))
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the image name asks for the residue, and not for a snapshot");
  return opened->is_residue ? qcow2_view_open_residue(opened->image, view, error)
                            : qcow2_view_open_as(opened->image, snapshot_index,
                                                 state_flags(opened, is_vm_state), view, error);
}

const char *tsk_qcow2_opened_warning(const struct tsk_qcow2_opened *opened, size_t index)
{
  const char *warning;

  for (size_t i = 0; (warning = tsk_qcow2_inside_warning(opened->inside, i)) != NULL; i++)
    if (index-- == 0)
      return warning;
  for (size_t i = 0; (warning = qcow2_warning(opened->image, i)) != NULL; i++)
    if (index-- == 0)
      return warning;
  return opened->view == NULL ? NULL : qcow2_view_warning(opened->view, index);
}

void tsk_qcow2_opened_close(struct tsk_qcow2_opened *opened)
{
  qcow2_view_close(opened->view);
  qcow2_image_close(opened->image);
  tsk_qcow2_inside_close(opened->inside);
  memset(opened, 0, sizeof(*opened));
}
