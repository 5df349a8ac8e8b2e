/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <string.h>

#include "../base/checked.h"
#include "../storage/storage.h"
#include "checker.h"

/* The work of a read, in addition to its bytes. */
#define READ_BYTES 4096u

bool qcow2_checker_work(struct qcow2_checker *checker, uint64_t bytes)
{
  if (checker->work < bytes) {
    checker->work = 0;
    return false;
  }
  checker->work -= bytes;
  return true;
}

bool qcow2_checker_read(struct qcow2_checker *checker, const char *table, bool report,
                        uint64_t offset, uint8_t *buffer, size_t length)
{
  uint64_t size = checker->storage->size;
  size_t there = offset < size ? (size_t) min_u64(size - offset, length) : 0;
  struct qcow2_finding finding = FINDING(QCOW2_FINDING_UNREADABLE, QCOW2_WEIGHT_UNREADABLE);
  struct qcow2_error error;

  if (!qcow2_checker_work(checker, READ_BYTES + length))
    return false;
  memset(buffer + there, 0, length - there);
  if (there == 0 || qcow2_storage_read(checker->storage, offset, buffer, there, &error) == 0)
    return true;
  memset(buffer, 0, there);
  finding.host_offset = offset;
  if (report || checker->result->unreadable == 0)
    qcow2_checker_report(checker, &finding, "%s: %.300s", table, error.message);
  checker->result->is_complete = 0;
  return true;
}
