/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* sched_getaffinity, CPU_COUNT, explicit_bzero, getentropy */
#include "system.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

unsigned qcow2_system_processors(void)
{
  cpu_set_t set;

  return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned) CPU_COUNT(&set) : 1;
}

int qcow2_system_thread_start(pthread_t *thread, void *(*run)(void *), void *context)
{
  sigset_t all, before;
  int os_errno;

  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  os_errno = pthread_create(thread, NULL, run, context);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return os_errno;
}

void qcow2_system_watch_forks(void (*before)(void), void (*in_parent)(void), void (*in_child)(void))
{
  pthread_atfork(before, in_parent, in_child);
}

bool qcow2_system_random(void *out, size_t length)
{
  return getentropy(out, length) == 0;
}

void qcow2_system_wipe(void *secret, size_t length)
{
  explicit_bzero(secret, length);
}

void *qcow2_system_take_aligned(size_t size)
{
  void *memory;

  if (posix_memalign(&memory, size, size) != 0)
    return NULL;
#ifdef MADV_HUGEPAGE
  madvise(memory, size, MADV_HUGEPAGE); /* if that fails, the pages are small */
#endif
  return memory;
}

void qcow2_system_give_aligned(void *memory)
{
  free(memory);
}
