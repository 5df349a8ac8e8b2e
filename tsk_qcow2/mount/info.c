/* SPDX-License-Identifier: MIT */
#include "info.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../command/command.h"

/* In the child: print it, and end. Errors are the parent's to tell, which opens the image too. The
   status is EXIT_DAMAGED if some of it is lost or cannot be read. */
static void print_and_exit(const char *name, int out)
{
  struct tsk_qcow2_opened opened;
  struct qcow2_error error;
  int status;

  if (dup2(out, STDOUT_FILENO) < 0 ||
      tsk_qcow2_open_names(1, &name, TSK_QCOW2_HEADER_ONLY, NULL, &opened, &error) != 0)
    _exit(EXIT_FAILED);
  status = info_print_json(&opened);
  if (status == EXIT_OK && !tsk_qcow2_opened_is_one(&opened) &&
      qcow2_snapshot_lost_count(opened.image) > 0)
    status = EXIT_DAMAGED;
  if (fflush(stdout) != 0)
    status = EXIT_FAILED;
  tsk_qcow2_opened_close(&opened);
  _exit(status);
}

/* Read all that comes, up to INFO_BYTES_MAX bytes. NULL: there is more, or it failed. */
static char *read_all(int in, size_t *length)
{
  char *bytes = NULL;
  size_t room = 0;

  for (*length = 0; *length <= INFO_BYTES_MAX;) {
    ssize_t count;

    if (*length == room) {
      char *grown = realloc(bytes, room == 0 ? 65536 : room * 2);

      if (grown == NULL)
        break;
      bytes = grown;
      room = room == 0 ? 65536 : room * 2;
    }
    count = read(in, bytes + *length, room - *length);
    if (count == 0)
      return bytes;
    if (count < 0 && errno != EINTR)
      break;
    *length += count > 0 ? (size_t) count : 0;
  }
  free(bytes);
  return NULL;
}

char *info_bytes(const char *name, size_t *length, bool *is_damaged)
{
  int ends[2], status = -1;
  char *bytes;
  pid_t child;

  if (pipe(ends) != 0 || (child = fork()) < 0)
    return NULL;
  if (child == 0) {
    close(ends[0]);
    print_and_exit(name, ends[1]);
  }
  close(ends[1]);
  bytes = read_all(ends[0], length);
  close(ends[0]); /* if that was not all, the child ends by SIGPIPE */
  while (waitpid(child, &status, 0) < 0 && errno == EINTR)
    ;
  *is_damaged = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_DAMAGED;
  if (bytes != NULL && (status == 0 || *is_damaged))
    return bytes;
  free(bytes);
  return NULL;
}
