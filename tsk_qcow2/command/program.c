/* SPDX-License-Identifier: MIT */
#include "program.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elf_file.h"

#define DROPIN DROPIN_DIRECTORY "/" TSK_SONAME
#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"
#define DIRECTORY_BYTES 512u

/* ---- libtsk ------------------------------------------------------------------------ */

bool program_libtsk_binds_calls(void)
{
  struct elf_file libtsk;
  bool binds = elf_file_read(TSK_LIBRARY, true, &libtsk) &&
               elf_file_defines(&libtsk, "tsk_img_open") &&
               !elf_file_relocates(&libtsk, "tsk_img_open");

  elf_file_free(&libtsk);
  return binds;
}

/* True for the functions of libtsk that take image names and an image type, and for methods with
   such parameters. */
static bool opens_images(const char *symbol)
{
  return (strncmp(symbol, "tsk_img_open", 12) == 0 &&
          strcmp(symbol, "tsk_img_open_external") != 0) ||
         strstr(symbol, "PKPKc17TSK_IMG_TYPE_ENUM") != NULL;
}

/* The symbol through which a program opens images inside libtsk, where the plugin does not see it.
   NULL: none. */
static const char *find_bypass(const struct elf_file *program)
{
  struct elf_file dropin;
  const char *bypass = NULL;

  if (!program_libtsk_binds_calls())
    return NULL;
  (void) elf_file_read(DROPIN, false, &dropin);
  for (size_t i = 0; bypass == NULL && i < program->symbol_count; i++) {
    const char *name = elf_file_symbol_name(program, i);

    if (opens_images(name) && !elf_file_defines(&dropin, name))
      bypass = name;
  }
  elf_file_free(&dropin);
  return bypass;
}

/* ---- Which libtsk a program loads ----------------------------------------------------- */

/* The libtsk that a program needs, by soname; NULL: none. */
static const char *needed_libtsk(const struct elf_file *program)
{
  const char *soname;

  for (size_t i = 0; (soname = elf_file_dynamic(program, DT_NEEDED, i)) != NULL; i++)
    if (strncmp(soname, "libtsk.so.", 10) == 0)
      return soname;
  return NULL;
}

static bool needs(const struct elf_file *program, const char *soname)
{
  const char *other;

  for (size_t i = 0; (other = elf_file_dynamic(program, DT_NEEDED, i)) != NULL; i++)
    if (strcmp(other, soname) == 0)
      return true;
  return false;
}

/* libtsk is C++: a program that contains it also loads the C++ library, or no library at all. */
static bool carries_libtsk(const char *path, const struct elf_file *program)
{
  return (program->dynamic_count == 0 || needs(program, "libstdc++.so.6")) &&
         elf_file_contains(path, "tsk_img_open");
}

/* Write a directory of a run path, with the soname after it. $ORIGIN is the program's directory.
   False: it is too long. */
static bool compose(const char *program, const char *directory, size_t length, char *out,
                    size_t out_size)
{
  static const char *const origins[] = { "$ORIGIN", "${ORIGIN}" };
  int origin_length = 0;

  for (size_t i = 0; i < 2; i++) {
    size_t word = strlen(origins[i]);

    if (length >= word && strncmp(directory, origins[i], word) == 0) {
      origin_length = (int) (strrchr(program, '/') - program);
      directory += word;
      length -= word;
    }
  }
  return snprintf(out, out_size, "%.*s%.*s/%s", origin_length, program, (int) length, directory,
                  TSK_SONAME) < (int) out_size;
}

static bool is_same_file(const char *path, const char *other)
{
  struct stat status, other_status;

  return stat(path, &status) == 0 && stat(other, &other_status) == 0 &&
         status.st_dev == other_status.st_dev && status.st_ino == other_status.st_ino;
}

/* True if the program's run path leads to a libtsk before the plugin is looked for; `found` is its
   path. The loader looks into DT_RPATH first, which counts only without DT_RUNPATH, then into the
   library path, into DT_RUNPATH, and where it is configured. */
static bool run_path_wins(const char *path, const struct elf_file *program, bool is_enabled,
                          char *found, size_t found_size)
{
  const char *directories = elf_file_dynamic(program, DT_RUNPATH, 0);
  char *real = realpath(path, NULL);
  bool is_found = false;

  if (directories == NULL)
    directories = elf_file_dynamic(program, DT_RPATH, 0);
  else if (!is_enabled)
    directories = NULL;
  while (real != NULL && !is_found && directories != NULL && *directories != '\0') {
    size_t length = strcspn(directories, ":");

    is_found = compose(real, directories, length, found, found_size) && access(found, R_OK) == 0;
    directories += length + (directories[length] == ':');
  }
  free(real);
  return is_found && !is_same_file(found, DROPIN);
}

/* ---- One program ---------------------------------------------------------------------- */

static void answer_with(struct program_answer *answer, enum program_kind kind, const char *detail)
{
  answer->kind = kind;
  snprintf(answer->detail, sizeof(answer->detail), "%s", detail);
}

static void ask_about_libtsk(const char *path, const struct elf_file *program, const char *soname,
                             bool is_enabled, struct program_answer *answer)
{
  const char *bypass;
  char found[512];

  if (strcmp(soname, TSK_SONAME) != 0) {
    answer_with(answer, PROGRAM_OTHER_LIBTSK, soname);
    return;
  }
  if (run_path_wins(path, program, is_enabled, found, sizeof(found))) {
    answer_with(answer, PROGRAM_RUN_PATH, found);
    return;
  }
  bypass = find_bypass(program);
  if (bypass != NULL)
    answer_with(answer, PROGRAM_BYPASSES, bypass);
  else
    answer_with(answer, PROGRAM_UNDERSTANDS, "");
}

void program_ask(const char *path, bool is_enabled, struct program_answer *answer)
{
  struct elf_file program;
  const char *soname;

  answer_with(answer, PROGRAM_OTHER, "");
  (void) elf_file_read(path, false, &program);
  soname = needed_libtsk(&program);
  if (soname != NULL)
    ask_about_libtsk(path, &program, soname, is_enabled, answer);
  else if (carries_libtsk(path, &program))
    answer_with(answer, PROGRAM_OWN_LIBTSK, "");
  elf_file_free(&program);
}

void program_explain(const struct program_answer *answer, char *text, size_t text_size)
{
  switch (answer->kind) {
  case PROGRAM_OTHER:
  case PROGRAM_UNDERSTANDS: snprintf(text, text_size, "%s", ""); break;
  case PROGRAM_OWN_LIBTSK:
    snprintf(text, text_size, "contains a libtsk of its own, which does not know qcow2");
    break;
  case PROGRAM_OTHER_LIBTSK:
    snprintf(text, text_size, "needs %s, and the plugin was built for " TSK_LIBRARY,
             answer->detail);
    break;
  case PROGRAM_RUN_PATH:
    snprintf(text, text_size, "finds %s by its own run path, before the plugin", answer->detail);
    break;
  case PROGRAM_BYPASSES:
    snprintf(text, text_size,
             "opens images by %s, inside a libtsk whose own calls do not reach the plugin",
             answer->detail);
    break;
  }
}

/* ---- PATH ------------------------------------------------------------------------------- */

static const char *search_path(void)
{
  const char *path = getenv("PATH");

  return path == NULL ? DEFAULT_PATH : path;
}

static bool is_program(const char *path)
{
  struct stat status;

  return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

bool program_find(const char *name, char *path, size_t path_size)
{
  const char *directories = search_path();

  if (strchr(name, '/') != NULL)
    return is_program(name) && snprintf(path, path_size, "%s", name) < (int) path_size;
  for (;;) {
    size_t length = strcspn(directories, ":");

    snprintf(path, path_size, "%.*s/%s", length == 0 ? 1 : (int) length,
             length == 0 ? "." : directories, name);
    if (is_program(path))
      return true;
    if (directories[length] == '\0')
      return false;
    directories += length + 1;
  }
}

static void visit_directory(const char *directory, bool is_enabled, program_visit *visit,
                            void *context)
{
  struct dirent **entries;
  int count = scandir(directory, &entries, NULL, alphasort);

  for (int i = 0; i < count; i++) {
    struct program_answer answer = { PROGRAM_OTHER, "" };
    char path[512];

    if (snprintf(path, sizeof(path), "%s/%s", directory, entries[i]->d_name) < (int) sizeof(path) &&
        is_program(path))
      program_ask(path, is_enabled, &answer);
    if (answer.kind != PROGRAM_OTHER)
      visit(context, path, &answer);
    free(entries[i]);
  }
  if (count >= 0)
    free(entries);
}

/* Copy the first directory of a search path. Returns its length there. */
static size_t first_directory(const char *path, char directory[DIRECTORY_BYTES])
{
  size_t length = strcspn(path, ":");
  size_t copied = length < DIRECTORY_BYTES ? length : DIRECTORY_BYTES - 1;

  memcpy(directory, path, copied);
  directory[copied] = '\0';
  return length;
}

/* True if a part of the search path between `start` and `end` is the same directory. */
static bool was_visited(const char *start, const char *end, const char *directory)
{
  char earlier[DIRECTORY_BYTES];

  while (start < end) {
    start += first_directory(start, earlier) + 1;
    if (is_same_file(earlier, directory))
      return true;
  }
  return false;
}

void program_each_in_path(bool is_enabled, program_visit *visit, void *context)
{
  const char *all = search_path(), *part = all;

  for (;;) {
    char directory[DIRECTORY_BYTES];
    size_t length = first_directory(part, directory);

    if (directory[0] == '/' && !was_visited(all, part, directory))
      visit_directory(directory, is_enabled, visit, context);
    if (part[length] == '\0')
      break;
    part += length + 1;
  }
}
