/* SPDX-License-Identifier: MIT */
/* The directory to which `selector` writes its files: all of them, or none. */
#ifndef TSK_QCOW2_SELECTOR_TARGET_H
#define TSK_QCOW2_SELECTOR_TARGET_H

#include "image_name.h"
#include "selector_file_name.h"

struct selector_target {
  int descriptor;
  const char *given;                /* as given, or "."; for messages */
  char *real;                       /* the real path, with a "/" at its end */
  struct tsk_qcow2_strings written; /* the files there */
  struct tsk_qcow2_strings lines;   /* the lines to print about them, once all are written */
  bool is_incomplete; /* of some states there may be none, or the lines may be wrong */
};

/* Those that return an int return EXIT_OK, or EXIT_FAILED after printing why. */

/* `given`: a directory, which must outlive the target. NULL: the working directory. */
int selector_target_open(const char *given, struct selector_target *target);
/* Only after a selector_target_open() that succeeded. */
void selector_target_close(struct selector_target *target);

/* Fail if the image is in the directory: nothing is written beside evidence unless the user asks
   for it. */
int selector_target_refuse_beside(const struct selector_target *target, const char *image);

/* Write a new file. `name` becomes its name: the stem, a number if that is taken, ".img". */
int selector_target_write(struct selector_target *target, const char *stem, const char *text,
                          char name[SELECTOR_FILE_NAME_BYTES]);

/* Keep a line, which is copied, until all files are written. */
int selector_target_note(struct selector_target *target, const char *line);

/* Print the lines if `status` is EXIT_OK. After a failure remove what was written, so that nothing
   is left half done. */
void selector_target_conclude(const struct selector_target *target, int status);

#endif
