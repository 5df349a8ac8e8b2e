/* SPDX-License-Identifier: MIT */
/* `tsk-qcow2 check`: are the image's tables and refcounts consistent? --json prints what
   check-json.md describes. */
#include <inttypes.h>
#include <stdio.h>

#include "arguments.h"
#include "command.h"
#include "findings.h"
#include "json_value.h"
#include "recovered.h"
#include "shell.h"

/* The most findings of a kind that are shown. All are counted. */
#define SHOWN_MAX 100u

struct check {
  bool json, decodes;
  uint64_t shown[QCOW2_FINDING_KINDS];
  json_t *findings;
  struct qcow2_check_result result;
  struct qcow2_layer_info layer;
  const char *name; /* as typed */
  bool has_warnings;
};

static const char *weight_name(enum qcow2_finding_weight weight)
{
  switch (weight) {
  case QCOW2_WEIGHT_LEAK: return "leak";
  case QCOW2_WEIGHT_CORRUPTION: return "corruption";
  case QCOW2_WEIGHT_DEFECT: return "defect";
  case QCOW2_WEIGHT_DOUBT: return "doubt";
  case QCOW2_WEIGHT_UNREADABLE: break;
  }
  return "unreadable";
}

/* ---- Findings ------------------------------------------------------------------ */

static json_t *finding_value(const struct qcow2_finding *finding)
{
  bool counted = finding->kind == QCOW2_FINDING_LEAK || finding->kind == QCOW2_FINDING_REFCOUNT_LOW;

  return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:s}", "kind",
                   qcow2_finding_kind_name(finding->kind), "weight", weight_name(finding->weight),
                   "host_offset", json_offset(finding->host_offset), "guest_offset",
                   json_offset(finding->guest_offset), "table_offset",
                   json_offset(finding->table_offset), "snapshot_index",
                   json_offset(finding->snapshot_index), "refcount",
                   json_offset(counted ? finding->refcount : QCOW2_NO_OFFSET), "references",
                   json_offset(counted ? finding->references : QCOW2_NO_OFFSET), "text",
                   finding->sentence);
}

static int show(void *context, const struct qcow2_finding *finding)
{
  struct check *check = context;

  if (check->json)
    json_array_append_new(check->findings, finding_value(finding));
  else if (finding->snapshot_index != QCOW2_ACTIVE)
    printf("%s: %s (snapshot @index=%zu)\n", weight_name(finding->weight), finding->sentence,
           finding->snapshot_index);
  else
    printf("%s: %s\n", weight_name(finding->weight), finding->sentence);
  return ++check->shown[finding->kind] >= SHOWN_MAX;
}

/* ---- Totals -------------------------------------------------------------------- */

/* What the findings mean for reading. */
static const char *verdict(const struct check *check)
{
  const struct qcow2_check_result *result = &check->result;
  uint64_t serious = findings_serious(result);

  if (serious == 0 && result->of_refcounts > 0)
    return "CORRUPT: refcounts are wrong. Reading does not use them, so everything that the tables "
           "refer to can be read. But a program that wrote to the image in this state may have "
           "overwritten clusters that were in use.";
  if (serious > 0)
    return "CORRUPT: reading what the findings name may fail, or give other bytes than were "
           "written there.";
  if (!result->is_complete)
    return "INCOMPLETE: nothing serious was found as far as the check went.";
  if (result->doubts > 0)
    return "DOUBTFUL: everything can be read, but compressed clusters may be damaged: their "
           "streams do not end with them.";
  if (result->leaks > 0)
    return "LEAKS: clusters are marked as used though nothing refers to them. They may contain old "
           "data, or data of a table that was lost. All else reads as written.";
  return check->decodes ? "CLEAN: tables and refcounts agree, and all compressed clusters can be "
                          "decoded. Other data were not read."
                        : "CLEAN: tables and refcounts agree. Data were not read.";
}

static int exit_status(const struct qcow2_check_result *result)
{
  if (result->corruptions + result->defects > 0)
    return EXIT_DAMAGED;
  if (!result->is_complete)
    return EXIT_INCOMPLETE;
  return result->leaks + result->doubts > 0 ? EXIT_LEAKS : EXIT_OK;
}

static void print_totals(const struct check *check)
{
  char command[SHELL_COMMAND_BYTES];
  const struct qcow2_check_result *result = &check->result;

  for (unsigned kind = 0; kind < QCOW2_FINDING_KINDS; kind++)
    if (result->counts[kind] > check->shown[kind])
      printf("... and %" PRIu64 " more of the kind \"%s\"\n",
             result->counts[kind] - check->shown[kind],
             qcow2_finding_kind_name((enum qcow2_finding_kind) kind));
  printf("Corruptions: %" PRIu64 ", leaks: %" PRIu64 ", other defects: %" PRIu64
         "; clusters in use: %" PRIu64 ", of %u bytes\n",
         result->corruptions, result->leaks, result->defects, result->used_clusters,
         1u << check->layer.header->cluster_bits);
  if (result->unreadable > 0)
    printf("%" PRIu64 " parts of tables or streams cannot be read, so the numbers above may be "
           "wrong\n",
           result->unreadable);
  else if (!result->is_complete && result->checked_to < check->layer.file_size)
    printf("The bound of work was reached: refcounts were compared up to byte %" PRIu64
           " of %" PRIu64 "\n",
           result->checked_to, check->layer.file_size);
  if (result->unreferenced_clusters > 0)
    printf("Not referred to: %" PRIu64 " clusters (%" PRIu64
           " bytes), of those that are marked as used\n",
           result->unreferenced_clusters, findings_unreferenced_bytes(result, &check->layer));
  if (result->doubts > 0)
    printf("May be damaged: %" PRIu64 " compressed clusters\n", result->doubts);
  printf("%s", verdict(check));
  if (exit_status(result) == EXIT_OK)
    printf("%s More: %s", check->has_warnings ? " See the warnings above." : "",
           tsk_qcow2_shell_command("verify", check->name, command));
  printf("\n");
}

static json_t *counts_value(const struct qcow2_check_result *result)
{
  json_t *object = json_object();

  for (unsigned kind = 0; kind < QCOW2_FINDING_KINDS; kind++)
    json_object_set_new(object, qcow2_finding_kind_name((enum qcow2_finding_kind) kind),
                        json_number(result->counts[kind]));
  return object;
}

static int print_json(const struct check *check, const struct tsk_qcow2_opened *opened)
{
  const struct qcow2_check_result *result = &check->result;
  json_t *root =
      json_pack("{s:o, s:o, s:o, s:o, s:o, s:b, s:b, s:o, s:o, s:i, s:o, s:o, s:s, s:o, s:O, "
                "s:o, s:o}",
                "corruptions", json_number(result->corruptions), "leaks",
                json_number(result->leaks), "defects", json_number(result->defects), "doubts",
                json_number(result->doubts), "unreadable", json_number(result->unreadable),
                "decoded", check->decodes, "complete", result->is_complete, "checked_to",
                json_number(result->checked_to), "file_size", json_number(check->layer.file_size),
                "cluster_size", 1 << check->layer.header->cluster_bits, "used_clusters",
                json_number(result->used_clusters), "unreferenced_clusters",
                json_number(result->unreferenced_clusters), "verdict", verdict(check), "counts",
                counts_value(result), "findings", check->findings, "recovered",
                recovered_value(opened), "warnings", json_warnings(opened));

  return json_print_whole(root);
}

/* ---- The command ----------------------------------------------------------------- */

static int check_image(const struct tsk_qcow2_opened *opened, struct check *check)
{
  const struct qcow2_image *image = opened->image;
  struct qcow2_check_options options = {
    .struct_size = sizeof(options), .decode = check->decodes, .report = show, .context = check
  };
  struct qcow2_error error;
  int status = EXIT_OK;

  check->has_warnings = tsk_qcow2_opened_warning(opened, 0) != NULL;
  if (!check->json)
    print_warnings(opened);
  if (qcow2_layer_get(image, 0, &check->layer, &error) != 0 ||
      qcow2_image_check(image, &options, &check->result, &error) != 0)
    return complain_failed("%s", error.message);
  if (qcow2_image_is_damaged(image) ||
      opened->is_in_gaps) /* as a warning says: perhaps something was not looked at */
    check->result.is_complete = 0;
  if (check->json)
    status = print_json(check, opened);
  else
    print_totals(check);
  return status == EXIT_OK ? exit_status(&check->result) : status;
}

int command_check(int argc, char *argv[])
{
  struct arguments arguments = { .command = "check",
                                 .operands_wanted = 1,
                                 .known = ARGUMENT_JSON | ARGUMENT_DECODE };
  struct check check = { .json = false };
  struct tsk_qcow2_opened opened;
  int status = arguments_parse(argc, argv, &arguments);

  if (status == EXIT_OK)
    status = arguments_open(&arguments, 0, TSK_QCOW2_HEADER_ONLY, &opened);
  if (status != EXIT_OK)
    return status;
  check.decodes = (arguments.given & ARGUMENT_DECODE) != 0;
  check.json = (arguments.given & ARGUMENT_JSON) != 0;
  check.name = arguments.operands[0];
  check.findings = json_array();
  if (opened.snapshot_index != QCOW2_ACTIVE || opened.deleted_l1 != 0 || opened.is_abandoned)
    status = complain_usage(
        "check looks at the whole file, with all snapshots: name it without \"@\"");
  else
    status = check_image(&opened, &check);
  json_decref(check.findings);
  return arguments_finish(&opened, status);
}
