/* SPDX-License-Identifier: MIT */
/*
 * The gate on Windows. A path that the user gave may lead to a regular file. No path in an image is
 * followed: what gate.h promises about these needs functions of POSIX.
 */
#include "gate.h"

#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <stdlib.h>
#include <windows.h>

#include "../base/error.h"
#include "../base/text.h"
#include "storage.h"

void qcow2_opened_file_close_directory(struct qcow2_opened_file *file)
{
  file->directory = -1; /* it never has one */
}

/* ---- Paths that the user gave ------------------------------------------ */

static int refuse_named(const char *path, const char *problem, struct qcow2_error *error)
{
  char quoted[TEXT_ESCAPED_BYTES];

  return qcow2_error_set(error, QCOW2_ERROR_ARGUMENT, "cannot open \"%s\": %s",
                         qcow2_text_quote(path, quoted), problem);
}

/* The error if the operating system did not open the path. */
static int refuse_for_system(const char *path, DWORD system_error, struct qcow2_error *error)
{
  char quoted[TEXT_ESCAPED_BYTES];
  int os_errno = EIO;

  if (system_error == ERROR_FILE_NOT_FOUND || system_error == ERROR_PATH_NOT_FOUND)
    os_errno = ENOENT;
  else if (system_error == ERROR_ACCESS_DENIED || system_error == ERROR_SHARING_VIOLATION)
    os_errno = EACCES;
  return qcow2_error_set_errno(error, os_errno, QCOW2_NO_OFFSET,
                               "cannot open \"%s\" (the system's error %lu)",
                               qcow2_text_quote(path, quoted), (unsigned long) system_error);
}

/* The path in UTF-16. The caller frees it. Errors: ARGUMENT, NOMEM. */
static int widen(const char *path, wchar_t **wide, struct qcow2_error *error)
{
  int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, NULL, 0);

  if (length <= 0)
    return refuse_named(path, "its name is not UTF-8", error);
  *wide = malloc((size_t) length * sizeof(**wide));
  if (*wide == NULL)
    return qcow2_error_set_nomem(error);
  MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, *wide, length);
  return 0;
}

/* Find out what kind of file the handle is for. Errors: ARGUMENT. */
static int examine(HANDLE handle, const char *path, BY_HANDLE_FILE_INFORMATION *about,
                   struct qcow2_error *error)
{
  if (GetFileType(handle) != FILE_TYPE_DISK || !GetFileInformationByHandle(handle, about))
    return refuse_named(path, "it is not a regular file", error);
  if ((about->dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) != 0)
    return refuse_named(path, "it is a directory", error);
  return 0;
}

/* Make the opened file. It owns `path` (NULL: there was no memory) and the descriptor from the call
   on; it is closed also on failure. */
static int opened_file_fill(struct qcow2_opened_file *file, char *path, int descriptor,
                            const BY_HANDLE_FILE_INFORMATION *about, struct qcow2_error *error)
{
  uint64_t size = (uint64_t) about->nFileSizeHigh << 32 | about->nFileSizeLow;
  int code = path == NULL ? qcow2_error_set_nomem(error) : 0;

  *file = (struct qcow2_opened_file){ .path = path,
                                      .descriptor = descriptor,
                                      .directory = -1,
                                      .is_regular = true,
                                      .has_identity = true,
                                      .device = about->dwVolumeSerialNumber,
                                      .inode = (uint64_t) about->nFileIndexHigh << 32 |
                                               about->nFileIndexLow };
  if (code == 0)
    code = qcow2_storage_from_descriptor(descriptor, size, &file->storage, error);
  if (code != 0) {
    _close(descriptor);
    qcow2_opened_file_close(file);
  }
  return code;
}

/* Open the file of a handle, which it owns from the call on. It is closed also on failure. */
static int open_handle(HANDLE handle, const char *path, struct qcow2_opened_file *file,
                       struct qcow2_error *error)
{
  BY_HANDLE_FILE_INFORMATION about;
  int code = examine(handle, path, &about, error), descriptor = -1;

  if (code == 0) {
    descriptor = _open_osfhandle((intptr_t) handle, _O_RDONLY | _O_BINARY);
    if (descriptor < 0)
      code = qcow2_error_set_errno(error, errno, QCOW2_NO_OFFSET, "cannot open a file");
  }
  if (code == 0)
    return opened_file_fill(file, qcow2_text_duplicate(path), descriptor, &about, error);
  CloseHandle(handle);
  return code;
}

/* Other programs may write, rename and delete the file meanwhile, as on other systems. */
int qcow2_gate_open_named(const char *path, struct qcow2_opened_file *file,
                          struct qcow2_error *error)
{
  const DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
  const DWORD flags = FILE_ATTRIBUTE_NORMAL | FILE_FLAG_BACKUP_SEMANTICS | SECURITY_SQOS_PRESENT |
                      SECURITY_IDENTIFICATION;
  wchar_t *wide;
  HANDLE handle;
  DWORD system_error;
  int code = widen(path, &wide, error);

  if (code != 0)
    return code;
  handle = CreateFileW(wide, GENERIC_READ, share, NULL, OPEN_EXISTING, flags, NULL);
  system_error = GetLastError();
  free(wide);
  if (handle == INVALID_HANDLE_VALUE)
    return refuse_for_system(path, system_error, error);
  return open_handle(handle, path, file, error);
}

bool qcow2_opened_file_lies_beside(const struct qcow2_opened_file *file, const char *name)
{
  (void) file;
  (void) name;
  return false;
}

/* ---- Paths in an image ------------------------------------------------- */

int qcow2_gate_open_reference(const struct qcow2_reference *reference,
                              struct qcow2_opened_file *file, struct qcow2_error *error)
{
  const char *image = reference->from->path == NULL ? "the image" : reference->from->path;
  char name[TEXT_ESCAPED_BYTES], from[TEXT_ESCAPED_BYTES];

  (void) file;
  qcow2_error_set(error, QCOW2_ERROR_DENIED,
                  "the %s \"%s\" of \"%s\" was not opened: on Windows no file is opened because "
                  "another names it",
                  reference->role, qcow2_text_quote(reference->name, name),
                  qcow2_text_quote(image, from));
  return qcow2_error_add_help(error, QCOW2_ERROR_DENIED,
                              reference->help_options == 0 ? QCOW2_HELP_NONE : QCOW2_HELP_NAME_FILE,
                              reference->help_options);
}
