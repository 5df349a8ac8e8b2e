/* SPDX-License-Identifier: MIT */
#include "randomness.h"

#define VALUES 256u
/* Of random bytes, chi-squared of the values' counts is 255 on average, with a deviation of 23.
   These are 4.5 and 6.4 deviations away. Counters and the like are too even to be random. */
#define CHI_SQUARED_MIN 150u
#define CHI_SQUARED_MAX 400u

bool qcow2_randomness_is_high(const uint8_t *bytes, size_t length)
{
  uint64_t counts[VALUES] = { 0 }, squares = 0;

  for (size_t i = 0; i < length; i++)
    counts[bytes[i]]++;
  for (unsigned i = 0; i < VALUES; i++)
    squares += counts[i] * counts[i];
  squares *= VALUES; /* chi-squared is this, divided by the length, without the length */
  return squares > (uint64_t) length * (length + CHI_SQUARED_MIN) &&
         squares < (uint64_t) length * (length + CHI_SQUARED_MAX);
}

void qcow2_randomness_offer(struct qcow2_randomness_samples *samples, uint64_t host_offset)
{
  if (samples->seen++ % (UINT64_C(1) << samples->step_bits) != 0)
    return;
  if (samples->count == RANDOMNESS_SAMPLES_MAX) {
    for (unsigned i = 0; i < RANDOMNESS_SAMPLES_MAX / 2; i++)
      samples->offsets[i] = samples->offsets[2 * i];
    samples->count /= 2;
    samples->step_bits++;
    if ((samples->seen - 1) % (UINT64_C(1) << samples->step_bits) != 0)
      return;
  }
  samples->offsets[samples->count++] = host_offset;
}
