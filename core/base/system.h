/* SPDX-License-Identifier: MIT */
/* What differs between POSIX and Windows, except for files (storage/). */
#ifndef QCOW2_BASE_SYSTEM_H
#define QCOW2_BASE_SYSTEM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* The number of processors that this process may use, > 0. */
unsigned qcow2_system_processors(void);

/* Start a thread, in which the program's signals are blocked. Returns 0 or an errno value. */
int qcow2_system_thread_start(pthread_t *thread, void *(*run)(void *), void *context);

/* As pthread_atfork(); where there is no fork(), nothing. */
void qcow2_system_watch_forks(void (*before)(void), void (*in_parent)(void),
                              void (*in_child)(void));

/* Fill up to 256 bytes with random bytes that nobody can guess. Returns false if the system has
   none. */
bool qcow2_system_random(void *out, size_t length);

/* Overwrite a secret with zeros, which the compiler must not optimise away. */
void qcow2_system_wipe(void *secret, size_t length);

/* Take memory that begins at a multiple of its size, a power of two: in huge pages, if the system
   has these. NULL: there is none. The caller gives it back with qcow2_system_give_aligned(). */
void *qcow2_system_take_aligned(size_t size);

void qcow2_system_give_aligned(void *memory);

#endif
