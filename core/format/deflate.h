/* SPDX-License-Identifier: MIT */
/* The start of a raw deflate stream (RFC 1951). Pure: no I/O. */
#ifndef QCOW2_FORMAT_DEFLATE_H
#define QCOW2_FORMAT_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True if the stream is a single block of dynamic Huffman codes, whose description is valid and
   gives every bit pattern a meaning. For such a stream all decoders give the same bytes, or fail.
   Most compressed clusters have such a stream. Why this is checked: libdeflate, which is fast,
   accepts some damaged streams that zlib refuses, and could so give wrong bytes without an error.
   It gets only streams for which that is impossible (read/decompress.c). */
bool qcow2_deflate_is_plain(const uint8_t *stream, size_t length);

#endif
