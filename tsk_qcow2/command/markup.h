/* SPDX-License-Identifier: MIT */
/* Text for HTML and SVG. Every text that is not a constant passes
   markup_write(). */
#ifndef TSK_QCOW2_MARKUP_H
#define TSK_QCOW2_MARKUP_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Write `length` bytes of UTF-8 so that they are nothing but text, also between quotes. Control
   characters, which no text should contain any more, become U+FFFD. */
void markup_write(FILE *out, const char *text, size_t length);

/* The same for a whole text. */
void markup_write_all(FILE *out, const char *text);

/* The same for a text that may be long: after `length_max` bytes, write an ellipsis instead. */
void markup_write_cut(FILE *out, const char *text, size_t length_max);

/* Write a number of bytes in a unit that fits: "1.5 GiB". */
#define MARKUP_SIZE_BYTES 32
char *markup_size(uint64_t bytes, char out[MARKUP_SIZE_BYTES]);

/* Write a share in percent: "12.3 %", "below 0.1 %". */
char *markup_share(uint64_t part, uint64_t whole, char out[MARKUP_SIZE_BYTES]);

#endif
