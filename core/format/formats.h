/* SPDX-License-Identifier: MIT */
/* The formats in which a file can hold a disk: their names, and how such a file starts. Pure: no
   I/O. */
#ifndef QCOW2_FORMAT_FORMATS_H
#define QCOW2_FORMAT_FORMATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum qcow2_format_use {
  FORMAT_RAW,
  FORMAT_QCOW2,
  FORMAT_FOREIGN,   /* the caller's open_foreign may read it */
  FORMAT_PACKED,    /* a compressed file or an archive */
  FORMAT_UNREADABLE /* nothing here reads it */
};

struct qcow2_file_format {
  const char *name;       /* in image names, and for open_foreign: "vmdk" */
  const char *title;      /* for messages: "VMDK" */
  const char *driver;     /* what an image declares that refers to such a file; NULL: nothing */
  const char *extensions; /* of the names of such files, in lower case, each between dots; NULL:
                             none that says it */
  enum qcow2_format_use use;
  bool leads_further; /* such a file can lead to others */
  bool may_be_guests; /* a guest may well start its disk so */
};

/* How much of a file's start and of its end tells the format. */
#define FORMAT_START_BYTES 32u
#define FORMAT_END_BYTES 512u

/* The formats of that name, of that driver, and whose extension the path has (NULL path: none).
   NULL: there is none. */
const struct qcow2_file_format *qcow2_format_by_name(const char *name);
const struct qcow2_file_format *qcow2_format_by_driver(const char *driver);
const struct qcow2_file_format *qcow2_format_by_extension(const char *path);

/* True if the bytes (24 of them, or fewer if the file is shorter) start as qcow2 does, with a
   version of 2 or more. */
bool qcow2_format_is_qcow2(const uint8_t *start, size_t length);

/* The format of a file with this start (up to FORMAT_START_BYTES) and end (FORMAT_END_BYTES; NULL:
   it is shorter). NULL: none that is known, so it may be raw. */
const struct qcow2_file_format *qcow2_format_by_content(const uint8_t *start, size_t length,
                                                        const uint8_t *end);

/* If the name is that of the first part of a raw disk that was split into several, write the second
   part's to `next` (capacity `size`) and return true. The rules are those of The Sleuth Kit. */
bool qcow2_format_next_part(const char *first, char *next, size_t size);

#endif
