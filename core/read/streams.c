/* SPDX-License-Identifier: MIT */
#include "streams.h"

#include <stdbool.h>
#include <string.h>

#include "../base/checked.h"

/* A reader who skips no more than so many units still goes on. */
#define SKIP_MAX 2u
/* A unit that follows the last is worth a point, one that is skipped costs some. From SCORE_MIN on UNITS_MIN units are guessed, and
   one more for each SCORE_PER_UNIT points: what is decoded in vain takes time too. */
#define SKIP_COST 2u
#define SCORE_MIN 2u
#define UNITS_MIN 3u
#define SCORE_PER_UNIT 4u
#define SCORE_MAX 1000u
/* From this score on a long run is surer than what came next the last time. */
#define SCORE_SURE 16u

/* ---- Ascending order ------------------------------------------------------- */

/* True if the stream, reaching `unit`, goes on. */
static bool goes_on(const struct qcow2_stream *stream, uint64_t unit)
{
  return stream->used != 0 && unit >= stream->last &&
         (unit - stream->last <= SKIP_MAX + 1 || unit < stream->end);
}

/* The stream that goes on at the unit, or else a new one in place of that which was not used for the longest time. */
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
  *oldest = (struct qcow2_stream){ .last = unit, .end = unit + 1 };
  return oldest;
}

static void stream_advance(struct qcow2_stream *stream, uint64_t unit)
{
  uint64_t step = unit - stream->last;

  if (step == 1)
    stream->score = (unsigned) min_u64(stream->score + 1, SCORE_MAX);
  else if (step > 1)
    stream->score -= (unsigned) min_u64((step - 1) * SKIP_COST, stream->score);
  stream->last = unit;
  if (stream->end <= unit)
    stream->end = unit + 1;
}

static size_t guess_in_order(struct qcow2_stream *stream, unsigned window, uint64_t *guessed)
{
  uint64_t end = stream->last + 1 + min_u64(UNITS_MIN + stream->score / SCORE_PER_UNIT, window);
  size_t count = 0;

  if (stream->score < SCORE_MIN)
    return 0;
  while (stream->end < end)
    guessed[count++] = stream->end++;
  return count;
}

/* ---- What came next the last time ------------------------------------------- */

/* A second walk over a file system, to find what the first one missed, takes the same steps. */
static struct qcow2_step *step_of(struct qcow2_streams *streams, uint64_t unit)
{
  return &streams->step[unit % STEPS];
}

static void step_note(struct qcow2_streams *streams, uint64_t unit)
{
  if (unit != streams->last)
    *step_of(streams, streams->last) = (struct qcow2_step){ (uint32_t) streams->last, (uint32_t) unit };
  streams->last = unit;
}

/* Take off the path what the reader has behind him now, or all of it if he left it. */
static void path_advance(struct qcow2_streams *streams, uint64_t unit)
{
  size_t taken = 0;

  while (taken < streams->path_length && streams->path[taken] != unit)
    taken++;
  if (taken < streams->path_length)
    taken++;
  streams->path_length -= taken;
  memmove(streams->path, streams->path + taken, streams->path_length * sizeof(streams->path[0]));
}

static size_t guess_steps(struct qcow2_streams *streams, uint64_t unit, uint64_t *guessed)
{
  uint64_t end = streams->path_length > 0 ? streams->path[streams->path_length - 1] : unit;
  size_t count = 0;

  while (streams->path_length < STEPS_AHEAD) {
    const struct qcow2_step *step = step_of(streams, end);

    if (step->from != (uint32_t) end || step->to == step->from)
      break;
    end = step->to;
    streams->path[streams->path_length++] = guessed[count++] = end;
  }
  return count;
}

/* ---- Both -------------------------------------------------------------------- */

size_t qcow2_streams_note(struct qcow2_streams *streams, uint64_t unit, unsigned window,
                          uint64_t guessed[UNITS_GUESSED_MAX])
{
  struct qcow2_stream *stream = find_stream(streams, unit);
  size_t count;

  stream_advance(stream, unit);
  stream->used = ++streams->clock;
  step_note(streams, unit);
  path_advance(streams, unit);
  streams->is_sure = stream->score >= SCORE_SURE;
  if (streams->is_sure)
    return guess_in_order(stream, window, guessed);
  count = guess_steps(streams, unit, guessed);
  return streams->path_length > 0 ? count : guess_in_order(stream, window, guessed);
}
