/* SPDX-License-Identifier: MIT */
/*
 * One compressed cluster. The first byte chooses the compression and the cluster size, the rest is
 * the stream. What comes out must be what zlib, or zstd's streaming interface, make of the same
 * stream. There is one deviation: what libdeflate reads to the stream's end is not shown to zlib,
 * which refuses some of these streams.
 */
#include "../../core/read/decompress.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif

#include "fuzz.h"

#define CLUSTER_BITS_MIN 9
/* Larger windows would only cost the oracle's memory. */
#define WINDOW_LOG_MAX 23

struct outcome {
  bool is_known; /* the oracle knows */
  bool is_ok;
  uint8_t *bytes; /* a cluster */
};

/* Fill the whole output from a raw deflate stream, by zlib alone. */
static struct outcome inflate_oracle(struct fuzz_input input, size_t length)
{
  struct outcome outcome = { .is_known = true, .bytes = calloc(1, length) };
  z_stream stream = { .next_in = (Bytef *) (uintptr_t) input.bytes,
                      .avail_in = (uInt) input.length };
  int status;

  FUZZ_CHECK(outcome.bytes != NULL && inflateInit2(&stream, -15) == Z_OK);
  stream.next_out = outcome.bytes;
  stream.avail_out = (uInt) length;
  status = inflate(&stream, Z_FINISH);
  outcome.is_ok = (status == Z_STREAM_END || status == Z_BUF_ERROR) && stream.avail_out == 0;
  inflateEnd(&stream);
  return outcome;
}

/* If zlib refuses a stream that libdeflate alone reads to its end, the outcome is that of
   libdeflate. */
static void inflate_as_libdeflate(struct fuzz_input input, size_t length, struct outcome *outcome)
{
#ifdef HAVE_LIBDEFLATE
  struct libdeflate_decompressor *libdeflate = libdeflate_alloc_decompressor();

  FUZZ_CHECK(libdeflate != NULL);
  if (!outcome->is_ok)
    outcome->is_ok = libdeflate_deflate_decompress(libdeflate, input.bytes, input.length,
                                                   outcome->bytes, length,
                                                   NULL) == LIBDEFLATE_SUCCESS;
  libdeflate_free_decompressor(libdeflate);
#else
  (void) input;
  (void) length;
  (void) outcome;
#endif
}

static uint64_t le_peek(struct fuzz_input input, size_t at, unsigned count)
{
  uint64_t value = 0;

  for (unsigned i = count; i-- > 0;)
    value = value << 8 | (at + i < input.length ? input.bytes[at + i] : 0);
  return value;
}

/* True if a frame has a compressed block of no bytes. The format does not allow that (RFC 8878,
   3.1.1.2.3: a compressed block is smaller than what it gives). libzstd refuses it when it decodes
   a whole frame, but its streaming interface skips it. */
static bool has_empty_compressed_block(struct fuzz_input input)
{
  static const unsigned id_bytes[] = { 0, 1, 2, 4 }, size_bytes[] = { 0, 2, 4, 8 };
  size_t at = 0;

  for (;;) {
    unsigned descriptor = (unsigned) le_peek(input, at + 4, 1), is_last = 0;

    if ((le_peek(input, at, 4) & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START) {
      at += 8 + (size_t) le_peek(input, at + 4, 4);
      continue;
    }
    if (le_peek(input, at, 4) != ZSTD_MAGICNUMBER)
      return false;
    /* With a single segment there is a size of at least a byte in place of the window. */
    at += 5 + id_bytes[descriptor & 3] + size_bytes[descriptor >> 6] +
          ((descriptor & 0x20) == 0 || descriptor >> 6 == 0);
    for (; at < input.length && is_last == 0; at += 3 + is_last * 4 * (descriptor >> 2 & 1)) {
      uint64_t header = le_peek(input, at, 3);
      unsigned type = (unsigned) header >> 1 & 3;

      is_last = header & 1;
      if (type == 2 && header >> 3 == 0)
        return true;
      at += type == 1 ? 1 : (size_t) (header >> 3);
    }
  }
}

/* Fill the whole output from zstd frames, which must end where it does. */
static struct outcome zstd_oracle(struct fuzz_input input, size_t length)
{
  struct outcome outcome = { .is_known = true, .bytes = calloc(1, length) };
  ZSTD_DCtx *context = ZSTD_createDCtx();
  ZSTD_inBuffer in = { input.bytes, input.length, 0 };
  ZSTD_outBuffer out = { outcome.bytes, length, 0 };
  size_t status = 1, in_before = 1, out_before = 1;

  FUZZ_CHECK(outcome.bytes != NULL && context != NULL);
  ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
  while (!ZSTD_isError(status) && out.pos < length &&
         (in.pos != in_before || out.pos != out_before)) {
    in_before = in.pos;
    out_before = out.pos;
    status = ZSTD_decompressStream(context, &out, &in);
  }
  outcome.is_known = !ZSTD_isError(status) && (status == 0 || out.pos < length) &&
                     !has_empty_compressed_block(input);
  outcome.is_ok = outcome.is_known && out.pos == length;
  ZSTD_freeDCtx(context);
  return outcome;
}

void fuzz_decompress(const uint8_t *data, size_t size)
{
  struct fuzz_input input = { data, size };
  unsigned choice = (unsigned) fuzz_take(&input, 1);
  enum qcow2_compression compression = (choice & 1) != 0 ? QCOW2_COMPRESSION_ZSTD
                                                         : QCOW2_COMPRESSION_DEFLATE;
  size_t length = (size_t) 1 << (CLUSTER_BITS_MIN + (choice >> 1) % 8);
  struct outcome oracle = compression == QCOW2_COMPRESSION_ZSTD ? zstd_oracle(input, length)
                                                                : inflate_oracle(input, length);
  struct qcow2_decompressor *decompressor = qcow2_decompressor_new();
  uint8_t *output = malloc(length);

  FUZZ_CHECK(decompressor != NULL && output != NULL);
  if (compression == QCOW2_COMPRESSION_DEFLATE)
    inflate_as_libdeflate(input, length, &oracle);
  for (int round = 0; round < 2; round++) { /* the second time with the state of the first */
    struct qcow2_error error = fuzz_error_fresh();
    struct qcow2_stream_end end, again;
    int code = qcow2_decompress(decompressor, compression, input.bytes, input.length, output,
                                length, &end, &error);

    fuzz_check_result(code, &error);
    FUZZ_CHECK(code == 0 || code == QCOW2_ERROR_CORRUPT);
    if (oracle.is_known)
      FUZZ_CHECK((code == 0) == oracle.is_ok);
    if (oracle.is_ok)
      FUZZ_CHECK(memcmp(output, oracle.bytes, length) == 0);
    FUZZ_CHECK(code != 0 || (end.length > 0 && end.length <= input.length));
    if (code == 0) /* as much is enough, and is used up again */
      FUZZ_CHECK(qcow2_decompress(decompressor, compression, input.bytes, end.length, output,
                                  length, &again, &error) == 0 &&
                 again.length == end.length && again.has_ended == end.has_ended);
  }
  qcow2_decompressor_free(decompressor);
  free(oracle.bytes);
  free(output);
}
