/* SPDX-License-Identifier: MIT */
/* What happens at Ctrl-C. */
#ifndef TSK_QCOW2_INTERRUPT_H
#define TSK_QCOW2_INTERRUPT_H

/* Call this first. SIGINT, SIGTERM and SIGHUP, unless they are ignored, end the program as they
   would without it, but first a sentence on stderr says that the output is not complete. */
void interrupt_prepare(void);

#endif
