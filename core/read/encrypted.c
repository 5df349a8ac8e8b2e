/* SPDX-License-Identifier: MIT */
#include "encrypted.h"

#include <string.h>

#include "../base/checked.h"
#include "../storage/storage.h"

/* Sectors are decrypted ahead in chunks of this size, or of a cluster if that is smaller. */
#define CHUNK_BYTES_MAX 65536u

/* ---- Decrypting ------------------------------------------------------------ */

/* Where encrypted bytes are, and how the cipher counts them. */
struct encrypted {
  const struct qcow2_encrypted_source *source;
  uint64_t host_offset;   /* of the first byte to be read */
  uint64_t number_offset; /* of the same byte, from which its sector number is made */
};

/* Read whole sectors. They begin `skip` bytes after the first byte to be read, or before it if
   `skip` is negative. */
static int read_sectors(const struct encrypted *encrypted, int64_t skip, uint8_t *buffer,
                        size_t length, struct qcow2_error *error)
{
  const struct qcow2_encrypted_source *source = encrypted->source;
  int code = qcow2_storage_read(source->storage, encrypted->host_offset + (uint64_t) skip, buffer,
                                length, error);

  if (code != 0)
    return code;
  return qcow2_cipher_decrypt(source->cipher,
                              (encrypted->number_offset + (uint64_t) skip) /
                                  ENCRYPTION_SECTOR_BYTES,
                              buffer, length, error);
}

/* Read a part of one sector: `length` bytes from byte `in_sector` on. The sector begins at `skip`,
   as above. */
static int read_in_sector(const struct encrypted *encrypted, int64_t skip, size_t in_sector,
                          uint8_t *buffer, size_t length, struct qcow2_error *error)
{
  uint8_t sector[ENCRYPTION_SECTOR_BYTES];
  int code = read_sectors(encrypted, skip, sector, sizeof(sector), error);

  if (code == 0)
    memcpy(buffer, sector + in_sector, length);
  return code;
}

/* A sector can only be decrypted as a whole. Sectors that are needed as a whole are decrypted in
   the caller's buffer, others in a buffer of their own. */
static int read_here(const struct encrypted *encrypted, uint8_t *buffer, size_t length,
                     struct qcow2_error *error)
{
  size_t in_sector = (size_t) (encrypted->host_offset % ENCRYPTION_SECTOR_BYTES);
  size_t head = in_sector == 0 ? 0 : (size_t) min_u64(ENCRYPTION_SECTOR_BYTES - in_sector, length);
  size_t body = (length - head) / ENCRYPTION_SECTOR_BYTES * ENCRYPTION_SECTOR_BYTES;
  size_t tail = length - head - body;
  int code = 0;

  if (head > 0)
    code = read_in_sector(encrypted, -(int64_t) in_sector, in_sector, buffer, head, error);
  if (code == 0 && body > 0)
    code = read_sectors(encrypted, (int64_t) head, buffer + head, body, error);
  if (code == 0 && tail > 0)
    code = read_in_sector(encrypted, (int64_t) (head + body), 0, buffer + head + body, tail, error);
  return code;
}

/* ---- Chunks, decrypted ahead -------------------------------------------------- */

static uint32_t chunk_size(const struct qcow2_encrypted_source *source)
{
  return (uint32_t) min_u64(source->cluster_size, CHUNK_BYTES_MAX);
}

static struct qcow2_cache_key chunk_key(const struct qcow2_encrypted_source *source,
                                        uint64_t host_offset)
{
  return qcow2_cache_key_make(QCOW2_CACHE_CHUNK, source->cache_owner, 0,
                              host_offset / chunk_size(source) * chunk_size(source));
}

static int load_chunk(void *context, struct qcow2_cache_key key, struct qcow2_cache_block *block,
                      struct qcow2_error *error)
{
  struct encrypted encrypted = { context, key.offset, key.offset };

  block->filled = block->length;
  return read_sectors(&encrypted, 0, block->data, block->length, error);
}

bool qcow2_encrypted_is_at_hand(const struct qcow2_encrypted_source *source, uint64_t host_offset)
{
  return qcow2_cache_is_used(source->cache, chunk_key(source, host_offset));
}

void qcow2_encrypted_decode_ahead(const struct qcow2_encrypted_source *source, uint64_t host_offset,
                                  uint64_t length)
{
  uint32_t size = chunk_size(source);
  uint64_t end = host_offset + length;

  if (source->cipher_counts_guest) /* at another guest offset the same chunk has other bytes */
    return;
  for (uint64_t at = divide_up(host_offset, size) * size; at < end && size <= end - at; at += size)
    qcow2_cache_load_ahead(source->cache, chunk_key(source, at), size, load_chunk,
                           (void *) (uintptr_t) source);
}

int qcow2_encrypted_read(const struct qcow2_encrypted_source *source, uint64_t host_offset,
                         uint64_t guest_offset, uint8_t *buffer, size_t length,
                         struct qcow2_error *error)
{
  struct encrypted encrypted = { source, host_offset,
                                 source->cipher_counts_guest ? guest_offset : host_offset };
  int code = 0;

  while (code == 0 && length > 0) {
    size_t in_chunk = (size_t) (encrypted.host_offset % chunk_size(source));
    size_t count = (size_t) min_u64(length, chunk_size(source) - in_chunk);
    struct qcow2_cache_block *block;

    if (qcow2_cache_pin_ready(source->cache, chunk_key(source, encrypted.host_offset), &block)) {
      memcpy(buffer, block->data + in_chunk, count);
      qcow2_cache_unpin(source->cache, block);
    } else
      code = read_here(&encrypted, buffer, count, error);
    buffer += count;
    length -= count;
    encrypted.host_offset += count;
    encrypted.number_offset += count;
  }
  return code;
}
