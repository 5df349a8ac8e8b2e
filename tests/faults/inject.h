/* SPDX-License-Identifier: MIT */
/*
 * Faults on demand. The linker (--wrap) leads the calls that the library makes to functions of this
 * file, which count them and let the chosen one fail. libgcrypt's allocations come here as well.
 */
#ifndef TESTS_FAULTS_INJECT_H
#define TESTS_FAULTS_INJECT_H

#include <stdbool.h>
#include <stddef.h>

enum fault_kind {
  FAULT_MEMORY,       /* an allocation, or the start of a thread: no memory */
  FAULT_READ_ERROR,   /* a read of a file: EIO */
  FAULT_READ_END,     /* a read of a file comes short, and the next one gives nothing: the file has
                         shrunk */
  FAULT_READ_PARTIAL, /* a read of a file comes short, which is no error */
  FAULT_READ_SIGNAL,  /* a read of a file: EINTR, which is no error either */
  FAULT_SYSTEM,       /* a call that opens or examines a file: EIO */
  FAULT_KINDS
};

/* Let the call number `number` (from 0 on) of the kind fail, and with `stays` all after it. */
void fault_arm(enum fault_kind kind, unsigned long number, bool stays);

/* No more faults. Returns whether there was one. */
bool fault_disarm(void);

/* Whether a fault has happened since fault_arm(). */
bool fault_happened(void);

/* How many blocks of memory the library holds. */
long fault_live_blocks(void);

/* Memory for the test itself, which neither fails nor counts. */
void *fault_own_memory(size_t size);

/* Let libgcrypt allocate through here. To be called before anything uses it. */
void fault_take_libgcrypt(void);

#endif
