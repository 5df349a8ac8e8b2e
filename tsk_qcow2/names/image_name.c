/* SPDX-License-Identifier: MIT */
#include "image_name.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"
#include "name_options.h"
#include "shell.h"

#define QUOTED_BYTES 256

/* ---- What follows the path ---------------------------------------------- */

/* The residue is of the file, not of one of the states in it. */
static int check_residue(const struct tsk_qcow2_name *name, struct qcow2_error *error)
{
  bool has_selection = name->selection.kind != TSK_QCOW2_SELECT_NOTHING;
  char quoted[SHELL_COMMAND_BYTES], *right;
  size_t size;

  if (!name->residue || (!has_selection && !name->under_zeros))
    return 0;
  size = strlen(name->path) + sizeof(",offset=,residue") + 20;
  right = malloc(size);
  if (right == NULL)
    return tsk_qcow2_complain_nomem(error);
  if (name->offset == 0)
    snprintf(right, size, "%s,residue", name->path);
  else
    snprintf(right, size, "%s,offset=%" PRIu64 ",residue", name->path, name->offset);
  if (name->outer != NULL || !tsk_qcow2_shell_quote(right, quoted, sizeof(quoted)))
    snprintf(quoted, sizeof(quoted), "IMAGE,residue");
  free(right);
  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                         "the residue is of the whole file, with all its snapshots, so %s does not "
                         "go with it: type %s",
                         has_selection ? "\"@\"" : "\"under-zeros\"", quoted);
}

/* Guesses are not what is surely a state's own. */
static int check_by_neighbours(const struct tsk_qcow2_name *name, struct qcow2_error *error)
{
  return name->by_neighbours && name->only_kept
             ? qcow2_error_set(
                   error, QCOW2_ERROR_ARGUMENT,
                   "the option \"by-neighbours\" adds guesses, and \"only=kept\" leaves "
                   "them out: give one of them")
             : 0;
}

/* Parse "[@SNAPSHOT][,OPTION[=VALUE]]...". */
static int parse_part(const char *part, struct tsk_qcow2_name *name, struct qcow2_error *error)
{
  int code = 0;

  if (*part == '@') {
    part++;
    code = tsk_qcow2_selection_parse(&part, &name->selection, error);
  }
  while (code == 0 && *part == ',') {
    char *piece;

    part++;
    piece = tsk_qcow2_piece_take(&part);
    code = piece == NULL ? tsk_qcow2_complain_nomem(error)
                         : tsk_qcow2_name_apply_option(name, piece, error);
    free(piece);
  }
  if (code == 0)
    code = check_residue(name, error);
  return code == 0 ? check_by_neighbours(name, error) : code;
}

/* ---- Typing mistakes ---------------------------------------------- */

/* The shell replaces "~" only at the start of an argument. `option` was typed as `typed`. */
static int check_tilde(const char *option, const char *typed, size_t length,
                       struct qcow2_error *error)
{
  const char *value = strchr(option, '=');
  size_t before = value == NULL ? 0 : (size_t) (value - option) + 2; /* names have no commas */
  char quoted[SHELL_COMMAND_BYTES], *rest;

  if (value == NULL || strncmp(value, "=~/", 3) != 0 || access(value + 1, F_OK) == 0)
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
    return at != NULL && tsk_qcow2_name_is_option(option, (size_t) (at - option));
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
    free(tsk_qcow2_piece_take(&at));
  while (code == 0 && *at == ',') {
    const char *typed = ++at;
    char *piece = tsk_qcow2_piece_take(&at);

    if (piece == NULL)
      return tsk_qcow2_complain_nomem(error);
    code = check_tilde(piece, typed, (size_t) (at - typed), error);
    if (code == 0 && *at == '\0' && *rest != '@' && ends_in_snapshot(piece))
      code = complain_order(path, rest, error);
    free(piece);
  }
  return code;
}

/* ---- Images inside a disk --------------------------------------------------- */

const char *tsk_qcow2_name_inner(const char *rest)
{
  const char *at = strstr(rest, "//");

  while (at != NULL && at > rest && at[-1] == '=')
    at = strstr(at + 2, "//");
  return at;
}

/* The length of "//START/PATH" at the start of a text: to a '@', to a single ',', or to the next
   "//". */
static size_t inner_path_length(const char *text)
{
  size_t length = 2;

  while (text[length] != '\0' && text[length] != '@' && strncmp(text + length, "//", 2) != 0) {
    if (text[length] == ',' && text[length + 1] != ',')
      break;
    length += text[length] == ',' ? 2 : 1;
  }
  return length;
}

static int check_start(const char *path, struct qcow2_error *error)
{
  size_t digits = strspn(path + 2, "0123456789");
  char quoted[QUOTED_BYTES];

  if (digits > 0 && digits <= 15 && path[2 + digits] == '/' && path[3 + digits] != '\0')
    return 0;
  return qcow2_error_set(
      error, QCOW2_ERROR_ARGUMENT,
      "\"%s\" does not name an image inside a disk: that is //START/PATH, where START is the first "
      "sector of the partition as mmls prints it (0: no partitions). In other paths after the "
      "first, "
      "write single slashes",
      qcow2_text_escape(path, strlen(path), quoted, sizeof(quoted)));
}

/* Make `name`, which is whole, the outer disk of an image at *rest, which is advanced past its
   path. Then `name` is the one of that image. */
static int go_inside(const char **rest, struct tsk_qcow2_name *name, struct qcow2_error *error)
{
  struct tsk_qcow2_name *outer = malloc(sizeof(*outer));
  size_t length = inner_path_length(*rest);
  char *text = strndup(*rest, length);
  const char *at = text;

  *rest += length;
  if (outer == NULL || text == NULL) {
    free(outer);
    free(text);
    return tsk_qcow2_complain_nomem(error);
  }
  *outer = *name;
  outer->last_format = NULL;
  *name = (struct tsk_qcow2_name){ .outer = outer, .path = tsk_qcow2_piece_take(&at) };
  free(text);
  return name->path == NULL ? tsk_qcow2_complain_nomem(error) : check_start(name->path, error);
}

/* Parse what follows the IMAGE part at `rest`. `typed` NULL: it is not checked for typing mistakes;
   else it is the whole name. */
static int parse_parts(const char *typed, const char *rest, struct tsk_qcow2_name *name,
                       struct qcow2_error *error)
{
  for (size_t depth = 0;; depth++) {
    const char *inner = tsk_qcow2_name_inner(rest);
    size_t length = inner == NULL ? strlen(rest) : (size_t) (inner - rest);
    char *part = strndup(rest, length);
    char *before = typed == NULL ? NULL : strndup(typed, (size_t) (rest - typed));
    int code = part == NULL || (typed != NULL && before == NULL) ? tsk_qcow2_complain_nomem(error)
                                                                 : 0;

    if (code == 0 && typed != NULL)
      code = check_typed(before, part, error);
    if (code == 0)
      code = parse_part(part, name, error);
    free(part);
    free(before);
    if (code != 0 || inner == NULL)
      return code;
    if (depth == TSK_QCOW2_NESTED_MAX)
      return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                             "the image lies inside more than %u disks, one in the other; extract "
                             "the outer ones first, with icat",
                             TSK_QCOW2_NESTED_MAX);
    rest = inner;
    code = go_inside(&rest, name, error);
    if (code != 0)
      return code;
  }
}

int tsk_qcow2_name_parse_rest(const char *rest, struct tsk_qcow2_name *name,
                              struct qcow2_error *error)
{
  return parse_parts(NULL, rest, name, error);
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

    if (next != '\0' && next != '@' && next != ',' && strncmp(text + *length, "//", 2) != 0)
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
      strncmp(text, "~/", 2) == 0
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
                            : parse_parts(text, text + length, name, error);
  if (code != 0)
    tsk_qcow2_name_free(name);
  return code;
}
