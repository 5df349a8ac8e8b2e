/* SPDX-License-Identifier: MIT */
/*
 * The drop-in's versions of the C++ methods of libtsk that take image names and an image type.
 *
 * A libtsk that is linked with -Bsymbolic-functions, as Ubuntu links every library, calls its own
 * tsk_img_open() and not the drop-in's. But programs call these methods through the dynamic symbol
 * table, and the vtables of classes that a program derives refer to them in the same way. So the
 * methods are defined here, for every libtsk: they open a qcow2 image, and give it to libtsk as an
 * image that is already open.
 *
 * In C, a method is a function whose first argument is the object; it is declared with its C++
 * symbol. What is in the object depends on libtsk's version, and is not used.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "dropin.h"
#include "../tsk_qcow2.h"

typedef uint8_t open_method(void *object, int num_img, const TSK_TCHAR *const images[],
                            TSK_IMG_TYPE_ENUM type, unsigned int a_ssize);
typedef uint8_t add_method(void *object, int num_img, const TSK_TCHAR *const images[],
                           TSK_IMG_TYPE_ENUM type, unsigned int a_ssize, const char *device_id);
typedef uint8_t handle_method(void *object, TSK_IMG_INFO *img);
typedef uint8_t add_handle_method(void *object, TSK_IMG_INFO *img, const char *device_id);
typedef uint8_t details_method(void *object, const char *device_id);
typedef uint8_t error_method(void *object);
typedef void *init_method(void *object);
typedef int revert_method(void *object);
typedef int64_t commit_method(void *object);
typedef void close_method(void *object);

/* The parameters: (int, const char *const [], TSK_IMG_TYPE_ENUM, unsigned int), and these with a
   const char *. */
#define NAMES "iPKPKc17TSK_IMG_TYPE_ENUMj"
#define NAMES_DEVICE NAMES "S1_"

/* libtsk's method of the type `type`, by its symbol. */
#define REAL(type, symbol) ((type *) tsk_qcow2_dropin_real(symbol))

/* ---- The images that objects were given --------------------------------------- */

/* libtsk does not close an image that it was given. So it is closed here, when the object releases
   it. The deletion of an object of libtsk's own class is not noticed: its image is closed when
   another object at that address releases its own. */
struct given {
  const void *object;
  TSK_IMG_INFO *img;
  struct given *next;
};

static pthread_mutex_t given_lock = PTHREAD_MUTEX_INITIALIZER;
static struct given *given_images;

/* If there is no memory, the image stays open until the program ends. */
static void remember(const void *object, TSK_IMG_INFO *img)
{
  struct given *given = malloc(sizeof(*given));

  if (given == NULL)
    return;
  pthread_mutex_lock(&given_lock);
  *given = (struct given){ object, img, given_images };
  given_images = given;
  pthread_mutex_unlock(&given_lock);
}

/* Close the image that the object was given, if any. libtsk does not use it any more. */
static void let_go(const void *object)
{
  struct given **link = &given_images, *found;

  pthread_mutex_lock(&given_lock);
  while (*link != NULL && (*link)->object != object)
    link = &(*link)->next;
  found = *link;
  if (found != NULL)
    *link = found->next;
  pthread_mutex_unlock(&given_lock);
  if (found != NULL)
    tsk_img_close(found->img);
  free(found);
}

/* ---- Opening for an object --------------------------------------------------------- */

/* A call of one of these methods. */
struct call {
  const char *symbol;
  void *object;
  int num_img;
  const TSK_TCHAR *const *images;
  TSK_IMG_TYPE_ENUM type;
  unsigned int a_ssize;
  bool has_device_id;
  const char *device_id;
};

static bool is_ours(const struct call *call)
{
  return tsk_qcow2_dropin_is_ours(call->num_img, call->images, call->type);
}

/* Call libtsk's method. */
static uint8_t pass_on(const struct call *call)
{
  if (call->has_device_id)
    return REAL(add_method, call->symbol)(call->object, call->num_img, call->images, call->type,
                                          call->a_ssize, call->device_id);
  return REAL(open_method, call->symbol)(call->object, call->num_img, call->images, call->type,
                                         call->a_ssize);
}

/* Let libtsk close the object's image, and give the object this one, which is open. NULL: none. */
static uint8_t set_image(void *object, TSK_IMG_INFO *img)
{
  return REAL(handle_method, "_ZN7TskAuto15openImageHandleEP12TSK_IMG_INFO")(object, img);
}

/* Close the object's image, and open the new one for it. NULL: libtsk's error says why. */
static TSK_IMG_INFO *open_here(const struct call *call)
{
  TSK_IMG_INFO *img;

  set_image(call->object, NULL);
  let_go(call->object);
  img = tsk_qcow2_dropin_open(call->num_img, call->images, call->a_ssize);
  if (img != NULL)
    remember(call->object, img);
  return img;
}

/* ---- TskAuto: tsk_recover, tsk_gettimes, tsk_comparedir, tsk_imageinfo, Java ---- */

static uint8_t auto_open(const struct call *call)
{
  TSK_IMG_INFO *img;

  if (!is_ours(call))
    return pass_on(call);
  img = open_here(call);
  return img == NULL ? 1 : set_image(call->object, img);
}

#define TSK_AUTO_OPEN "_ZN7TskAuto9openImageE" NAMES
EXPORT open_method tsk_qcow2_auto_open __asm__(TSK_AUTO_OPEN);

uint8_t tsk_qcow2_auto_open(void *object, int num_img, const TSK_TCHAR *const images[],
                            TSK_IMG_TYPE_ENUM type, unsigned int a_ssize)
{
  return auto_open(
      &(struct call){ TSK_AUTO_OPEN, object, num_img, images, type, a_ssize, false, NULL });
}

#define TSK_AUTO_OPEN_UTF8 "_ZN7TskAuto13openImageUtf8E" NAMES
EXPORT open_method tsk_qcow2_auto_open_utf8 __asm__(TSK_AUTO_OPEN_UTF8);

uint8_t tsk_qcow2_auto_open_utf8(void *object, int num_img, const char *const images[],
                                 TSK_IMG_TYPE_ENUM type, unsigned int a_ssize)
{
  return auto_open(
      &(struct call){ TSK_AUTO_OPEN_UTF8, object, num_img, images, type, a_ssize, false, NULL });
}

/* ---- TskAutoDb, which puts an image into a database: tsk_loaddb ---------------------------- */

static uint8_t db_open(const struct call *call)
{
  if (!is_ours(call))
    return pass_on(call);
  if (tsk_qcow2_auto_open(call->object, call->num_img, call->images, TSK_IMG_TYPE_QCOW2,
                          call->a_ssize) != 0)
    return 1;
  return REAL(details_method, "_ZN9TskAutoDb9openImageEPKc")(call->object, call->device_id);
}

#define TSK_AUTO_DB_OPEN "_ZN9TskAutoDb9openImageE" NAMES_DEVICE
EXPORT add_method tsk_qcow2_db_open __asm__(TSK_AUTO_DB_OPEN);

uint8_t tsk_qcow2_db_open(void *object, int num_img, const TSK_TCHAR *const images[],
                          TSK_IMG_TYPE_ENUM type, unsigned int a_ssize, const char *device_id)
{
  return db_open(
      &(struct call){ TSK_AUTO_DB_OPEN, object, num_img, images, type, a_ssize, true, device_id });
}

#define TSK_AUTO_DB_OPEN_UTF8 "_ZN9TskAutoDb13openImageUtf8E" NAMES_DEVICE
EXPORT add_method tsk_qcow2_db_open_utf8 __asm__(TSK_AUTO_DB_OPEN_UTF8);

uint8_t tsk_qcow2_db_open_utf8(void *object, int num_img, const char *const images[],
                               TSK_IMG_TYPE_ENUM type, unsigned int a_ssize, const char *device_id)
{
  return db_open(&(struct call){ TSK_AUTO_DB_OPEN_UTF8, object, num_img, images, type, a_ssize,
                                 true, device_id });
}

static uint8_t db_add(const struct call *call)
{
  TSK_IMG_INFO *img;

  if (!is_ours(call))
    return pass_on(call);
  img = open_here(call);
  if (img != NULL)
    return REAL(add_handle_method,
                "_ZN9TskAutoDb13startAddImageEP12TSK_IMG_INFOPKc")(call->object, img,
                                                                   call->device_id);
  tsk_error_set_errstr2("TskAutoDb::startAddImage");
  REAL(error_method, "_ZN7TskAuto13registerErrorEv")(call->object);
  return 1;
}

#define TSK_AUTO_DB_ADD "_ZN9TskAutoDb13startAddImageE" NAMES_DEVICE
EXPORT add_method tsk_qcow2_db_add __asm__(TSK_AUTO_DB_ADD);

uint8_t tsk_qcow2_db_add(void *object, int num_img, const TSK_TCHAR *const images[],
                         TSK_IMG_TYPE_ENUM type, unsigned int a_ssize, const char *device_id)
{
  return db_add(
      &(struct call){ TSK_AUTO_DB_ADD, object, num_img, images, type, a_ssize, true, device_id });
}

#define TSK_CASE_DB_ADD "_ZN9TskCaseDb8addImageE" NAMES
EXPORT open_method tsk_qcow2_case_add __asm__(TSK_CASE_DB_ADD);

uint8_t tsk_qcow2_case_add(void *object, int num_img, const TSK_TCHAR *const images[],
                           TSK_IMG_TYPE_ENUM type, unsigned int a_ssize)
{
  const struct call call = { TSK_CASE_DB_ADD, object, num_img, images, type, a_ssize, false, NULL };
  void *process;
  uint8_t result;

  if (!is_ours(&call))
    return pass_on(&call);
  process = REAL(init_method, "_ZN9TskCaseDb12initAddImageEv")(object);
  result = tsk_qcow2_db_add(process, num_img, images, TSK_IMG_TYPE_QCOW2, a_ssize, NULL);
  if (result != 0)
    REAL(revert_method, "_ZN9TskAutoDb14revertAddImageEv")(process);
  else /* commitAddImage() returns the image's number; libtsk's addImage() returns 1 for it */
    result = REAL(commit_method, "_ZN9TskAutoDb14commitAddImageEv")(process) != 0;
  REAL(close_method, "_ZN9TskAutoDbD0Ev")(process);
  let_go(process);
  return result;
}

/* ---- Closing: closeImage() and the destructors, of both classes --------------------- */

#define CLOSES(name, symbol)                \
  EXPORT close_method name __asm__(symbol); \
  void name(void *object)                   \
  {                                         \
    REAL(close_method, symbol)(object);     \
    let_go(object);                         \
  }

CLOSES(tsk_qcow2_auto_close, "_ZN7TskAuto10closeImageEv")
CLOSES(tsk_qcow2_auto_destroy, "_ZN7TskAutoD2Ev")
CLOSES(tsk_qcow2_db_close, "_ZN9TskAutoDb10closeImageEv")
CLOSES(tsk_qcow2_db_destroy, "_ZN9TskAutoDbD1Ev")
CLOSES(tsk_qcow2_db_destroy_base, "_ZN9TskAutoDbD2Ev")
