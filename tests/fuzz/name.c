/* SPDX-License-Identifier: MIT */
/* What follows the path in an image name. A name that is understood is written down again, and must be understood the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../tsk_qcow2/image_name.h"
#include "fuzz.h"

/* ---- Writing a name ------------------------------------------------------ */

/* A text that grows. */
struct text {
  char *bytes;
  size_t length, room;
};

static void text_add(struct text *text, const char *more, bool double_commas)
{
  for (; *more != '\0'; more++) {
    FUZZ_CHECK(text->length + 3 < text->room);
    text->bytes[text->length++] = *more;
    if (*more == ',' && double_commas)
      text->bytes[text->length++] = ',';
  }
  text->bytes[text->length] = '\0';
}

static void add_option(struct text *text, const char *start, const char *value)
{
  text_add(text, start, false);
  text_add(text, value, true);
}

static void add_options(struct text *text, const char *start, const struct tsk_qcow2_strings *values)
{
  for (size_t i = 0; i < values->count; i++)
    add_option(text, start, values->items[i]);
}

static void write_name(const struct tsk_qcow2_name *name, struct text *text)
{
  text_add(text, "", false);
  if (name->has_snapshot)
    add_option(text, name->snapshot_is_index                ? "@index="
                     : name->snapshot_key == QCOW2_BY_ID   ? "@id="
                     : name->snapshot_key == QCOW2_BY_NAME ? "@name="
                                                           : "@",
               name->snapshot);
  if (name->vm_state)
    text_add(text, ",vmstate", false);
  if (name->errors_zero)
    text_add(text, ",errors=zero", false);
  if (name->data_file != NULL)
    add_option(text, ",data-file=", name->data_file);
  add_options(text, ",backing=", &name->backing);
  add_options(text, ",search=", &name->search);
  add_options(text, ",key-file=", &name->key_files);
}

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

static void check_again(const struct tsk_qcow2_name *name, size_t length)
{
  struct text text = { .room = 2 * length + 256 };
  struct tsk_qcow2_name again = { .path = NULL };
  struct qcow2_error error;

  text.bytes = malloc(text.room);
  FUZZ_CHECK(text.bytes != NULL);
  write_name(name, &text);
  FUZZ_CHECK(tsk_qcow2_name_parse_rest(text.bytes, &again, &error) == 0);
  check_same(name, &again);
  tsk_qcow2_name_free(&again);
  free(text.bytes);
}

void fuzz_name(const uint8_t *data, size_t size)
{
  struct tsk_qcow2_name name = { .path = NULL };
  struct qcow2_error error = fuzz_error_fresh();
  char *rest = malloc(size + 1);
  int code;

  FUZZ_CHECK(rest != NULL);
  if (size > 0)
    memcpy(rest, data, size);
  rest[size] = '\0';
  fuzz_check_escape(rest, size);
  code = tsk_qcow2_name_parse_rest(rest, &name, &error);
  fuzz_check_result(code, &error);
  if (code == 0)
    check_again(&name, size);
  tsk_qcow2_name_free(&name);
  free(rest);
}
