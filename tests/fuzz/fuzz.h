/* SPDX-License-Identifier: MIT */
/*
 * What the fuzz targets share. A target is a function that takes any bytes. Whatever must not
 * happen ends in an abort, which libFuzzer (fuzzer.c) and the replay of the corpora (replay.c)
 * report.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../../core/qcow2core.h"

/* ---- The targets ---- */

void fuzz_image(const uint8_t *data,
                size_t size); /* a whole image: open, describe, map and read everything */
void fuzz_check(const uint8_t *data,
                size_t size); /* a whole image: its consistency, in parts and at once */
void fuzz_residue(const uint8_t *data, size_t size); /* a whole image: what nothing refers to */
void fuzz_labels(const uint8_t *data, size_t size);  /* a whole image: its deleted snapshots */
void fuzz_abandoned(const uint8_t *data,
                    size_t size); /* a whole image: its abandoned state, and guesses */
void fuzz_volumes(const uint8_t *data,
                  size_t size); /* the start of a disk and of a file system, and landmarks */
void fuzz_order(const uint8_t *data,
                size_t size); /* a whole image: read in some order, ahead in threads and without */
void fuzz_mapping(const uint8_t *data,
                  size_t size); /* L1 and L2 tables, against a model of their meaning */
void fuzz_decompress(const uint8_t *data,
                     size_t size); /* one compressed cluster, against zlib and zstd */
void fuzz_luks(const uint8_t *data, size_t size); /* a LUKS header: decode, unlock, decrypt */
void fuzz_tables(const uint8_t *data,
                 size_t size); /* a snapshot table and a bitmap directory, against a model */
void fuzz_reference(const uint8_t *data,
                    size_t size); /* a name that an image refers to, at the gate */
void fuzz_selector(const uint8_t *data, size_t size); /* a selector file, and what it leads to */
void fuzz_name(const uint8_t *data, size_t size);     /* what follows the path in an image name */

/* ---- Checks ---- */

/* Not assert(): these always count. */
#define FUZZ_CHECK(condition) ((condition) ? (void) 0 : fuzz_fail(#condition, __FILE__, __LINE__))

_Noreturn void fuzz_fail(const char *condition, const char *file, int line);

/* Make an error in which fuzz_check_result() sees whether it was touched. */
struct qcow2_error fuzz_error_fresh(void);

/* Check that `code` is a status, and that the error was filled as qcow2core.h promises: on failure,
   and only then. */
void fuzz_check_result(int code, const struct qcow2_error *error);

/* Check that text is printable UTF-8, without control characters. */
void fuzz_check_printable(const char *text);

/* Check how qcow2_text_escape() renders a text, also where it has no room. */
void fuzz_check_escape(const char *text, size_t length);

/* ---- Input ---- */

/* Bytes that a target takes from the front of its input. */
struct fuzz_input {
  const uint8_t *bytes;
  size_t length;
};

/* The next `width` (at most 8) bytes as a little-endian number; what is missing is 0. */
uint64_t fuzz_take(struct fuzz_input *input, unsigned width);

/* True if the image is of qcow version 1, which has no refcounts. */
bool fuzz_is_version_1(const struct fuzz_input *input);

/* A storage over the input's bytes, which must outlive it. It checks that nobody reads past its
   end. */
struct qcow2_storage fuzz_storage(struct fuzz_input *input);

/* The same, but one in eight of its sectors after the first cluster cannot be read (EIO). */
struct qcow2_storage fuzz_storage_failing(struct fuzz_input *input);

/* Whether such a sector is in the range, of more than 0 bytes. */
bool fuzz_is_bad(const struct fuzz_input *input, uint64_t offset, uint64_t length);

/* The number of files that can hold the input at once. */
#define FUZZ_FILES 2u

/* Write the input to a file of this process, always the same for a number below FUZZ_FILES. Returns
   its path. */
const char *fuzz_input_file(const struct fuzz_input *input, unsigned number);

#endif
