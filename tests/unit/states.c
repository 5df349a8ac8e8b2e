/* SPDX-License-Identifier: MIT */
/* Unit tests of comparing two states' files: from records to changes. */
#include <stdio.h>
#include <string.h>

#include "../../tsk_qcow2/states/compare.h"
#include "unit.h"

#define REGULAR 1
#define DIRECTORY 2
#define ROOT ENTRY_NONE

/* A record of a file: a letter for its name, where it is, and what tells it from others. */
struct file {
  uint32_t parent; /* index, or ROOT */
  const char *name;
  uint64_t inode;
  uint32_t sequence;
  int64_t born, modified;
  uint64_t layout;
  unsigned flags; /* in addition to those of its type */
};

#define FILES_MAX 6

struct compare_case {
  const char *what;
  enum compare_identity identity;
  struct file a[FILES_MAX], b[FILES_MAX]; /* to the first without a name; a directory's ends in
                                             "/" */
  char expected[64];                      /* what print_changes() makes of the changes */
};

static void fill(struct entries *entries, const struct file *files)
{
  memset(entries, 0, sizeof(*entries));
  for (size_t i = 0; i < FILES_MAX && files[i].name != NULL; i++) {
    size_t length = strlen(files[i].name);
    int is_directory = files[i].name[length - 1] == '/';
    char name[16];
    struct entry *entry;

    snprintf(name, sizeof(name), "%.*s", (int) (length - (size_t) is_directory), files[i].name);
    entry = entries_add(entries, name);
    entry->parent = files[i].parent;
    entry->inode = files[i].inode;
    entry->sequence = files[i].sequence;
    entry->times[TIME_BORN] = files[i].born;
    entry->nanoseconds[TIME_BORN] = files[i].born == 0 ? 0 : 5;
    entry->times[TIME_MODIFIED] = files[i].modified;
    entry->layout = entry->first_block = files[i].layout;
    entry->type = is_directory ? DIRECTORY : REGULAR;
    entry->flags = (uint16_t) (files[i].flags | ENTRY_HAS_META |
                               (is_directory ? ENTRY_IS_DIRECTORY : ENTRY_IS_REGULAR));
  }
}

static const char *relation_mark(enum change_relation relation)
{
  return relation == RELATION_LINK ? "=" : relation == RELATION_REUSED ? "!" : "";
}

/* "KIND A>B" for each change, with the aspects, and "=" or "!" at a name whose inode the other
   state has as well. */
static void print_changes(const struct entries *a, const struct entries *b,
                          const struct changes *changes, char *out, size_t size)
{
  static const char KINDS[CHANGE_KINDS + 1] = "cdr+?nx";
  size_t used = 0;

  out[0] = '\0';
  for (size_t i = 0; i < changes->count; i++) {
    const struct change *change = &changes->list[i];

    used += (size_t) snprintf(out + used, size - used, "%s%c %s%s>%s%s", i == 0 ? "" : ", ",
                              KINDS[change->kind],
                              change->a == ENTRY_NONE ? "" : entry_name(a, change->a),
                              relation_mark(change->relation_a),
                              change->b == ENTRY_NONE ? "" : entry_name(b, change->b),
                              relation_mark(change->relation_b));
    if (change->aspects != 0)
      used += (size_t) snprintf(out + used, size - used, " %x", change->aspects);
    if (change->name_remains)
      used += (size_t) snprintf(out + used, size - used, " remains");
  }
}

static const struct compare_case CASES[] = {
  { "nothing changed",
    IDENTITY_BIRTH,
    { { ROOT, "d/", 12, 0, 1, 0, 0, 0 }, { 0, "f", 13, 0, 1, 1, 7, 0 } },
    { { ROOT, "d/", 12, 0, 1, 0, 0, 0 }, { 0, "f", 13, 0, 1, 1, 7, 0 } },
    "" },
  { "created and deleted",
    IDENTITY_BIRTH,
    { { ROOT, "old", 12, 0, 1, 0, 1, 0 } },
    { { ROOT, "new", 13, 0, 2, 0, 2, 0 } },
    "c >new, d old>" },
  { "an inode is used again",
    IDENTITY_BIRTH,
    { { ROOT, "old", 12, 0, 1, 0, 1, 0 } },
    { { ROOT, "new", 12, 0, 2, 0, 2, 0 } },
    "c >new!, d old!>" },
  { "renamed, by its birth time",
    IDENTITY_BIRTH,
    { { ROOT, "old", 12, 0, 1, 1, 1, 0 } },
    { { ROOT, "new", 12, 0, 1, 2, 9, 0 } },
    "+ old>new d" },
  { "what a directory holds did not move",
    IDENTITY_BIRTH,
    { { ROOT, "d/", 12, 0, 1, 0, 0, 0 }, { 0, "f", 13, 0, 1, 0, 7, 0 } },
    { { ROOT, "e/", 12, 0, 1, 0, 0, 0 }, { 0, "f", 13, 0, 1, 0, 7, 0 } },
    "+ d>e 1" },
  { "moved into another directory",
    IDENTITY_BIRTH,
    { { ROOT, "d/", 12, 0, 1, 0, 0, 0 }, { ROOT, "f", 13, 0, 1, 0, 7, 0 } },
    { { ROOT, "d/", 12, 0, 1, 0, 0, 0 }, { 0, "f", 13, 0, 1, 0, 7, 0 } },
    "+ f>f 2" },
  { "two names were exchanged",
    IDENTITY_BIRTH,
    { { ROOT, "a", 12, 0, 1, 0, 1, 0 }, { ROOT, "b", 13, 0, 2, 0, 2, 0 } },
    { { ROOT, "a", 13, 0, 2, 0, 2, 0 }, { ROOT, "b", 12, 0, 1, 0, 1, 0 } },
    "+ b>a 1, + a>b 1" },
  { "a name leads to another file",
    IDENTITY_BIRTH,
    { { ROOT, "f", 12, 0, 1, 0, 1, 0 } },
    { { ROOT, "f", 13, 0, 2, 0, 1, 0 } },
    "r f>f 44" },
  { "no birth times, another name, other content and times",
    IDENTITY_BIRTH,
    { { ROOT, "old", 12, 0, 0, 1, 1, 0 } },
    { { ROOT, "new", 12, 0, 0, 2, 2, 0 } },
    "c >new!, d old!>" },
  { "no birth times, another name, the same content",
    IDENTITY_BIRTH,
    { { ROOT, "old", 12, 0, 0, 1, 1, 0 } },
    { { ROOT, "new", 12, 0, 0, 2, 1, 0 } },
    "+ old>new 9" },
  { "a second name of a file",
    IDENTITY_BIRTH,
    { { ROOT, "f", 12, 0, 1, 0, 1, 0 } },
    { { ROOT, "f", 12, 0, 1, 0, 1, 0 }, { ROOT, "g", 12, 0, 1, 0, 1, 0 } },
    "c >g=" },
  { "one of two names is gone",
    IDENTITY_BIRTH,
    { { ROOT, "f", 12, 0, 1, 0, 1, 0 }, { ROOT, "g", 12, 0, 1, 0, 1, 0 } },
    { { ROOT, "f", 12, 0, 1, 0, 1, 0 } },
    "d g=>" },
  { "another sequence number is another file",
    IDENTITY_SEQUENCE,
    { { ROOT, "f", 64, 1, 1, 0, 1, 0 } },
    { { ROOT, "f", 64, 2, 1, 0, 1, 0 } },
    "r f!>f! 4" },
  { "FAT: a file is known by where it starts, not by its inode",
    IDENTITY_PLACE,
    { { ROOT, "old", 5, 0, 1, 0, 30, 0 } },
    { { ROOT, "new", 9, 0, 1, 0, 30, 0 } },
    "+ old>new 1" },
  { "FAT: nothing is known of a file without content",
    IDENTITY_PLACE,
    { { ROOT, "old", 5, 0, 1, 0, 0, 0 } },
    { { ROOT, "new", 5, 0, 1, 0, 0, 0 } },
    "c >new, d old>" },
  { "another file system has no file of the old one",
    IDENTITY_NONE,
    { { ROOT, "d/", 12, 0, 1, 0, 1, 0 } },
    { { ROOT, "d/", 12, 0, 1, 0, 1, 0 } },
    "c >d, d d>" },
  { "touched bytes may be others",
    IDENTITY_BIRTH,
    { { ROOT, "f", 12, 0, 1, 0, 1, ENTRY_TOUCHED } },
    { { ROOT, "f", 12, 0, 1, 0, 1, 0 } },
    "+ f>f 4" },
  { "a directory of B that is not whole: nothing in it is deleted",
    IDENTITY_BIRTH,
    { { ROOT, "d/", 12, 0, 1, 0, 0, 0 },
      { 0, "e/", 14, 0, 1, 0, 0, 0 },
      { 1, "f", 13, 0, 1, 0, 7, 0 } },
    { { ROOT, "d/", 12, 0, 1, 0, 0, ENTRY_INCOMPLETE } },
    "? d>d, ? e>, ? f>" },
  { "a directory of A that is not whole: nothing in it is new",
    IDENTITY_BIRTH,
    { { ROOT, "d/", 12, 0, 1, 0, 0, ENTRY_INCOMPLETE } },
    { { ROOT, "d/", 12, 0, 1, 0, 0, 0 }, { 0, "f", 13, 0, 1, 0, 7, 0 } },
    "? d>d, ? >f" },
  { "a directory that is whole in neither: it may have names that only one state has",
    IDENTITY_BIRTH,
    { { ROOT, "d/", 12, 0, 1, 0, 0, ENTRY_INCOMPLETE } },
    { { ROOT, "d/", 12, 0, 1, 0, 0, ENTRY_INCOMPLETE } },
    "? d>d" },
  { "metadata that could not be read",
    IDENTITY_BIRTH,
    { { ROOT, "f", 12, 0, 1, 0, 1, 0 } },
    { { ROOT, "f", 12, 0, 1, 0, 1, ENTRY_META_UNSURE } },
    "? f>f" },
  { "a deleted name of both",
    IDENTITY_BIRTH,
    { { ROOT, "f", 12, 0, 1, 0, 1, ENTRY_DELETED } },
    { { ROOT, "f", 12, 0, 2, 0, 2, ENTRY_DELETED } },
    "" },
  { "a deleted name that can still be seen, and one that came and went",
    IDENTITY_BIRTH,
    { { ROOT, "f", 12, 0, 1, 0, 1, 0 } },
    { { ROOT, "f", 12, 0, 1, 0, 1, ENTRY_DELETED }, { ROOT, "g", 13, 0, 1, 0, 1, ENTRY_DELETED } },
    "d f> remains, n >g" },
  { "a deleted name that was overwritten",
    IDENTITY_BIRTH,
    { { ROOT, "f", 12, 0, 1, 0, 1, ENTRY_DELETED } },
    { { ROOT, NULL, 0, 0, 0, 0, 0, 0 } },
    "x f>" },
};

void test_compare(void)
{
  for (size_t i = 0; i < sizeof(CASES) / sizeof(CASES[0]); i++) {
    struct entries a, b;
    struct changes changes = { .count = 0 };
    char got[512];

    fill(&a, CASES[i].a);
    fill(&b, CASES[i].b);
    CHECK(compare_entries(&a, &b, CASES[i].identity, &changes));
    print_changes(&a, &b, &changes, got, sizeof(got));
    if (strcmp(got, CASES[i].expected) != 0)
      printf("%s: \"%s\", not \"%s\"\n", CASES[i].what, got, CASES[i].expected);
    CHECK(strcmp(got, CASES[i].expected) == 0);
    changes_free(&changes);
    entries_free(&a);
    entries_free(&b);
  }
}

/* Very many names and inodes that are the same, and of which none is the same file, take no time
   that grows with the square of their number. */
void test_compare_many_of_one_name(void)
{
  struct entries sides[2] = { { .count = 0 }, { .count = 0 } };
  struct changes changes = { .count = 0 };

  for (int side = 0; side < 2; side++)
    for (uint32_t i = 0; i < 200000; i++) {
      struct entry *entry = entries_add(&sides[side], "f");

      entry->parent = ROOT;
      entry->inode = 12;
      entry->sequence = i * 2 + (uint32_t) side;
      entry->type = REGULAR;
      entry->flags = ENTRY_HAS_META | ENTRY_IS_REGULAR;
    }
  CHECK(compare_entries(&sides[0], &sides[1], IDENTITY_SEQUENCE, &changes));
  CHECK(changes.count >= 200000);
  changes_free(&changes);
  entries_free(&sides[0]);
  entries_free(&sides[1]);
}

void test_paths_of_entries(void)
{
  struct entries entries = { .count = 0 };
  char path[ENTRY_PATH_BYTES], name[256];
  uint32_t parent = ROOT;

  CHECK(entries_add(&entries, "a\nb") != NULL);
  entries.list[0].parent = ROOT;
  CHECK(strcmp(entry_path(&entries, 0, path), "/a\\x0ab") == 0);
  memset(name, 'n', sizeof(name) - 1);
  name[sizeof(name) - 1] = '\0';
  for (uint32_t i = 1; i < 100; i++) {
    CHECK(entries_add(&entries, name) != NULL);
    entries.list[i].parent = parent;
    parent = i;
  }
  CHECK(strncmp(entry_path(&entries, 99, path), ".../nnn", 7) == 0);
  CHECK(strlen(entry_path(&entries, 99, path)) < sizeof(path));
  entries_free(&entries);
}
