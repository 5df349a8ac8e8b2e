/* SPDX-License-Identifier: MIT */
/* What follows the path in an image name. A name that is understood is written down again, and must be understood the same. */
#include <stdlib.h>
#include <string.h>

#include "../../tsk_qcow2/name_compose.h"
#include "fuzz.h"

/* ---- Comparing ----------------------------------------------------------- */

static void check_strings(const struct tsk_qcow2_strings *a, const struct tsk_qcow2_strings *b)
{
  FUZZ_CHECK(a->count == b->count);
  for (size_t i = 0; i < a->count; i++) {
    FUZZ_CHECK(a->items[i][0] != '\0');
    FUZZ_CHECK(strcmp(a->items[i], b->items[i]) == 0);
  }
}

static void check_same(const struct tsk_qcow2_name *a, const struct tsk_qcow2_name *b)
{
  FUZZ_CHECK(a->has_snapshot == b->has_snapshot && a->snapshot_key == b->snapshot_key);
  FUZZ_CHECK(a->snapshot_is_index == b->snapshot_is_index);
  FUZZ_CHECK(!a->has_snapshot || strcmp(a->snapshot, b->snapshot) == 0);
  FUZZ_CHECK(a->vm_state == b->vm_state && a->errors_zero == b->errors_zero);
  FUZZ_CHECK((a->data_file == NULL) == (b->data_file == NULL));
  FUZZ_CHECK(a->data_file == NULL || strcmp(a->data_file, b->data_file) == 0);
  check_strings(&a->backing, &b->backing);
  check_strings(&a->search, &b->search);
  check_strings(&a->key_files, &b->key_files);
}

static char *same_path(void *context, const char *path)
{
  (void) context;
  return strdup(path);
}

static void check_again(const struct tsk_qcow2_name *name)
{
  char *text = tsk_qcow2_name_compose(name, same_path, NULL);
  struct tsk_qcow2_name again = { .path = NULL };
  struct qcow2_error error;

  FUZZ_CHECK(text != NULL && strncmp(text, name->path, strlen(name->path)) == 0);
  FUZZ_CHECK(tsk_qcow2_name_parse_rest(text + strlen(name->path), &again, &error) == 0);
  check_same(name, &again);
  tsk_qcow2_name_free(&again);
  free(text);
}

void fuzz_name(const uint8_t *data, size_t size)
{
  struct tsk_qcow2_name name = { .path = strdup("image") };
  struct qcow2_error error = fuzz_error_fresh();
  char *rest = malloc(size + 1);
  int code;

  FUZZ_CHECK(rest != NULL && name.path != NULL);
  if (size > 0)
    memcpy(rest, data, size);
  rest[size] = '\0';
  fuzz_check_escape(rest, size);
  code = tsk_qcow2_name_parse_rest(rest, &name, &error);
  fuzz_check_result(code, &error);
  if (code == 0)
    check_again(&name);
  tsk_qcow2_name_free(&name);
  free(rest);
}
