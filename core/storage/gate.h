/* SPDX-License-Identifier: MIT */
/*
 * The gate: the only place that opens files, and that decides which files named inside an image may
 * be opened.
 *
 * The user's word (a path they typed) is followed wherever it leads. An image's word is followed only
 * if it is a relative path without "..", that reaches a regular file below the image's own real
 * directory without passing a symbolic link. The word of a referrer (a file that leads to images) counts as an image's. Whatever is opened is opened read-only, without blocking
 * on a FIFO, and without changing its access time where the system allows that.
 *
 * On Windows an image's word is not followed (gate_windows.c).
 */
#ifndef QCOW2_STORAGE_GATE_H
#define QCOW2_STORAGE_GATE_H

#include <stdbool.h>

#include "../qcow2core.h"

/* A file that passed the gate. OPENED_FILE_NONE: none. */
struct qcow2_opened_file {
  struct qcow2_storage storage;
  char *path;     /* as resolved, for people; NULL for a caller's storage */
  char *warning;  /* about where it was found; NULL: none */
  int descriptor; /* of the file, owned by the storage; -1: not a file of the system */
  int directory;  /* descriptor of the real directory it lies in, where its own references start; -1: none */
  uint64_t allocated_size; /* bytes on its file system; 0: not known */
  bool is_regular; /* false: a block device, or not a file of the system */
  bool has_identity;
  uint64_t device, inode; /* on Windows: the volume's serial number, and the index on it */
};

#define OPENED_FILE_NONE { .descriptor = -1, .directory = -1 }

/* Close everything, and forget it. */
void qcow2_opened_file_close(struct qcow2_opened_file *file);

/* Close the directory only: no more references will be resolved from this file. */
void qcow2_opened_file_close_directory(struct qcow2_opened_file *file);

/* True if both are the same file of the system, under whatever names. */
bool qcow2_opened_file_same(const struct qcow2_opened_file *a, const struct qcow2_opened_file *b);

/* Open a path that is the user's word: a regular file or block device; on Windows a regular file, by a path in UTF-8. Errors: IO, NOMEM. */
int qcow2_gate_open_named(const char *path, struct qcow2_opened_file *file,
                          struct qcow2_error *error);

/* True if another regular file of that name (one component) lies in the directory of the file. On Windows never. */
bool qcow2_gate_lies_beside(const struct qcow2_opened_file *file, const char *name);

/* A file that an image, or a referrer, refers to, as the gate sees it. */
struct qcow2_reference {
  const struct qcow2_opened_file *from; /* the image or referrer that refers to it */
  const char *name;                     /* as written */
  const char *role;                     /* for messages: "backing file", "data file", "image", "key file" */
  const char *advice;                   /* for messages: what to add to the image name; "": nothing but search= helps; NULL: say
                                           nothing of that */
  const char *distrust;                 /* why the image's word does not count at all, as a clause; NULL: it does */
  const char *const *search_directories;
  size_t search_count;
  const struct qcow2_opened_file *search_from; /* the referrer that names the first of them, if any; they must lie below its directory */
  size_t search_from_count;                    /* so many */
  const char *search_variable; /* for messages: the environment variable that names the last of them; NULL: none does */
  size_t search_variable_count; /* so many */
  bool (*is_taken)(const void *context, const struct qcow2_opened_file *file); /* what a search passes over; NULL: nothing */
  const void *taken_context;
};

/* Open what an image refers to. Errors: DENIED (with the reason, and what to type), IO, NOMEM. */
int qcow2_gate_open_reference(const struct qcow2_reference *reference,
                              struct qcow2_opened_file *file, struct qcow2_error *error);

#endif
