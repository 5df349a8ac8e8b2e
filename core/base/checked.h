/* SPDX-License-Identifier: MIT */
/* Arithmetic on numbers from an image, which cannot overflow unnoticed. */
#ifndef QCOW2_BASE_CHECKED_H
#define QCOW2_BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

/* True if [offset, offset + length) lies inside [0, size). */
static inline bool range_fits(uint64_t offset, uint64_t length, uint64_t size)
{
  return offset <= size && length <= size - offset;
}

/* True if the power of two `alignment` divides `value`. */
static inline bool is_aligned(uint64_t value, uint64_t alignment)
{
  return (value & (alignment - 1)) == 0;
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

/* ceil(value / divisor), without overflow. `divisor` > 0. */
static inline uint64_t divide_up(uint64_t value, uint64_t divisor)
{
  return value / divisor + (value % divisor != 0);
}

#endif
