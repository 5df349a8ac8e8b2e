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
#include "../storage/storage.h"
#include "classify.h"
#include "window.h"

/* The map's memory: 16 MiB for the states of clusters, 16 MiB for ranges, and as much again while
   these are sorted. */
#define STATES_MAX (UINT64_C(64) << 20)
#define RANGES_MAX ((size_t) 1 << 20)
#define SECTOR_BYTES 512u
/* Encrypted sectors are read in pieces of this many bytes. */
#define PIECE_BYTES 16384u

struct residue_stream {
  const struct qcow2_layer *layer;
  pthread_mutex_t lock;
  struct qcow2_residue_window window;
  struct qcow2_residue_looks looks; /* with a scratch of its own */
  bool has_gaps;                    /* tables cannot be read, as the view's warning says */
  bool has_looked, is_old_table;    /* what was found out about a cluster */
  uint64_t looked_at;
};

/* ---- Bytes as stored, or decrypted -------------------------------------------------- */

/* Decrypt whole sectors, but for those that are zeros: no encrypted ones look so, and what was
   punched out of a file does. */
static int decrypt(const struct residue_stream *stream, uint64_t offset, uint8_t *buffer,
                   size_t length, struct qcow2_error *error)
{
  int code = 0;

  for (size_t at = 0; code == 0 && at + SECTOR_BYTES <= length; at += SECTOR_BYTES)
    if (!qcow2_residue_is_zero(buffer + at, SECTOR_BYTES))
      code = qcow2_cipher_decrypt(stream->layer->cipher, (offset + at) / SECTOR_BYTES, buffer + at,
                                  SECTOR_BYTES, error);
  return code;
}

/* Find out if nothing refers to the cluster, and it looks like an old table: these never were
   encrypted, and what is encrypted looks like none. */
static int look_for_old_table(struct residue_stream *stream, uint64_t cluster, bool *is_table,
                              struct qcow2_error *error)
{
  const struct qcow2_storage *storage = &stream->layer->file.storage;
  uint32_t size = stream->layer->geometry.cluster_size;
  enum qcow2_residue_kind kind;
  int code;

  *is_table = false;
  if (qcow2_residue_map_state(&stream->window.map, cluster) != RESIDUE_FREE ||
      !range_fits(cluster * size, size, storage->size))
    return 0;
  if (!stream->has_looked || stream->looked_at != cluster) {
    stream->has_looked = false;
    code = qcow2_storage_read(storage, cluster * size, stream->window.packed, size, error);
    if (code != 0)
      return code;
    kind = qcow2_residue_classify(&stream->looks, stream->window.packed);
    stream->has_looked = true;
    stream->looked_at = cluster;
    stream->is_old_table = kind != QCOW2_RESIDUE_DATA && kind != QCOW2_RESIDUE_ZERO;
  }
  *is_table = stream->is_old_table;
  return 0;
}

/* True if a sector's place in the file is all that it takes to decrypt it. */
static bool is_decrypted(const struct qcow2_layer *layer)
{
  return layer->cipher != NULL && !layer->source.encrypted.cipher_counts_guest &&
         !layer->geometry.has_data_file;
}

/* Read bytes of one cluster. */
static int read_decrypted(struct residue_stream *stream, uint64_t offset, uint8_t *buffer,
                          size_t length, struct qcow2_error *error)
{
  const struct qcow2_storage *storage = &stream->layer->file.storage;
  uint8_t piece[PIECE_BYTES];
  bool is_plain;
  int code = look_for_old_table(stream, offset >> stream->window.map.cluster_bits, &is_plain,
                                error);

  while (code == 0 && length > 0) {
    size_t skip = (size_t) (offset % SECTOR_BYTES);
    size_t whole = (size_t) min_u64(min_u64(divide_up(skip + length, SECTOR_BYTES) * SECTOR_BYTES,
                                            sizeof(piece)),
                                    storage->size - (offset - skip));
    size_t count = (size_t) min_u64(whole - skip, length);

    code = qcow2_storage_read(storage, offset - skip, piece, whole, error);
    if (code == 0 && !is_plain)
      code = decrypt(stream, offset - skip, piece, whole, error);
    memcpy(buffer, piece + skip, count);
    offset += count;
    buffer += count;
    length -= count;
  }
  return code;
}

static int read_bytes(struct residue_stream *stream, uint64_t offset, uint8_t *buffer,
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
   use or all not, as *is_used says. What is decrypted is read by single clusters. */
static size_t run_length(const struct residue_stream *stream, uint64_t offset, size_t length,
                         bool *is_used)
{
  unsigned bits = stream->window.map.cluster_bits;
  uint64_t cluster = offset >> bits;

  *is_used = qcow2_residue_map_state(&stream->window.map, cluster) >= RESIDUE_USED;
  do
    cluster++;
  while (cluster << bits < offset + length && !is_decrypted(stream->layer) &&
         qcow2_residue_window_has(&stream->window, cluster) &&
         (qcow2_residue_map_state(&stream->window.map, cluster) >= RESIDUE_USED) == *is_used);
  return (size_t) min_u64(length, (cluster << bits) - offset);
}

/* Make the map for the part of the file that begins with a cluster. If tables cannot be read that
   could be read when the view was opened, there is none. */
static int move_window(struct residue_stream *stream, uint64_t cluster,
                       struct qcow2_residue_walk *walk, struct qcow2_error *error)
{
  int code = qcow2_residue_window_move(&stream->window, cluster, walk, error);

  if (code != 0 || !walk->has_gaps || stream->has_gaps)
    return code;
  stream->window.map.end = stream->window.map.first;
  return qcow2_error_set(error, QCOW2_ERROR_IO, "some tables of the image cannot be read");
}

/* Read the first *count of `length` bytes. Returns an errno value. */
static int read_next(struct residue_stream *stream, uint64_t offset, uint8_t *buffer, size_t length,
                     size_t *count)
{
  uint64_t cluster = offset >> stream->window.map.cluster_bits;
  struct qcow2_residue_walk walk = { .work = RESIDUE_WORK_BYTES };
  struct qcow2_error error;
  bool is_used;
  int os_errno;

  if (!qcow2_residue_window_has(&stream->window, cluster) &&
      move_window(stream, cluster, &walk, &error) != 0)
    return error.code == QCOW2_ERROR_NOMEM ? ENOMEM : EIO;
  *count = run_length(stream, offset, length, &is_used);
  if (is_used) {
    memset(buffer, 0, *count);
    return 0;
  }
  os_errno = read_bytes(stream, offset, buffer, *count);
  return os_errno != 0 ? os_errno
                       : qcow2_residue_window_clear(&stream->window, offset, buffer, *count);
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
  qcow2_residue_window_free(&stream->window);
  free(stream->looks.scratch);
  free(stream);
}

static int stream_new(const struct qcow2_image *image, struct residue_stream **out,
                      struct qcow2_error *error)
{
  struct residue_stream *stream = calloc(1, sizeof(*stream));
  int code;

  if (stream == NULL)
    return qcow2_error_set_nomem(error);
  pthread_mutex_init(&stream->lock, NULL);
  stream->layer = image->chain.layers[0];
  stream->looks = (struct qcow2_residue_looks){
    .geometry = &stream->layer->geometry,
    .refcount_order = stream->layer->metadata.header.refcount_order,
    .file_size = stream->layer->file.storage.size,
    .scratch = malloc(stream->layer->geometry.cluster_size),
  };
  code = qcow2_residue_window_make(&stream->window, image, STATES_MAX, RANGES_MAX, error);
  if (code == 0 && stream->looks.scratch == NULL)
    code = qcow2_error_set_nomem(error);
  if (code == 0)
    *out = stream;
  else
    stream_close(stream);
  return code;
}

static int warn(struct qcow2_view *view, const struct qcow2_residue_walk *walk,
                struct qcow2_error *error)
{
  return !walk->has_gaps
             ? 0
             : qcow2_view_warn_of_gaps(view,
                                       "residue: some tables of the image cannot be read, so what "
                                       "only they refer to is shown too, as if nothing referred to "
                                       "it",
                                       error);
}

int qcow2_view_open_residue(struct qcow2_image *image, struct qcow2_view **view,
                            struct qcow2_error *error)
{
  struct residue_stream *stream = NULL;
  struct qcow2_residue_walk walk = { .work = RESIDUE_WORK_BYTES };
  struct qcow2_storage storage = { .read = stream_read, .close = stream_close };
  int code = stream_new(image, &stream, error);

  if (stream == NULL)
    return code;
  storage.context = stream;
  storage.size = stream->layer->file.storage.size;
  code = qcow2_residue_window_move(&stream->window, 0, &walk, error);
  if (code != 0) {
    stream_close(stream);
    return code;
  }
  stream->has_gaps = walk.has_gaps;
  code = qcow2_view_open_storage(image, &storage, view, error);
  if (code != 0)
    return code;
  code = warn(*view, &walk, error);
  if (code != 0)
    qcow2_view_close(*view);
  return code;
}
