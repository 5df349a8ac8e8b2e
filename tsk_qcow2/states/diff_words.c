/* SPDX-License-Identifier: MIT */
#include "diff_result.h"

#include <string.h>

const char *diff_answer_name(enum diff_answer answer)
{
  switch (answer) {
  case DIFF_SAME: return "same";
  case DIFF_DIFFERENT: return "different";
  case DIFF_INCOMPLETE:
  case DIFF_UNREADABLE: return "incomplete";
  }
  return "";
}

const char *diff_count_name(enum diff_count count)
{
  switch (count) {
  case COUNT_CREATED: return "created";
  case COUNT_DELETED: return "deleted";
  case COUNT_REPLACED: return "replaced";
  case COUNT_MOVED: return "renamed_or_moved";
  case COUNT_CONTENT: return "content_changed";
  case COUNT_METADATA: return "metadata_changed";
  case COUNT_UNKNOWN: return "unknown";
  case COUNT_REMNANTS: return "remnants";
  case COUNT_REMNANTS_GONE: return "remnants_gone";
  case COUNT_INODES_REUSED: return "inodes_reused";
  case DIFF_COUNTS: break;
  }
  return "";
}

/* Append a word, after "+" unless it is the first. */
static void add_word(char out[DIFF_STATUS_BYTES], const char *word)
{
  if (out[0] != '\0')
    strncat(out, "+", DIFF_STATUS_BYTES - strlen(out) - 1);
  strncat(out, word, DIFF_STATUS_BYTES - strlen(out) - 1);
}

static void add_aspects(const struct change *change, char out[DIFF_STATUS_BYTES])
{
  if ((change->aspects & ASPECT_RENAMED) != 0)
    add_word(out, "renamed");
  if ((change->aspects & ASPECT_MOVED) != 0)
    add_word(out, "moved");
  if ((change->aspects & ASPECT_CONTENT) != 0)
    add_word(out, "content");
  if ((change->aspects & ASPECTS_OF_METADATA) != 0)
    add_word(out, "metadata");
}

const char *diff_status(const struct change *change, char out[DIFF_STATUS_BYTES])
{
  out[0] = '\0';
  switch (change->kind) {
  case CHANGE_CREATED: add_word(out, "created"); break;
  case CHANGE_DELETED: add_word(out, "deleted"); break;
  case CHANGE_REPLACED: add_word(out, "replaced"); break;
  case CHANGE_CHANGED: add_aspects(change, out); break;
  case CHANGE_UNKNOWN: add_word(out, "unknown"); break;
  case CHANGE_REMNANT: add_word(out, "remnant"); break;
  case CHANGE_REMNANT_GONE: add_word(out, "remnant-gone"); break;
  case CHANGE_KINDS: break;
  }
  return out;
}
