/* SPDX-License-Identifier: MIT */
/*
 * qcow2core.h - read QEMU copy-on-write disk images, versions 2 and 3.
 *
 * Objects
 *   struct qcow2_image  an opened image file, with its external data file and
 *                       its backing chain. Everything is opened read-only.
 *   struct qcow2_view   what is read: the active disk, the disk of one
 *                       internal snapshot, or a snapshot's saved memory, each
 *                       with its own L1 table and size.
 *
 * Errors
 *   Functions that can fail return 0 or a negative enum qcow2_status, and fill
 *   the caller's struct qcow2_error when one is given (NULL is allowed). The
 *   struct is untouched on success. A read gives all of its bytes or an error.
 *
 * Threads
 *   One image and one view may be used by any number of threads at once.
 *   Opening and closing are not synchronised: close when nobody reads.
 *   Once clusters that take work to decode are read in order, the image has threads
 *   of its own, which decode ahead, until it is closed; QCOW2_OPEN_NO_THREADS
 *   prevents that. They take no signals, and call no storage of the caller's.
 *   fork() waits until they rest. A child can go on reading an image, and close it,
 *   if no other thread of the program was using that image at the time of fork();
 *   if one was, the child must not touch the image.
 *
 * Trust
 *   No byte of an image is trusted, and a file that an image refers to is opened
 *   by itself only when it is a regular file below the image's own directory,
 *   reached by a relative path without "..", without symbolic links. Everything
 *   else needs the caller's word in struct qcow2_open_options. On Windows all
 *   references do; paths there are in UTF-8.
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
 *   Those that callers fill grow at their end, and begin with their size: set it. The
 *   library refuses fields that it does not know unless they are zero. Those that the
 *   library fills, in the caller's memory, keep their size: new fields take the place of
 *   `reserved`, which is zero. Those that the library owns grow at their end.
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

/* Status codes, split by what the caller can do about them. */
enum qcow2_status {
  QCOW2_OK = 0,
  QCOW2_ERROR_IO = -1,          /* the operating system failed; see os_errno */
  QCOW2_ERROR_NOT_QCOW2 = -2,   /* the file has no qcow2 magic: try another reader */
  QCOW2_ERROR_CORRUPT = -3,     /* the bytes break the format's rules */
  QCOW2_ERROR_TRUNCATED = -4,   /* the file ends before something it refers to */
  QCOW2_ERROR_UNSUPPORTED = -5, /* a legal feature that this build cannot read */
  QCOW2_ERROR_DENIED = -6,      /* a referred-to file needs the caller's word */
  QCOW2_ERROR_KEY = -7,         /* a passphrase is missing or wrong */
  QCOW2_ERROR_NOT_FOUND = -8,   /* no such snapshot, or several match */
  QCOW2_ERROR_NOMEM = -9,
  QCOW2_ERROR_ARGUMENT = -10 /* the caller's mistake */
};

/* Stands in an error's offsets, in bytes, for "does not apply". */
#define QCOW2_NO_OFFSET UINT64_MAX

/* What the caller could do about an error, where the message does not say it: the library does not
   know how a program's users give it options. */
enum qcow2_help {
  QCOW2_HELP_NONE,
  QCOW2_HELP_REFERRER,   /* name the file in the options: a referrer may not lead to it */
  QCOW2_HELP_NAME_FILE,  /* name the file, or a directory where it is, by one of `help_options` */
  QCOW2_HELP_FORMAT,     /* give the format of the file that `help_options` name: raw, or, if it is
                            not NULL, `help_format` */
  QCOW2_HELP_END_CHAIN,  /* name all backing files by backing_paths, with QCOW2_BACKING_NONE last */
  QCOW2_HELP_PASSPHRASE, /* give a passphrase, or another one */
  QCOW2_HELP_LEAVE_OUT,  /* leave out `help_options`, or some of what they list */
  QCOW2_HELP_SNAPSHOT_KEY,  /* look the snapshot up by its ID alone or its name alone, or take it
                               by its index */
  QCOW2_HELP_SNAPSHOT_LIST, /* list the snapshots: the message names only some of them */
  QCOW2_HELP_ANOTHER_READER /* read the file with something else: it is not qcow2 */
};

/* Fields of struct qcow2_open_options, one bit each, for an error's `help_options`. */
enum {
  QCOW2_OPTION_BACKING_PATHS = 1,
  QCOW2_OPTION_DATA_FILE = 2,
  QCOW2_OPTION_SEARCH_DIRECTORIES = 4,
  QCOW2_OPTION_PASSPHRASES = 8
};

/* What went wrong. Owned by the caller, filled on failure only. `message` is one
   sentence in UTF-8 with control characters escaped, which says what to do. */
struct qcow2_error {
  int code;              /* enum qcow2_status */
  int os_errno;          /* errno for QCOW2_ERROR_IO, else 0 */
  int help;              /* enum qcow2_help */
  int help_options;      /* QCOW2_OPTION_..., for `help`; else 0 */
  uint64_t guest_offset; /* bytes, or QCOW2_NO_OFFSET */
  uint64_t guest_length; /* of a read or look-up: bytes from guest_offset on that this error
                            concerns, as far as is known. Else 0 */
  uint64_t host_offset;  /* bytes, or QCOW2_NO_OFFSET */
  uint64_t
      table_offset; /* host offset of the L1 or L2 entry that was followed, or QCOW2_NO_OFFSET */
  const char *help_format; /* static: a format as in struct qcow2_foreign; NULL: none */
  uint64_t reserved[2];    /* 0 */
  char message[960];
};

/* Fill *error (NULL is allowed) with a code and a sentence, as printf() makes it, cut to fit;
   offsets become QCOW2_NO_OFFSET, the rest 0. Returns `code`. For callbacks that fail, such as a
   qcow2_open_foreign: text that an image's maker chose must go through qcow2_text_escape()
   first. */
QCOW2_API int qcow2_error_set(struct qcow2_error *error, int code, const char *format, ...)
    QCOW2_PRINTF(3, 4);

/* The name of a status code, such as "TRUNCATED". Static storage, never NULL. */
QCOW2_API const char *qcow2_status_name(int code);

/* The library's version: three numbers with dots between them. Static storage. */
QCOW2_API const char *qcow2_version(void);

/* ---- Storage ----------------------------------------------------------- */

/* Where bytes come from, for callers whose images are not plain files. `read`
   fills exactly `length` bytes (> 0) from `offset`, where offset + length <= size,
   and returns 0 or an errno value; several threads may call it at once. `close`
   may be NULL. */
struct qcow2_storage {
  void *context;
  uint64_t size; /* bytes; fixed while the image is open */
  int (*read)(void *context, uint64_t offset, void *buffer, size_t length);
  void (*close)(void *context);
};

/* ---- Files that lead to images ------------------------------------------ */

/* A file, no image itself, that says which image to open, such as tsk-qcow2's selector files. It
   may come with the evidence, so its word counts as an image's: what it leads to must lie below its
   own directory. Fixed once open; any thread. */
struct qcow2_referrer;

/* Open it: `path` is the caller's word, and must lead to a regular file. The caller frees *referrer
   with qcow2_referrer_close(). Errors: IO, ARGUMENT, NOMEM. */
QCOW2_API int qcow2_referrer_open(const char *path, struct qcow2_referrer **referrer,
                                  struct qcow2_error *error);

/* NULL is allowed. */
QCOW2_API void qcow2_referrer_close(struct qcow2_referrer *referrer);

/* Its real path, which starts with "/"; what is before the last "/" is its directory. Owned by the
   referrer. */
QCOW2_API const char *qcow2_referrer_path(const struct qcow2_referrer *referrer);

/* Its bytes. Owned by the referrer: the caller reads, and does not close. */
QCOW2_API const struct qcow2_storage *qcow2_referrer_storage(const struct qcow2_referrer *referrer);

/* Open a file by the referrer's word, for the caller to read; the caller closes *storage. `role` is
   what messages call the file, such as "key file". Errors: DENIED (with the reason), IO, NOMEM. */
QCOW2_API int qcow2_referrer_follow(const struct qcow2_referrer *referrer, const char *name,
                                    const char *role, struct qcow2_storage *storage,
                                    struct qcow2_error *error);

/* ---- Opening ----------------------------------------------------------- */

struct qcow2_image;

/* A backing or data file in a format that the library does not read, for the caller to open. */
struct qcow2_foreign {
  const char *path;    /* leads to the file that passed the checks, while the call lasts */
  const char *format;  /* static: "vmdk", "vhd", "ewf", "aff", "afd" or "afm", as The Sleuth Kit
                          calls them, and never by the file's  content alone. "raw": the file is the
                          first part of a raw disk that was split into several */
  int named_by_caller; /* 1: the caller's options name it; 0: only the image does, so nothing that
                        *it* refers to may be opened */
};

/* Capacity of a warning about such a file. */
#define QCOW2_FOREIGN_WARNING_BYTES 256u

/* Open such a file. On success return 0 and fill *storage, which gives the disk's bytes, and which
   the image owns from then on; `warning` (capacity QCOW2_FOREIGN_WARNING_BYTES, empty at the call)
   may be filled with a sentence that qcow2_warning() shows. Else return a negative status, with
   *error filled. */
typedef int qcow2_open_foreign(void *context, const struct qcow2_foreign *file,
                               struct qcow2_storage *storage, char *warning,
                               struct qcow2_error *error);

/* Tell whether a path that the caller's options name as a backing or data file, with this format
   (NULL: none is given), would go to open_foreign: by the format, the name, or the first bytes. 1,
   also if that could not be found out; else 0. */
QCOW2_API int qcow2_foreign_probe(const char *path, const char *format);

/* Flags for struct qcow2_open_options. */
enum {
  /* Open no file but the one named: no backing file, no data file. The image can be
     described, but no view of it can be opened. No passphrase is needed or used. */
  QCOW2_OPEN_NO_CHAIN = 1,
  /* Start no thread, and leave fork() alone: nothing is decoded ahead. */
  QCOW2_OPEN_NO_THREADS = 2
};

/* A path in `backing_paths` that ends the chain: what the layer above it leaves
   unallocated reads as zeros. */
#define QCOW2_BACKING_NONE "none"

/* A passphrase: any bytes, without a newline at the end unless that is part of it. */
struct qcow2_passphrase {
  const void *bytes;
  size_t length;
};

/* What the caller adds to an image's own word. Zero it, then set `struct_size`. All
   strings are copied; NULL stands for none. Paths here are the caller's word:
   absolute paths, ".." and symbolic links are followed. */
struct qcow2_open_options {
  size_t struct_size; /* sizeof(struct qcow2_open_options) */
  unsigned flags;     /* QCOW2_OPEN_... */

  /* The backing files, the topmost image's first; QCOW2_BACKING_NONE may come last.
     Deeper layers than these follow the images' own references. */
  const char *const *backing_paths;
  size_t backing_count;

  /* Directories in which a referred-to file is looked for by its base name, before the place the
     image gives. It must be a regular file there, no symbolic link. Files of the chain at hand are
     passed over. That another file than the image's was found is a warning; and so is a directory
     that cannot be opened, unless the file is not found. */
  const char *const *search_directories;
  size_t search_count;

  /* The topmost image's external data file. */
  const char *data_file;

  /* Memory for all caches of the image together, in bytes; 0 stands for 64 MiB.
     Values below 4 MiB are raised to it. */
  size_t cache_bytes;

  /* Opens files in other formats than qcow2 and raw; NULL: they are refused. */
  qcow2_open_foreign *open_foreign;
  void *foreign_context; /* passed to it */

  /* The first is for the topmost encrypted file of the chain, the second for the next encrypted one
     below it, and so on; the last one serves those that are left. More than there are encrypted
     files are refused. They are used while the image is being opened only, and not copied. */
  const struct qcow2_passphrase *passphrases;
  size_t passphrase_count;

  /* NULL, or who names the image. Then the image's path, `backing_paths`, `data_file`, and so many
     of the `search_directories`, from the first on, are not the caller's word but the referrer's.
     Used while the image is being opened only. */
  const struct qcow2_referrer *referrer;
  size_t referrer_search_count;

  /* How the `backing_paths`, and `data_file`, hold their disks: "raw", "qcow2" (backing files
     only), or a format as in struct qcow2_foreign. NULL in place of a format: found out from what
     the image declares, the name's extension, and the first and last bytes; if these disagree, the
     file is refused. `backing_formats` is NULL, or has `backing_count` of them. */
  const char *const *backing_formats;
  const char *data_format;

  /* The environment variable that the last so many of the `search_directories` come from: messages
     name it. NULL, and 0: none. */
  const char *search_variable;
  size_t search_variable_count;
};

/* Tell whether a file starts with the magic and a version of 2 or more. `path` follows
   symbolic links. Returns 1; 0 if it does not, also if there is no such file, if it may not
   be read, or if it is no regular file or block device; -1 if that could not be found
   out: qcow2_image_open() says why. */
QCOW2_API int qcow2_image_probe(const char *path);

/* Open the image at `path` (the caller's word: symbolic links are followed; a regular file or a
   block device), with its data file and backing chain. `options` may be NULL. On success *image is
   owned by the caller, who frees it with qcow2_image_close(). Unlocking a LUKS image takes the time
   that its maker chose, often two seconds for each key slot that is tried. Errors: IO, NOT_QCOW2,
   CORRUPT, TRUNCATED, UNSUPPORTED, DENIED, KEY, NOMEM, ARGUMENT. */
QCOW2_API int qcow2_image_open(const char *path, const struct qcow2_open_options *options,
                               struct qcow2_image **image, struct qcow2_error *error);

/* As qcow2_image_open(), from the caller's storage, which the image owns from the call
   on, also when it fails. A relative reference in the image has no directory to be
   looked for in, so it needs the options' word. */
QCOW2_API int qcow2_image_open_storage(const struct qcow2_storage *storage,
                                       const struct qcow2_open_options *options,
                                       struct qcow2_image **image, struct qcow2_error *error);

/* Close the image, and free it. Its views must have been closed. NULL is allowed. */
QCOW2_API void qcow2_image_close(struct qcow2_image *image);

/* ---- Views ------------------------------------------------------------- */

struct qcow2_view;

/* In place of a snapshot's index: the active disk. */
#define QCOW2_ACTIVE SIZE_MAX

/* Open a view: QCOW2_ACTIVE, or a snapshot's index below qcow2_snapshot_count(). The
   caller frees *view with qcow2_view_close(), before the image. Cheap: no I/O beyond
   the check of the L1 table's place.
   Errors: CORRUPT, TRUNCATED, UNSUPPORTED, ARGUMENT, NOMEM. */
QCOW2_API int qcow2_view_open(struct qcow2_image *image, size_t snapshot_index,
                              struct qcow2_view **view, struct qcow2_error *error);

/* As qcow2_view_open(), for the VM state (saved memory and devices) of a snapshot: a view of
   exactly vm_state_size bytes. NOT_FOUND if the snapshot has none. */
QCOW2_API int qcow2_view_open_vm_state(struct qcow2_image *image, size_t snapshot_index,
                                       struct qcow2_view **view, struct qcow2_error *error);

/* Flags for qcow2_view_open_as(). */
enum {
  /* The VM state of a snapshot, as qcow2_view_open_vm_state() shows it. */
  QCOW2_VIEW_VM_STATE = 1,
  /* Clusters of the kind ZERO_ALLOCATED in standard L2 entries, of any file of the chain, are shown
     as what is stored in them, as clusters of the kind NORMAL: what was there before zeros were
     written, unless that was punched out of the file or the cluster was never written. Extended L2
     entries read as ever. qcow2_view_warning() says how many bytes that concerns. */
  QCOW2_VIEW_UNDER_ZEROS = 2
};

/* As qcow2_view_open(), with flags (QCOW2_VIEW_..., or 0). With QCOW2_VIEW_UNDER_ZEROS it reads L2
   tables, at most 1 GiB of them. Errors: as for the two above. */
QCOW2_API int qcow2_view_open_as(struct qcow2_image *image, size_t snapshot_index, unsigned flags,
                                 struct qcow2_view **view, struct qcow2_error *error);

/* Sentences about what the view shows that whoever reads it must know, besides those of
   qcow2_warning(). NULL past the last one. Owned by the view. */
QCOW2_API const char *qcow2_view_warning(const struct qcow2_view *view, size_t index);

/* Free the view. NULL is allowed. */
QCOW2_API void qcow2_view_close(struct qcow2_view *view);

/* The view's virtual size in bytes. It need not be a multiple of 512. */
QCOW2_API uint64_t qcow2_view_size(const struct qcow2_view *view);

/* Read `length` bytes at `guest_offset`, which must lie inside the view as a whole, into
   `buffer`: all of them or an error, after which the buffer's content is undefined.
   Errors: IO, CORRUPT, TRUNCATED, NOMEM, ARGUMENT (past the end). */
QCOW2_API int qcow2_view_read(struct qcow2_view *view, uint64_t guest_offset, void *buffer,
                              size_t length, struct qcow2_error *error);

/* Told of a range of guest bytes that cannot be read: damage->guest_offset, damage->guest_length,
   and why. The range holds some of the bytes that were asked for, and may go on past them. `damage`
   lasts as long as the call. */
typedef void qcow2_damage_report(void *context, const struct qcow2_error *damage);

/* As qcow2_view_read(), but what cannot be read because the image is damaged or a file of it fails
   (CORRUPT, TRUNCATED, IO) becomes zeros, and is reported, in ascending order of guest offsets.
   `report` may be NULL. A damaged range is reported by each read that touches it. Read a whole view
   with this to learn all its bad ranges. Where the operating system fails, what is lost is told in
   units of 4 KiB. Errors: NOMEM, ARGUMENT, and UNSUPPORTED if libgcrypt fails. */
QCOW2_API int qcow2_view_salvage(struct qcow2_view *view, uint64_t guest_offset, void *buffer,
                                 size_t length, qcow2_damage_report *report, void *context,
                                 struct qcow2_error *error);

/* What a cluster or subcluster is ("Standard Cluster Descriptor", "Extended L2 Entries"). */
enum qcow2_cluster_kind {
  QCOW2_CLUSTER_UNALLOCATED,    /* nothing here, nor in the backing chain: zeros */
  QCOW2_CLUSTER_ZERO,           /* reads zeros, hides the backing file */
  QCOW2_CLUSTER_ZERO_ALLOCATED, /* the same; a host cluster is kept, its old bytes are not read */
  QCOW2_CLUSTER_NORMAL, /* bytes in the image or data file (there encrypted, if the image is), or in
                           a raw backing file */
  QCOW2_CLUSTER_COMPRESSED, /* a deflate or zstd stream in the image */
  QCOW2_CLUSTER_INVALID     /* the entry breaks the format's rules: reads fail */
};

/* A run of guest bytes of one kind, from one file of the chain. */
struct qcow2_extent {
  enum qcow2_cluster_kind kind;
  size_t layer;          /* 0: the image itself; 1: its backing file; ... */
  uint64_t guest_offset; /* bytes */
  uint64_t length;       /* bytes, > 0; a run may be reported in several pieces */
  uint64_t host_offset;  /* NORMAL, ZERO_ALLOCATED: where the run's bytes are in the layer's file
                            (its  data file if it has one). COMPRESSED: where the stream is. Else
                            QCOW2_NO_OFFSET */
  uint64_t
      host_bytes; /* COMPRESSED: the stream's upper bound, to the end of its last sector. Else 0 */
};

/* Say what lies at `guest_offset` (below the view's size), for at most `length` bytes (> 0). What
   lies past the end of a shorter backing file is ZERO. An invalid L1 or L2 entry is not an error
   here but an extent of kind INVALID. Errors: IO, TRUNCATED (an L1 or L2 table cannot be read),
   NOMEM, ARGUMENT. */
QCOW2_API int qcow2_view_map(struct qcow2_view *view, uint64_t guest_offset, uint64_t length,
                             struct qcow2_extent *extent, struct qcow2_error *error);

/* Say whether two views, of one image or of two, have the same bytes from `guest_offset` (below the
   size of both) on, without reading them: *is_same is 1 if both read as zeros there, or are stored
   in the same bytes of one file, and 0 if only reading can tell. *run_length is for how many of the
   next `length` bytes (> 0) that holds: at least 1, and perhaps more of the same follows. What
   cannot be read because an entry is invalid, a table cannot be read, or the file ends before it,
   is never the same; whether a stream can be decoded is not found out. Any thread. Errors:
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

/* The number of snapshots whose entries could be read. What can be wrong with these,
   qcow2_snapshot_check() says. */
QCOW2_API size_t qcow2_snapshot_count(const struct qcow2_image *image);

/* The number of snapshots that the header counts beyond these: their entries are lost, or never
   were any. qcow2_warning() says why. */
QCOW2_API size_t qcow2_snapshot_lost_count(const struct qcow2_image *image);

/* A snapshot, or NULL if `index` is not below qcow2_snapshot_count(). Owned by the image. */
QCOW2_API const struct qcow2_snapshot *qcow2_snapshot_get(const struct qcow2_image *image,
                                                          size_t index);

/* Say whether the snapshot's disk and VM state can be read, as far as its entry and the file's size
   tell: 0, or the error that opening a view of one of them gives, or that reading it comes to.
   Works without the chain. Errors: ARGUMENT, CORRUPT, TRUNCATED. */
QCOW2_API int qcow2_snapshot_check(const struct qcow2_image *image, size_t index,
                                   struct qcow2_error *error);

enum qcow2_snapshot_key {
  QCOW2_BY_ID_OR_NAME,
  QCOW2_BY_ID,
  QCOW2_BY_NAME
};

/* Find the one snapshot whose ID, name, or either equals `key` (NUL-terminated, not
   empty). NOT_FOUND if there is none (the message lists those there are), or if
   several match (the message lists them and says how to choose). */
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

/* A persistent dirty bitmap: which parts of the active disk were written since something, usually a
   backup. The name is as stored (any bytes), with a NUL added. Owned by the image. */
struct qcow2_bitmap {
  const char *name;
  size_t name_length;    /* bytes */
  uint64_t granularity;  /* bytes that a bit stands for: a power of two, 512 to 2 GiB */
  uint32_t flags;        /* QCOW2_BITMAP_... */
  uint8_t type;          /* QCOW2_BITMAP_DIRTY_TRACKING, or unknown */
  int is_consistent;     /* 0: it may miss writes, and is shown for what it is worth */
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

/* The number of bitmaps that there are or were besides, as far as is known: their entries are lost.
   qcow2_warning() says why. */
QCOW2_API size_t qcow2_bitmap_lost_count(const struct qcow2_image *image);

/* A bitmap, or NULL if `index` is not below qcow2_bitmap_count(). Owned by the image. */
QCOW2_API const struct qcow2_bitmap *qcow2_bitmap_get(const struct qcow2_image *image,
                                                      size_t index);

/* Find a bitmap by its name (NUL-terminated). NOT_FOUND if there is none; the message lists those
   there are. */
QCOW2_API int qcow2_bitmap_find(const struct qcow2_image *image, const char *name, size_t *index,
                                struct qcow2_error *error);

/* Find the first dirty range that ends after `guest_offset` (bytes); it begins at the granule that
   holds that offset if this one is dirty. A length of 0 says that there are no more. To list all,
   go on with range->guest_offset + range->length. Works without the chain. Any thread. Errors:
   ARGUMENT, UNSUPPORTED (unknown type), CORRUPT, TRUNCATED, IO, NOMEM. */
QCOW2_API int qcow2_bitmap_next_dirty(const struct qcow2_image *image, size_t index,
                                      uint64_t guest_offset, struct qcow2_range *range,
                                      struct qcow2_error *error);

/* Count the dirty bytes of a bitmap, looking at no more than *runs runs of equal bits, by which
   *runs is lowered: an image's maker can make that very many. *bytes is the count as far as it
   went; it is complete if *runs is not 0 then. Errors: as for qcow2_bitmap_next_dirty(). */
QCOW2_API int qcow2_bitmap_dirty_bytes(const struct qcow2_image *image, size_t index,
                                       uint64_t *runs, uint64_t *bytes, struct qcow2_error *error);

/* ---- Checking consistency ------------------------------------------------ */

enum qcow2_finding_kind {
  QCOW2_FINDING_LEAK, /* a cluster's refcount is higher than the number of references to it */
  QCOW2_FINDING_REFCOUNT_LOW, /* it is lower: the cluster may have been given to something else as
                                 well */
  QCOW2_FINDING_OVERFLOW,     /* a reference more than a refcount of this width can count */
  QCOW2_FINDING_COPIED, /* bit 63 of an L1 or L2 entry does not say whether the refcount is 1 */
  QCOW2_FINDING_RESERVED_BITS, /* an entry has bits that must be zero */
  QCOW2_FINDING_UNALIGNED,     /* an entry's offset is not a multiple of the cluster size */
  QCOW2_FINDING_PAST_END,      /* something lies behind the end of the file, by a cluster or more */
  QCOW2_FINDING_CUT,           /* the end of the file cuts bytes that reading needs */
  QCOW2_FINDING_ENTRY,         /* an L2 entry is invalid for another reason */
  QCOW2_FINDING_REFCOUNT_BLOCK, /* a refcount block is something else too */
  QCOW2_FINDING_TABLE,     /* the snapshot table, the bitmap directory, or a table that they or the
                              header name, is not valid */
  QCOW2_FINDING_OVERLAP,   /* a cluster is two things at once, of which one at most can be right */
  QCOW2_FINDING_UNREADABLE /* the operating system cannot read a table */
};
#define QCOW2_FINDING_KINDS 13u
/* There will never be more kinds than this under this SONAME. */
#define QCOW2_FINDING_KINDS_MAX 32u

/* The name of a kind, such as "refcount-low". Static storage, never NULL. */
QCOW2_API const char *qcow2_finding_kind_name(enum qcow2_finding_kind kind);

/* What a finding is counted as. */
enum qcow2_finding_weight {
  QCOW2_WEIGHT_LEAK,       /* space is lost; nothing reads wrong. As qemu-img check counts leaks */
  QCOW2_WEIGHT_CORRUPTION, /* as qemu-img check counts corruptions */
  QCOW2_WEIGHT_DEFECT,     /* breaks the format's rules, but qemu-img check does not look for it */
  QCOW2_WEIGHT_UNREADABLE
};

/* One thing that is wrong. Offsets are bytes, or QCOW2_NO_OFFSET. */
struct qcow2_finding {
  enum qcow2_finding_kind kind;
  enum qcow2_finding_weight weight;
  uint64_t host_offset; /* of the cluster or table that it is about */
  uint64_t
      guest_offset; /* of the cluster whose entry it is, in the disk that `snapshot_index` says */
  uint64_t table_offset;         /* host offset of the table entry */
  size_t snapshot_index;         /* QCOW2_ACTIVE: the active disk, or none */
  uint64_t refcount, references; /* LEAK, REFCOUNT_LOW: as stored, and as counted. Else 0 */
  const char *sentence; /* in UTF-8, control characters escaped; lasts as long as the call */
  int of_refcounts; /* 1: it is about refcounts, or where they are, which reading does not use */
};

/* Told of a finding. Returns 0 to be told more of that kind, anything else to have them only
   counted. */
typedef int qcow2_finding_report(void *context, const struct qcow2_finding *finding);

/* Zero it, then set `struct_size`. */
struct qcow2_check_options {
  size_t struct_size;           /* sizeof(struct qcow2_check_options) */
  qcow2_finding_report *report; /* NULL: count only */
  void *context;                /* passed to it */
  size_t memory_bytes; /* for counting references; 0 stands for 48 MiB. With less, the tables are
                          read more often */
  uint64_t work_bytes; /* how much may be done, in bytes of tables to be read (reading little costs
                          more); 0 stands for 64 GiB, minutes of work. Only an image made to keep a
                          reader busy needs more, or one of some 10 TiB */
};

struct qcow2_check_result {
  uint64_t corruptions, leaks, defects, unreadable; /* findings, by weight */
  uint64_t counts[QCOW2_FINDING_KINDS_MAX];         /* findings, by kind */
  int is_complete;        /* 0: the work's bound was reached, or something was unreadable */
  uint64_t checked_to;    /* host offset up to which refcounts were compared with references; the
                             file's end if is_complete */
  uint64_t used_clusters; /* clusters of the file with references, as far as that was checked */
  uint64_t unreferenced_clusters; /* with a refcount, but without references: some of the leaks */
  uint64_t of_refcounts; /* corruptions and defects of refcounts, which reading does not notice */
  uint64_t reserved[5];
};

/* Check the consistency of the image file itself (no backing or data file is looked at;
   QCOW2_OPEN_NO_CHAIN will do, without a passphrase): refcounts against references, flags, and
   whether what the tables name is where it can be. Takes memory_bytes and 1 MiB more. Why a
   snapshot table or bitmap directory cannot be read as a whole, qcow2_warning() says. Any thread.
   Errors: ARGUMENT, NOMEM. What is wrong with the image is no error but a finding. */
QCOW2_API int qcow2_image_check(const struct qcow2_image *image,
                                const struct qcow2_check_options *options,
                                struct qcow2_check_result *result, struct qcow2_error *error);

/* The same for a file of the chain (0 is the image itself), which must be a qcow2 image. */
QCOW2_API int qcow2_layer_check(const struct qcow2_image *image, size_t layer,
                                const struct qcow2_check_options *options,
                                struct qcow2_check_result *result, struct qcow2_error *error);

/* ---- What the image says of itself -------------------------------------- */

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

/* The header of one file of the chain, checked and in host byte order. */
struct qcow2_header {
  uint32_t version; /* 2 or 3 */
  uint32_t header_length;
  uint32_t cluster_bits; /* 9..21 */
  uint64_t size;         /* virtual size, bytes */
  uint32_t crypt_method; /* 0 none, 1 legacy AES, 2 LUKS */
  uint64_t l1_offset;
  uint32_t l1_size; /* entries */
  uint64_t refcount_table_offset;
  uint32_t refcount_table_clusters;
  uint32_t refcount_order; /* width is 1 << refcount_order bits */
  uint32_t snapshot_count; /* as the header says */
  uint64_t snapshots_offset;
  uint64_t incompatible_features;
  uint64_t compatible_features;
  uint64_t autoclear_features;
  enum qcow2_compression compression;
  const char *backing_file; /* as written, NUL added; NULL: none */
  size_t backing_file_length;
  const char *backing_format; /* NULL: not declared */
  size_t backing_format_length;
  const char *data_file; /* as written; NULL: none */
  size_t data_file_length;
};

/* One header extension, known or not ("Header extensions"), in the file's order. */
struct qcow2_extension {
  uint32_t type;
  uint32_t length;      /* bytes */
  uint64_t host_offset; /* of its data */
  const uint8_t *data;  /* `length` bytes, owned by the image; NULL for layers other than 0 */
};

/* One file of the chain. */
struct qcow2_layer_info {
  const char *path;        /* as resolved, or NULL when opened from storage */
  const char *data_path;   /* the data file as resolved, or NULL */
  const char *format;      /* "qcow2", "raw", or as in struct qcow2_foreign; never NULL */
  int is_raw;              /* 1: not a qcow2 file, `header` is NULL */
  uint64_t file_size;      /* bytes */
  uint64_t allocated_size; /* bytes that the file occupies on its file system; 0: not known */
  uint64_t
      needed_size; /* bytes that the file must have for its tables and the clusters its refcounts
                      call used, as far as is known; the last cluster may legally be shorter */
  uint64_t size;   /* virtual size, bytes */
  const struct qcow2_header *header;
  const char *data_format; /* how the data file holds the disk: as `format`; NULL: there is none */
  uint64_t reserved[6];
};

/* The number of files in the chain, the image itself among them: at least 1. */
QCOW2_API size_t qcow2_layer_count(const struct qcow2_image *image);

/* Fill *info for the layer (0 is the image itself). Pointers in it are the image's.
   ARGUMENT if `layer` is not below qcow2_layer_count(). */
QCOW2_API int qcow2_layer_get(const struct qcow2_image *image, size_t layer,
                              struct qcow2_layer_info *info, struct qcow2_error *error);

/* Header extensions of a layer, in order, the first 1024 of them; NULL past the last one. */
QCOW2_API const struct qcow2_extension *qcow2_extension_get(const struct qcow2_image *image,
                                                            size_t layer, size_t index);

#define QCOW2_KEY_SLOTS 8u

/* How one file of the chain is encrypted. Strings are names as LUKS writes them, empty if they do
   not apply. */
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
  uint64_t payload_offset; /* bytes from there, as the LUKS header says; qcow2 has no use for it */
  struct {
    int is_active;
    uint32_t iterations;
  } slots[QCOW2_KEY_SLOTS];
  uint64_t reserved[6];
};

/* Fill *info for the layer (0 is the image itself), from the file's own word: no passphrase is
   needed. Reads the LUKS header. Errors: ARGUMENT if `layer` is not below qcow2_layer_count();
   those of a LUKS header: CORRUPT, TRUNCATED, UNSUPPORTED, IO. */
QCOW2_API int qcow2_encryption_get(const struct qcow2_image *image, size_t layer,
                                   struct qcow2_encryption_info *info, struct qcow2_error *error);

enum qcow2_feature_type {
  QCOW2_FEATURE_INCOMPATIBLE,
  QCOW2_FEATURE_COMPATIBLE,
  QCOW2_FEATURE_AUTOCLEAR
};

/* The name of a feature bit (0..63): from the image's feature name table, else the
   format's own. NULL if neither has one. It may hold any bytes but NUL; the image owns it. */
QCOW2_API const char *qcow2_feature_name(const struct qcow2_image *image,
                                         enum qcow2_feature_type type, unsigned bit);

/* Sentences about what is wrong with the image though it could be opened: dirty, corrupt,
   truncated, a damaged snapshot table, a passphrase that cannot be checked. NULL past the last one.
   Owned by the image. qcow2_view_warning() has those of what is read of it. */
QCOW2_API const char *qcow2_warning(const struct qcow2_image *image, size_t index);

/* Write `length` bytes of any text to `out` (capacity `out_size` > 0) with control and invisible
   characters, spaces at either end, backslashes and bytes that are not UTF-8 as \xNN,
   NUL-terminated, cut with "..." where it does not fit. Returns `out`. For printing names that an
   image's maker chose. */
QCOW2_API char *qcow2_text_escape(const char *text, size_t length, char *out, size_t out_size);

#ifdef __cplusplus
}
#endif

#endif
