/* SPDX-License-Identifier: MIT */
/* What tests/symbolic/library.cpp has of libtsk: as much as the drop-in and program.cpp use. */
#ifndef TESTS_SYMBOLIC_LIBTSK_H
#define TESTS_SYMBOLIC_LIBTSK_H

#include <cstdint>
#include <cstdio>
#include <sys/types.h>

enum TSK_IMG_TYPE_ENUM {
  TSK_IMG_TYPE_DETECT = 0,
  TSK_IMG_TYPE_RAW = 1,
  TSK_IMG_TYPE_QCOW2 = 0x0800
};

/* The prefix that is the same in every version, and the callbacks. */
struct TSK_IMG_INFO {
  uint32_t tag;
  TSK_IMG_TYPE_ENUM itype;
  int64_t size;
  int num_img;
  unsigned int sector_size, page_size, spare_size;
  char **images;
  ssize_t (*read)(TSK_IMG_INFO *, int64_t, char *, size_t);
  void (*close)(TSK_IMG_INFO *);
  void (*imgstat)(TSK_IMG_INFO *, FILE *);
};

extern "C" {
TSK_IMG_INFO *tsk_img_open(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                           unsigned int sector_size);
TSK_IMG_INFO *tsk_img_open_external(void *info, int64_t size, unsigned int sector_size,
                                    ssize_t (*read)(TSK_IMG_INFO *, int64_t, char *, size_t),
                                    void (*close)(TSK_IMG_INFO *),
                                    void (*imgstat)(TSK_IMG_INFO *, FILE *));
ssize_t tsk_img_read(TSK_IMG_INFO *img, int64_t offset, char *buffer, size_t length);
void tsk_img_close(TSK_IMG_INFO *img);
void tsk_error_reset(void);
void tsk_error_set_errno(uint32_t code);
void tsk_error_set_errstr(const char *format, ...);
void tsk_error_set_errstr2(const char *format, ...);
const char *tsk_error_get(void);
}

class TskAuto
{
public:
  TskAuto();
  virtual ~TskAuto();
  virtual uint8_t openImage(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                            unsigned int sector_size);
  virtual uint8_t openImageUtf8(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                                unsigned int sector_size);
  virtual uint8_t openImageHandle(TSK_IMG_INFO *img);
  virtual void closeImage();
  /* Reads inside the library, as its file systems do. */
  ssize_t read(int64_t offset, char *buffer, size_t length);
  void resetErrorList();
  uint8_t registerError();
  int error_count;
  TSK_IMG_INFO *m_img_info;

protected:
  bool m_internalOpen;
};

class TskAutoDb : public TskAuto
{
public:
  TskAutoDb();
  virtual ~TskAutoDb();
  virtual uint8_t openImage(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                            unsigned int sector_size, const char *device_id);
  virtual uint8_t openImage(const char *device_id);
  virtual uint8_t openImageUtf8(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                                unsigned int sector_size, const char *device_id);
  virtual void closeImage();
  uint8_t startAddImage(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                        unsigned int sector_size, const char *device_id);
  uint8_t startAddImage(TSK_IMG_INFO *img, const char *device_id);
  int revertAddImage();
  int64_t commitAddImage();
};

class TskCaseDb
{
public:
  TskAutoDb *initAddImage();
  uint8_t addImage(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                   unsigned int sector_size);
};

/* No libtsk has this, so the drop-in cannot answer it. */
class TskFuture
{
public:
  static uint8_t examine(int num_img, const char *const images[], TSK_IMG_TYPE_ENUM type,
                         unsigned int sector_size);
};

#endif
