/* SPDX-License-Identifier: MIT */
/* A selector file. One that is understood is written down again, and must be understood the same. */
#include <stdlib.h>
#include <string.h>

#include "../../tsk_qcow2/selector.h"
#include "fuzz.h"

static void check_again(const struct tsk_qcow2_selector *selector)
{
  struct tsk_qcow2_selector again;
  struct qcow2_error error;
  char *text = tsk_qcow2_selector_format(selector);

  FUZZ_CHECK(text != NULL);
  FUZZ_CHECK(tsk_qcow2_selector_parse(text, strlen(text), &again, &error) == 0);
  FUZZ_CHECK(strcmp(again.name, selector->name) == 0 && again.has_mac == selector->has_mac);
  FUZZ_CHECK(memcmp(again.mac, selector->mac, sizeof(again.mac)) == 0);
  tsk_qcow2_selector_free(&again);
  free(text);
}

void fuzz_selector(const uint8_t *data, size_t size)
{
  struct qcow2_error error = fuzz_error_fresh();
  struct tsk_qcow2_selector selector;
  int code = tsk_qcow2_selector_parse(data, size, &selector, &error);

  fuzz_check_result(code, &error);
  if (code != 0)
    return;
  FUZZ_CHECK(tsk_qcow2_selector_starts(data, size));
  FUZZ_CHECK(selector.name[0] != '\0' && strpbrk(selector.name, "\r\n") == NULL && strlen(selector.name) < size);
  check_again(&selector);
  tsk_qcow2_selector_free(&selector);
}
