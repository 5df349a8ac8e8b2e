/* SPDX-License-Identifier: MIT */
/*
 * tsk_qcow2.h - qcow2 images for programs that link The Sleuth Kit's library.
 *
 * tsk_qcow2_open() gives a TSK_IMG_INFO like tsk_img_open() does; everything else of libtsk then
 * works on it:
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
 * Errors are reported as libtsk's functions do: NULL or -1, with tsk_error_get() and its kin for
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

/* The image type: free in every version of libtsk. */
#define TSK_IMG_TYPE_QCOW2 ((TSK_IMG_TYPE_ENUM) 0x0800)

/* Open a qcow2 image, or a snapshot in it. `images` are image names: the first is the image, more
   of them are its backing chain, the topmost first. `a_ssize` is the device's sector size in bytes:
   0 (for 512) or a multiple of 512. The caller closes the image with tsk_img_close(). Its itype is
   TSK_IMG_TYPE_QCOW2, or TSK_IMG_TYPE_RAW inside a Java virtual machine, whose TSK classes know no
   other. NULL on error: TSK_ERR_IMG_MAGIC if it is not a qcow2 image, else TSK_ERR_IMG_OPEN, _ARG,
   _NOFILE or _PASSWD. */
TSK_QCOW2_API TSK_IMG_INFO *tsk_qcow2_open(int num_img, const TSK_TCHAR *const images[],
                                           unsigned int a_ssize);

/* 1 if the image name leads to a file that starts as a qcow2 image (version 2 or later) does, or of
   which that could not be found out; else 0. After 1 no other reader should be tried: if
   tsk_qcow2_open() fails, it says why. */
TSK_QCOW2_API int tsk_qcow2_probe(const TSK_TCHAR *image);

/* 1 if tsk_qcow2_open() made this image, and it is not closed; else 0. Any thread. */
TSK_QCOW2_API int tsk_qcow2_owns(const TSK_IMG_INFO *img);

/* What tsk_img_read() does, for an image that tsk_qcow2_open() made, without libtsk's small cache
   and lock: stock libtsk up to 4.15 turns some read errors into success, with zeros for what is
   lost. Reads up to `len` bytes at byte `off`: fewer only at the end of the image. With
   "errors=zero" in the image name, what is damaged reads as zeros. Returns the number of bytes
   read, or -1 with TSK_ERR_IMG_READ, _READ_OFF or _ARG. Any number of threads. */
TSK_QCOW2_API ssize_t tsk_qcow2_read(TSK_IMG_INFO *img, TSK_OFF_T off, char *buf, size_t len);

/* Gets a sentence in UTF-8, which lasts as long as the call. */
typedef void tsk_qcow2_damage_sentence(void *context, const char *sentence);

/* From now on have each damaged range of the image that a read meets told once, with the reason,
   and when the image is closed how many there were: libtsk and its tools replace such reasons by
   words of their own, or pass over them, and with "errors=zero" in the image name a read of a
   damaged range succeeds. `report` may be called by any thread that reads. Call this before the
   first read. An image that is not ours is left alone. */
TSK_QCOW2_API void tsk_qcow2_report_damage(TSK_IMG_INFO *img, tsk_qcow2_damage_sentence *report,
                                           void *context);

/* Sentences about what is wrong with the image though it could be opened, and about what its name
   has it show; NULL past the last one, or if the image is not ours. Owned by the image. */
TSK_QCOW2_API const char *tsk_qcow2_warning(TSK_IMG_INFO *img, size_t index);

#ifdef __cplusplus
}
#endif

#endif
