/* SPDX-License-Identifier: MIT */
/* fork() while threads decode: all locks are taken, so that the child finds none held by a thread
   that it does not have. */
#include "ahead_fields.h"

#include "../base/system.h"

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct qcow2_ahead *list GUARDED_BY(ahead_list_lock); /* of all */

static void lock_list(void) LOCKS(ahead_list_lock)
{
  pthread_mutex_lock(&list_lock);
}

static void unlock_list(void) UNLOCKS(ahead_list_lock)
{
  pthread_mutex_unlock(&list_lock);
}

/* These hold the locks of all objects at once, which the check cannot follow. First: wait until no
   thread of ours runs a job, and keep it so. */
static void before_fork(void) LOCK_NOT_CHECKED
{
  pthread_mutex_lock(&list_lock);
  for (struct qcow2_ahead *ahead = list; ahead != NULL; ahead = ahead->next) {
    pthread_mutex_lock(&ahead->lock);
    ahead->is_paused = true;
    while (ahead->busy > 0)
      pthread_cond_wait(&ahead->done, &ahead->lock);
  }
}

static void resume(struct qcow2_ahead *ahead) LOCK_NOT_CHECKED
{
  ahead->is_paused = false;
  pthread_cond_broadcast(&ahead->queued);
  pthread_mutex_unlock(&ahead->lock);
}

static void after_fork_in_parent(void) LOCK_NOT_CHECKED
{
  for (struct qcow2_ahead *ahead = list; ahead != NULL; ahead = ahead->next)
    resume(ahead);
  pthread_mutex_unlock(&list_lock);
}

static bool any_has_threads(void) LOCK_NOT_CHECKED
{
  const struct qcow2_ahead *ahead = list;

  while (ahead != NULL && ahead->thread_count == 0)
    ahead = ahead->next;
  return ahead != NULL;
}

/* Only the thread that called fork() exists in the child: forget the others, and their jobs. If
   there were any, the child starts none for any image that is open: POSIX does not promise that a
   process with several threads can do so after fork(). */
static void after_fork_in_child(void) LOCK_NOT_CHECKED
{
  bool had_threads = any_has_threads();

  for (struct qcow2_ahead *ahead = list; ahead != NULL; ahead = ahead->next) {
    if (had_threads)
      ahead->thread_limit = ahead->thread_count = 0;
    for (size_t i = 0; i < JOBS_MAX; i++)
      ahead->jobs[i].state = JOB_NONE;
    pthread_cond_init(&ahead->queued, NULL);
    pthread_cond_init(&ahead->done, NULL);
    resume(ahead);
  }
  pthread_mutex_unlock(&list_lock);
}

static void watch_forks(void)
{
  qcow2_system_watch_forks(before_fork, after_fork_in_parent, after_fork_in_child);
}

void qcow2_ahead_watch_forks(struct qcow2_ahead *ahead)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;

  pthread_once(&once, watch_forks);
  lock_list();
  ahead->next = list;
  list = ahead;
  unlock_list();
}

void qcow2_ahead_forget_forks(const struct qcow2_ahead *ahead)
{
  struct qcow2_ahead **link = &list;

  lock_list();
  while (*link != ahead)
    link = &(*link)->next;
  *link = ahead->next;
  unlock_list();
}
