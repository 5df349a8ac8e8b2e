/* SPDX-License-Identifier: MIT */
#include "image_name.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"
#include "shell.h"

#define QUOTED_BYTES 256

/* ---- Strings ------------------------------------------------------------- */

int tsk_qcow2_strings_add(struct tsk_qcow2_strings *strings, const char *text, size_t length,
                          struct qcow2_error *error)
{
  char **items = realloc(strings->items, (strings->count + 1) * sizeof(items[0]));
  char *copy = text == NULL ? NULL : malloc(length + 1);

  if (items != NULL)
    strings->items = items;
  if (items == NULL || (copy == NULL && text != NULL)) {
    free(copy);
    return tsk_qcow2_complain_nomem(error);
  }
  if (copy != NULL) {
    memcpy(copy, text, length);
    copy[length] = '\0';
  }
  items[strings->count++] = copy;
  return 0;
}

void tsk_qcow2_strings_free(struct tsk_qcow2_strings *strings)
{
  for (size_t i = 0; i < strings->count; i++)
    free(strings->items[i]);
  free(strings->items);
  memset(strings, 0, sizeof(*strings));
}

void tsk_qcow2_name_free(struct tsk_qcow2_name *name)
{
  free(name->path);
  free(name->snapshot);
  free(name->data_file);
  free(name->data_format);
  tsk_qcow2_strings_free(&name->backing);
  tsk_qcow2_strings_free(&name->backing_formats);
  tsk_qcow2_strings_free(&name->search);
  tsk_qcow2_strings_free(&name->key_files);
  memset(name, 0, sizeof(*name));
}

/* ---- Pieces -------------------------------------------------------------- */

/* Take the piece at the start of *rest, up to a single comma or the end. ",," in it becomes ",".
 *rest is advanced to that comma or end. The caller frees it. NULL: no memory. */
static char *take_piece(const char **rest)
{
  char *piece = malloc(strlen(*rest) + 1), *out = piece;
  const char *in = *rest;

  if (piece == NULL)
    return NULL;
  while (*in != '\0' && !(in[0] == ',' && in[1] != ',')) {
    in += *in == ',';
    *out++ = *in++;
  }
  *out = '\0';
  *rest = in;
  return piece;
}

static bool starts_with(const char *text, const char *prefix)
{
  return strncmp(text, prefix, strlen(prefix)) == 0;
}

static int parse_snapshot(const char **rest, struct tsk_qcow2_name *name, struct qcow2_error *error)
{
  name->snapshot_key = QCOW2_BY_ID_OR_NAME;
  if (starts_with(*rest, "id="))
    name->snapshot_key = QCOW2_BY_ID;
  else if (starts_with(*rest, "name="))
    name->snapshot_key = QCOW2_BY_NAME;
  name->snapshot_is_index = starts_with(*rest, "index=");
  if (name->snapshot_key != QCOW2_BY_ID_OR_NAME || name->snapshot_is_index)
    *rest = strchr(*rest, '=') + 1;
  name->has_snapshot = true;
  name->snapshot = take_piece(rest);
  return name->snapshot == NULL ? tsk_qcow2_complain_nomem(error) : 0;
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

/* ---- Options ------------------------------------------------------------- */

static int take_backing(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  int code = tsk_qcow2_name_add_backing(name, value, error);

  if (code == 0)
    name->last_format = strcmp(value, QCOW2_BACKING_NONE) == 0
                            ? NULL
                            : &name->backing_formats.items[name->backing_formats.count - 1];
  return code;
}

static int check_format(const char *value, bool is_data_file, struct qcow2_error *error)
{
  static const char *const FORMATS[] = {
    "raw", "vmdk", "vhd", "ewf", "aff", "afd", "afm", "qcow2"
  };
  const size_t count = sizeof(FORMATS) / sizeof(FORMATS[0]) - (is_data_file ? 1 : 0);
  char quoted[QUOTED_BYTES];

  for (size_t i = 0; i < count; i++)
    if (strcmp(FORMATS[i], value) == 0)
      return 0;
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                         "the option \"format\" of the image name takes raw, vmdk, vhd, ewf, aff, "
                         "afd, afm%s, not \"%s\"",
                         is_data_file ? "" : " or qcow2",
                         qcow2_text_escape(value, strlen(value), quoted, sizeof(quoted)));
}

/* The format of the file that the option right before this one names. */
static int take_format(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  int code;

  if (name->last_format == NULL)
    return qcow2_error_set(
        error, QCOW2_ERROR_ARGUMENT,
        "the option \"format\" of the image name belongs right after the file that it is about: "
        "backing=PATH,format=FORMAT or data-file=PATH,format=FORMAT");
  code = check_format(value, name->last_format == &name->data_format, error);
  if (code != 0)
    return code;
  *name->last_format = strdup(value);
  return *name->last_format == NULL ? tsk_qcow2_complain_nomem(error) : 0;
}

static int take_search(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  return tsk_qcow2_strings_add(&name->search, value, strlen(value), error);
}

static int take_key_file(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  return tsk_qcow2_strings_add(&name->key_files, value, strlen(value), error);
}

static int take_data_file(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  if (name->data_file != NULL)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "the option \"data-file\" is given twice");
  name->data_file = strdup(value);
  name->last_format = &name->data_format;
  return name->data_file == NULL ? tsk_qcow2_complain_nomem(error) : 0;
}

static int take_vm_state(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  (void) value;
  if (!name->has_snapshot)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the option \"vmstate\" needs a snapshot: IMAGE@SNAPSHOT,vmstate");
  name->vm_state = true;
  return 0;
}

static int take_errors(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  char quoted[QUOTED_BYTES];

  if (strcmp(value, "zero") != 0)
    return qcow2_error_set(
        error, QCOW2_ERROR_ARGUMENT,
        "the option \"errors\" of the image name takes the value \"zero\" only, not \"%s\"",
        qcow2_text_escape(value, strlen(value), quoted, sizeof(quoted)));
  name->errors_zero = true;
  return 0;
}

static int take_under_zeros(struct tsk_qcow2_name *name, const char *value,
                            struct qcow2_error *error)
{
  (void) value;
  (void) error;
  name->under_zeros = true;
  return 0;
}

static int take_residue(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error)
{
  (void) value;
  (void) error;
  name->residue = true;
  return 0;
}

static const struct option {
  const char *name;
  const char *value; /* what messages show after "="; NULL: the option takes no value */
  int (*take)(struct tsk_qcow2_name *name, const char *value, struct qcow2_error *error);
} OPTIONS[] = {
  { "backing", "PATH", take_backing },   { "data-file", "PATH", take_data_file },
  { "format", "FORMAT", take_format },   { "search", "DIRECTORY", take_search },
  { "vmstate", NULL, take_vm_state },    { "errors", "zero", take_errors },
  { "key-file", "PATH", take_key_file }, { "under-zeros", NULL, take_under_zeros },
  { "residue", NULL, take_residue },
};

static const struct option *find_option(const char *text, size_t length)
{
  for (size_t i = 0; i < sizeof(OPTIONS) / sizeof(OPTIONS[0]); i++)
    if (strlen(OPTIONS[i].name) == length && memcmp(OPTIONS[i].name, text, length) == 0)
      return &OPTIONS[i];
  return NULL;
}

/* Check that there is a value if the option takes one, and none if it does not. */
static int check_value(const struct option *option, const char *value, struct qcow2_error *error)
{
  if (option->value == NULL && value != NULL)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the option \"%s\" of the image name takes no value", option->name);
  if (option->value != NULL && (value == NULL || value[0] == '\0'))
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "the option \"%s\" of the image name needs a value: %s=%s", option->name,
                           option->name, option->value);
  return 0;
}

/* Apply "NAME" or "NAME=VALUE". */
static int apply_option(struct tsk_qcow2_name *name, const char *text, struct qcow2_error *error)
{
  size_t name_length = strcspn(text, "=");
  const struct option *option = find_option(text, name_length);
  const char *value = text[name_length] == '=' ? text + name_length + 1 : NULL;
  char quoted[QUOTED_BYTES];
  int code;

  if (option == NULL)
    return qcow2_error_set(
        error, QCOW2_ERROR_ARGUMENT,
        "the image name has an unknown option \"%s\"; there are backing=PATH, "
        "backing=none, data-file=PATH, format=FORMAT, search=DIRECTORY, "
        "key-file=PATH, vmstate, under-zeros, residue and errors=zero (\",,\" stands for a comma)",
        qcow2_text_escape(text, name_length, quoted, sizeof(quoted)));
  code = check_value(option, value, error);
  if (code == 0) {
    code = option->take(name, value, error);
    if (option->take != take_backing && option->take != take_data_file)
      name->last_format = NULL;
  }
  return code;
}

/* The residue is of the file, not of one of the states in it. */
static int check_residue(const struct tsk_qcow2_name *name, struct qcow2_error *error)
{
  char quoted[SHELL_COMMAND_BYTES], *right;
  size_t size;

  if (!name->residue || (!name->has_snapshot && !name->under_zeros))
    return 0;
  size = strlen(name->path) + sizeof(",residue");
  right = malloc(size);
  if (right == NULL)
    return tsk_qcow2_complain_nomem(error);
  snprintf(right, size, "%s,residue", name->path);
  if (!tsk_qcow2_shell_quote(right, quoted, sizeof(quoted)))
    snprintf(quoted, sizeof(quoted), "IMAGE,residue");
  free(right);
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                         "the residue is of the whole file, with all its snapshots, so %s does not "
                         "go with it: type %s",
                         name->has_snapshot ? "\"@\"" : "\"under-zeros\"", quoted);
}

int tsk_qcow2_name_parse_rest(const char *rest, struct tsk_qcow2_name *name,
                              struct qcow2_error *error)
{
  int code = 0;

  if (*rest == '@') {
    rest++;
    code = parse_snapshot(&rest, name, error);
  }
  while (code == 0 && *rest == ',') {
    char *piece;

    rest++;
    piece = take_piece(&rest);
    code = piece == NULL ? tsk_qcow2_complain_nomem(error) : apply_option(name, piece, error);
    free(piece);
  }
  return code == 0 ? check_residue(name, error) : code;
}

/* ---- Typing mistakes ---------------------------------------------- */

/* The shell replaces "~" only at the start of an argument. `option` was typed as `typed`. */
static int check_tilde(const char *option, const char *typed, size_t length,
                       struct qcow2_error *error)
{
  const char *value = strchr(option, '=');
  size_t before = value == NULL ? 0 : (size_t) (value - option) + 2; /* names have no commas */
  char quoted[SHELL_COMMAND_BYTES], *rest;

  if (value == NULL || !starts_with(value, "=~/") || access(value + 1, F_OK) == 0)
    return 0;
  rest = strndup(typed + before, length - before);
  if (rest == NULL)
    return tsk_qcow2_complain_nomem(error);
  if (!tsk_qcow2_shell_quote(rest, quoted, sizeof(quoted)))
    snprintf(quoted, sizeof(quoted), "/PATH");
  free(rest);
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                         "there is no such file: the shell replaces \"~\" only at the start of an "
                         "argument. Type %.*s=\"$HOME\"%s",
                         (int) (value - option), option, quoted);
}

/* True if the option is valid without its last "@" and what follows, but with it is unknown or
   names no file. */
static bool ends_in_snapshot(const char *option)
{
  const char *at = strrchr(option, '@'), *value = strchr(option, '=');
  char *path;
  bool is_there;

  if (at == NULL || value == NULL || value > at)
    return at != NULL && find_option(option, (size_t) (at - option)) != NULL;
  if (access(value + 1, F_OK) == 0)
    return false;
  path = strndup(value + 1, (size_t) (at - value - 1));
  is_there = path != NULL && (strcmp(path, QCOW2_BACKING_NONE) == 0 || strcmp(path, "zero") == 0 ||
                              access(path, F_OK) == 0);
  free(path);
  return is_there;
}

/* "disk.qcow2,errors=zero@first": the snapshot was typed last. */
static int complain_order(const char *path, const char *options, struct qcow2_error *error)
{
  const char *at = strrchr(options, '@');
  size_t size = strlen(path) + strlen(options) + 1;
  char *right = malloc(size), quoted[SHELL_COMMAND_BYTES];

  if (right == NULL)
    return tsk_qcow2_complain_nomem(error);
  snprintf(right, size, "%s%s%.*s", path, at, (int) (at - options), options);
  if (!tsk_qcow2_shell_quote(right, quoted, sizeof(quoted)))
    snprintf(quoted, sizeof(quoted), "IMAGE@SNAPSHOT,OPTION");
  free(right);
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                         "in an image name the snapshot comes before the options: %s", quoted);
}

/* Check what follows the path in a name that was typed for mistakes. */
static int check_typed(const char *path, const char *rest, struct qcow2_error *error)
{
  const char *at = rest;
  int code = 0;

  if (*at == '@')
    free(take_piece(&at));
  while (code == 0 && *at == ',') {
    const char *typed = ++at;
    char *piece = take_piece(&at);

    if (piece == NULL)
      return tsk_qcow2_complain_nomem(error);
    code = check_tilde(piece, typed, (size_t) (at - typed), error);
    if (code == 0 && *at == '\0' && *rest != '@' && ends_in_snapshot(piece))
      code = complain_order(path, rest, error);
    free(piece);
  }
  return code;
}

/* ---- The whole ----------------------------------------------------------- */

static int cannot_examine(const char *path, int os_errno, struct qcow2_error *error)
{
  char quoted[QUOTED_BYTES], reason[128];

  if (strerror_r(os_errno, reason, sizeof(reason)) != 0)
    reason[0] = '\0';
  qcow2_error_set(error, QCOW2_ERROR_IO, "cannot examine the file \"%s\": %s",
                  qcow2_text_escape(path, strlen(path), quoted, sizeof(quoted)), reason);
  error->os_errno = os_errno;
  return QCOW2_ERROR_IO;
}

/* Find out whether a path of `length` bytes leads to a file that is no directory. The path starts
   from `directory` ("": from the working directory). */
static int names_file(const char *directory, const char *text, size_t length, bool *exists,
                      struct qcow2_error *error)
{
  size_t size = strlen(directory) + length + 1;
  char *path = malloc(size);
  struct stat status;
  int code = 0;

  if (path == NULL)
    return tsk_qcow2_complain_nomem(error);
  snprintf(path, size, "%s%.*s", directory, (int) length, text);
  if (stat(path, &status) == 0)
    *exists = !S_ISDIR(status.st_mode);
  else if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG)
    code = cannot_examine(path, errno, error);
  free(path);
  return code;
}

static bool leads_out(const char *path, size_t length)
{
  for (size_t start = 0, end; start < length; start = end + 1) {
    for (end = start; end < length && path[end] != '/';)
      end++;
    if (end - start == 2 && path[start] == '.' && path[start + 1] == '.')
      return true;
  }
  return path[0] == '/';
}

/* The longest prefix that names a file. `directory` NULL: the user typed the text. */
static int find_path_length(const char *directory, const char *text, size_t *length,
                            struct qcow2_error *error)
{
  bool exists = false;

  for (*length = strlen(text); *length > 0; --*length) {
    char next = text[*length];
    int code = 0;

    if (next != '\0' && next != '@' && next != ',')
      continue;
    if (directory == NULL || !leads_out(text, *length))
      code = names_file(directory == NULL ? "" : directory, text, *length, &exists, error);
    if (code != 0 || exists)
      return code;
  }
  return 0;
}

int tsk_qcow2_name_path_length(const char *text, size_t *length, struct qcow2_error *error)
{
  return find_path_length(NULL, text, length, error);
}

int tsk_qcow2_name_path_length_below(const char *directory, const char *text, size_t *length,
                                     struct qcow2_error *error)
{
  return find_path_length(directory, text, length, error);
}

static int no_file(const char *text, struct qcow2_error *error)
{
  char quoted[QUOTED_BYTES];
  struct stat status;

  qcow2_text_escape(text, strlen(text), quoted, sizeof(quoted));
  if (stat(text, &status) == 0)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "\"%s\" is a directory", quoted);
  return qcow2_error_set(
      error, QCOW2_ERROR_IO, "there is no file \"%s\"%s%s", quoted,
      strpbrk(text, "@,") == NULL ? "" : ", nor one of the name before an \"@\" or \",\" in it",
      starts_with(text, "~/")
          ? "; the shell replaces \"~\" by the home directory only outside of quotes"
          : "");
}

int tsk_qcow2_name_parse(const char *text, struct tsk_qcow2_name *name, struct qcow2_error *error)
{
  size_t length = 0;
  int code = tsk_qcow2_name_path_length(text, &length, error);

  memset(name, 0, sizeof(*name));
  if (code != 0)
    return code;
  if (length == 0)
    return no_file(text, error);
  name->path = strndup(text, length);
  code = name->path == NULL ? tsk_qcow2_complain_nomem(error)
                            : check_typed(name->path, text + length, error);
  if (code == 0)
    code = tsk_qcow2_name_parse_rest(text + length, name, error);
  if (code != 0)
    tsk_qcow2_name_free(name);
  return code;
}
