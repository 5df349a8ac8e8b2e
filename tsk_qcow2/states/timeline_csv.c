/* SPDX-License-Identifier: MIT */
/*
 * mactime sorts by texts "TIME,INODE,NAME", in which times have ten digits, and gives each time of
 * a line a row; times of a line that are equal share one. Rows are sorted by what such a text would
 * be, without making it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "timeline.h"

struct row {
  int64_t time;
  const char *inode, *name; /* the name with the states after it, as in the body */
  uint32_t event;
  char letters[5]; /* "macb", "." for those that are of other rows */
};

struct table {
  const struct events *events;
  const struct timeline_states *states;
  struct row *rows;
  size_t count;
  char **names; /* one for each event */
};

/* ---- Order ------------------------------------------------------------------------------- */

static int compare_times(int64_t a, int64_t b)
{
  char of_a[24], of_b[24];

  snprintf(of_a, sizeof(of_a), "%.10" PRId64, a);
  snprintf(of_b, sizeof(of_b), "%.10" PRId64, b);
  return strcmp(of_a, of_b);
}

/* If one text is the beginning of the other, a comma stands where the shorter one ends. */
static int compare_inodes(const char *a, const char *b)
{
  while (*a != '\0' && *a == *b) {
    a++;
    b++;
  }
  return (*a == '\0' ? ',' : (unsigned char) *a) - (*b == '\0' ? ',' : (unsigned char) *b);
}

static int compare_rows(const void *a, const void *b)
{
  const struct row *of_a = a, *of_b = b;
  int order = of_a->time == of_b->time ? 0 : compare_times(of_a->time, of_b->time);

  if (order == 0)
    order = compare_inodes(of_a->inode, of_b->inode);
  if (order == 0)
    order = strcmp(of_a->name, of_b->name);
  return order != 0 ? order : of_a->event < of_b->event ? -1 : of_a->event > of_b->event;
}

/* ---- Rows ---------------------------------------------------------------------------------- */

/* The row of one of an event's times, with the letters of all that are equal; false if an earlier
   one has it. */
static bool make_row(const struct event *event, int time, struct row *row)
{
  row->time = event->times[time];
  for (int other = 0; other < ENTRY_TIMES; other++) {
    bool is_equal = event->times[other] == row->time;

    if (is_equal && other < time)
      return false;
    row->letters[other] = '.';
    if (is_equal)
      row->letters[other] = "macb"[other];
  }
  row->letters[ENTRY_TIMES] = '\0';
  return true;
}

static char *make_name(const struct table *table, const struct event *event)
{
  const char *path = event_text(table->events, event->name_offset);
  char seen[TIMELINE_STATES_BYTES], *name;
  size_t size;

  timeline_seen_in(table->events, event, table->states, seen);
  size = strlen(path) + strlen(seen) + sizeof(" [in ]");
  name = malloc(size);
  if (name != NULL)
    snprintf(name, size, "%s [in %s]", path, seen);
  return name;
}

static bool has_times(const struct event *event)
{
  for (int time = 0; time < ENTRY_TIMES; time++)
    if (event->times[time] != 0)
      return true;
  return false;
}

static bool add_rows(struct table *table, uint32_t index)
{
  const struct event *event = &table->events->list[index];
  struct row row = { .event = index, .inode = event_text(table->events, event->inode_offset) };

  if (!has_times(event))
    return true; /* as mactime does */
  table->names[index] = make_name(table, event);
  row.name = table->names[index];
  if (row.name == NULL)
    return false;
  for (int time = 0; time < ENTRY_TIMES; time++)
    if (make_row(event, time, &row))
      table->rows[table->count++] = row;
  return true;
}

static bool fill(struct table *table)
{
  table->rows = malloc((table->events->count * ENTRY_TIMES + 1) * sizeof(table->rows[0]));
  table->names = calloc(table->events->count + 1, sizeof(table->names[0]));
  if (table->rows == NULL || table->names == NULL)
    return false;
  for (size_t i = 0; i < table->events->count; i++)
    if (!add_rows(table, (uint32_t) i))
      return false;
  qsort(table->rows, table->count, sizeof(table->rows[0]), compare_rows);
  return true;
}

static void table_free(struct table *table)
{
  for (size_t i = 0; table->names != NULL && i < table->events->count; i++)
    free(table->names[i]);
  free(table->names);
  free(table->rows);
}

/* ---- Printing ------------------------------------------------------------------------------- */

static void print_date(int64_t seconds)
{
  static const char *const DAYS[] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
  static const char *const MONTHS[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
  time_t time = (time_t) seconds;
  struct tm parts;

  if (seconds == 0)
    printf("Xxx Xxx 00 0000 00:00:00");
  else if (localtime_r(&time, &parts) == NULL)
    printf("%" PRId64 " s", seconds);
  else
    printf("%s %s %02d %d %02d:%02d:%02d", DAYS[parts.tm_wday % 7], MONTHS[parts.tm_mon % 12],
           parts.tm_mday, parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec);
}

static void print_quoted(const char *text)
{
  putchar('"');
  for (; *text != '\0'; text++) {
    if (*text == '"')
      putchar('"');
    putchar(*text);
  }
  putchar('"');
}

static void print_row(const struct table *table, const struct row *row)
{
  const struct event *event = &table->events->list[row->event];
  char seen[TIMELINE_STATES_BYTES];

  print_date(row->time);
  printf(",%" PRId64 ",%s,%s,%" PRIu32 ",%" PRIu32 ",%s,", event->size, row->letters,
         event_text(table->events, event->mode_offset), event->uid, event->gid, row->inode);
  print_quoted(event_text(table->events, event->name_offset));
  putchar(',');
  print_quoted(timeline_seen_in(table->events, event, table->states, seen));
  if (table->states->has_recovered) {
    putchar(',');
    print_quoted(timeline_recovered_in(table->events, event, table->states, seen));
  }
  putchar('\n');
}

bool timeline_print_csv(const struct events *events, const struct timeline_states *states)
{
  struct table table = { .events = events, .states = states };
  bool is_done = fill(&table);

  if (is_done) {
    printf("Date,Size,Type,Mode,UID,GID,Meta,File Name,States%s\n",
           states->has_recovered ? ",Recovered" : "");
    for (size_t i = 0; i < table.count; i++)
      print_row(&table, &table.rows[i]);
  }
  table_free(&table);
  return is_done;
}
