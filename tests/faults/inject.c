/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "inject.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif
#ifdef HAVE_LIBGCRYPT
#include <gcrypt.h>
#endif

/* Some linkers refuse hidden functions here, because shared libraries call those that these stand
   for. */
#pragma GCC visibility push(default)

/* WRAP(result, function, parameters): declares the real function, and the one that the linker puts
   in its place. */
#define WRAP(result, name, ...)      \
  result __real_##name(__VA_ARGS__); \
  result __wrap_##name(__VA_ARGS__); \
  result __wrap_##name(__VA_ARGS__)

static struct {
  atomic_bool armed;
  enum fault_kind kind;
  unsigned long number;
  bool stays;
  atomic_ulong calls;
  atomic_bool happened;
} plan;

static atomic_long live_blocks;

/* A read has come short; the reader's next one is to give nothing. */
static _Thread_local bool at_end;

/* ---- Choosing ---------------------------------------------------------------- */

void fault_arm(enum fault_kind kind, unsigned long number, bool stays)
{
  plan.kind = kind;
  plan.number = number;
  plan.stays = stays;
  at_end = false;
  atomic_store(&plan.calls, 0);
  atomic_store(&plan.happened, false);
  atomic_store(&plan.armed, true);
}

bool fault_disarm(void)
{
  atomic_store(&plan.armed, false);
  return fault_happened();
}

bool fault_happened(void)
{
  return atomic_load(&plan.happened);
}

/* Count a call of this kind, and say whether it is to fail. */
static bool strikes(enum fault_kind kind)
{
  unsigned long call;

  if (!atomic_load(&plan.armed) || plan.kind != kind)
    return false;
  call = atomic_fetch_add(&plan.calls, 1);
  if (call != plan.number && !(plan.stays && call > plan.number))
    return false;
  atomic_store(&plan.happened, true);
  return true;
}

static bool strikes_with(enum fault_kind kind, int os_errno)
{
  bool now = strikes(kind);

  if (now)
    errno = os_errno;
  return now;
}

/* ---- Memory ------------------------------------------------------------------ */

long fault_live_blocks(void)
{
  return atomic_load(&live_blocks);
}

/* Count what an allocation gave. */
static void *counted(void *block)
{
  if (block != NULL)
    atomic_fetch_add(&live_blocks, 1);
  return block;
}

WRAP(void *, malloc, size_t size)
{
  return strikes_with(FAULT_MEMORY, ENOMEM) ? NULL : counted(__real_malloc(size));
}

WRAP(void *, calloc, size_t count, size_t size)
{
  return strikes_with(FAULT_MEMORY, ENOMEM) ? NULL : counted(__real_calloc(count, size));
}

WRAP(void *, realloc, void *block, size_t size)
{
  void *larger;

  if (strikes_with(FAULT_MEMORY, ENOMEM))
    return NULL;
  larger = __real_realloc(block, size);
  return block == NULL ? counted(larger) : larger;
}

WRAP(int, posix_memalign, void **block, size_t alignment, size_t size)
{
  int os_errno = strikes(FAULT_MEMORY) ? ENOMEM : __real_posix_memalign(block, alignment, size);

  if (os_errno == 0)
    counted(*block);
  return os_errno;
}

WRAP(char *, strdup, const char *text)
{
  return strikes_with(FAULT_MEMORY, ENOMEM) ? NULL : counted(__real_strdup(text));
}

WRAP(char *, strndup, const char *text, size_t length)
{
  return strikes_with(FAULT_MEMORY, ENOMEM) ? NULL : counted(__real_strndup(text, length));
}

/* The block that it makes is the caller's. */
WRAP(FILE *, open_memstream, char **text, size_t *length)
{
  FILE *stream;

  if (strikes_with(FAULT_MEMORY, ENOMEM))
    return NULL;
  stream = __real_open_memstream(text, length);
  counted(stream);
  return stream;
}

WRAP(int, vasprintf, char **text, const char *format, va_list arguments)
{
  int length = strikes_with(FAULT_MEMORY, ENOMEM) ? -1 : __real_vasprintf(text, format, arguments);

  if (length >= 0)
    counted(*text);
  return length;
}

int __wrap_asprintf(char **text, const char *format, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **text, const char *format, ...)
{
  va_list arguments;
  int length;

  va_start(arguments, format);
  length = __wrap_vasprintf(text, format, arguments);
  va_end(arguments);
  return length;
}

WRAP(void, free, void *block)
{
  if (block != NULL)
    atomic_fetch_sub(&live_blocks, 1);
  __real_free(block);
}

WRAP(void *, mmap, void *address, size_t length, int protection, int flags, int descriptor,
     off_t offset)
{
  if (strikes_with(FAULT_MEMORY, ENOMEM))
    return MAP_FAILED;
  atomic_fetch_add(&live_blocks, 1);
  return __real_mmap(address, length, protection, flags, descriptor, offset);
}

WRAP(int, munmap, void *address, size_t length)
{
  atomic_fetch_sub(&live_blocks, 1);
  return __real_munmap(address, length);
}

WRAP(int, pthread_create, pthread_t *thread, const pthread_attr_t *attributes,
     void *(*start)(void *), void *argument)
{
  return strikes(FAULT_MEMORY) ? EAGAIN
                               : __real_pthread_create(thread, attributes, start, argument);
}

WRAP(int, inflateInit2_, z_streamp stream, int window_bits, const char *version, int stream_size)
{
  return strikes(FAULT_MEMORY) ? Z_MEM_ERROR
                               : __real_inflateInit2_(stream, window_bits, version, stream_size);
}

WRAP(ZSTD_DCtx *, ZSTD_createDCtx, void)
{
  return strikes(FAULT_MEMORY) ? NULL : __real_ZSTD_createDCtx();
}

#ifdef HAVE_LIBDEFLATE
WRAP(struct libdeflate_decompressor *, libdeflate_alloc_decompressor, void)
{
  return strikes(FAULT_MEMORY) ? NULL : __real_libdeflate_alloc_decompressor();
}
#endif

void *fault_own_memory(size_t size)
{
  void *block = __real_malloc(size);

  if (block == NULL)
    abort();
  return block;
}

#ifdef HAVE_LIBGCRYPT
/* libgcrypt itself ends the process if it has no memory for a digest when it finishes an HMAC. */
#define DIGEST_BYTES_MAX 64u

static void *libgcrypt_malloc(size_t size)
{
  return size <= DIGEST_BYTES_MAX ? counted(__real_malloc(size)) : __wrap_malloc(size);
}

static int is_secure(const void *block)
{
  (void) block;
  return 0;
}
#endif

void fault_take_libgcrypt(void)
{
#ifdef HAVE_LIBGCRYPT
  gcry_set_allocation_handler(libgcrypt_malloc, libgcrypt_malloc, is_secure, __wrap_realloc,
                              __wrap_free);
#endif
}

/* ---- Reading files ----------------------------------------------------------- */

/* How many bytes a read shall ask for at most. -1: it fails, with errno set. */
static ssize_t readable(size_t length)
{
  if (at_end) {
    at_end = false;
    return 0;
  }
  if (strikes_with(FAULT_READ_ERROR, EIO) || strikes_with(FAULT_READ_SIGNAL, EINTR))
    return -1;
  if (strikes(FAULT_READ_END)) {
    at_end = length > 1; /* a part of the bytes first */
    return (ssize_t) (length / 2);
  }
  if (length > 1 && strikes(FAULT_READ_PARTIAL))
    return (ssize_t) (length / 2);
  return (ssize_t) length;
}

WRAP(ssize_t, pread, int descriptor, void *buffer, size_t length, off_t offset)
{
  ssize_t limit = readable(length);

  return limit <= 0 ? limit : __real_pread(descriptor, buffer, (size_t) limit, offset);
}

WRAP(ssize_t, read, int descriptor, void *buffer, size_t length)
{
  ssize_t limit = readable(length);

  return limit <= 0 ? limit : __real_read(descriptor, buffer, (size_t) limit);
}

/* ---- Opening files ----------------------------------------------------------- */

WRAP(char *, realpath, const char *path, char *resolved)
{
  if (strikes_with(FAULT_MEMORY, ENOMEM) || strikes_with(FAULT_SYSTEM, EIO))
    return NULL;
  return counted(__real_realpath(path, resolved));
}

/* None of the library's calls creates a file, so there is no third argument to pass on. */
int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
  return strikes_with(FAULT_SYSTEM, EIO) ? -1 : __real_open(path, flags);
}

int __real_openat(int directory, const char *path, int flags, ...);
int __wrap_openat(int directory, const char *path, int flags, ...);
int __wrap_openat(int directory, const char *path, int flags, ...)
{
  return strikes_with(FAULT_SYSTEM, EIO) ? -1 : __real_openat(directory, path, flags);
}

/* The library duplicates descriptors (F_DUPFD_CLOEXEC), and looks for locks: then the argument is a
   pointer. The C library takes both in the same way. */
int __real_fcntl(int descriptor, int command, ...);
int __wrap_fcntl(int descriptor, int command, ...);
int __wrap_fcntl(int descriptor, int command, ...)
{
  va_list arguments;
  void *argument;

  va_start(arguments, command);
  argument = va_arg(arguments, void *);
  va_end(arguments);
  return strikes_with(FAULT_SYSTEM, EMFILE) ? -1 : __real_fcntl(descriptor, command, argument);
}

WRAP(int, stat, const char *path, struct stat *status)
{
  return strikes_with(FAULT_SYSTEM, EIO) ? -1 : __real_stat(path, status);
}

WRAP(int, fstat, int descriptor, struct stat *status)
{
  return strikes_with(FAULT_SYSTEM, EIO) ? -1 : __real_fstat(descriptor, status);
}

WRAP(int, fstatat, int directory, const char *path, struct stat *status, int flags)
{
  return strikes_with(FAULT_SYSTEM, EIO) ? -1 : __real_fstatat(directory, path, status, flags);
}

WRAP(off_t, lseek, int descriptor, off_t offset, int whence)
{
  return strikes_with(FAULT_SYSTEM, EIO) ? -1 : __real_lseek(descriptor, offset, whence);
}

#pragma GCC visibility pop
