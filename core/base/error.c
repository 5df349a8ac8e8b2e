/* SPDX-License-Identifier: MIT */
#define QCOW2_ERROR_DEFINITIONS
#include "error.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

/* Where a message was cut to fit, drop the part of a UTF-8 character that may be left at its
   end. */
static void trim_character(char *message, size_t size)
{
  size_t length = strlen(message), start = length;

  if (length + 1 < size)
    return;
  while (start > 0 && ((unsigned char) message[start - 1] & 0xC0) == 0x80)
    start--;
  if (start > 0 && (unsigned char) message[start - 1] >= 0xC0)
    message[start - 1] = '\0';
}

static void error_fill(struct qcow2_error *error, int code, uint64_t guest_offset,
                       uint64_t host_offset, const char *format, va_list arguments)
    __attribute__((format(ERROR_PRINTF, 5, 0)));

static void error_fill(struct qcow2_error *error, int code, uint64_t guest_offset,
                       uint64_t host_offset, const char *format, va_list arguments)
{
  error->code = code;
  error->os_errno = 0;
  error->help = QCOW2_HELP_NONE;
  error->help_options = 0;
  error->guest_offset = guest_offset;
  error->guest_length = 0;
  error->host_offset = host_offset;
  error->table_offset = QCOW2_NO_OFFSET;
  error->help_format = NULL;
  memset(error->reserved, 0, sizeof(error->reserved));
  vsnprintf(error->message, sizeof(error->message), format, arguments);
  trim_character(error->message, sizeof(error->message));
}

static void error_append(struct qcow2_error *error, const char *text)
{
  size_t used = strlen(error->message);
  snprintf(error->message + used, sizeof(error->message) - used, "%s", text);
  trim_character(error->message, sizeof(error->message));
}

int qcow2_error_set(struct qcow2_error *error, int code, const char *format, ...)
{
  va_list arguments;

  if (error != NULL) {
    va_start(arguments, format);
    error_fill(error, code, QCOW2_NO_OFFSET, QCOW2_NO_OFFSET, format, arguments);
    va_end(arguments);
  }
  return code;
}

int qcow2_error_set_at(struct qcow2_error *error, int code, uint64_t guest_offset,
                       uint64_t host_offset, const char *format, ...)
{
  va_list arguments;

  if (error != NULL) {
    va_start(arguments, format);
    error_fill(error, code, guest_offset, host_offset, format, arguments);
    va_end(arguments);
  }
  return code;
}

char *qcow2_errno_text(int os_errno, char *out, size_t out_size)
{
#ifdef _WIN32
  if (strerror_s(out, out_size, os_errno) != 0)
#else
  if (strerror_r(os_errno, out, out_size) != 0)
#endif
    snprintf(out, out_size, "system error %d", os_errno);
  return out;
}

int qcow2_error_set_errno(struct qcow2_error *error, int os_errno, uint64_t host_offset,
                          const char *format, ...)
{
  va_list arguments;
  char reason[128];

  if (error != NULL) {
    va_start(arguments, format);
    error_fill(error, QCOW2_ERROR_IO, QCOW2_NO_OFFSET, host_offset, format, arguments);
    va_end(arguments);
    error->os_errno = os_errno;
    error_append(error, ": ");
    error_append(error, qcow2_errno_text(os_errno, reason, sizeof(reason)));
  }
  return QCOW2_ERROR_IO;
}

int qcow2_error_set_nomem(struct qcow2_error *error)
{
  return qcow2_error_set(error, QCOW2_ERROR_NOMEM, "out of memory");
}

int qcow2_error_add_help(struct qcow2_error *error, int code, enum qcow2_help help, int options)
{
  if (error != NULL) {
    error->help = (int) help;
    error->help_options = options;
  }
  return code;
}

int qcow2_error_add_text(struct qcow2_error *error, int code, const char *text)
{
  if (error != NULL)
    error_append(error, text);
  return code;
}

int qcow2_error_add_file(struct qcow2_error *error, int code, const char *path)
{
  char place[TEXT_ESCAPED_BYTES + 16], name[TEXT_ESCAPED_BYTES];

  if (error != NULL && path != NULL) {
    snprintf(place, sizeof(place), " (file \"%s\")", qcow2_text_quote(path, name));
    error_append(error, place);
  }
  return code;
}

int qcow2_error_add_place(struct qcow2_error *error, int code,
                          const struct qcow2_error_place *place)
{
  char text[160], entry[64] = "";

  if (error != NULL) {
    error->guest_offset = place->guest_offset;
    error->guest_length = place->guest_length;
    error->table_offset = place->table_offset;
    if (place->table_offset != QCOW2_NO_OFFSET)
      snprintf(entry, sizeof(entry), ", table entry at host offset %" PRIu64, place->table_offset);
    snprintf(text, sizeof(text), " (guest bytes %" PRIu64 " to %" PRIu64 "%s)", place->guest_offset,
             place->guest_offset + place->guest_length - 1, entry);
    error_append(error, text);
  }
  return qcow2_error_add_file(error, code, place->path);
}

const char *qcow2_status_name(int code)
{
  switch ((enum qcow2_status) code) {
  case QCOW2_OK: return "OK";
  case QCOW2_ERROR_IO: return "IO";
  case QCOW2_ERROR_NOT_QCOW2: return "NOT_QCOW2";
  case QCOW2_ERROR_CORRUPT: return "CORRUPT";
  case QCOW2_ERROR_TRUNCATED: return "TRUNCATED";
  case QCOW2_ERROR_UNSUPPORTED: return "UNSUPPORTED";
  case QCOW2_ERROR_DENIED: return "DENIED";
  case QCOW2_ERROR_KEY: return "KEY";
  case QCOW2_ERROR_NOT_FOUND: return "NOT_FOUND";
  case QCOW2_ERROR_NOMEM: return "NOMEM";
  case QCOW2_ERROR_ARGUMENT: return "ARGUMENT";
  }
  return "UNKNOWN";
}
