/* SPDX-License-Identifier: MIT */
/*
 * Threads that decode what will probably be read next.
 *
 * A disk is divided into units of equal size. Before a reader reads a unit that needs decoding, it
 * calls qcow2_ahead_reach(). From the order of these calls (streams.h) it is guessed which units
 * will be read next. The guessed units are put into a queue, from which threads take them and
 * decode them into the caches.
 *
 * When a reader reaches a unit of the queue, there are two cases. If no thread has begun to decode
 * the unit, it is removed from the queue, and the reader decodes it. If a thread is decoding it,
 * the reader decodes other units of the queue meanwhile, and then waits for the thread.
 *
 * Decoding ahead changes no result. If it fails, the error is forgotten: the reader gets it when it
 * reads the unit.
 *
 * An image has one set of threads. They start when enough units were reached, and end when the
 * image is closed. fork() waits until no thread decodes and takes all locks, so that no lock is
 * left held in the child, where these threads do not exist. If any image had threads, the child
 * reads all images that are open without threads.
 */
#ifndef QCOW2_READ_AHEAD_H
#define QCOW2_READ_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The threads of an image, and the queue of units to decode. */
struct qcow2_ahead;

/* `budget` limits how many bytes are decoded ahead of a reader. NULL: no memory. The caller frees
   it with qcow2_ahead_free(). */
struct qcow2_ahead *qcow2_ahead_new(size_t budget);

/* Wait until the threads have ended, and free it. All readers must have been freed. NULL is
   allowed. */
void qcow2_ahead_free(struct qcow2_ahead *ahead);

/* A callback that decodes `length` bytes of a disk at `guest_offset` into the caches. It is called
   by several threads at once. */
typedef void qcow2_ahead_work(void *context, uint64_t guest_offset, uint64_t length);

/* A disk that is read. */
struct qcow2_ahead_disk {
  uint64_t end;  /* bytes */
  uint32_t unit; /* the size of a unit, bytes */
  bool in_parts; /* a reader can use a part of a unit while the rest is being decoded */
  qcow2_ahead_work *work;
  void *context; /* passed to it */
};

/* A disk, and the order in which its units were read. */
struct qcow2_ahead_reader;

/* NULL: no memory, or no thread may be started because there is only one processor. The caller
   frees it with qcow2_ahead_reader_free(). */
struct qcow2_ahead_reader *qcow2_ahead_reader_new(struct qcow2_ahead *ahead,
                                                  const struct qcow2_ahead_disk *disk);

/* Remove the reader's units from the queue, wait for those that are being decoded, and free it.
   NULL is allowed. */
void qcow2_ahead_reader_free(struct qcow2_ahead_reader *reader);

/* Report that bytes at `guest_offset`, which need decoding, will be read now. Returns when no
   thread is decoding their unit for this reader. Any thread. */
void qcow2_ahead_reach(struct qcow2_ahead_reader *reader, uint64_t guest_offset);

#endif
