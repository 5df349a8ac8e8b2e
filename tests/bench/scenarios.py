# SPDX-License-Identifier: MIT
"""What is measured, against what, and what it should come to."""
from dataclasses import dataclass, field
from pathlib import Path

from images import PASSPHRASE, START_SECTOR

WALK = ("-r", "-p", "-o", START_SECTOR)
VARIANTS = (
    "plain",
    "extended-l2",
    "snapshot",
    "zlib",
    "zstd",
    "luks",
    "chain-8",
    "chain-32",
    "plain-4k",
    "zlib-4k",
    "zlib-2m",
)
FLOORS = ("zlib", "zstd", "zlib-4k", "zlib-2m")
CONVERTED = ("plain", "zlib", "zstd", "luks", "chain-32")
MOUNTED = ("plain", "zlib", "zstd")
FLS_BARS = {"plain": 1.0, "extended-l2": 1.0, "snapshot": 1.0, "zstd": 1.4, "zlib": 1.6}
IMG_CAT_BARS = {
    "plain": {"raw": 1.1},
    "zlib": {"nbdcopy": 0.45, "floor": 1.6},
    "zstd": {"nbdcopy": 0.5},
    "luks": {"nbdcopy": 0.7},
}


@dataclass
class Contender:
    command: list
    dropin: bool = False
    build: Path = None  # of the drop-in; None: the one that is measured
    measures_itself: bool = False  # it prints its seconds, and perhaps its KiB
    output: str = ""  # a directory to be made before and removed after it
    server: tuple = ()  # a command to run meanwhile, and the socket that shows it is ready


@dataclass
class Scenario:
    name: str
    contenders: dict  # by name; "ours" is the first
    # Contender -> how many times its time ours may take at most.
    bars: dict = field(default_factory=dict)
    seconds_max: float = 0  # 0: none
    mib_max: float = 128
    same_output: bool = False  # all with the drop-in, and raw, must print the same


class Bench:
    """The scenarios over images, with the programs that the build made."""

    def __init__(self, images, programs, build, scratch):
        self.images, self.programs = images, Path(programs)
        self.build, self.scratch = Path(build), Path(scratch)
        self.key_file = Path(images.directory, "passphrase")
        self.key_file.write_text(PASSPHRASE)

    def scenarios(self):
        """Functions that make a scenario, by its name."""
        for variant in VARIANTS:
            yield f"fls {variant}", self.fls
        for variant in VARIANTS:
            yield f"img_cat {variant}", self.img_cat
        for variant in ("plain", "zlib", "zstd"):
            yield f"tsk_recover {variant}", self.tsk_recover
        for variant in MOUNTED:
            yield f"mount {variant}", self.mount
            yield f"mount-direct {variant}", self.mount
        for variant in ("zlib", "zlib-2m", "plain"):
            yield f"random {variant}", self.random
        for variant in ("empty", "plain", "chain-32"):
            yield f"open {variant}", self.open
        yield "diff files", self.diff
        yield "ranges files", self.ranges
        yield "timeline files", self.timeline

    # ---- Contenders ----------------------------------------------------------

    def image_name(self, variant):
        path = self.images.path(variant)
        if variant == "luks":
            return f"{path},key-file={self.key_file}"
        return f"{path}@before" if variant == "snapshot" else path

    def tool(self, tool, options, variant, *after, **more):
        return Contender(
            [tool, "-i", "qcow2", *options, self.image_name(variant), *after], dropin=True, **more
        )

    def raw(self, tool, options, *after, **more):
        return Contender([tool, "-i", "raw", *options, self.images.path("disk"), *after], **more)

    def qemu_options(self, variant):
        """The arguments with which QEMU's programs open an image: what comes before its name, and
        its name."""
        path = self.images.path(variant)
        if variant == "luks":
            return (
                ["--object", f"secret,id=key,file={self.key_file}", "--image-opts"],
                f"driver=qcow2,encrypt.key-secret=key,file.filename={path}",
            )
        return ["--image-opts"], f"driver=qcow2,file.filename={path}"

    def nbdcopy(self, variant):
        if variant == "snapshot":
            options = ["-l", "before", "-f", "qcow2", self.images.path(variant)]
        else:
            options = [
                word
                for part in self.qemu_options(variant)
                for word in ([part] if isinstance(part, str) else part)
            ]
        return Contender(["nbdcopy", "--", "[", "qemu-nbd", "-r", *options, "]", "null:"])

    def convert(self, variant):
        options, name = self.qemu_options(variant)
        return Contender(
            [
                "qemu-img",
                "convert",
                "-n",
                *options,
                name,
                "--target-image-opts",
                f"driver=null-co,read-zeroes=on,size={self.images.disk_bytes}",
            ]
        )

    # ---- Scenarios -------------------------------------------------------------

    def fls(self, name, variant):
        contenders = {"ours": self.tool("fls", WALK, variant), "raw": self.raw("fls", WALK)}
        bars = {"raw": FLS_BARS[variant]} if variant in FLS_BARS else {}
        if variant.startswith("chain-"):
            contenders["depth 1"] = self.tool("fls", WALK, "plain")
            bars = {"depth 1": 1.3} if variant == "chain-32" else {}
        return Scenario(name, contenders, bars, same_output=True)

    def img_cat(self, name, variant):
        contenders = {
            "ours": self.tool("img_cat", (), variant),
            "raw": self.raw("img_cat", ()),
            "nbdcopy": self.nbdcopy(variant),
        }
        if variant in CONVERTED:
            contenders["convert"] = self.convert(variant)
        if variant in FLOORS:
            contenders["floor"] = Contender(
                [self.programs / "floor", self.images.path(variant), 2], measures_itself=True
            )
        return Scenario(name, contenders, IMG_CAT_BARS.get(variant, {}), same_output=True)

    def tsk_recover(self, name, variant):
        where = str(self.scratch / "recovered")
        options = ("-a", "-o", START_SECTOR)
        return Scenario(
            name,
            {
                "ours": self.tool("tsk_recover", options, variant, where, output=where),
                "raw": self.raw("tsk_recover", options, where, output=where),
            },
        )

    def mount(self, name, variant):
        """One sequential read through the kernel, whose cache is empty each time, or is passed.
        `zeros` is what the kernel and libfuse take for it if the program has nothing to do."""
        is_direct = name.startswith("mount-direct")
        directory = self.scratch / name.replace(" ", "-")
        directory.mkdir(exist_ok=True)
        command = [self.build / "tsk_qcow2/tsk-qcow2", "mount", "--foreground"]
        zeros = [self.programs / "mounted_zeros", self.images.disk_bytes]

        def dd(file, *words, **more):
            words = ["bs=1M", "of=/dev/null", "status=none", *words]
            return Contender(["dd", f"if={file}", *words], **more)

        def through(file, *server):
            words = ["iflag=direct"] if is_direct else []
            return dd(directory / file, *words, server=([*server, directory], directory / file))

        return Scenario(
            name,
            {
                "ours": through("active.raw", *command, self.image_name(variant)),
                "img_cat": self.tool("img_cat", (), variant),
                "zeros": through("zeros", *zeros),
                "raw": dd(self.images.path("disk")),
            },
            {"img_cat": 1.2, **({"zeros": 1.2} if variant == "plain" else {})},
        )

    def random(self, name, variant):
        """4 KiB at random offsets in 32 MiB, which fit into the cache."""
        image, socket = self.images.path(variant), self.scratch / "nbd"
        server = [
            "qemu-nbd",
            "-r",
            "-t",
            "-k",
            socket,
            *self.qemu_options(variant)[0],
            self.qemu_options(variant)[1],
        ]
        reads = [self.programs / "reads"]
        return Scenario(
            name,
            {
                "ours": Contender([*reads, image, "random", 32, 200000], measures_itself=True),
                "qemu-nbd": Contender(
                    [*reads, f"nbd+unix:///?socket={socket}", "random", 32, 4000],
                    measures_itself=True,
                    server=(server, socket),
                ),
            },
            {"qemu-nbd": 0.05} if variant == "zlib" else {},
        )

    def open(self, name, variant):
        ours = Contender(
            [self.programs / "reads", self.images.path(variant), "open"], measures_itself=True
        )
        limits = {"seconds_max": 0.010, "mib_max": 16} if variant == "empty" else {}
        return Scenario(name, {"ours": ours}, **limits)

    def command(self, *words):
        return Contender([self.build / "tsk_qcow2" / "tsk-qcow2", *words])

    def states(self, variant):
        path = self.images.path(variant)
        return f"{path}@before", path

    def diff(self, name, variant):
        """Of a hundredth of the files. fls lists one state, without asking for contents."""
        contenders = {
            "ours": self.command("diff", *self.states(variant)),
            "raw": self.raw("fls", WALK),
        }
        return Scenario(name, contenders, {"raw": 3.0}, mib_max=256)

    def ranges(self, name, variant):
        """Against reading both states as a whole."""
        contenders = {
            "ours": self.command("diff", "--ranges", *self.states(variant)),
            "img_cat": self.tool("img_cat", (), variant),
        }
        return Scenario(name, contenders, {"img_cat": 0.2}, mib_max=256)

    def timeline(self, name, variant):
        """Of two states."""
        contenders = {
            "ours": self.command("timeline", "--csv", self.images.path(variant)),
            "raw": self.raw("fls", ("-m", "/", *WALK)),
        }
        return Scenario(name, contenders, mib_max=256)
