/* SPDX-License-Identifier: MIT */
/*
 * tsk_qcow2.h - qcow2 images for programs that link The Sleuth Kit's library.
 *
 * tsk_qcow2_open() returns a TSK_IMG_INFO, as tsk_img_open() does. All other functions of libtsk
 * work with it:
 *
 *   const TSK_TCHAR *names[] = { "disk.qcow2@before-update" };
 *   TSK_IMG_INFO *img = tsk_qcow2_open(1, names, 0);
 *   if (img == NULL)
 *     tsk_error_print(stderr);
 *   else {
 *     TSK_FS_INFO *fs = tsk_fs_open_img(img, 1048576, TSK_FS_TYPE_DETECT);
 *     ...
 *     tsk_img_close(img);
 *   }
 *
 * Image names are described in tsk-qcow2-image-names(7): IMAGE[@SNAPSHOT][,OPTION[=VALUE]]...
 * Errors are reported as by libtsk's functions: they return NULL or -1, and tsk_error_get() gives
 * the reason.
 */
#ifndef TSK_QCOW2_H
#define TSK_QCOW2_H

#include <tsk/libtsk.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TSK_QCOW2_API __attribute__((visibility("default")))
#else
#define TSK_QCOW2_API
#endif

/* The image type. No version of libtsk uses this number. */
#define TSK_IMG_TYPE_QCOW2 ((TSK_IMG_TYPE_ENUM) 0x0800)

/* Open a qcow2 image, or a snapshot in it. `images` are image names: the first is that of the
   image, the others are its backing chain, the topmost file first. `a_ssize` is the sector size of
   the device in bytes: 0 (for 512) or a multiple of 512. The caller closes the image with
   tsk_img_close(). Its itype is TSK_IMG_TYPE_QCOW2; in a Java virtual machine it is
   TSK_IMG_TYPE_RAW, since TSK's Java classes know no other. NULL on error: TSK_ERR_IMG_MAGIC if it
   is not a qcow2 image, else TSK_ERR_IMG_OPEN, _ARG, _NOFILE or _PASSWD. */
TSK_QCOW2_API TSK_IMG_INFO *tsk_qcow2_open(int num_img, const TSK_TCHAR *const images[],
                                           unsigned int a_ssize);

/* Return 1 if the image name leads to a file that starts like a qcow2 image, to a selector file, or
   to a file for which this could not be found out; 2 if that file starts like an image of qcow
   version 1; else 0. After 1, do not try another reader: if tsk_qcow2_open() fails, it says why. */
TSK_QCOW2_API int tsk_qcow2_probe(const TSK_TCHAR *image);

/* Return 1 if tsk_qcow2_open() opened this image, and it is still open; else 0. Any thread. */
TSK_QCOW2_API int tsk_qcow2_owns(const TSK_IMG_INFO *img);

/* Read from an image that tsk_qcow2_open() opened, as tsk_img_read() does, but without libtsk's
   cache and lock: libtsk up to 4.15 hides some read errors, and gives zeros for the lost bytes.
   Reads `len` bytes at byte `off`, or fewer at the end of the image. If the image name contains
   "errors=zero", damaged ranges read as zeros. Returns the number of bytes that were read, or -1
   with TSK_ERR_IMG_READ, _READ_OFF or _ARG. Any thread. */
TSK_QCOW2_API ssize_t tsk_qcow2_read(TSK_IMG_INFO *img, TSK_OFF_T off, char *buf, size_t len);

/* A callback that gets a sentence in UTF-8, which is valid during the call. */
typedef void tsk_qcow2_damage_sentence(void *context, const char *sentence);

/* Call `report` once for each damaged range that a read meets, with the reason, and once with the
   number of these ranges when the image is closed. Without it the reasons are lost: libtsk and its
   tools replace or skip them, and with "errors=zero" in the image name such a read succeeds. Every
   thread that reads may call `report`. Call this function before the first read. For an image that
   tsk_qcow2_open() did not open it does nothing. */
TSK_QCOW2_API void tsk_qcow2_report_damage(TSK_IMG_INFO *img, tsk_qcow2_damage_sentence *report,
                                           void *context);

/* Sentences about what is wrong with the image, and about what its name lets it show. NULL if
   `index` is not below their number, or if tsk_qcow2_open() did not open the image. Owned by the
   image. */
TSK_QCOW2_API const char *tsk_qcow2_warning(TSK_IMG_INFO *img, size_t index);

#ifdef __cplusplus
}
#endif

#endif
