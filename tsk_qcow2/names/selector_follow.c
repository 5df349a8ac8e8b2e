/* SPDX-License-Identifier: MIT */
#include "selector_follow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "advice.h"
#include "complain.h"
#include "name_compose.h"
#include "selector.h"
#include "selector_mac.h"
#include "shell.h"

#define QUOTED_BYTES 256

/* ---- Recognising ---------------------------------------------------------------- */

/* Look at the first bytes. Returns 0 or an errno value. */
static int storage_starts_selector(const struct qcow2_storage *storage, bool *is_selector)
{
  char start[TSK_QCOW2_SELECTOR_START_BYTES];
  int os_errno = 0;

  *is_selector = false;
  if (storage->size >= sizeof(start))
    os_errno = storage->read(storage->context, 0, start, sizeof(start));
  if (storage->size >= sizeof(start) && os_errno == 0)
    *is_selector = tsk_qcow2_selector_starts(start, sizeof(start));
  return os_errno;
}

int tsk_qcow2_is_selector(const char *path, struct qcow2_error *error)
{
  struct qcow2_referrer *referrer;
  char quoted[QUOTED_BYTES];
  bool is_selector;
  int os_errno, code = qcow2_referrer_open(path, &referrer, error);

  if (code != 0)
    return code == QCOW2_ERROR_IO || code == QCOW2_ERROR_NOMEM ? code : 0;
  os_errno = storage_starts_selector(qcow2_referrer_storage(referrer), &is_selector);
  qcow2_referrer_close(referrer);
  if (os_errno == 0)
    return is_selector;
  qcow2_error_set(error, QCOW2_ERROR_IO, "cannot read the start of the file \"%s\"",
                  qcow2_text_escape(path, strlen(path), quoted, sizeof(quoted)));
  error->os_errno = os_errno;
  return QCOW2_ERROR_IO;
}

/* ---- Reading -------------------------------------------------------------------- */

static int complain_file(struct qcow2_error *error, int code, const char *path, const char *problem)
{
  char quoted[QUOTED_BYTES];

  return qcow2_error_set(error, code, "the selector file \"%s\" %s",
                         qcow2_text_escape(path, strlen(path), quoted, sizeof(quoted)), problem);
}

static int parse_bytes(const char *path, const struct qcow2_storage *storage, char *bytes,
                       struct tsk_qcow2_selector *selector, struct qcow2_error *error)
{
  struct qcow2_error problem;
  int os_errno, code;

  os_errno = storage->size == 0 ? 0
                                : storage->read(storage->context, 0, bytes, (size_t) storage->size);
  if (os_errno != 0) {
    code = complain_file(error, QCOW2_ERROR_IO, path, "cannot be read");
    error->os_errno = os_errno;
    return code;
  }
  code = tsk_qcow2_selector_parse(bytes, (size_t) storage->size, selector, &problem);
  return code == 0 ? 0 : complain_file(error, code, path, problem.message);
}

static int read_selector(const char *path, const struct qcow2_referrer *referrer,
                         struct tsk_qcow2_selector *selector, struct qcow2_error *error)
{
  const struct qcow2_storage *storage = qcow2_referrer_storage(referrer);
  char *bytes;
  int code;

  if (storage->size > TSK_QCOW2_SELECTOR_BYTES_MAX)
    return complain_file(error, QCOW2_ERROR_ARGUMENT, path,
                         "is larger than 64 KiB, which no selector is");
  bytes = malloc((size_t) storage->size + 1);
  if (bytes == NULL)
    return tsk_qcow2_complain_nomem(error);
  code = parse_bytes(path, storage, bytes, selector, error);
  free(bytes);
  return code;
}

/* ---- Is it trusted? --------------------------------------------------------------- */

/* The real directory of the selector, with a "/" at its end. NULL: no memory; the caller frees. */
static char *real_directory(const struct qcow2_referrer *referrer)
{
  const char *path = qcow2_referrer_path(referrer);

  return strndup(path, (size_t) (strrchr(path, '/') - path) + 1);
}

/* Return 0 if this user wrote the selector for this directory, or else an error that says why this
   is not certain. */
static int authenticate(const struct tsk_qcow2_selector *selector, const char *directory,
                        struct qcow2_error *error)
{
  char *text;
  int code;

  if (!selector->has_mac)
    return qcow2_error_set(error, QCOW2_ERROR_DENIED, "it has no authentication code");
  text = tsk_qcow2_selector_signed_text(selector->name, directory);
  if (text == NULL)
    return tsk_qcow2_complain_nomem(error);
  code = tsk_qcow2_mac_verify(text, selector->mac, error);
  free(text);
  return code;
}

/* The length of an IMAGE part that names no file in the directory. */
static size_t guess_path_length(const char *text)
{
  const char *inner = tsk_qcow2_name_inner(text);
  size_t length = strcspn(text, "@,");

  if (inner != NULL && inner > text && (size_t) (inner - text) < length)
    length = (size_t) (inner - text);
  return length == 0 ? strlen(text) : length;
}

/* Parse a name whose paths start from the directory, and stay below it. */
static int parse_below(const char *text, const char *directory, struct tsk_qcow2_name *name,
                       struct qcow2_error *error)
{
  size_t length = 0;
  int code = tsk_qcow2_name_path_length_below(directory, text, &length, error);

  if (code != 0)
    return code;
  if (length == 0) /* a path outside is refused later */
    length = guess_path_length(text);
  name->path = strndup(text, length);
  return name->path == NULL ? tsk_qcow2_complain_nomem(error)
                            : tsk_qcow2_name_parse_rest(text + length, name, error);
}

/* The image in a selector that the user wrote may be gone. */
static int explain_stale(const char *path, int code, struct qcow2_error *error)
{
  const struct qcow2_error failure = *error;
  char problem[sizeof(failure.message) + 128];

  if (code != QCOW2_ERROR_IO)
    return code;
  snprintf(problem, sizeof(problem), "is stale: %s. To write a new one: tsk-qcow2 selector IMAGE",
           failure.message);
  complain_file(error, code, path, problem);
  error->os_errno = failure.os_errno;
  return code;
}

static int parse_name(const struct tsk_qcow2_selector *selector, struct qcow2_referrer *referrer,
                      struct tsk_qcow2_followed *followed, struct qcow2_error *error)
{
  char *directory = real_directory(referrer);
  int code;

  if (directory == NULL)
    return tsk_qcow2_complain_nomem(error);
  if (authenticate(selector, directory, &followed->distrust) == 0)
    code = explain_stale(followed->selector,
                         tsk_qcow2_name_parse(selector->name, &followed->name, error), error);
  else {
    followed->referrer = referrer;
    code = parse_below(selector->name, directory, &followed->name, error);
  }
  free(directory);
  return code;
}

int tsk_qcow2_selector_follow(const char *path, struct tsk_qcow2_followed *followed,
                              struct qcow2_error *error)
{
  struct tsk_qcow2_selector selector;
  struct qcow2_referrer *referrer;
  int code;

  memset(followed, 0, sizeof(*followed));
  followed->selector = strdup(path);
  if (followed->selector == NULL)
    return tsk_qcow2_complain_nomem(error);
  code = qcow2_referrer_open(path, &referrer, error);
  if (code != 0)
    return code;
  code = read_selector(path, referrer, &selector, error);
  if (code == 0) {
    code = parse_name(&selector, referrer, followed, error);
    tsk_qcow2_selector_free(&selector);
  }
  if (followed->referrer == NULL)
    qcow2_referrer_close(referrer);
  return code;
}

void tsk_qcow2_followed_free(struct tsk_qcow2_followed *followed)
{
  qcow2_referrer_close(followed->referrer);
  free(followed->selector);
  tsk_qcow2_name_free(&followed->name);
  memset(followed, 0, sizeof(*followed));
}

/* ---- Explaining ----------------------------------------------------------------------- */

/* tsk_qcow2_map_path: from the selector's directory on. */
static char *path_from(void *directory, const char *path)
{
  const char *start = path[0] == '/' ? "" : directory;
  size_t size = strlen(start) + strlen(path) + 1;
  char *whole = malloc(size);

  if (whole != NULL)
    snprintf(whole, size, "%s%s", start, path);
  return whole;
}

/* The command that writes a selector for the same name, in `command`. */
static void compose_command(const struct tsk_qcow2_followed *followed,
                            char command[SHELL_COMMAND_BYTES])
{
  char *directory = followed->referrer == NULL ? strdup("") : real_directory(followed->referrer);
  char *name = directory == NULL ? NULL
                                 : tsk_qcow2_name_compose(&followed->name, path_from, directory);

  tsk_qcow2_shell_command("selector", name, command);
  free(name);
  free(directory);
}

/* The selector names a file that it may not lead to. The user may. */
static void explain_referrer(const struct tsk_qcow2_followed *followed, struct qcow2_error *error)
{
  char command[SHELL_COMMAND_BYTES], sentence[SHELL_COMMAND_BYTES + 420];

  compose_command(followed, command);
  snprintf(sentence, sizeof(sentence),
           "The selector may not lead there, because %.280s. If you trust it, this writes one that "
           "may, into the working directory: %s",
           followed->distrust.message, command);
  tsk_qcow2_complain_more(error, sentence);
}

/* The name of the image without what is chosen in it. NULL: it has none, or no memory. */
static char *image_text(const struct tsk_qcow2_name *name)
{
  const struct tsk_qcow2_name image = { .outer = name->outer, .path = name->path };

  return name->path == NULL ? NULL
                            : tsk_qcow2_name_compose(&image, path_from, (void *) (uintptr_t) "");
}

/* Say what to type. If the user must add something to the image name, the name may be in the
   selector. */
static void advise(const struct tsk_qcow2_followed *followed, struct qcow2_error *error)
{
  char advice[ADVICE_BYTES], command[SHELL_COMMAND_BYTES], sentence[sizeof(advice) + 500];
  char *image = followed->referrer == NULL ? image_text(&followed->name) : NULL;

  tsk_qcow2_advice(error, &followed->name, image, advice);
  free(image);
  if (advice[0] == '\0')
    return;
  if (followed->selector == NULL || !tsk_qcow2_advice_adds(error)) {
    tsk_qcow2_complain_more(error, advice);
    return;
  }
  compose_command(followed, command);
  snprintf(sentence, sizeof(sentence),
           "%s. The image name is in the selector; this writes one to which more can be added: %s",
           advice, command);
  tsk_qcow2_complain_more(error, sentence);
}

/* True if the file that the selector names is a selector too. */
static bool names_selector(const struct tsk_qcow2_followed *followed)
{
  struct qcow2_storage storage;
  struct qcow2_error unwanted;
  bool is_selector;

  if (followed->name.outer != NULL)
    return false;
  if (followed->referrer == NULL)
    return tsk_qcow2_is_selector(followed->name.path, &unwanted) > 0;
  if (qcow2_referrer_follow(followed->referrer, followed->name.path, "image", &storage, NULL) != 0)
    return false;
  storage_starts_selector(&storage, &is_selector);
  storage.close(storage.context);
  return is_selector;
}

int tsk_qcow2_followed_explain(const struct tsk_qcow2_followed *followed, int code,
                               struct qcow2_error *error)
{
  if (code == QCOW2_ERROR_NOT_QCOW2 && followed->selector != NULL)
    return complain_file(error, QCOW2_ERROR_ARGUMENT, followed->selector,
                         names_selector(followed)
                             ? "names another selector file, which is not followed"
                             : "names a file that is not a qcow2 image");
  if (error->help == QCOW2_HELP_REFERRER && followed->referrer != NULL)
    explain_referrer(followed, error);
  else
    advise(followed, error);
  return code;
}
