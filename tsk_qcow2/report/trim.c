/* SPDX-License-Identifier: MIT */
/* Shortens lists. */
#include <stdio.h>

#include "report.h"

/* Items of a list in the outermost list that contains it, of lists inside of lists, and of all
   together. */
#define ITEMS_MAX 1000u
#define INNER_ITEMS_MAX 100u
#define ALL_ITEMS_MAX 20000u
/* No JSON of ours is deeper. */
#define DEPTH_MAX 12u
#define KEY_BYTES 96

struct trimming {
  size_t items_left;
};

static void trim_value(struct trimming *trimming, json_t *value, unsigned lists, unsigned depth);

static void trim_list(struct trimming *trimming, json_t *list, unsigned lists, unsigned depth)
{
  size_t allowed = lists == 0 ? ITEMS_MAX : INNER_ITEMS_MAX, size = json_array_size(list);

  if (allowed > trimming->items_left)
    allowed = trimming->items_left;
  while (size > allowed)
    json_array_remove(list, --size);
  trimming->items_left -= size;
  for (size_t i = 0; i < size; i++)
    trim_value(trimming, json_array_get(list, i), lists + 1, depth + 1);
}

static void trim_object(struct trimming *trimming, json_t *object, unsigned lists, unsigned depth)
{
  char keys[64][KEY_BYTES];
  size_t removed[64], count = 0;
  const char *key;
  json_t *value;

  json_object_foreach(object, key, value)
  {
    size_t before = json_array_size(value);

    trim_value(trimming, value, lists, depth + 1);
    if (json_array_size(value) < before && count < 64) {
      snprintf(keys[count], KEY_BYTES, "%s_more", key);
      removed[count++] = before - json_array_size(value);
    }
  }
  for (size_t i = 0; i < count; i++)
    json_object_set_new(object, keys[i], json_integer((json_int_t) removed[i]));
}

static void trim_value(struct trimming *trimming, json_t *value, unsigned lists, unsigned depth)
{
  if (depth > DEPTH_MAX)
    return;
  if (json_is_array(value))
    trim_list(trimming, value, lists, depth);
  else if (json_is_object(value))
    trim_object(trimming, value, lists, depth);
}

void report_trim(json_t *values)
{
  struct trimming trimming = { .items_left = ALL_ITEMS_MAX };

  trim_value(&trimming, values, 0, 0);
}
