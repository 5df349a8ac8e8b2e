/* SPDX-License-Identifier: MIT */
/* As in plugin/backend.c: libtsk gets zero pages for whatever its version keeps in the structure,
   and our state is after them. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include "inner_image.h"

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
  struct qcow2_storage storage;         /* not owned */
  struct tsk_qcow2_inner_faults faults; /* any thread adds */
};

/* The length of what can be read from `offset` on, whole sectors at most; it is in the buffer. */
static size_t read_prefix(const struct qcow2_storage *storage, uint64_t offset, char *buffer,
                          size_t length)
{
  size_t done = 0;

  while (done < length) {
    size_t piece = length - done < SECTOR_BYTES ? length - done : SECTOR_BYTES;

    if (storage->read(storage->context, offset + done, buffer + done, piece) != 0)
      break;
    done += piece;
  }
  return done;
}

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
  length = read_prefix(storage, (uint64_t) offset, buffer, length);
  __atomic_add_fetch(length > 0 ? &image->faults.cut : &image->faults.failed, 1, __ATOMIC_RELAXED);
  return length > 0 ? (ssize_t) length : -1;
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

struct tsk_qcow2_inner_faults tsk_qcow2_inner_image_faults(
    const struct tsk_qcow2_inner_image *image)
{
  return (struct tsk_qcow2_inner_faults){
    .failed = __atomic_load_n(&image->faults.failed, __ATOMIC_RELAXED),
    .cut = __atomic_load_n(&image->faults.cut, __ATOMIC_RELAXED),
  };
}

void tsk_qcow2_inner_image_forget(struct tsk_qcow2_inner_image *image,
                                  struct tsk_qcow2_inner_faults faults)
{
  __atomic_store_n(&image->faults.failed, faults.failed, __ATOMIC_RELAXED);
  __atomic_store_n(&image->faults.cut, faults.cut, __ATOMIC_RELAXED);
}
