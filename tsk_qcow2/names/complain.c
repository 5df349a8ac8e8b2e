/* SPDX-License-Identifier: MIT */
#define TSK_QCOW2_COMPLAIN_DEFINITIONS
#include "complain.h"

#include <stdio.h>
#include <string.h>

int tsk_qcow2_complain_nomem(struct qcow2_error *error)
{
  return qcow2_error_set(error, QCOW2_ERROR_NOMEM, "out of memory");
}

/* Cut the message to less than `size` bytes, with "..." at its end. A quotation that this cuts is
   closed, so that what follows is not taken for a part of it. */
static void cut_message(char *message, size_t size)
{
  size_t length = size - sizeof("...\"");
  size_t quotes = 0;

  while (length > 0 && ((unsigned char) message[length] & 0xC0) == 0x80) /* inside a character */
    length--;
  for (size_t i = 0; i < length; i++)
    quotes += message[i] == '"';
  snprintf(message + length, size - length, "...%s", quotes % 2 == 0 ? "" : "\"");
}

void tsk_qcow2_complain_more(struct qcow2_error *error, const char *sentence)
{
  size_t room = sizeof(error->message) - strlen(". ") - strlen(sentence), used;

  if (strlen(error->message) >= room)
    cut_message(error->message, room);
  used = strlen(error->message);
  snprintf(error->message + used, sizeof(error->message) - used, ". %s", sentence);
}
