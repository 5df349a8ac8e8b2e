/* SPDX-License-Identifier: MIT */
/*
 * The residue of a file as a stream: every byte that something refers to is zero, every other is as
 * stored, at its host offset. A map (map.h) has a part of the file; a read somewhere else makes it
 * for that part. Whoever reads forwards has it made once for each part.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "../base/checked.h"
#include "../base/error.h"
#include "../image/view.h"
#include "../read/decompress.h"
#include "../storage/storage.h"
#include "references.h"

/* The map's memory: 16 MiB for the states of clusters, 16 MiB for ranges, and as much again while
   these are sorted. */
#define STATES_MAX (UINT64_C(64) << 20)
#define RANGES_MAX ((size_t) 1 << 20)
#define WORK_BYTES (UINT64_C(64) << 30)
#define SECTOR_BYTES 512u
/* Encrypted sectors are read in pieces of this many bytes. */
#define PIECE_BYTES 16384u

struct residue_stream {
  const struct qcow2_image *image;
  const struct qcow2_layer *layer;
  pthread_mutex_t lock; /* for all that follows */
  struct qcow2_residue_map map;
  struct qcow2_decompressor *decompressor;
  uint8_t *packed; /* a stream: two clusters */
  uint8_t *cluster;
};

/* ---- The map ------------------------------------------------------------------- */

static uint64_t file_clusters(const struct residue_stream *stream)
{
  return divide_up(stream->layer->file.storage.size, stream->layer->geometry.cluster_size);
}

/* Let the map have the cluster. */
static int move_map(struct residue_stream *stream, uint64_t cluster,
                    struct qcow2_residue_walk *walk, struct qcow2_error *error)
{
  int code;

  qcow2_residue_map_move(&stream->map, cluster, file_clusters(stream));
  code = qcow2_residue_collect(stream->image, WORK_BYTES, &stream->map, walk, error);
  if (code == 0 && walk->is_bounded)
    code = qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "the image's tables are more than can be looked through to find out "
                           "which bytes nothing refers to (64 GiB of them)");
  if (code == 0 && stream->map.is_too_dense)
    code = qcow2_error_set(error, QCOW2_ERROR_UNSUPPORTED,
                           "so much refers to parts of one cluster of the file that it cannot be "
                           "found out which of its bytes nothing refers to");
  if (code != 0)
    stream->map.end = stream->map.first; /* it has nothing */
  return code;
}

static bool has_cluster(const struct residue_stream *stream, uint64_t cluster)
{
  return cluster >= stream->map.first && cluster < stream->map.end;
}

/* ---- Compressed streams ----------------------------------------------------------- */

/* Find out where the stream ends. One that cannot be decoded ends where it can end at the latest:
   its L2 entry refers to all of that. Returns an errno value. */
static int find_end(const struct residue_stream *stream, struct qcow2_residue_range *range)
{
  const struct qcow2_layer *layer = stream->layer;
  struct qcow2_error error;
  size_t consumed = 0;
  int code = qcow2_storage_read(&layer->file.storage, range->offset, stream->packed, range->length,
                                &error);

  if (code != 0)
    return error.os_errno != 0 ? error.os_errno : EIO;
  code = qcow2_decompress(stream->decompressor, layer->metadata.header.compression, stream->packed,
                          range->length, stream->cluster, layer->geometry.cluster_size, &consumed,
                          &error);
  if (code == QCOW2_ERROR_NOMEM)
    return ENOMEM;
  if (code == 0)
    range->length = (uint32_t) consumed;
  range->kind = RANGE_DECODED;
  return 0;
}

/* Make zeros of what the ranges say is in use, in `length` bytes that were read at `offset`. */
static int clear_ranges(struct residue_stream *stream, uint64_t offset, uint8_t *buffer,
                        size_t length)
{
  for (size_t i = qcow2_residue_map_find(&stream->map, offset); i < stream->map.range_count; i++) {
    struct qcow2_residue_range *range = &stream->map.ranges[i];
    uint64_t start, end;

    if (range->offset >= offset + length)
      break;
    if (range->offset + range->length <= offset)
      continue;
    if (range->kind == RANGE_STREAM) {
      int os_errno = find_end(stream, range);

      if (os_errno != 0)
        return os_errno;
    }
    start = range->offset > offset ? range->offset - offset : 0;
    end = range->offset + range->length;
    end = end > offset ? min_u64(end - offset, length) : 0;
    if (start < end)
      memset(buffer + start, 0, (size_t) (end - start));
  }
  return 0;
}

/* ---- Bytes as stored, or decrypted -------------------------------------------------- */

static bool is_zero(const uint8_t *bytes, size_t length)
{
  return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

/* Decrypt whole sectors, but for those that are zeros: no encrypted ones look so, and what was
   punched out of a file does. */
static int decrypt(const struct residue_stream *stream, uint64_t offset, uint8_t *buffer,
                   size_t length, struct qcow2_error *error)
{
  int code = 0;

  for (size_t at = 0; code == 0 && at + SECTOR_BYTES <= length; at += SECTOR_BYTES)
    if (!is_zero(buffer + at, SECTOR_BYTES))
      code = qcow2_cipher_decrypt(stream->layer->cipher, (offset + at) / SECTOR_BYTES, buffer + at,
                                  SECTOR_BYTES, error);
  return code;
}

/* True if a sector's place in the file is all that it takes to decrypt it. */
static bool is_decrypted(const struct qcow2_layer *layer)
{
  return layer->cipher != NULL && !layer->source.encrypted.cipher_counts_guest &&
         !layer->geometry.has_data_file;
}

static int read_decrypted(const struct residue_stream *stream, uint64_t offset, uint8_t *buffer,
                          size_t length, struct qcow2_error *error)
{
  const struct qcow2_storage *storage = &stream->layer->file.storage;
  uint8_t piece[PIECE_BYTES];
  int code = 0;

  while (code == 0 && length > 0) {
    size_t skip = (size_t) (offset % SECTOR_BYTES);
    size_t whole = (size_t) min_u64(min_u64(divide_up(skip + length, SECTOR_BYTES) * SECTOR_BYTES,
                                            sizeof(piece)),
                                    storage->size - (offset - skip));
    size_t count = (size_t) min_u64(whole - skip, length);

    code = qcow2_storage_read(storage, offset - skip, piece, whole, error);
    if (code == 0)
      code = decrypt(stream, offset - skip, piece, whole, error);
    memcpy(buffer, piece + skip, count);
    offset += count;
    buffer += count;
    length -= count;
  }
  return code;
}

static int read_bytes(const struct residue_stream *stream, uint64_t offset, uint8_t *buffer,
                      size_t length)
{
  struct qcow2_error error;
  int code = is_decrypted(stream->layer)
                 ? read_decrypted(stream, offset, buffer, length, &error)
                 : qcow2_storage_read(&stream->layer->file.storage, offset, buffer, length, &error);

  if (code == 0)
    return 0;
  return code == QCOW2_ERROR_NOMEM ? ENOMEM : error.os_errno != 0 ? error.os_errno : EIO;
}

/* ---- Reading ---------------------------------------------------------------------- */

/* How many of the `length` bytes at `offset` are in clusters that the map has, and that are all in
   use or all not, as *is_used says. */
static size_t run_length(const struct residue_stream *stream, uint64_t offset, size_t length,
                         bool *is_used)
{
  unsigned bits = stream->map.cluster_bits;
  uint64_t cluster = offset >> bits;

  *is_used = qcow2_residue_map_state(&stream->map, cluster) >= RESIDUE_USED;
  do
    cluster++;
  while (cluster << bits < offset + length && has_cluster(stream, cluster) &&
         (qcow2_residue_map_state(&stream->map, cluster) >= RESIDUE_USED) == *is_used);
  return (size_t) min_u64(length, (cluster << bits) - offset);
}

/* Read the first *count of `length` bytes. Returns an errno value. */
static int read_next(struct residue_stream *stream, uint64_t offset, uint8_t *buffer, size_t length,
                     size_t *count)
{
  uint64_t cluster = offset >> stream->map.cluster_bits;
  struct qcow2_residue_walk walk;
  struct qcow2_error error;
  bool is_used;
  int os_errno;

  if (!has_cluster(stream, cluster) && move_map(stream, cluster, &walk, &error) != 0)
    return error.code == QCOW2_ERROR_NOMEM ? ENOMEM : EIO;
  *count = run_length(stream, offset, length, &is_used);
  if (is_used) {
    memset(buffer, 0, *count);
    return 0;
  }
  os_errno = read_bytes(stream, offset, buffer, *count);
  return os_errno != 0 ? os_errno : clear_ranges(stream, offset, buffer, *count);
}

static int stream_read(void *context, uint64_t offset, void *buffer, size_t length)
{
  struct residue_stream *stream = context;
  uint8_t *out = buffer;
  size_t count;
  int os_errno = 0;

  pthread_mutex_lock(&stream->lock);
  for (; os_errno == 0 && length > 0; length -= count) {
    os_errno = read_next(stream, offset, out, length, &count);
    if (os_errno != 0)
      break;
    out += count;
    offset += count;
  }
  pthread_mutex_unlock(&stream->lock);
  return os_errno;
}

/* ---- Opening ------------------------------------------------------------------------ */

static void stream_close(void *context)
{
  struct residue_stream *stream = context;

  pthread_mutex_destroy(&stream->lock);
  qcow2_residue_map_free(&stream->map);
  qcow2_decompressor_free(stream->decompressor);
  free(stream->packed);
  free(stream->cluster);
  free(stream);
}

static struct residue_stream *stream_new(const struct qcow2_image *image)
{
  struct residue_stream *stream = calloc(1, sizeof(*stream));
  size_t cluster_size;
  bool is_made;

  if (stream == NULL)
    return NULL;
  pthread_mutex_init(&stream->lock, NULL);
  stream->image = image;
  stream->layer = image->chain.layers[0];
  cluster_size = stream->layer->geometry.cluster_size;
  stream->decompressor = qcow2_decompressor_new();
  stream->packed = malloc(2 * cluster_size);
  stream->cluster = malloc(cluster_size);
  is_made = qcow2_residue_map_init(&stream->map, stream->layer->geometry.cluster_bits,
                                   qcow2_residue_shortest_stream(stream->layer),
                                   min_u64(file_clusters(stream), STATES_MAX), RANGES_MAX);
  if (is_made && stream->decompressor != NULL && stream->packed != NULL && stream->cluster != NULL)
    return stream;
  stream_close(stream);
  return NULL;
}

static int warn(struct qcow2_view *view, const struct qcow2_residue_walk *walk,
                struct qcow2_error *error)
{
  return !walk->has_gaps
             ? 0
             : qcow2_view_warn(view,
                               "residue: some tables of the image cannot be read, so what only "
                               "they refer to is shown too, as if nothing referred to it",
                               error);
}

int qcow2_view_open_residue(struct qcow2_image *image, struct qcow2_view **view,
                            struct qcow2_error *error)
{
  struct residue_stream *stream = stream_new(image);
  struct qcow2_residue_walk walk;
  struct qcow2_storage storage = { .context = stream, .read = stream_read, .close = stream_close };
  int code;

  if (stream == NULL)
    return qcow2_error_set_nomem(error);
  storage.size = stream->layer->file.storage.size;
  code = move_map(stream, 0, &walk, error);
  if (code != 0) {
    stream_close(stream);
    return code;
  }
  code = qcow2_view_open_storage(image, &storage, view, error);
  if (code != 0)
    return code;
  code = warn(*view, &walk, error);
  if (code != 0)
    qcow2_view_close(*view);
  return code;
}
