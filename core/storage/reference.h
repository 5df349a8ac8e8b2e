/* SPDX-License-Identifier: MIT */
/* The text of references: which of them the gate may follow, what to search for, and the errors for
   those that are refused. */
#ifndef QCOW2_STORAGE_REFERENCE_H
#define QCOW2_STORAGE_REFERENCE_H

#include "opened_file.h"

/* Enough for a directory in a message. */
#define REFERENCE_DIRECTORY_BYTES 336u
/* Enough for the name of a file, of any length that an image can give it. */
#define REFERENCE_NAME_BYTES 4096u

/* A reference of an image, or of a referrer, to another file. */
struct qcow2_reference {
  const struct qcow2_opened_file *from; /* the image or referrer that refers to it */
  const char *name;                     /* as written */
  const char *role;     /* for messages: "backing file", "data file", "image", "key file" */
  bool is_of_image;     /* an image refers to it: the caller can have it searched for */
  int help_options;     /* QCOW2_OPTION_...: those by which the caller can name the file itself */
  const char *distrust; /* a clause: why no reference of this image may be followed; NULL: it may */
  const char *const *search_directories;
  size_t search_count;
  /* The referrer that names the first `search_from_count` directories. They must be below its
     own. */
  const struct qcow2_opened_file *search_from;
  size_t search_from_count;
  /* For messages: the environment variable that names the last `search_variable_count` directories;
     NULL: none. */
  const char *search_variable;
  size_t search_variable_count;
  /* True for files that a search skips; NULL: it skips none. */
  bool (*is_taken)(const void *context, const struct qcow2_opened_file *file);
  const void *taken_context;
};

/* What follows the last "/". */
const char *qcow2_reference_base_name(const char *path);

/* The path of `name` in the directory that contains `from`. NULL: no memory. The caller frees. */
char *qcow2_reference_path_beside(const char *from, const char *name);

/* Why the text of the reference forbids to open it, as a clause; NULL: it does not. */
const char *qcow2_reference_problem(const struct qcow2_reference *reference);

/* The name to search for, in `out`: the last part of the reference, or of the file name in it.
   NULL: there is none. */
const char *qcow2_reference_searched_name(const struct qcow2_reference *reference,
                                          char out[REFERENCE_NAME_BYTES]);

/* Make the error that the reference is refused, for a reason (a clause), with what would help.
   Returns DENIED. */
int qcow2_reference_refuse(const struct qcow2_reference *reference, const char *reason,
                           struct qcow2_error *error);

/* Make the error that the operating system could not open it. Returns DENIED, or IO if another name
   would not help. */
int qcow2_reference_refuse_errno(const struct qcow2_reference *reference, int os_errno,
                                 struct qcow2_error *error);

/* Write to `out` one of the directories to search, as it is shown in messages; or what the user
   must do so that it is not searched. Both return `out`. */
const char *qcow2_reference_directory(const struct qcow2_reference *reference, size_t index,
                                      char out[REFERENCE_DIRECTORY_BYTES]);
const char *qcow2_reference_unsearch(const struct qcow2_reference *reference, size_t index,
                                     char out[REFERENCE_DIRECTORY_BYTES]);

#endif
