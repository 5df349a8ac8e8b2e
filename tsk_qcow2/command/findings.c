/* SPDX-License-Identifier: MIT */
#include "findings.h"

uint64_t findings_serious(const struct qcow2_check_result *result)
{
  return result->corruptions + result->defects - result->of_refcounts;
}

uint64_t findings_unreferenced_bytes(const struct qcow2_check_result *result,
                                     const struct qcow2_layer_info *layer)
{
  return result->unreferenced_clusters << layer->header->cluster_bits;
}
