/* SPDX-License-Identifier: MIT */
/*
 * What follows the path in an image name. A name that is understood is written down again, and must
 * be understood the same; and so must one that is made of the input.
 */
#include <stdlib.h>
#include <string.h>

#include "../../tsk_qcow2/names/name_compose.h"
#include "fuzz.h"

static const char *const BACKING_FORMATS[] = { NULL, "raw", "qcow2", "vmdk" };

/* ---- Comparing ----------------------------------------------------------- */

static void check_strings(const struct tsk_qcow2_strings *a, const struct tsk_qcow2_strings *b)
{
  FUZZ_CHECK(a->count == b->count);
  for (size_t i = 0; i < a->count; i++) {
    FUZZ_CHECK(a->items[i][0] != '\0');
    FUZZ_CHECK(strcmp(a->items[i], b->items[i]) == 0);
  }
}

static void check_format(const char *a, const char *b)
{
  FUZZ_CHECK((a == NULL) == (b == NULL));
  FUZZ_CHECK(a == NULL || strcmp(a, b) == 0);
}

static void check_same(const struct tsk_qcow2_name *a, const struct tsk_qcow2_name *b)
{
  FUZZ_CHECK(a->selection.kind == b->selection.kind);
  FUZZ_CHECK((a->selection.text == NULL) == (b->selection.text == NULL));
  FUZZ_CHECK(a->selection.text == NULL || strcmp(a->selection.text, b->selection.text) == 0);
  FUZZ_CHECK(a->vm_state == b->vm_state && a->errors_zero == b->errors_zero);
  FUZZ_CHECK((a->data_file == NULL) == (b->data_file == NULL));
  FUZZ_CHECK(a->data_file == NULL || strcmp(a->data_file, b->data_file) == 0);
  check_format(a->data_format, b->data_format);
  check_strings(&a->backing, &b->backing);
  FUZZ_CHECK(a->backing_formats.count == a->backing.count &&
             b->backing_formats.count == b->backing.count);
  for (size_t i = 0; i < a->backing.count; i++)
    check_format(a->backing_formats.items[i], b->backing_formats.items[i]);
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

/* Take the text up to a NUL or the input's end, as an allocated string. */
static char *take_text(struct fuzz_input *input)
{
  size_t length = input->length == 0 ? 0 : strnlen((const char *) input->bytes, input->length);
  char *text = length == 0 ? strdup("x") : strndup((const char *) input->bytes, length);

  FUZZ_CHECK(text != NULL);
  fuzz_take(input, 1);
  for (; length > 0; length--)
    fuzz_take(input, 1);
  return text;
}

static void take_strings(struct fuzz_input *input, struct tsk_qcow2_strings *strings)
{
  for (uint64_t count = fuzz_take(input, 1) % 3; count > 0; count--) {
    char *text = take_text(input);

    FUZZ_CHECK(tsk_qcow2_strings_add(strings, text, strlen(text), NULL) == 0);
    free(text);
  }
}

/* Backing files, some with a format. */
static void take_backing(struct fuzz_input *input, struct tsk_qcow2_name *name)
{
  for (uint64_t count = fuzz_take(input, 1) % 3; count > 0; count--) {
    char *text = take_text(input);
    const char *format =
        BACKING_FORMATS[strcmp(text, QCOW2_BACKING_NONE) == 0 ? 0 : fuzz_take(input, 1) % 4];

    FUZZ_CHECK(tsk_qcow2_name_add_backing(name, text, NULL) == 0);
    if (format != NULL)
      FUZZ_CHECK((name->backing_formats.items[name->backing.count - 1] = strdup(format)) != NULL);
    free(text);
  }
}

/* Any name, written, must be understood as it was meant. */
static void check_any_name(struct fuzz_input input)
{
  static const enum tsk_qcow2_selection_kind KINDS[] = { TSK_QCOW2_SELECT_NAME, TSK_QCOW2_SELECT_ID,
                                                         TSK_QCOW2_SELECT_INDEX,
                                                         TSK_QCOW2_SELECT_INDEX };
  struct tsk_qcow2_name name = { .path = strdup("image") };
  unsigned flags = (unsigned) fuzz_take(&input, 1);

  FUZZ_CHECK(name.path != NULL);
  name.selection.text = take_text(&input);
  name.selection.kind = KINDS[flags & 3];
  name.vm_state = (flags & 4) != 0;
  name.errors_zero = (flags & 8) != 0;
  if ((flags & 16) != 0)
    name.data_file = take_text(&input);
  if ((flags & 48) == 48)
    name.data_format = strdup("ewf");
  take_backing(&input, &name);
  take_strings(&input, &name.search);
  take_strings(&input, &name.key_files);
  check_again(&name);
  tsk_qcow2_name_free(&name);
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
  check_any_name((struct fuzz_input){ data, size });
  code = tsk_qcow2_name_parse_rest(rest, &name, &error);
  fuzz_check_result(code, &error);
  if (code == 0)
    check_again(&name);
  tsk_qcow2_name_free(&name);
  free(rest);
}
