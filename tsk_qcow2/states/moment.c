/* SPDX-License-Identifier: MIT */
#include "moment.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

const char *moment_text(int64_t seconds, uint32_t nanoseconds, char out[MOMENT_BYTES])
{
  time_t time = (time_t) seconds;
  struct tm parts;
  size_t length;

  if (seconds == 0 && nanoseconds == 0)
    snprintf(out, MOMENT_BYTES, "-");
  else if (gmtime_r(&time, &parts) == NULL)
    snprintf(out, MOMENT_BYTES, "%" PRId64 " s", seconds);
  else {
    length = strftime(out, MOMENT_BYTES, "%Y-%m-%dT%H:%M:%S", &parts);
    if (nanoseconds != 0 && nanoseconds < 1000000000)
      length += (size_t) snprintf(out + length, MOMENT_BYTES - length, ".%09" PRIu32, nanoseconds);
    snprintf(out + length, MOMENT_BYTES - length, "Z");
  }
  return out;
}
