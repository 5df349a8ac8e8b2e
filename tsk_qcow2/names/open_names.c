/* SPDX-License-Identifier: MIT */
#include "open_names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "foreign.h"
#include "image_name.h"
#include "key_file.h"
#include "selector_follow.h"

#define QUOTED_BYTES 256
#define SEARCH_VARIABLE "TSK_QCOW2_SEARCH"
#define KEY_FILE_VARIABLE "TSK_QCOW2_KEY_FILE"
#define NO_THREADS_VARIABLE "TSK_QCOW2_NO_THREADS"

/* Append the directories of the environment. */
static int add_environment(struct tsk_qcow2_followed *followed, struct qcow2_error *error)
{
  struct tsk_qcow2_strings *search = &followed->name.search;
  const char *value = getenv(SEARCH_VARIABLE);
  int code = 0;

  followed->own_search_count = search->count;
  while (code == 0 && value != NULL && *value != '\0') {
    size_t length = strcspn(value, ":");

    if (length > 0)
      code = tsk_qcow2_strings_add(search, value, length, error);
    value += length + (value[length] == ':');
  }
  return code;
}

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

static unsigned open_flags(enum tsk_qcow2_depth depth)
{
  const char *no_threads = getenv(NO_THREADS_VARIABLE);
  bool is_alone = depth == TSK_QCOW2_CHAIN_NO_THREADS ||
                  (no_threads != NULL && *no_threads != '\0');

  return (depth == TSK_QCOW2_HEADER_ONLY ? (unsigned) QCOW2_OPEN_NO_CHAIN : 0) |
         (is_alone ? (unsigned) QCOW2_OPEN_NO_THREADS : 0);
}

static int open_with_keys(const struct tsk_qcow2_followed *followed, enum tsk_qcow2_depth depth,
                          qcow2_open_foreign *open_foreign, const struct tsk_qcow2_keys *keys,
                          struct qcow2_image **image, struct qcow2_error *error)
{
  const struct tsk_qcow2_name *name = &followed->name;
  struct tsk_qcow2_foreign_openers openers = { open_foreign };
  struct qcow2_open_options options = {
    .struct_size = sizeof(options),
    .flags = open_flags(depth),
    .backing_paths = (const char *const *) name->backing.items,
    .backing_count = name->backing.count,
    .search_directories = (const char *const *) name->search.items,
    .search_count = name->search.count,
    .data_file = name->data_file,
    .data_format = name->data_format,
    .backing_formats = (const char *const *) name->backing_formats.items,
    .open_foreign = tsk_qcow2_open_foreign,
    .foreign_context = &openers,
    .passphrases = keys->passphrases,
    .passphrase_count = keys->count,
    .referrer = followed->referrer,
    .referrer_search_count = followed->own_search_count,
    .search_variable = SEARCH_VARIABLE,
    .search_variable_count = name->search.count - followed->own_search_count,
    .offset = name->offset,
    .layout = name->has_layout ? &name->layout : NULL,
    .header_length = name->header_length,
  };

  return qcow2_image_open(name->path, &options, image, error);
}

/* Open with the key files of the name. If there is a referrer, it is the one that names them. */
static int open_by_name(const struct tsk_qcow2_followed *followed, enum tsk_qcow2_depth depth,
                        qcow2_open_foreign *open_foreign, struct qcow2_image **image,
                        struct qcow2_error *error)
{
  struct tsk_qcow2_keys keys = { NULL, 0 };
  int code = 0;

  if (depth != TSK_QCOW2_HEADER_ONLY)
    code = tsk_qcow2_keys_read(&followed->name.key_files, followed->referrer, &keys, error);
  if (code == 0)
    code = open_with_keys(followed, depth, open_foreign, &keys, image, error);
  tsk_qcow2_keys_free(&keys);
  return code;
}

/* Open with the key file that the environment variable names. If that fails because of the key
   file, the error names the variable. */
static int open_by_variable(const struct tsk_qcow2_followed *followed, char *path,
                            qcow2_open_foreign *open_foreign, struct qcow2_image **image,
                            struct qcow2_error *error)
{
  const struct tsk_qcow2_strings key_files = { &path, 1 };
  struct tsk_qcow2_keys keys = { NULL, 0 };
  struct qcow2_error failure;
  int code = tsk_qcow2_keys_read(&key_files, NULL, &keys, &failure);
  bool is_key = code != 0;

  if (code == 0)
    code = open_with_keys(followed, TSK_QCOW2_WHOLE, open_foreign, &keys, image, &failure);
  tsk_qcow2_keys_free(&keys);
  if (code == 0)
    return 0;
  *error = failure;
  if (is_key || code == QCOW2_ERROR_KEY)
    snprintf(error->message, sizeof(error->message), "with the key file of %s: %.*s",
             KEY_FILE_VARIABLE,
             (int) (sizeof(error->message) -
                    sizeof("with the key file of " KEY_FILE_VARIABLE ": ")),
             failure.message);
  return code;
}

static int open_image(const struct tsk_qcow2_followed *followed, enum tsk_qcow2_depth depth,
                      qcow2_open_foreign *open_foreign, struct qcow2_image **image,
                      struct qcow2_error *error)
{
  char *path = getenv(KEY_FILE_VARIABLE);
  int code = open_by_name(followed, depth, open_foreign, image, error);

  /* The variable applies only to images that need a passphrase. For others the file need not even
     exist. */
  if (code == QCOW2_ERROR_KEY && followed->name.key_files.count == 0 && path != NULL &&
      *path != '\0')
    code = open_by_variable(followed, path, open_foreign, image, error);
  return code;
}

int tsk_qcow2_open_deleted(const struct tsk_qcow2_opened *opened, uint64_t l1_offset,
                           bool is_vm_state, struct qcow2_view **view, struct qcow2_error *error)
{
  unsigned flags = (is_vm_state ? (unsigned) QCOW2_VIEW_VM_STATE : 0) |
                   (opened->only_kept ? (unsigned) QCOW2_VIEW_ONLY_KEPT : 0);

  return qcow2_view_open_deleted(opened->image, l1_offset, flags, view, error);
}

int tsk_qcow2_open_state(const struct tsk_qcow2_opened *opened, size_t snapshot_index,
                         bool is_vm_state, struct qcow2_view **view, struct qcow2_error *error)
{
  unsigned flags = (is_vm_state ? (unsigned) QCOW2_VIEW_VM_STATE : 0) |
                   (opened->under_zeros ? (unsigned) QCOW2_VIEW_UNDER_ZEROS : 0);

  if (opened->deleted_l1 != 0)
    return tsk_qcow2_open_deleted(opened, opened->deleted_l1, is_vm_state, view, error);
  if (opened->is_residue && (snapshot_index != QCOW2_ACTIVE || is_vm_state))
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the image name asks for the residue, and not for a snapshot");
  return opened->is_residue ? qcow2_view_open_residue(opened->image, view, error)
                            : qcow2_view_open_as(opened->image, snapshot_index, flags, view, error);
}

static int open_view(const struct tsk_qcow2_name *name, enum tsk_qcow2_depth depth,
                     struct tsk_qcow2_opened *opened, struct qcow2_error *error)
{
  struct tsk_qcow2_selected selected;
  int code;

  opened->is_vm_state = name->vm_state;
  opened->only_kept = name->only_kept;
  opened->errors_zero = name->errors_zero;
  opened->is_residue = name->residue;
  opened->under_zeros = name->under_zeros;
  code = tsk_qcow2_selection_find(&name->selection, opened->image, &selected, error);
  opened->snapshot_index = selected.snapshot_index;
  opened->deleted_l1 = selected.deleted_l1;
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
  bool is_alone;
  int code;

  memset(followed, 0, sizeof(*followed));
  code = tsk_qcow2_name_parse(names[0], &typed, error);
  if (code != 0)
    return code;
  code = tsk_qcow2_is_selector(typed.path, error);
  if (code <= 0) {
    followed->name = typed;
    return code != 0 ? code : add_chain(&followed->name, count - 1, names + 1, error);
  }
  is_alone = count == 1 && strcmp(typed.path, names[0]) == 0;
  code = is_alone ? tsk_qcow2_selector_follow(typed.path, followed, error)
                  : qcow2_error_set(
                        error, QCOW2_ERROR_ARGUMENT,
                        "a selector file stands for a whole image name, so nothing can be added to "
                        "it. To write another one: tsk-qcow2 selector IMAGE@SNAPSHOT,OPTION");
  tsk_qcow2_name_free(&typed);
  return code;
}

/* A selector stands for a whole image name, so it cannot be one of the files that an image name
   names. */
static int refuse_selector(const char *role, const char *path, struct qcow2_error *error)
{
  char quoted[QUOTED_BYTES];
  int is_selector = tsk_qcow2_is_selector(path, error);

  if (is_selector <= 0)
    return is_selector;
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                         "the %s \"%s\" is a selector file: name the image that is in it instead",
                         role, qcow2_text_escape(path, strlen(path), quoted, sizeof(quoted)));
}

static int refuse_selectors(const struct tsk_qcow2_name *name, struct qcow2_error *error)
{
  int code = name->data_file == NULL ? 0 : refuse_selector("data file", name->data_file, error);

  for (size_t i = 0; code == 0 && i < name->backing.count; i++)
    if (strcmp(name->backing.items[i], QCOW2_BACKING_NONE) != 0)
      code = refuse_selector("backing file", name->backing.items[i], error);
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
    code = add_environment(&followed, error);
  if (code == 0 && followed.referrer == NULL && depth != TSK_QCOW2_HEADER_ONLY)
    code = refuse_selectors(&followed.name, error);
  if (code == 0)
    code = open_image(&followed, depth, open_foreign, &opened->image, error);
  if (code == 0)
    code = open_view(&followed.name, depth, opened, error);
  if (code != 0) {
    code = tsk_qcow2_followed_explain(&followed, code, error);
    tsk_qcow2_opened_close(opened);
  }
  tsk_qcow2_followed_free(&followed);
  return code;
}

const char *tsk_qcow2_opened_warning(const struct tsk_qcow2_opened *opened, size_t index)
{
  const char *warning;

  for (size_t i = 0; (warning = qcow2_warning(opened->image, i)) != NULL; i++)
    if (index-- == 0)
      return warning;
  return opened->view == NULL ? NULL : qcow2_view_warning(opened->view, index);
}

void tsk_qcow2_opened_close(struct tsk_qcow2_opened *opened)
{
  qcow2_view_close(opened->view);
  qcow2_image_close(opened->image);
  memset(opened, 0, sizeof(*opened));
}
