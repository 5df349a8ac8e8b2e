/* SPDX-License-Identifier: MIT */
#include "tally.h"

#include <stdlib.h>
#include <string.h>

bool qcow2_tally_init(struct qcow2_tally *tally, size_t capacity, uint32_t limit)
{
  *tally = (struct qcow2_tally){ .cells = calloc(capacity, sizeof(tally->cells[0])),
                                 .capacity = capacity,
                                 .next = UINT64_MAX,
                                 .limit = limit };
  return tally->cells != NULL;
}

void qcow2_tally_free(struct qcow2_tally *tally)
{
  free(tally->cells);
  tally->cells = NULL;
}

void qcow2_tally_move(struct qcow2_tally *tally, uint64_t first)
{
  memset(tally->cells, 0, tally->capacity * sizeof(tally->cells[0]));
  tally->first = first;
  tally->next = UINT64_MAX;
}

bool qcow2_tally_clip(struct qcow2_tally *tally, uint64_t *first, uint64_t *last)
{
  uint64_t end = tally->first + tally->capacity;

  if (*last >= end) {
    uint64_t after = *first > end ? *first : end;

    if (after < tally->next)
      tally->next = after;
    *last = end - 1;
  }
  if (*first < tally->first)
    *first = tally->first;
  return *first <= *last;
}
