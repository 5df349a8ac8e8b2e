/* SPDX-License-Identifier: MIT */
/* Decompressing the stream of one cluster ("Compressed Clusters Descriptor"). */
#ifndef QCOW2_READ_DECOMPRESS_H
#define QCOW2_READ_DECOMPRESS_H

#include <stdbool.h>

#include "../qcow2core.h"

/* The state of the decompression libraries, which is kept for the next cluster. One thread at a
   time uses it. */
struct qcow2_decompressor;

/* NULL: no memory. The caller frees it with qcow2_decompressor_free(). */
struct qcow2_decompressor *qcow2_decompressor_new(void);

/* NULL is allowed. */
void qcow2_decompressor_free(struct qcow2_decompressor *decompressor);

/* Where a stream ends. */
struct qcow2_stream_end {
  size_t length;  /* bytes: up to its end or, if it would go on, as far as it was needed */
  bool has_ended; /* false: it would go on */
};

/* Fill `output` with exactly `output_length` bytes from the stream. What follows the stream in
   `input` is not looked at: its exact length is not recorded. *end (NULL is allowed) says where it
   ends, on success. Memory has a bound that does not depend on the stream. Errors: CORRUPT (it is
   damaged or too short), NOMEM.

   A deflate stream that libdeflate reads to its end is taken as it reads it, and zlib decides about
   all others. So zlib would refuse some damaged streams that are read: those with a code that RFC
   1951 does not define, or an incomplete set of codes. SECURITY.md says how many. */
int qcow2_decompress(struct qcow2_decompressor *decompressor, enum qcow2_compression compression,
                     const uint8_t *input, size_t input_length, uint8_t *output,
                     size_t output_length, struct qcow2_stream_end *end, struct qcow2_error *error);

#endif
