/* SPDX-License-Identifier: MIT */
/* tsk-qcow2 diff --ranges. What --json prints is described in diff-json.md. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "diff.h"
#include "json_value.h"
#include "progress.h"
#include "ranges.h"
#include "recovered.h"

struct printer {
  bool is_json, is_out_of_memory;
  bool is_recovered[SIDES], has_gaps; /* has_gaps: a disk may be shown wrongly */
  struct progress progress;
  uint64_t sizes[SIDES];
  uint64_t range_count, bytes; /* of what differs */
  uint64_t unreadable_bytes;   /* that cannot be compared */
};

static const char *kind_name(enum range_kind kind)
{
  switch (kind) {
  case RANGE_DIFFERS: return "differs";
  case RANGE_ONLY_A: return "only-in-a";
  case RANGE_ONLY_B: return "only-in-b";
  case RANGE_UNREADABLE: return "unreadable";
  }
  return "";
}

static json_t *reason_value(const struct qcow2_error *reason)
{
  return reason == NULL ? json_null() : json_string(reason->message);
}

static json_t *range_value(const struct printer *printer, const struct range *range)
{
  json_t *value = json_pack("{s:s, s:s, s:o, s:o, s:o}", "type", "range", "kind",
                            kind_name(range->kind), "start", json_number(range->start), "length",
                            json_number(range->length), "recovered",
                            recovered_mark_value(printer->is_recovered));

  if (value != NULL && range->kind == RANGE_UNREADABLE) {
    json_object_set_new(value, "reason_a", reason_value(range->reason[SIDE_A]));
    json_object_set_new(value, "reason_b", reason_value(range->reason[SIDE_B]));
  }
  return value;
}

/* Write the digits so that they end before `end`. Returns where they begin. */
static char *write_digits(char *end, uint64_t number)
{
  do
    *--end = (char) ('0' + number % 10);
  while ((number /= 10) > 0);
  return end;
}

static char *write_text(char *end, const char *text)
{
  size_t length = strlen(text);

  /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): other text follows */
  return memcpy(end - length, text, length);
}

static void print_reasons(const struct range *range)
{
  if (range->reason[SIDE_A] != NULL)
    printf(" in A: %s", range->reason[SIDE_A]->message);
  if (range->reason[SIDE_B] != NULL)
    printf("%s in B: %s", range->reason[SIDE_A] == NULL ? "" : ";", range->reason[SIDE_B]->message);
}

/* There can be a range for every few hundred bytes, so printf() would take a third of the time. */
static void print_text(const struct printer *printer, const struct range *range)
{
  const char *mark = recovered_mark(printer->is_recovered);
  bool is_short = range->kind != RANGE_UNREADABLE && mark[0] == '\0';
  char text[64], *end = text + sizeof(text), *at = write_text(end, is_short ? "\n" : "");

  at = write_text(at, kind_name(range->kind));
  *--at = ' ';
  at = write_digits(at, range->length);
  *--at = ' ';
  at = write_digits(at, range->start);
  fwrite(at, 1, (size_t) (end - at), stdout);
  if (is_short)
    return;
  if (range->kind == RANGE_UNREADABLE)
    print_reasons(range);
  fputs(mark, stdout);
  putchar('\n');
}

static void print_range(void *context, const struct range *range)
{
  struct printer *printer = context;

  if (range->kind == RANGE_UNREADABLE)
    printer->unreadable_bytes += range->length;
  else {
    printer->range_count++;
    printer->bytes += range->length;
  }
  progress_hide(&printer->progress);
  if (printer->is_json)
    printer->is_out_of_memory = !json_print_line(range_value(printer, range)) ||
                                printer->is_out_of_memory;
  else
    print_text(printer, range);
}

static void show_progress(void *context, uint64_t guest_offset)
{
  struct printer *printer = context;

  progress_show(&printer->progress, guest_offset);
}

static void print_json_summary(struct printer *printer)
{
  const char *result = printer->unreadable_bytes > 0 || printer->has_gaps ? "incomplete"
                       : printer->range_count > 0                         ? "different"
                                                                          : "same";

  printer->is_out_of_memory =
      !json_print_line(json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "type", "summary",
                                 "result", result, "size_a", json_number(printer->sizes[SIDE_A]),
                                 "size_b", json_number(printer->sizes[SIDE_B]), "range_count",
                                 json_number(printer->range_count), "bytes",
                                 json_number(printer->bytes), "unreadable_bytes",
                                 json_number(printer->unreadable_bytes), "recovered",
                                 recovered_mark_value(printer->is_recovered))) ||
      printer->is_out_of_memory;
}

static void print_summary(const struct printer *printer)
{
  if (printer->range_count > 0)
    printf("Different: %" PRIu64 " range%s, %" PRIu64 " byte%s, of disks of %" PRIu64
           " and %" PRIu64 " bytes.",
           printer->range_count, printer->range_count == 1 ? "" : "s", printer->bytes,
           printer->bytes == 1 ? "" : "s", printer->sizes[SIDE_A], printer->sizes[SIDE_B]);
  else if (printer->unreadable_bytes == 0 && !printer->has_gaps)
    printf("Same: all %" PRIu64 " bytes.", printer->sizes[SIDE_A]);
  else
    printf("No difference was found.");
  if (printer->unreadable_bytes > 0)
    printf(" %" PRIu64 " bytes cannot be compared.", printer->unreadable_bytes);
  if (printer->has_gaps)
    printf(" What is compared may be wrong: see the warnings.");
  if (printer->is_recovered[SIDE_A] || printer->is_recovered[SIDE_B])
    printf(" What is recovered may not be what the state had: see the first lines.");
  putchar('\n');
}

/* Say which of both are recovered, and how much of them is left. */
static void start(struct printer *printer, const struct tsk_qcow2_opened *a,
                  const struct tsk_qcow2_opened *b)
{
  const struct tsk_qcow2_opened *const opened[SIDES] = { a, b };

  printer->is_recovered[SIDE_A] = tsk_qcow2_opened_is_recovered(a);
  printer->is_recovered[SIDE_B] = tsk_qcow2_opened_is_recovered(b);
  printer->has_gaps = tsk_qcow2_opened_has_gaps(a, a->view) ||
                      tsk_qcow2_opened_has_gaps(b, b->view);
  if (printer->is_json)
    printer->is_out_of_memory = !recovered_print_json_sides(opened);
  else
    recovered_print_sides(opened);
}

int diff_ranges(const struct tsk_qcow2_opened opened[2], bool is_json)
{
  struct qcow2_view *const views[SIDES] = { opened[SIDE_A].view, opened[SIDE_B].view };
  struct printer printer = {
    .is_json = is_json, .sizes = { qcow2_view_size(views[SIDE_A]), qcow2_view_size(views[SIDE_B]) }
  };
  const struct ranges_listener listener = { .context = &printer,
                                            .range = print_range,
                                            .progress = show_progress };
  struct qcow2_error error;
  int code;

  start(&printer, &opened[SIDE_A], &opened[SIDE_B]);
  progress_start(&printer.progress, "Comparing",
                 printer.sizes[SIDE_A] < printer.sizes[SIDE_B] ? printer.sizes[SIDE_A]
                                                               : printer.sizes[SIDE_B]);
  code = ranges_compare(views, &listener, &error);
  progress_hide(&printer.progress);
  if (code != 0)
    return complain_failed("%s", error.message);
  if (is_json)
    print_json_summary(&printer);
  else
    print_summary(&printer);
  if (printer.is_out_of_memory)
    return complain_failed("cannot write the JSON: out of memory");
  return printer.unreadable_bytes > 0 || printer.has_gaps ? EXIT_DAMAGED : EXIT_OK;
}
