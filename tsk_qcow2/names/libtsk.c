/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RTLD_DEFAULT */
#endif
#include "libtsk.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#include "foreign.h"

static struct tsk_qcow2_libtsk functions;
static bool is_loaded;
static char load_problem[256];

#define FIND(name) \
  (tsk_qcow2_find_function(library, "tsk_" #name, &functions.name, sizeof(functions.name)) != 0)

static bool find_all(void *library)
{
  return FIND(img_open_utf8_sing) && FIND(img_open_external) && FIND(img_read) && FIND(img_close) &&
         FIND(img_type_toid_utf8) && FIND(vs_open) && FIND(vs_part_get) && FIND(vs_close) &&
         FIND(fs_open_img) && FIND(fs_close) && FIND(fs_dir_open_meta) && FIND(fs_dir_getsize) &&
         FIND(fs_dir_get_name) && FIND(fs_dir_get) && FIND(fs_dir_close) &&
         FIND(fs_file_open_meta) && FIND(fs_file_close) && FIND(fs_file_attr_get) &&
         FIND(fs_file_attr_get_type) && FIND(fs_file_attr_getsize) && FIND(fs_file_attr_get_idx) &&
         FIND(fs_attr_read) && FIND(error_get) && FIND(error_reset);
}

/* Some builds of libtsk load the system's libbfio. Its functions then replace the ones inside
   libewf and libvslvm, and these crash. If libewf and libvslvm are loaded first, each in its own
   scope, they find their own functions. */
static void load_first(void)
{
  /* cppcheck-suppress leakReturnValNotUsed */
  dlopen("libewf.so.2", RTLD_NOW | RTLD_LOCAL);
  /* cppcheck-suppress leakReturnValNotUsed */
  dlopen("libvslvm.so.1", RTLD_NOW | RTLD_LOCAL);
}

/* The libtsk of the program, if it has one, or else the one that this library was built for. */
static void load(void)
{
  void *library = NULL;

  is_loaded = find_all(RTLD_DEFAULT);
  if (!is_loaded && TSK_LIBRARY[0] == '/') {
    load_first();
    library = dlopen(TSK_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    is_loaded = library != NULL && find_all(library);
  }
  if (!is_loaded)
    snprintf(load_problem, sizeof(load_problem), "%s",
             TSK_LIBRARY[0] == '/' ? dlerror() : "tsk-qcow2 was built without it");
}

const struct tsk_qcow2_libtsk *tsk_qcow2_libtsk(void)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;

  pthread_once(&once, load);
  return is_loaded ? &functions : NULL;
}

const char *tsk_qcow2_libtsk_problem(void)
{
  return load_problem;
}
