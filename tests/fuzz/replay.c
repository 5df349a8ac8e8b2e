/* SPDX-License-Identifier: MIT */
/*
 * Runs targets over files, without libFuzzer:
 *   replay                   lists the targets
 *   replay TARGET FILE...    runs one on each file, and says how many there were
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static const struct target {
  const char *name;
  void (*run)(const uint8_t *data, size_t size);
} TARGETS[] = {
  { "image", fuzz_image },
  { "check", fuzz_check },
  { "residue", fuzz_residue },
  { "labels", fuzz_labels },
  { "abandoned", fuzz_abandoned },
  { "volumes", fuzz_volumes },
  { "order", fuzz_order },
  { "mapping", fuzz_mapping },
  { "decompress", fuzz_decompress },
  { "luks", fuzz_luks },
  { "tables", fuzz_tables },
#ifndef _WIN32 /* the part of the gate that opens what an image names, and image names */
  { "reference", fuzz_reference },
  { "selector", fuzz_selector },
  { "name", fuzz_name },
#endif
};

#define TARGET_COUNT (sizeof(TARGETS) / sizeof(TARGETS[0]))

/* The whole file in memory of exactly its length, so that a read past the end is seen by whatever
   watches. */
static uint8_t *load(const char *path, size_t *length)
{
  FILE *file = fopen(path, "rb");
  uint8_t *bytes;
  long end;

  if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (end = ftell(file)) < 0) {
    perror(path);
    exit(2);
  }
  *length = (size_t) end;
  bytes = malloc(*length == 0 ? 1 : *length);
  rewind(file);
  if (bytes == NULL || fread(bytes, 1, *length, file) != *length) {
    fprintf(stderr, "%s: cannot be read\n", path);
    exit(2);
  }
  fclose(file);
  return bytes;
}

static void replay(const struct target *target, const char *path)
{
  size_t length;
  uint8_t *bytes = load(path, &length);

  fprintf(stderr, "%s\n", path); /* the last one named is the one that failed */
  target->run(bytes, length);
  free(bytes);
}

int main(int argc, char **argv)
{
  for (size_t i = 0; i < TARGET_COUNT; i++) {
    if (argc < 2)
      printf("%s\n", TARGETS[i].name);
    else if (strcmp(argv[1], TARGETS[i].name) == 0) {
      for (int file = 2; file < argc; file++)
        replay(&TARGETS[i], argv[file]);
      printf("%d inputs\n", argc - 2);
      return 0;
    }
  }
  return argc < 2 ? 0 : 2;
}
