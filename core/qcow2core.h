/* SPDX-License-Identifier: MIT */
/*
 * qcow2core.h - read qcow2 disk images (QEMU's format, versions 2 and 3), and qcow version 1.
 *
 * Objects
 *   struct qcow2_image  an opened image file, with its external data file and
 *                       its backing chain. Everything is opened read-only.
 *   struct qcow2_view   what is read: the active disk, the disk of one
 *                       internal snapshot, or a snapshot's saved memory, each
 *                       with its own L1 table and size.
 *
 * Errors
 *   Functions that can fail return 0 or a negative enum qcow2_status. On failure they
 *   fill the caller's struct qcow2_error; NULL is allowed. On success they do not change
 *   it. A read gives all of its bytes, or an error.
 *
 * Threads
 *   Any number of threads may use one image, and one view, at the same time. Only close
 *   them when no other thread uses them.
 *   While clusters that must be decompressed or decrypted are read in order, threads of
 *   the library decode the next ones. They end when the image is closed, block all
 *   signals, and never call a storage that the caller provides. QCOW2_OPEN_NO_THREADS
 *   opens an image without them.
 *   fork() waits until these threads hold no lock. The child may read an image and close
 *   it if no other thread of the program used that image at the time of fork(). If one
 *   did, the child must not use the image.
 *
 * Trust
 *   No byte of an image is trusted. A file that an image refers to is opened only if it
 *   is a regular file below the image's own directory, and if its path is relative and
 *   contains neither ".." nor a symbolic link. The caller must name any other file in
 *   struct qcow2_open_options. On Windows it must name all of them; paths there are in
 *   UTF-8.
 *
 * Example: copy a snapshot's disk to standard output.
 *
 *   struct qcow2_error error;
 *   struct qcow2_image *image;
 *   struct qcow2_view *view;
 *   size_t index;
 *   char block[65536];
 *
 *   if (qcow2_image_open("disk.qcow2", NULL, &image, &error) != 0 ||
 *       qcow2_snapshot_find(image, "before-update", QCOW2_BY_ID_OR_NAME, &index, &error) != 0 ||
 *       qcow2_view_open(image, index, &view, &error) != 0)
 *     errx(1, "%s", error.message);
 *   for (uint64_t at = 0; at < qcow2_view_size(view); at += sizeof(block)) {
 *     uint64_t left = qcow2_view_size(view) - at;
 *     size_t length = left < sizeof(block) ? (size_t) left : sizeof(block);
 *     if (qcow2_view_read(view, at, block, length, &error) != 0)
 *       errx(1, "%s", error.message);
 *     fwrite(block, 1, length, stdout);
 *   }
 *   qcow2_view_close(view);
 *   qcow2_image_close(image);
 *
 * Structures
 *   A structure that the caller fills begins with `struct_size`, which the caller sets.
 *   Later versions may add fields at its end; a field that the library does not know must
 *   be zero. A structure that the library fills in the caller's memory keeps its size:
 *   new fields will replace `reserved`, which is zero. A structure that the library owns
 *   may grow at its end.
 *
 * Section names in comments are those of QEMU's docs/interop/qcow2.
 */
#ifndef QCOW2CORE_H
#define QCOW2CORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define QCOW2_API __attribute__((visibility("default")))
#else
#define QCOW2_API
#endif
#if defined(__GNUC__) && defined(_WIN32)
#define QCOW2_PRINTF(format_index, first_index) \
  __attribute__((format(gnu_printf, format_index, first_index)))
#elif defined(__GNUC__)
#define QCOW2_PRINTF(format_index, first_index) \
  __attribute__((format(printf, format_index, first_index)))
#else
#define QCOW2_PRINTF(format_index, first_index)
#endif

/* ---- Errors ------------------------------------------------------------ */

/* Status codes. Two failures have different codes if a caller would react differently. */
enum qcow2_status {
  QCOW2_OK = 0,
  QCOW2_ERROR_IO = -1,          /* the operating system failed; see os_errno */
  QCOW2_ERROR_NOT_QCOW2 = -2,   /* the file has no qcow2 magic: try another reader */
  QCOW2_ERROR_CORRUPT = -3,     /* the bytes break the format's rules */
  QCOW2_ERROR_TRUNCATED = -4,   /* the file ends before something it refers to */
  QCOW2_ERROR_UNSUPPORTED = -5, /* a legal feature that this build cannot read */
  QCOW2_ERROR_DENIED = -6,      /* a file that is referred to must be named by the caller */
  QCOW2_ERROR_KEY = -7,         /* a passphrase is missing or wrong */
  QCOW2_ERROR_NOT_FOUND = -8,   /* no such snapshot or bitmap, or several snapshots match */
  QCOW2_ERROR_NOMEM = -9,
  QCOW2_ERROR_ARGUMENT = -10 /* the caller's mistake */
};

/* Offsets in an error, in bytes, have this value if they do not apply. */
#define QCOW2_NO_OFFSET UINT64_MAX

/* What the caller could do about an error. The message does not say it, since only the caller knows
   how its users give it options. */
enum qcow2_help {
  QCOW2_HELP_NONE,
  QCOW2_HELP_REFERRER,   /* name the file in the options: a referrer may not lead to it */
  QCOW2_HELP_NAME_FILE,  /* name the file, or a directory where it is, by one of `help_options` */
  QCOW2_HELP_FORMAT,     /* give the format of the file that `help_options` name: raw, or, if it is
                            not NULL, `help_format` */
  QCOW2_HELP_END_CHAIN,  /* name all backing files by backing_paths, with QCOW2_BACKING_NONE last */
  QCOW2_HELP_PASSPHRASE, /* give a passphrase, or another one */
  QCOW2_HELP_LEAVE_OUT,  /* leave out `help_options`, or some of what they list */
  QCOW2_HELP_SNAPSHOT_KEY,   /* look the snapshot up by its ID alone or its name alone, or take it
                                by its index */
  QCOW2_HELP_SNAPSHOT_LIST,  /* list the snapshots: the message names only some of them */
  QCOW2_HELP_ANOTHER_READER, /* read the file with something else: it is not qcow2; `help_format` is
                                what it starts as. NULL: that is not known, and if it ought to be
                                qcow2, its beginning may be lost: qcow2_rebuild() */
  QCOW2_HELP_OFFSET,         /* a qcow2 image begins at `host_offset` of the file: give this as the
                                `offset` of the options */
  QCOW2_HELP_HEADER_LENGTH,  /* give 104 as the `header_length` of the options */
  QCOW2_HELP_UNPACK,         /* unpack the file first; `help_format` is what it is packed by: "xz",
                                "gzip", "bzip2", "zstd", "lz4", "lzop", "zip", "7z" or "tar" */
  QCOW2_HELP_LAYOUT,         /* give a complete layout, as qcow2_rebuild() finds it */
  QCOW2_HELP_DELETED_KEY,    /* choose the deleted snapshot by the host offset of its L1 table */
  QCOW2_HELP_DELETED_LIST,   /* list what is left of deleted snapshots */
  QCOW2_HELP_ABANDONED       /* open what is left of the disk: qcow2_view_open_abandoned() */
};

/* Fields of struct qcow2_open_options, one bit each, for an error's `help_options`. */
enum {
  QCOW2_OPTION_BACKING_PATHS = 1,
  QCOW2_OPTION_DATA_FILE = 2,
  QCOW2_OPTION_SEARCH_DIRECTORIES = 4,
  QCOW2_OPTION_PASSPHRASES = 8,
  QCOW2_OPTION_HEADER_LENGTH = 16
};

/* What went wrong. Owned by the caller, filled on failure only. `message` says what is wrong, and
   where, in one or two sentences: UTF-8, with control characters escaped, without a full stop. */
struct qcow2_error {
  int code;              /* enum qcow2_status */
  int os_errno;          /* errno for QCOW2_ERROR_IO, else 0 */
  int help;              /* enum qcow2_help */
  int help_options;      /* QCOW2_OPTION_..., for `help`; else 0 */
  uint64_t guest_offset; /* bytes, or QCOW2_NO_OFFSET */
  uint64_t guest_length; /* after a read or look-up: how many bytes from guest_offset on have
                            this error, as far as is known. Else 0 */
  uint64_t host_offset;  /* bytes, or QCOW2_NO_OFFSET */
  uint64_t
      table_offset; /* host offset of the L1 or L2 entry that was followed, or QCOW2_NO_OFFSET */
  const char *help_format; /* static: a format, as `help` says; NULL: none */
  uint64_t reserved[2];    /* 0 */
  char message[960];
};

/* Fill *error (NULL is allowed) with a code and a message, which is formatted as by printf() and
   cut to fit. Offsets become QCOW2_NO_OFFSET, all other fields 0. Returns `code`. Callbacks such as
   qcow2_open_foreign use it to report a failure. Text from an image must be escaped with
   qcow2_text_escape() first. */
QCOW2_API int qcow2_error_set(struct qcow2_error *error, int code, const char *format, ...)
    QCOW2_PRINTF(3, 4);

/* The name of a status code, such as "TRUNCATED". Static storage, never NULL. */
QCOW2_API const char *qcow2_status_name(int code);

/* The library's version: three numbers with dots between them. Static storage. */
QCOW2_API const char *qcow2_version(void);

/* ---- Storage ----------------------------------------------------------- */

/* A source of bytes, for callers whose images are not plain files. `read` reads exactly `length`
   bytes (> 0) at `offset`, where offset + length <= size, and returns 0 or an errno value. Several
   threads may call it at the same time. `close` may be NULL. */
struct qcow2_storage {
  void *context;
  uint64_t size; /* bytes; fixed while the image is open */
  int (*read)(void *context, uint64_t offset, void *buffer, size_t length);
  void (*close)(void *context);
};

/* ---- Files that lead to images ------------------------------------------ */

/* A file that is not an image, but names the image to open. tsk-qcow2's selector files are such
   files. They may come with the evidence, so they are trusted no more than an image: every file
   that they name must be below their own directory. It does not change after it was opened; any
   thread may use it. */
struct qcow2_referrer;

/* Open a referrer. `path` is trusted: symbolic links and ".." are followed. It must lead to a
   regular file. The caller frees *referrer with qcow2_referrer_close(). Errors: IO, ARGUMENT,
   NOMEM. */
QCOW2_API int qcow2_referrer_open(const char *path, struct qcow2_referrer **referrer,
                                  struct qcow2_error *error);

/* Close the referrer, and free it. NULL is allowed. */
QCOW2_API void qcow2_referrer_close(struct qcow2_referrer *referrer);

/* The absolute path of the referrer, without symbolic links. Owned by the referrer. */
QCOW2_API const char *qcow2_referrer_path(const struct qcow2_referrer *referrer);

/* The bytes of the referrer. Owned by the referrer: the caller reads, and does not close. */
QCOW2_API const struct qcow2_storage *qcow2_referrer_storage(const struct qcow2_referrer *referrer);

/* Open a file that the referrer names, for the caller to read. `name` is a path that starts from
   the referrer's directory. `role` is what messages call the file, such as "key file". On success
   the caller closes *storage. Errors: DENIED (with the reason), IO, NOMEM. */
QCOW2_API int qcow2_referrer_follow(const struct qcow2_referrer *referrer, const char *name,
                                    const char *role, struct qcow2_storage *storage,
                                    struct qcow2_error *error);

/* ---- Files inside a disk ------------------------------------------------- */

/* What a file inside a disk is. */
enum qcow2_inner_kind {
  QCOW2_INNER_REGULAR,
  QCOW2_INNER_DIRECTORY,
  QCOW2_INNER_LINK, /* symbolic */
  QCOW2_INNER_DEVICE,
  QCOW2_INNER_OTHER
};

/* A file inside a disk. Two files of a file system are the same if both numbers are equal. */
struct qcow2_inner_file {
  enum qcow2_inner_kind kind;
  uint64_t number; /* of its inode */
  uint64_t stream; /* which of its contents; 0: the ordinary one */
};

/* A file system inside a disk, which the caller reads. It must last as long as the images and
   storages that were opened in it. The library calls it while an image is being opened, but reads
   the storages at any time. Each function returns 0 or a negative status with *error filled. */
struct qcow2_file_system {
  void *context;
  const char *name; /* for messages and paths: a path in it is this text with "/PATH" after it */
  struct qcow2_inner_file root; /* its directory */

  /* Find the file with this name in a directory. NOT_FOUND, if there is none: the error's message
     is a clause that says more, or empty. */
  int (*find)(void *context, const struct qcow2_inner_file *directory, const char *name,
              struct qcow2_inner_file *file, struct qcow2_error *error);

  /* Find the file that a text after "#" numbers. */
  int (*find_number)(void *context, const char *number, struct qcow2_inner_file *file,
                     struct qcow2_error *error);

  /* Open a file that one of these found. On success the library owns *storage. A sentence may be
     written to `warning` (QCOW2_FOREIGN_WARNING_BYTES bytes, empty before the call). */
  int (*open)(void *context, const struct qcow2_inner_file *file, struct qcow2_storage *storage,
              char *warning, struct qcow2_error *error);
};

/* A callback that finds the file system for a path "//START/PATH" in the options. *rest becomes
   what follows START in that text: "/PATH" or "/#NUMBER". Errors: any status. */
typedef int qcow2_find_file_system(void *context, const char *path,
                                   const struct qcow2_file_system **file_system, const char **rest,
                                   struct qcow2_error *error);

/* A file that is stored in fragments of another storage: a list that is made from its start to its
   end, and then is a storage. */
struct qcow2_fragments;

/* In place of a fragment's offset: it reads as zeros; or it is not known where it is, and reading
   it is an error. */
#define QCOW2_FRAGMENT_ZERO UINT64_MAX
#define QCOW2_FRAGMENT_LOST (UINT64_MAX - 1)

/* The most fragments that a list can have. Adjacent ones are joined. 64 MiB of memory. */
#define QCOW2_FRAGMENTS_MAX (UINT32_C(1) << 22)

/* Make an empty list of fragments of `outer`, which must last longer than the list. The caller
   frees it with qcow2_fragments_free(), or makes it a storage. Errors: NOMEM. */
QCOW2_API int qcow2_fragments_new(const struct qcow2_storage *outer,
                                  struct qcow2_fragments **fragments, struct qcow2_error *error);

/* Append `length` bytes (> 0), which are at `outer_offset`, or which are QCOW2_FRAGMENT_ZERO or
   QCOW2_FRAGMENT_LOST. They may lie after the end of the outer storage: reading them is an error
   then. Errors: UNSUPPORTED (too many fragments), CORRUPT (an offset is too large), NOMEM. */
QCOW2_API int qcow2_fragments_add(struct qcow2_fragments *fragments, uint64_t length,
                                  uint64_t outer_offset, struct qcow2_error *error);

/* Make a storage of the list. Closing the storage frees the list. Any thread may read it if any
   thread may read the outer storage. A read costs one binary search, and one read of the outer
   storage for each fragment. */
QCOW2_API void qcow2_fragments_finish(struct qcow2_fragments *fragments,
                                      struct qcow2_storage *storage);

/* Free a list that is not a storage. NULL is allowed. */
QCOW2_API void qcow2_fragments_free(struct qcow2_fragments *fragments);

/* ---- Opening ----------------------------------------------------------- */

struct qcow2_image;

/* A backing or data file in a format that the library does not read. The caller opens it. */
struct qcow2_foreign {
  const char *path;    /* of the file that passed the checks; valid during the call */
  const char *format;  /* static: "vmdk", "vhd", "ewf", "aff", "afd" or "afm", as The Sleuth Kit
                          names them; the file's content alone never decides this. "raw": the file
                          is the first part of a raw disk that was split into several files */
  int named_by_caller; /* 1: the caller's options name the file. 0: only the image names it, so no
                          file that this file refers to may be opened */
};

/* The size of the buffer for a warning about such a file. */
#define QCOW2_FOREIGN_WARNING_BYTES 256u

/* A callback that opens such a file. On success it returns 0 and fills *storage, from which the
   disk's bytes are read, and which the image then owns. It may write a sentence to `warning`
   (QCOW2_FOREIGN_WARNING_BYTES bytes, empty before the call), which qcow2_warning() will give. On
   failure it returns a negative status and fills *error. */
typedef int qcow2_open_foreign(void *context, const struct qcow2_foreign *file,
                               struct qcow2_storage *storage, char *warning,
                               struct qcow2_error *error);

/* Return 1 if a backing or data file that the caller's options name by this path would be opened by
   open_foreign. `format` is the format that the options give it; NULL: none. Also return 1 if that
   could not be found out; else 0. */
QCOW2_API int qcow2_foreign_probe(const char *path, const char *format);

/* Flags for struct qcow2_open_options. */
enum {
  /* Open neither backing files nor a data file. The image can be described, but no view of it
     can be opened. No passphrase is needed or used. */
  QCOW2_OPEN_NO_CHAIN = 1,
  /* Start no threads, and install no handlers for fork(). Nothing is decoded ahead. */
  QCOW2_OPEN_NO_THREADS = 2
};

/* As the last of the `backing_paths`: the chain ends there. What its lowest file does not allocate
   reads as zeros. */
#define QCOW2_BACKING_NONE "none"

/* A passphrase: any bytes, without a newline at the end unless that is part of it. */
struct qcow2_passphrase {
  const void *bytes;
  size_t length;
};

/* Flags for struct qcow2_layout. */
enum {
  QCOW2_LAYOUT_EXTENDED_L2 = 1, /* L2 entries are extended */
  QCOW2_LAYOUT_ZSTD = 2,        /* compressed clusters are zstd streams, not deflate */
  QCOW2_LAYOUT_AES = 4,         /* it is encrypted with legacy AES */
  QCOW2_LAYOUT_NO_L1 = 8,       /* there is no L1 table: only qcow2_view_open_abandoned() shows what
                                   is left of the disk */
  QCOW2_LAYOUT_BY_ORDER = 16,   /* with NO_L1: L2 tables are placed by their order in the file, too,
                                   where that is certain enough */
  QCOW2_LAYOUT_DATA_FILE = 32   /* its data are in an external data file, which must be given. A
                                   `data_file` that is given means the same */
};

/* What is to be read in place of what the header says: for an image whose header was overwritten,
   or whose L1 table was wiped. A field that is 0 is taken from the header. If the header cannot be
   read, the first three must be given (with NO_L1, all but the first), and the rest says what else
   is lost with it. All that is read in this way is a guess, and qcow2_warning() says so. */
struct qcow2_layout {
  uint64_t l1_offset;    /* of the L1 table: host offset, bytes. Its length follows from the size */
  uint64_t size;         /* of the disk, bytes */
  uint32_t cluster_bits; /* 9..21 */
  unsigned flags;        /* QCOW2_LAYOUT_...; if there is a header, NO_L1 and BY_ORDER only */
  uint64_t luks_offset;  /* of the LUKS header: host offset, bytes. 0 if there is a header */
};

/* How to open an image. Set all bytes to zero, then set `struct_size`. For a string, NULL means
   that it is not given. Paths are trusted, unless there is a `referrer`: absolute paths, ".." and
   symbolic links are followed. Nothing here is needed after the image was opened. */
struct qcow2_open_options {
  size_t struct_size; /* sizeof(struct qcow2_open_options) */
  unsigned flags;     /* QCOW2_OPEN_... */

  /* The backing files: first that of the topmost image, then that of the file below, and so on.
     The last may be QCOW2_BACKING_NONE. Backing files below those named here are opened as the
     images refer to them. */
  const char *const *backing_paths;
  size_t backing_count;

  /* Directories that are searched for a file that an image refers to, by the last part of its
     path, before the path in the image is tried. The file must be regular, not a symbolic link; in
     a directory on the file system of /dev that no referrer names, it may be a block device there,
     or a symbolic link to one, as in the directory of a volume group. Files that are already in the
     chain are skipped. It is a warning if the path in the image leads to another file than the one
     that was found. A directory that cannot be opened is a warning if the file is found, else an
     error. */
  const char *const *search_directories;
  size_t search_count;

  /* The topmost image's external data file. */
  const char *data_file;

  /* Memory for all caches of the image together, in bytes: 4 MiB or more; less is taken as 4 MiB,
     and 0 as 64 MiB. */
  size_t cache_bytes;

  /* Opens files in formats other than qcow2 and raw; NULL: such files are refused. */
  qcow2_open_foreign *open_foreign;
  void *foreign_context; /* passed to it */

  /* The first is for the topmost encrypted file of the chain, the second for the next encrypted
     file below it, and so on. If there are more encrypted files than passphrases, the last
     passphrase is for all that remain. More passphrases than encrypted files are an error. */
  const struct qcow2_passphrase *passphrases;
  size_t passphrase_count;

  /* NULL, or the file that names the image. Then the image's path, the `backing_paths`, the
     `data_file`, and the first `referrer_search_count` of the `search_directories` are not trusted:
     they must lead to files below the referrer's directory. */
  const struct qcow2_referrer *referrer;
  size_t referrer_search_count;

  /* The formats of the `backing_paths` and of the `data_file`: "raw", "qcow2" or "qcow" (these two
     for backing files only), or a format as in struct qcow2_foreign. `backing_formats` is NULL, or
     has `backing_count` elements. Where a format is NULL, it is derived from what the image
     declares, from the file's extension, and from its first and last bytes. If these disagree, the
     file is refused. */
  const char *const *backing_formats;
  const char *data_format;

  /* The environment variable from which the last `search_variable_count` of the
     `search_directories` come, for messages. NULL: none. */
  const char *search_variable;
  size_t search_variable_count;

  /* Where in its file the image begins, in bytes: inside a copied disk, or a tar archive. Host
     offsets count from there. It does not concern backing and data files. */
  uint64_t offset;

  /* The layout of the topmost image; NULL: what its header says. If the header is lost, so is what
     it says about other files: `backing_paths` or a `data_file` that are given are used. */
  const struct qcow2_layout *layout;

  /* The length in bytes (104 or more) of a qcow2 header, in place of the one that is stored, in
     each file of the chain where that one cannot be right: it is larger, and makes the first byte
     of a header extension a compression type that the feature bits do not announce. 0: not given.
     It is an error if no file of the chain needs it. */
  uint32_t header_length;

  /* Finds the file system for a path that begins with "//", among the image's path, the
     `backing_paths` and the `data_file`: such a file lies inside another disk, and what it refers
     to is looked for below its own directory there. NULL: such a path is an ordinary one. */
  qcow2_find_file_system *find_file_system;
  void *file_system_context; /* passed to it */
};

/* Return 1 if the file starts as a qcow2 file does, and 2 if it starts as one of qcow version 1
   does; both can be opened. Also return 1 if its name ends in ".qcow2." and something more, and it
   is packed: no other reader should take it for a raw disk, and qcow2_image_open() says what it is.
   Return 0 if neither is so, if it does not exist, if permission to read it is denied, or if it is
   neither a regular file nor a block device. Return -1 if this could not be found out;
   qcow2_image_open() says why. Symbolic links are followed. */
QCOW2_API int qcow2_image_probe(const char *path);

/* Open the image at `path`, with its data file and its backing chain. `path` leads to a regular
   file or a block device; symbolic links are followed, unless there is a referrer. `options` may be
   NULL. On success the caller frees *image with qcow2_image_close(). Unlocking a LUKS image takes
   the time that its maker chose, often two seconds for each key slot that is tried. Errors: IO,
   NOT_QCOW2, CORRUPT, TRUNCATED, UNSUPPORTED, DENIED, KEY, NOMEM, ARGUMENT, and those of
   open_foreign. */
QCOW2_API int qcow2_image_open(const char *path, const struct qcow2_open_options *options,
                               struct qcow2_image **image, struct qcow2_error *error);

/* Open a file that holds a disk, for images that lie inside that disk. It is raw, or in a format of
   open_foreign; the content decides, unless the extension contradicts it. If the file starts as a
   qcow2 image, nothing is opened, and *is_qcow2 is 1; else it is 0. On success the caller closes
   *storage. `warning` is as in qcow2_open_foreign. Of the options, open_foreign, referrer and
   find_file_system are used, with their contexts. Errors: those of qcow2_image_open(). */
QCOW2_API int qcow2_outer_open(const char *path, const struct qcow2_open_options *options,
                               struct qcow2_storage *storage, int *is_qcow2, char *warning,
                               struct qcow2_error *error);

/* As qcow2_image_open(), from a storage that the caller provides. The image owns the storage from
   the call on, and closes it also on failure. The image is in no directory, so the options must
   name every file that it refers to, or a directory to search. */
QCOW2_API int qcow2_image_open_storage(const struct qcow2_storage *storage,
                                       const struct qcow2_open_options *options,
                                       struct qcow2_image **image, struct qcow2_error *error);

/* Close the image, and free it. Close its views first. NULL is allowed. */
QCOW2_API void qcow2_image_close(struct qcow2_image *image);

/* ---- Views ------------------------------------------------------------- */

/* What is read. `guest_offset` counts bytes from the start of the view. */
struct qcow2_view;

/* The active disk, instead of a snapshot's index. */
#define QCOW2_ACTIVE SIZE_MAX

/* Open a view of the disk: the active one (QCOW2_ACTIVE), or that of a snapshot, by its index below
   qcow2_snapshot_count(). The caller frees *view with qcow2_view_close(), before it closes the
   image. Nothing is read. Errors: ARGUMENT (no such snapshot, or QCOW2_OPEN_NO_CHAIN), CORRUPT (the
   snapshot's entry in the snapshot table is invalid), NOMEM. */
QCOW2_API int qcow2_view_open(struct qcow2_image *image, size_t snapshot_index,
                              struct qcow2_view **view, struct qcow2_error *error);

/* Open a view of the VM state of a snapshot (saved memory and devices), of exactly vm_state_size
   bytes. Errors: those of qcow2_view_open(), and NOT_FOUND if the snapshot has no VM state. */
QCOW2_API int qcow2_view_open_vm_state(struct qcow2_image *image, size_t snapshot_index,
                                       struct qcow2_view **view, struct qcow2_error *error);

/* Flags for qcow2_view_open_as() and qcow2_view_open_layer(). */
enum {
  /* Show the VM state of a snapshot, as qcow2_view_open_vm_state() does. */
  QCOW2_VIEW_VM_STATE = 1,
  /* Show clusters of the kind ZERO_ALLOCATED as clusters of the kind NORMAL, in every file of the
     chain: they read as the bytes that are stored in them. These are the bytes from before zeros
     were written, unless the cluster was never written, or a hole was punched into the file there.
     Extended L2 entries are not affected. qcow2_view_warning() says how many bytes are. */
  QCOW2_VIEW_UNDER_ZEROS = 2,
  /* What this file of the chain does not allocate reads as zeros; the files below it are not read.
   */
  QCOW2_VIEW_ALONE = 4
};

/* As qcow2_view_open(), with flags (QCOW2_VIEW_..., or 0). With QCOW2_VIEW_UNDER_ZEROS this reads
   up to 1 GiB of L2 tables. Errors: those of the two functions above. */
QCOW2_API int qcow2_view_open_as(struct qcow2_image *image, size_t snapshot_index, unsigned flags,
                                 struct qcow2_view **view, struct qcow2_error *error);

/* Open a view of the residue of the image file (not of other files of the chain). The view is as
   long as the file. Its byte at an offset is the byte of the file at that host offset; it is zero
   if something refers to that byte. The header and all tables refer to bytes, as far as they are in
   use, and so do the active disk and the disks and VM states of the snapshots. Everything else is
   residue: clusters that nothing refers to, whatever their refcount; the rest of the last cluster
   of a table; gaps between compressed streams; what is stored under zeros, in unallocated
   subclusters, after the end of a disk, and after the last cluster. If the image is encrypted with
   LUKS, sectors of residue are decrypted unless they are all zeros. With legacy AES they are as
   stored, since the guest offset of a sector would be needed; so they are with an external data
   file. This reads all L1 and L2 tables, and reads them again for each part of a very large file.
   Its work is limited to 64 GiB, counted as in struct qcow2_check_options. It uses 48 MiB. Errors:
   NOMEM, UNSUPPORTED (the limit is reached), ARGUMENT (QCOW2_OPEN_NO_CHAIN). */
QCOW2_API int qcow2_view_open_residue(struct qcow2_image *image, struct qcow2_view **view,
                                      struct qcow2_error *error);

/* Sentences that a reader of this view must know, in addition to those of qcow2_warning(). NULL if
   `index` is not below their number. Owned by the view. */
QCOW2_API const char *qcow2_view_warning(const struct qcow2_view *view, size_t index);

/* Return 1 if some of the file could not be read when it was found out what the view shows, so that
   it may show more than it should: residue, a deleted snapshot or an abandoned state. One of the
   view's warnings says so. */
QCOW2_API int qcow2_view_has_gaps(const struct qcow2_view *view);

/* As qcow2_view_open(), for the active disk of one file of the chain (0: the image itself), with
   the files below it. This is the disk as it was when the file above it was made. Flags:
   QCOW2_VIEW_ALONE, QCOW2_VIEW_UNDER_ZEROS. Errors: those of qcow2_view_open_as(). */
QCOW2_API int qcow2_view_open_layer(struct qcow2_image *image, size_t layer, unsigned flags,
                                    struct qcow2_view **view, struct qcow2_error *error);

/* Free the view. NULL is allowed. */
QCOW2_API void qcow2_view_close(struct qcow2_view *view);

/* The view's virtual size in bytes. It need not be a multiple of 512. */
QCOW2_API uint64_t qcow2_view_size(const struct qcow2_view *view);

/* Read `length` bytes at `guest_offset` into `buffer`. A range that is not inside the view is an
   error; it is not cut. After an error the content of the buffer is undefined. Errors: IO, CORRUPT,
   TRUNCATED, UNSUPPORTED (libgcrypt fails to decrypt), NOMEM, ARGUMENT (not inside the view). */
QCOW2_API int qcow2_view_read(struct qcow2_view *view, uint64_t guest_offset, void *buffer,
                              size_t length, struct qcow2_error *error);

/* A callback that is called for a range of guest bytes that cannot be read: damage->guest_length
   bytes at damage->guest_offset. The range contains some of the bytes that were asked for, and may
   extend past them. `damage` is valid during the call. */
typedef void qcow2_damage_report(void *context, const struct qcow2_error *damage);

/* As qcow2_view_read(), but bytes that cannot be read because of damage (CORRUPT, TRUNCATED, IO)
   read as zeros, and `report` (NULL is allowed) is called for each damaged range, in ascending
   order. Each read of a damaged range reports it again. To find all bad ranges of a view, read all
   of it. Where the operating system cannot read a file, ranges are found to within 4 KiB. Errors:
   UNSUPPORTED (libgcrypt fails to decrypt), NOMEM, ARGUMENT (not inside the view). */
QCOW2_API int qcow2_view_salvage(struct qcow2_view *view, uint64_t guest_offset, void *buffer,
                                 size_t length, qcow2_damage_report *report, void *context,
                                 struct qcow2_error *error);

/* As qcow2_view_salvage(), and `doubt` (NULL is allowed) is called for each compressed cluster
   whose bytes were read but may be damaged: its stream does not end with the cluster, as the
   streams that QEMU writes do. It gets the range of guest bytes, the host offset of the stream, and
   a sentence; the code is CORRUPT. Each read of a part of the cluster reports it again. */
QCOW2_API int qcow2_view_examine(struct qcow2_view *view, uint64_t guest_offset, void *buffer,
                                 size_t length, qcow2_damage_report *report,
                                 qcow2_damage_report *doubt, void *context,
                                 struct qcow2_error *error);

/* What a cluster or subcluster is ("Standard Cluster Descriptor", "Extended L2 Entries"). */
enum qcow2_cluster_kind {
  QCOW2_CLUSTER_UNALLOCATED,    /* no file of the chain has it: reads as zeros */
  QCOW2_CLUSTER_ZERO,           /* reads as zeros, whatever the backing file has */
  QCOW2_CLUSTER_ZERO_ALLOCATED, /* the same; it has a host cluster, which is not read */
  QCOW2_CLUSTER_NORMAL, /* stored in the image or data file (encrypted there, if the image is), or
                           in a raw backing file */
  QCOW2_CLUSTER_COMPRESSED, /* a deflate or zstd stream in the image */
  QCOW2_CLUSTER_INVALID     /* the entry breaks the format's rules, or, in a view with labels, what
                               it names is lost: reads fail */
};

/* A run of guest bytes of one kind, from one file of the chain. */
struct qcow2_extent {
  enum qcow2_cluster_kind kind;
  size_t layer;          /* 0: the image itself; 1: its backing file; ... */
  uint64_t guest_offset; /* bytes */
  uint64_t length;       /* bytes, > 0; the next extent may be of the same kind */
  uint64_t host_offset;  /* NORMAL, ZERO_ALLOCATED: where the run's bytes are in the layer's file
                            (its data file if it has one). COMPRESSED: where the stream is. Else
                            QCOW2_NO_OFFSET */
  uint64_t host_bytes; /* COMPRESSED: the most that the stream can be long, to the end of a sector.
                          Else 0 */
};

/* Find out what is at `guest_offset` (below the view's size), for at most `length` bytes (> 0).
   Bytes past the end of a shorter backing file are ZERO. An invalid L1 or L2 entry is not an error
   here, but an extent of the kind INVALID. Errors: IO, TRUNCATED (an L1 or L2 table cannot be
   read), CORRUPT (the L1 table is at host offset 0), NOMEM, ARGUMENT. */
QCOW2_API int qcow2_view_map(struct qcow2_view *view, uint64_t guest_offset, uint64_t length,
                             struct qcow2_extent *extent, struct qcow2_error *error);

/* Compare two views, of one image or of two, at `guest_offset` (below the size of both) without
   reading their bytes. *is_same is 1 if both read as zeros, or if both are stored in the same bytes
   of one file. It is 0 if only reading can tell, and for bytes that cannot be read: the entry is
   invalid, a table cannot be read, or the file ends before them. (Compressed streams are not
   decoded, so a damaged one can be the same.) *run_length is for how many of the next `length`
   bytes (> 0) this is true: at least 1; the bytes after it may have the same answer. Errors:
   ARGUMENT. */
QCOW2_API int qcow2_view_same(struct qcow2_view *view, struct qcow2_view *other,
                              uint64_t guest_offset, uint64_t length, uint64_t *run_length,
                              int *is_same, struct qcow2_error *error);

/* ---- Snapshots --------------------------------------------------------- */

/* One entry of the snapshot table ("Snapshots"). Strings are as stored (any bytes), with
   a NUL added; their lengths are in bytes without it. Owned by the image. */
struct qcow2_snapshot {
  const char *id;
  size_t id_length;
  const char *name;
  size_t name_length;
  uint32_t date_seconds; /* since 1970-01-01 UTC */
  uint32_t date_nanoseconds;
  uint64_t vm_clock_nanoseconds;
  uint64_t vm_state_size;       /* bytes; 0: no saved memory */
  uint64_t disk_size;           /* bytes */
  int has_disk_size;            /* 0: the table gives none, disk_size is the active disk's */
  int64_t icount;               /* instructions executed; -1: not recorded */
  uint64_t l1_offset;           /* host offset of the snapshot's L1 table, bytes */
  uint32_t l1_size;             /* entries */
  const uint8_t *unknown_extra; /* extra data past the known 24 bytes, or NULL */
  size_t unknown_extra_length;
};

/* The number of snapshots whose entries in the snapshot table could be read.
   qcow2_snapshot_check() says whether such a snapshot can be read. */
QCOW2_API size_t qcow2_snapshot_count(const struct qcow2_image *image);

/* How many more snapshots the header counts. Their entries could not be read; qcow2_warning() says
   why. */
QCOW2_API size_t qcow2_snapshot_lost_count(const struct qcow2_image *image);

/* A snapshot, or NULL if `index` is not below qcow2_snapshot_count(). Owned by the image. */
QCOW2_API const struct qcow2_snapshot *qcow2_snapshot_get(const struct qcow2_image *image,
                                                          size_t index);

/* Return 0 if the snapshot's disk and VM state can be read, as far as its entry and the size of the
   file show. Else return the error that opening or reading such a view would give. Works with
   QCOW2_OPEN_NO_CHAIN. Errors: ARGUMENT (no such snapshot), CORRUPT, TRUNCATED. */
QCOW2_API int qcow2_snapshot_check(const struct qcow2_image *image, size_t index,
                                   struct qcow2_error *error);

enum qcow2_snapshot_key {
  QCOW2_BY_ID_OR_NAME,
  QCOW2_BY_ID,
  QCOW2_BY_NAME
};

/* Find the only snapshot whose ID, name, or either equals `key` (NUL-terminated). NOT_FOUND if
   there is none or `key` is empty (the message lists all snapshots), or if several match (the
   message lists these). */
QCOW2_API int qcow2_snapshot_find(const struct qcow2_image *image, const char *key,
                                  enum qcow2_snapshot_key by, size_t *index,
                                  struct qcow2_error *error);

/* ---- Bitmaps ------------------------------------------------------------ */

/* Flags of a bitmap ("Bitmap directory entry"). */
#define QCOW2_BITMAP_IN_USE 1u /* it was not saved properly */
#define QCOW2_BITMAP_AUTO 2u   /* it tracks writes whenever the image is used */
#define QCOW2_BITMAP_EXTRA_COMPATIBLE 4u

/* The only type there is. */
#define QCOW2_BITMAP_DIRTY_TRACKING 1

/* A persistent dirty bitmap: it marks the parts of the active disk that were written since some
   event, usually a backup. The name is as stored (any bytes), with a NUL added. Owned by the
   image. */
struct qcow2_bitmap {
  const char *name;
  size_t name_length;    /* bytes */
  uint64_t granularity;  /* bytes that a bit stands for: a power of two, 512 to 2 GiB */
  uint32_t flags;        /* QCOW2_BITMAP_... */
  uint8_t type;          /* QCOW2_BITMAP_DIRTY_TRACKING, or unknown */
  int is_consistent;     /* 0: it may miss writes */
  uint64_t table_offset; /* host offset of its table, bytes */
  uint32_t table_size;   /* entries */
  uint32_t extra_length; /* bytes of extra data of an unknown kind */
};

/* A range of guest bytes. */
struct qcow2_range {
  uint64_t guest_offset;
  uint64_t length; /* bytes */
};

/* The number of bitmaps whose directory entries could be read. */
QCOW2_API size_t qcow2_bitmap_count(const struct qcow2_image *image);

/* How many more bitmaps there are or were, as far as is known. Their entries could not be read;
   qcow2_warning() says why. */
QCOW2_API size_t qcow2_bitmap_lost_count(const struct qcow2_image *image);

/* A bitmap, or NULL if `index` is not below qcow2_bitmap_count(). Owned by the image. */
QCOW2_API const struct qcow2_bitmap *qcow2_bitmap_get(const struct qcow2_image *image,
                                                      size_t index);

/* Find a bitmap by its name (NUL-terminated). NOT_FOUND if there is none (the message lists all
   bitmaps). */
QCOW2_API int qcow2_bitmap_find(const struct qcow2_image *image, const char *name, size_t *index,
                                struct qcow2_error *error);

/* Find the first dirty range that ends after `guest_offset` (bytes). If the granule that contains
   that offset is dirty, the range begins with this granule. If there is no such range, its length
   is 0. To list all ranges, call this again with range->guest_offset + range->length. Works with
   QCOW2_OPEN_NO_CHAIN. Errors: ARGUMENT (no such bitmap), UNSUPPORTED (unknown type), CORRUPT,
   TRUNCATED, IO, NOMEM. */
QCOW2_API int qcow2_bitmap_next_dirty(const struct qcow2_image *image, size_t index,
                                      uint64_t guest_offset, struct qcow2_range *range,
                                      struct qcow2_error *error);

/* Count the dirty bytes of a bitmap, in at most *runs runs of equal bits: an image can have very
   many. *runs is reduced by the number of runs that were looked at, and *bytes is the count in
   these. The count is complete if *runs is still above 0. Errors: those of
   qcow2_bitmap_next_dirty(). */
QCOW2_API int qcow2_bitmap_dirty_bytes(const struct qcow2_image *image, size_t index,
                                       uint64_t *runs, uint64_t *bytes, struct qcow2_error *error);

/* ---- Checking consistency ------------------------------------------------ */

enum qcow2_finding_kind {
  QCOW2_FINDING_LEAK, /* a cluster's refcount is higher than the number of references to it */
  QCOW2_FINDING_REFCOUNT_LOW, /* it is lower: the cluster may have been given to something else as
                                 well */
  QCOW2_FINDING_OVERFLOW,     /* more references than a refcount of this width can count */
  QCOW2_FINDING_COPIED, /* bit 63 of an L1 or L2 entry does not say whether the refcount is 1 */
  QCOW2_FINDING_RESERVED_BITS,  /* an entry has bits that must be zero */
  QCOW2_FINDING_UNALIGNED,      /* an entry's offset is not a multiple of the cluster size */
  QCOW2_FINDING_PAST_END,       /* an entry leads a cluster or more past the end of the file */
  QCOW2_FINDING_CUT,            /* the file ends before the last byte that reading needs */
  QCOW2_FINDING_ENTRY,          /* an L2 entry is invalid for another reason */
  QCOW2_FINDING_REFCOUNT_BLOCK, /* a refcount block is used as something else too */
  QCOW2_FINDING_TABLE,      /* the snapshot table, the bitmap directory, or a table that they or the
                               header name, is not valid */
  QCOW2_FINDING_OVERLAP,    /* a cluster is used as two things that cannot share it */
  QCOW2_FINDING_UNREADABLE, /* the operating system cannot read a table */
  QCOW2_FINDING_STREAM      /* a compressed cluster cannot be decoded, or may be damaged */
};
#define QCOW2_FINDING_KINDS 14u
/* There will never be more kinds than this under this SONAME. */
#define QCOW2_FINDING_KINDS_MAX 32u

/* The name of a kind, such as "refcount-low". Static storage, never NULL. */
QCOW2_API const char *qcow2_finding_kind_name(enum qcow2_finding_kind kind);

/* What a finding is counted as. */
enum qcow2_finding_weight {
  QCOW2_WEIGHT_LEAK,       /* "qemu-img check" calls it a leak: space that nothing refers to */
  QCOW2_WEIGHT_CORRUPTION, /* "qemu-img check" calls it a corruption */
  QCOW2_WEIGHT_DEFECT,     /* breaks the format's rules, but "qemu-img check" does not report it */
  QCOW2_WEIGHT_UNREADABLE, /* the operating system cannot read a table or a stream */
  QCOW2_WEIGHT_DOUBT       /* breaks no rule, but QEMU does not write it so: may be damaged */
};

/* One thing that is wrong. Offsets are bytes, or QCOW2_NO_OFFSET. */
struct qcow2_finding {
  enum qcow2_finding_kind kind;
  enum qcow2_finding_weight weight;
  uint64_t host_offset;  /* of the cluster or table that is wrong */
  uint64_t guest_offset; /* which the entry describes, in the disk that `snapshot_index` selects */
  uint64_t table_offset; /* host offset of the table entry */
  size_t snapshot_index; /* QCOW2_ACTIVE: the active disk, or none */
  uint64_t refcount, references; /* LEAK, REFCOUNT_LOW: as stored, and as counted. Else 0 */
  const char *sentence; /* in UTF-8, control characters escaped; lasts as long as the call */
  int of_refcounts;     /* 1: refcounts or their tables are wrong; reading does not use them */
};

/* A callback that is called for a finding. It returns 0 to be called for more findings of that
   kind; anything else: they are only counted. */
typedef int qcow2_finding_report(void *context, const struct qcow2_finding *finding);

/* What a cluster of the file is used as. An image can be wrong and use a cluster as several things;
   then these are added. */
enum {
  QCOW2_USE_HEADER = 1,
  QCOW2_USE_REFCOUNTS = 2, /* the refcount table and its blocks */
  QCOW2_USE_L1 = 4,
  QCOW2_USE_L2 = 8,
  QCOW2_USE_SNAPSHOT_TABLE = 16,
  QCOW2_USE_BITMAP = 32, /* and the bitmap directory */
  QCOW2_USE_LUKS = 64,
  QCOW2_USE_DATA = 128, /* of a disk or of a VM state */
  QCOW2_USE_COMPRESSED = 256
};

/* A run of clusters that are used alike. */
struct qcow2_cluster_run {
  uint64_t host_offset; /* bytes */
  uint64_t length;      /* bytes, > 0; the next run may be alike, too */
  unsigned uses;        /* QCOW2_USE_...; 0: nothing refers to it */
  int of_active;        /* 1: the active disk refers to it */
  int of_snapshot;      /* 1: a snapshot does */
  int is_leaked;        /* 1: nothing refers to it, but its refcount is not 0 */
  int is_stored;        /* 0: it is in a hole of the file. Only found out if nothing refers to it */
};

/* A callback that is called for the clusters of the file, from its start to its end, or as far as
   the check comes. `run` is valid during the call. */
typedef void qcow2_cluster_report(void *context, const struct qcow2_cluster_run *run);

/* How to check. Set all bytes to zero, then set `struct_size`. */
struct qcow2_check_options {
  size_t struct_size;           /* sizeof(struct qcow2_check_options) */
  qcow2_finding_report *report; /* NULL: count only */
  void *context;                /* passed to it */
  size_t memory_bytes; /* for counting references; 0: 48 MiB. With less, the tables are read more
                          often */
  uint64_t work_bytes; /* the limit of the work, in bytes of tables to be read (a small read counts
                          as more); 0: 64 GiB, which takes minutes. Only an image of some 10 TiB
                          needs more, or one that was made to need it */
  int decode;          /* 1: decode each compressed cluster that an L2 entry refers to. If it cannot
                          be decoded, or may be damaged, that is a finding of the kind STREAM. This
                          takes as long as reading all disks, and 11 MiB more; it does not count as
                          work */
  qcow2_cluster_report *clusters; /* NULL: it is not wanted; `context` is passed to it */
};

/* What a check found. */
struct qcow2_check_result {
  uint64_t corruptions, leaks, defects, unreadable; /* findings, by weight */
  uint64_t counts[QCOW2_FINDING_KINDS_MAX];         /* findings, by kind */
  int is_complete;        /* 0: the limit of the work was reached, or a table was unreadable */
  uint64_t checked_to;    /* host offset up to which refcounts were compared with references; the
                             file's end if is_complete */
  uint64_t used_clusters; /* clusters of the file with references, as far as that was checked */
  uint64_t unreferenced_clusters; /* with a refcount, but without references: some of the leaks */
  uint64_t of_refcounts; /* corruptions and defects of refcounts, which reading does not notice */
  uint64_t doubts;       /* findings, of that weight */
  uint64_t reserved[4];
};

/* Check the consistency of the image file: compare refcounts with references, look at flags, and
   find out whether every offset in the tables can be right. Backing and data files are not read;
   the image may be opened with QCOW2_OPEN_NO_CHAIN, without a passphrase. Uses memory_bytes and 1
   MiB more. What is wrong with the image is a finding, not an error. If the snapshot table or the
   bitmap directory cannot be read as a whole, qcow2_warning() says why. Errors: ARGUMENT, NOMEM. */
QCOW2_API int qcow2_image_check(const struct qcow2_image *image,
                                const struct qcow2_check_options *options,
                                struct qcow2_check_result *result, struct qcow2_error *error);

/* The same for any qcow2 file of the chain (0: the image itself). */
QCOW2_API int qcow2_layer_check(const struct qcow2_image *image, size_t layer,
                                const struct qcow2_check_options *options,
                                struct qcow2_check_result *result, struct qcow2_error *error);

/* ---- Residue ------------------------------------------------------------- */

/* Why nothing refers to a byte of residue. */
enum qcow2_residue_where {
  QCOW2_RESIDUE_UNREFERENCED, /* in a cluster that nothing refers to */
  QCOW2_RESIDUE_AFTER_LAST,   /* the same, after the last cluster that something refers to */
  QCOW2_RESIDUE_UNDER_ZEROS,  /* in a cluster that reads as zeros: see QCOW2_VIEW_UNDER_ZEROS */
  QCOW2_RESIDUE_SUBCLUSTERS,  /* in an unallocated or zero subcluster of an allocated cluster */
  QCOW2_RESIDUE_PAST_DISK,    /* in a cluster of a disk, after the end of the disk */
  QCOW2_RESIDUE_STREAM_GAPS,  /* before, between or after compressed streams */
  QCOW2_RESIDUE_TABLE_SLACK,  /* after the end of a table, in its last cluster */
  QCOW2_RESIDUE_HEADER_SLACK  /* in the first cluster, which has the header */
};
#define QCOW2_RESIDUE_WHERES 8u

/* What residue looks like. A guest can write bytes that look like any of these; a qcow2 image
   inside the guest does. */
enum qcow2_residue_kind {
  QCOW2_RESIDUE_HOLE, /* not stored: reads as zeros */
  QCOW2_RESIDUE_ZERO,
  QCOW2_RESIDUE_DATA, /* everything that is not one of these */
  QCOW2_RESIDUE_L1,
  QCOW2_RESIDUE_L2,
  QCOW2_RESIDUE_REFCOUNT_TABLE,
  QCOW2_RESIDUE_REFCOUNT_BLOCK,
  QCOW2_RESIDUE_SNAPSHOT_TABLE,
  QCOW2_RESIDUE_BITMAP_DIRECTORY,
  QCOW2_RESIDUE_HEADER,    /* of a qcow2 image */
  QCOW2_RESIDUE_COMPRESSED /* old compressed streams: each gives one cluster */
};
#define QCOW2_RESIDUE_KINDS 11u
/* There will never be more than this of the two enums above under this SONAME. */
#define QCOW2_RESIDUE_MAX 16u

/* The names of these, such as "under-zeros" and "refcount-block". Static storage, never NULL. */
QCOW2_API const char *qcow2_residue_where_name(enum qcow2_residue_where where);
QCOW2_API const char *qcow2_residue_kind_name(enum qcow2_residue_kind kind);

/* What is now where an old snapshot entry says that its L1 table is. */
enum qcow2_residue_l1 {
  QCOW2_RESIDUE_L1_THERE,  /* bytes that look like an L1 table, and that nothing refers to */
  QCOW2_RESIDUE_L1_GONE,   /* other bytes, or zeros */
  QCOW2_RESIDUE_L1_REUSED, /* bytes that something refers to */
  QCOW2_RESIDUE_L1_UNKNOWN /* not known: another part of a very large file, or unreadable */
};

/* Something that was found in residue. */
struct qcow2_residue_found {
  /* SNAPSHOT_TABLE, BITMAP_DIRECTORY: one entry. L1, L2, REFCOUNT_TABLE, REFCOUNT_BLOCK, HEADER: a
     cluster. No other kinds. */
  enum qcow2_residue_kind kind;
  uint64_t host_offset;                  /* of the entry or cluster, bytes */
  const struct qcow2_snapshot *snapshot; /* SNAPSHOT_TABLE: as stored; else NULL */
  enum qcow2_residue_l1 l1;              /* of that snapshot */
  const struct qcow2_bitmap *bitmap;     /* BITMAP_DIRECTORY: as stored; else NULL */
  uint64_t table_offset; /* host offset of the old table that has the entry; else host_offset */
};

/* A callback that is called for something that was found. Everything that `found` points to is
   valid during the call. It is not called for entries that the image still has, or twice for an
   entry. */
typedef void qcow2_residue_report(void *context, const struct qcow2_residue_found *found);

/* An old compressed stream: nothing refers to it, it gives one cluster exactly, and ends with it.
 */
struct qcow2_residue_stream {
  uint64_t host_offset; /* of its first byte */
  uint64_t length;      /* bytes in the file */
  const void *cluster;  /* what it gives; valid during the call */
  size_t cluster_size;  /* bytes */
};

/* A callback that is called for such a stream. It returns 0 to be called for more; anything else:
   they are only counted. */
typedef int qcow2_residue_report_stream(void *context, const struct qcow2_residue_stream *stream);

/* How to search residue. Set all bytes to zero, then set `struct_size`. */
struct qcow2_residue_options {
  size_t struct_size;           /* sizeof(struct qcow2_residue_options) */
  qcow2_residue_report *report; /* NULL: count only */
  void *context;                /* passed to it */
  uint64_t work_bytes;          /* as in struct qcow2_check_options, for tables; 0: 64 GiB */
  qcow2_residue_report_stream *report_stream; /* NULL: count only */
};

/* What was found. */
struct qcow2_residue_result {
  uint64_t file_bytes;    /* the file's size */
  uint64_t residue_bytes; /* bytes of it that nothing refers to, as far as is known */
  uint64_t where_bytes[QCOW2_RESIDUE_MAX];
  uint64_t where_data_bytes[QCOW2_RESIDUE_MAX]; /* of these: in sectors that are not all zeros */
  uint64_t kind_bytes[QCOW2_RESIDUE_MAX]; /* by whole clusters or, of clusters that are in use in
                                             part or have old compressed streams, by sectors: ZERO
                                             and DATA; COMPRESSED by bytes */
  int is_complete;       /* 0: a limit was reached, or something could not be read */
  int has_unreadable;    /* 1: a table could not be read, so what only it refers to is counted as
                            residue; or residue could not be read, and is counted as zeros */
  uint64_t checked_to;   /* host offset up to which the file was looked at */
  uint64_t stream_count; /* old compressed streams */
  uint64_t random_bytes; /* of kind_bytes: clusters of DATA as random as if they were encrypted;
                            compressed files look the same */
  uint64_t reserved[4];
};

/* Find the bytes of the image file that nothing refers to (as qcow2_view_open_residue() shows
   them), what they look like, and the old tables among them. No other file is needed: the image may
   be opened with QCOW2_OPEN_NO_CHAIN, without a passphrase. Reads all tables, and all residue that
   is stored. Uses 48 MiB. Any thread. Errors: ARGUMENT, NOMEM. */
QCOW2_API int qcow2_image_residue(const struct qcow2_image *image,
                                  const struct qcow2_residue_options *options,
                                  struct qcow2_residue_result *result, struct qcow2_error *error);

/* ---- Deleted snapshots ---------------------------------------------------- */

/* How far the bytes of a view of old tables, such as those of a deleted snapshot, can be trusted,
   for each cluster. A label is about what the file shows: anyone who could write to the image, or a
   guest that knew the format, could have put anything there. */
enum qcow2_label {
  QCOW2_LABEL_KEPT, /* nothing that the image still has refers to any byte of its cluster, nor to
                       the L2 table that leads there. What was freed a second time in between looks
                       like this, too */
  QCOW2_LABEL_SHARED_OLDER,  /* a snapshot that is older than the deleted one has the same bytes at
                                the same guest offset, and has had them ever since */
  QCOW2_LABEL_SHARED_NEWER,  /* only newer snapshots have: they may have been taken after the
                                deletion, and after another write */
  QCOW2_LABEL_SHARED_ACTIVE, /* only the active disk has: it shows what was written since, too */
  QCOW2_LABEL_REUSED,        /* lost: something else refers to its cluster now */
  QCOW2_LABEL_LOST_TABLE,    /* lost: the L2 table that led there is something else now, or it
                                contradicts another one */
  QCOW2_LABEL_PUNCHED, /* lost: the cluster, or the L2 table, is all zeros, a hole, or after the
                          end of the file. It may always have been zeros */
  QCOW2_LABEL_ABSENT,  /* there was no cluster, as a table says that is itself kept or
                          shared-older: reads as the backing file, or as zeros */
  QCOW2_LABEL_BY_NEIGHBOURS /* guessed: no table names the cluster, but in the file it lies between
                               clusters whose places are known. Only with
                               QCOW2_VIEW_BY_NEIGHBOURS */
};
#define QCOW2_LABELS 9u
/* There will never be more labels than this under this SONAME. */
#define QCOW2_LABELS_MAX 16u

/* The name of a label, such as "shared-older". Static storage, never NULL. */
QCOW2_API const char *qcow2_label_name(enum qcow2_label label);

/* Return 1 if a view has no bytes where it has this label: reads fail there. */
QCOW2_API int qcow2_label_is_lost(enum qcow2_label label);

/* Call `report` for each entry of an old snapshot table that the image no longer has, in ascending
   order of host offsets; at most 65,536. found->kind is SNAPSHOT_TABLE. found->l1 is THERE if the
   snapshot can be opened, as far as is known: nothing refers to its L1 table, which looks like one,
   and no later entry names the same bytes. No other file is needed: the image may be opened with
   QCOW2_OPEN_NO_CHAIN. Reads all tables, what follows them in their clusters, and the start of each
   cluster that is not in use as a whole. Uses 48 MiB. Any thread. Errors: NOMEM, UNSUPPORTED (a
   limit is reached: see qcow2_view_open_residue()). */
QCOW2_API int qcow2_image_deleted(const struct qcow2_image *image, qcow2_residue_report *report,
                                  void *context, struct qcow2_error *error);

/* Return 0 if some of the file could not be read when deleted snapshots were looked for, or the
   bytes of their labels counted: there may be more of them, and labels may be wrong. */
QCOW2_API int qcow2_deleted_is_complete(const struct qcow2_image *image);

/* How a deleted snapshot is named. */
enum qcow2_deleted_key {
  QCOW2_DELETED_BY_NAME,
  QCOW2_DELETED_BY_ID,
  QCOW2_DELETED_BY_L1 /* the host offset of its L1 table, in decimal digits */
};

/* Find the only deleted snapshot with this name or ID, or with this offset of its L1 table, that
   can be opened as far as is known. *l1_offset becomes the host offset of its L1 table, by which it
   is opened. Reads what qcow2_image_deleted() reads, unless this was read before. Errors: NOT_FOUND
   (there is none, or several match; the message lists them), and those of qcow2_image_deleted(). */
QCOW2_API int qcow2_deleted_find(const struct qcow2_image *image, const char *key,
                                 enum qcow2_deleted_key by, uint64_t *l1_offset,
                                 struct qcow2_error *error);

/* More flags for qcow2_view_open_deleted(). */
enum {
  /* Reads of everything but KEPT, SHARED_OLDER and ABSENT fail. */
  QCOW2_VIEW_ONLY_KEPT = 8,
  /* Clusters that no table names are placed by their neighbours: where the L2 table is lost or, of
     an abandoned state, borrowed, or is its own but has nothing there, and two clusters are known
     that have as much between them in the file as on the disk. Not with QCOW2_VIEW_ONLY_KEPT, and
     without effect on images with extended L2 entries or an external data file. Reads the tables
     two times more, and each cluster that nothing refers to. Uses 48 MiB more while it opens. */
  QCOW2_VIEW_BY_NEIGHBOURS = 16
};

/* Open a view of the disk of a deleted snapshot, as far as it is still there: every cluster has a
   label, and where the label says that it is lost, reads fail with CORRUPT. `l1_offset` is the host
   offset of its L1 table, as in an entry of an old snapshot table, which is looked for. Where it
   has no cluster, the backing file is read as for other snapshots. qcow2_view_warning() says which
   snapshot it is, and how many bytes have each label. Flags: QCOW2_VIEW_VM_STATE,
   QCOW2_VIEW_ONLY_KEPT, QCOW2_VIEW_BY_NEIGHBOURS, and QCOW2_VIEW_UNDER_ZEROS: then a cluster of the
   kind ZERO_ALLOCATED has the label of what is stored in it, unless that is all zeros. A warning
   says how many bytes these are. Reads all tables two times more than qcow2_deleted_find(). Uses 48
   MiB while it opens; the view then uses up to 48 MiB for labels. Errors: NOT_FOUND (there is no
   such entry, or something else is where its L1 table was), CORRUPT (an entry that makes no sense),
   UNSUPPORTED (the limit of the work, see qcow2_view_open_residue()), NOMEM, IO, ARGUMENT. */
QCOW2_API int qcow2_view_open_deleted(struct qcow2_image *image, uint64_t l1_offset, unsigned flags,
                                      struct qcow2_view **view, struct qcow2_error *error);

/* How many bytes of a deleted snapshot's disk have each label: as qcow2_view_open_deleted() and
   qcow2_view_label_bytes(). The image may be opened with QCOW2_OPEN_NO_CHAIN, without a passphrase.
   Errors: those of qcow2_view_open_deleted(). */
QCOW2_API int qcow2_deleted_label_bytes(const struct qcow2_image *image, uint64_t l1_offset,
                                        uint64_t *bytes, struct qcow2_error *error);

/* Open a view of the state that was left when a snapshot was applied, as far as it is still there.
   Its L1 table is always lost, so all of this is guessed: the L2 tables that no L1 table leads to
   are placed by the entries that they share with the image's other states, or by what the clusters
   to which they lead contain: partition tables, and copies of superblocks that say where they are.
   Elsewhere the state is that of the snapshot with which they share most. Every cluster has a
   label, as in qcow2_view_open_deleted(), which costs as much. The same flags are taken, but for
   QCOW2_VIEW_VM_STATE. qcow2_view_warning() says what was put together. If several states were
   abandoned, their tables are mixed. With QCOW2_LAYOUT_NO_L1, this is the disk itself; where it has
   no table, that is an error, unless all tables have a place and nothing in the file is left over.
   Errors: NOT_FOUND (there is no such table, or none can be placed), and those of
   qcow2_view_open_deleted(). */
QCOW2_API int qcow2_view_open_abandoned(struct qcow2_image *image, unsigned flags,
                                        struct qcow2_view **view, struct qcow2_error *error);

/* The entry of the deleted snapshot that a view shows; NULL: the view shows something else. Owned
   by the view. */
QCOW2_API const struct qcow2_snapshot *qcow2_view_deleted(const struct qcow2_view *view);

/* How many bytes of the view have each label: `bytes` has QCOW2_LABELS_MAX elements. They were
   counted when the view was opened, without reading the clusters: of PUNCHED, only holes are
   counted as such. Returns 0, or ARGUMENT: the view has no labels. */
QCOW2_API int qcow2_view_label_bytes(const struct qcow2_view *view, uint64_t *bytes,
                                     struct qcow2_error *error);

/* A run of guest bytes with the same label. */
struct qcow2_labelled {
  enum qcow2_label label;
  uint64_t guest_offset; /* bytes */
  uint64_t length;       /* bytes, > 0; the next run may have the same label */
  uint64_t host_offset;  /* of the first byte or, where the label is about the L2 table, of that; of
                            a compressed stream: where it begins. QCOW2_NO_OFFSET: there is none */
  uint64_t reserved[2];  /* 0 */
};

/* Find the label of the bytes at `guest_offset` (below the view's size), for at most `length` bytes
   (> 0). If the label may be KEPT, the cluster is read up to its first byte that is not zero.
   Errors: ARGUMENT (also if the view has no labels), IO, TRUNCATED, NOMEM, UNSUPPORTED. */
QCOW2_API int qcow2_view_label(struct qcow2_view *view, uint64_t guest_offset, uint64_t length,
                               struct qcow2_labelled *labelled, struct qcow2_error *error);

/* ---- A lost beginning ----------------------------------------------------- */

/* Where the size of a layout comes from. */
enum qcow2_rebuilt_size {
  QCOW2_REBUILT_BY_SNAPSHOT,   /* the entry of the snapshot table for this L1 table */
  QCOW2_REBUILT_BY_PARTITIONS, /* the disk's GPT, which says where the disk ends */
  QCOW2_REBUILT_BY_OTHERS,     /* the entry of a snapshot, of which this is another state */
  QCOW2_REBUILT_BY_TABLES      /* the last cluster that the L2 tables have: it may be larger */
};

/* A layout that the file can have. */
struct qcow2_rebuilt {
  struct qcow2_layout layout; /* can be used to open the file */
  enum qcow2_rebuilt_size size_source;
  const struct qcow2_snapshot *snapshot; /* whose L1 table it is, by an entry that was found; or
                                            NULL. Valid during the call */
  uint64_t l2_tables;                    /* that the L1 table leads to */
  uint64_t lost_l2_tables;               /* where it leads, but there is no table */
  uint64_t clusters;                     /* of the disk, that are stored as they are */
  uint64_t compressed;                   /* of the disk, that are compressed */
  uint64_t bad_entries;    /* L2 entries that lead nowhere, or to the L1 table or, with an external
                              data file, elsewhere than to where their clusters are on the disk */
  uint64_t tables_in_use;  /* of its tables: those that the file's own refcounts call used */
  uint64_t tables_counted; /* of its tables: those for which there is a refcount */
  uint64_t streams_tried, streams_good; /* compressed clusters that were decompressed as a trial */
  int is_exact; /* 1: the host offsets have no larger cluster size in common, so it is not larger */
  uint64_t stray_tables;  /* in the file with this cluster size: L2 tables to which no L1 table that
                             was found leads. qcow2_view_open_abandoned() may place them */
  uint32_t refcount_bits; /* the width of the file's own refcounts; 0: they were not found */
  uint32_t clusters_tried;  /* clusters that are stored as they are: so many were looked at, */
  uint32_t clusters_random; /* and these are as random as if they were encrypted. Compressed files
                               look the same */
  uint32_t reserved_1;
  uint64_t reserved[5];
};

/* A callback that is called for a layout, the most likely first. */
typedef void qcow2_rebuild_report(void *context, const struct qcow2_rebuilt *rebuilt);

/* How to look for layouts. Set all bytes to zero, then set `struct_size`. */
struct qcow2_rebuild_options {
  size_t struct_size;           /* sizeof(struct qcow2_rebuild_options) */
  qcow2_rebuild_report *report; /* NULL: count only */
  void *context;                /* passed to it */
  uint64_t work_bytes; /* the limit of what is read after the file was read once (a small read
                          counts as 4 KiB); 0: 16 GiB */
  uint64_t offset;     /* where in its file the image begins, bytes; not for a storage */
};

struct qcow2_rebuild_result {
  uint64_t file_bytes;  /* the file's size */
  uint64_t layouts;     /* found; of these at most 1,000 are reported */
  uint64_t luks_offset; /* of the first LUKS header in the file; 0: none. It may be the guest's */
  int is_complete;      /* 0: a limit was reached, or something could not be read */
  int has_header;       /* 1: the file has a header that can be read: nothing needs to be guessed */
  uint64_t reserved[8];
};

/* Find out how a file can be read whose header was overwritten: look for L1 tables, and for the L2
   tables that they lead to, by their form. The file is read once as a whole, and its tables again.
   Uses 64 MiB. Tables that lead to an external data file are known by their offsets, which are
   those of the disk: such a layout has QCOW2_LAYOUT_DATA_FILE. A guest can write what looks like
   tables, and a qcow2 image inside the guest's disk has some. Errors: IO, ARGUMENT, NOMEM. */
QCOW2_API int qcow2_rebuild(const char *path, const struct qcow2_rebuild_options *options,
                            struct qcow2_rebuild_result *result, struct qcow2_error *error);

/* The same for a storage, which the caller keeps. */
QCOW2_API int qcow2_rebuild_storage(const struct qcow2_storage *storage,
                                    const struct qcow2_rebuild_options *options,
                                    struct qcow2_rebuild_result *result, struct qcow2_error *error);

/* ---- What the files contain ---------------------------------------------- */

/* Feature bits ("Header"). */
#define QCOW2_INCOMPATIBLE_DIRTY (UINT64_C(1) << 0)
#define QCOW2_INCOMPATIBLE_CORRUPT (UINT64_C(1) << 1)
#define QCOW2_INCOMPATIBLE_DATA_FILE (UINT64_C(1) << 2)
#define QCOW2_INCOMPATIBLE_COMPRESSION (UINT64_C(1) << 3)
#define QCOW2_INCOMPATIBLE_EXTENDED_L2 (UINT64_C(1) << 4)
#define QCOW2_COMPATIBLE_LAZY_REFCOUNTS (UINT64_C(1) << 0)
#define QCOW2_AUTOCLEAR_BITMAPS (UINT64_C(1) << 0)
#define QCOW2_AUTOCLEAR_DATA_FILE_RAW (UINT64_C(1) << 1)

enum qcow2_compression {
  QCOW2_COMPRESSION_DEFLATE = 0,
  QCOW2_COMPRESSION_ZSTD = 1
};

/* The header of one file of the chain, checked, in host byte order. Offsets are host offsets in
   bytes. */
struct qcow2_header {
  uint32_t version;       /* 2 or 3; 1: qcow version 1 */
  uint32_t header_length; /* bytes */
  uint32_t cluster_bits;  /* 9..21 */
  uint32_t l2_bits;       /* an L2 table has 1 << l2_bits entries */
  uint64_t size;          /* virtual size, bytes */
  uint32_t crypt_method;  /* 0 none, 1 legacy AES, 2 LUKS */
  uint64_t l1_offset;
  uint32_t l1_size; /* entries */
  uint64_t refcount_table_offset;
  uint32_t refcount_table_clusters;
  uint32_t refcount_order; /* width is 1 << refcount_order bits */
  uint32_t snapshot_count; /* as stored; qcow2_snapshot_count() has those that could be read */
  uint64_t snapshots_offset;
  uint64_t incompatible_features;
  uint64_t compatible_features;
  uint64_t autoclear_features;
  enum qcow2_compression compression;
  const char *backing_file; /* as stored, with a NUL added; NULL: none. Empty if it is too long */
  size_t backing_file_length;
  const char *backing_format; /* NULL: not declared */
  size_t backing_format_length;
  const char *data_file; /* as stored, with a NUL added; NULL: none */
  size_t data_file_length;
};

/* One header extension of a known or unknown type ("Header extensions"). */
struct qcow2_extension {
  uint32_t type;
  uint32_t length;      /* bytes */
  uint64_t host_offset; /* of its data */
  const uint8_t *data;  /* `length` bytes, owned by the image; NULL for layers other than 0 */
};

/* One file of the chain. */
struct qcow2_layer_info {
  const char *path;        /* where the file was found; NULL: opened from a storage */
  const char *data_path;   /* where the data file was found; NULL: none */
  const char *format;      /* "qcow2", "qcow" (version 1), "raw", or as in struct qcow2_foreign;
                              never NULL */
  int is_raw;              /* 1: neither qcow2 nor qcow, `header` is NULL */
  uint64_t file_size;      /* bytes, from `offset` on */
  uint64_t allocated_size; /* bytes that the file occupies on its file system; 0: not known */
  uint64_t
      needed_size; /* bytes that the file must have for its tables and for the clusters whose
                      refcounts are not 0, as far as is known; the last cluster may be shorter */
  uint64_t size;   /* virtual size, bytes */
  const struct qcow2_header *header;
  const char *data_format; /* of the data file, as `format`; NULL: there is none */
  uint64_t offset;         /* where in its file the image begins, bytes: `offset` of the options */
  int64_t written; /* when the file was last written, in nanoseconds since 1970; 0: not known */
  int is_hidden;   /* 1: XCP-ng marks the image as hidden: an internal copy that others are based on
                    */
  uint64_t reserved[3];
};

/* The number of files in the chain, with the image itself: at least 1. */
QCOW2_API size_t qcow2_layer_count(const struct qcow2_image *image);

/* Fill *info for a file of the chain (0: the image itself). The image owns what the pointers in it
   point to. Errors: ARGUMENT (`layer` is not below qcow2_layer_count()). */
QCOW2_API int qcow2_layer_get(const struct qcow2_image *image, size_t layer,
                              struct qcow2_layer_info *info, struct qcow2_error *error);

/* The two files that a layer may consist of. */
enum qcow2_layer_file {
  QCOW2_FILE_IMAGE, /* the image or raw file itself */
  QCOW2_FILE_DATA   /* its external data file */
};

/* Read `length` bytes of a file of the chain, as they are stored, at `host_offset`. Any thread.
   Errors: ARGUMENT (no such file), UNSUPPORTED (the file is in a format that open_foreign reads, so
   only the disk in it is known), TRUNCATED, IO. */
QCOW2_API int qcow2_layer_read(const struct qcow2_image *image, size_t layer,
                               enum qcow2_layer_file file, uint64_t host_offset, void *buffer,
                               size_t length, struct qcow2_error *error);

/* The size in bytes of that file, which qcow2_layer_read() reads to its end; 0: there is none, or
   it cannot be read so. */
QCOW2_API uint64_t qcow2_layer_file_size(const struct qcow2_image *image, size_t layer,
                                         enum qcow2_layer_file file);

/* How many bytes from `host_offset` on are alike in one thing: the file system stores them
   (*is_stored is 1), or they are in a hole (0), so that they read as zeros. If this is not known,
   they are stored, to the end of the file. 0: there are none. Any thread. */
QCOW2_API uint64_t qcow2_layer_stored(const struct qcow2_image *image, size_t layer,
                                      enum qcow2_layer_file file, uint64_t host_offset,
                                      int *is_stored);

/* The size of the buffer for the sentence of qcow2_layer_changed(). */
#define QCOW2_CHANGED_BYTES 640u

/* Find out if a file of the chain (0: the image itself), or its data file, has changed since it was
   opened: its size, or the time of its last change. Then what was read may be of different moments.
   Call it when all was read. Returns 1, and writes a sentence with the file's name to `sentence`
   (`size` bytes), if it has changed. Returns 0 if it has not, or if this is not known: devices,
   files that open_foreign opened, storages of the caller, and Windows. */
QCOW2_API int qcow2_layer_changed(const struct qcow2_image *image, size_t layer, char *sentence,
                                  size_t size);

/* A header extension of a file of the chain, in the order of the file; only the first 1024 are
   kept. NULL if `index` is not below their number. Owned by the image. */
QCOW2_API const struct qcow2_extension *qcow2_extension_get(const struct qcow2_image *image,
                                                            size_t layer, size_t index);

#define QCOW2_KEY_SLOTS 8u

/* How one file of the chain is encrypted. Strings are names as LUKS writes them; empty: does not
   apply. */
struct qcow2_encryption_info {
  uint32_t method; /* as the header's crypt_method: 0 none, 1 legacy AES, 2 LUKS. If 0, the rest is
                      zero */
  char cipher[16]; /* "aes", "serpent", "twofish", "cast5", "sm4" */
  uint32_t key_bits;   /* of the cipher; XTS uses two such keys */
  char mode[16];       /* "ecb", "cbc", "ctr", "xts" */
  char ivgen[16];      /* "plain", "plain64", "essiv" */
  char ivgen_hash[16]; /* "essiv" only */
  /* LUKS only: */
  char hash[16];           /* of key derivation: "sha256" */
  char uuid[40];           /* any bytes but NUL */
  uint64_t header_offset;  /* host offset of the LUKS header, bytes */
  uint64_t payload_offset; /* bytes from there, as the LUKS header says; qcow2 does not use it */
  struct {
    int is_active;
    uint32_t iterations;
  } slots[QCOW2_KEY_SLOTS];
  uint64_t reserved[6];
};

/* Fill *info for a file of the chain (0: the image itself). Reads the LUKS header; no passphrase is
   needed. Errors: ARGUMENT (`layer` is not below qcow2_layer_count()), CORRUPT, TRUNCATED,
   UNSUPPORTED, IO. */
QCOW2_API int qcow2_encryption_get(const struct qcow2_image *image, size_t layer,
                                   struct qcow2_encryption_info *info, struct qcow2_error *error);

enum qcow2_feature_type {
  QCOW2_FEATURE_INCOMPATIBLE,
  QCOW2_FEATURE_COMPATIBLE,
  QCOW2_FEATURE_AUTOCLEAR
};

/* The name of a feature bit (0..63): that in the image's feature name table, else that in the
   format's specification. NULL if neither has one. It can contain any bytes but NUL. Owned by the
   image. */
QCOW2_API const char *qcow2_feature_name(const struct qcow2_image *image,
                                         enum qcow2_feature_type type, unsigned bit);

/* Sentences about what is wrong with an image that could be opened: dirty, corrupt, truncated, a
   damaged snapshot table, a passphrase that cannot be checked. NULL if `index` is not below their
   number. Owned by the image. qcow2_view_warning() has those about a view. */
QCOW2_API const char *qcow2_warning(const struct qcow2_image *image, size_t index);

/* Return 1 if one of these sentences is about something of the image that is lost, or cannot be
   read. */
QCOW2_API int qcow2_image_is_damaged(const struct qcow2_image *image);

/* Escape text from an image so that it can be printed. Writes `length` bytes of `text` to `out`
   (`out_size` bytes, > 0), and a NUL. Control and invisible characters, spaces at either end,
   backslashes, and bytes that are not UTF-8 become \xNN. What does not fit is cut, with "..." at
   the end. Returns `out`. */
QCOW2_API char *qcow2_text_escape(const char *text, size_t length, char *out, size_t out_size);

#ifdef __cplusplus
}
#endif

#endif
