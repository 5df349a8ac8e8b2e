/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <stdbool.h>
#include <string.h>

#include "error.h"

/* No version of such a struct will be larger; a struct_size above this is not initialised. */
#define STRUCT_SIZE_MAX 4096u

static bool is_zero(const unsigned char *bytes, size_t length)
{
  for (size_t i = 0; i < length; i++)
    if (bytes[i] != 0)
      return false;
  return true;
}

int qcow2_options_take(const void *given, void *options, size_t size, struct qcow2_error *error)
{
  size_t struct_size;

  memset(options, 0, size);
  if (given == NULL)
    return 0;
  memcpy(&struct_size, given, sizeof(struct_size));
  if (struct_size < sizeof(struct_size) || struct_size > STRUCT_SIZE_MAX)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "the options' struct_size is not set");
  memcpy(options, given, struct_size < size ? struct_size : size);
  if (struct_size > size && !is_zero((const unsigned char *) given + size, struct_size - size))
    return qcow2_error_set(
        error, QCOW2_ERROR_ARGUMENT,
        "the options have fields that this version of the library does not know (version %s)",
        qcow2_version());
  return 0;
}
