/* SPDX-License-Identifier: MIT */
/* The file name inside a reference such as json:{"driver":"qcow2","file":{"filename":"base"}}, as
   libvirt and QEMU write them. Nothing else in it is understood. */
#ifndef QCOW2_STORAGE_JSON_NAME_H
#define QCOW2_STORAGE_JSON_NAME_H

#include <stdbool.h>
#include <stddef.h>

/* Find the only file name in the text, which follows "json:". What it says about a further backing
   file or a data file does not count. False: there is none, there are several, or it does not
   fit. */
bool qcow2_json_file_name(const char *json, char *out, size_t out_size);

#endif
