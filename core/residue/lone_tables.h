/* SPDX-License-Identifier: MIT */
/* The layout of a file that has L2 tables, and no L1 table that leads to them. */
#ifndef QCOW2_RESIDUE_LONE_TABLES_H
#define QCOW2_RESIDUE_LONE_TABLES_H

#include "trial.h"

/* Weigh the tables of a trial to which no L1 table leads. False: they cannot be those of an
   image. */
bool qcow2_lone_tables_look(struct qcow2_trial *trial, struct qcow2_rebuilt *rebuilt);

#endif
