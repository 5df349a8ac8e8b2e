# SPDX-License-Identifier: MIT
"""What is measured, against what, and what it should come to."""
import os
import shlex
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from images import PASSPHRASE, SNAPSHOTS, START_SECTOR

WALK = ("-r", "-p", "-o", START_SECTOR)
TSK_QCOW2 = "tsk_qcow2/tsk-qcow2"  # in the build
# How many times the time of raw disks fls may take. "one": with one processor.
FLS = {
    "plain": 0.85,
    "extended-l2": 1.0,
    "snapshot": 1.0,
    "zlib": 1.5,
    "zstd": 1.3,
    "luks": None,
    "chain-8": None,
    "chain-32": None,
    "plain-4k": None,
    "zlib-4k": None,
    "zlib-2m": 5.0,
    "zstd-2m": None,
    "ntfs-plain": None,
    "ntfs-zlib": None,
    "ntfs-zstd": None,
    "plain one": None,
    "zlib one": None,
    "zstd one": None,
    "zlib-2m one": 6.0,
}
# Of img_cat: to the best of QEMU, and to the library alone on all processors.
IMG_CAT = {
    "plain": {"raw": 1.1},
    "snapshot": {},
    "zlib": {"QEMU": 0.42, "floor": 1.25},
    "zstd": {"QEMU": 0.75, "floor": 1.15},
    "zlib-2m": {"QEMU": 0.5, "floor": 1.4},
    "zstd-2m": {},
    "zlib-4k": {},
    "luks": {"QEMU": 0.3},
    "chain-32": {},
    "zlib one": {},
    "zstd one": {},
    "zlib-2m one": {},
}
# Of a reader that decodes everything and copies nothing, to the library alone on all processors.
DECODE = {"zlib": 1.15, "zstd": 1.15, "zlib-2m": 1.15, "zstd-2m": 1.15}
COMPRESSED = ("zlib", "zstd", "zlib-4k", "zlib-2m", "zstd-2m")
# How many random reads are measured, of ours and of qemu-nbd, and the seconds for each.
RANDOM = {
    "plain": (200000, 4000, 0),
    "zlib": (200000, 2000, 3e-6),
    "zlib-2m": (200000, 100, 0.5e-3),
}


@dataclass
class Contender:
    command: list
    dropin: bool = False
    is_built: bool = False  # the command is a path in the build
    build: Path = None  # None: the one that is measured
    one_processor: bool = False
    measures_itself: bool = False  # it prints its seconds, and perhaps its KiB
    output: str = ""  # a directory to be made before and removed after it
    stdin: object = None  # a file
    server: tuple = ()  # a command to run meanwhile, and the path that shows it is ready


@dataclass
class Scenario:
    name: str
    contenders: dict  # by name; "ours" is the first
    # Contender, or group of them -> how many times its time ours may take at most.
    bars: dict = field(default_factory=dict)
    groups: dict = field(default_factory=dict)  # of several contenders the best counts
    seconds_max: float = 0  # 0: none
    mib_max: float = 128  # 0: none
    rounds_max: int = 100
    same_output: bool = False  # all with the drop-in, and raw, must print the same


class Bench:
    """The scenarios over images, with the programs that the build made."""

    def __init__(self, images, programs, scratch, qemu):
        self.images, self.programs = images, Path(programs)
        self.scratch, self.qemu = Path(scratch), qemu
        self.key_file = Path(images.directory, "passphrase")
        self.key_file.write_text(PASSPHRASE)
        self.needed = {}  # name of a scenario -> images

    def scenarios(self):
        for variant, bar in FLS.items():
            yield self.fls(*split(variant), bar)
        for variant, bars in IMG_CAT.items():
            yield self.img_cat(*split(variant), bars)
        for variant, bar in DECODE.items():
            yield self.decode(variant, bar)
        for variant in ("plain", "zlib", "zstd"):
            yield self.tsk_recover(variant)
        for variant in ("plain", "zlib", "zstd"):
            yield self.mount("mount", variant)
            yield self.mount("mount-direct", variant)
        for variant, (ours, theirs, seconds) in RANDOM.items():
            yield self.random(variant, ours, theirs, seconds)
        for variant in ("empty", "plain", "chain-32"):
            yield self.open(variant)
        yield self.hash()
        for variant in ("plain", "zlib", "zstd", "zlib-2m"):
            yield self.verify(variant)
        for variant in ("snapshots", "snapshots-zlib"):
            yield self.verify_states(variant)
        yield self.diff("files")
        for variant in ("snapshots", "snapshots-zlib"):
            yield self.ranges(variant)
        yield self.timeline("files")

    def make_images(self, scenarios):
        for scenario in scenarios:
            for name in self.needed[scenario.name]:
                self.images.path(name)

    def scenario(self, name, images, contenders, **more):
        self.needed[name] = images
        return Scenario(name, contenders, **more)

    # ---- Contenders ----------------------------------------------------------

    def path(self, variant):
        return self.images.path_of(variant)

    def image_name(self, variant):
        if variant == "luks":
            return f"{self.path(variant)},key-file={self.key_file}"
        return f"{self.path(variant)}@before" if variant == "snapshot" else self.path(variant)

    def tool(self, tool, options, variant, *after, **more):
        return Contender(
            [tool, "-i", "qcow2", *options, self.image_name(variant), *after], dropin=True, **more
        )

    def raw(self, tool, options, *after, disk="disk", **more):
        return Contender([tool, "-i", "raw", *options, self.path(disk), *after], **more)

    def program(self, name, *words, **more):
        """One of this folder's, which prints what it measured."""
        return Contender([self.programs / name, *words], measures_itself=True, **more)

    def command(self, *words):
        return Contender([TSK_QCOW2, *words], is_built=True)

    def shell(self, script, **more):
        """A script that may use $BUILD."""
        return Contender(["sh", "-c", script], **more)

    def qemu_options(self, variant):
        """The arguments with which QEMU's programs open an image."""
        path = self.path(variant)
        options = ["--image-opts", f"driver=qcow2,file.filename={path}"]
        if variant == "luks":
            secret = ["--object", f"secret,id=key,file={self.key_file}"]
            return [*secret, options[0], f"{options[1]},encrypt.key-secret=key"]
        if variant == "snapshot":
            return ["-l", "before", "-f", "qcow2", path]
        return options

    def nbdcopy(self, variant, target="null:", **more):
        server = [*self.qemu.command("qemu-nbd"), "-r", *self.qemu_options(variant)]
        return Contender(["nbdcopy", "--", "[", *server, "]", target], **more)

    def convert(self, variant, **more):
        null = f"driver=null-co,read-zeroes=on,size={self.images.disk_bytes}"
        words = [*self.qemu.command("qemu-img"), "convert", "-n", "-W", "-m", 16]
        options = self.qemu_options(variant)
        return Contender([*words, *options, "--target-image-opts", null], **more)

    def floor(self, variant, threads, **more):
        return self.program("floor", self.path(variant), threads, **more)

    # ---- Scenarios -------------------------------------------------------------

    def fls(self, variant, name, one, bar):
        disk = "ntfs" if variant.startswith("ntfs-") else "disk"
        contenders = {
            "ours": self.tool("fls", WALK, variant, one_processor=one),
            "raw": self.raw("fls", WALK, disk=disk, one_processor=one),
        }
        bars = {"raw": bar} if bar else {}
        if variant.startswith("chain-"):
            contenders["depth 1"] = self.tool("fls", WALK, "plain")
            bars = {"depth 1": 1.3} if variant == "chain-32" else {}
        images = [disk, variant, *(["plain"] if "depth 1" in contenders else [])]
        return self.scenario(f"fls {name}", images, contenders, bars=bars, same_output=True)

    def img_cat(self, variant, name, one, bars):
        contenders = {
            "ours": self.tool("img_cat", (), variant, one_processor=one),
            "raw": self.raw("img_cat", (), one_processor=one),
        }
        if not is_slow_over_nbd(variant):
            contenders["nbdcopy"] = self.nbdcopy(variant, one_processor=one)
        if variant != "snapshot":  # convert calls the other size of a snapshot's disk an error
            contenders["convert"] = self.convert(variant, one_processor=one)
        if variant in COMPRESSED:
            threads = 1 if one else processors()
            contenders["floor"] = self.floor(variant, threads, one_processor=one)
        groups = {"QEMU": [each for each in ("nbdcopy", "convert") if each in contenders]}
        return self.scenario(
            f"img_cat {name}",
            ["disk", variant],
            contenders,
            bars=bars,
            groups=groups,
            same_output=True,
        )

    def decode(self, variant, bar):
        """Without what img_cat itself takes: writing 8 KiB at a time, and copying to do so."""
        return self.scenario(
            f"decode {variant}",
            [variant],
            {
                "ours": self.command("verify", "--no-hash", self.image_name(variant)),
                "floor": self.floor(variant, processors()),
            },
            bars={"floor": bar},
        )

    def tsk_recover(self, variant):
        where = str(self.scratch / "recovered")
        options = ("-a", "-o", START_SECTOR)
        return self.scenario(
            f"tsk_recover {variant}",
            ["disk", variant],
            {
                "ours": self.tool("tsk_recover", options, variant, where, output=where),
                "raw": self.raw("tsk_recover", options, where, output=where),
            },
        )

    def mount(self, kind, variant):
        """One sequential read through the kernel, whose cache is empty each time, or is passed.
        `zeros` is what the kernel and libfuse take for it if the program has nothing to do."""
        directory = self.scratch / f"{kind}-{variant}"
        directory.mkdir(exist_ok=True)
        command = [f"$BUILD/{TSK_QCOW2}", "mount", "--foreground"]
        zeros = [self.programs / "mounted_zeros", self.images.disk_bytes]

        def dd(file, *words, **more):
            size = "bs=16M" if "iflag=direct" in words else "bs=1M"
            return Contender(
                ["dd", f"if={file}", size, "of=/dev/null", "status=none", *words], **more
            )

        def through(file, *server):
            words = ["iflag=direct"] if kind == "mount-direct" else []
            return dd(directory / file, *words, server=([*server, directory], directory / file))

        return self.scenario(
            f"{kind} {variant}",
            ["disk", variant],
            {
                "ours": through("active.raw", *command, self.image_name(variant)),
                "img_cat": self.tool("img_cat", (), variant),
                "zeros": through("zeros", *zeros),
                "raw": dd(self.path("disk")),
            },
            bars={"img_cat": 1.2, **({"zeros": 1.2} if variant == "plain" else {})},
        )

    def random(self, variant, ours, theirs, seconds):
        """4 KiB at random offsets in 32 MiB."""
        socket = self.scratch / "nbd"
        server = [*self.qemu.command("qemu-nbd"), "-r", "-t", "-k", socket]
        server += self.qemu_options(variant)
        address = f"nbd+unix:///?socket={socket}"
        return self.scenario(
            f"random {variant}",
            [variant],
            {
                "ours": self.program("reads", self.path(variant), "random", 32, ours),
                "qemu-nbd": self.program(
                    "reads", address, "random", 32, theirs, server=(server, socket)
                ),
            },
            seconds_max=seconds,
            rounds_max=2 if variant == "zlib-2m" else 5,
        )

    def open(self, variant):
        limits = {"seconds_max": 0.010, "mib_max": 16} if variant == "empty" else {}
        contenders = {"ours": self.program("reads", self.path(variant), "open")}
        return self.scenario(f"open {variant}", [variant], contenders, **limits)

    def hash(self):
        """The library that verify uses, against another."""
        disk = self.path("disk")
        return self.scenario(
            "hash disk",
            ["disk"],
            {
                "ours": self.program("hash", disk, "gcrypt"),
                "openssl": self.program("hash", disk, "openssl"),
            },
            mib_max=0,  # it maps the file
        )

    def verify(self, variant):
        """Against hashing alone, QEMU, openssl with the raw disk, and what all processors together
        need at least (`spread`). They can share what is decoded and hashed, but the disk ends with
        a hole, where there is nothing but one hash to compute."""
        disk = self.path("disk")
        hashed = self.program("hash", disk, "gcrypt")
        decoded = (
            f"{self.programs}/floor {self.path(variant)} 1" if variant in COMPRESSED else "echo 0"
        )
        spread = f"""a=$({self.programs}/hash {disk} gcrypt)
            d=$({self.programs}/hash {disk} gcrypt-data)
            echo $a $d $({decoded}) | awk '{{ s = ($2 + $3) / {processors()} + $1 - $2
                print (s > $1 ? s : $1) }}'"""
        contenders = {
            "ours": self.command("verify", self.image_name(variant)),
            "hash": hashed,
            "spread": self.shell(spread, measures_itself=True),
            "openssl": Contender(["openssl", "dgst", "-sha256", disk]),
        }
        if not is_slow_over_nbd(variant):
            nbdcopy = shlex.join(map(str, self.nbdcopy(variant, "-").command))
            contenders["QEMU"] = self.shell(f"{nbdcopy} | openssl dgst -sha256")
        return self.scenario(
            f"verify {variant}",
            ["disk", variant],
            contenders,
            bars={"hash": 1.1} if variant == "plain" else {"spread": 1.15},
        )

    def verify_states(self, variant):
        """Against its states one by one: the active disk cannot be named alone, so the last
        snapshot is read twice."""
        numbers = [*range(1, SNAPSHOTS + 1), SNAPSHOTS]
        one_by_one = f"for i in {' '.join(map(str, numbers))}; do" + (
            f" $BUILD/{TSK_QCOW2} verify {self.path(variant)}@name=s$i || exit; done"
        )
        return self.scenario(
            f"verify {variant}",
            [variant],
            {"ours": self.command("verify", self.path(variant)), "sum": self.shell(one_by_one)},
            bars={"sum": 0.6},
            rounds_max=2,
        )

    def diff(self, variant):
        """Of a hundredth of the files. fls lists one state, without asking for contents."""
        path = self.path(variant)
        contenders = {
            "ours": self.command("diff", f"{path}@before", path),
            "raw": self.raw("fls", WALK),
        }
        return self.scenario(
            f"diff {variant}", ["disk", variant], contenders, bars={"raw": 3.0}, mib_max=256
        )

    def ranges(self, variant):
        """Of a hundredth of the blocks, against reading these in both states."""
        path = self.path(variant)
        blocks = tempfile.TemporaryFile("w+", dir=self.scratch)
        blocks.write("\n".join(map(str, self.images.changed_blocks(1))))
        blocks.flush()
        contenders = {
            "ours": self.command("diff", "--ranges", f"{path}@name=s1", f"{path}@name=s2"),
            "reading": Contender([self.programs / "reads", path, "blocks"], stdin=blocks),
        }
        return self.scenario(
            f"ranges {variant}", [variant], contenders, bars={"reading": 2.0}, mib_max=256
        )

    def timeline(self, variant):
        """Of two states."""
        contenders = {
            "ours": self.command("timeline", "--csv", self.path(variant)),
            "raw": self.raw("fls", ("-m", "/", *WALK)),
        }
        return self.scenario(f"timeline {variant}", ["disk", variant], contenders, mib_max=256)


def split(variant):
    """The image, the name of the scenario, and whether it gets one processor."""
    return variant.split()[0], variant, variant.endswith(" one")


def is_slow_over_nbd(variant):
    """QEMU decodes a large cluster again for each request: it takes minutes."""
    return variant.endswith("-2m")


def processors():
    return len(os.sched_getaffinity(0))
