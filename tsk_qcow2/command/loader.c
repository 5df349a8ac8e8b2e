/* SPDX-License-Identifier: MIT */
/* What the dynamic loader does with libtsk's soname. */
#define _GNU_SOURCE /* RTLD_NOLOAD, dladdr */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "command.h"

/* libtsk's numbers, in its ABI since 3.0; this command does not link libtsk, to see what others get. */
#define TSK_IMG_TYPE_QCOW2 0x0800
#define TSK_ERR_IMG_UNSUPTYPE (0x02000000 | 3)

typedef void *open_sing_function(const char *image, int type, unsigned int sector_size);
typedef uint32_t get_errno_function(void);

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

  return stat(path, &picked) == 0 && stat(TSK_LIBRARY, &real) == 0 && picked.st_dev == real.st_dev &&
         picked.st_ino == real.st_ino;
}

enum loader_answer loader_ask_fls(void)
{
  FILE *types = popen("fls -i list 2>&1", "r"); /* NOLINT(cert-env33-c): nothing of an image, or of the user, is in the command */
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

bool loader_reaches_inside(void)
{
  void *real = dlopen(TSK_LIBRARY, RTLD_LAZY | RTLD_NOLOAD);
  open_sing_function *open_sing;
  get_errno_function *get_errno;

  if (real == NULL)
    return false;
  *(void **) &open_sing = dlsym(real, "tsk_img_open_sing");
  *(void **) &get_errno = dlsym(real, "tsk_error_get_errno");
  if (open_sing == NULL || get_errno == NULL)
    return false;
  /* The real function calls tsk_img_open(). The drop-in's says that there is no such file; the real one does not know
     the type. */
  return open_sing("/nonexistent/tsk-qcow2", TSK_IMG_TYPE_QCOW2, 0) == NULL &&
         get_errno() != TSK_ERR_IMG_UNSUPTYPE;
}
