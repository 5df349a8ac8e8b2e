/* SPDX-License-Identifier: MIT */
/*
 * The text of a selector file: an image name in a file, for programs in which one cannot be typed.
 *
 *   TSK-QCOW2-SELECTOR 1
 *   ./disk.qcow2@id=1
 *   MAC 64 hexadecimal digits
 *
 * The image name's paths are relative to the selector's own real directory, and stay below it. The
 * third line is there only if they do not: it shows that this user wrote the selector
 * (selector_mac.h). Pure: bytes in, struct out.
 */
#ifndef TSK_QCOW2_SELECTOR_H
#define TSK_QCOW2_SELECTOR_H

#include <qcow2core.h>
#include <stdbool.h>

/* Enough for several of the longest paths. */
#define TSK_QCOW2_SELECTOR_BYTES_MAX ((size_t) 64 << 10)
/* The number of bytes at a file's start that show whether it is a selector. */
#define TSK_QCOW2_SELECTOR_START_BYTES ((size_t) 19)
#define TSK_QCOW2_MAC_BYTES 32

struct tsk_qcow2_selector {
  char *name; /* the image name, as written */
  bool has_mac;
  uint8_t mac[TSK_QCOW2_MAC_BYTES];
};

/* True if a file that starts with these bytes is a selector, of whatever version. */
bool tsk_qcow2_selector_starts(const void *bytes, size_t length);

/* Parse a whole file. The caller frees with tsk_qcow2_selector_free(), on success only. Errors:
   UNSUPPORTED (another version), ARGUMENT, NOMEM. The message continues the sentence "the selector
   file ...". */
int tsk_qcow2_selector_parse(const void *bytes, size_t length, struct tsk_qcow2_selector *selector,
                             struct qcow2_error *error);

void tsk_qcow2_selector_free(struct tsk_qcow2_selector *selector);

/* The selector as a file's text. NULL: no memory; the caller frees. */
char *tsk_qcow2_selector_format(const struct tsk_qcow2_selector *selector);

/* The text that a MAC covers: everything before its line, and the real directory of the selector,
   so that the MAC is not valid elsewhere. NULL: no memory; the caller frees. */
char *tsk_qcow2_selector_signed_text(const char *name, const char *directory);

#endif
