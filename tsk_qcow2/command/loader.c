/* SPDX-License-Identifier: MIT */
/* What the dynamic loader does with libtsk's soname. */
#define _GNU_SOURCE /* RTLD_NOLOAD, dladdr */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "command.h"

bool loader_picks(char *path, size_t path_size)
{
  void *library = dlopen(TSK_SONAME, RTLD_LAZY | RTLD_LOCAL);
  void *symbol = library == NULL ? NULL : dlsym(library, "tsk_img_open");
  Dl_info info;

  if (symbol != NULL && dladdr(symbol, &info) != 0) {
    snprintf(path, path_size, "%s", info.dli_fname);
    return true;
  }
  snprintf(path, path_size, "%s", library == NULL ? dlerror() : "no tsk_img_open in it");
  return false;
}

bool loader_is_real(const char *path)
{
  struct stat picked, real;

  return stat(path, &picked) == 0 && stat(TSK_LIBRARY, &real) == 0 &&
         picked.st_dev == real.st_dev && picked.st_ino == real.st_ino;
}

enum loader_answer loader_ask_fls(void)
{
  /* NOLINTNEXTLINE(cert-env33-c): nothing of an image, or of the user, is in the command */
  FILE *types = popen("fls -i list 2>&1", "r");
  enum loader_answer answer = LOADER_NO_FLS;
  char line[256];

  if (types == NULL)
    return answer;
  while (fgets(line, sizeof(line), types) != NULL) {
    if (answer == LOADER_NO_FLS && strstr(line, "Supported image format types") != NULL)
      answer = LOADER_FLS_WITHOUT_QCOW2;
    if (strncmp(line, "\tqcow2 ", 7) == 0)
      answer = LOADER_FLS_WITH_QCOW2;
  }
  pclose(types);
  return answer;
}

bool loader_is_dropin(const char *path)
{
  return strcmp(path, DROPIN_DIRECTORY "/" TSK_SONAME) == 0;
}
