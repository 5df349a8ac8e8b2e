/* SPDX-License-Identifier: MIT */
/* One target as libFuzzer wants it: compiled once for each, with FUZZ_TARGET defined as the
   target's function. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  FUZZ_TARGET(data, size);
  return 0;
}
