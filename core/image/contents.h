/* SPDX-License-Identifier: MIT */
/* The format of a backing or data file: qcow2, raw, or one that the caller opens. It is not
   guessed: if the name that the user gave, the image's declaration and the file's first bytes
   disagree, that is an error, and the user must give the format. */
#ifndef QCOW2_CONTENTS_H
#define QCOW2_CONTENTS_H

#include "../format/formats.h"
#include "../storage/gate.h"

/* Who named a file. */
enum qcow2_named_by {
  NAMED_BY_CALLER,
  NAMED_BY_REFERRER,
  NAMED_BY_IMAGE
};

/* What is known about a file when its format is to be found out. */
struct qcow2_contents_question {
  enum qcow2_named_by named_by;
  bool is_data_file;    /* else a backing file, */
  bool is_outer;        /* or the disk around an image */
  const char *given;    /* the format that the options give it; NULL: none */
  const char *declared; /* the format that the image above declares; NULL: none */
};

struct qcow2_contents {
  bool is_qcow2;      /* else the bytes of the file's storage are those of the disk */
  bool is_probed;     /* it is qcow2 only by its first bytes: no image declares it */
  const char *format; /* static: "qcow2", "raw", "vmdk" */
  uint64_t file_size; /* bytes; the disk's size is another in some formats */
  char warning[QCOW2_FOREIGN_WARNING_BYTES]; /* from open_foreign; empty: none */
};

/* Recognise a format by the first and last bytes. NULL: no known format, so it may be raw. It is an
   error if these bytes cannot be read: then the file must not be taken for raw. Errors: IO. */
int qcow2_contents_recognise(const struct qcow2_storage *storage,
                             const struct qcow2_file_format **format, struct qcow2_error *error);

/* Find out the format of the file. If the caller opens files of this format, the caller's storage
   replaces that of the file. The file is not closed, also after an error. Errors: DENIED, CORRUPT,
   UNSUPPORTED, ARGUMENT, IO, NOMEM, and those of open_foreign. */
int qcow2_contents_open(const struct qcow2_contents_question *question,
                        const struct qcow2_open_options *options, struct qcow2_opened_file *file,
                        struct qcow2_contents *contents, struct qcow2_error *error);

#endif
