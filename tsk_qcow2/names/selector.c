/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* asprintf */
#endif
#include "selector.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"

#define START "TSK-QCOW2-SELECTOR "
#define VERSION "1"
#define MAC_START "MAC "
#define QUOTED_BYTES 128

_Static_assert(sizeof(START) - 1 == TSK_QCOW2_SELECTOR_START_BYTES, "the start of a selector");

bool tsk_qcow2_selector_starts(const void *bytes, size_t length)
{
  return length >= strlen(START) && memcmp(bytes, START, strlen(START)) == 0;
}

/* ---- Parsing ---------------------------------------------------------------- */

struct line {
  const char *text;
  size_t length;
};

/* Take the next line, without the LF or CR LF at its end. */
static struct line take_line(const char **rest, const char *end)
{
  struct line line = { *rest, (size_t) (end - *rest) };
  const char *newline = line.length == 0 ? NULL : memchr(*rest, '\n', line.length);

  *rest = newline == NULL ? end : newline + 1;
  if (newline != NULL)
    line.length = (size_t) (newline - line.text);
  if (line.length > 0 && line.text[line.length - 1] == '\r')
    line.length--;
  return line;
}

static bool line_is(struct line line, const char *text)
{
  return line.length == strlen(text) && memcmp(line.text, text, line.length) == 0;
}

static int check_version(struct line line, struct qcow2_error *error)
{
  char quoted[QUOTED_BYTES];

  if (line_is(line, START VERSION))
    return 0;
  return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                         "is of version \"%s\", and only version " VERSION " can be read here",
                         qcow2_text_escape(line.text + strlen(START), line.length - strlen(START),
                                           quoted, sizeof(quoted)));
}

static int digit_value(char digit)
{
  static const char DIGITS[] = "0123456789abcdef";
  const char *at = digit == '\0' ? NULL : strchr(DIGITS, digit);

  return at == NULL ? -1 : (int) (at - DIGITS);
}

/* True if the line has a MAC, which is put into the selector. */
static bool take_mac(struct line line, struct tsk_qcow2_selector *selector)
{
  const char *digits = line.text + strlen(MAC_START);

  if (line.length != strlen(MAC_START) + 2 * sizeof(selector->mac) ||
      memcmp(line.text, MAC_START, strlen(MAC_START)) != 0)
    return false;
  for (size_t i = 0; i < sizeof(selector->mac); i++) {
    int high = digit_value(digits[2 * i]), low = digit_value(digits[2 * i + 1]);

    if (high < 0 || low < 0)
      return false;
    selector->mac[i] = (uint8_t) (high << 4 | low);
  }
  selector->has_mac = true;
  return true;
}

static bool is_blank(struct line line)
{
  while (line.length > 0 &&
         (line.text[line.length - 1] == ' ' || line.text[line.length - 1] == '\t'))
    line.length--;
  return line.length == 0;
}

/* What follows the image name: at most a MAC, and blank lines. */
static int parse_rest(const char *rest, const char *end, struct tsk_qcow2_selector *selector,
                      struct qcow2_error *error)
{
  for (int number = 3; rest < end; number++) {
    struct line line = take_line(&rest, end);

    if (!is_blank(line) && !(number == 3 && take_mac(line, selector)))
      return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                             "has something in line %d, where nothing or a MAC should be", number);
  }
  return 0;
}

int tsk_qcow2_selector_parse(const void *bytes, size_t length, struct tsk_qcow2_selector *selector,
                             struct qcow2_error *error)
{
  const char *rest = bytes, *end = rest + length;
  struct line name;
  int code;

  memset(selector, 0, sizeof(*selector));
  if (!tsk_qcow2_selector_starts(bytes, length))
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "does not start with \"" START VERSION "\"");
  code = check_version(take_line(&rest, end), error);
  if (code != 0)
    return code;
  name = take_line(&rest, end);
  if (is_blank(name))
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "has no image name in its second line");
  if (memchr(bytes, '\0', length) != NULL || memchr(name.text, '\r', name.length) != NULL)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT,
                           "is not a text: it has a NUL byte, or a CR inside a line");
  code = parse_rest(rest, end, selector, error);
  if (code != 0)
    return code;
  selector->name = strndup(name.text, name.length);
  return selector->name == NULL ? tsk_qcow2_complain_nomem(error) : 0;
}

void tsk_qcow2_selector_free(struct tsk_qcow2_selector *selector)
{
  free(selector->name);
  memset(selector, 0, sizeof(*selector));
}

/* ---- Writing ---------------------------------------------------------------- */

char *tsk_qcow2_selector_format(const struct tsk_qcow2_selector *selector)
{
  char mac_line[sizeof(MAC_START) + 2 * TSK_QCOW2_MAC_BYTES + 1] = "", *text;
  size_t at = strlen(MAC_START);

  if (selector->has_mac) {
    memcpy(mac_line, MAC_START, at);
    for (size_t i = 0; i < sizeof(selector->mac); i++, at += 2)
      snprintf(mac_line + at, 3, "%02x", selector->mac[i]);
    mac_line[at] = '\n';
  }
  return asprintf(&text, START VERSION "\n%s\n%s", selector->name, mac_line) < 0 ? NULL : text;
}

char *tsk_qcow2_selector_signed_text(const char *name, const char *directory)
{
  char *text;

  return asprintf(&text, START VERSION "\n%s\n%s", name, directory) < 0 ? NULL : text;
}
