/* SPDX-License-Identifier: MIT */
/*
 * Opens an image in one of the ways in which programs have libtsk do that, and says what it got:
 *   program WAY IMAGE [OFFSET LENGTH]      WAY: see ways[]; reads that piece, inside the library
 */
#include "libtsk.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <vector>

/* Classes of the program's own: their vtables are here. */
class Tool : public TskAuto
{
};

class Database : public TskAutoDb
{
};

struct request {
  const char *image;
  int64_t offset;
  size_t length;
};

/* How often this process has the file open. */
static int count_open(const char *image)
{
  std::error_code unwanted;
  const auto path = std::filesystem::canonical(image, unwanted);
  int count = 0;

  for (const auto &entry : std::filesystem::directory_iterator("/proc/self/fd"))
    count += std::filesystem::read_symlink(entry.path(), unwanted) == path && !path.empty();
  return count;
}

static void show(TskAuto *object, const request &request)
{
  std::vector<char> piece(request.length, 'U'); /* U: untouched */

  printf("type %x, %lld bytes\n", static_cast<unsigned>(object->m_img_info->itype),
         static_cast<long long>(object->m_img_info->size));
  if (request.length == 0)
    return;
  printf("read %zd:", object->read(request.offset, piece.data(), request.length));
  for (char byte : piece)
    printf(" %02x", static_cast<unsigned char>(byte));
  printf("\n");
}

static int call_open(const request &request)
{
  Tool tool;

  if (tool.TskAuto::openImage(1, &request.image, TSK_IMG_TYPE_DETECT, 0) != 0)
    return 1;
  show(&tool, request);
  return 0;
}

static int call_open_utf8(const request &request)
{
  Tool tool;

  if (tool.TskAuto::openImageUtf8(1, &request.image, TSK_IMG_TYPE_DETECT, 0) != 0)
    return 1;
  show(&tool, request);
  return 0;
}

/* Through the vtable, twice with one object, which closes the first image. */
static int call_virtual(const request &request)
{
  TskAuto *tool = new Tool;
  int result = 0;

  for (int i = 0; result == 0 && i < 2; i++) {
    result = tool->openImage(1, &request.image, TSK_IMG_TYPE_DETECT, 0);
    printf("open: %d\n", count_open(request.image));
  }
  if (result == 0)
    show(tool, request);
  tool->closeImage();
  printf("closed: %d\n", count_open(request.image));
  delete tool;
  return result;
}

/* An object of the library's own class. */
static int call_db_open(const request &request)
{
  TskAutoDb database;

  if (database.openImage(1, &request.image, TSK_IMG_TYPE_DETECT, 0, "d") != 0)
    return 1;
  show(&database, request);
  return 0;
}

static int call_db_virtual(const request &request)
{
  TskAutoDb *database = new Database;
  int result = database->openImage(1, &request.image, TSK_IMG_TYPE_DETECT, 0, "d");

  if (result == 0)
    show(database, request);
  database->closeImage();
  printf("closed: %d\n", count_open(request.image));
  delete database;
  return result;
}

static int call_db_open_utf8(const request &request)
{
  Database database;

  if (database.openImageUtf8(1, &request.image, TSK_IMG_TYPE_DETECT, 0, "d") != 0)
    return 1;
  show(&database, request);
  database.closeImage();
  return 0;
}

static int call_add(const request &request)
{
  Database database;
  int result = database.startAddImage(1, &request.image, TSK_IMG_TYPE_DETECT, 0, "d");

  printf("%d errors\n", database.error_count);
  if (result == 0)
    show(&database, request);
  return result;
}

static int call_case_add(const request &request)
{
  return TskCaseDb().addImage(1, &request.image, TSK_IMG_TYPE_DETECT, 0);
}

static const struct {
  const char *name;
  int (*call)(const request &);
} ways[] = {
  { "open", call_open },
  { "open-utf8", call_open_utf8 },
  { "virtual", call_virtual },
  { "db-open", call_db_open },
  { "db-open-utf8", call_db_open_utf8 },
  { "db-virtual", call_db_virtual },
  { "add", call_add },
  { "case-add", call_case_add },
};

int main(int argc, char *argv[])
{
  request request = { argv[2], argc > 4 ? atoll(argv[3]) : 0,
                      argc > 4 ? static_cast<size_t>(atoll(argv[4])) : 0 };

  for (const auto &way : ways)
    if (strcmp(way.name, argv[1]) == 0) {
      int result = way.call(request);

      printf("left open: %d\n", count_open(request.image));
      return result;
    }
#ifdef FUTURE
  return TskFuture::examine(1, &request.image, TSK_IMG_TYPE_DETECT, 0);
#else
  return 2;
#endif
}
