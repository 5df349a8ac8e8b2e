/* SPDX-License-Identifier: MIT */
#include "open_level.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"
#include "foreign.h"
#include "key_file.h"

#define SEARCH_VARIABLE "TSK_QCOW2_SEARCH"
#define KEY_FILE_VARIABLE "TSK_QCOW2_KEY_FILE"
#define NO_THREADS_VARIABLE "TSK_QCOW2_NO_THREADS"

/* A directory inside a disk is not searched. */
static int check_search(const struct tsk_qcow2_name *name, struct qcow2_error *error)
{
  for (size_t i = 0; i < name->search.count; i++)
    if (tsk_qcow2_name_leads_inside(name, name->search.items[i]))
      return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                             "the option \"search\" takes a directory of this machine; inside the "
                             "disk, name the file itself: backing=//START/PATH");
  return 0;
}

int tsk_qcow2_level_add_environment(struct tsk_qcow2_name *name, struct qcow2_error *error)
{
  const char *value = getenv(SEARCH_VARIABLE);
  int code = check_search(name, error);

  name->own_search_count = name->search.count;
  while (code == 0 && value != NULL && *value != '\0') {
    size_t length = strcspn(value, ":");

    if (length > 0)
      code = tsk_qcow2_strings_add(&name->search, value, length, error);
    value += length + (value[length] == ':');
  }
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

static int open_with_keys(const struct tsk_qcow2_level *level, enum tsk_qcow2_depth depth,
                          const struct tsk_qcow2_keys *keys, struct qcow2_image **image,
                          struct qcow2_error *error)
{
  const struct tsk_qcow2_name *name = level->name;
  struct tsk_qcow2_foreign_openers openers = { level->open_foreign };
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
    .referrer = level->referrer,
    .referrer_search_count = name->own_search_count,
    .search_variable = SEARCH_VARIABLE,
    .search_variable_count = name->search.count - name->own_search_count,
    .find_file_system = level->inside == NULL ? NULL : tsk_qcow2_inside_find,
    .file_system_context = level->inside,
    .offset = name->offset,
    .layout = name->has_layout ? &name->layout : NULL,
    .header_length = name->header_length,
  };

  return qcow2_image_open(name->path, &options, image, error);
}

/* Open with the key files of the name. If there is a referrer, it is the one that names them. */
static int open_by_name(const struct tsk_qcow2_level *level, enum tsk_qcow2_depth depth,
                        struct qcow2_image **image, struct qcow2_error *error)
{
  struct tsk_qcow2_keys keys = { NULL, 0 };
  int code = 0;

  if (depth != TSK_QCOW2_HEADER_ONLY)
    code = tsk_qcow2_keys_read(&level->name->key_files, level->referrer, &keys, error);
  if (code == 0)
    code = open_with_keys(level, depth, &keys, image, error);
  tsk_qcow2_keys_free(&keys);
  return code;
}

/* Open with the key file that the environment variable names. If that fails because of the key
   file, the error names the variable. */
static int open_by_variable(const struct tsk_qcow2_level *level, char *path,
                            struct qcow2_image **image, struct qcow2_error *error)
{
  const struct tsk_qcow2_strings key_files = { &path, 1 };
  struct tsk_qcow2_keys keys = { NULL, 0 };
  struct qcow2_error failure;
  int code = tsk_qcow2_keys_read(&key_files, NULL, &keys, &failure);
  bool is_key = code != 0;

  if (code == 0)
    code = open_with_keys(level, TSK_QCOW2_WHOLE, &keys, image, &failure);
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

int tsk_qcow2_level_open_image(const struct tsk_qcow2_level *level, enum tsk_qcow2_depth depth,
                               struct qcow2_image **image, struct qcow2_error *error)
{
  char *path = getenv(KEY_FILE_VARIABLE);
  int code = open_by_name(level, depth, image, error);

  /* The variable applies only to images that need a passphrase. For others the file need not even
     exist. */
  if (code == QCOW2_ERROR_KEY && level->name->key_files.count == 0 && path != NULL && *path != '\0')
    code = open_by_variable(level, path, image, error);
  return code;
}

int tsk_qcow2_level_open_outer(const struct tsk_qcow2_level *level, struct qcow2_storage *storage,
                               int *is_qcow2, char *warning, struct qcow2_error *error)
{
  struct tsk_qcow2_foreign_openers openers = { level->open_foreign };
  const struct qcow2_open_options options = {
    .struct_size = sizeof(options),
    .open_foreign = tsk_qcow2_open_foreign,
    .foreign_context = &openers,
    .referrer = level->referrer,
    .find_file_system = level->inside == NULL ? NULL : tsk_qcow2_inside_find,
    .file_system_context = level->inside,
  };

  return qcow2_outer_open(level->name->path, &options, storage, is_qcow2, warning, error);
}
