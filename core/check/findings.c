/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>

#include "checker.h"

/* The work that it costs to report a finding, and only to count it. */
#define REPORT_BYTES 4096u
#define COUNT_BYTES 64u

static uint64_t *counter(struct qcow2_check_result *result, enum qcow2_finding_weight weight)
{
  switch (weight) {
  case QCOW2_WEIGHT_LEAK: return &result->leaks;
  case QCOW2_WEIGHT_CORRUPTION: return &result->corruptions;
  case QCOW2_WEIGHT_DEFECT: return &result->defects;
  case QCOW2_WEIGHT_DOUBT: return &result->doubts;
  case QCOW2_WEIGHT_UNREADABLE: break;
  }
  return &result->unreadable;
}

/* True for kinds that are about the value of a refcount. */
static bool is_of_refcounts(enum qcow2_finding_kind kind)
{
  return kind == QCOW2_FINDING_LEAK || kind == QCOW2_FINDING_REFCOUNT_LOW ||
         kind == QCOW2_FINDING_OVERFLOW || kind == QCOW2_FINDING_COPIED ||
         kind == QCOW2_FINDING_REFCOUNT_BLOCK;
}

void qcow2_checker_report(struct qcow2_checker *checker, const struct qcow2_finding *finding,
                          const char *format, ...)
{
  struct qcow2_finding reported = *finding;
  char sentence[512];
  va_list arguments;
  bool is_wanted = checker->options.report != NULL && !checker->enough[finding->kind];

  reported.of_refcounts |= is_of_refcounts(finding->kind);
  if (finding->weight == QCOW2_WEIGHT_CORRUPTION || finding->weight == QCOW2_WEIGHT_DEFECT)
    checker->result->of_refcounts += reported.of_refcounts != 0;
  ++*counter(checker->result, finding->weight);
  checker->result->counts[finding->kind]++;
  qcow2_checker_work(checker, is_wanted ? REPORT_BYTES : COUNT_BYTES);
  if (!is_wanted)
    return;
  va_start(arguments, format);
  vsnprintf(sentence, sizeof(sentence), format, arguments);
  va_end(arguments);
  reported.sentence = sentence;
  checker->enough[finding->kind] = checker->options.report(checker->options.context, &reported) !=
                                   0;
}

const char *qcow2_finding_kind_name(enum qcow2_finding_kind kind)
{
  static const char *const names[QCOW2_FINDING_KINDS] = {
    "leak", "refcount-low", "overflow",       "copied", "reserved-bits", "unaligned",  "past-end",
    "cut",  "entry",        "refcount-block", "table",  "overlap",       "unreadable", "stream"
  };

  return (unsigned) kind < QCOW2_FINDING_KINDS ? names[kind] : "unknown";
}
