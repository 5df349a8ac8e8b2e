/* SPDX-License-Identifier: MIT */
/* What came of comparing two states, for printing. */
#ifndef TSK_QCOW2_STATES_DIFF_RESULT_H
#define TSK_QCOW2_STATES_DIFF_RESULT_H

#include "compare.h"
#include "volumes.h"

enum diff_count {
  COUNT_CREATED,
  COUNT_DELETED,
  COUNT_REPLACED,
  COUNT_MOVED, /* or renamed, whatever else changed */
  COUNT_CONTENT,
  COUNT_METADATA, /* and nothing else */
  COUNT_UNKNOWN,
  COUNT_REMNANTS,
  COUNT_REMNANTS_GONE,
  COUNT_INODES_REUSED, /* of those created, deleted or replaced, whose inode is another file's */
  DIFF_COUNTS
};

enum diff_answer {
  DIFF_SAME,
  DIFF_DIFFERENT,
  DIFF_INCOMPLETE, /* some of it was not compared, because of a bound or because libtsk cannot */
  DIFF_UNREADABLE  /* some of it cannot be read */
};

/* How the content of a file of CHANGE_CHANGED or CHANGE_REPLACED compares. */
enum diff_content {
  DIFF_CONTENT_KNOWN,      /* as the aspects say */
  DIFF_CONTENT_UNREADABLE, /* the aspects do not say */
  DIFF_CONTENT_OVER_BUDGET
};

struct diff_detail {
  enum diff_content content;
  char stream[64]; /* the first alternate stream that differs, escaped; "": none */
};

/* One pair of volumes. */
struct diff_volume {
  const struct volume_pair *pair;
  bool is_recovered[2]; /* A, B */
  bool is_by_files;     /* else by bytes, if both are there */
  struct entries entries[2];
  struct changes changes;
  struct diff_detail *details; /* one for each change */
  uint64_t counts[DIFF_COUNTS];
  enum diff_answer answer;
};

struct diff_totals {
  size_t volume_count, volumes_only_a, volumes_only_b, volumes_moved;
  uint64_t counts[DIFF_COUNTS];
  enum diff_answer answer;
  bool is_recovered[2]; /* A, B */
};

/* How it is printed, in this order. Each returns false for no memory. */
struct diff_format {
  bool (*start)(const struct state states[2]);
  bool (*volume)(const struct diff_volume *volume);
  bool (*totals)(const struct diff_totals *totals);
};

extern const struct diff_format diff_format_text, diff_format_json, diff_format_body;

/* Words of the formats. */
const char *diff_answer_name(enum diff_answer answer);
const char *diff_count_name(enum diff_count count); /* as in JSON */

/* The status of a change: one word, or several joined by "+". */
#define DIFF_STATUS_BYTES 64
const char *diff_status(const struct change *change, char out[DIFF_STATUS_BYTES]);

#endif
