/* SPDX-License-Identifier: MIT */
/*
 * qcow2names.h - qcow2 images by the names that users type: IMAGE[@SNAPSHOT][,OPTION[=VALUE]]...
 *
 * Part of libqcow2core, for programs that open what a user names, as the Sleuth Kit tools do.
 * tsk-qcow2-image-names(7) describes image names, and the environment variables that add to them.
 * Errors and threads are as in qcow2core.h. Error messages also say what to add to the image name.
 * A name is trusted: its paths are followed wherever they lead. Paths in an image are checked as
 * qcow2core.h says, and so are paths in a selector file that this user did not write.
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

/* An image that was opened by its names, and the view that the names select. */
struct qcow2_disk;

/* Open the image that names[0] names. The other names are its backing chain, the topmost file
   first. `count` is at least 1. On success the caller frees *disk with qcow2_disk_close(). Backing
   and data files can be in other formats. EWF (E01) is read with libewf, which is loaded when it is
   needed. For the others `open_foreign` is called, with a NULL context. If it is NULL, they are
   read with the libtsk that the program has loaded, else with the libtsk that this library was
   built for, which is then loaded. If there is none, such files are refused. Errors: those of
   qcow2_image_open(), qcow2_snapshot_find() and qcow2_view_open_as(). */
QCOW2_API int qcow2_disk_open(size_t count, const char *const names[],
                              qcow2_open_foreign *open_foreign, struct qcow2_disk **disk,
                              struct qcow2_error *error);

/* Close the view and the image, and free `disk`. NULL is allowed. */
QCOW2_API void qcow2_disk_close(struct qcow2_disk *disk);

/* The image and the view that were opened. Owned by `disk`: do not close them. */
QCOW2_API struct qcow2_image *qcow2_disk_image(const struct qcow2_disk *disk);
QCOW2_API struct qcow2_view *qcow2_disk_view(const struct qcow2_disk *disk);

/* Sentences about what is wrong with the image, and about what the name lets the view show: those
   of qcow2_warning(), then those of qcow2_view_warning(). NULL if `index` is not below their
   number. Owned by `disk`. */
QCOW2_API const char *qcow2_disk_warning(const struct qcow2_disk *disk, size_t index);

/* Return 1 if the name chose a state that the image no longer has (a deleted snapshot, or an
   abandoned state), or an image in the disk of such a state; else 0. */
QCOW2_API int qcow2_disk_is_recovered(const struct qcow2_disk *disk);

/* As qcow2_view_read(). If the name contains "errors=zero", it is as qcow2_view_salvage(): damaged
   ranges read as zeros. Any thread. */
QCOW2_API int qcow2_disk_read(struct qcow2_disk *disk, uint64_t guest_offset, void *buffer,
                              size_t length, struct qcow2_error *error);

/* A callback that gets a sentence in UTF-8, which is valid during the call. */
typedef void qcow2_damage_sentence(void *context, const char *sentence);

/* Call `report` once for each damaged range that qcow2_disk_read() meets, with the reason, and once
   with the number of these ranges when `disk` is closed; and then once for each file that changed
   while it was open, as qcow2_layer_changed() finds out. Every thread that reads may call it. Call
   this function before the first read. */
QCOW2_API void qcow2_disk_report_damage(struct qcow2_disk *disk, qcow2_damage_sentence *report,
                                        void *context);

/* Print what is known about the image, with its snapshots and warnings, in lines "Name: value".
   Text from the image is escaped. */
QCOW2_API void qcow2_disk_print(const struct qcow2_disk *disk, FILE *out);

/* Return 1 if the image name leads to a file that starts like a qcow2 image, to a selector file, or
   to a file for which this could not be found out; 2 if that file starts like an image of qcow
   version 1; else 0. After 1, do not try another reader: if qcow2_disk_open() fails, it says why.
 */
QCOW2_API int qcow2_name_probe(const char *name);

#ifdef __cplusplus
}
#endif

#endif
