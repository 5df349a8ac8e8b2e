/* SPDX-License-Identifier: MIT */
#include "selection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "name_text.h"

/* The word that a selection of each kind begins with. */
static const char *const WORDS[] = { [TSK_QCOW2_SELECT_NOTHING] = "",
                                     [TSK_QCOW2_SELECT_ID_OR_NAME] = "",
                                     [TSK_QCOW2_SELECT_ID] = "id=",
                                     [TSK_QCOW2_SELECT_NAME] = "name=",
                                     [TSK_QCOW2_SELECT_INDEX] = "index=",
                                     [TSK_QCOW2_SELECT_DELETED] = "deleted=",
                                     [TSK_QCOW2_SELECT_DELETED_ID] = "deleted-id=",
                                     [TSK_QCOW2_SELECT_DELETED_L1] = "deleted-l1=",
                                     [TSK_QCOW2_SELECT_ABANDONED] = "" };
#define ABANDONED "abandoned"

/* ---- As text ---------------------------------------------------------------- */

int tsk_qcow2_selection_parse(const char **rest, struct tsk_qcow2_selection *selection,
                              struct qcow2_error *error)
{
  selection->kind = TSK_QCOW2_SELECT_ID_OR_NAME;
  for (size_t kind = TSK_QCOW2_SELECT_ID; kind < TSK_QCOW2_SELECT_ABANDONED; kind++)
    if (strncmp(*rest, WORDS[kind], strlen(WORDS[kind])) == 0)
      selection->kind = (enum tsk_qcow2_selection_kind) kind;
  *rest += strlen(WORDS[selection->kind]);
  selection->text = tsk_qcow2_piece_take(rest);
  if (selection->text == NULL)
    return tsk_qcow2_complain_nomem(error);
  if (selection->kind == TSK_QCOW2_SELECT_ID_OR_NAME && strcmp(selection->text, ABANDONED) == 0)
    selection->kind = TSK_QCOW2_SELECT_ABANDONED;
  return 0;
}

void tsk_qcow2_selection_print(const struct tsk_qcow2_selection *selection, FILE *out)
{
  if (selection->kind == TSK_QCOW2_SELECT_NOTHING)
    return;
  fprintf(out, "@%s", WORDS[selection->kind]);
  tsk_qcow2_piece_print(selection->text, out);
}

void tsk_qcow2_selection_free(struct tsk_qcow2_selection *selection)
{
  free(selection->text);
  memset(selection, 0, sizeof(*selection));
}

/* ---- In an image ------------------------------------------------------------- */

/* The snapshot at an index of the table: for one whose ID and name are empty, or not unique. */
static int find_by_index(const struct qcow2_image *image, const char *text, size_t *index,
                         struct qcow2_error *error)
{
  char *end;
  unsigned long value;

  errno = 0;
  value = strtoul(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 ||
      value >= qcow2_snapshot_count(image))
    return qcow2_error_set(
        error, QCOW2_ERROR_NOT_FOUND,
        "there is no snapshot of that index; the image has %zu, counted from 0%s",
        qcow2_snapshot_count(image),
        qcow2_snapshot_lost_count(image) == 0 ? "" : ", and more that cannot be read");
  *index = value;
  return 0;
}

/* "abandoned" is a snapshot's ID or name in the first place. */
static int find_abandoned(const struct qcow2_image *image, struct tsk_qcow2_selected *selected,
                          struct qcow2_error *error)
{
  struct qcow2_error failure;
  size_t index;
  int code = qcow2_snapshot_find(image, ABANDONED, QCOW2_BY_ID_OR_NAME, &index, &failure);

  if (code == 0)
    selected->snapshot_index = index;
  else if (code == QCOW2_ERROR_NOT_FOUND && failure.help != QCOW2_HELP_SNAPSHOT_KEY)
    selected->is_abandoned = true;
  else {
    *error = failure;
    return code;
  }
  return 0;
}

int tsk_qcow2_selection_find(const struct tsk_qcow2_selection *selection,
                             const struct qcow2_image *image, struct tsk_qcow2_selected *selected,
                             struct qcow2_error *error)
{
  const char *text = selection->text;
  size_t *snapshot_index = &selected->snapshot_index;
  uint64_t *l1 = &selected->deleted_l1;

  *selected = (struct tsk_qcow2_selected){ .snapshot_index = QCOW2_ACTIVE };
  switch (selection->kind) {
  case TSK_QCOW2_SELECT_NOTHING: return 0;
  case TSK_QCOW2_SELECT_INDEX: return find_by_index(image, text, snapshot_index, error);
  case TSK_QCOW2_SELECT_ID_OR_NAME:
    return qcow2_snapshot_find(image, text, QCOW2_BY_ID_OR_NAME, snapshot_index, error);
  case TSK_QCOW2_SELECT_ID:
    return qcow2_snapshot_find(image, text, QCOW2_BY_ID, snapshot_index, error);
  case TSK_QCOW2_SELECT_NAME:
    return qcow2_snapshot_find(image, text, QCOW2_BY_NAME, snapshot_index, error);
  case TSK_QCOW2_SELECT_DELETED:
    return qcow2_deleted_find(image, text, QCOW2_DELETED_BY_NAME, l1, error);
  case TSK_QCOW2_SELECT_DELETED_ID:
    return qcow2_deleted_find(image, text, QCOW2_DELETED_BY_ID, l1, error);
  case TSK_QCOW2_SELECT_DELETED_L1:
    return qcow2_deleted_find(image, text, QCOW2_DELETED_BY_L1, l1, error);
  case TSK_QCOW2_SELECT_ABANDONED: return find_abandoned(image, selected, error);
  }
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "a selection of no known kind");
}
