/* SPDX-License-Identifier: MIT */
/*
 * A selector file, among traps. It is parsed, and written again; and an image is opened by it as by
 * any name. No selector here is trusted, so every file that is opened must be below its directory.
 */
#include "../../tsk_qcow2/names/selector.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../tsk_qcow2/qcow2names.h"
#include "traps.h"

/* ---- The text ----------------------------------------------------------------- */

static void check_again(const struct tsk_qcow2_selector *selector)
{
  struct tsk_qcow2_selector again;
  struct qcow2_error error = fuzz_error_fresh();
  char *text = tsk_qcow2_selector_format(selector);

  FUZZ_CHECK(text != NULL);
  FUZZ_CHECK(tsk_qcow2_selector_parse(text, strlen(text), &again, &error) == 0);
  FUZZ_CHECK(strcmp(again.name, selector->name) == 0 && again.has_mac == selector->has_mac);
  FUZZ_CHECK(memcmp(again.mac, selector->mac, sizeof(again.mac)) == 0);
  tsk_qcow2_selector_free(&again);
  free(text);
}

static void check_text(const uint8_t *data, size_t size)
{
  struct qcow2_error error = fuzz_error_fresh();
  struct tsk_qcow2_selector selector;
  int code = tsk_qcow2_selector_parse(data, size, &selector, &error);

  fuzz_check_result(code, &error);
  if (code != 0)
    return;
  FUZZ_CHECK(tsk_qcow2_selector_starts(data, size));
  FUZZ_CHECK(memchr(data, '\0', size) == NULL && selector.name[0] != '\0' &&
             strpbrk(selector.name, "\r\n") == NULL);
  check_again(&selector);
  tsk_qcow2_selector_free(&selector);
}

/* ---- Following it -------------------------------------------------------------- */

/* Check which file was opened, by its path. */
static void check_path(const char *path)
{
  struct stat status;

  FUZZ_CHECK(path == NULL || (stat(path, &status) == 0 && fuzz_trap_allows(&status, false)));
}

static void check_disk(const struct qcow2_disk *disk)
{
  const struct qcow2_image *image = qcow2_disk_image(disk);
  struct qcow2_layer_info info;
  char *text;
  size_t length;
  FILE *out = open_memstream(&text, &length);

  for (size_t i = 0; i < qcow2_layer_count(image); i++) {
    FUZZ_CHECK(qcow2_layer_get(image, i, &info, NULL) == 0);
    check_path(info.path);
    check_path(info.data_path);
  }
  FUZZ_CHECK(out != NULL);
  qcow2_disk_print(disk, out);
  fclose(out);
  free(text);
}

static void write_selector(const char *path, const uint8_t *data, size_t size)
{
  int descriptor = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

  FUZZ_CHECK(descriptor >= 0 && (size == 0 || write(descriptor, data, size) == (ssize_t) size));
  close(descriptor);
}

void fuzz_selector(const uint8_t *data, size_t size)
{
  struct qcow2_error error = fuzz_error_fresh();
  char path[TRAP_PATH_BYTES], state[TRAP_PATH_BYTES], directory[TRAP_PATH_BYTES];
  const char *name = fuzz_trap_path("images/selector", path);
  struct qcow2_disk *disk = NULL;
  int code, here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

  setenv("XDG_STATE_HOME", fuzz_trap_path("search", state), 1); /* this user has no key */
  check_text(data, size);
  write_selector(path, data, size);
  FUZZ_CHECK(here >= 0 && chdir(fuzz_trap_path("images", directory)) ==
                              0); /* if its paths were the user's, they would lead out */
  code = qcow2_disk_open(1, &name, NULL, &disk, &error);
  FUZZ_CHECK(fchdir(here) == 0);
  close(here);
  fuzz_check_result(code, &error);
  if (code == 0)
    check_disk(disk);
  qcow2_disk_close(disk);
}
