/* SPDX-License-Identifier: MIT */
/*
 * Which lock guards what. clang's -Wthread-safety checks it in every build; for other compilers
 * these macros are empty.
 *
 * In C, the attributes cannot name a lock that is a member of a struct. So a name that is only
 * declared, with LOCK_KIND(), stands for the locks of all objects of one kind. A lock that is never
 * taken is found; that of the wrong object is not.
 */
#ifndef QCOW2_BASE_LOCKS_H
#define QCOW2_BASE_LOCKS_H

#if defined(__clang__)
#define LOCK_ATTRIBUTE(attribute) __attribute__((attribute))
#else
#define LOCK_ATTRIBUTE(attribute)
#endif

struct LOCK_ATTRIBUTE(capability("lock")) qcow2_lock_kind {
  char unused;
};

#define LOCK_KIND(name) extern struct qcow2_lock_kind name

/* Of a variable or a member: it is read and written with the lock held. */
#define GUARDED_BY(kind) LOCK_ATTRIBUTE(guarded_by(kind))

/* Of a function: its caller holds the lock; it locks; it unlocks. */
#define NEEDS_LOCK(kind) LOCK_ATTRIBUTE(requires_capability(kind))
#define LOCKS(kind) LOCK_ATTRIBUTE(acquire_capability(kind)) LOCK_NOT_CHECKED
#define UNLOCKS(kind) LOCK_ATTRIBUTE(release_capability(kind)) LOCK_NOT_CHECKED

/* Of a function that the check cannot follow, or whose object no other thread uses. */
#define LOCK_NOT_CHECKED LOCK_ATTRIBUTE(no_thread_safety_analysis)

#endif
