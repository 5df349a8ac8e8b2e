# SPDX-License-Identifier: MIT
"""Random histories of qcow2 images, made by qemu-img and qemu-io from a seed.

History(seed, folder).run(check) makes a chain of images with options drawn from the whole space,
then takes random steps on it: writes, snapshots, resizes, overlays, rebases, ... It calls
check(history, rng) now and then, and at the end. What QEMU refuses is counted as refused and
changes nothing: the oracle is QEMU's own view of what came out. Every command is kept in
history.log, to be run again by hand in an empty folder.
"""
import os
import random
import shlex
import struct
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from lib.encrypted import clock_environment

KIB, MIB = 1 << 10, 1 << 20
SECTOR = 512
DEPTH_MAX = 4
HUGE = 256 * MIB  # images above are never read or written as a whole
SECRET = ("--object", "secret,id=key,file=key")
DIRTY, CORRUPT = 1, 2  # incompatible features
PASSPHRASE = b"correct horse"
# Odd lengths: a sector in the wrong place is seen.
PATTERNS = {
    "noise": 3001,
    "words": 5003,
    "short": 97,
}

CIPHERS = [  # cipher-alg, cipher-mode, ivgen-alg, ivgen-hash-alg
    ("aes-256", "xts", "plain64", ""),
    ("aes-128", "xts", "plain64", ""),
    ("aes-256", "cbc", "essiv", "sha256"),
    ("aes-192", "cbc", "plain", ""),
    ("serpent-256", "xts", "plain64", ""),
    ("twofish-128", "cbc", "plain64", ""),
    ("cast5-128", "cbc", "plain64", ""),
    ("aes-256", "ecb", "", ""),
]


@dataclass
class Raw:
    """A raw file at the bottom of a chain."""

    name: str
    format = "raw"
    encrypted = False


@dataclass
class Qcow2:
    """An image of the chain. What changes with its content is read from its header."""

    path: Path
    options: dict
    snapshots: dict = field(default_factory=dict)  # ID: name, in the table's order

    format = "qcow2"

    @property
    def name(self):
        return self.path.name

    @property
    def encrypted(self):
        return "encrypt.format" in self.options

    @property
    def data_file(self):
        return self.options.get("data_file")

    @property
    def cluster_size(self):
        return 1 << self.header(">I", 20)

    @property
    def size(self):
        return self.header(">Q", 24)

    @property
    def version(self):
        return self.header(">I", 4)

    @property
    def incompatible_features(self):
        return self.header(">Q", 72) if self.version >= 3 else 0

    def header(self, what, offset):
        with open(self.path, "rb") as file:
            file.seek(offset)
            return struct.unpack(what, file.read(struct.calcsize(what)))[0]

    def set_size(self, size):
        """Patch the virtual size, which QEMU would only set to whole sectors."""
        patch(self.path, ">Q", 24, size)


def patch(path, what, offset, value):
    """Overwrite a field of a file."""
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(struct.pack(what, value))


def chance(rng, probability):
    return rng.random() < probability


def weighted(rng, table):
    """A key of {key: weight}."""
    return rng.choices(list(table), list(table.values()))[0]


# ---- Options ---------------------------------------------------------------------


def draw_options(rng, encryption):
    """Options of qemu-img create, as a dictionary. Some combinations are refused."""
    options = {"compat": "1.1", "cluster_size": 1 << weighted(rng, CLUSTER_BITS)}
    if chance(rng, 0.2):
        options["compat"] = "0.10"
    else:
        draw_version3_options(rng, options)
    if encryption and chance(rng, 0.15):
        draw_encryption(rng, options)
    if chance(rng, 0.12):
        options["preallocation"] = rng.choice(["metadata", "falloc", "full"])
    return options


CLUSTER_BITS = {
    9: 4,
    10: 1,
    11: 1,
    12: 3,
    13: 1,
    14: 2,
    15: 2,
    16: 5,
    17: 1,
    18: 1,
    19: 1,
    20: 1,
    21: 2,
}


def draw_version3_options(rng, options):
    if chance(rng, 0.4):
        options["compression_type"] = "zstd"
    if chance(rng, 0.3):
        options["extended_l2"] = "on"
        options["cluster_size"] = max(options["cluster_size"], 16 * KIB)
    if chance(rng, 0.2):
        options["data_file"] = "?"  # named after its image
        options["data_file_raw"] = rng.choice(["on", "off", "off"])
    if chance(rng, 0.2):
        options["lazy_refcounts"] = "on"
    options["refcount_bits"] = rng.choice([1, 2, 4, 8, 16, 16, 16, 16, 32, 64])


def draw_encryption(rng, options):
    options["encrypt.key-secret"] = "key"
    if chance(rng, 0.25):
        options["encrypt.format"] = "aes"
        return
    options["encrypt.format"] = "luks"
    options["encrypt.iter-time"] = 100
    names = (
        "encrypt.cipher-alg",
        "encrypt.cipher-mode",
        "encrypt.ivgen-alg",
        "encrypt.ivgen-hash-alg",
    )
    options |= {name: value for name, value in zip(names, rng.choice(CIPHERS)) if value}


def is_preallocated(options):
    """A raw data file is, always."""
    return "preallocation" in options or options.get("data_file_raw") == "on"


def draw_size(rng, options):
    """A virtual size: a multiple of 512, since qemu-img rounds others up."""
    cluster = options["cluster_size"]
    kind = weighted(rng, {"tiny": 2, "clusters": 4, "odd": 8, "large": 1, "huge": 2, "empty": 0.5})
    if kind == "huge" and cluster >= 64 * KIB and not is_preallocated(options):
        return rng.randrange(HUGE, 1 << 40, SECTOR)
    if kind == "tiny":
        return rng.randint(1, 40) * SECTOR
    if kind == "clusters":  # just at, below or above whole clusters
        return max(
            0,
            rng.randint(1, min(300, 4 * MIB // cluster)) * cluster
            + rng.choice([-1, 0, 0, 1]) * SECTOR,
        )
    if kind == "empty":
        return 0
    return rng.randrange(SECTOR, 48 * MIB if kind == "large" else 3 * MIB, SECTOR)


# ---- The history -----------------------------------------------------------------


class History:
    """A chain of images, `layers`, the lowest first, in `folder`; the topmost is a qcow2 image."""

    def __init__(self, seed, folder, encryption=False, steps=None):
        self.seed, self.folder, self.encryption = seed, Path(folder), encryption
        self.rng = random.Random(f"history {seed}")
        self.steps = self.rng.randint(3, 9)
        if steps is not None:
            self.steps = min(steps, self.steps)
        self.steps_done = 0
        self.layers, self.log, self.recent = [], [], []
        self.counts, self.refused = Counter(), Counter()
        self.files = 0

    @property
    def top(self):
        return self.layers[-1]

    def run(self, check):
        self.prepare()
        for _ in range(self.steps):
            if chance(self.rng, 0.3):
                self.check(check)
            step = weighted(self.rng, STEPS)
            step(self)
            self.steps_done += 1
        last = weighted(self.rng, {self.step_odd_size: 2, self.step_crash: 2, None: 8})
        if last:
            last()
        self.check(check)

    def check(self, check):
        """The check draws from a generator of its own, so that it does not change the history."""
        check(self, random.Random(f"check {self.seed} {self.steps_done}"))

    def prepare(self):
        """The pattern files, and a chain of one to three files."""
        rng = self.rng
        for name, length in PATTERNS.items():
            data = (
                rng.randbytes(length)
                if name != "words"
                else b" ".join(b"%d" % i for i in range(2000))[:length]
            )
            (self.folder / name).write_bytes(data)
        (self.folder / "key").write_bytes(PASSPHRASE)
        if chance(rng, 0.2):
            self.layers.append(self.make_raw())
        self.push_image()
        if chance(rng, 0.2):
            self.push_image()

    # -- Running commands --

    def execute(self, kind, *words):
        """Run a command. Returns True if it did what it was told; counts it under `kind`. QEMU 7.2
        aborts at times."""
        words = [str(word) for word in words]
        done = subprocess.run(
            words,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            check=False,
            env=clock_environment(),
        )
        succeeded = done.returncode == 0
        reason = "; ".join(done.stdout.decode(errors="replace").splitlines())
        self.log.append(shlex.join(words) + ("" if succeeded else f"  # {reason[:300]}"))
        (self.counts if succeeded else self.refused)[kind] += 1
        return succeeded

    def img(self, kind, *words):
        return self.execute(kind, "qemu-img", *words)

    def address(self, index=-1, name=None):
        """The words that name a layer to QEMU, with the keys of it and of what lies below it.
        `name` stands in for the layer's own file, such as a copy of it."""
        index %= len(self.layers)
        name = name or self.layers[index].name
        if not any(layer.encrypted for layer in self.layers[: index + 1]):
            return [name]
        return [*SECRET, "--image-opts", ",".join(self.node_options(index, name, ""))]

    def node_options(self, index, name, prefix):
        layer = self.layers[index]
        yield f"{prefix}driver={layer.format},{prefix}file.driver=file,{prefix}file.filename={name}"
        if layer.encrypted:
            yield f"{prefix}encrypt.key-secret=key"
        if index > 0:
            yield from self.node_options(
                index - 1, self.layers[index - 1].name, f"{prefix}backing."
            )

    def encrypted_chain(self):
        return any(layer.encrypted for layer in self.layers)

    # -- Making files --

    def new_name(self, suffix):
        self.files += 1
        return f"{self.files}.{suffix}"

    def make_raw(self):
        """A sparse raw file of any length, also one that is no multiple of a sector."""
        rng = self.rng
        raw = Raw(self.new_name("raw"))
        size = rng.choice(
            [rng.randrange(1, 100_000), rng.randrange(1, 2 * MIB), 64 * KIB * rng.randint(1, 20)]
        )
        commands = [f"truncate -s {size} {raw.name}"]
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(size)
            length = min(rng.randrange(1, 80_000), size - at)
            commands.append(
                f"yes raw-{at} | head -c {length} | "
                f"dd of={raw.name} bs=64k oflag=seek_bytes seek={at} conv=notrunc status=none"
            )
        self.execute("raw file", "sh", "-c", "; ".join(commands))
        self.counts["raw base"] += 1
        return raw

    def create(self, options, size, backing=None):
        """qemu-img create. Returns the image, or None if QEMU refuses these options."""
        image = Qcow2(self.folder / self.new_name("qcow2"), options)
        if image.data_file:
            options["data_file"] = image.name.replace("qcow2", "data")
        words = [*SECRET] if image.encrypted else []
        words += ["-f", "qcow2", "-o", ",".join(f"{key}={value}" for key, value in options.items())]
        if backing is not None:
            words += ["-b", backing.name, "-F", backing.format]
            words += ["-u"] if self.encrypted_chain() else []
        words += [image.name] + ([] if size is None else [size])
        return image if self.img("create", "create", *words) else None

    def push_image(self):
        """A new image, on top of the chain if there is one."""
        backing = self.layers[-1] if self.layers else None
        image = None
        while image is None:
            options = draw_options(self.rng, self.encryption)
            image = self.create(options, self.draw_overlay_size(options, backing), backing)
        self.layers.append(image)
        self.count_options(image)
        self.write_some(-1)

    def draw_overlay_size(self, options, backing):
        if (
            backing is None
            or (backing.format == "raw" and chance(self.rng, 0.5))
            or "preallocation" in options
        ):
            return draw_size(self.rng, options)
        size = self.size_of(backing)
        if size >= HUGE and options["cluster_size"] < 64 * KIB:  # millions of L2 tables
            return draw_size(self.rng, options)
        return self.rng.choice(
            [
                size // SECTOR * SECTOR,
                self.sector(0, size),
                self.sector(size, size * 2 + 9 * SECTOR),
            ]
        )

    def size_of(self, layer):
        return (self.folder / layer.name).stat().st_size if layer.format == "raw" else layer.size

    def sector(self, low, high):
        """A multiple of 512 from `low`, up to about `high`."""
        return self.rng.randint(low // SECTOR, high // SECTOR) * SECTOR

    def count_options(self, image):
        options, counts = image.options, self.counts
        counts["v2" if options["compat"] == "0.10" else "v3"] += 1
        counts[f"cluster size {options['cluster_size']}"] += 1
        counts[f"refcount bits {options.get('refcount_bits', 16)}"] += 1
        for name in (
            "extended_l2",
            "data_file",
            "lazy_refcounts",
            "preallocation",
            "encrypt.format",
        ):
            if name in options:
                counts["encrypted " + options[name] if name == "encrypt.format" else name] += 1
        counts["data_file_raw"] += options.get("data_file_raw") == "on"
        counts["huge"] += image.size >= HUGE
        counts["size 0"] += image.size == 0
        counts[f"chain of {len(self.layers)}"] += 1
        if len(self.layers) > 1:
            below = self.size_of(self.layers[-2])
            counts["backing file shorter"] += below < image.size
            counts["backing file longer"] += below > image.size

    # -- qemu-io --

    def write_some(self, index):
        """A batch of qemu-io commands on a layer. A refused one, such as a compressed write over an
        allocated cluster, does not stop those after it."""
        image = self.layers[index]
        table = self.rng.choice([COMMANDS, COMMANDS_COMPRESSED])
        commands = [
            command
            for _ in range(self.rng.randint(1, 10))
            if (command := self.draw_command(image, table))
        ]
        if not commands:
            return
        words = ["-d", "unmap"] if chance(self.rng, 0.5) else []
        succeeded = self.execute(
            "qemu-io",
            "qemu-io",
            *words,
            *[word for _, command in commands for word in ("-c", command)],
            *self.address(index),
        )
        self.counts.update(kind for kind, _ in commands if succeeded or kind != "compressed write")

    def draw_command(self, image, table):
        """(kind, qemu-io command), or None if there is nothing to write to."""
        kind = weighted(self.rng, table)
        if kind == "compressed write" and image.data_file:
            kind = "write"
        at, length = self.draw_range(image, aligned=kind == "compressed write")
        if length == 0:
            return None
        source = self.draw_source()
        if kind == "vm state":
            return (
                kind,
                (
                    "write -q -b"
                    f" {source} {at % MIB // SECTOR * SECTOR}"
                    f" {max(SECTOR, length // SECTOR * SECTOR)}"
                ),
            )
        return kind, f"{COMMANDS_TEXT[kind].format(source=source)} {at} {length}"

    def draw_source(self):
        return (
            f"-P {self.rng.randrange(1, 256)}"
            if chance(self.rng, 0.3)
            else f"-s {self.rng.choice([*PATTERNS])}"
        )

    def draw_range(self, image, aligned):
        """(guest offset, length) inside the image; whole clusters if `aligned`, any bytes
        otherwise."""
        rng, size, cluster = self.rng, image.size, image.cluster_size
        if size == 0:
            return 0, 0
        at = self.draw_offset(size, cluster)
        if aligned:
            clusters = rng.randint(1, 4) if cluster <= 128 * KIB else 1
            at = at // cluster * cluster
            return at, min(clusters * cluster, size - at)
        unit = rng.choice([1, SECTOR, 4 * KIB, max(1, cluster // 32), cluster])
        at = at // unit * unit
        length = unit * rng.randint(1, rng.choice([2, 40]) if unit > 1 else 9000)
        length = min(length, size - at, max(512 * KIB, 2 * cluster))
        self.recent = [*self.recent[-5:], at, at + length]
        return at, length

    def draw_offset(self, size, cluster):
        """Anywhere; more often at the start, at the end, near what was written before, in the first
        clusters."""
        rng = self.rng
        where = weighted(rng, {"start": 2, "end": 2, "recent": 4, "near": 4, "anywhere": 6})
        if where == "start":
            return 0
        if where == "end":
            return max(0, size - rng.randint(1, 2 * cluster))
        if where == "recent" and self.recent:
            return min(
                max(0, rng.choice(self.recent) + rng.randint(-1, 1) * rng.randint(0, cluster)),
                size - 1,
            )
        return rng.randrange(min(size, 8 * cluster) if where == "near" else size)

    # -- Steps --

    def step_write(self):
        self.write_some(-1)

    def step_write_below(self):
        """Change a backing file under its overlay: what the overlay leaves to it changes too."""
        index = self.rng.randrange(len(self.layers))
        if self.layers[index].format == "qcow2":
            self.write_some(index)

    def step_snapshot(self):
        image = self.top
        if image.data_file or len(image.snapshots) > 4:
            return
        identifier = max(image.snapshots, default=0) + 1
        name = self.rng.choice([f"snapshot {identifier}", "again", f"{identifier + 1}"])
        if self.img("snapshot", "snapshot", "-c", name, *self.address()):
            image.snapshots[identifier] = name
        self.write_some(-1)

    def step_apply(self):
        if self.top.snapshots:
            self.img(
                "snapshot applied",
                "snapshot",
                "-a",
                self.rng.choice([*self.top.snapshots]),
                *self.address(),
            )

    def step_delete(self):
        """By name, unlike the others: of several snapshots of that name, the first."""
        snapshots = self.top.snapshots
        if snapshots:
            name = self.rng.choice([*snapshots.values()])
            if self.img("snapshot deleted", "snapshot", "-d", name, *self.address()):
                del snapshots[
                    next(identifier for identifier in snapshots if snapshots[identifier] == name)
                ]

    def step_resize(self):
        size, cluster = self.top.size, self.top.cluster_size
        if chance(self.rng, 0.4):
            self.img(
                "shrink",
                "resize",
                "--shrink",
                *self.address(),
                self.sector(max(0, size - 9 * cluster), size),
            )
        elif chance(self.rng, 0.8) or size > 4 * MIB:
            self.img(
                "grow",
                "resize",
                *self.address(),
                self.sector(size, size + 40 * min(cluster, 128 * KIB)),
            )
        else:
            how = self.rng.choice(["metadata", "falloc", "full"])
            self.img(
                f"grow, {how}",
                "resize",
                f"--preallocation={how}",
                *self.address(),
                self.sector(size, size + MIB),
            )
        self.write_some(-1)

    def step_overlay(self):
        if len(self.layers) < DEPTH_MAX:
            self.push_image()

    def step_commit(self):
        """Write the overlay's data to its backing file."""
        if len(self.layers) > 1 and not self.encrypted_chain():
            self.img("commit", "commit", *self.rng.choice([[], ["-d"]]), self.top.name)

    def step_rebase(self):
        """To a lower layer, another raw file or none. QEMU reads both to the end, so not for huge
        images."""
        if self.encrypted_chain() or self.top.size >= HUGE or len(self.layers) >= DEPTH_MAX:
            return
        below = self.rng.choice(
            [[], [self.make_raw()], self.layers[: self.rng.randrange(len(self.layers))]]
        )
        self.rebase_onto("rebase", [], below)

    def step_rebase_unsafe(self):
        """To a flat copy of the backing file, in another format, or to anything else: nobody checks
        the content."""
        if self.encrypted_chain() or self.top.size >= HUGE:
            return
        if len(self.layers) == 1 or chance(self.rng, 0.2):
            self.rebase_onto("rebase -u", ["-u"], [self.make_raw()])
            return
        flat = self.flatten(self.layers[-2])
        if flat is not None:
            self.rebase_onto("rebase -u", ["-u"], [flat])

    def rebase_onto(self, kind, words, below):
        base = ["-b", below[-1].name, "-F", below[-1].format] if below else ["-b", ""]
        if self.img(kind, "rebase", *words, *base, self.top.name):
            self.layers = [*below, self.top]

    def flatten(self, layer):
        """A copy of a layer's content without a backing file: raw, or qcow2, compressed or not.
        None if refused."""
        if layer.format == "qcow2" and layer.size >= HUGE:
            return None
        if chance(self.rng, 0.3):
            raw = Raw(self.new_name("raw"))
            return (
                raw if self.img("convert", "convert", "-O", "raw", layer.name, raw.name) else None
            )
        options = {"compat": "1.1", "cluster_size": 1 << weighted(self.rng, CLUSTER_BITS)}
        options["compression_type"] = self.rng.choice(["zlib", "zstd"])
        flat = Qcow2(self.folder / self.new_name("qcow2"), options)
        words = ["-c"] if chance(self.rng, 0.5) else []
        words += ["-O", "qcow2", "-o", ",".join(f"{key}={value}" for key, value in options.items())]
        return flat if self.img("convert", "convert", *words, layer.name, flat.name) else None

    def step_amend(self):
        if (
            self.top.encrypted or self.top.size >= HUGE
        ):  # version 2 has no zero clusters: they would be written
            return
        change = self.rng.choice(
            [
                "compat=0.10",
                "compat=1.1",
                "lazy_refcounts=on",
                "lazy_refcounts=off",
                f"refcount_bits={self.rng.choice([8, 16, 32, 64])}",
            ]
        )
        if (
            change.startswith("refcount_bits") and self.top.cluster_size > 64 * KIB
        ):  # QEMU takes minutes
            return
        self.img(
            f"amend {change.partition('=')[0]}",
            "amend",
            "-f",
            "qcow2",
            "-o",
            change,
            *self.address(),
        )

    def step_bitmap(self):
        granularity = 1 << self.rng.randint(9, 17)
        self.img(
            "bitmap", "bitmap", "--add", "-g", granularity, *self.address(), f"bitmap {self.files}"
        )
        self.write_some(-1)

    def step_crash(self):
        """Kill QEMU in the middle of its work: with lazy refcounts the dirty bit stays behind. The
        last step, since QEMU would repair the image."""
        _, command = self.draw_command(self.top, {"write": 1}) or (None, "flush")
        self.execute("crash", "qemu-io", "-c", command, "-c", "abort", *self.address())
        self.counts["dirty"] += self.top.incompatible_features & DIRTY

    def step_odd_size(self):
        """A size that is no multiple of 512. QEMU ignores the odd bytes; the file's own size
        counts. The last step, since QEMU would write the size back as it sees it."""
        if self.top.size > 0:
            size = self.top.size - self.rng.randint(1, SECTOR - 1)
            self.top.set_size(size)
            self.counts["odd size"] += 1
            self.log.append(
                f"printf '%016x' {size} | xxd -r -p | dd of={self.top.name} bs=1 seek=24"
                " conv=notrunc"
            )


COMMANDS = {
    "write": 8,
    "compressed write": 4,
    "zero write": 3,
    "zero write, unmap": 2,
    "discard": 3,
    "vm state": 0.3,
}
COMMANDS_COMPRESSED = {
    "compressed write": 10,
    "zero write": 1,
    "zero write, unmap": 1,
    "discard": 1,
    "write": 1,
}
COMMANDS_TEXT = {
    "write": "write -q {source}",
    "compressed write": "write -q -c {source}",
    "zero write": "write -q -z",
    "zero write, unmap": "write -q -z -u",
    "discard": "discard -q",
}
STEPS = {
    History.step_write: 8,
    History.step_write_below: 1,
    History.step_snapshot: 5,
    History.step_apply: 1.5,
    History.step_delete: 1,
    History.step_resize: 2.5,
    History.step_overlay: 2.5,
    History.step_commit: 1,
    History.step_rebase: 1,
    History.step_rebase_unsafe: 1,
    History.step_amend: 1.5,
    History.step_bitmap: 0.7,
}


def save_log(history, path):
    """The commands, as a shell script, with the files they need."""
    folder = history.folder
    lines = [f"printf %s {shlex.quote(PASSPHRASE.decode())} > key"]
    lines += [
        f"echo {(folder / name).read_bytes().hex()} | xxd -r -p > {name}" for name in PATTERNS
    ]
    Path(path).write_text(
        "\n".join(["#!/bin/sh", f"# seed {history.seed}", *lines, *history.log]) + "\n"
    )
    os.chmod(path, 0o755)
