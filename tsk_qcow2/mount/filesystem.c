/* SPDX-License-Identifier: MIT */
/* Nothing in it ever changes, so the kernel may keep all that it was told, names, sizes and bytes.
   What it has not, it asks for in any number of threads at once. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* statx() */
#endif
#include "filesystem.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../command/command.h"

/* How long the kernel may keep a name or what it knows of a file. */
#define KEPT_SECONDS 1e6
#define BLOCK_BYTES 4096u

/* ---- Nodes ------------------------------------------------------------------- */

/* The kernel counts from FUSE_ROOT_ID, which is 1. */
static fuse_ino_t inode_of(size_t number)
{
  return (fuse_ino_t) number + FUSE_ROOT_ID;
}

static size_t number_of(fuse_ino_t inode)
{
  return (size_t) (inode - FUSE_ROOT_ID);
}

static const struct tree_node *node_of(fuse_req_t request, fuse_ino_t inode)
{
  const struct contents *contents = fuse_req_userdata(request);

  return tree_get(&contents->tree, number_of(inode));
}

static struct stat status_of(const struct tree_node *node)
{
  bool is_directory = node->kind == TREE_DIRECTORY;

  return (struct stat){ .st_ino = inode_of(node->number),
                        .st_mode = is_directory ? S_IFDIR | 0555 : S_IFREG | 0444,
                        .st_nlink = is_directory ? 2 : 1,
                        .st_uid = getuid(),
                        .st_gid = getgid(),
                        .st_size = (off_t) node->size,
                        .st_blocks = (blkcnt_t) ((node->size + 511) / 512),
                        .st_atim = node->time,
                        .st_mtim = node->time,
                        .st_ctim = node->time };
}

static void do_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
  const struct contents *contents = fuse_req_userdata(request);
  struct fuse_entry_param entry = { .attr_timeout = KEPT_SECONDS, .entry_timeout = KEPT_SECONDS };
  size_t number = tree_find(&contents->tree, number_of(parent), name);

  if (number != 0) {
    entry.attr = status_of(tree_get(&contents->tree, number));
    entry.ino = entry.attr.st_ino;
  }
  fuse_reply_entry(request, &entry); /* inode 0: the kernel may keep that there is none */
}

static void do_getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
  const struct tree_node *node = node_of(request, inode);
  struct stat status;

  (void) file;
  if (node == NULL) {
    fuse_reply_err(request, ENOENT);
    return;
  }
  status = status_of(node);
  fuse_reply_attr(request, &status, KEPT_SECONDS);
}

/* ---- Directories --------------------------------------------------------------- */

static void do_opendir(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
  const struct tree_node *node = node_of(request, inode);

  if (node == NULL || node->kind != TREE_DIRECTORY) {
    fuse_reply_err(request, node == NULL ? ENOENT : ENOTDIR);
    return;
  }
  file->keep_cache = 1;
  fuse_reply_open(request, file);
}

/* The name and node of a directory's entry: itself, the one above, its files. NULL: no more. */
static const struct tree_node *entry_of(const struct tree *tree, const struct tree_node *directory,
                                        size_t index, const char **name)
{
  size_t number = index == 0 ? directory->number : directory->parent;

  *name = index == 0 ? "." : "..";
  if (index >= 2) {
    if (index - 2 >= directory->child_count)
      return NULL;
    number = directory->children[index - 2];
    *name = tree_get(tree, number)->name;
  }
  return tree_get(tree, number);
}

static void do_readdir(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset,
                       struct fuse_file_info *file)
{
  const struct contents *contents = fuse_req_userdata(request);
  const struct tree_node *directory = node_of(request, inode), *entry;
  char *buffer = malloc(size);
  const char *name;
  size_t used = 0;

  (void) file;
  if (buffer == NULL) {
    fuse_reply_err(request, ENOMEM);
    return;
  }
  for (; (entry = entry_of(&contents->tree, directory, (size_t) offset, &name)) != NULL; offset++) {
    struct stat status = status_of(entry);
    size_t needed = fuse_add_direntry(request, buffer + used, size - used, name, &status,
                                      offset + 1);

    if (needed > size - used)
      break;
    used += needed;
  }
  fuse_reply_buf(request, buffer, used);
  free(buffer);
}

/* ---- Reading ahead ------------------------------------------------------------- */

/* The kernel reads 128 KiB ahead, and only root may raise that; it is of this mount alone. */
#define AHEAD_KIB "1024"

static pthread_once_t ahead_once = PTHREAD_ONCE_INIT;
static char ahead_path[64]; /* where the kernel keeps it; "": not known */

/* Find that out without a question to this file system, which nobody answers yet. */
static void find_ahead_path(const char *directory)
{
  struct statx status;

  if (statx(AT_FDCWD, directory, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_TYPE, &status) == 0)
    snprintf(ahead_path, sizeof(ahead_path), "/sys/class/bdi/%u:%u/read_ahead_kb",
             status.stx_dev_major, status.stx_dev_minor);
}

/* Called once a file is opened: earlier the kernel would lower it again. */
static void raise_ahead(void)
{
  int descriptor = open(ahead_path, O_WRONLY | O_CLOEXEC);
  ssize_t written;

  if (descriptor < 0)
    return; /* it works as well, only slower */
  written = write(descriptor, AHEAD_KIB, strlen(AHEAD_KIB));
  (void) written;
  close(descriptor);
}

/* ---- Files --------------------------------------------------------------------- */

static int errno_of(int code)
{
  if (code == 0)
    return 0;
  return code == QCOW2_ERROR_NOMEM ? ENOMEM : EIO;
}

static void do_open(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
  struct contents *contents = fuse_req_userdata(request);
  const struct tree_node *node = node_of(request, inode);
  int os_errno = 0;

  if (node == NULL || node->kind == TREE_DIRECTORY)
    os_errno = node == NULL ? ENOENT : EISDIR;
  else if ((file->flags & O_ACCMODE) != O_RDONLY)
    os_errno = EROFS;
  else if (node->kind == TREE_STATE)
    os_errno = errno_of(states_use(contents->states, node->content, NULL));
  if (os_errno != 0) {
    fuse_reply_err(request, os_errno);
    return;
  }
  pthread_once(&ahead_once, raise_ahead);
  file->keep_cache = 1;
  if (fuse_reply_open(request, file) == -ENOENT && node->kind == TREE_STATE)
    states_release(contents->states, node->content); /* nobody waits any more */
}

static void do_release(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
  struct contents *contents = fuse_req_userdata(request);
  const struct tree_node *node = node_of(request, inode);

  (void) file;
  if (node->kind == TREE_STATE)
    states_release(contents->states, node->content);
  fuse_reply_err(request, 0);
}

/* A buffer for each thread that reads, since the allocator would give one of this size back to the
   system each time. */
static pthread_key_t buffer_key;

struct buffer {
  size_t size;
  char bytes[];
};

static char *buffer_of_thread(size_t size)
{
  struct buffer *buffer = pthread_getspecific(buffer_key);

  if (buffer != NULL && buffer->size >= size)
    return buffer->bytes;
  free(buffer);
  buffer = malloc(sizeof(*buffer) + size);
  if (buffer != NULL)
    buffer->size = size;
  pthread_setspecific(buffer_key, buffer);
  return buffer == NULL ? NULL : buffer->bytes;
}

/* All of it, or an error: the kernel would take a short answer for the end of the file. Where it
   asked for several pages and gets an error, it asks again for each that is wanted. */
static void reply_state(fuse_req_t request, const struct contents *contents,
                        const struct tree_node *node, size_t length, uint64_t offset)
{
  char *buffer = buffer_of_thread(length);
  int code = buffer == NULL
                 ? QCOW2_ERROR_NOMEM
                 : states_read(contents->states, node->content, offset, buffer, length, NULL);

  if (code != 0)
    fuse_reply_err(request, errno_of(code));
  else
    fuse_reply_buf(request, buffer, length);
}

static void do_read(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset,
                    struct fuse_file_info *file)
{
  const struct contents *contents = fuse_req_userdata(request);
  const struct tree_node *node = node_of(request, inode);
  uint64_t start = (uint64_t) offset, left = start < node->size ? node->size - start : 0;
  size_t length = left < size ? (size_t) left : size;

  (void) file;
  if (length == 0)
    fuse_reply_buf(request, NULL, 0);
  else if (node->kind == TREE_INFO)
    fuse_reply_buf(request, contents->info + start, length);
  else
    reply_state(request, contents, node, length, start);
}

static void do_statfs(fuse_req_t request, fuse_ino_t inode)
{
  const struct contents *contents = fuse_req_userdata(request);
  const struct statvfs status = { .f_bsize = BLOCK_BYTES,
                                  .f_frsize = BLOCK_BYTES,
                                  .f_blocks = contents->total / BLOCK_BYTES,
                                  .f_files = contents->tree.count,
                                  .f_namemax = 255 };

  (void) inode;
  fuse_reply_statfs(request, &status);
}

static const struct fuse_lowlevel_ops OPERATIONS = {
  .lookup = do_lookup,
  .getattr = do_getattr,
  .opendir = do_opendir,
  .readdir = do_readdir,
  .open = do_open,
  .read = do_read,
  .release = do_release,
  .statfs = do_statfs,
};

/* ---- The session ----------------------------------------------------------------- */

/* Append what the kernel and fusermount3 are told. False: no memory. */
static bool add_options(struct fuse_args *arguments, const char *image, bool allow_other)
{
  char *options = NULL, *source = malloc(strlen(image) + sizeof("fsname="));
  bool done = source != NULL;

  if (done)
    sprintf(source, "fsname=%s", image);
  done = done && fuse_opt_add_opt(&options, "ro,nosuid,nodev,noexec,default_permissions") == 0 &&
         fuse_opt_add_opt(&options, "subtype=tsk-qcow2") == 0 &&
         fuse_opt_add_opt_escaped(&options, source) == 0 &&
         (!allow_other || fuse_opt_add_opt(&options, "allow_other") == 0) &&
         fuse_opt_add_arg(arguments, "tsk-qcow2-mount") == 0 &&
         fuse_opt_add_arg(arguments, "-o") == 0 && fuse_opt_add_arg(arguments, options) == 0;
  free(source);
  free(options);
  return done;
}

struct fuse_session *filesystem_mount(struct contents *contents, const char *image,
                                      const char *directory, bool allow_other)
{
  struct fuse_args arguments = FUSE_ARGS_INIT(0, NULL);
  struct fuse_session *session = NULL;

  if (pthread_key_create(&buffer_key, free) != 0 || !add_options(&arguments, image, allow_other))
    complain_failed("out of memory");
  else
    session = fuse_session_new(&arguments, &OPERATIONS, sizeof(OPERATIONS), contents);
  fuse_opt_free_args(&arguments);
  if (session == NULL)
    return NULL;
  if (fuse_set_signal_handlers(session) == 0) {
    if (fuse_session_mount(session, directory) == 0) {
      find_ahead_path(directory);
      return session;
    }
    fuse_remove_signal_handlers(session);
  }
  fuse_session_destroy(session);
  complain_failed("cannot mount on %s", directory);
  return NULL;
}

/* Each thread gets a descriptor of its own to the kernel, where libfuse can have that. */
static int serve(struct fuse_session *session)
{
#if FUSE_USE_VERSION >= 312
  struct fuse_loop_config *config = fuse_loop_cfg_create();
  int result;

  fuse_loop_cfg_set_clone_fd(config, 1);
  result = fuse_session_loop_mt(session, config);
  fuse_loop_cfg_destroy(config);
  return result;
#else
  return fuse_session_loop_mt(session, 1);
#endif
}

int filesystem_serve(struct fuse_session *session)
{
  int result = serve(session);

  fuse_session_unmount(session);
  fuse_remove_signal_handlers(session);
  fuse_session_destroy(session);
  return result >= 0
             ? EXIT_OK
             : complain_failed("the connection to the kernel failed: %s", strerror(-result));
}
