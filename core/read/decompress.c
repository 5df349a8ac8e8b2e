/* SPDX-License-Identifier: MIT */
#include "decompress.h"

#include <stdbool.h>
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

#include "../base/error.h"

/* Raw deflate. QEMU writes with a window of 12 bits; other programs may use all 15. */
#define RAW_DEFLATE_WINDOW_BITS (-15)

/* Each member is made when it is needed. */
struct qcow2_decompressor {
#ifdef HAVE_LIBDEFLATE
  struct libdeflate_decompressor *libdeflate;
#endif
  z_stream *zlib;
  ZSTD_DCtx *zstd;
};

struct qcow2_decompressor *qcow2_decompressor_new(void)
{
  return calloc(1, sizeof(struct qcow2_decompressor));
}

void qcow2_decompressor_free(struct qcow2_decompressor *decompressor)
{
  if (decompressor == NULL)
    return;
#ifdef HAVE_LIBDEFLATE
  if (decompressor->libdeflate != NULL)
    libdeflate_free_decompressor(decompressor->libdeflate);
#endif
  if (decompressor->zlib != NULL)
    inflateEnd(decompressor->zlib);
  free(decompressor->zlib);
  ZSTD_freeDCtx(decompressor->zstd);
  free(decompressor);
}

/* ---- deflate ------------------------------------------------------------ */

/* Decompress with libdeflate, which is more than twice as fast as zlib. It succeeds if the stream
   ends with the output. Returns 1 if it does; else zlib must try. */
static int inflate_fast(struct qcow2_decompressor *decompressor, const uint8_t *input,
                        size_t input_length, uint8_t *output, size_t output_length,
                        struct qcow2_stream_end *end)
{
#ifdef HAVE_LIBDEFLATE
  if (decompressor->libdeflate == NULL)
    decompressor->libdeflate = libdeflate_alloc_decompressor();
  return decompressor->libdeflate != NULL &&
         libdeflate_deflate_decompress_ex(decompressor->libdeflate, input, input_length, output,
                                          output_length, &end->length, NULL) == LIBDEFLATE_SUCCESS;
#else
  (void) decompressor;
  (void) input;
  (void) input_length;
  (void) output;
  (void) output_length;
  (void) end;
  return 0;
#endif
}

/* Prepare zlib for a new stream. */
static int zlib_prepare(struct qcow2_decompressor *decompressor)
{
  if (decompressor->zlib != NULL)
    return inflateReset(decompressor->zlib) == Z_OK;
  decompressor->zlib = calloc(1, sizeof(*decompressor->zlib));
  if (decompressor->zlib == NULL)
    return 0;
  if (inflateInit2(decompressor->zlib, RAW_DEFLATE_WINDOW_BITS) == Z_OK)
    return 1;
  free(decompressor->zlib);
  decompressor->zlib = NULL;
  return 0;
}

static int decompress_deflate(struct qcow2_decompressor *decompressor, const uint8_t *input,
                              size_t input_length, uint8_t *output, size_t output_length,
                              struct qcow2_stream_end *end, struct qcow2_error *error)
{
  z_stream *zlib;
  int status;

  /* It was called without a pointer for the actual length, so on success the output is full. */
  if (inflate_fast(decompressor, input, input_length, output, output_length, end))
    return 0;
  if (!zlib_prepare(decompressor))
    return qcow2_error_set_nomem(error);
  zlib = decompressor->zlib;
  zlib->next_in = (Bytef *) (uintptr_t) input;
  zlib->avail_in = (uInt) input_length;
  zlib->next_out = output;
  zlib->avail_out = (uInt) output_length;
  status = inflate(zlib, Z_FINISH);
  end->length = input_length - zlib->avail_in;
  end->has_ended = status == Z_STREAM_END;
  /* Z_BUF_ERROR: the stream does not end, but the cluster is full. */
  if ((status == Z_STREAM_END || status == Z_BUF_ERROR) && zlib->avail_out == 0)
    return 0;
  if (status == Z_MEM_ERROR)
    return qcow2_error_set_nomem(error);
  return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                         "its deflate stream is damaged: it gives %zu of %zu bytes (%s)",
                         output_length - zlib->avail_out, output_length,
                         zlib->msg != NULL ? zlib->msg : "it ends too early");
}

/* ---- zstd --------------------------------------------------------------- */

static int zstd_error(size_t done, size_t output_length, size_t status, struct qcow2_error *error)
{
  return qcow2_error_set(error, QCOW2_ERROR_CORRUPT,
                         "its zstd stream is damaged: it gives %zu of %zu bytes (%s)", done,
                         output_length, ZSTD_getErrorName(status));
}

/* Decompress frame by frame, each as a whole. So zstd writes into the output, and allocates no
   window, whatever size of window the frame gives. */
static int decompress_zstd(struct qcow2_decompressor *decompressor, const uint8_t *input,
                           size_t input_length, uint8_t *output, size_t output_length,
                           struct qcow2_stream_end *end, struct qcow2_error *error)
{
  size_t done = 0;

  end->length = 0;
  if (decompressor->zstd == NULL)
    decompressor->zstd = ZSTD_createDCtx();
  if (decompressor->zstd == NULL)
    return qcow2_error_set_nomem(error);
  while (done < output_length) {
    size_t frame = ZSTD_findFrameCompressedSize(input, input_length);
    size_t count;

    if (ZSTD_isError(frame))
      return zstd_error(done, output_length, frame, error);
    count = ZSTD_decompressDCtx(decompressor->zstd, output + done, output_length - done, input,
                                frame);
    if (ZSTD_isError(count))
      return zstd_error(done, output_length, count, error);
    done += count;
    end->length += frame;
    input += frame;
    input_length -= frame;
  }
  return 0;
}

/* ---- Both ---------------------------------------------------------------- */

/* If the stream starts as one of zstd does, or an image says zstd and it does not, add that to the
   error. Nothing tells how deflate starts. */
static int explain_start(enum qcow2_compression compression, const uint8_t *input,
                         size_t input_length, int code, struct qcow2_error *error)
{
  static const uint8_t ZSTD_START[4] = { 0x28, 0xb5, 0x2f, 0xfd };
  static const uint8_t SKIPPABLE_START[3] = { 0x2a, 0x4d, 0x18 }; /* after 0x50 to 0x5f */
  bool starts_zstd = input_length >= 4 && (memcmp(input, ZSTD_START, 4) == 0 ||
                                           memcmp(input + 1, SKIPPABLE_START, 3) == 0);
  bool is_zstd = compression == QCOW2_COMPRESSION_ZSTD;

  if (code != QCOW2_ERROR_CORRUPT || starts_zstd == is_zstd)
    return code;
  return qcow2_error_add_text(
      error, code,
      is_zstd ? "; it does not start as zstd streams do, so the header may be "
                "wrong about the compression type"
              : "; it starts as a zstd stream does (28 b5 2f fd), so the header "
                "may be wrong about the compression type");
}

int qcow2_decompress(struct qcow2_decompressor *decompressor, enum qcow2_compression compression,
                     const uint8_t *input, size_t input_length, uint8_t *output,
                     size_t output_length, struct qcow2_stream_end *end, struct qcow2_error *error)
{
  struct qcow2_stream_end unwanted = { .length = 0 };
  int code;

  end = end == NULL ? &unwanted : end;
  end->has_ended = true;
  switch (compression) {
  case QCOW2_COMPRESSION_DEFLATE:
    code = decompress_deflate(decompressor, input, input_length, output, output_length, end, error);
    return explain_start(compression, input, input_length, code, error);
  case QCOW2_COMPRESSION_ZSTD:
    code = decompress_zstd(decompressor, input, input_length, output, output_length, end, error);
    return explain_start(compression, input, input_length, code, error);
  }
  return qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED, "its compression type is not known");
}
