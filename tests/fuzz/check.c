/* SPDX-License-Identifier: MIT */
/*
 * The consistency check of a whole image. With little memory it goes through the file in many
 * parts, and must find the same as in one go; each finding is reported with a sentence, and counted
 * once.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define WORK_BYTES (UINT64_C(48) << 20)
#define LITTLE_MEMORY 64u
#define DECODED_BITS_MAX 16u

/* The findings as they were reported. */
struct told {
  uint64_t counts[QCOW2_FINDING_KINDS];
  uint64_t weights[QCOW2_WEIGHT_DOUBT + 1];
};

static int note_finding(void *context, const struct qcow2_finding *finding)
{
  struct told *told = context;

  FUZZ_CHECK((unsigned) finding->kind < QCOW2_FINDING_KINDS &&
             (unsigned) finding->weight <= QCOW2_WEIGHT_DOUBT);
  FUZZ_CHECK(finding->sentence[0] != '\0');
  fuzz_check_printable(finding->sentence);
  told->counts[finding->kind]++;
  told->weights[finding->weight]++;
  return 0;
}

/* Streams of large clusters would only cost time: those are the same. */
static bool decodes(const struct qcow2_image *image)
{
  struct qcow2_layer_info info;

  return qcow2_layer_get(image, 0, &info, NULL) == 0 &&
         info.header->cluster_bits <= DECODED_BITS_MAX;
}

/* Check that what was counted is what was reported. */
static struct qcow2_check_result check(const struct qcow2_image *image, size_t memory_bytes)
{
  struct told told = { { 0 }, { 0 } };
  struct qcow2_check_options options = { .struct_size = sizeof(options),
                                         .report = note_finding,
                                         .context = &told,
                                         .memory_bytes = memory_bytes,
                                         .work_bytes = WORK_BYTES,
                                         .decode = decodes(image) };
  struct qcow2_error error = fuzz_error_fresh();
  struct qcow2_check_result result;

  FUZZ_CHECK(qcow2_image_check(image, &options, &result, &error) == 0);
  fuzz_check_result(0, &error);
  FUZZ_CHECK(memcmp(told.counts, result.counts, sizeof(told.counts)) == 0);
  FUZZ_CHECK(told.weights[QCOW2_WEIGHT_LEAK] == result.leaks &&
             told.weights[QCOW2_WEIGHT_CORRUPTION] == result.corruptions);
  FUZZ_CHECK(told.weights[QCOW2_WEIGHT_DEFECT] == result.defects &&
             told.weights[QCOW2_WEIGHT_UNREADABLE] == result.unreadable &&
             told.weights[QCOW2_WEIGHT_DOUBT] == result.doubts);
  return result;
}

static void check_parts(const struct qcow2_image *image, const struct fuzz_input *input)
{
  struct qcow2_check_result whole = check(image, 0), parts = check(image, LITTLE_MEMORY);

  FUZZ_CHECK(whole.checked_to <= input->length && parts.checked_to <= input->length);
  if (!whole.is_complete || !parts.is_complete)
    return;
  FUZZ_CHECK(whole.checked_to == input->length && parts.checked_to == input->length);
  FUZZ_CHECK(memcmp(whole.counts, parts.counts, sizeof(whole.counts)) == 0);
  FUZZ_CHECK(whole.corruptions == parts.corruptions && whole.leaks == parts.leaks &&
             whole.defects == parts.defects && whole.doubts == parts.doubts);
  FUZZ_CHECK(whole.used_clusters == parts.used_clusters);
  FUZZ_CHECK(whole.unreferenced_clusters == parts.unreferenced_clusters);
}

static void open_and_check(const uint8_t *data, size_t size, bool is_failing)
{
  struct qcow2_open_options alone = { .struct_size = sizeof(alone), .flags = QCOW2_OPEN_NO_CHAIN };
  struct fuzz_input input = { data, size };
  struct qcow2_storage storage = is_failing ? fuzz_storage_failing(&input) : fuzz_storage(&input);
  struct qcow2_check_result result;
  struct qcow2_image *image;

  if (qcow2_image_open_storage(&storage, &alone, &image, NULL) != 0)
    return;
  if (fuzz_is_version_1(&input))
    FUZZ_CHECK(qcow2_image_check(image, NULL, &result, NULL) == QCOW2_ERROR_UNSUPPORTED);
  else if (is_failing)
    check(image, 0);
  else
    check_parts(image, &input);
  qcow2_image_close(image);
}

void fuzz_check(const uint8_t *data, size_t size)
{
  open_and_check(data, size, false);
  open_and_check(data, size, true);
}
