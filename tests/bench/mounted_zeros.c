/* SPDX-License-Identifier: MIT */
/*
 * mounted_zeros BYTES DIRECTORY: mount a file "zeros" of that many zeros, and do nothing for a
 * read but to hand the same memory to the kernel. No file system in a program can give a
 * sequential reader its bytes in less time. As in `tsk-qcow2 mount`, the kernel keeps what it
 * read, and reads 1 MiB ahead if root asks for that.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NODE 2
#define NAME "zeros"
#define READ_MAX (1u << 20)

static const char zeros[READ_MAX];
static off_t size;
static const char *directory;

static struct stat status_of(fuse_ino_t inode)
{
  return (struct stat){ .st_ino = inode,
                        .st_mode = inode == NODE ? S_IFREG | 0444 : S_IFDIR | 0555,
                        .st_nlink = 1,
                        .st_size = inode == NODE ? size : 0 };
}

static void do_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
  struct fuse_entry_param entry = {
    .ino = NODE, .attr = status_of(NODE), .attr_timeout = 1e6, .entry_timeout = 1e6
  };

  if (parent != FUSE_ROOT_ID || strcmp(name, NAME) != 0)
    fuse_reply_err(request, ENOENT);
  else
    fuse_reply_entry(request, &entry);
}

static void do_getattr(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
  struct stat status = status_of(inode);

  (void) file;
  fuse_reply_attr(request, &status, 1e6);
}

static void read_far_ahead(void)
{
  struct stat status;
  char path[64];
  FILE *out;

  if (stat(directory, &status) != 0)
    return;
  snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(status.st_dev),
           minor(status.st_dev));
  out = fopen(path, "w");
  if (out == NULL)
    return;
  fprintf(out, "%u", READ_MAX / 1024);
  fclose(out);
}

static void do_open(fuse_req_t request, fuse_ino_t inode, struct fuse_file_info *file)
{
  (void) inode;
  read_far_ahead();
  file->keep_cache = 1;
  fuse_reply_open(request, file);
}

static void do_read(fuse_req_t request, fuse_ino_t inode, size_t wanted, off_t offset,
                    struct fuse_file_info *file)
{
  off_t left = offset < size ? size - offset : 0;
  size_t length = (off_t) wanted < left ? wanted : (size_t) left;

  (void) inode;
  (void) file;
  fuse_reply_buf(request, zeros, length < READ_MAX ? length : READ_MAX);
}

static const struct fuse_lowlevel_ops OPERATIONS = {
  .lookup = do_lookup, .getattr = do_getattr, .open = do_open, .read = do_read
};

int main(int argc, char *argv[])
{
  char *words[] = { argv[0], "-o", "ro,fsname=zeros" };
  struct fuse_args arguments = FUSE_ARGS_INIT(3, words);
  struct fuse_loop_config *config;
  struct fuse_session *session;

  if (argc != 3)
    errx(2, "usage: mounted_zeros BYTES DIRECTORY");
  size = strtoll(argv[1], NULL, 10);
  directory = argv[2];
  session = fuse_session_new(&arguments, &OPERATIONS, sizeof(OPERATIONS), NULL);
  if (session == NULL || fuse_set_signal_handlers(session) != 0 ||
      fuse_session_mount(session, directory) != 0)
    errx(1, "cannot mount on %s", directory);
  config = fuse_loop_cfg_create();
  fuse_loop_cfg_set_clone_fd(config, 1);
  fuse_session_loop_mt(session, config);
  fuse_loop_cfg_destroy(config);
  fuse_session_unmount(session);
  fuse_remove_signal_handlers(session);
  fuse_session_destroy(session);
  return 0;
}
