/* SPDX-License-Identifier: MIT */
/*
 * TSK_IMG_INFO over a view of a qcow2 image.
 *
 * libtsk's structure differs from version to version, and so does how much of it libtsk writes;
 * only its beginning is the same everywhere. So each image has a mapping of its own: TSK_AREA_BYTES
 * of zero pages for whatever libtsk keeps there (untouched pages cost nothing), and our state after
 * them. We use only the common beginning.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS, RTLD_DEFAULT */
#include "../tsk_qcow2.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "backend.h"
#include "../names/complain.h"
#include "../names/disk.h"

/* Twice the size of the largest structure so far, which has libtsk's 2 MiB cache inside. */
#define TSK_AREA_BYTES ((size_t) 4 << 20)

struct backend {
  union {
    TSK_IMG_INFO info;
    char area[TSK_AREA_BYTES];
  } tsk;
  struct qcow2_disk *disk;
  struct backend *next; /* in the list of open images */
};

/* ---- The open images ------------------------------------------------------ */

static pthread_rwlock_t open_lock = PTHREAD_RWLOCK_INITIALIZER;
static struct backend *open_images;
/* The one that was found last, without the lock: programs read one image many times in a row. NULL:
   there is none, or it was closed. */
static struct backend *_Atomic found_last;

static void list_add(struct backend *backend)
{
  pthread_rwlock_wrlock(&open_lock);
  backend->next = open_images;
  open_images = backend;
  pthread_rwlock_unlock(&open_lock);
}

static void list_remove(const struct backend *backend)
{
  struct backend **link = &open_images;

  pthread_rwlock_wrlock(&open_lock);
  while (*link != backend)
    link = &(*link)->next;
  *link = backend->next;
  if (atomic_load(&found_last) == backend)
    atomic_store(&found_last, NULL);
  pthread_rwlock_unlock(&open_lock);
}

/* Our image, or NULL if another reader opened it. */
static struct backend *list_find(const TSK_IMG_INFO *img)
{
  struct backend *backend = atomic_load_explicit(&found_last, memory_order_acquire);

  if (backend != NULL && &backend->tsk.info == img)
    return backend;
  pthread_rwlock_rdlock(&open_lock);
  backend = open_images;
  while (backend != NULL && &backend->tsk.info != img)
    backend = backend->next;
  if (backend != NULL)
    atomic_store_explicit(&found_last, backend, memory_order_release);
  pthread_rwlock_unlock(&open_lock);
  return backend;
}

int tsk_qcow2_owns(const TSK_IMG_INFO *img)
{
  return list_find(img) != NULL;
}

struct qcow2_disk *tsk_qcow2_img_disk(const TSK_IMG_INFO *img)
{
  const struct backend *backend = list_find(img);

  return backend == NULL ? NULL : backend->disk;
}

const char *tsk_qcow2_warning(TSK_IMG_INFO *img, size_t index)
{
  const struct backend *backend = list_find(img);

  return backend == NULL ? NULL : qcow2_disk_warning(backend->disk, index);
}

/* ---- Errors --------------------------------------------------------------- */

/* Report the core's error as libtsk's. */
static void tsk_error_take(const struct qcow2_error *error, uint32_t otherwise)
{
  tsk_error_reset();
  switch ((enum qcow2_status) error->code) {
  case QCOW2_ERROR_NOT_QCOW2: tsk_error_set_errno(TSK_ERR_IMG_MAGIC); break;
  case QCOW2_ERROR_KEY: tsk_error_set_errno(TSK_ERR_IMG_PASSWD); break;
  case QCOW2_OK:
  case QCOW2_ERROR_IO:
  case QCOW2_ERROR_CORRUPT:
  case QCOW2_ERROR_TRUNCATED:
  case QCOW2_ERROR_UNSUPPORTED:
  case QCOW2_ERROR_DENIED:
  case QCOW2_ERROR_NOT_FOUND:
  case QCOW2_ERROR_NOMEM:
  case QCOW2_ERROR_ARGUMENT: tsk_error_set_errno(otherwise); break;
  }
  tsk_error_set_errstr("%s", error->message);
}

static void tsk_error_say(uint32_t code, const char *message)
{
  tsk_error_reset();
  tsk_error_set_errno(code);
  tsk_error_set_errstr("%s", message);
}

/* ---- Reading -------------------------------------------------------------- */

/* Check what tsk_img_read() checks, and clamp the length to the end of the image. Returns 0, or -1
   with an error set. */
static int check_read(const TSK_IMG_INFO *img, TSK_OFF_T off, const char *buf, size_t *len)
{
  char message[96];

  if (buf == NULL || off < 0 || (TSK_OFF_T) *len < 0) {
    tsk_error_say(TSK_ERR_IMG_ARG,
                  "qcow2: a read without a buffer, or with a negative offset or length");
    return -1;
  }
  if (off >= img->size) {
    snprintf(message, sizeof(message),
             "qcow2: read at offset %" PRIdOFF " of a disk of %" PRIdOFF " bytes", off, img->size);
    tsk_error_say(TSK_ERR_IMG_READ_OFF, message);
    return -1;
  }
  if ((TSK_OFF_T) *len > img->size - off)
    *len = (size_t) (img->size - off);
  return 0;
}

typedef int read_function(struct qcow2_disk *disk, uint64_t guest_offset, void *buffer,
                          size_t length, struct qcow2_error *error);

static ssize_t backend_read(struct backend *backend, TSK_OFF_T off, char *buf, size_t len,
                            read_function *read)
{
  struct qcow2_error error;

  if (check_read(&backend->tsk.info, off, buf, &len) != 0)
    return -1;
  if (read(backend->disk, (uint64_t) off, buf, len, &error) == 0)
    return (ssize_t) len;
  tsk_error_take(&error, TSK_ERR_IMG_READ);
  return -1;
}

ssize_t tsk_qcow2_read(TSK_IMG_INFO *img, TSK_OFF_T off, char *buf, size_t len)
{
  struct backend *backend = list_find(img);

  if (backend == NULL) {
    tsk_error_say(TSK_ERR_IMG_ARG, "tsk_qcow2_read: not an image that tsk_qcow2_open made");
    return -1;
  }
  return backend_read(backend, off, buf, len, qcow2_disk_read);
}

/* ---- Reporting damage ----------------------------------------------------- */

void tsk_qcow2_report_damage(TSK_IMG_INFO *img, tsk_qcow2_damage_sentence *report, void *context)
{
  struct backend *backend = list_find(img);

  if (backend != NULL)
    qcow2_disk_report_damage(backend->disk, report, context);
}

void tsk_qcow2_report_changes(TSK_IMG_INFO *img, tsk_qcow2_damage_sentence *report, void *context)
{
  struct backend *backend = list_find(img);

  if (backend != NULL)
    tsk_qcow2_disk_report_changes(backend->disk, report, context);
}

void tsk_qcow2_report_counts(void)
{
  pthread_rwlock_rdlock(&open_lock);
  for (struct backend *backend = open_images; backend != NULL; backend = backend->next)
    tsk_qcow2_disk_report_count(backend->disk);
  pthread_rwlock_unlock(&open_lock);
}

/* ---- libtsk's callbacks ---------------------------------------------------- */

/* Called by libtsk's own tsk_img_read(). In 4.11 to 4.15, except 4.13, that reports some errors as
   success, and gives what is in the buffer. */
static ssize_t callback_read(TSK_IMG_INFO *img, TSK_OFF_T off, char *buf, size_t len)
{
  return backend_read((struct backend *) img, off, buf, len, tsk_qcow2_disk_read_filled);
}

static void callback_imgstat(TSK_IMG_INFO *img, FILE *out)
{
  const struct backend *backend = (struct backend *) img;

  fprintf(out, "IMAGE FILE INFORMATION\n--------------------------------------------\n");
  fprintf(out, "Image Type: qcow2\n\nSize in bytes: %" PRIdOFF "\nSector size:\t%u\n\n", img->size,
          img->sector_size);
  fprintf(out, "QCOW2 INFORMATION\n--------------------------------------------\n");
  qcow2_disk_print(backend->disk, out);
}

static void backend_free(struct backend *backend)
{
  TSK_IMG_INFO *info = &backend->tsk.info;

  qcow2_disk_close(backend->disk);
  for (int i = 0; info->images != NULL && i < info->num_img; i++)
    free(info->images[i]);
  free(info->images);
  munmap(backend, sizeof(*backend));
}

static void callback_close(TSK_IMG_INFO *img)
{
  struct backend *backend = (struct backend *) img;

  list_remove(backend);
  backend_free(backend);
}

/* ---- Opening -------------------------------------------------------------- */

int tsk_qcow2_probe(const TSK_TCHAR *image)
{
  return qcow2_name_probe(image);
}

/* The Java classes of TSK throw an exception on a type that they don't know. */
static TSK_IMG_TYPE_ENUM reported_type(void)
{
  return dlsym(RTLD_DEFAULT, "JNI_GetCreatedJavaVMs") != NULL ? TSK_IMG_TYPE_RAW
                                                              : TSK_IMG_TYPE_QCOW2;
}

/* Keep the image names exactly as given: libtsk's users read them from the structure. */
static int keep_names(TSK_IMG_INFO *info, int num_img, const TSK_TCHAR *const images[],
                      struct qcow2_error *error)
{
  info->images = calloc((size_t) num_img, sizeof(info->images[0]));
  if (info->images == NULL)
    return tsk_qcow2_complain_nomem(error);
  for (info->num_img = 0; info->num_img < num_img; info->num_img++) {
    info->images[info->num_img] = strdup(images[info->num_img]);
    if (info->images[info->num_img] == NULL)
      return tsk_qcow2_complain_nomem(error);
  }
  return 0;
}

/* Make the image of a disk that was opened, or could not be. */
static int backend_fill(struct backend *backend, int num_img, const TSK_TCHAR *const images[],
                        unsigned int a_ssize, struct qcow2_error *error)
{
  TSK_IMG_INFO *info = &backend->tsk.info;
  int code = keep_names(info, num_img, images, error);
  uint64_t size;

  if (code != 0)
    return code;
  size = qcow2_view_size(qcow2_disk_view(backend->disk));
  if (size > INT64_MAX)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "the disk is larger than libtsk can address");
  if (tsk_img_open_external(info, (TSK_OFF_T) size, a_ssize == 0 ? 512 : a_ssize, callback_read,
                            callback_close, callback_imgstat) == NULL)
    return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "libtsk does not take the image: %s",
                           tsk_error_get());
  info->itype = reported_type();
  return 0;
}

static struct backend *backend_new(void)
{
  struct backend *backend = mmap(NULL, sizeof(*backend), PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  if (backend == MAP_FAILED) {
    tsk_error_say(TSK_ERR_IMG_OPEN, "out of memory");
    return NULL;
  }
  return backend;
}

/* Give out the image, if `code` says that it is whole, or free it and set libtsk's error. */
static TSK_IMG_INFO *backend_finish(struct backend *backend, int code,
                                    const struct qcow2_error *error)
{
  if (code != 0) {
    backend_free(backend);
    tsk_error_take(error, TSK_ERR_IMG_OPEN);
    return NULL;
  }
  list_add(backend);
  return &backend->tsk.info;
}

TSK_IMG_INFO *tsk_qcow2_open(int num_img, const TSK_TCHAR *const images[], unsigned int a_ssize)
{
  struct qcow2_error error;
  struct backend *backend;
  int code;

  tsk_error_reset();
  for (int i = 0; i < num_img || i == 0; i++)
    if (num_img <= 0 || images == NULL || images[i] == NULL) {
      tsk_error_say(TSK_ERR_IMG_NOFILE, "qcow2");
      return NULL;
    }
  if (a_ssize % 512 != 0) {
    tsk_error_say(TSK_ERR_IMG_ARG, "the sector size is not a multiple of 512");
    return NULL;
  }
  backend = backend_new();
  if (backend == NULL)
    return NULL;
  code = qcow2_disk_open((size_t) num_img, (const char *const *) images, NULL, &backend->disk,
                         &error);
  if (code == 0)
    code = backend_fill(backend, num_img, images, a_ssize, &error);
  return backend_finish(backend, code, &error);
}

TSK_IMG_INFO *tsk_qcow2_img_open_state(const struct qcow2_disk *image, const char *name,
                                       const struct tsk_qcow2_state *state)
{
  struct backend *backend;
  struct qcow2_error error;
  int code;

  tsk_error_reset();
  backend = backend_new();
  if (backend == NULL)
    return NULL;
  code = tsk_qcow2_disk_open_state(image, state, &backend->disk, &error);
  if (code == 0)
    code = backend_fill(backend, 1, &name, 0, &error);
  return backend_finish(backend, code, &error);
}
