/* SPDX-License-Identifier: MIT */
/*
 * A small library with the functions and methods of libtsk that open and read images. It knows raw
 * images only. The tests link it with -Bsymbolic-functions, and let the drop-in load it as the real
 * libtsk.
 */
#include "libtsk.h"

#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

/* ---- Errors ------------------------------------------------------------------------- */

static char error_text[1024];
static char error_place[1024];

void tsk_error_reset(void)
{
  error_text[0] = error_place[0] = '\0';
}

void tsk_error_set_errno(uint32_t)
{
}

void tsk_error_set_errstr(const char *format, ...)
{
  va_list arguments;

  va_start(arguments, format);
  vsnprintf(error_text, sizeof(error_text), format, arguments);
  va_end(arguments);
}

void tsk_error_set_errstr2(const char *format, ...)
{
  va_list arguments;

  va_start(arguments, format);
  vsnprintf(error_place, sizeof(error_place), format, arguments);
  va_end(arguments);
}

const char *tsk_error_get(void)
{
  return error_text[0] == '\0' ? NULL : error_text;
}

/* ---- Images ------------------------------------------------------------------------- */

struct raw_image {
  TSK_IMG_INFO info;
  int descriptor;
};

static ssize_t raw_read(TSK_IMG_INFO *img, int64_t offset, char *buffer, size_t length)
{
  return pread(reinterpret_cast<raw_image *>(img)->descriptor, buffer, length, offset);
}

static void raw_close(TSK_IMG_INFO *img)
{
  close(reinterpret_cast<raw_image *>(img)->descriptor);
  free(img);
}

TSK_IMG_INFO *tsk_img_open_external(void *info, int64_t size, unsigned int sector_size,
                                    ssize_t (*read)(TSK_IMG_INFO *, int64_t, char *, size_t),
                                    void (*close)(TSK_IMG_INFO *),
                                    void (*imgstat)(TSK_IMG_INFO *, FILE *))
{
  TSK_IMG_INFO *img = static_cast<TSK_IMG_INFO *>(info);

  img->size = size;
  img->sector_size = sector_size == 0 ? 512 : sector_size;
  img->read = read;
  img->close = close;
  img->imgstat = imgstat;
  return img;
}

TSK_IMG_INFO *tsk_img_open(int, const char *const images[], TSK_IMG_TYPE_ENUM type,
                           unsigned int sector_size)
{
  raw_image *raw;

  tsk_error_reset();
  if (type != TSK_IMG_TYPE_DETECT && type != TSK_IMG_TYPE_RAW) {
    tsk_error_set_errstr("unsupported image type");
    return NULL;
  }
  raw = static_cast<raw_image *>(calloc(1, sizeof(*raw)));
  raw->descriptor = open(images[0], O_RDONLY | O_CLOEXEC);
  tsk_img_open_external(raw, lseek(raw->descriptor, 0, SEEK_END), sector_size, raw_read, raw_close,
                        NULL);
  raw->info.itype = TSK_IMG_TYPE_RAW;
  return &raw->info;
}

/* As in libtsk 4.11 to 4.15, an error is success unless whole sectors are read. */
ssize_t tsk_img_read(TSK_IMG_INFO *img, int64_t offset, char *buffer, size_t length)
{
  size_t whole = (length + img->sector_size - 1) / img->sector_size * img->sector_size;
  char *sectors;
  ssize_t count;

  if (whole == length)
    return img->read(img, offset, buffer, length);
  sectors = static_cast<char *>(malloc(whole));
  memset(sectors, 'M', whole); /* memory that was not read */
  count = img->read(img, offset, sectors, whole);
  memcpy(buffer, sectors, length);
  free(sectors);
  return count > 0 && count < static_cast<ssize_t>(length) ? count : static_cast<ssize_t>(length);
}

void tsk_img_close(TSK_IMG_INFO *img)
{
  img->close(img);
}

/* ---- TskAuto ------------------------------------------------------------------------ */

TskAuto::TskAuto() : error_count(0), m_img_info(NULL), m_internalOpen(false)
{
}

TskAuto::~TskAuto()
{
  TskAuto::closeImage();
}

uint8_t TskAuto::openImage(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                           unsigned int sector_size)
{
  openImageHandle(tsk_img_open(num_img, images, type, sector_size));
  m_internalOpen = true;
  return m_img_info == NULL;
}

uint8_t TskAuto::openImageUtf8(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                               unsigned int sector_size)
{
  return TskAuto::openImage(num_img, images, type, sector_size);
}

uint8_t TskAuto::openImageHandle(TSK_IMG_INFO *img)
{
  resetErrorList();
  TskAuto::closeImage();
  m_img_info = img;
  m_internalOpen = false;
  return 0;
}

void TskAuto::closeImage()
{
  if (m_img_info != NULL && m_internalOpen)
    tsk_img_close(m_img_info);
  m_img_info = NULL;
}

ssize_t TskAuto::read(int64_t offset, char *buffer, size_t length)
{
  return tsk_img_read(m_img_info, offset, buffer, length);
}

void TskAuto::resetErrorList()
{
  error_count = 0;
}

uint8_t TskAuto::registerError()
{
  error_count++;
  fprintf(stderr, "library: %s (%s)\n", error_text, error_place);
  return 0;
}

/* ---- TskAutoDb and TskCaseDb ---------------------------------------------------------- */

TskAutoDb::TskAutoDb()
{
}

TskAutoDb::~TskAutoDb()
{
  TskAutoDb::closeImage();
}

uint8_t TskAutoDb::openImage(const char *device_id)
{
  if (m_img_info == NULL)
    return 1;
  printf("added: type %x, %lld bytes, device %s\n", static_cast<unsigned>(m_img_info->itype),
         static_cast<long long>(m_img_info->size), device_id == NULL ? "-" : device_id);
  return 0;
}

uint8_t TskAutoDb::openImageUtf8(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                                 unsigned int sector_size, const char *device_id)
{
  if (TskAuto::openImageUtf8(num_img, images, type, sector_size) != 0)
    return 1;
  return openImage(device_id);
}

uint8_t TskAutoDb::openImage(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                             unsigned int sector_size, const char *device_id)
{
  return openImageUtf8(num_img, images, type, sector_size, device_id);
}

void TskAutoDb::closeImage()
{
  TskAuto::closeImage();
}

uint8_t TskAutoDb::startAddImage(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                                 unsigned int sector_size, const char *device_id)
{
  if (openImage(num_img, images, type, sector_size, device_id) == 0)
    return 0;
  registerError();
  return 1;
}

uint8_t TskAutoDb::startAddImage(TSK_IMG_INFO *img, const char *device_id)
{
  openImageHandle(img);
  return openImage(device_id);
}

int TskAutoDb::revertAddImage()
{
  printf("reverted\n");
  return 0;
}

int64_t TskAutoDb::commitAddImage()
{
  printf("committed\n");
  return 0;
}

TskAutoDb *TskCaseDb::initAddImage()
{
  return new TskAutoDb;
}

uint8_t TskCaseDb::addImage(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                            unsigned int sector_size)
{
  TskAutoDb process;

  if (process.startAddImage(num_img, images, type, sector_size, NULL) != 0) {
    process.revertAddImage();
    return 1;
  }
  return process.commitAddImage() != 0;
}

/* ---- What the drop-in does not know ----------------------------------------------------- */

uint8_t TskFuture::examine(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                           unsigned int sector_size)
{
  TSK_IMG_INFO *img = tsk_img_open(num_img, images, type, sector_size);

  if (img != NULL)
    printf("type %x\n", static_cast<unsigned>(img->itype));
  return img == NULL;
}
