/* SPDX-License-Identifier: MIT */
#include "child.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIECE_BYTES 65536

/* Our ends of the child's three streams; -1: closed. */
struct pipes {
  int ends[3];
  const char *input;
  size_t input_left;
  FILE *output;
};

/* ---- Starting ------------------------------------------------------------------- */

static void close_end(int *end)
{
  if (*end >= 0)
    close(*end);
  *end = -1;
}

/* Make the pipes: theirs[i] is the child's end of its stream i. */
static bool make_pipes(int ours[3], int theirs[3])
{
  for (int i = 0; i < 3; i++) {
    int both[2];

    if (pipe(both) != 0)
      return false;
    ours[i] = both[i == 0 ? 1 : 0];
    theirs[i] = both[i == 0 ? 0 : 1];
  }
  return true;
}

static void become(const char *path, const char *const argv[], const int theirs[3],
                   const int ours[3])
{
  char *const *arguments;

  for (int i = 0; i < 3; i++) {
    close(ours[i]);
    if (dup2(theirs[i], i) < 0)
      _exit(127);
    if (theirs[i] > 2)
      close(theirs[i]);
  }
  signal(SIGPIPE, SIG_DFL);
  memcpy(&arguments, &argv, sizeof(arguments)); /* execv() changes none of them */
  execv(path, arguments);
  fprintf(stderr, "cannot run %s: %s\n", path, strerror(errno));
  fflush(stderr);
  _exit(127);
}

/* ---- Its streams ------------------------------------------------------------------ */

static void feed(struct pipes *pipes)
{
  ssize_t count = write(pipes->ends[0], pipes->input,
                        pipes->input_left < 4096 ? pipes->input_left : 4096);

  if (count < 0 && errno == EINTR)
    return;
  if (count > 0) {
    pipes->input += count;
    pipes->input_left -= (size_t) count;
  }
  if (count < 0 || pipes->input_left == 0)
    close_end(&pipes->ends[0]);
}

static void keep_output(struct pipes *pipes, struct child *child, const char *piece, size_t count)
{
  if (child->length + count > CHILD_OUTPUT_MAX) {
    child->is_too_long = true;
    return;
  }
  fwrite(piece, 1, count, pipes->output);
  child->length += count;
}

static void keep_complaint(struct child *child, const char *piece, size_t count)
{
  size_t used = strlen(child->complaint), room = CHILD_COMPLAINT_BYTES - 1 - used;

  memcpy(child->complaint + used, piece, count < room ? count : room);
}

/* Take what a stream has. */
static void take(struct pipes *pipes, int stream, struct child *child)
{
  char piece[PIECE_BYTES];
  ssize_t count = read(pipes->ends[stream], piece, sizeof(piece));

  if (count > 0 && stream == 1)
    keep_output(pipes, child, piece, (size_t) count);
  else if (count > 0)
    keep_complaint(child, piece, (size_t) count);
  else if (count == 0 || errno != EINTR)
    close_end(&pipes->ends[stream]);
}

static void serve(struct pipes *pipes, struct child *child)
{
  while (pipes->ends[1] >= 0 || pipes->ends[2] >= 0) {
    struct pollfd polled[3];

    for (int i = 0; i < 3; i++)
      polled[i] = (struct pollfd){ .fd = pipes->ends[i], .events = i == 0 ? POLLOUT : POLLIN };
    if (poll(polled, 3, -1) < 0 && errno != EINTR)
      break;
    if (pipes->ends[0] >= 0 && polled[0].revents != 0)
      feed(pipes);
    for (int i = 1; i < 3; i++)
      if (pipes->ends[i] >= 0 && polled[i].revents != 0)
        take(pipes, i, child);
  }
}

/* ---- The whole -------------------------------------------------------------------- */

static void finish(pid_t process, struct child *child)
{
  int status;

  while (waitpid(process, &status, 0) < 0)
    if (errno != EINTR)
      return;
  child->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool child_run(const char *path, const char *const argv[], const char *input, struct child *child)
{
  struct pipes pipes = { .ends = { -1, -1, -1 },
                         .input = input,
                         .input_left = input == NULL ? 0 : strlen(input) };
  int theirs[3] = { -1, -1, -1 };
  size_t length;
  pid_t process = -1;

  *child = (struct child){ .status = -1 };
  pipes.output = open_memstream(&child->output, &length);
  if (pipes.output == NULL)
    return false;
  fflush(NULL);
  if (make_pipes(pipes.ends, theirs))
    process = fork();
  if (process == 0)
    become(path, argv, theirs, pipes.ends);
  for (int i = 0; i < 3; i++)
    close_end(&theirs[i]);
  if (pipes.input_left == 0)
    close_end(&pipes.ends[0]);
  if (process > 0) {
    signal(SIGPIPE, SIG_IGN); /* the child may not want all of its input */
    serve(&pipes, child);
    finish(process, child);
    signal(SIGPIPE, SIG_DFL);
  }
  for (int i = 0; i < 3; i++)
    close_end(&pipes.ends[i]);
  return fclose(pipes.output) == 0 && process > 0;
}

void child_free(struct child *child)
{
  free(child->output);
  child->output = NULL;
}
