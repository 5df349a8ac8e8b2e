/* SPDX-License-Identifier: MIT */
#include "system.h"

#include <malloc.h>
#include <windows.h>
#include <ntsecapi.h> /* RtlGenRandom; needs windows.h */

unsigned qcow2_system_processors(void)
{
  SYSTEM_INFO info;

  GetSystemInfo(&info);
  return (unsigned) info.dwNumberOfProcessors;
}

int qcow2_system_thread_start(pthread_t *thread, void *(*run)(void *), void *context)
{
  return pthread_create(thread, NULL, run, context);
}

void qcow2_system_watch_forks(void (*before)(void), void (*in_parent)(void), void (*in_child)(void))
{
  (void) before;
  (void) in_parent;
  (void) in_child;
}

bool qcow2_system_random(void *out, size_t length)
{
  return RtlGenRandom(out, (ULONG) length);
}

void qcow2_system_wipe(void *secret, size_t length)
{
  SecureZeroMemory(secret, length);
}

void *qcow2_system_take_aligned(size_t size)
{
  return _aligned_malloc(size, size);
}

void qcow2_system_give_aligned(void *memory)
{
  _aligned_free(memory);
}
