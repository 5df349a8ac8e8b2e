/* SPDX-License-Identifier: MIT */
/* Text that comes from an image: kept whole, and printed harmlessly. */
#ifndef QCOW2_BASE_TEXT_H
#define QCOW2_BASE_TEXT_H

#include "../qcow2core.h"

/* Enough for any escaped name in a message; longer ones are cut with "...". */
#define TEXT_ESCAPED_BYTES 256

/* A NUL-terminated copy of `length` bytes. NULL when there is no memory; the caller frees it. */
char *qcow2_text_copy(const void *text, size_t length);

/* As qcow2_text_copy() of a NUL-terminated string; NULL gives NULL. */
char *qcow2_text_duplicate(const char *text);

/* The length of the well-formed UTF-8 character at `bytes`, of which there are `left`, at least
   one; 0 if there is none (RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF). Its
   number is written to *code_point. */
size_t qcow2_text_character(const uint8_t *bytes, size_t left, uint32_t *code_point);

/* The escaped form of a NUL-terminated string, to stand between double quotes, in `out`; returns
   `out`. */
char *qcow2_text_quote(const char *text, char out[TEXT_ESCAPED_BYTES]);

/* "2026-03-01 10:12:00 UTC", from seconds since 1970-01-01 UTC, in `out`; returns `out`. */
#define TEXT_DATE_BYTES 32
char *qcow2_text_date(uint32_t seconds, char out[TEXT_DATE_BYTES]);

#endif
