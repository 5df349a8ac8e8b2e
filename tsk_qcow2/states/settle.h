/* SPDX-License-Identifier: MIT */
/* From what two states have to what changed between them. */
#ifndef TSK_QCOW2_STATES_SETTLE_H
#define TSK_QCOW2_STATES_SETTLE_H

#include "content.h"
#include "diff_result.h"
#include "../command/progress.h"

/* A comparison of two states. The caller sets `record`, which fills volume->entries with the names
   of both sides (false: no memory), and its context. */
struct settle {
  bool (*record)(void *context, struct diff_volume *volume);
  void *context;
  struct layout_budget budget; /* for each volume anew, before `record` is called */
  struct content content;
  struct progress progress;
};

/* False: no memory. The caller calls settle_end() in any case. */
bool settle_start(struct settle *settle, const struct state *a, const struct state *b);
void settle_end(struct settle *settle);

/* Compare the two sides of volume->pair, and fill the rest of *volume. False: no memory. */
bool settle_volume(struct settle *settle, struct diff_volume *volume);

/* Add it to the totals. */
void settle_add(struct diff_totals *totals, const struct diff_volume *volume);

enum diff_answer settle_worse(enum diff_answer a, enum diff_answer b);

#endif
