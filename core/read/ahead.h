/* SPDX-License-Identifier: MIT */
/*
 * Decoding ahead of a reader, in threads.
 *
 * A disk is divided into units. Whoever reads a unit that takes work to decode says so first; when
 * it can be guessed what he will read next, threads are started (once for an image) that decode
 * that into the caches. A unit that nobody has begun to decode when the reader comes to it is his
 * own; while it is being decoded for him, he helps with the next. What is done ahead is only ever a
 * favour: its failures are forgotten, and the reader meets them by himself.
 *
 * The threads end with the image. fork() waits for what they are doing, so in the child no lock is
 * held by a thread that is not there; the child reads without threads.
 */
#ifndef QCOW2_READ_AHEAD_H
#define QCOW2_READ_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The threads of an image, and what is to be done. */
struct qcow2_ahead;

/* At most `budget` bytes are decoded ahead. NULL: no memory. The caller frees it with
   qcow2_ahead_free(). */
struct qcow2_ahead *qcow2_ahead_new(size_t budget);

/* Wait for the threads to end; no reader may be left. NULL is allowed. */
void qcow2_ahead_free(struct qcow2_ahead *ahead);

/* Decode the bytes of a disk in [guest_offset, guest_offset + length) into the caches. For any
   thread. */
typedef void qcow2_ahead_work(void *context, uint64_t guest_offset, uint64_t length);

/* The disk that is read. */
struct qcow2_ahead_disk {
  uint64_t end;  /* bytes */
  uint32_t unit; /* bytes */
  bool in_parts; /* parts of a unit can be read before all of it is decoded */
  qcow2_ahead_work *work;
  void *context; /* passed to it */
};

/* What is read of a disk, and how. */
struct qcow2_ahead_reader;

/* NULL: no memory, or this machine has a single processor. The caller frees it with
   qcow2_ahead_reader_free(). */
struct qcow2_ahead_reader *qcow2_ahead_reader_new(struct qcow2_ahead *ahead,
                                                  const struct qcow2_ahead_disk *disk);

/* Drop what was to be done for the reader, and wait for what is being done. NULL is allowed. */
void qcow2_ahead_reader_free(struct qcow2_ahead_reader *reader);

/* Say that bytes at `guest_offset`, which it takes work to decode, will be read now. Returns when
   nobody is decoding their unit for this reader any more. Any thread. */
void qcow2_ahead_reach(struct qcow2_ahead_reader *reader, uint64_t guest_offset);

#endif
