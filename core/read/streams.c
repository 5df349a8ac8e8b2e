/* SPDX-License-Identifier: MIT */
#include "streams.h"

#include <stdbool.h>

#include "../base/checked.h"

/* A reader that skips up to this many units still moves forward in its stream: the directories of a
   file system are between its files. */
#define SKIP_MAX 8u
/* A unit that directly follows the last one adds 1 to the score; one after a gap halves it. With a
   score of 1, UNITS_MIN units are guessed, and one more for each SCORE_PER_UNIT points: to decode a
   unit that is not read costs time. */
#define UNITS_MIN 3u
#define SCORE_PER_UNIT 2u
#define SCORE_MAX 64u
/* After this many whole units in a row the reader is believed to copy. */
#define WHOLE_MIN 4u
/* From this score on, the next units of the run are more probable than the units that came next the
   last time. */
#define SCORE_SURE 16u

/* ---- Ascending order ------------------------------------------------------- */

/* True if `unit` continues the stream. */
static bool goes_on(const struct qcow2_stream *stream, uint64_t unit)
{
  return stream->used != 0 && unit >= stream->last && unit - stream->last <= SKIP_MAX + 1;
}

/* The stream that the unit continues. If there is none, a new one replaces the stream that was not
   used for the longest time. */
static struct qcow2_stream *find_stream(struct qcow2_streams *streams, uint64_t unit)
{
  struct qcow2_stream *oldest = &streams->stream[0];

  for (size_t i = 0; i < STREAMS; i++) {
    struct qcow2_stream *stream = &streams->stream[i];

    if (goes_on(stream, unit))
      return stream;
    if (stream->used < oldest->used)
      oldest = stream;
  }
  *oldest = (struct qcow2_stream){ .last = unit };
  return oldest;
}

static void stream_advance(struct qcow2_stream *stream, uint64_t unit, bool at_first_byte)
{
  uint64_t step = unit - stream->last;

  if (!at_first_byte || step > 1)
    stream->whole = 0;
  if (at_first_byte && stream->whole < WHOLE_MIN)
    stream->whole++;

  if (step == 1)
    stream->score = (unsigned) min_u64(stream->score + 1, SCORE_MAX);
  else if (step > 1)
    stream->score = stream->score > 2 ? stream->score / 2 : 1;
  stream->last = unit;
}

static size_t guess_in_order(const struct qcow2_stream *stream, unsigned window, uint64_t *guessed)
{
  size_t count = (size_t) min_u64(UNITS_MIN + stream->score / SCORE_PER_UNIT, window);

  if (stream->score == 0)
    return 0;
  for (size_t i = 0; i < count; i++)
    guessed[i] = stream->last + 1 + i;
  return count;
}

/* ---- The units that came next the last time ----------------------------------- */

/* A second walk over a file system goes through its units in the same order as the first. */
static struct qcow2_step *step_of(struct qcow2_streams *streams, uint64_t unit)
{
  return &streams->step[unit % STEPS];
}

static void step_note(struct qcow2_streams *streams, uint64_t unit)
{
  if (streams->clock > 1 && unit != streams->last)
    *step_of(streams, streams->last) = (struct qcow2_step){ (uint32_t) streams->last,
                                                            (uint32_t) unit };
  streams->last = unit;
}

static size_t guess_steps(struct qcow2_streams *streams, uint64_t unit, unsigned window,
                          uint64_t *guessed)
{
  size_t count = 0;

  while (count < min_u64(STEPS_AHEAD, window)) {
    const struct qcow2_step *step = step_of(streams, unit);

    if (step->from != (uint32_t) unit || step->to == step->from)
      break;
    unit = guessed[count++] = step->to;
  }
  return count;
}

/* ---- Both -------------------------------------------------------------------- */

size_t qcow2_streams_note(struct qcow2_streams *streams, uint64_t unit, bool at_first_byte,
                          const struct qcow2_window *window, uint64_t guessed[UNITS_GUESSED_MAX])
{
  struct qcow2_stream *stream = find_stream(streams, unit);
  unsigned most;
  size_t count = 0;

  stream_advance(stream, unit, at_first_byte);
  most = stream->whole >= WHOLE_MIN ? window->copying : window->walking;
  stream->used = ++streams->clock;
  step_note(streams, unit);
  streams->is_sure = stream->score >= SCORE_SURE;
  if (!streams->is_sure)
    count = guess_steps(streams, unit, most, guessed);
  return count > 0 ? count : guess_in_order(stream, most, guessed);
}
