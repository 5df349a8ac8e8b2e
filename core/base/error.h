/* SPDX-License-Identifier: MIT */
/* Filling struct qcow2_error: the function that detects an error writes the whole sentence. */
#ifndef QCOW2_BASE_ERROR_H
#define QCOW2_BASE_ERROR_H

#include <stdio.h> /* __MINGW_PRINTF_FORMAT */

#include "../qcow2core.h"

/* The printf() format of this build: Windows has two. */
#if defined(__MINGW_PRINTF_FORMAT)
#define ERROR_PRINTF __MINGW_PRINTF_FORMAT
#else
#define ERROR_PRINTF printf
#endif

/* Each fills *error (which may be NULL) and returns `code`. Text that comes from an image must
   have gone through qcow2_text_escape(). */

/* qcow2_error_set(), for an error that concerns no offset in the image, is public. */

/* An error at a guest and a host offset, in bytes; either may be QCOW2_NO_OFFSET. */
int qcow2_error_set_at(struct qcow2_error *error, int code, uint64_t guest_offset,
                       uint64_t host_offset, const char *format, ...)
    __attribute__((format(ERROR_PRINTF, 5, 6)));

/* QCOW2_ERROR_IO with the system's reason; the sentence ends in ": reason". */
int qcow2_error_set_errno(struct qcow2_error *error, int os_errno, uint64_t host_offset,
                          const char *format, ...) __attribute__((format(ERROR_PRINTF, 4, 5)));

/* The system's words for an errno value, in `out`; returns `out`. */
char *qcow2_errno_text(int os_errno, char *out, size_t out_size);

/* QCOW2_ERROR_NOMEM. */
int qcow2_error_set_nomem(struct qcow2_error *error);

/* Add to an error what would help, and by which options (QCOW2_OPTION_...). Returns `code`. */
int qcow2_error_add_help(struct qcow2_error *error, int code, enum qcow2_help help, int options);

/* Add the rest of its sentence to an error. Returns `code`. */
int qcow2_error_add_text(struct qcow2_error *error, int code, const char *text);

/* Add the path of the file to the error, if the function that detected it did not know the path.
   NULL adds nothing. Returns `code`. */
int qcow2_error_add_file(struct qcow2_error *error, int code, const char *path);

/* What an error concerns. */
struct qcow2_error_place {
  uint64_t guest_offset, guest_length; /* bytes, length > 0 */
  uint64_t table_offset; /* host offset of the L1 or L2 entry that led there, or QCOW2_NO_OFFSET */
  const char *path;      /* of the file; NULL: it has no name */
};

/* Add to the error where it is, if the function that detected it did not know all of this. Returns
   `code`. */
int qcow2_error_add_place(struct qcow2_error *error, int code,
                          const struct qcow2_error_place *place);

#if defined(__clang_analyzer__) && !defined(QCOW2_ERROR_DEFINITIONS)
/* clang's analyzer cannot see in other files that these return the code, which is not 0. */
#define qcow2_error_set(error, code, ...) (qcow2_error_set(error, code, __VA_ARGS__), (code))
#define qcow2_error_set_at(error, code, ...) (qcow2_error_set_at(error, code, __VA_ARGS__), (code))
#define qcow2_error_set_errno(...) (qcow2_error_set_errno(__VA_ARGS__), QCOW2_ERROR_IO)
#define qcow2_error_add_help(error, code, help, options) \
  (qcow2_error_add_help(error, code, help, options), (code))
#define qcow2_error_set_nomem(error) (qcow2_error_set_nomem(error), QCOW2_ERROR_NOMEM)
#endif

#endif
