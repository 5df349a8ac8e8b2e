/* SPDX-License-Identifier: MIT */
/* What the unit tests share. */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <stdint.h>

/* Say what is not true, and count it. */
#define CHECK(condition) check((condition), #condition, __LINE__)
void check(int condition, const char *text, int line);

/* Say that a number is another than expected, and count it. */
void check_number(uint64_t got, uint64_t expected, const char *what, const char *name);

/* Of placing L2 tables that nothing leads to (residue.c). */
void test_in_place(void);
void test_guessed_refcounts(void);
void test_order(void);
void test_placed_doubt(void);
void test_placed_for_one_place(void);
void test_volume_bitmaps(void);
void test_volume_ext(void);
void test_volume_gpt(void);
void test_volume_ntfs(void);
void test_volume_xfs(void);

/* Of image names (names.c), which are not built for Windows. */
void test_damaged_ranges(void);
void test_damaged_ranges_without_end(void);
void test_image_names(void);
void test_long_complaints(void);
void test_selectors(void);

/* Of comparing states (states.c), which is not built for Windows either. */
void test_compare(void);
void test_compare_many_of_one_name(void);
void test_paths_of_entries(void);

/* Of the names in a mounted directory (mounted.c), which are not built for Windows either. */
void test_mounted_names(void);
void test_mounted_paths(void);
void test_mounted_same_names(void);

#endif
