/* SPDX-License-Identifier: MIT */
/* Old compressed streams, written out: a file for each, of what it gives. */
#ifndef TSK_QCOW2_STREAM_FILES_H
#define TSK_QCOW2_STREAM_FILES_H

#include <qcow2core.h>
#include <stdbool.h>

/* No more is written: an image can be made to hold billions of streams. */
#define STREAM_FILES_MAX UINT64_C(100000)
#define STREAM_FILES_BYTES_MAX (UINT64_C(16) << 30)

struct stream_files {
  const char *directory; /* as given; NULL: nothing is to be written */
  int descriptor;        /* of the directory */
  uint64_t count, bytes; /* written */
  bool is_full;          /* one of the limits was reached */
  bool has_failed;       /* a file could not be written: that was complained about */
};

/* Make the directory, or take it if it exists and is empty. Returns EXIT_OK, or EXIT_FAILED after
   complaining. The caller closes with stream_files_close(). */
int stream_files_open(struct stream_files *files, const char *directory);

/* Write a stream's cluster. qcow2_residue_report_stream, whose context has the files: returns
   whether to stop. */
bool stream_files_write(struct stream_files *files, const struct qcow2_residue_stream *stream);

/* All zero is allowed. */
void stream_files_close(struct stream_files *files);

#endif
