/* SPDX-License-Identifier: MIT */
/* As in plugin/backend.c: libtsk gets zero pages for whatever its version keeps in the structure,
   and our state is after them. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "inner_image.h"

#include <string.h>
#include <sys/mman.h>

#include "complain.h"

/* Twice the size of the largest structure so far, which has libtsk's 2 MiB cache inside. */
#define TSK_AREA_BYTES ((size_t) 4 << 20)
#define SECTOR_BYTES 512u

struct tsk_qcow2_inner_image {
  union {
    struct tsk_qcow2_img img;
    char area[TSK_AREA_BYTES];
  } tsk;
  struct qcow2_storage storage; /* not owned */
  uint64_t failures;            /* any thread adds */
};

static ssize_t callback_read(struct tsk_qcow2_img *img, int64_t offset, char *buffer, size_t length)
{
  struct tsk_qcow2_inner_image *image = (struct tsk_qcow2_inner_image *) (void *) img;
  const struct qcow2_storage *storage = &image->storage;

  if (offset < 0 || (uint64_t) offset >= storage->size)
    return -1;
  if (length > storage->size - (uint64_t) offset)
    length = (size_t) (storage->size - (uint64_t) offset);
  if (length == 0 || storage->read(storage->context, (uint64_t) offset, buffer, length) == 0)
    return (ssize_t) length;
  memset(buffer, 0, length);
  __atomic_add_fetch(&image->failures, 1, __ATOMIC_RELAXED);
  return -1;
}

static void callback_close(struct tsk_qcow2_img *img)
{
  munmap(img, sizeof(struct tsk_qcow2_inner_image));
}

static void callback_print(struct tsk_qcow2_img *img, void *out)
{
  (void) img;
  (void) out;
}

int tsk_qcow2_inner_image_open(const struct qcow2_storage *storage,
                               struct tsk_qcow2_inner_image **out, struct qcow2_error *error)
{
  const struct tsk_qcow2_libtsk *libtsk = tsk_qcow2_libtsk();
  struct tsk_qcow2_inner_image *image;

  if (storage->size > INT64_MAX)
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "the disk is larger than libtsk can address");
  image = mmap(NULL, sizeof(*image), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (image == MAP_FAILED)
    return tsk_qcow2_complain_nomem(error);
  image->storage = *storage;
  if (libtsk->img_open_external(&image->tsk.img, (int64_t) storage->size, SECTOR_BYTES,
                                callback_read, callback_close, callback_print) == NULL) {
    munmap(image, sizeof(*image));
    return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED, "libtsk does not take the disk: %s",
                           libtsk->error_get());
  }
  *out = image;
  return 0;
}

void tsk_qcow2_inner_image_close(struct tsk_qcow2_inner_image *image)
{
  if (image != NULL)
    tsk_qcow2_libtsk()->img_close(&image->tsk.img);
}

struct tsk_qcow2_img *tsk_qcow2_inner_image_img(struct tsk_qcow2_inner_image *image)
{
  return &image->tsk.img;
}

uint64_t tsk_qcow2_inner_image_failures(const struct tsk_qcow2_inner_image *image)
{
  return __atomic_load_n(&image->failures, __ATOMIC_RELAXED);
}

void tsk_qcow2_inner_image_forget(struct tsk_qcow2_inner_image *image, uint64_t failures)
{
  __atomic_store_n(&image->failures, failures, __ATOMIC_RELAXED);
}
