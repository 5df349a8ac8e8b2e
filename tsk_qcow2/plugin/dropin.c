/* SPDX-License-Identifier: MIT */
/*
 * The drop-in: a library with libtsk's soname that programs load instead of libtsk. It loads the
 * real libtsk by its absolute path, so every symbol that is not here is found there. It defines the
 * functions that open images, and tsk_img_read(): for qcow2 images they call our backend, for all
 * others the real function. dropin_auto.c does the same for C++ methods.
 */
#define _GNU_SOURCE /* RTLD_NOLOAD */
#ifdef HAVE_CONFIG_H
#include <config.h>
#endif

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "dropin.h"
#include "../tsk_qcow2.h"

#define QCOW2_NAME "qcow2"
#define QCOW2_DESCRIPTION "QEMU Copy-On-Write, versions 2 and 3"

/* ---- The real libtsk ------------------------------------------------------- */

static void *real_library;

static void real_find(void)
{
  real_library = dlopen(TSK_LIBRARY, RTLD_LAZY | RTLD_NOLOAD);
}

/* Without the real function the call cannot be made, and there is no way to report an error. */
void *tsk_qcow2_dropin_real(const char *symbol)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  void *function;

  pthread_once(&once, real_find);
  function = real_library == NULL ? NULL : dlsym(real_library, symbol);
  if (function == NULL) {
    fprintf(stderr,
            "tsk-qcow2: %s of %s cannot be found; \"tsk-qcow2 disable\" turns the plugin off\n",
            symbol, TSK_LIBRARY);
    abort();
  }
  return function;
}

/* Call the real function of the same name. */
#define REAL(name) ((__typeof__(&name)) tsk_qcow2_dropin_real(#name))

/* ---- Opening ---------------------------------------------------------------- */

bool tsk_qcow2_dropin_is_ours(int num_img, const TSK_TCHAR *const images[], TSK_IMG_TYPE_ENUM type)
{
  if (type == TSK_IMG_TYPE_QCOW2)
    return true;
  return type == TSK_IMG_TYPE_DETECT && num_img > 0 && images != NULL && images[0] != NULL &&
         tsk_qcow2_probe(images[0]);
}

static void tell_on_stderr(void *context, const char *sentence)
{
  (void) context;
  fprintf(stderr, "tsk-qcow2: error: %s\n", sentence);
}

static void warn_on_stderr(void *context, const char *sentence)
{
  (void) context;
  fprintf(stderr, "tsk-qcow2: warning: %s\n", sentence);
}

/* Not every tool closes its image. */
static void __attribute__((destructor)) at_exit(void)
{
  tsk_qcow2_report_counts();
}

TSK_IMG_INFO *tsk_qcow2_dropin_open(int num_img, const TSK_TCHAR *const images[],
                                    unsigned int a_ssize)
{
  TSK_IMG_INFO *img = tsk_qcow2_open(num_img, images, a_ssize);
  const char *warning;

  for (size_t i = 0; img != NULL && (warning = tsk_qcow2_warning(img, i)) != NULL; i++)
    warn_on_stderr(NULL, warning);
  tsk_qcow2_report_damage(img, tell_on_stderr, NULL);
  tsk_qcow2_report_changes(img, warn_on_stderr, NULL);
  return img;
}

EXPORT TSK_IMG_INFO *tsk_img_open(int num_img, const TSK_TCHAR *const images[],
                                  TSK_IMG_TYPE_ENUM type, unsigned int a_ssize)
{
  if (tsk_qcow2_dropin_is_ours(num_img, images, type))
    return tsk_qcow2_dropin_open(num_img, images, a_ssize);
  return REAL(tsk_img_open)(num_img, images, type, a_ssize);
}

EXPORT TSK_IMG_INFO *tsk_img_open_sing(const TSK_TCHAR *image, TSK_IMG_TYPE_ENUM type,
                                       unsigned int a_ssize)
{
  return tsk_img_open(1, &image, type, a_ssize);
}

/* TSK_TCHAR is char on all systems whose shared libraries are ELF files. */
EXPORT TSK_IMG_INFO *tsk_img_open_utf8(int num_img, const char *const images[],
                                       TSK_IMG_TYPE_ENUM type, unsigned int a_ssize)
{
  return tsk_img_open(num_img, images, type, a_ssize);
}

EXPORT TSK_IMG_INFO *tsk_img_open_utf8_sing(const char *image, TSK_IMG_TYPE_ENUM type,
                                            unsigned int a_ssize)
{
  return tsk_img_open(1, &image, type, a_ssize);
}

#ifdef HAVE_TSK_IMG_OPEN_OPT /* libtsk 4.13 and later */
EXPORT TSK_IMG_INFO *tsk_img_open_opt(int num_img, const TSK_TCHAR *const images[],
                                      TSK_IMG_TYPE_ENUM type, unsigned int a_ssize,
                                      const TSK_IMG_OPTIONS *opts)
{
  if (tsk_qcow2_dropin_is_ours(num_img, images, type))
    return tsk_qcow2_dropin_open(num_img, images, a_ssize);
  return REAL(tsk_img_open_opt)(num_img, images, type, a_ssize, opts);
}

EXPORT TSK_IMG_INFO *tsk_img_open_sing_opt(const TSK_TCHAR *image, TSK_IMG_TYPE_ENUM type,
                                           unsigned int a_ssize, const TSK_IMG_OPTIONS *opts)
{
  return tsk_img_open_opt(1, &image, type, a_ssize, opts);
}

EXPORT TSK_IMG_INFO *tsk_img_open_utf8_opt(int num_img, const char *const images[],
                                           TSK_IMG_TYPE_ENUM type, unsigned int a_ssize,
                                           const TSK_IMG_OPTIONS *opts)
{
  return tsk_img_open_opt(num_img, images, type, a_ssize, opts);
}

EXPORT TSK_IMG_INFO *tsk_img_open_utf8_sing_opt(const char *image, TSK_IMG_TYPE_ENUM type,
                                                unsigned int a_ssize, const TSK_IMG_OPTIONS *opts)
{
  return tsk_img_open_opt(1, &image, type, a_ssize, opts);
}
#endif

/* ---- Reading ---------------------------------------------------------------- */

EXPORT ssize_t tsk_img_read(TSK_IMG_INFO *img, TSK_OFF_T off, char *buf, size_t len)
{
  if (img != NULL && tsk_qcow2_owns(img))
    return tsk_qcow2_read(img, off, buf, len);
  return REAL(tsk_img_read)(img, off, buf, len);
}

/* ---- Types ------------------------------------------------------------------ */

EXPORT TSK_IMG_TYPE_ENUM tsk_img_type_toid_utf8(const char *name)
{
  return strcmp(name, QCOW2_NAME) == 0 ? TSK_IMG_TYPE_QCOW2 : REAL(tsk_img_type_toid_utf8)(name);
}

EXPORT TSK_IMG_TYPE_ENUM tsk_img_type_toid(const TSK_TCHAR *name)
{
  return tsk_img_type_toid_utf8(name);
}

EXPORT const char *tsk_img_type_toname(TSK_IMG_TYPE_ENUM type)
{
  return type == TSK_IMG_TYPE_QCOW2 ? QCOW2_NAME : REAL(tsk_img_type_toname)(type);
}

EXPORT const char *tsk_img_type_todesc(TSK_IMG_TYPE_ENUM type)
{
  return type == TSK_IMG_TYPE_QCOW2 ? QCOW2_DESCRIPTION : REAL(tsk_img_type_todesc)(type);
}

/* libtsk's header declares it without a prototype. */
TSK_IMG_TYPE_ENUM tsk_img_type_supported(void);

EXPORT TSK_IMG_TYPE_ENUM tsk_img_type_supported(void)
{
  return (TSK_IMG_TYPE_ENUM) ((unsigned) REAL(tsk_img_type_supported)() |
                              (unsigned) TSK_IMG_TYPE_QCOW2);
}

EXPORT void tsk_img_type_print(FILE *out)
{
  REAL(tsk_img_type_print)(out);
  fprintf(out, "\t%s (%s)\n", QCOW2_NAME, QCOW2_DESCRIPTION);
}
