/* SPDX-License-Identifier: MIT */
#include "runs.h"

struct runs {
  const struct qcow2_image *image;
  struct qcow2_view *view;
  const struct runs_listener *listener;
  bool has_pending; /* there is a run that may go on: */
  struct run pending;
  bool is_stopped; /* the listener wants no more */
};

const char *run_kind_name(enum run_kind kind)
{
  static const char *const names[RUN_KINDS] = { "data", "compressed",  "zero",    "zero-allocated",
                                                "hole", "unallocated", "invalid", "unreadable" };

  return names[kind];
}

bool run_is_zero(const struct run *run)
{
  return run->kind == RUN_ZERO || run->kind == RUN_ZERO_ALLOCATED || run->kind == RUN_HOLE ||
         run->kind == RUN_UNALLOCATED;
}

/* ---- Joining ------------------------------------------------------------------- */

static void end_pending(struct runs *runs)
{
  if (runs->has_pending && !runs->is_stopped)
    runs->is_stopped = !runs->listener->run(runs->listener->context, &runs->pending);
  runs->has_pending = false;
}

static bool goes_on(const struct run *run, const struct run *next)
{
  return run->kind == next->kind && run->layer == next->layer &&
         (run->host_offset == QCOW2_NO_OFFSET
              ? next->host_offset == QCOW2_NO_OFFSET
              : next->host_offset == run->host_offset + run->length);
}

static void add(struct runs *runs, const struct run *next)
{
  if (runs->has_pending && goes_on(&runs->pending, next)) {
    runs->pending.length += next->length;
    return;
  }
  end_pending(runs);
  runs->pending = *next;
  runs->has_pending = true;
}

/* ---- From extents to runs ------------------------------------------------------- */

/* A part of a raw file may be a hole of it. */
static void add_of_raw(struct runs *runs, struct run run)
{
  uint64_t end = run.start + run.length, length;
  int is_stored;

  for (; run.start < end; run.start += run.length, run.host_offset += run.length) {
    length = qcow2_layer_stored(runs->image, run.layer, QCOW2_FILE_IMAGE, run.host_offset,
                                &is_stored);
    run.length = length == 0 || length > end - run.start ? end - run.start : length;
    run.kind = length == 0 || is_stored ? RUN_DATA : RUN_HOLE;
    add(runs, &run);
  }
}

static enum run_kind kind_of(enum qcow2_cluster_kind kind)
{
  switch (kind) {
  case QCOW2_CLUSTER_NORMAL: return RUN_DATA;
  case QCOW2_CLUSTER_COMPRESSED: return RUN_COMPRESSED;
  case QCOW2_CLUSTER_ZERO: return RUN_ZERO;
  case QCOW2_CLUSTER_ZERO_ALLOCATED: return RUN_ZERO_ALLOCATED;
  case QCOW2_CLUSTER_UNALLOCATED: return RUN_UNALLOCATED;
  case QCOW2_CLUSTER_INVALID: break;
  }
  return RUN_INVALID;
}

static int add_extent(struct runs *runs, const struct qcow2_extent *extent,
                      struct qcow2_error *error)
{
  struct run run = { .kind = kind_of(extent->kind),
                     .start = extent->guest_offset,
                     .length = extent->length,
                     .layer = extent->layer,
                     .host_offset = extent->host_offset };
  struct qcow2_layer_info layer;
  int code = qcow2_layer_get(runs->image, extent->layer, &layer, error);

  if (code != 0)
    return code;
  run.is_encrypted = layer.header != NULL && layer.header->crypt_method != 0;
  if (run.kind == RUN_COMPRESSED)
    run.host_offset = QCOW2_NO_OFFSET;
  /* A backing file that is shorter than the file above it has nothing there. */
  if (run.kind == RUN_ZERO && run.layer > 0 && run.start >= layer.size) {
    run.kind = RUN_UNALLOCATED;
    run.layer--;
  }
  if (run.kind == RUN_DATA && layer.is_raw)
    add_of_raw(runs, run);
  else
    add(runs, &run);
  return 0;
}

/* What cannot be mapped is a run, too. Other errors than damage are the caller's. */
static int add_failure(struct runs *runs, uint64_t at, uint64_t *length,
                       const struct qcow2_error *failure, struct qcow2_error *error)
{
  const struct run run = { .kind = RUN_UNREADABLE,
                           .start = at,
                           .length = failure->guest_length < *length && failure->guest_length > 0
                                         ? failure->guest_length
                                         : *length,
                           .host_offset = QCOW2_NO_OFFSET };

  if (failure->code != QCOW2_ERROR_IO && failure->code != QCOW2_ERROR_TRUNCATED &&
      failure->code != QCOW2_ERROR_CORRUPT) {
    *error = *failure;
    return failure->code;
  }
  *length = run.length;
  add(runs, &run);
  return 0;
}

int runs_find(const struct qcow2_image *image, struct qcow2_view *view,
              const struct runs_listener *listener, struct qcow2_error *error)
{
  struct runs runs = { .image = image, .view = view, .listener = listener };
  uint64_t size = qcow2_view_size(view), length;
  struct qcow2_extent extent;
  struct qcow2_error failure;
  int code = 0;

  for (uint64_t at = 0; code == 0 && at < size && !runs.is_stopped; at += length) {
    length = size - at;
    if (qcow2_view_map(view, at, length, &extent, &failure) != 0)
      code = add_failure(&runs, at, &length, &failure, error);
    else {
      length = extent.length;
      code = add_extent(&runs, &extent, error);
    }
  }
  end_pending(&runs);
  return code;
}
