/* SPDX-License-Identifier: MIT */
/* tsk-qcow2 help: what each command and image names mean. The manual pages say the same at greater
   length. */
#include <stdio.h>
#include <string.h>

#include "command.h"

/* One topic. Its summary's lines after the first are indented by the overview. */
struct topic {
  const char *name;
  const char *synopsis; /* after "tsk-qcow2 "; NULL: no command */
  const char *summary;
  const char *details;
};

static const struct topic TOPICS[] = {
  { "run", "run TOOL [ARG...]",
    "run a Sleuth Kit tool with qcow2 support, and change nothing on the system\n",
    "Example: tsk-qcow2 run fls -i qcow2 -o 2048 disk.qcow2@before-update\n"
    "The exit status is the tool's.\n"
    "A tool that would take a qcow2 image for a raw disk is not run.\n" },
  { "enable", "enable", "make every Sleuth Kit program on this machine understand qcow2 (root)\n",
    "Puts a file into /etc/ld.so.conf.d and runs ldconfig, so that programs load\n"
    "tsk-qcow2's library, which itself loads the real libtsk.\n"
    "If that does not work here, nothing is changed.\n" },
  { "disable", "disable", "undo enable (root)\n", "" },
  { "status", "status",
    "say whether it is enabled, which libtsk programs load, and which programs\n"
    "take a qcow2 image for a raw disk\n",
    "Exit status: 0 enabled, 3 not enabled.\n" },
  { "info", "info [--chain] [--json] IMAGE",
    "print header, features, snapshots, extensions and warnings;\n"
    "open no other file, unless --chain asks for it\n",
    "--chain   open the backing files and the data file too, and describe them\n"
    "--json    print JSON\n"
    "Exit status: 0; 4 something of the image is lost, or cannot be read.\n" },
  { "snapshots", "snapshots IMAGE", "print the snapshots, a line each\n",
    "Exit status: 0; 4 snapshots are lost, or cannot be read.\n" },
  { "selector", "selector [--all [--vmstate]] [--directory DIR] IMAGE...",
    "write selector files, which can be opened in place of image names\n",
    "Writes one for each image name, into the working directory. Into the directory of the\n"
    "image they are written only if --directory names it.\n"
    "--all             write one for the active disk, each snapshot, and each deleted snapshot "
    "that\n"
    "                  can be read: IMAGE-deleted-NAME.img\n"
    "--vmstate         with --all: for saved memory too\n"
    "--directory DIR   write them into this directory\n"
    "A selector that you wrote may lead anywhere. Others lead only to files below their own\n"
    "directory.\n" },
  { "bitmap", "bitmap [--json] IMAGE NAME",
    "print the ranges that a dirty bitmap marks: start and length in bytes\n",
    "--json    print JSON\n" },
  { "diff", "diff [--ranges] [--deleted] [--json | --body] A B",
    "print which files changed from one state to another: created, deleted,\n"
    "renamed, with other content or metadata\n",
    "A and B are image names, of one image or of two: disk.qcow2@before disk.qcow2\n"
    "--ranges    print which bytes of the disks differ: start, length and kind\n"
    "--deleted   compare deleted names, and files that have none, too\n"
    "--json      print JSON, an object in each line\n"
    "--body      print mactime's body format, a line for each side of a file that changed\n"
    "What both states store in the same bytes of a file is not read. Without --ranges, libtsk is "
    "needed.\n"
    "Exit status: 0 all of it was compared, whether or not it differs; 4 some of it cannot\n"
    "be read; 6 some of it was not compared for another reason; 1 an image cannot be opened.\n" },
  { "timeline", "timeline [--csv] [--recovered] [--zone ZONE] IMAGE",
    "print all files of all states in mactime's body format, each line once,\n"
    "with the states in which it is seen\n",
    "--csv         print what mactime -d makes of it: a row for each time, in order\n"
    "--recovered   deleted snapshots too, as far as they are left\n"
    "--zone ZONE   the time zone of --csv, and of FAT, which stores local times (UTC)\n"
    "If the image name chooses a snapshot, only that is read. libtsk is needed.\n"
    "Exit status: 0 all of it was read; 4 some of it cannot be read; 6 there is more than is\n"
    "listed; 1 the image cannot be opened.\n" },
  { "map", "map [--json | --svg[=PICTURE]] IMAGE",
    "print the disk in runs: start, length, kind, which file of the chain\n"
    "provides it, and where it lies in that file; or draw disk and file\n",
    "--json          print JSON, with what \"qemu-img map --output=json\" prints\n"
    "--svg           draw pictures, in SVG. Each says how to read it:\n"
    "--svg=disk      the disk, by what is stored for each part of it\n"
    "--svg=layers    the disk, by the file of the chain that provides each part of it\n"
    "--svg=file      the image file, by what each of its clusters is\n"
    "Tables are read, and no data. Exit status: 0; 4 some of the disk cannot be read, because a\n"
    "table or an entry is damaged; 6 a picture could not be drawn; 1 the image cannot be "
    "opened.\n" },
  { "mount", "mount [--foreground] [--allow-other] IMAGE DIRECTORY",
    "show every state of the image as a raw file in the directory, read-only\n",
    "For programs that are not The Sleuth Kit's. The directory has active.raw, snapshots/,\n"
    "vmstate/, deleted/, residue.raw, info.json and, for an image with backing files, layers/.\n"
    "If the image name chooses a snapshot, only that is there. To unmount:\n"
    "fusermount3 -u DIRECTORY\n"
    "--foreground    do not go into the background; Ctrl-C unmounts. Damage that is read is\n"
    "                reported on stderr, else in the system's log\n"
    "--allow-other   other users may look into it too, root among them, as losetup needs\n"
    "Exit status: 0 it is mounted or, with --foreground, was; 4 the same, but a state of the\n"
    "image is not there or, with --foreground, damage was read; 1 it could not be mounted.\n" },
  { "verify", "verify [--json] [--vmstate] [--no-hash] [--list NUMBER] IMAGE",
    "read the disk and every snapshot, say what cannot be read and why, and\n"
    "print sizes and SHA-256\n",
    "--vmstate       read saved memory too\n"
    "--no-hash       compute no SHA-256, and so skip holes\n"
    "--list NUMBER   list at most this many damaged ranges of each state (10,000); all are "
    "counted\n"
    "--json          print JSON\n"
    "If the image name chooses a snapshot, only that is read.\n"
    "Exit status: 0 all of it can be read; 4 some of it cannot, or is lost; 5 everything that\n"
    "the tables refer to can be read, but refcounts disagree with them (for instance, clusters\n"
    "are marked as used though nothing refers to them), or compressed clusters may be damaged;\n"
    "6 tables were not checked to the end; 7 a file changed while it was read; 1 the image is\n"
    "unusable.\n" },
  { "check", "check [--decode] [--json] IMAGE",
    "compare refcounts with tables; open no other file, and write nothing\n",
    "--decode   decode all compressed clusters too\n"
    "--json     print JSON\n"
    "Exit status: 0 clean; 4 corrupt; 5 nothing but leaked clusters, or compressed clusters that\n"
    "may be damaged; 6 nothing serious was found, but not everything was checked; 1 the image\n"
    "cannot be checked.\n" },
  { "report",
    "report [-o FILE] [--json] [--hash-list FILE] [--sections LIST] [--no-hash]\n"
    "                   [--vmstate] [--date DATE] IMAGE",
    "write one HTML file of what the other commands know of the image and\n"
    "its states, with pictures\n",
    "-o FILE             write it there. What is there already is never overwritten\n"
    "--json              write JSON instead\n"
    "--hash-list FILE    write SHA-256 of the files of the chain, for \"sha256sum -c\"; not of\n"
    "                    those inside of disks or of other files\n"
    "--sections LIST     some of: files,facts,pictures,states,hashes,consistency,residue\n"
    "--no-hash           compute no SHA-256\n"
    "--vmstate           read saved memory too\n"
    "--date DATE         the date in the report, as 2026-11-26 or 2026-11-26T21:30:00Z; the\n"
    "                    machine is not named. Then the same image gives the same bytes\n"
    "A section that was not asked for, or could not be done, says so and why.\n"
    "Exit status: 0; 4 some of the image cannot be read, or it is corrupt; 5, 6 and 7 as\n"
    "with verify; 1 the image cannot be opened, or the report cannot be written.\n" },
  { "residue", "residue [--json] [--rebuild | --map NAME | --streams DIRECTORY] IMAGE",
    "say what is in the file though nothing refers to it: how much, where, and\n"
    "what it looks like; list deleted snapshots and bitmaps that left an entry\n",
    "--json                print JSON\n"
    "--rebuild             find out how a file can be read whose first bytes were overwritten\n"
    "--map NAME            list the clusters of the deleted snapshot of this name (or id=ID, or\n"
    "                      l1=OFFSET), and how far each can be trusted; backing files are opened\n"
    "--streams DIRECTORY   decompress old compressed clusters into files there; it must be empty,\n"
    "                      or not exist\n"
    "Otherwise no other file is opened. \"IMAGE,residue\" is the content.\n"
    "Exit status: 0 everything was looked at; 6 not everything was; 1 the image is unusable,\n"
    "or --rebuild found nothing.\n" },
  { "help", "help [TOPIC]", "print this overview, or more about a command or image names\n", "" },
  { "image-names", NULL, NULL,
    "IMAGE[@SNAPSHOT][,OPTION[=VALUE]]...\n"
    "  @ID or @NAME, @id=ID, @name=NAME    a snapshot inside the image\n"
    "  @index=N                            the snapshot at position N of the table, from 0\n"
    "  @deleted=NAME, @deleted-id=ID,      a deleted snapshot, as far as it is left: by its name,\n"
    "  @deleted-l1=OFFSET                  its ID, or where its L1 table is\n"
    "  @abandoned                          the state left when a snapshot was applied (a guess)\n"
    "  backing=PATH                        the backing file; repeat it for deeper layers\n"
    "  backing=none                        the overlay alone: its holes read as zeros\n"
    "  search=DIRECTORY                    look here for files that the image refers to\n"
    "  data-file=PATH                      the external data file\n"
    "  format=FORMAT                       the format of the backing= or data-file= right\n"
    "                                      before it: raw, qcow2, qcow, vmdk, vhd, ewf,\n"
    "                                      aff, afd or afm\n"
    "  key-file=PATH                       the file with the passphrase; repeat it for\n"
    "                                      encrypted backing files with another passphrase\n"
    "  offset=BYTES                        the image begins at this byte of the file\n"
    "  header-length=104                   the header's length, where the stored one is wrong\n"
    "  vmstate                             the snapshot's saved memory instead of its disk\n"
    "  residue                             what nothing in the file refers to, at its offset in\n"
    "                                      the file; everything else is zeros\n"
    "  under-zeros                         what is stored in clusters that were zeroed, instead\n"
    "                                      of the zeros\n"
    "  only=kept                           of a deleted snapshot, only what is surely its own\n"
    "  by-neighbours                       of an abandoned state or a deleted snapshot, also\n"
    "                                      clusters that no table names, placed by guess\n"
    "  l1=OFFSET, size=BYTES,              in place of what the header says, if it was\n"
    "  cluster-bits=BITS                   overwritten; \"residue --rebuild\" finds them\n"
    "  l1=none, l1=by-order                the L1 table is lost: what \"@abandoned\" puts "
    "together\n"
    "                                      from L2 tables, also by their order in the file\n"
    "  extended-l2, compression=zstd,      what else is lost with the header\n"
    "  luks=OFFSET, encryption=aes\n"
    "  errors=zero                         what cannot be read reads as zeros, and is\n"
    "                                      reported on standard error\n"
    "After IMAGE, \",,\" stands for a comma.\n"
    "OUTER//START/PATH[@SNAPSHOT][,OPTION...] is an image inside a disk: OUTER is an image name, "
    "or\n"
    "a raw, E01, VMDK or VHD disk; START the first sector of the partition, as mmls prints it (0: "
    "no\n"
    "partitions); PATH absolute in that file system, or #INODE as fls prints it. Its\n"
    "backing=//START/PATH is in the same disk.\n"
    "A selector file (\"tsk-qcow2 help selector\") stands for a whole image name.\n" },
};

#define TOPIC_COUNT (sizeof(TOPICS) / sizeof(TOPICS[0]))
#define SUMMARY_COLUMN 26

/* Print the lines of `text`, each after the first indented to the column of summaries. */
static void print_summary(FILE *out, const char *text)
{
  for (const char *end; (end = strchr(text, '\n')) != NULL; text = end + 1)
    fprintf(out, "%.*s\n%*s", (int) (end - text), text, end[1] == '\0' ? 0 : SUMMARY_COLUMN, "");
}

static void print_row(FILE *out, const struct topic *topic)
{
  int width = SUMMARY_COLUMN - 2;

  if ((int) strlen(topic->synopsis) < width)
    fprintf(out, "  %-*s", width, topic->synopsis);
  else
    fprintf(out, "  %s\n%*s", topic->synopsis, SUMMARY_COLUMN, "");
  print_summary(out, topic->summary);
}

void help_print_all(FILE *out)
{
  fputs("usage: tsk-qcow2 COMMAND ...\n\n", out);
  for (size_t i = 0; i < TOPIC_COUNT; i++)
    if (TOPICS[i].synopsis != NULL)
      print_row(out, &TOPICS[i]);
  fputs("  --help, --version\n", out);
  for (size_t i = 0; i < TOPIC_COUNT; i++)
    if (TOPICS[i].synopsis == NULL)
      fprintf(out, "\nImage names: %s", TOPICS[i].details);
  fputs("\nExample: tsk-qcow2 run fls -i qcow2 -o 2048 disk.qcow2@before-update\n", out);
}

static void print_topic(const struct topic *topic)
{
  if (topic->synopsis != NULL)
    printf("usage: tsk-qcow2 %s\n\n%s", topic->synopsis, topic->summary);
  if (topic->synopsis != NULL && topic->details[0] != '\0')
    putchar('\n');
  fputs(topic->details, stdout);
}

int command_help(int argc, char *argv[])
{
  if (argc == 0) {
    help_print_all(stdout);
    return EXIT_OK;
  }
  for (size_t i = 0; argc == 1 && i < TOPIC_COUNT; i++)
    if (strcmp(argv[0], TOPICS[i].name) == 0) {
      print_topic(&TOPICS[i]);
      return EXIT_OK;
    }
  return argc > 1 ? complain_usage("help takes one topic")
                  : complain_usage("there is no help on \"%s\"", argv[0]);
}
