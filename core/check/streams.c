/* SPDX-License-Identifier: MIT */
/* Decoding the compressed clusters that L2 entries refer to. Snapshots share most of theirs, so
   what was found out about a stream is remembered. */
#include <inttypes.h>
#include <stdlib.h>

#include "../base/checked.h"
#include "../read/decompress.h"
#include "../storage/storage.h"
#include "checker.h"

/* Streams that are remembered: a power of two. They take 4 MiB. */
#define KNOWN_BITS 18u

enum outcome {
  OUTCOME_NONE, /* the stream is not known */
  OUTCOME_GOOD,
  OUTCOME_DOUBTFUL,
  OUTCOME_DAMAGED,
  OUTCOME_UNREADABLE,
  OUTCOME_NOMEM
};

struct known_stream {
  uint64_t host_offset;
  uint32_t host_bytes;
  enum outcome outcome;
};

struct qcow2_checked_streams {
  struct qcow2_decompressor *decompressor;
  uint8_t *input, *output;    /* two clusters; one */
  struct known_stream *known; /* 1 << KNOWN_BITS */
};

struct qcow2_checked_streams *qcow2_checked_streams_new(const struct qcow2_layer *layer)
{
  struct qcow2_checked_streams *streams = calloc(1, sizeof(*streams));
  size_t cluster_size = layer->geometry.cluster_size;

  if (streams == NULL)
    return NULL;
  streams->decompressor = qcow2_decompressor_new();
  streams->input = malloc(2 * cluster_size);
  streams->output = malloc(cluster_size);
  streams->known = calloc((size_t) 1 << KNOWN_BITS, sizeof(streams->known[0]));
  if (streams->decompressor != NULL && streams->input != NULL && streams->output != NULL &&
      streams->known != NULL)
    return streams;
  qcow2_checked_streams_free(streams);
  return NULL;
}

void qcow2_checked_streams_free(struct qcow2_checked_streams *streams)
{
  if (streams == NULL)
    return;
  qcow2_decompressor_free(streams->decompressor);
  free(streams->input);
  free(streams->output);
  free(streams->known);
  free(streams);
}

/* Decode the stream, of which the last sector may end past the end of the file. */
static enum outcome decode(const struct qcow2_checker *checker,
                           const struct qcow2_cluster_part *part)
{
  const struct qcow2_checked_streams *streams = checker->streams;
  const struct qcow2_layer *layer = checker->layer;
  size_t length = (size_t) min_u64(part->host_bytes, checker->storage->size - part->host_offset);
  struct qcow2_stream_end end;
  int code;

  if (qcow2_storage_read(checker->storage, part->host_offset, streams->input, length, NULL) != 0)
    return OUTCOME_UNREADABLE;
  code = qcow2_decompress(streams->decompressor, layer->metadata.header.compression, streams->input,
                          length, streams->output, layer->geometry.cluster_size, &end, NULL);
  if (code == QCOW2_ERROR_NOMEM)
    return OUTCOME_NOMEM;
  return code != 0 ? OUTCOME_DAMAGED : end.has_ended ? OUTCOME_GOOD : OUTCOME_DOUBTFUL;
}

static enum outcome look_up(const struct qcow2_checker *checker,
                            const struct qcow2_cluster_part *part)
{
  uint64_t hash = part->host_offset * UINT64_C(0x9E3779B97F4A7C15);
  struct known_stream *known = &checker->streams->known[hash >> (64 - KNOWN_BITS)];

  if (known->outcome == OUTCOME_NONE || known->host_offset != part->host_offset ||
      known->host_bytes != part->host_bytes)
    *known = (struct known_stream){ part->host_offset, part->host_bytes, decode(checker, part) };
  return known->outcome;
}

bool qcow2_checker_stream(struct qcow2_checker *checker,
                          const struct qcow2_checked_l2_entry *checked)
{
  const struct qcow2_geometry *geometry = &checker->layer->geometry;
  struct qcow2_cluster_part part = qcow2_l2_entry_decode(geometry, &checked->entry,
                                                         checked->guest_offset);
  enum outcome outcome;
  struct qcow2_finding finding = FINDING(QCOW2_FINDING_STREAM, QCOW2_WEIGHT_DEFECT);

  if (part.kind != QCOW2_CLUSTER_COMPRESSED || part.host_offset >= checker->storage->size)
    return true;
  outcome = look_up(checker, &part);
  if (outcome == OUTCOME_GOOD)
    return true;
  if (outcome == OUTCOME_NOMEM) {
    checker->is_out_of_memory = true;
    return false;
  }
  if (outcome == OUTCOME_DOUBTFUL)
    finding.weight = QCOW2_WEIGHT_DOUBT;
  if (outcome == OUTCOME_UNREADABLE) {
    finding.weight = QCOW2_WEIGHT_UNREADABLE;
    checker->result->is_complete = 0;
  }
  finding.host_offset = part.host_offset;
  finding.guest_offset = checked->guest_offset;
  finding.table_offset = checked->table_offset;
  finding.snapshot_index = checked->disk->snapshot_index;
  qcow2_checker_report(checker, &finding,
                       "the compressed cluster at host offset %" PRIu64
                       ", for guest offset %" PRIu64 ", %s",
                       part.host_offset, checked->guest_offset,
                       outcome == OUTCOME_DOUBTFUL
                           ? "may be damaged: the compressed stream does not end with its cluster"
                       : outcome == OUTCOME_DAMAGED ? "cannot be decoded: its stream is damaged"
                                                    : "cannot be read by the operating system");
  return true;
}
