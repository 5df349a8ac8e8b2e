/* SPDX-License-Identifier: MIT */
/*
 * qcow2names.h - qcow2 images by the names that users type: IMAGE[@SNAPSHOT][,OPTION[=VALUE]]...
 *
 * Part of libqcow2core, for programs that open what a user names, as the Sleuth Kit tools do.
 * tsk-qcow2-image-names(7) describes image names, and the environment variables that add to them.
 * Errors, threads and trust are as in qcow2core.h: a name is the user's word, and is followed
 * wherever it leads; what an image says of other files is checked, and so is what a selector file
 * says that the user did not write.
 *
 *   const char *name = "disk.qcow2@before-update";
 *   struct qcow2_disk *disk;
 *   struct qcow2_error error;
 *   char block[512];
 *
 *   if (qcow2_disk_open(1, &name, NULL, &disk, &error) != 0 ||
 *       qcow2_disk_read(disk, 0, block, sizeof(block), &error) != 0)
 *     errx(1, "%s", error.message);
 *   qcow2_disk_close(disk);
 */
#ifndef QCOW2NAMES_H
#define QCOW2NAMES_H

#include <qcow2core.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An image opened by its names, and the view of it that they choose. */
struct qcow2_disk;

/* Open the image that names[0] says; further names are its backing chain, the topmost first.
   `count` is at least 1. Backing and data files in other formats: EWF (E01) is read by libewf,
   which is loaded when it is needed. The others are read by `open_foreign` (called with a NULL
   context), for programs with a libtsk of their own; NULL: by the libtsk that the program has
   loaded, else by the one that this library was built for, which is loaded. Where that cannot be
   had they are refused. On success the caller frees *disk with qcow2_disk_close(). Errors: those of
   qcow2_image_open(), qcow2_snapshot_find() and qcow2_view_open(). */
QCOW2_API int qcow2_disk_open(size_t count, const char *const names[],
                              qcow2_open_foreign *open_foreign, struct qcow2_disk **disk,
                              struct qcow2_error *error);

/* Close the view and the image, and free. NULL is allowed. */
QCOW2_API void qcow2_disk_close(struct qcow2_disk *disk);

/* What was opened. Owned by `disk`: to be closed with it only. */
QCOW2_API struct qcow2_image *qcow2_disk_image(const struct qcow2_disk *disk);
QCOW2_API struct qcow2_view *qcow2_disk_view(const struct qcow2_disk *disk);

/* Sentences about what is wrong with the image though it could be opened, and about what the name
   has the disk show: those of qcow2_warning(), then those of qcow2_view_warning(). NULL past the
   last one. Owned by `disk`. */
QCOW2_API const char *qcow2_disk_warning(const struct qcow2_disk *disk, size_t index);

/* As qcow2_view_read(); but if the name says "errors=zero", what is damaged reads as zeros, as with
   qcow2_view_salvage(). Any thread. */
QCOW2_API int qcow2_disk_read(struct qcow2_disk *disk, uint64_t guest_offset, void *buffer,
                              size_t length, struct qcow2_error *error);

/* Gets a sentence in UTF-8, which lasts as long as the call. */
typedef void qcow2_damage_sentence(void *context, const char *sentence);

/* From now on have each damaged range that qcow2_disk_read() meets told once, with the reason, and
   how many there were when `disk` is closed. `report` may be called by any thread that reads. Call
   this before the first read. */
QCOW2_API void qcow2_disk_report_damage(struct qcow2_disk *disk, qcow2_damage_sentence *report,
                                        void *context);

/* Print what is known of the image, a line each, as "Name: value", with its snapshots and warnings.
   Names that the image's maker chose are escaped. */
QCOW2_API void qcow2_disk_print(const struct qcow2_disk *disk, FILE *out);

/* 1 if the image name leads to a file that starts as a qcow2 image (version 2 or later) does, to a
   selector file, or to one of which that could not be found out; else 0. After 1 no other reader
   should be tried: qcow2_disk_open() says what is wrong. */
QCOW2_API int qcow2_name_probe(const char *name);

#ifdef __cplusplus
}
#endif

#endif
