/* SPDX-License-Identifier: MIT */
/* Big-endian integers, as every number in a qcow2 file is stored, and little-endian ones, as
   encryption numbers sectors. */
#ifndef QCOW2_BASE_BYTES_H
#define QCOW2_BASE_BYTES_H

#include <stdint.h>

static inline uint16_t be16_get(const uint8_t *bytes)
{
  return (uint16_t) ((bytes[0] << 8) | bytes[1]);
}

static inline uint32_t be32_get(const uint8_t *bytes)
{
  return ((uint32_t) be16_get(bytes) << 16) | be16_get(bytes + 2);
}

static inline uint64_t be64_get(const uint8_t *bytes)
{
  return ((uint64_t) be32_get(bytes) << 32) | be32_get(bytes + 4);
}

static inline void be32_put(uint8_t *bytes, uint32_t value)
{
  for (int i = 3; i >= 0; i--, value >>= 8)
    bytes[i] = (uint8_t) value;
}

static inline uint16_t le16_get(const uint8_t *bytes)
{
  return (uint16_t) ((bytes[1] << 8) | bytes[0]);
}

static inline uint32_t le32_get(const uint8_t *bytes)
{
  return (uint32_t) bytes[3] << 24 | (uint32_t) bytes[2] << 16 | (uint32_t) bytes[1] << 8 |
         bytes[0];
}

static inline uint64_t le64_get(const uint8_t *bytes)
{
  return (uint64_t) le32_get(bytes + 4) << 32 | le32_get(bytes);
}

static inline void le32_put(uint8_t *bytes, uint32_t value)
{
  for (int i = 0; i < 4; i++, value >>= 8)
    bytes[i] = (uint8_t) value;
}

static inline void le64_put(uint8_t *bytes, uint64_t value)
{
  for (int i = 0; i < 8; i++, value >>= 8)
    bytes[i] = (uint8_t) value;
}

#endif
