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
  FORMAT_QCOW2,     /* qcow2, or qcow version 1 */
  FORMAT_FOREIGN,   /* the caller's open_foreign may read it */
  FORMAT_PACKED,    /* a compressed file or an archive */
  FORMAT_UNREADABLE /* nothing here reads it */
};

struct qcow2_file_format {
  const char *name;       /* in image names, and for open_foreign: "vmdk" */
  const char *title;      /* for messages: "VMDK" */
  const char *driver;     /* the format name by which an image declares such a file; NULL: there is
                             none */
  const char *extensions; /* file name extensions of this format, in lower case, each between dots.
                             NULL: it has none */
  enum qcow2_format_use use;
  bool leads_further; /* such a file can refer to further files */
  bool may_be_guests; /* a guest's raw disk may well start in this way */
};

/* How many bytes of a file's start and end are needed to recognise its format. */
#define FORMAT_START_BYTES 264u
#define FORMAT_END_BYTES 512u

/* The format with this name, with this driver, and with the extension of this path (which may be
   NULL). NULL: there is none. */
const struct qcow2_file_format *qcow2_format_by_name(const char *name);
const struct qcow2_file_format *qcow2_format_by_driver(const char *driver);
const struct qcow2_file_format *qcow2_format_by_extension(const char *path);

/* The version in the header of a qcow2 file with this start (24 bytes, or fewer if the file is
   shorter): 2 or more, or 1 for qcow version 1. 0: it is no such file. */
uint32_t qcow2_format_qcow_version(const uint8_t *start, size_t length);

/* The format of a file with this start (up to FORMAT_START_BYTES) and this end (FORMAT_END_BYTES;
   NULL if the file is shorter). NULL: no known format, so the file may be raw. */
const struct qcow2_file_format *qcow2_format_by_content(const uint8_t *start, size_t length,
                                                        const uint8_t *end);

/* True if the path's last part says that it is a qcow2 image that was packed: "NAME.qcow2.xz". */
bool qcow2_format_name_says_packed(const char *path);

/* If this is the name of the first part of a split raw disk, write the name of the second part to
   `next` (capacity `size`) and return true. The rules are those of The Sleuth Kit. */
bool qcow2_format_next_part(const char *first, char *next, size_t size);

#endif
