/* SPDX-License-Identifier: MIT */
#include "open_names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "advice.h"
#include "complain.h"
#include "name_compose.h"
#include "outer_disk.h"
#include "selector_follow.h"

#define QUOTED_BYTES 256

/* The names after the first are the backing chain. They are plain paths. */
static int add_chain(struct tsk_qcow2_name *name, size_t count, const char *const names[],
                     struct qcow2_error *error)
{
  int code = 0;

  if (count > 0 && name->backing.count > 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the backing files are given twice, with backing= and as further image "
                           "names; leave out one or the other");
  for (size_t i = 0; code == 0 && i < count; i++)
    code = tsk_qcow2_name_add_backing(name, names[i], error);
  return code;
}

static int open_view(const struct tsk_qcow2_name *name, enum tsk_qcow2_depth depth,
                     struct tsk_qcow2_opened *opened, struct qcow2_error *error)
{
  struct tsk_qcow2_selected selected;
  int code;

  opened->is_vm_state = name->vm_state;
  opened->only_kept = name->only_kept;
  opened->by_neighbours = name->by_neighbours;
  opened->errors_zero = name->errors_zero;
  opened->is_residue = name->residue;
  opened->under_zeros = name->under_zeros;
  code = tsk_qcow2_selection_find(&name->selection, opened->image, &selected, error);
  opened->snapshot_index = selected.snapshot_index;
  opened->deleted_l1 = selected.deleted_l1;
  opened->is_abandoned = selected.is_abandoned;
  if (code != 0 || depth != TSK_QCOW2_WHOLE)
    return code;
  return tsk_qcow2_open_state(opened, opened->snapshot_index, name->vm_state, &opened->view, error);
}

/* From image names to one name whose paths can be opened. The caller frees *followed, also after an
   error. */
static int follow_names(size_t count, const char *const names[],
                        struct tsk_qcow2_followed *followed, struct qcow2_error *error)
{
  struct tsk_qcow2_name typed;
  const char *outermost;
  bool is_alone;
  int code;

  memset(followed, 0, sizeof(*followed));
  code = tsk_qcow2_name_parse(names[0], &typed, error);
  if (code != 0)
    return code;
  outermost = tsk_qcow2_name_outermost(&typed)->path;
  code = tsk_qcow2_is_selector(outermost, error);
  if (code <= 0) {
    followed->name = typed;
    return code != 0 ? code : add_chain(&followed->name, count - 1, names + 1, error);
  }
  is_alone = count == 1 && strcmp(outermost, names[0]) == 0;
  code = is_alone ? tsk_qcow2_selector_follow(outermost, followed, error)
                  : qcow2_error_set(
                        error, QCOW2_ERROR_ARGUMENT,
                        "a selector file stands for a whole image name, so nothing can be added to "
                        "it. To write another one: tsk-qcow2 selector IMAGE@SNAPSHOT,OPTION");
  tsk_qcow2_name_free(&typed);
  return code;
}

/* A selector stands for a whole image name, so it cannot be one of the files that an image name
   names. */
static int refuse_selector(const struct tsk_qcow2_name *name, const char *role, const char *path,
                           struct qcow2_error *error)
{
  char quoted[QUOTED_BYTES];
  int is_selector = tsk_qcow2_name_leads_inside(name, path) ? 0
                                                            : tsk_qcow2_is_selector(path, error);

  if (is_selector <= 0)
    return is_selector;
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                         "the %s \"%s\" is a selector file: name the image that is in it instead",
                         role, qcow2_text_escape(path, strlen(path), quoted, sizeof(quoted)));
}

static int refuse_selectors(const struct tsk_qcow2_name *name, struct qcow2_error *error)
{
  int code = name->data_file == NULL ? 0
                                     : refuse_selector(name, "data file", name->data_file, error);

  for (size_t i = 0; code == 0 && i < name->backing.count; i++)
    if (strcmp(name->backing.items[i], QCOW2_BACKING_NONE) != 0)
      code = refuse_selector(name, "backing file", name->backing.items[i], error);
  return code;
}

/* ---- Disks around the image ------------------------------------------------------- */

/* tsk_qcow2_map_path: as it is. */
static char *same_path(void *context, const char *path)
{
  (void) context;
  return strdup(path);
}

/* A disk that is not qcow2 has no snapshots, and nothing to choose. */
static int check_plain(const struct tsk_qcow2_name *name, struct qcow2_error *error)
{
  const struct tsk_qcow2_name plain = { .outer = name->outer, .path = name->path };
  char *as_is = tsk_qcow2_name_compose(&plain, same_path, NULL);
  char *given = tsk_qcow2_name_compose(name, same_path, NULL);
  char quoted[QUOTED_BYTES];
  int code = 0;

  if (as_is == NULL || given == NULL)
    code = tsk_qcow2_complain_nomem(error);
  else if (strcmp(as_is, given) != 0)
    code =
        qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                        "\"%s\" is not a qcow2 image, so \"//\" follows right after it: snapshots "
                        "and options are those of qcow2 images",
                        qcow2_text_escape(as_is, strlen(as_is), quoted, sizeof(quoted)));
  free(as_is);
  free(given);
  return code;
}

/* Append a sentence about the disk around. */
static int gather_sentence(const char *sentence, const char *text,
                           struct tsk_qcow2_strings *warnings, struct qcow2_error *error)
{
  char quoted[QUOTED_BYTES], *whole;
  size_t size = strlen(sentence) + sizeof(quoted) + 40;
  int code;

  whole = malloc(size);
  if (whole == NULL)
    return tsk_qcow2_complain_nomem(error);
  snprintf(whole, size, "of the disk around it, \"%s\": %s",
           qcow2_text_escape(text, strlen(text), quoted, sizeof(quoted)), sentence);
  code = tsk_qcow2_strings_add(warnings, whole, strlen(whole), error);
  free(whole);
  return code;
}

/* Gather the warnings about what is opened, which will be around the next level. */
static int gather(const struct tsk_qcow2_opened *opened, const char *text,
                  struct tsk_qcow2_strings *warnings, struct qcow2_error *error)
{
  const char *warning;
  size_t i;
  int code = 0;

  for (i = 0; code == 0 && (warning = tsk_qcow2_inside_warning(opened->inside, i)) != NULL; i++)
    code = tsk_qcow2_strings_add(warnings, warning, strlen(warning), error);
  for (; code == 0 && opened->image != NULL &&
         (warning = tsk_qcow2_opened_warning(opened, i)) != NULL;
       i++)
    code = gather_sentence(warning, text, warnings, error);
  return code;
}

/* The disk around is in a file that is not qcow2, whose storage this owns. */
static int take_plain(const struct tsk_qcow2_level *level, const struct qcow2_storage *storage,
                      struct tsk_qcow2_opened *opened, struct tsk_qcow2_outer *outer,
                      struct qcow2_error *error)
{
  int code = check_plain(level->name, error);

  *outer = (struct tsk_qcow2_outer){ .storage = *storage };
  if (code == 0 && opened->inside != NULL)
    return tsk_qcow2_outer_disk_wrap(opened, storage, outer, error);
  if (code != 0)
    storage->close(storage->context);
  return code;
}

/* The disk around is the view of an image, which is opened. */
static int open_around(const struct tsk_qcow2_level *level, struct tsk_qcow2_opened *opened,
                       struct qcow2_error *error)
{
  int code = tsk_qcow2_level_open_image(level, TSK_QCOW2_WHOLE, &opened->image, error);

  return code == 0 ? open_view(level->name, TSK_QCOW2_WHOLE, opened, error) : code;
}

static int take_image(const char *text, struct tsk_qcow2_opened *opened,
                      struct tsk_qcow2_outer *outer, struct qcow2_error *error)
{
  const struct tsk_qcow2_opened given = *opened;

  *opened = (struct tsk_qcow2_opened){ .is_in_recovered = tsk_qcow2_opened_is_recovered(&given),
                                       .is_in_gaps = tsk_qcow2_opened_has_gaps(&given,
                                                                               given.view) };
  return tsk_qcow2_outer_disk_new(&given, text, outer, error);
}

/* Make the inside of the disk around, which is opened. */
static int make_inside(const struct tsk_qcow2_outer *outer, const char *text,
                       const struct tsk_qcow2_strings *warnings, struct tsk_qcow2_opened *opened,
                       struct qcow2_error *error)
{
  int code = tsk_qcow2_inside_new(outer, text, &opened->inside, error);

  for (size_t i = 0; code == 0 && i < warnings->count; i++)
    code = tsk_qcow2_inside_warn(opened->inside, warnings->items[i], error);
  return code;
}

/* Say what to type in front of "//", since the advice that comes later is about the image. */
static int explain_outer(const struct tsk_qcow2_level *level, const char *text, int code,
                         struct qcow2_error *error)
{
  char advice[ADVICE_BYTES], sentence[ADVICE_BYTES + 64];

  if (error->help == QCOW2_HELP_REFERRER)
    return code;
  tsk_qcow2_advice(error, level->name, text, advice);
  if (advice[0] != '\0') {
    snprintf(sentence, sizeof(sentence), "%s%s", advice,
             tsk_qcow2_advice_adds(error) ? ", before its \"//\"" : "");
    tsk_qcow2_complain_more(error, sentence);
  }
  error->help = QCOW2_HELP_NONE;
  return code;
}

/* Open the disk around the next level, and gather the warnings about it. */
static int open_outer(const struct tsk_qcow2_level *level, const char *text,
                      struct tsk_qcow2_opened *opened, struct tsk_qcow2_strings *warnings,
                      struct tsk_qcow2_outer *outer, struct qcow2_error *error)
{
  char warning[QCOW2_FOREIGN_WARNING_BYTES] = "";
  struct qcow2_storage storage;
  /* With these options, nothing else is read. */
  int is_qcow2 = level->name->offset > 0 || level->name->has_layout ||
                 level->name->header_length > 0;
  int code = is_qcow2 ? 0 : tsk_qcow2_level_open_outer(level, &storage, &is_qcow2, warning, error);

  if (code == 0 && is_qcow2)
    code = open_around(level, opened, error);
  if (code != 0)
    return code;
  code = gather(opened, text, warnings, error);
  if (code == 0 && warning[0] != '\0')
    code = gather_sentence(warning, text, warnings, error);
  if (code == 0)
    return is_qcow2 ? take_image(text, opened, outer, error)
                    : take_plain(level, &storage, opened, outer, error);
  if (!is_qcow2)
    storage.close(storage.context);
  return code;
}

/* Open the disk around the next level. opened->inside becomes its inside. */
static int go_inside(const struct tsk_qcow2_level *level, struct tsk_qcow2_opened *opened,
                     struct qcow2_error *error)
{
  char *text = tsk_qcow2_name_compose(level->name, same_path, NULL);
  struct tsk_qcow2_strings warnings = { NULL, 0 };
  struct tsk_qcow2_outer outer;
  int code;

  if (text == NULL)
    return tsk_qcow2_complain_nomem(error);
  code = open_outer(level, text, opened, &warnings, &outer, error);
  if (code == 0)
    code = make_inside(&outer, text, &warnings, opened, error);
  else
    code = explain_outer(level, text, code, error);
  tsk_qcow2_strings_free(&warnings);
  free(text);
  return code;
}

/* ---- The whole --------------------------------------------------------------------- */

/* Open the levels of the name, the outermost disk first. */
static int open_levels(struct tsk_qcow2_followed *followed, enum tsk_qcow2_depth depth,
                       qcow2_open_foreign *open_foreign, struct tsk_qcow2_opened *opened,
                       struct qcow2_error *error)
{
  struct tsk_qcow2_level levels[TSK_QCOW2_NESTED_MAX + 1];
  size_t count = 0;
  int code = 0;

  for (struct tsk_qcow2_name *name = &followed->name; code == 0 && name != NULL;
       name = name->outer) {
    levels[count++] = (struct tsk_qcow2_level){ name, followed->referrer, open_foreign, NULL };
    code = tsk_qcow2_level_add_environment(name, error);
    if (code == 0 && followed->referrer == NULL && (depth != TSK_QCOW2_HEADER_ONLY || count > 1))
      code = refuse_selectors(name, error);
  }
  while (code == 0 && count > 0) {
    struct tsk_qcow2_level *level = &levels[--count];

    level->inside = opened->inside;
    code = count > 0 ? go_inside(level, opened, error)
                     : tsk_qcow2_level_open_image(level, depth, &opened->image, error);
  }
  return code;
}

int tsk_qcow2_open_names(size_t count, const char *const names[], enum tsk_qcow2_depth depth,
                         qcow2_open_foreign *open_foreign, struct tsk_qcow2_opened *opened,
                         struct qcow2_error *error)
{
  struct tsk_qcow2_followed followed;
  int code = follow_names(count, names, &followed, error);

  memset(opened, 0, sizeof(*opened));
  if (code == 0)
    code = open_levels(&followed, depth, open_foreign, opened, error);
  if (code == 0)
    code = open_view(&followed.name, depth, opened, error);
  if (code != 0) {
    code = tsk_qcow2_followed_explain(&followed, code, error);
    tsk_qcow2_opened_close(opened);
  }
  tsk_qcow2_followed_free(&followed);
  return code;
}
