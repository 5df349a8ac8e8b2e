/* SPDX-License-Identifier: MIT */
/* tsk-qcow2-mount: what `tsk-qcow2 mount` starts. A program of its own, since tsk-qcow2 itself is
   not linked with libfuse. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "../command/arguments.h"
#include "../command/command.h"
#include "../names/shell.h"
#include "contents.h"
#include "filesystem.h"
#include "info.h"

/* ---- Where it is mounted ---------------------------------------------------------- */

/* How many entries a directory has, as far as it is more than none; -1 with errno set. */
static int count_entries(const char *path)
{
  DIR *directory = opendir(path);
  struct dirent *entry;
  int count = 0;

  if (directory == NULL)
    return -1;
  /* cppcheck-suppress readdirCalled ; there is one thread */
  while (count == 0 && (entry = readdir(directory)) != NULL)
    count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
  closedir(directory);
  return count;
}

static int complain_directory(const char *given, int os_errno)
{
  char quoted[SHELL_COMMAND_BYTES];
  const char *directory = tsk_qcow2_shell_quote(given, quoted, sizeof(quoted)) ? quoted
                                                                               : "DIRECTORY";

  if (os_errno == ENOENT)
    return complain_failed("there is no directory %s. To make it: mkdir %s", given, directory);
  if (os_errno == ENOTCONN)
    return complain_failed("%s is still mounted, but what it shows has ended. To unmount it: "
                           "fusermount3 -u %s",
                           given, directory);
  return complain_failed("cannot mount on %s: %s", given, strerror(os_errno));
}

/* The real path of an empty directory: what another has would be hidden. NULL, after complaining.
   The caller frees it. */
static char *mount_point(const char *given)
{
  char *real = realpath(given, NULL);
  int count = real == NULL ? -1 : count_entries(real);

  if (count == 0)
    return real;
  if (count < 0)
    complain_directory(given, errno);
  else
    complain_failed("the directory %s is not empty, and what is in it would be hidden; choose "
                    "another",
                    given);
  free(real);
  return NULL;
}

static int check_device(void)
{
  if (access("/dev/fuse", R_OK | W_OK) == 0)
    return EXIT_OK;
  return complain_failed("cannot use /dev/fuse: %s%s", strerror(errno),
                         errno == ENOENT ? ". To load what has it: sudo modprobe fuse" : "");
}

/* ---- In the background --------------------------------------------------------------- */

/* Wait until the child says on the pipe that it serves, or ends. Returns the exit status. */
static int wait_for(pid_t child, int in)
{
  unsigned char status;
  int ended;

  while (true) {
    ssize_t count = read(in, &status, 1);

    if (count == 1)
      return status;
    if (count == 0 || errno != EINTR)
      break;
  }
  while (waitpid(child, &ended, 0) < 0)
    if (errno != EINTR)
      return EXIT_FAILED;
  return WIFEXITED(ended)
             ? WEXITSTATUS(ended)
             : complain_failed("the program in the background died: signal %d", WTERMSIG(ended));
}

/* Go on in a child, before anything is opened and any thread is started. Returns in the child, with
   a descriptor for detach(); or -1, with *status, in the parent. */
static int start_child(int *status)
{
  int ends[2];
  pid_t child;

  if (pipe(ends) != 0 || (child = fork()) < 0) {
    *status = complain_failed("cannot start a program in the background: %s", strerror(errno));
    return -1;
  }
  if (child > 0) {
    close(ends[1]);
    *status = wait_for(child, ends[0]);
    return -1;
  }
  close(ends[0]);
  return ends[1];
}

/* Leave the terminal and the working directory, and let the parent end with that status. */
static void detach(int out, int status)
{
  unsigned char byte = (unsigned char) status;
  int null = open("/dev/null", O_RDWR);
  ssize_t written;

  setsid();
  if (chdir("/") != 0 || null < 0)
    syslog(LOG_WARNING, "cannot leave the working directory or the terminal");
  for (int i = 0; null >= 0 && i < 3; i++)
    dup2(null, i);
  if (null > 2)
    close(null);
  written = write(out, &byte, 1);
  (void) written; /* a parent that was killed does not read it */
  close(out);
}

/* ---- The command ------------------------------------------------------------------- */

/* Mount, and serve. `out` is where the parent waits, -1: there is none. */
static int mount_and_serve(const struct arguments *arguments, const char *directory,
                           struct contents *contents, int out)
{
  bool allow_other = (arguments->given & ARGUMENT_ALLOW_OTHER) != 0;
  struct fuse_session *session = filesystem_mount(contents, arguments->operands[0], directory,
                                                  allow_other);
  bool is_damaged = contents->failed > 0 || contents->is_incomplete;
  int status;

  if (session == NULL)
    return EXIT_FAILED;
  if (out >= 0) {
    contents->to_syslog = true;
    detach(out, is_damaged ? EXIT_DAMAGED : EXIT_OK);
  }
  status = filesystem_serve(session);
  if (status == EXIT_OK && (is_damaged || states_are_damaged(contents->states)))
    status = EXIT_DAMAGED;
  return status;
}

static int run(const struct arguments *arguments, const char *directory)
{
  bool foreground = (arguments->given & ARGUMENT_FOREGROUND) != 0;
  struct contents contents;
  size_t info_length = 0;
  bool is_info_damaged = false;
  int status = EXIT_OK, out = -1;
  char *info;

  if (!foreground && (out = start_child(&status)) < 0)
    return status;
  info = info_bytes(arguments->operands[0], &info_length, &is_info_damaged);
  status = contents_open(&contents, arguments->operands[0], info, info_length);
  contents.is_incomplete = contents.is_incomplete || is_info_damaged;
  if (status == EXIT_OK)
    status = mount_and_serve(arguments, directory, &contents, out);
  contents_close(&contents);
  return status;
}

/* The C library would give each thread a heap of its own. Then what is freed in one is not used
   again in another, and the program grows for days. */
static void share_heap(void)
{
#ifdef M_ARENA_MAX
  mallopt(M_ARENA_MAX, 1);
#endif
}

int main(int argc, char *argv[])
{
  struct arguments arguments = { .command = "mount",
                                 .operands_wanted = 2,
                                 .wanted = "an image and a directory",
                                 .known = ARGUMENT_FOREGROUND | ARGUMENT_ALLOW_OTHER };
  int status = arguments_parse(argc - 1, argv + 1, &arguments);
  char *directory;

  share_heap();
  openlog("tsk-qcow2", LOG_PID, LOG_DAEMON);
  if (status == EXIT_OK)
    status = check_device();
  if (status != EXIT_OK)
    return status;
  directory = mount_point(arguments.operands[1]);
  status = directory == NULL ? EXIT_FAILED : run(&arguments, directory);
  free(directory);
  return status;
}
