/* SPDX-License-Identifier: MIT */
/* Putting the drop-in's directory first in the dynamic loader's order, and taking it out again. */
#include <errno.h>
#include <fcntl.h>
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

static bool run_ldconfig(void)
{
  pid_t child = fork();
  int status;

  if (child == 0) {
    execl(LDCONFIG, LDCONFIG, (char *) NULL);
    _exit(127);
  }
  return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static bool write_configuration(void)
{
  int descriptor = open(CONFIGURATION, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
  static const char text[] = "# Made by \"tsk-qcow2 enable\"; \"tsk-qcow2 disable\" removes it.\n" DROPIN_DIRECTORY "\n";
  bool written;

  if (descriptor < 0)
    return false;
  written = write(descriptor, text, sizeof(text) - 1) == (ssize_t) (sizeof(text) - 1) &&
            fchmod(descriptor, 0644) == 0;
  return close(descriptor) == 0 && written;
}

static int remove_configuration(void)
{
  if (unlink(CONFIGURATION) != 0 && errno != ENOENT)
    return complain_failed("cannot remove %s: %s", CONFIGURATION, strerror(errno));
  if (!run_ldconfig())
    return complain_failed(LDCONFIG " failed");
  return EXIT_OK;
}

static int check_root(int argc, const char *command)
{
  if (argc > 0)
    return complain_usage("%s takes no arguments", command);
  if (geteuid() != 0)
    return complain_failed("%s changes the system and needs root: sudo tsk-qcow2 %s", command, command);
  return EXIT_OK;
}

int command_enable(int argc, char *argv[])
{
  char path[4096];
  int code = check_root(argc, "enable");

  (void) argv;
  if (code != EXIT_OK)
    return code;
  unsetenv("LD_LIBRARY_PATH"); /* to see below what programs get that have no such help */
  if (access(DROPIN_DIRECTORY "/" TSK_SONAME, R_OK) != 0)
    return complain_failed("the plugin is not installed in %s", DROPIN_DIRECTORY);
  if (!write_configuration())
    return complain_failed("cannot write %s: %s", CONFIGURATION, strerror(errno));
  if (!run_ldconfig()) {
    remove_configuration();
    return complain_failed(LDCONFIG " failed; nothing was changed");
  }
  if (!loader_picks(path, sizeof(path)) || !loader_is_dropin(path)) {
    remove_configuration();
    return complain_failed("the loader still picks %s; nothing was changed", path);
  }
  printf("Enabled: Sleuth Kit programs on this machine now understand qcow2.\n"
         "Try: fls -i qcow2 disk.qcow2        Undo: tsk-qcow2 disable\n");
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
