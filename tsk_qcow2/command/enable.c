/* SPDX-License-Identifier: MIT */
/* Putting the drop-in's directory first in the dynamic loader's order, and taking it out again. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"

/* The loader reads these files in the order of their names. */
#define CONFIGURATION "/etc/ld.so.conf.d/00-tsk-qcow2.conf"
#define LDCONFIG "/sbin/ldconfig"

/* Run a program without output, with an environment that has only an empty PATH (so that "status"
   looks at no programs). Returns its exit status, or -1. */
static int run_quietly(const char *program, const char *argument)
{
  char *const arguments[] = { (char *) (uintptr_t) program, (char *) (uintptr_t) argument, NULL };
  char no_path[] = "PATH=", *const environment[] = { no_path, NULL };
  pid_t child = fork();
  int status, null;

  if (child == 0) {
    null = open("/dev/null", O_WRONLY);
    if (null >= 0)
      dup2(null, STDOUT_FILENO);
    execve(program, arguments, environment);
    _exit(127);
  }
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
    return -1;
  return WEXITSTATUS(status);
}

static bool run_ldconfig(void)
{
  return run_quietly(LDCONFIG, NULL) == 0;
}

/* True if a program that is started now without an environment loads the drop-in. This command is
   used for the test. */
static bool loader_obeys(void)
{
  return run_quietly("/proc/self/exe", "status") == EXIT_OK;
}

/* Write the whole file or none of it. */
static bool write_configuration(void)
{
  static const char text[] =
      "# Made by \"tsk-qcow2 enable\"; \"tsk-qcow2 disable\" removes it.\n" DROPIN_DIRECTORY "\n";
  char temporary[] = CONFIGURATION ".XXXXXX";
  int descriptor = mkstemp(temporary);
  bool written;

  if (descriptor < 0)
    return false;
  written = write(descriptor, text, sizeof(text) - 1) == (ssize_t) (sizeof(text) - 1) &&
            fchmod(descriptor, 0644) == 0;
  written = close(descriptor) == 0 && written && rename(temporary, CONFIGURATION) == 0;
  if (!written)
    unlink(temporary);
  return written;
}

static int remove_configuration(void)
{
  if (unlink(CONFIGURATION) != 0 && errno != ENOENT)
    return complain_failed("cannot remove %s: %s", CONFIGURATION, strerror(errno));
  if (!run_ldconfig())
    return complain_failed("%s was removed, but " LDCONFIG " failed: run it again", CONFIGURATION);
  return EXIT_OK;
}

static int check_root(int argc, const char *command)
{
  if (argc > 0)
    return complain_usage("%s takes no arguments", command);
  if (geteuid() != 0)
    return complain_failed("%s changes the system and needs root: sudo tsk-qcow2 %s", command,
                           command);
  return EXIT_OK;
}

/* The plugin loads the libtsk that it was built for. If programs load another one of the same
   soname, such as one below /usr/local, they might not even start with the plugin. */
static int check_libtsk(void)
{
  char path[4096];

  if (getenv("LD_LIBRARY_PATH") != NULL || !loader_picks(path, sizeof(path)) ||
      loader_is_dropin(path) || loader_is_real(path))
    return EXIT_OK;
  return complain_failed("programs here load %s, and the plugin was built for " TSK_LIBRARY
                         ", so nothing was changed; build it with ./configure TSK_LIBRARY=%s",
                         path, path);
}

int command_enable(int argc, char *argv[])
{
  int code = check_root(argc, "enable");

  (void) argv;
  if (code != EXIT_OK)
    return code;
  if (access(DROPIN_DIRECTORY "/" TSK_SONAME, R_OK) != 0)
    return complain_failed("the plugin is not installed in %s", DROPIN_DIRECTORY);
  if (loader_obeys()) {
    printf("Already enabled.\n");
    return EXIT_OK;
  }
  code = check_libtsk();
  if (code != EXIT_OK)
    return code;
  if (!write_configuration())
    return complain_failed("cannot write %s: %s", CONFIGURATION, strerror(errno));
  if (!run_ldconfig() || !loader_obeys()) {
    remove_configuration();
    return complain_failed("the loader does not pick the plugin, so nothing was changed; does "
                           "another file in /etc/ld.so.conf.d name the directory of libtsk?");
  }
  printf("Enabled: Sleuth Kit programs on this machine now understand qcow2.\n"
         "Try: img_stat -i qcow2 disk.qcow2        Undo: tsk-qcow2 disable\n");
  return EXIT_OK;
}

int command_disable(int argc, char *argv[])
{
  int code = check_root(argc, "disable");

  (void) argv;
  if (code == EXIT_OK)
    code = remove_configuration();
  if (code == EXIT_OK)
    printf("Disabled: Sleuth Kit programs are as they were.\n");
  return code;
}
