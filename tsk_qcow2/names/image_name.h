/* SPDX-License-Identifier: MIT */
/*
 * Image names: IMAGE[@SNAPSHOT][,OPTION[=VALUE]]...
 *
 * IMAGE is the longest prefix that names an existing file. After it, ",," stands for a comma.
 */
#ifndef TSK_QCOW2_IMAGE_NAME_H
#define TSK_QCOW2_IMAGE_NAME_H

#include <stdbool.h>

#include "selection.h"
#include "name_text.h"

/* A parsed image name. Owns its strings. */
struct tsk_qcow2_name {
  char *path;
  struct tsk_qcow2_selection selection;     /* what is after "@" */
  struct tsk_qcow2_strings backing;         /* backing=, in order */
  struct tsk_qcow2_strings backing_formats; /* the format= of each of them; NULL: not given */
  struct tsk_qcow2_strings search;          /* search=, in order */
  struct tsk_qcow2_strings key_files;       /* key-file=, in order */
  char *data_file;                          /* data-file=; NULL: not given */
  char *data_format;                        /* its format=; NULL: not given */
  char **last_format;         /* while parsing: where a format= belongs; NULL: nowhere */
  uint64_t offset;            /* offset=: where in its file the image begins, bytes; 0: not given */
  uint32_t header_length;     /* header-length=: bytes; 0: not given */
  bool errors_zero;           /* errors=zero: what cannot be read reads as zeros, and is reported */
  bool vm_state;              /* vmstate: the snapshot's saved memory instead of its disk */
  bool residue;               /* residue: what nothing refers to, instead of a disk */
  bool only_kept;             /* only=kept: of a deleted snapshot, only what is surely its own */
  bool under_zeros;           /* under-zeros: zero, allocated clusters read as what is stored */
  bool has_layout;            /* one of the options that `layout` has was given */
  struct qcow2_layout layout; /* l1=, size=, cluster-bits=, extended-l2, compression=, luks= */
};

/* Parse. On success the caller frees with tsk_qcow2_name_free(). Errors: IO (no such file),
   ARGUMENT, UNSUPPORTED, NOMEM. */
int tsk_qcow2_name_parse(const char *text, struct tsk_qcow2_name *name, struct qcow2_error *error);

/* Parse what follows the IMAGE part (nothing, or a text that begins with '@' or ',') into a name
   whose path is set. Its other fields are kept. */
int tsk_qcow2_name_parse_rest(const char *rest, struct tsk_qcow2_name *name,
                              struct qcow2_error *error);

/* Find the length of the IMAGE part: the longest prefix, up to the end or to a '@' or ',', that
   names an existing file that is no directory. 0: there is none. Errors: NOMEM, IO (a file cannot
   be examined: a shorter prefix would be another one). */
int tsk_qcow2_name_path_length(const char *text, size_t *length, struct qcow2_error *error);

/* The same for a name whose paths start from `directory` and may not leave it: a prefix that is an
   absolute path, or has a component "..", is not even looked for. */
int tsk_qcow2_name_path_length_below(const char *directory, const char *text, size_t *length,
                                     struct qcow2_error *error);

/* Append a backing file, of which no format is given. Returns 0 or QCOW2_ERROR_NOMEM. */
int tsk_qcow2_name_add_backing(struct tsk_qcow2_name *name, const char *path,
                               struct qcow2_error *error);

/* All zero is allowed. */
void tsk_qcow2_name_free(struct tsk_qcow2_name *name);

#endif
