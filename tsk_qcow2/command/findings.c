/* SPDX-License-Identifier: MIT */
#include "findings.h"

uint64_t findings_of_refcounts(const struct qcow2_check_result *result)
{
  return result->counts[QCOW2_FINDING_REFCOUNT_LOW] + result->counts[QCOW2_FINDING_OVERFLOW] +
         result->counts[QCOW2_FINDING_COPIED] + result->counts[QCOW2_FINDING_REFCOUNT_BLOCK];
}

uint64_t findings_serious(const struct qcow2_check_result *result)
{
  return result->corruptions + result->defects - findings_of_refcounts(result);
}

uint64_t findings_unreferenced_bytes(const struct qcow2_check_result *result, const struct qcow2_layer_info *layer)
{
  return result->unreferenced_clusters << layer->header->cluster_bits;
}
