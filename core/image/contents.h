/* SPDX-License-Identifier: MIT */
/* How a backing or data file holds its disk: as qcow2, raw, or in a format that the caller opens.
   Never guessed: where the user's name for the file, the image's declaration and the file's first
   bytes disagree, that is an error which says how to settle it. */
#ifndef QCOW2_CONTENTS_H
#define QCOW2_CONTENTS_H

#include "../storage/gate.h"

/* Whose word a file was opened by. */
enum qcow2_named_by {
  NAMED_BY_CALLER,
  NAMED_BY_REFERRER,
  NAMED_BY_IMAGE
};

/* A file of the chain, as it was opened. */
struct qcow2_contents_question {
  enum qcow2_named_by named_by;
  bool is_data_file;    /* else a backing file */
  const char *word;     /* the format that the caller or the referrer gives it; NULL: none */
  const char *declared; /* the format that the image gives it; NULL: none */
};

struct qcow2_contents {
  bool is_qcow2;      /* else the file's storage gives the disk's bytes */
  bool is_probed;     /* it is qcow2 by its first bytes, and nobody says that it should be */
  const char *format; /* static: "qcow2", "raw", "vmdk" */
  uint64_t file_size; /* bytes; the disk's size is another in some formats */
  char warning[QCOW2_FOREIGN_WARNING_BYTES]; /* what whoever reads the image should know; empty:
                                                nothing */
};

/* Find out how the file holds its disk. If the caller opens its format, the file's storage is
   replaced by the caller's. The file is not closed, also after an error. Errors: DENIED, CORRUPT,
   UNSUPPORTED, ARGUMENT, IO, NOMEM, and the caller's. */
int qcow2_contents_open(const struct qcow2_contents_question *question,
                        const struct qcow2_open_options *options, struct qcow2_opened_file *file,
                        struct qcow2_contents *contents, struct qcow2_error *error);

#endif
