/* SPDX-License-Identifier: MIT */
/* References as text: which the gate may follow, where to search, and what to say of those that are
   refused. */
#ifndef QCOW2_STORAGE_REFERENCE_H
#define QCOW2_STORAGE_REFERENCE_H

#include "opened_file.h"

/* Enough for a directory to search in a message. */
#define REFERENCE_DIRECTORY_BYTES 336u

/* A file that an image, or a referrer, refers to, as the gate sees it. */
struct qcow2_reference {
  const struct qcow2_opened_file *from; /* the image or referrer that refers to it */
  const char *name;                     /* as written */
  const char *role;     /* for messages: "backing file", "data file", "image", "key file" */
  bool is_of_image;     /* an image refers to it: the caller can have it searched for */
  int help_options;     /* QCOW2_OPTION_...: those by which the caller can name the file itself */
  const char *distrust; /* why the image's word does not count at all, as a clause; NULL: it does */
  const char *const *search_directories;
  size_t search_count;
  const struct qcow2_opened_file *search_from; /* the referrer that names the first of them, if any;
                                                  they must lie below its directory */
  size_t search_from_count;                    /* so many */
  const char *search_variable;  /* for messages: the environment variable that names the last of
                                   them; NULL: none does */
  size_t search_variable_count; /* so many */
  bool (*is_taken)(
      const void *context,
      const struct qcow2_opened_file *file); /* what a search passes over; NULL: nothing */
  const void *taken_context;
};

/* What follows the last "/". */
const char *qcow2_reference_base_name(const char *path);

/* Why the reference's text alone forbids to open it; NULL: it does not. */
const char *qcow2_reference_problem(const struct qcow2_reference *reference);

/* The reference's base name, to be looked for in the user's directories. NULL: it has none. */
const char *qcow2_reference_searched_name(const struct qcow2_reference *reference);

/* Refuse the reference for the given reason (a clause). Returns DENIED, with what would help. */
int qcow2_reference_refuse(const struct qcow2_reference *reference, const char *reason,
                           struct qcow2_error *error);

/* Refuse it for what the system says. Returns DENIED, or IO if another name would not help. */
int qcow2_reference_refuse_errno(const struct qcow2_reference *reference, int os_errno,
                                 struct qcow2_error *error);

/* Describe one of the directories to search, in `out`, or say what to do so that it is not
   searched. Both return `out`. */
const char *qcow2_reference_directory(const struct qcow2_reference *reference, size_t index,
                                      char out[REFERENCE_DIRECTORY_BYTES]);
const char *qcow2_reference_unsearch(const struct qcow2_reference *reference, size_t index,
                                     char out[REFERENCE_DIRECTORY_BYTES]);

#endif
