/* SPDX-License-Identifier: MIT */
/*
 * A stream is divided into segments where a run of either file begins or ends. Nothing of a segment
 * is read if it is sparse in both files. If it lies at the same offset of both disks, only those
 * bytes are read that the tables do not show to be the same. A stream that is compressed or
 * encrypted is read as a whole, unless the tables show all of it to be the same.
 */
#include "content.h"

#include <string.h>

/* ---- Runs ------------------------------------------------------------------------------ */

/* A position in a list of runs, which goes forward only. */
struct cursor {
  const TSK_FS_ATTR_RUN *run;
};

struct segment {
  uint64_t blocks; /* that go on in the same way; UINT64_MAX: to the end */
  uint64_t addr;
  bool has_bytes;
};

static struct segment segment_at(struct cursor *cursor, uint64_t block)
{
  struct segment segment = { .blocks = UINT64_MAX };
  const TSK_FS_ATTR_RUN *run;

  while (cursor->run != NULL && cursor->run->offset + cursor->run->len <= block)
    cursor->run = cursor->run->next;
  run = cursor->run;
  if (run == NULL)
    return segment;
  if (run->offset > block) {
    segment.blocks = run->offset - block;
    return segment;
  }
  segment.blocks = run->len - (block - run->offset);
  segment.addr = run->addr + (block - run->offset);
  segment.has_bytes = (run->flags & (TSK_FS_ATTR_RUN_FLAG_SPARSE | TSK_FS_ATTR_RUN_FLAG_FILLER)) ==
                      0;
  return segment;
}

/* ---- Reading ------------------------------------------------------------------------------ */

struct streams {
  struct content *content;
  const TSK_FS_ATTR *attrs[2];
  uint64_t end; /* bytes */
  uint64_t failures[2];
};

/* The worse answer is the larger one. But a difference stays one, whatever cannot be read. */
static enum content_answer worse(enum content_answer a, enum content_answer b)
{
  if (a == CONTENT_DIFFERS || b == CONTENT_DIFFERS)
    return CONTENT_DIFFERS;
  return a > b ? a : b;
}

/* Take `length` bytes, which are read on each side, from the budget. False: it has fewer left. */
static bool take(struct content *content, uint64_t length)
{
  if (content->bytes_left < length)
    return false;
  content->bytes_left -= length;
  return true;
}

/* Read a piece, and tell whether all of it could be read. */
static bool read_piece(const struct streams *streams, int side, uint64_t offset, size_t length)
{
  const struct state *state = streams->content->states[side];
  uint64_t failures = state_failures(state);
  ssize_t count = tsk_fs_attr_read(streams->attrs[side], (TSK_OFF_T) offset,
                                   streams->content->buffers[side], length,
                                   TSK_FS_FILE_READ_FLAG_NONE);

  return count == (ssize_t) length && state_failures(state) == failures;
}

/* Compare the bytes of both streams from `offset` on. */
static enum content_answer compare_bytes(const struct streams *streams, uint64_t offset,
                                         uint64_t length)
{
  enum content_answer answer = CONTENT_SAME;

  while (length > 0 && answer != CONTENT_DIFFERS) {
    size_t piece = length < CONTENT_BUFFER_BYTES ? (size_t) length : CONTENT_BUFFER_BYTES;

    if (!take(streams->content, piece))
      return worse(answer, CONTENT_OVER_BUDGET);
    if (!read_piece(streams, 0, offset, piece) || !read_piece(streams, 1, offset, piece))
      answer = worse(answer, CONTENT_UNREADABLE);
    else if (memcmp(streams->content->buffers[0], streams->content->buffers[1], piece) != 0)
      return CONTENT_DIFFERS;
    offset += piece;
    length -= piece;
  }
  return answer;
}

/* ---- Streams ------------------------------------------------------------------------------- */

/* Compare a segment at `offset` of the streams, which lies at `guest_offset` of both disks. Only
   what the tables do not show to be the same is read. */
static enum content_answer compare_in_place(const struct streams *streams, uint64_t offset,
                                            uint64_t guest_offset, uint64_t length)
{
  struct content *content = streams->content;
  enum content_answer answer = CONTENT_SAME;

  while (length > 0 && answer != CONTENT_DIFFERS) {
    uint64_t run = length;
    int is_same = 0;

    if (content->budget->calls > 0) {
      content->budget->calls--;
      if (qcow2_view_same(content->views.view, content->views.other, guest_offset, length, &run,
                          &is_same, NULL) != 0)
        run = length;
      if (run > length)
        run = length;
    }
    if (!is_same)
      answer = worse(answer, compare_bytes(streams, offset, run));
    offset += run;
    guest_offset += run;
    length -= run;
  }
  return answer;
}

/* True if both segments lie at the same offset of their disks, which *guest_offset becomes. */
static bool is_in_place(const struct streams *streams, const struct segment *a,
                        const struct segment *b, uint64_t *guest_offset)
{
  const TSK_FS_INFO *fs = streams->attrs[0]->fs_file->fs_info;

  return streams->content->views.other != NULL && a->addr == b->addr &&
         !__builtin_mul_overflow(a->addr, (uint64_t) fs->block_size, guest_offset) &&
         !__builtin_add_overflow(*guest_offset, (uint64_t) fs->offset, guest_offset);
}

static enum content_answer compare_segment(const struct streams *streams, const struct segment *a,
                                           const struct segment *b, uint64_t offset,
                                           uint64_t length)
{
  uint64_t guest_offset;

  if (!a->has_bytes && !b->has_bytes)
    return CONTENT_SAME;
  if (a->has_bytes && b->has_bytes && is_in_place(streams, a, b, &guest_offset))
    return compare_in_place(streams, offset, guest_offset, length);
  return compare_bytes(streams, offset, length);
}

static enum content_answer compare_runs(const struct streams *streams)
{
  uint64_t block_size = streams->attrs[0]->fs_file->fs_info->block_size;
  struct cursor cursors[2] = { { streams->attrs[0]->nrd.run }, { streams->attrs[1]->nrd.run } };
  enum content_answer answer = CONTENT_SAME;

  for (uint64_t block = 0;
       block < (streams->end + block_size - 1) / block_size && answer != CONTENT_DIFFERS;) {
    struct segment a = segment_at(&cursors[0], block), b = segment_at(&cursors[1], block);
    uint64_t blocks = a.blocks < b.blocks ? a.blocks : b.blocks;
    uint64_t left = streams->end - block * block_size;

    if (blocks > left / block_size)
      blocks = left / block_size + 1;
    answer = worse(answer,
                   compare_segment(streams, &a, &b, block * block_size,
                                   blocks * block_size < left ? blocks * block_size : left));
    block += blocks;
  }
  return answer;
}

/* True if the runs of both are the same, and what they lead to too, so that a special way of
   storing (compressed, encrypted) gives the same bytes. */
static bool is_stored_the_same(const struct streams *streams)
{
  const TSK_FS_ATTR_RUN *a = streams->attrs[0]->nrd.run, *b = streams->attrs[1]->nrd.run;
  const TSK_FS_INFO *fs = streams->attrs[0]->fs_file->fs_info;

  if (streams->content->views.other == NULL)
    return false;
  for (; a != NULL && b != NULL; a = a->next, b = b->next) {
    if (a->offset != b->offset || a->addr != b->addr || a->len != b->len || a->flags != b->flags)
      return false;
    if ((a->flags & (TSK_FS_ATTR_RUN_FLAG_SPARSE | TSK_FS_ATTR_RUN_FLAG_FILLER)) == 0 &&
        !layout_is_same_run(fs, a, &streams->content->views, streams->content->budget))
      return false;
  }
  return a == NULL && b == NULL;
}

static bool is_resident(const TSK_FS_ATTR *attr)
{
  return (attr->flags & TSK_FS_ATTR_NONRES) == 0;
}

/* True if the bytes of the stream are those below its runs, as they are up to its initialized
   size. */
static bool is_plain(const TSK_FS_ATTR *attr)
{
  return (attr->flags & (TSK_FS_ATTR_COMP | TSK_FS_ATTR_ENC)) == 0 && attr->r == NULL &&
         attr->nrd.skiplen == 0;
}

static enum content_answer compare_streams(struct content *content, const TSK_FS_ATTR *a,
                                           const TSK_FS_ATTR *b)
{
  struct streams streams = { .content = content, .attrs = { a, b } };

  if (a->size != b->size)
    return CONTENT_DIFFERS;
  if (a->size <= 0)
    return CONTENT_SAME;
  streams.end = (uint64_t) a->size;
  if (is_resident(a) || is_resident(b))
    return compare_bytes(&streams, 0, streams.end);
  if (is_plain(a) && is_plain(b) && a->nrd.initsize == b->nrd.initsize)
    return compare_runs(&streams);
  if (a->flags == b->flags && a->nrd.initsize == b->nrd.initsize && is_stored_the_same(&streams))
    return CONTENT_SAME;
  return compare_bytes(&streams, 0, streams.end);
}

/* ---- Files ---------------------------------------------------------------------------------- */

/* The most streams of a file that are compared: each is looked for among all of the other file. */
#define STREAMS_MAX 2000

static const char *name_of(const TSK_FS_ATTR *attr)
{
  return attr->name == NULL ? "" : attr->name;
}

/* The stream of a file that has the type and name of another file's. NULL: it has none. */
static const TSK_FS_ATTR *find_stream(TSK_FS_FILE *file, const TSK_FS_ATTR *wanted)
{
  const TSK_FS_ATTR *attr = layout_first_stream(file);

  while (attr != NULL &&
         (attr->type != wanted->type || strcmp(name_of(attr), name_of(wanted)) != 0))
    attr = layout_next_stream(attr);
  return attr;
}

static void tell_stream(const TSK_FS_ATTR *attr, char *stream, size_t stream_size)
{
  const char *name = name_of(attr);

  if (stream[0] == '\0' && strcmp(name, "$Data") != 0)
    qcow2_text_escape(name, strlen(name), stream, stream_size);
}

/* Compare each stream of `file` with that of `other`; with `is_back`, only find those that `other`
   has not. */
static enum content_answer compare_all(struct content *content, TSK_FS_FILE *file,
                                       TSK_FS_FILE *other, bool is_back, char *stream,
                                       size_t stream_size)
{
  enum content_answer answer = CONTENT_SAME;
  int count = 0;

  for (const TSK_FS_ATTR *attr = layout_first_stream(file); attr != NULL;
       attr = layout_next_stream(attr)) {
    const TSK_FS_ATTR *mate;
    enum content_answer one;

    if (++count > STREAMS_MAX)
      return worse(answer, CONTENT_OVER_BUDGET);
    mate = find_stream(other, attr);
    one = mate == NULL ? CONTENT_DIFFERS
          : is_back    ? CONTENT_SAME
                       : compare_streams(content, attr, mate);
    if (one == CONTENT_DIFFERS)
      tell_stream(attr, stream, stream_size);
    answer = worse(answer, one);
  }
  return answer;
}

static bool is_same_link(const TSK_FS_FILE *a, const TSK_FS_FILE *b)
{
  const char *of_a = a->meta->link, *of_b = b->meta->link;

  return of_a == NULL || of_b == NULL ? of_a == of_b : strcmp(of_a, of_b) == 0;
}

enum content_answer content_compare(struct content *content, TSK_FS_FILE *a, TSK_FS_FILE *b,
                                    char *stream, size_t stream_size)
{
  enum content_answer answer;

  stream[0] = '\0';
  if (!is_same_link(a, b))
    return CONTENT_DIFFERS;
  answer = compare_all(content, a, b, false, stream, stream_size);
  return worse(answer, compare_all(content, b, a, true, stream, stream_size));
}

/* ---- Disks ------------------------------------------------------------------------------- */

/* Read a piece of one disk. */
static bool read_disk(const struct content *content, int side, uint64_t guest_offset, size_t length)
{
  const struct state *state = content->states[side];
  uint64_t failures = state_failures(state);

  return tsk_img_read(state->img, (TSK_OFF_T) guest_offset, content->buffers[side], length) ==
             (ssize_t) length &&
         state_failures(state) == failures;
}

enum content_answer content_compare_disks(struct content *content, uint64_t guest_offset,
                                          uint64_t length)
{
  enum content_answer answer = CONTENT_SAME;

  while (length > 0 && answer != CONTENT_DIFFERS) {
    uint64_t run;
    int is_same;

    if (qcow2_view_same(content->views.view, content->views.other, guest_offset, length, &run,
                        &is_same, NULL) != 0)
      return CONTENT_DIFFERS; /* one of the disks ends there */
    if (!is_same && run > CONTENT_BUFFER_BYTES)
      run = CONTENT_BUFFER_BYTES;
    if (run > length)
      run = length;
    if (!is_same) {
      bool is_read = read_disk(content, 0, guest_offset, (size_t) run) &&
                     read_disk(content, 1, guest_offset, (size_t) run);

      if (!is_read)
        answer = worse(answer, CONTENT_UNREADABLE);
      else if (memcmp(content->buffers[0], content->buffers[1], (size_t) run) != 0)
        answer = CONTENT_DIFFERS;
    }
    guest_offset += run;
    length -= run;
  }
  return answer;
}
